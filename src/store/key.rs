//! The name of an object inside a repository.

use std::fmt;

/// Longest key, in bytes. S3 allows 1,024 including the repository's prefix; this leaves room for one.
const MAX_BYTES: usize = 512;

/// Longest segment, in bytes: what common file systems take as one name.
const MAX_SEGMENT_BYTES: usize = 255;

/// An object's name relative to the repository's prefix: segments of `A-Z a-z 0-9 . _ -`, joined by `/`.
///
/// No segment begins with a dot. So a key never climbs out of its directory, never meets a store's own temporary
/// files, and needs no escaping in a path, in a URL or in XML.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text is not a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("an object's name is empty")]
    Empty,
    #[error("the object name \"{0}\" has an empty part")]
    EmptySegment(String),
    #[error("the object name \"{0}\" has a part that begins with a dot")]
    LeadingDot(String),
    #[error("the object name {0:?} has characters other than A-Z a-z 0-9 . _ - /")]
    Character(String),
    #[error(
        "the object name that begins \"{0:.40}\" is too long ({MAX_BYTES} bytes, {MAX_SEGMENT_BYTES} for one part)"
    )]
    TooLong(String),
}

impl Key {
    /// Checks a name: 1 to 512 bytes, each segment 1 to 255 bytes.
    pub fn new(name: impl Into<String>) -> Result<Self, KeyError> {
        let name = name.into();
        if name.is_empty() {
            return Err(KeyError::Empty);
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)) {
            return Err(KeyError::Character(name));
        }
        if name.len() > MAX_BYTES || name.split('/').any(|segment| segment.len() > MAX_SEGMENT_BYTES) {
            return Err(KeyError::TooLong(name));
        }
        if name.split('/').any(str::is_empty) {
            return Err(KeyError::EmptySegment(name));
        }
        if name.split('/').any(|segment| segment.starts_with('.')) {
            return Err(KeyError::LeadingDot(name));
        }
        Ok(Self(name))
    }

    /// For names that the code itself spells.
    pub(crate) fn from_trusted(name: String) -> Self {
        debug_assert!(Self::new(name.as_str()).is_ok());
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Key {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_repository_are_keys() {
        for name in ["repository.json", "packs/0a9f.age", "keys/1/2.age", "a-b_c.D/E..f", "-"] {
            assert_eq!(Key::new(name).expect(name).as_str(), name);
        }
    }

    #[test]
    fn what_could_leave_the_repository_is_refused() {
        use KeyError::*;
        let text = |name: &str| name.to_owned();
        assert_eq!(Key::new(""), Err(Empty));
        for name in ["/a", "a/", "a//b", "/"] {
            assert_eq!(Key::new(name), Err(EmptySegment(text(name))));
        }
        for name in [".", "..", "a/../b", ".tmp/x", "a/.hidden"] {
            assert_eq!(Key::new(name), Err(LeadingDot(text(name))));
        }
        for name in ["a b", "a\\b", "ä", "a\nb", "a%2e", "a:b", "a\0"] {
            assert_eq!(Key::new(name), Err(Character(text(name))));
        }
        for name in ["a".repeat(256), "ab/".repeat(171)] {
            assert_eq!(Key::new(name.clone()), Err(TooLong(name)));
        }
    }
}
