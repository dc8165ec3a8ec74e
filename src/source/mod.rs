//! Reading what is backed up: live SQLite databases inside SQLite's own transactions, and ordinary files.
//!
//! Promised to the rooms above:
//! - What one [`View`] gives is one instant: a database's read transaction, or a file that did not change meanwhile;
//!   [`View::finish`] says so, and only what it has confirmed may be used.
//! - The source is never written, checkpointed, recovered or switched, and no file of a wrong owner appears next to it.
//! - While a database is open here, no descriptor of it is closed: that would drop every POSIX lock that the process
//!   holds on it (`claim.rs`).
//! - Memory does not grow with the source.
//!
//! Everything is synchronous; a caller with an async runtime uses blocking threads.

mod busy;
mod claim;
mod credentials;
mod database;
mod error;
mod file;
mod health;
mod owner;
mod place;
mod print;
mod wal;

pub use credentials::{CredentialKeys, Credentials, try_credentials};
pub use database::{Database, DatabaseView, ReadLimits, assert_sqlite};
pub use error::SourceError;
pub use file::{BLOCK_BYTES, FileView, INLINE_MAX, LargeFile, SmallFile, read_small};
pub use health::{Checkup, Health, quick_check};
pub use owner::as_owner_of;
pub use print::{CLOCK_STEP, FileMeta, Journal, Print, Stamp};

use std::time::Duration;

/// What is read block by block. Pass 1 and pass 2 treat both kinds alike.
pub enum Source {
    Database(Database),
    File(LargeFile),
}

impl Source {
    /// One read transaction, or one look at an ordinary file.
    pub fn view(&mut self) -> Result<View<'_>, SourceError> {
        match self {
            Source::Database(database) => database.begin().map(View::Database),
            Source::File(file) => file.view().map(View::File),
        }
    }

    /// The longest that a view kept writers waiting so far, whatever came of it.
    pub fn longest_hold(&self) -> Duration {
        match self {
            Source::Database(database) => database.longest_hold(),
            Source::File(_) => Duration::ZERO,
        }
    }
}

/// One instant of a source. Dropping it lets go of everything that it held.
pub enum View<'a> {
    Database(DatabaseView<'a>),
    File(FileView<'a>),
}

impl View<'_> {
    /// Bytes a block: the page size, or [`BLOCK_BYTES`].
    pub fn block_size(&self) -> usize {
        match self {
            View::Database(view) => view.page_size(),
            View::File(_) => BLOCK_BYTES,
        }
    }

    /// How many blocks there are; they are numbered from 1.
    pub fn block_count(&self) -> u32 {
        match self {
            View::Database(view) => view.page_count(),
            View::File(view) => view.block_count(),
        }
    }

    /// The length of what is to be restored; only a file's last block may reach beyond it, filled with zeros.
    pub fn bytes(&self) -> u64 {
        match self {
            View::Database(view) => view.bytes(),
            View::File(view) => view.bytes(),
        }
    }

    /// Fills `out`, a multiple of the block size, with the blocks from number `first` on.
    pub fn read(&self, first: u32, out: &mut [u8]) -> Result<(), SourceError> {
        match self {
            View::Database(view) => view.read(first, out),
            View::File(view) => view.read(first, out),
        }
    }

    /// Mode, owner and times, as they were at the beginning.
    pub fn meta(&self) -> FileMeta {
        match self {
            View::Database(view) => view.meta(),
            View::File(view) => view.meta(),
        }
    }

    /// How a writer is affected: `None` for an ordinary file.
    pub fn journal(&self) -> Option<Journal> {
        match self {
            View::Database(view) => Some(view.journal()),
            View::File(_) => None,
        }
    }

    /// How long this view has been held.
    pub fn held_for(&self) -> Duration {
        match self {
            View::Database(view) => view.held_for(),
            View::File(view) => view.held_for(),
        }
    }

    /// How long it had to wait for writers before it began.
    pub fn waited(&self) -> Duration {
        match self {
            View::Database(view) => view.waited(),
            View::File(_) => Duration::ZERO,
        }
    }

    /// Confirms that what was read is one instant, then lets go.
    pub fn finish(self) -> Result<Print, SourceError> {
        match self {
            View::Database(view) => view.finish(),
            View::File(view) => view.finish(),
        }
    }
}
