//! An object's name, relative to the repository's prefix.

use std::fmt;

/// Segments of `A-Z a-z 0-9 . _ -`, joined by `/`; none is empty, `.` or `..`. Safe as a path and as an S3 key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the name of an object in a repository")]
pub struct NotAKey(pub String);

impl Key {
    pub fn new(name: impl Into<String>) -> Result<Self, NotAKey> {
        let name = name.into();
        if name.split('/').all(is_segment) { Ok(Self(name)) } else { Err(NotAKey(name)) }
    }

    /// For names that the code itself spells.
    pub(crate) fn from_trusted(name: String) -> Self {
        debug_assert!(name.split('/').all(is_segment));
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(allowed)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn names_that_could_lead_out_of_the_repository_are_refused() {
        for name in ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/./b", "a b", "a\\b", "ä"] {
            assert!(Key::new(name).is_err(), "{name:?}");
        }
        assert!(Key::new("packs/0af.age").is_ok());
    }
}
