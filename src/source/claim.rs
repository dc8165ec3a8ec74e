//! Which files this process has open, and how: through SQLite, or as ordinary files, never both.
//!
//! POSIX locks belong to the process, and closing *any* descriptor of a file drops all of them. SQLite takes care of that
//! for its own connections; a descriptor of ours would silently unlock a database that is being read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SourceError;
use super::print::Stamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Database,
    File,
}

static OPEN: Mutex<BTreeMap<(u64, u64), (Use, usize)>> = Mutex::new(BTreeMap::new());

/// The right to have one inode open in one way. Held until after the descriptor is closed.
#[derive(Debug)]
pub(super) struct Claim {
    inode: (u64, u64),
}

impl Claim {
    pub(super) fn database(path: &Path, stamp: &Stamp) -> Result<Self, SourceError> {
        Self::take(path, stamp, Use::Database)
    }

    pub(super) fn file(path: &Path, stamp: &Stamp) -> Result<Self, SourceError> {
        Self::take(path, stamp, Use::File)
    }

    fn take(path: &Path, stamp: &Stamp, wanted: Use) -> Result<Self, SourceError> {
        let mut open = registry();
        let (held, count) = open.entry(stamp.inode()).or_insert((wanted, 0));
        if *held != wanted {
            return Err(SourceError::OpenTwice { path: path.to_owned() });
        }
        *count += 1;
        Ok(Self { inode: stamp.inode() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut open = registry();
        if let Some((_, count)) = open.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.inode);
            }
        }
    }
}

/// A panic elsewhere leaves the map whole: each change to it is complete before the lock is let go.
fn registry() -> MutexGuard<'static, BTreeMap<(u64, u64), (Use, usize)>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
