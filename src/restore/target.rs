//! Where restored files go: first into a hidden folder in the target, then, once all of them are verified, to their
//! names. What is in the way is refused, or moved aside; nothing is ever deleted or half-written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::scatter::Target;
use super::{Finding, OperationError};
use crate::format::Entry;
use crate::fsx::{self, LeftBehind, ScratchDir};

/// What SQLite keeps next to a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What giving the files their names came to.
pub(super) struct Published {
    /// What was in the way, and where it is now.
    pub moved: Vec<(PathBuf, PathBuf)>,
    pub warning: Option<Finding>,
}

/// What the hidden folder's name begins with.
const STAGING: &str = ".sealift-restore";

/// A target directory that may be restored into.
pub(super) struct TargetDir {
    path: PathBuf,
    staging: ScratchDir,
    /// Folders that were made for this restore, the innermost first.
    created: Vec<PathBuf>,
}

impl TargetDir {
    /// Sees whether `path` may be restored into, and makes the hidden folder. Without `force` it must be empty or
    /// missing.
    pub fn prepare(path: &Path, names: &[&str], force: bool) -> Result<Self, OperationError> {
        check(path, names, force)?;
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let created = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        // 0700: it will hold the application's secrets.
        fsx::create_private_dir(path).map_err(OperationError::io(path))?;
        // In a container the number of the process is the same each time, so what a killed one left may have the name.
        let staging = ScratchDir::new(path, STAGING).map_err(OperationError::io(path))?;
        Ok(Self { path: path.to_owned(), staging, created })
    }

    /// A new file for `entry` under its temporary name, with its room on the disk set aside.
    pub fn create(&self, entry: Entry) -> Result<Target, OperationError> {
        let path = self.staging.path().join(&entry.name);
        let make = || {
            let file = fsx::create_private(&path)?;
            reserve(&file, entry.bytes)?;
            Ok(file)
        };
        let file = make().map_err(OperationError::io(&path))?;
        Ok(Target { file, path, entry })
    }

    pub fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives every file its name, durably, moving aside what is in the way. Returns what was moved, and where to.
    pub fn publish(&self, targets: &[Target], now: Timestamp) -> Result<Published, OperationError> {
        let (mut moved, mut not_owned) = (Vec::new(), Vec::new());
        for target in targets {
            if !settle(target).map_err(OperationError::io(&target.path))? {
                not_owned.push(target.entry.name.as_str());
            }
        }
        for target in targets {
            for place in in_the_way(&self.path, &target.entry) {
                let aside = aside(&place, now);
                fs::rename(&place, &aside).map_err(OperationError::io(&place))?;
                moved.push((place, aside));
            }
        }
        for target in targets {
            let place = self.place(&target.entry.name);
            fs::rename(&target.path, &place).map_err(OperationError::io(&place))?;
        }
        fs::remove_dir(self.staging.path()).map_err(OperationError::io(self.staging.path()))?;
        fsx::sync_dir(&self.path).map_err(OperationError::io(&self.path))?;
        fsx::sync_dir(fsx::parent(&self.path)).map_err(OperationError::io(&self.path))?;
        let sources = || not_owned.iter().map(|name| (*name).to_owned()).collect();
        let warning = (!not_owned.is_empty()).then(|| Finding::OwnerNotRestored { sources: sources() });
        Ok(Published { moved, warning })
    }
}

