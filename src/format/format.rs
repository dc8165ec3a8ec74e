//! What all stored types share: a `format` number, and errors that name what is wrong with it.

use serde::Deserialize;

/// Stored bytes that are not what their place in the repository says.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("it has format {found}, and this sealift reads format {known}")]
    Newer { found: u64, known: u64 },
    #[error("{0}")]
    Invalid(String),
}

impl FormatError {
    pub(super) fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid(why.into())
    }
}

/// Reads JSON whose `format` is `known`. The number is looked at first, so that a newer format is called newer and
/// not damaged.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], known: u64) -> Result<T, FormatError> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let invalid = |error: serde_json::Error| FormatError::invalid(format!("it is not the JSON expected: {error}"));
    let head: Head = serde_json::from_slice(json).map_err(invalid)?;
    if head.format != known {
        return Err(FormatError::Newer { found: head.format, known });
    }
    serde_json::from_slice(json).map_err(invalid)
}
