//! What can go wrong in an operation. Exit codes and hints are the cli's business.

use std::path::PathBuf;
use std::time::Duration;

use crate::crypto::CryptoError;
use crate::format::{FormatError, ranges};
use crate::host::StateError;
use crate::policy::parent::ParentConflict;
use crate::policy::trust::Claim;
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
    /// This host must not write until a person has decided.
    #[error(transparent)]
    Parent(#[from] ParentConflict),
    /// This machine is not the one that writes here.
    #[error("{what}")]
    NotTheWriter { what: String, way_out: String },
    #[error("the server answers too slowly: no listing was younger than a minute when the record was to be stored")]
    NoListingInTime,
    /// What a backup was about to refer to is gone before its snapshot was listed.
    #[error("{} disappeared from the repository while the backup ran", .objects.join(", "))]
    Disappeared { objects: Vec<String> },
    /// Another rotation of keys was faster.
    #[error("{object} was just created by another rotation")]
    OtherRotation { object: String },
    /// A key file that this command relied on was deleted by another one, which ran at the same time.
    #[error("{object} was just deleted by another operator's command")]
    KeyDeleted { object: String },
    #[error("no given identity opens {object}")]
    NoIdentityOpens { object: String },
    /// No key file of an epoch is there that could be opened.
    #[error("{object}: {why}")]
    NoKeyLeft { object: String, why: String },
    /// A stored object is not what a signature or a hash says it should be.
    #[error("{object}: {why}")]
    Verification { object: String, why: String },
    /// The bytes are those that a hash says, and what is encrypted in them is wrong: in one of `objects`, or in
    /// several.
    #[error("{what}: {why}")]
    Contents { what: String, why: String, objects: Vec<String> },
    /// Records are signed by a key that claims to have taken over from the trusted one.
    #[error(
        "{} signed by {}, which claims to have taken over from the trusted key {} (host {}, {})",
        snapshots_are(&.0.sequences), .0.signer.fingerprint(), .0.trusted.fingerprint(), .0.host, .0.since
    )]
    SignerClaim(Box<Claim>),
    /// The trust store and the identity file name different signing keys.
    #[error("this machine trusts the signing key {stored}, and the identity file names {comment}")]
    SignerConflict { stored: String, comment: String },
    /// The identity files name other repositories only.
    #[error("the identity file was made for another repository than {url}")]
    OtherRepository { url: String },
    /// Another repository is at a location that this machine knows.
    #[error("{url} holds repository {found}, and this machine knows repository {known} there")]
    RepositoryReplaced { url: String, known: String, found: String, fingerprint: String },
    #[error("no record shows that {fingerprint} took over from the trusted key {trusted}")]
    NothingToAccept { fingerprint: String, trusted: String },
    #[error("{object} has a newer format: {why}")]
    NewerFormat { object: String, why: String },
    /// Refused, because continuing could lose something.
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
    #[error("a pack could not be created: {0}")]
    Packing(std::io::Error),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("no source could be read: {} {} missing", .missing.join(", "), if .missing.len() == 1 { "is" } else { "are" })]
    NothingToBackUp { missing: Vec<String> },
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

    /// What is encrypted in an object that has the right hash is not what it should be.
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

/// `snapshot 4 is`, or `snapshots 4 to 5 are`.
fn snapshots_are(sequences: &[u64]) -> String {
    let ranges = ranges::ranges(sequences.iter().copied());
    format!("{} {}", ranges::snapshots(&ranges), if ranges::is_one(&ranges) { "is" } else { "are" })
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
