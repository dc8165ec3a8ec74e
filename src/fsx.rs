//! Files that matter: written to a temporary name, synced, renamed, and the folder synced, mode 0600.
//!
//! A reader of a path that was written here sees the old bytes or the new ones, never a part, whatever crashes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces `path` with `bytes`, durably, mode 0600.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Replaces `path` with what `write` writes, durably, mode 0600.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let mut file = BufWriter::new(create_private(&temporary)?);
    let written = write(&mut file).and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_dir(parent(path))
}

/// A name for a temporary file in the folder of `path`, hidden, and of this process alone.
pub fn temporary_beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    parent(path).join(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

/// A new file with mode 0600; what lies there under this name is an error.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A folder with mode 0700, with its missing parents.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A folder in `parent` that was not there before, mode 0700: `name-PID`, or with a number behind it.
pub fn new_private_dir(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let pid = std::process::id();
    let mut path = parent.join(format!("{name}-{pid}"));
    for count in 2..=1000 {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = parent.join(format!("{name}-{pid}-{count}"));
            }
            made => return made.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A folder of our own that goes with everything in it when this is dropped.
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// A new one in `parent`, mode 0700, its name beginning with `name`. Made by us: in a folder that others may write
    /// to, one that is there already is not to be trusted.
    pub fn new(parent: &Path, name: &str) -> io::Result<Self> {
        new_private_dir(parent, name).map(Self)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the names in a folder durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// An absolute path without `..`: its folder is resolved, its last part is left as it is named, so that a link that is
/// moved later leads on to the new file.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (parent(&path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => Ok(folder.join(name)),
        _ => Ok(path),
    }
}

/// The folder of a path; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
