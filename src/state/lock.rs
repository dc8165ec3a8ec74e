//! One writing command a state directory at a time: a kernel lock, so that no crash leaves it behind.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::StateError;
use crate::fsx;

/// Held until dropped.
pub struct WriterLock(#[expect(dead_code, reason = "held for its lock")] File);

impl WriterLock {
    /// Takes the lock in `dir`, or says who holds it.
    pub fn take(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join("lock");
        let mut file = open(&path).map_err(StateError::io(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateError::Locked { pid: holder(&mut file) }),
            Err(error) => return Err(StateError::Io { path, error: error.into() }),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(StateError::io(&path))?;
        Ok(Self(file))
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
