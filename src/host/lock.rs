//! One writing command a state directory at a time: a kernel lock, so that no crash leaves it behind.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StateError;
use crate::fsx;

/// Held until dropped.
pub struct WriterLock(#[expect(dead_code, reason = "held for its lock")] File);

impl WriterLock {
    /// Takes the lock in `dir`, or says who holds it.
    pub fn take(dir: &Path) -> Result<Self, StateError> {
        LockFile::open(dir)?.take().map_err(|(_, error)| error)
    }
}

/// The file of the lock, which a process that waits for the lock keeps open.
pub struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join("lock");
        let file = open(&path).map_err(StateError::io(&path))?;
        Ok(Self { path, file })
    }

    /// Takes the lock, or says who holds it and gives the file back.
    pub fn take(mut self) -> Result<WriterLock, (Self, StateError)> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = holder(&mut self.file);
                return Err((self, StateError::Locked { pid }));
            }
            Err(error) => {
                let error = StateError::Io { path: self.path.clone(), error: error.into() };
                return Err((self, error));
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        match write(&mut self.file) {
            Ok(()) => Ok(WriterLock(self.file)),
            Err(error) => {
                let error = StateError::Io { path: self.path.clone(), error };
                Err((self, error))
            }
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    match fsx::create_private(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            File::options().read(true).write(true).open(path)
        }
        other => other,
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
