//! What can be wrong with a source. Each names its path and says what is so; ways out are the cli's business.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{path} does not exist")]
    Missing { path: PathBuf },
    #[error("{path} may not be read by this user")]
    NoPermission { path: PathBuf },
    #[error("{path} is not a regular file")]
    NotRegular { path: PathBuf },
    #[error("{path} is itself a mount point, so its journal may be invisible here")]
    MountPoint { path: PathBuf },
    #[error("{path} is larger than 2^32 blocks")]
    TooLarge { path: PathBuf },
    #[error("{path} is not an SQLite database, or it is an encrypted one")]
    NotADatabase { path: PathBuf },
    #[error("{path} is empty, but it has a write-ahead log")]
    EmptyWithLog { path: PathBuf },
    #[error("{path} was locked by writers for {} s", waited.as_secs())]
    Busy { path: PathBuf, waited: Duration },
    #[error("{path} has a hot journal: its application crashed in mid-write and has not yet recovered the database")]
    HotJournal { path: PathBuf },
    #[error("{path} was replaced or written to past SQLite's locks while it was read")]
    Replaced { path: PathBuf },
    #[error(
        "{path} is in WAL mode and belongs to another user: reading it now would leave files that its owner cannot open"
    )]
    WalNotOwner { path: PathBuf },
    #[error(
        "{path} is in WAL mode, and its log cannot be opened: the folder is read-only here, or the log may not be read"
    )]
    LogUnreachable { path: PathBuf },
    #[error("{path} kept changing while it was read")]
    Changing { path: PathBuf },
    #[error("{path} is open as a database and as an ordinary file at once")]
    OpenTwice { path: PathBuf },
    #[error("{path} belongs to user {uid}, who may not read it")]
    OwnerCannotRead { path: PathBuf, uid: u32 },
    #[error("{path} belongs to user {uid}, whose rights this process may not take on")]
    CannotActAsOwner { path: PathBuf, uid: u32, source: io::Error },
    #[error("SQLite could not read {path}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{path} could not be read")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "this build's SQLite {version} cannot be used: {lack}. Build with the repository's .cargo/config.toml, \
         which sets LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB for the bundled SQLite"
    )]
    Build { version: String, lack: &'static str },
}

impl SourceError {
    /// Whether the same read, through a freshly opened source, may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::HotJournal { .. } | Self::Replaced { .. } | Self::Changing { .. })
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::NoPermission { path },
            _ => Self::Io { path, source },
        }
    }

    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => Self::NotADatabase { path },
            _ => Self::Sqlite { path, source },
        }
    }
}
