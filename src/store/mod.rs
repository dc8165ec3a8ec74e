//! Bytes in a bucket or a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);
impl Key { pub(crate) fn from_trusted(name: String) -> Self { Self(name) } pub fn as_str(&self) -> &str { &self.0 } }
