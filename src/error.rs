//! What can go wrong in an operation. Exit codes and hints are the cli's business.

use std::path::PathBuf;
use std::time::Duration;

use crate::crypto::CryptoError;
use crate::format::FormatError;
use crate::host::StateError;
use crate::source::SourceError;
use crate::store::{Key, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    #[error("there is no repository at {url}")]
    NoRepository { url: String },
    #[error("there already is a repository at {url}")]
    AlreadyThere { url: String },
    #[error("the repository holds no snapshot{}", .0.as_ref().map(|what| format!(" {what}")).unwrap_or_default())]
    NoSnapshot(Option<String>),
    /// Somebody else writes here, or this host or the bucket was set back.
    #[error("{0}")]
    OtherWriter(String),
    /// Another host writes here, or is about to, and no flag of ours changes that.
    #[error("{what}")]
    NotTheWriter { what: String, way_out: String },
    /// What a backup was about to refer to is gone again, before its snapshot was listed.
    #[error("{} disappeared from the repository while the backup ran", .objects.join(", "))]
    Disappeared { objects: Vec<String> },
    /// Another rotation of keys was faster.
    #[error("{object} was just made by another rotation")]
    OtherRotation { object: String },
    /// A wrapped key that this command relied on was deleted by another one, which ran at the same time.
    #[error("{object} was just deleted by another command of an operator's{}", if *.put_back { ", and is put back" } else { "" })]
    KeyDeleted { object: String, put_back: bool },
    #[error("no given identity opens {object}")]
    NoIdentityOpens { object: String },
    /// No wrapped key of an epoch is there that anybody could open.
    #[error("{object}: {why}")]
    NoKeyLeft { object: String, why: String },
    /// A stored object is not what a signature or a hash says it should be.
    #[error("{object}: {why}")]
    Verification { object: String, why: String },
    /// The bytes are those that a hash says, and what is sealed in them is wrong: in one of `objects`, or in several.
    #[error("{what}: {why}")]
    Contents { what: String, why: String, objects: Vec<String> },
    /// Newer snapshots are signed by somebody who says that he took over.
    #[error("{what}")]
    SignerChanged { what: String, way_out: String },
    #[error("{object} has a newer format: {why}")]
    NewerFormat { object: String, why: String },
    /// Refused, because going on could lose something.
    #[error("{what}")]
    Refused { what: String, way_out: String },
    #[error(
        "{path}: no single instant could be read in {rounds} rounds: {reason}; a writer could have been held up for \
         {:.3} s", longest_hold.as_secs_f64()
    )]
    NoInstant { path: PathBuf, rounds: usize, reason: &'static str, longest_hold: Duration },
    #[error("every snapshot number is used up")]
    NoNumberLeft,
    #[error("the catalog is full: more packs than one repository can have")]
    TooManyPacks,
    #[error("a pack could not be made: {0}")]
    Packing(std::io::Error),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("no source could be read")]
    NothingToBackUp,
    #[error("{0}")]
    Usage(String),
    /// A worker ended because another one failed; that one's error is the one to show.
    #[error("stopped by an earlier failure")]
    Stopped,
}

impl OperationError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |error| Self::Io { path, error }
    }

    /// What is sealed in an object that has the right hash is not what it should be.
    pub(crate) fn contents(key: &Key, why: impl Into<String>) -> Self {
        let object = key.to_string();
        Self::Contents { what: object.clone(), why: why.into(), objects: vec![object] }
    }

    /// A stored object cannot be read as what it should be.
    pub(crate) fn object(key: &Key, error: impl Into<ObjectError>) -> Self {
        let object = key.to_string();
        match error.into() {
            ObjectError::Newer(why) => Self::NewerFormat { object, why },
            ObjectError::NoIdentity => Self::NoIdentityOpens { object },
            ObjectError::Unasked(error) => Self::Crypto(error),
            ObjectError::Damaged(why) => Self::Verification { object, why },
        }
    }
}

/// Why a stored object cannot be used.
pub(crate) enum ObjectError {
    Newer(String),
    NoIdentity,
    /// Nothing is known of it.
    Unasked(CryptoError),
    Damaged(String),
}

impl From<FormatError> for ObjectError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Newer { .. } => Self::Newer(error.to_string()),
            FormatError::Invalid(why) => Self::Damaged(why),
        }
    }
}

impl From<CryptoError> for ObjectError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::NoIdentityOpens => Self::NoIdentity,
            CryptoError::IdentityFailed(_) => Self::Unasked(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<crate::format::ManifestError> for ObjectError {
    fn from(error: crate::format::ManifestError) -> Self {
        use crate::format::ManifestError as E;
        match error {
            E::Sealed(error) => error.into(),
            E::Format(error) => error.into(),
        }
    }
}

impl From<crate::format::RecordError> for ObjectError {
    fn from(error: crate::format::RecordError) -> Self {
        use crate::format::RecordError as E;
        match error {
            E::Signature(error) => error.into(),
            E::Format(error) => error.into(),
        }
    }
}
