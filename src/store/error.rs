//! What can go wrong with a store. Each says which object or which place, and why; none holds a credential.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{object} does not exist")]
    NotFound { object: String },
    #[error("{object}: access denied by the server: {reason}")]
    AccessDenied { object: String, reason: String },
    /// No, expired or wrong credentials.
    #[error("{place}: {reason}")]
    Credentials { place: String, reason: String },
    #[error("the bucket {bucket} does not exist")]
    NoSuchBucket { bucket: String },
    #[error("the bucket {bucket} is in region {expected}, and {configured} is configured")]
    WrongRegion { bucket: String, configured: String, expected: String },
    #[error("{place} cannot be reached: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} did not answer in time")]
    Timeout { place: String },
    #[error("{object} is larger than {max_bytes} bytes")]
    TooLarge { object: String, max_bytes: u64 },
    /// The server lacks something that sealift needs.
    #[error("{place} does not support {what}")]
    NotSupported { place: String, what: String },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{place}: {reason}")]
    Settings { place: String, reason: String },
    #[error("{object}: {reason}")]
    Other { object: String, reason: String },
}