impl Drop for TargetDir {
    /// A restore that did not come to its end leaves nothing behind. After one that did, no folder is empty.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.staging.path());
        for folder in &self.created {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// What restores that were killed left in `path`. Nothing in a person's own directory is deleted, so it is named.
pub(super) fn left_behind(path: &Path) -> Option<Finding> {
    let paths: Vec<PathBuf> = LeftBehind::find(path, STAGING).into_iter().map(|left| left.path).collect();
    (!paths.is_empty()).then_some(Finding::StagingLeft { paths })
}

/// Whether `path` has files already; where some are named, whether it has all of these.
pub fn is_there(path: &Path, names: &[String]) -> Result<bool, OperationError> {
    if !names.is_empty() {
        return Ok(names.iter().all(|name| path.join(name).symlink_metadata().is_ok()));
    }
    // What a killed restore left is no file of the application.
    let is_file =
        |entry: io::Result<fs::DirEntry>| entry.map(|entry| !entry.file_name().to_string_lossy().starts_with(STAGING));
    let files = match fs::read_dir(path) {
        Ok(present) => present.map(is_file).collect::<Result<Vec<bool>, _>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => Err(error),
    };
    Ok(files.map_err(OperationError::io(path))?.contains(&true))
}

/// Refuses what could lose something.
pub(super) fn check(path: &Path, names: &[&str], force: bool) -> Result<(), OperationError> {
    let mut present = match fs::read_dir(path) {
        Ok(present) => present,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OperationError::Io { path: path.to_owned(), error }),
    };
    if !force && present.next().is_some() {
        let left = left_behind(path).map(|left| format!(": a killed restore left data in {}", left.subject()));
        let left = left.unwrap_or_default();
        return Err(OperationError::Refused {
            what: format!("{} is not empty{left}", path.display()),
            way_out: "name an empty or new directory, or add --force, which moves what is in the way aside".to_owned(),
        });
    }
    for name in names {
        let place = path.join(name);
        let companions = SIDECARS.iter().map(|suffix| with_suffix(&place, suffix));
        for file in std::iter::once(place.clone()).chain(companions) {
            if let Some(pid) = user_of(&file) {
                return Err(OperationError::Refused {
                    what: format!("{} is in use by process {pid}", file.display()),
                    way_out: "stop the application first: what it still writes would be lost".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// The file itself and, for a database, everything that SQLite would take for its journal.
fn in_the_way(dir: &Path, entry: &Entry) -> Vec<PathBuf> {
    let place = dir.join(&entry.name);
    let mut places = vec![place.clone()];
    if entry.is_database() {
        places.extend(SIDECARS.iter().map(|suffix| with_suffix(&place, suffix)));
    }
    places.retain(|place| place.symlink_metadata().is_ok());
    places
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn aside(place: &Path, now: Timestamp) -> PathBuf {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let mut aside = with_suffix(place, &format!(".before-restore-{stamp}"));
    let mut count = 1;
    while aside.symlink_metadata().is_ok() {
        count += 1;
        aside = with_suffix(place, &format!(".before-restore-{stamp}-{count}"));
    }
    aside
}

/// Some process that has `path` open, as far as this user may see.
fn user_of(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    let is_it = |link: &Path| fs::metadata(link).is_ok_and(|m| (m.dev(), m.ino()) == (metadata.dev(), metadata.ino()));
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        descriptors.is_ok_and(|mut descriptors| descriptors.any(|fd| fd.is_ok_and(|fd| is_it(&fd.path()))))
    })
}

/// Sets room aside so that a full disk shows at once; where the file system cannot, the length alone is set.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    if bytes > 0 {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.set_len(bytes)
}

/// Mode, owner and time as they were. `false`: this user may not give files away, and then no set-user-id bit comes
/// back.
fn settle(target: &Target) -> io::Result<bool> {
    let Target { file, entry, .. } = target;
    // Outside its own user namespace this is no permission error but an invalid argument, so any failure counts.
    let owned = std::os::unix::fs::fchown(file, Some(entry.uid), Some(entry.gid)).is_ok();
    let mask = if owned { 0o7777 } else { 0o777 };
    file.set_permissions(fs::Permissions::from_mode(entry.mode & mask))?;
    let since_1970 = std::time::Duration::from_nanos(entry.mtime_ns.unsigned_abs());
    let modified = if entry.mtime_ns >= 0 {
        std::time::SystemTime::UNIX_EPOCH + since_1970
    } else {
        std::time::SystemTime::UNIX_EPOCH - since_1970
    };
    file.set_modified(modified)?;
    file.sync_all()?;
    Ok(owned)
}
