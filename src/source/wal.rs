//! Who may read a database in WAL mode.
//!
//! Even a read-only connection to a WAL database opens `-wal` and `-shm`, and makes them where they are missing. Made by
//! the file's owner they are as good as the application's own (they get the database's mode, and stay behind, empty, until
//! the application's next close removes them: a read-only connection cannot take the lock under which alone they could be
//! removed safely). Made by anybody else they lock the application out. So:
//! - the owner reads; root first becomes the owner ([`super::as_owner_of`]);
//! - another user reads only what makes no file: a database in rollback mode, or one whose both sidecars are there.
//!
//! One race is left to that other user: an application that switches to WAL mode and closes its last connection after this
//! connection's last read and before its next. Read as the owner, and there is none.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::claim::Claim;
use super::place::{exists, sibling};
use super::print::{Journal, Stamp};
use super::{SourceError, place};

/// Refuses, before SQLite opens the file or begins to read, what would harm the application's log.
///
/// `known` is the mode that an earlier read of this very connection found.
pub(super) fn guard(path: &Path, metadata: &Metadata, known: Option<Journal>) -> Result<(), SourceError> {
    let (log, index) = (exists(&sibling(path, "-wal")), exists(&sibling(path, "-shm")));
    if metadata.len() <= 1 && log {
        // SQLite, even read-only, deletes the log of an empty database; a file of one byte counts as empty.
        return Err(SourceError::EmptyWithLog { path: path.to_owned() });
    }
    if rustix::process::geteuid().as_raw() == metadata.uid() || (log && index) {
        return Ok(());
    }
    let journal = match known {
        Some(journal) => Some(journal),
        None => peek(path, metadata)?,
    };
    match journal {
        Some(Journal::Wal) => Err(SourceError::WalNotOwner { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// The mode in the header's read version (byte 19), read without SQLite.
///
/// Closing the file drops this process's locks on it, so it is opened only under a claim that no connection of this process has
/// it open; where one has, that one has passed this gate before.
fn peek(path: &Path, metadata: &Metadata) -> Result<Option<Journal>, SourceError> {
    let _claim = match Claim::file(path, &Stamp::of(metadata)) {
        Ok(claim) => claim,
        Err(_) => return Ok(None),
    };
    place::readable(path)?;
    let mut header = Vec::with_capacity(20);
    let file = File::open(path).map_err(|error| SourceError::io(path, error))?;
    file.take(20).read_to_end(&mut header).map_err(|error| SourceError::io(path, error))?;
    Ok(header.get(19).map(|&version| if version == 2 { Journal::Wal } else { Journal::Rollback }))
}
