//! A directory as a store.
//!
//! An object is written to `<root>/.tmp/`, synced, and then gets its name in one step: a hard link, which fails where
//! the name is taken, to create; a rename to replace. The folder is synced before the call returns. So a name
//! appears with all its bytes or not at all, whatever crashes. Files have mode 0600, folders 0700.
//!
//! A symbolic link below the root is an error, never followed. What a crash leaves in `.tmp` is swept a day later.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Creation, Key, Listing, ObjectInfo, Store, StoreError, Stored};
use crate::fsx;

/// No key begins with a dot, so no object can be in here.
const TEMPORARIES: &str = ".tmp";

/// A temporary file this old belongs to no running process.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Objects as files below a root, which the first `create` or `put` makes.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Removes temporary files older than a day. Errors are not reported: whatever stays does no harm.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let folder = self.root.join(TEMPORARIES);
        blocking(move || {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let age = entry.metadata().and_then(|data| data.modified()).map(|modified| modified.elapsed());
                if matches!(age, Ok(Ok(age)) if age > LEFTOVER_AGE) {
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(())
        })
        .await
    }

    fn file(&self, key: &Key) -> ObjectFile {
        ObjectFile { root: self.root.clone(), path: self.root.join(key.as_str()), key: key.clone() }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn location(&self) -> String {
        let absolute = std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone());
        absolute.display().to_string()
    }

    fn has_credentials(&self) -> bool {
        false
    }

    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        let file = self.file(key);
        blocking(move || file.create(body.bytes())).await
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        let file = self.file(key);
        blocking(move || file.put(body.bytes())).await
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        let file = self.file(key);
        blocking(move || file.get(max_bytes)).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let file = self.file(key);
        blocking(move || file.head()).await
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        let (root, prefix, start_after) = (self.root.clone(), prefix.to_owned(), start_after.cloned());
        blocking(move || {
            let mut objects = Vec::new();
            // Only the folder that the prefix ends in need be read; a prefix that is no name matches nothing there.
            let folder = prefix.rsplit_once('/').and_then(|(folder, _)| Key::new(folder).ok());
            if let Some(folder) = &folder {
                refuse_links(&root, &root.join(folder.as_str()))?;
            }
            walk(&root, folder.as_ref().map_or("", Key::as_str), &mut objects)?;
            objects.retain(|object| {
                object.key.as_str().starts_with(&prefix) && start_after.as_ref().is_none_or(|name| object.key > *name)
            });
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(Listing { objects, server_time: Some(Timestamp::now()), pages: 1 })
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let file = self.file(key);
        blocking(move || file.delete()).await
    }
}

/// The file of one object.
struct ObjectFile {
    root: PathBuf,
    path: PathBuf,
    key: Key,
}

