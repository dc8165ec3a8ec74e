//! What all stored types share: a `format` number, and errors that name what is wrong with it.

use std::cmp::Ordering;

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
/// not damaged. A lower number, or no number, is damage: no release wrote one.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], known: u64) -> Result<T, FormatError> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let invalid = |error: serde_json::Error| FormatError::invalid(format!("it is not the JSON expected: {error}"));
    let head: Head = serde_json::from_slice(json).map_err(invalid)?;
    match head.format.cmp(&known) {
        Ordering::Greater => Err(FormatError::Newer { found: head.format, known }),
        Ordering::Less => Err(FormatError::invalid(format!("there is no format {}", head.format))),
        Ordering::Equal => serde_json::from_slice(json).map_err(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_greater_number_is_a_newer_format() {
        #[derive(Debug, Deserialize)]
        struct Document {
            _here: u64,
        }
        let read = |json: &str| parse::<Document>(json.as_bytes(), 2);
        read(r#"{"format":2,"_here":1,"unknown":[]}"#).expect("this format, with a member more");
        for newer in ["3", "18446744073709551615"] {
            let found: u64 = newer.parse().expect("a number");
            let error = read(&format!(r#"{{"format":{newer},"other":1}}"#)).expect_err("refused");
            assert!(matches!(error, FormatError::Newer { found: it, known: 2 } if it == found), "{error}");
        }
        for nonsense in ["0", "1", "-1", "2.5", "1e3", "\"3\"", "null", "[3]", "18446744073709551616"] {
            let error = read(&format!(r#"{{"format":{nonsense},"_here":1}}"#)).expect_err("refused");
            assert!(matches!(error, FormatError::Invalid(_)), "{nonsense}: {error}");
        }
        for nonsense in ["", "{}", "[]", "{\"format\":3", r#"{"format":2}"#, r#"{"format":3,"format":3}"#] {
            assert!(matches!(read(nonsense), Err(FormatError::Invalid(_))), "{nonsense}");
        }
    }
}
