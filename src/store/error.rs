//! What can go wrong between us and stored bytes, in plain sentences.
//!
//! Each error names the object, bucket or endpoint and the cause; none holds a credential. Advice is the cli's: it
//! chooses by variant, and by the server's `code` where there is one.

use std::io;

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{object} does not exist")]
    NotFound { object: String },

    /// The server knows us and says no, or does not know us. `code` is the server's word, such as `AccessDenied`,
    /// `InvalidAccessKeyId`, `SignatureDoesNotMatch`, `ExpiredToken` or `RequestTimeTooSkewed`; for a directory,
    /// `PermissionDenied`.
    #[error("access to {object} was denied: {code}{}", detail(.message))]
    AccessDenied { object: String, code: String, message: String },

    #[error("no usable S3 credentials: {cause}")]
    NoCredentials { cause: String },

    #[error("the bucket {bucket} does not exist at {endpoint}")]
    NoSuchBucket { bucket: String, endpoint: String },

    /// `expected` is the region that the server named, where it named one.
    #[error("the bucket {bucket} is not in the region {used}{}", in_region(.expected.as_deref()))]
    WrongRegion { bucket: String, used: String, expected: Option<String> },

    #[error("{endpoint} cannot be reached: {cause}")]
    Unreachable { endpoint: String, cause: String },

    #[error("no answer about {object} in time: {cause}")]
    Timeout { object: String, cause: String },

    #[error("{object} is larger than the {max_bytes} bytes expected at most")]
    TooLarge { object: String, max_bytes: u64 },

    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },

    /// The server, or the directory's file system, lacks what was asked of it.
    #[error("{object}: not supported there: {cause}")]
    NotSupported { object: String, cause: String },

    /// A setting that cannot work, found before anything was sent.
    #[error("{0}")]
    Settings(String),

    #[error("{object}: {cause}")]
    Other { object: String, cause: String },
}

impl StoreError {
    /// Whether the same request may succeed later: no connection, no answer in time, or an answer that neither denies it
    /// nor says that it cannot be done.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Other { .. })
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn in_region(expected: Option<&str>) -> String {
    expected.map(|region| format!(", it is in {region}")).unwrap_or_default()
}

/// An error and its causes in one line, without the repetitions that wrapped errors bring.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}
