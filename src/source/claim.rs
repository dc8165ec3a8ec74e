//! Which files this process has open, and how: as databases, or as ordinary files, never both.
//!
//! POSIX locks belong to the process, and closing *any* descriptor of a file drops all of them. SQLite takes care of
//! that for its own connections; a descriptor of ours would silently unlock a database that is being read. So next to
//! SQLite's a database has one descriptor of ours for all readers, and that is closed when its last reader is gone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

use super::SourceError;
use super::print::Stamp;

/// How one inode is open, and by how many.
struct Open {
    /// The one descriptor of a database.
    database: Option<Arc<File>>,
    count: usize,
}

static OPEN: Mutex<BTreeMap<(u64, u64), Open>> = Mutex::new(BTreeMap::new());

/// The right to have one inode open in one way. Held until after the descriptor is closed or released.
#[derive(Debug)]
pub(super) struct Claim {
    inode: (u64, u64),
}

impl Claim {
    /// With the descriptor that all who read this database share. Release it before the claim.
    pub(super) fn database(path: &Path, stamp: &Stamp) -> Result<(Self, Arc<File>), SourceError> {
        let mut all = registry();
        let file = match all.get(&stamp.inode()) {
            Some(Open { database: Some(file), .. }) => Arc::clone(file),
            Some(Open { database: None, .. }) => return Err(SourceError::OpenTwice { path: path.to_owned() }),
            None => Arc::new(open_regular(path)?),
        };
        let metadata = file.metadata().map_err(|error| SourceError::io(path, error))?;
        if Stamp::of(&metadata).inode() != stamp.inode() {
            return Err(SourceError::Replaced { path: path.to_owned() });
        }
        Ok((Self::count(&mut all, stamp, Some(&file)), file))
    }

    pub(super) fn file(path: &Path, stamp: &Stamp) -> Result<Self, SourceError> {
        let mut all = registry();
        if all.get(&stamp.inode()).is_some_and(|open| open.database.is_some()) {
            return Err(SourceError::OpenTwice { path: path.to_owned() });
        }
        Ok(Self::count(&mut all, stamp, None))
    }

    fn count(all: &mut BTreeMap<(u64, u64), Open>, stamp: &Stamp, database: Option<&Arc<File>>) -> Self {
        let inode = stamp.inode();
        all.entry(inode).or_insert_with(|| Open { database: database.cloned(), count: 0 }).count += 1;
        Self { inode }
    }
}

impl Drop for Claim {
    /// What is closed here is closed before anybody else can open it.
    fn drop(&mut self) {
        let mut all = registry();
        if let Some(open) = all.get_mut(&self.inode) {
            open.count -= 1;
            if open.count == 0 {
                all.remove(&self.inode);
            }
        }
    }
}

/// Opens what `stat` just called a regular file. Should a FIFO or a terminal have taken its place since: it is not
/// waited for, and this process is not taken over by it.
pub(super) fn open_regular(path: &Path) -> Result<File, SourceError> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| SourceError::io(path, error))
}

/// A panic elsewhere leaves the map whole: each change to it is complete before the lock is released.
fn registry() -> MutexGuard<'static, BTreeMap<(u64, u64), Open>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
