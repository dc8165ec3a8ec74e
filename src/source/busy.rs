//! Waiting for writers.
//!
//! SQLite's own busy handler sleeps longer and longer, and starves next to busy writers (5 of 12 tries failed against
//! two of them). This one asks every millisecond, up to a bound.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;
use rusqlite::ffi;

use super::{SourceError, place};

const POLL: Duration = Duration::from_millis(1);
/// A file that cannot be opened may be one that the application is just removing; more than this it does not need.
const CANNOT_OPEN: Duration = Duration::from_secs(2);

pub(super) struct Wait {
    path: PathBuf,
    started: Instant,
    bound: Duration,
}

impl Wait {
    pub(super) fn new(path: &Path, bound: Duration) -> Self {
        Self { path: path.to_owned(), started: Instant::now(), bound }
    }

    pub(super) fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sleeps a moment if the same read may succeed after it; otherwise says why not.
    pub(super) fn again(&self, error: rusqlite::Error) -> Result<(), SourceError> {
        let waited = self.waited();
        let path = self.path.clone();
        let (bound, refusal) = match Obstacle::of(&error) {
            Obstacle::Writer => (self.bound, SourceError::Busy { path, waited }),
            Obstacle::HotJournal => (self.bound, SourceError::HotJournal { path }),
            Obstacle::CannotOpen => (self.bound.min(CANNOT_OPEN), cannot_open(&self.path)),
            Obstacle::Lasting => (Duration::ZERO, SourceError::sqlite(&self.path, error)),
        };
        if waited >= bound {
            return Err(refusal);
        }
        std::thread::sleep(POLL.min(bound - waited));
        Ok(())
    }
}

enum Obstacle {
    Writer,
    HotJournal,
    CannotOpen,
    Lasting,
}

impl Obstacle {
    fn of(error: &rusqlite::Error) -> Self {
        let Some(failure) = error.sqlite_error() else { return Self::Lasting };
        match (failure.code, failure.extended_code) {
            // SQLITE_PROTOCOL: a race for the log's index was lost over and over.
            (ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed, _) => Self::Writer,
            (_, ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY) => Self::HotJournal,
            (ErrorCode::CannotOpen, _) | (_, ffi::SQLITE_READONLY_DIRECTORY) => Self::CannotOpen,
            _ => Self::Lasting,
        }
    }
}

/// SQLite says only that it could not open something; `stat` knows more. If it is not the database, it is the log.
fn cannot_open(path: &Path) -> SourceError {
    match place::regular(path).and_then(|_| place::readable(path)) {
        Ok(()) => SourceError::LogUnreachable { path: path.to_owned() },
        Err(reason) => reason,
    }
}
