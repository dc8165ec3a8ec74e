//! What `stat` says of a source, and what "unchanged" is judged by.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// File times move in steps of up to 10 ms on kernels with a coarse clock. A file as young as that may be written to
/// once more without any of its times showing it.
pub const CLOCK_STEP: Duration = Duration::from_millis(20);

/// How writers of a database are kept apart from its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journal {
    /// Readers do not block writers, but hold back the checkpoint.
    Wal,
    /// A reader blocks writers.
    Rollback,
}

/// Mode, owner and time of a file: what a restore sets in addition to its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since 1970, UTC.
    pub mtime_ns: i64,
    pub bytes: u64,
}

impl FileMeta {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
        }
    }
}

/// What changes when a file's content does, or when another file takes its place. Times are nanoseconds since 1970,
/// UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub bytes: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            bytes: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file changed last; zero if that is in the future, as a server's clock may have it.
    pub fn age(&self) -> Duration {
        let changed = UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.ctime_ns).unwrap_or(0));
        SystemTime::now().duration_since(changed).unwrap_or_default()
    }

    /// Which file this is, whatever is in it.
    pub(super) fn inode(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }
}

/// One state of a source, as it was under the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// `None` for an ordinary file.
    pub journal: Option<Journal>,
    /// Bytes 24 to 28 of a database's first page; 0 for an ordinary file and an empty database.
    pub change_counter: u32,
    pub blocks: u32,
    #[serde(flatten)]
    pub stamp: Stamp,
}

impl Print {
    /// Whether nothing was written between the two. Only rollback mode can prove it: in WAL mode commits move neither
    /// the counter nor the file. The counter alone lies after a restored copy, hence all the rest. Trust it for a day
    /// at most.
    pub fn proves_unchanged(&self, earlier: &Print) -> bool {
        self.journal == Some(Journal::Rollback) && self == earlier
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
