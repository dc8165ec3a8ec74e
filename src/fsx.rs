//! Files that matter: written to a temporary name, synced, renamed, and the folder synced, mode 0600.
//!
//! A reader of a path that was written here sees the old bytes or the new ones, never a part, whatever crashes.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// Replaces `path` with `bytes`, durably, mode 0600.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Replaces `path` with what `write` writes, durably, mode 0600.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_next_to(path);
    let mut file = BufWriter::new(create_private(&temporary)?);
    let written = write(&mut file).and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_dir(parent(path))
}

/// A name for a temporary file in the folder of `path`, hidden, and of this process alone.
pub fn temporary_next_to(path: &Path) -> PathBuf {
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

/// A folder of our own that goes with everything in it when this is dropped. It is locked until then, so that what a
/// killed process left differs from what a running one uses.
pub struct ScratchDir {
    path: PathBuf,
    _lock: File,
}

impl ScratchDir {
    /// A new one in `parent`, mode 0700, its name beginning with `name`. Made by us: in a folder that others may write
    /// to, one that is there already is not to be trusted.
    pub fn new(parent: &Path, name: &str) -> io::Result<Self> {
        loop {
            let path = new_private_dir(parent, name)?;
            // Between the two, another process may take it for left behind, and remove it.
            let lock = match open_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            // Where the file system has no locks, none is taken for left behind.
            let is_taken = matches!(try_lock(&lock), Ok(false));
            if !is_taken && is_at(&path, &lock)? {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, for a caller that has to report when that fails. One that is no longer in its place fails, too:
    /// what was in it may be anywhere.
    pub fn remove(self) -> io::Result<()> {
        remove_tree(&self.path)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

/// Removes a folder with everything in it, folders that forbid their owner to write to them, too. What cannot go keeps
/// nothing else.
fn remove_tree(path: &Path) -> io::Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    open_up(path)?;
    for entry in fs::read_dir(path)?.filter_map(Result::ok) {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
    }
    fs::remove_dir_all(path)
}

/// Lets the owner read and change a folder, and the folders in it as far as that can be done.
fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)?.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = open_up(&entry.path());
        }
    }
    Ok(())
}

/// A [`ScratchDir`] whose process was killed before it could remove it.
pub struct LeftBehind {
    pub path: PathBuf,
    _lock: File,
}

impl LeftBehind {
    /// Those of this user in `parent` that were made with `name`. What is not surely one of them is left out.
    pub fn find(parent: &Path, name: &str) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
        let named = entries.filter_map(Result::ok).filter(|entry| is_made_with(name, &entry.file_name()));
        let mut left: Vec<Self> = named.filter_map(|entry| Self::at(entry.path())).collect();
        left.sort_by(|a, b| a.path.cmp(&b.path));
        left
    }

    fn at(path: PathBuf) -> Option<Self> {
        let lock = open_dir(&path).ok()?;
        let metadata = lock.metadata().ok()?;
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0;
        (is_ours && try_lock(&lock).ok()?).then_some(Self { path, _lock: lock })
    }

    pub fn remove(self) -> io::Result<()> {
        remove_tree(&self.path)
    }
}

/// `name-PID` or `name-PID-COUNT`.
fn is_made_with(name: &str, file_name: &OsStr) -> bool {
    let numbers = file_name.to_str().and_then(|file_name| file_name.strip_prefix(name)?.strip_prefix('-'));
    numbers.is_some_and(|numbers| {
        numbers.split('-').count() <= 2 && numbers.split('-').all(|number| number.parse::<u32>().is_ok())
    })
}

/// The folder itself, never what a link leads to.
fn open_dir(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// `false`: another process holds it.
fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the open folder still has this name.
fn is_at(path: &Path, dir: &File) -> io::Result<bool> {
    let open = dir.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn left(parent: &Path) -> Vec<PathBuf> {
        LeftBehind::find(parent, "kind").into_iter().map(|left| left.path).collect()
    }

    #[test]
    fn only_what_is_no_longer_held_and_only_of_its_own_kind_is_left_behind() {
        let parent = tempfile::tempdir().expect("a folder");
        let (parent, outside) = (parent.path(), tempfile::tempdir().expect("a folder"));
        for name in ["kind", "kind-", "kind-x", "kind-1-2-3", "kinder-1", "other-1", "kind-1-"] {
            fs::create_dir(parent.join(name)).expect("a folder");
        }
        fs::write(parent.join("kind-5"), "a file").expect("written");
        std::os::unix::fs::symlink(outside.path(), parent.join("kind-6")).expect("a link");
        fs::create_dir(parent.join("kind-8")).expect("a folder that others may read");
        fs::set_permissions(parent.join("kind-8"), PermissionsExt::from_mode(0o755)).expect("a mode");
        let running = ScratchDir::new(parent, "kind").expect("scratch");
        assert_eq!(left(parent), Vec::<PathBuf>::new());
        create_private_dir(&parent.join("kind-7")).expect("a folder");
        fs::write(parent.join("kind-7/secret"), "secret").expect("written");
        create_private_dir(&parent.join("kind-7-2")).expect("a folder");
        assert_eq!(left(parent), [parent.join("kind-7"), parent.join("kind-7-2")]);
        let found = LeftBehind::find(parent, "kind");
        assert_eq!(left(parent), Vec::<PathBuf>::new(), "one process at a time removes them");
        found.into_iter().for_each(|left| left.remove().expect("removed"));
        assert!(running.path().exists() && outside.path().exists() && !parent.join("kind-7").exists());
        let path = running.path().to_owned();
        drop(running);
        assert!(!path.exists());
    }

    #[test]
    fn what_forbids_its_owner_to_remove_it_goes_and_so_does_all_beside_what_cannot() {
        let parent = tempfile::tempdir().expect("a folder");
        let locked = |name: &str| {
            let scratch = ScratchDir::new(parent.path(), "kind").expect("scratch");
            let folder = scratch.path().join(name).join("inner");
            fs::create_dir_all(&folder).expect("folders");
            fs::write(folder.join("secret"), "secret").expect("written");
            fs::write(scratch.path().join("app.db"), "secret").expect("written");
            for folder in [folder.as_path(), super::parent(&folder)] {
                fs::set_permissions(folder, PermissionsExt::from_mode(0o500)).expect("a mode");
            }
            scratch
        };
        // Root may do what the mode forbids.
        let nobody = rustix::process::Uid::from_raw(65_534);
        let as_nobody = move |scratch: ScratchDir| {
            if rustix::process::geteuid().is_root() {
                let give = |path: &Path| std::os::unix::fs::lchown(path, Some(65_534), None);
                let mut paths = vec![scratch.path().to_owned()];
                while let Some(path) = paths.pop() {
                    give(&path).expect("given away");
                    paths
                        .extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.expect("an entry").path()));
                }
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("another user");
            }
            scratch.remove()
        };
        let (own, path) = (locked("cache"), parent.path().to_owned());
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("a mode");
        std::thread::spawn(move || as_nobody(own)).join().expect("joined").expect("removed");
        assert_eq!(fs::read_dir(&path).expect("listed").count(), 0);
        // Its own place in a folder of another user is what cannot go.
        let stuck = locked("cache");
        let left = stuck.path().to_owned();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o555)).expect("a mode");
        std::thread::spawn(move || as_nobody(stuck)).join().expect("joined").expect_err("it cannot go");
        assert_eq!(fs::read_dir(&left).map_or(0, Iterator::count), 0, "nothing is in it any more");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a mode");
    }
}