impl ObjectFile {
    fn create(&self, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.refuse_links()?;
        let temporary = self.write_temporary(bytes)?;
        match name_once(temporary.path(), &self.path) {
            Ok(()) => self.sync_folder().map(|()| Creation::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.compare(bytes),
            Err(error) if lacks_support(&error) => Err(StoreError::NotSupported {
                object: self.path.display().to_string(),
                cause: format!("the file system can neither link nor rename without overwriting ({error})"),
            }),
            Err(error) => Err(self.error(error)),
        }
    }

    /// What [`Store::create`] says about a name that is taken.
    fn compare(&self, bytes: &[u8]) -> Result<Creation, StoreError> {
        match self.get(bytes.len() as u64) {
            // Synced again: the process that made the name may have died before that.
            Ok(there) if there == bytes => self.sync_folder().map(|()| Creation::Created),
            Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::AccessDenied { .. }) => Ok(Creation::AlreadyThere),
            Err(error) => Err(error),
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.refuse_links()?;
        let temporary = self.write_temporary(bytes)?;
        fs::rename(temporary.path(), &self.path).map_err(|error| self.error(error))?;
        self.sync_folder()
    }

    fn get(&self, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.refuse_links()?;
        let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path).map_err(|e| self.error(e))?;
        let metadata = file.metadata().map_err(|error| self.error(error))?;
        if !metadata.is_file() {
            return Err(StoreError::NotFound { object: self.path.display().to_string() });
        }
        let too_large = || StoreError::TooLarge { object: self.path.display().to_string(), max_bytes };
        if metadata.len() > max_bytes {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).map_err(|_| too_large())?);
        // One byte more than allowed shows a file that grew since.
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| self.error(error))?;
        if bytes.len() as u64 > max_bytes { Err(too_large()) } else { Ok(bytes.into()) }
    }

    fn head(&self) -> Result<Option<ObjectInfo>, StoreError> {
        self.refuse_links()?;
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => info(self.key.clone(), &metadata).map(Some),
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    fn delete(&self) -> Result<(), StoreError> {
        self.refuse_links()?;
        match fs::remove_file(&self.path) {
            Ok(()) => self.sync_folder(),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    /// The bytes under a temporary name, synced, with the folder for the final name in place.
    fn write_temporary(&self, bytes: &[u8]) -> Result<Temporary, StoreError> {
        let folder = self.root.join(TEMPORARIES);
        make_folder(&folder).map_err(|error| io_error(&folder, error))?;
        make_folder(fsx::parent(&self.path)).map_err(|error| self.error(error))?;
        let path = fsx::temporary_next_to(&folder.join("object"));
        let mut file = fsx::create_private(&path).map_err(|error| io_error(&path, error))?;
        let temporary = Temporary(path);
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| io_error(temporary.path(), error))?;
        Ok(temporary)
    }

    fn refuse_links(&self) -> Result<(), StoreError> {
        refuse_links(&self.root, &self.path)
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        fsx::sync_dir(fsx::parent(&self.path)).map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> StoreError {
        io_error(&self.path, error)
    }
}

/// A temporary file, removed when it goes out of scope; a name that was moved away is gone already.
struct Temporary(PathBuf);

impl Temporary {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Gives a file its final name unless that is taken ([`io::ErrorKind::AlreadyExists`]), in one step.
fn name_once(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        // FAT and some network file systems have no links, but an exclusive rename.
        Err(error) if lacks_support(&error) => exclusive_rename(temporary, path),
        named => named,
    }
}

fn exclusive_rename(temporary: &Path, path: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE)?)
}

/// An error if a name between the root and `path`, or `path` itself, is a symbolic link.
fn refuse_links(root: &Path, path: &Path) -> Result<(), StoreError> {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    match path.ancestors().take_while(|path| *path != root).find(|path| is_link(path)) {
        Some(link) => Err(a_link(link)),
        None => Ok(()),
    }
}

/// How file systems say that they cannot do a thing at all. A link that they cannot make is EPERM.
fn lacks_support(error: &io::Error) -> bool {
    [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::MLINK]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Collects the objects in a folder below the root, given by its key, and in the folders below it.
fn walk(root: &Path, folder: &str, objects: &mut Vec<ObjectInfo>) -> Result<(), StoreError> {
    let path = if folder.is_empty() { root.to_owned() } else { root.join(folder) };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(io_error(&path, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| io_error(&path, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let Ok(key) = Key::new(name) else { continue };
        let kind = entry.file_type().map_err(|error| io_error(&entry.path(), error))?;
        if kind.is_symlink() {
            return Err(a_link(&entry.path()));
        } else if kind.is_dir() {
            walk(root, key.as_str(), objects)?;
        } else if kind.is_file() {
            match entry.metadata() {
                Ok(metadata) => objects.push(info(key, &metadata)?),
                Err(error) if is_missing(&error) => {} // Deleted since.
                Err(error) => return Err(io_error(&entry.path(), error)),
            }
        }
    }
    Ok(())
}

fn info(key: Key, metadata: &fs::Metadata) -> Result<ObjectInfo, StoreError> {
    let modified = metadata.modified().and_then(|modified| timestamp(modified).map_err(io::Error::other));
    let modified = modified.map_err(|error| io_error(Path::new(key.as_str()), error))?;
    Ok(ObjectInfo { key, bytes: metadata.len(), modified, etag: None })
}

fn timestamp(time: SystemTime) -> Result<Timestamp, jiff::Error> {
    Timestamp::try_from(time)
}

/// Makes a private folder and its missing parents, each name durable.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = fsx::parent(path);
    make_folder(parent)?;
    fsx::create_private_dir(path)?;
    fsx::sync_dir(parent)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn a_link(path: &Path) -> StoreError {
    StoreError::Other {
        object: path.display().to_string(),
        cause: "it is a symbolic link, which a repository in a directory does not follow".into(),
    }
}

fn io_error(path: &Path, error: io::Error) -> StoreError {
    let object = path.display().to_string();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::NotFound { object },
        io::ErrorKind::PermissionDenied => {
            StoreError::AccessDenied { object, code: "PermissionDenied".into(), message: error.to_string() }
        }
        _ => StoreError::Io { path: object, source: error },
    }
}

/// Runs on a thread that may block. A panic there goes on here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Io { path: "a file operation".into(), source: io::Error::other(error) }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn an_exclusive_rename_keeps_what_is_there() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("first"), "1").expect("write");
        fs::write(path("second"), "2").expect("write");
        exclusive_rename(&path("first"), &path("object")).expect("the name is free");
        let error = exclusive_rename(&path("second"), &path("object")).expect_err("the name is taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path("object")).expect("read"), b"1");
    }

    #[tokio::test]
    async fn only_old_leftovers_are_swept() {
        let root = tempfile::tempdir().expect("a scratch folder");
        let folder = root.path().join(TEMPORARIES);
        fs::create_dir(&folder).expect("a folder");
        let old = SystemTime::now() - LEFTOVER_AGE - Duration::from_secs(60);
        File::create(folder.join("old")).and_then(|file| file.set_modified(old)).expect("an old file");
        File::create(folder.join("new")).expect("a new file");
        LocalStore::new(root.path()).sweep().await.expect("a sweep");
        assert!(!folder.join("old").exists());
        assert!(folder.join("new").exists());
    }

    fn text(text: &str) -> Stored {
        Stored::public_text(text)
    }

    #[tokio::test]
    async fn a_folder_is_no_object() {
        let root = tempfile::tempdir().expect("a scratch folder");
        let store = LocalStore::new(root.path());
        let (folder, inside) = (Key::new("packs").expect("a key"), Key::new("packs/a").expect("a key"));
        store.create(&inside, text("a")).await.expect("a create");
        assert_eq!(store.head(&folder).await.expect("an answer"), None);
        assert!(matches!(store.get(&folder, 1).await, Err(StoreError::NotFound { .. })));
        assert!(store.create(&folder, text("b")).await.is_err());
        store.delete(&folder).await.expect_err("not to be deleted");
        assert_eq!(store.get(&inside, 1).await.expect("still there"), "a");
    }

    #[tokio::test]
    async fn files_are_private_and_nothing_outside_is_seen() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        fs::write(scratch.path().join("outside"), "secret").expect("a file");
        let store = LocalStore::new(scratch.path().join("root"));
        store.create(&Key::new("packs/a").expect("a key"), text("a")).await.expect("a create");
        fs::write(scratch.path().join("root/.tmp/left"), "half").expect("a leftover");
        for prefix in ["../", "..", "packs/../../", "/", ".tmp/", "."] {
            assert!(store.list(prefix).await.expect("a listing").objects.is_empty(), "{prefix}");
        }
        assert_eq!(store.list("").await.expect("a listing").objects.len(), 1);
        let mode = |name: &str| {
            let metadata = fs::metadata(scratch.path().join(name)).expect(name);
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
        };
        assert_eq!((mode("root"), mode("root/packs"), mode("root/packs/a")), (0o700, 0o700, 0o600));
    }

    #[tokio::test]
    async fn a_symbolic_link_is_refused_by_name() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let outside = scratch.path().join("outside");
        fs::create_dir(&outside).and_then(|()| fs::write(outside.join("a"), "secret")).expect("a file");
        fs::create_dir(scratch.path().join("root")).expect("a folder");
        std::os::unix::fs::symlink(&outside, scratch.path().join("root/packs")).expect("a link");
        let store = LocalStore::new(scratch.path().join("root"));
        let key = Key::new("packs/a").expect("a key");
        let errors = [
            store.get(&key, 100).await.map(drop).expect_err("a link"),
            store.head(&key).await.map(drop).expect_err("a link"),
            store.list("").await.map(drop).expect_err("a link"),
            store.list("packs/").await.map(drop).expect_err("a link"),
            store.create(&key, text("x")).await.map(drop).expect_err("a link"),
            store.put(&key, text("x")).await.expect_err("a link"),
            store.delete(&key).await.expect_err("a link"),
        ];
        for error in errors {
            assert!(error.to_string().contains("root/packs: it is a symbolic link"), "{error}");
        }
        assert_eq!(fs::read(outside.join("a")).expect("untouched"), b"secret");
    }
}
