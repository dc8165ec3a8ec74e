//! `repository.json`: what a repository is. Created once, never changed; it holds no setting.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{FormatError, parse};
use crate::crypto::{FingerprintKey, PublicSigner};

const FORMAT: u64 = 1;

/// 128 random bits, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryId(String);

impl RepositoryId {
    pub fn generate() -> Self {
        let random = FingerprintKey::generate();
        Self(hex::encode(&random.as_bytes()[..16]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryId {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let good = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned())).ok_or_else(|| FormatError::invalid("a repository id is 32 hex digits"))
    }
}

impl TryFrom<String> for RepositoryId {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<RepositoryId> for String {
    fn from(id: RepositoryId) -> Self {
        id.0
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    format: u64,
    pub repository: RepositoryId,
    pub created: Timestamp,
    /// The signer of the first record. A hint for readers that know no signer, no proof.
    pub signer: PublicSigner,
}

impl Descriptor {
    pub fn new(repository: RepositoryId, created: Timestamp, signer: PublicSigner) -> Self {
        Self { format: FORMAT, repository, created, signer }
    }

    pub fn parse(json: &[u8]) -> Result<Self, FormatError> {
        parse(json, FORMAT)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> Result<String, FormatError> {
        let json = serde_json::to_string(self).map_err(|error| FormatError::invalid(error.to_string()))?;
        Ok(json + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Signer;

    #[test]
    fn a_descriptor_reads_back_and_ignores_members_that_it_does_not_know() {
        let signer = Signer::generate().expect("a key").public();
        let own = Descriptor::new(RepositoryId::generate(), Timestamp::UNIX_EPOCH, signer);
        let json = own.to_json().expect("JSON");
        assert_eq!(Descriptor::parse(json.as_bytes()).expect("read"), own);
        let more = json.replacen('{', r#"{"grace_seconds":604800,"later":null,"#, 1);
        assert_eq!(Descriptor::parse(more.as_bytes()).expect("read"), own);
        let format = |number: &str| json.replace(r#""format":1"#, &format!(r#""format":{number}"#));
        assert!(matches!(Descriptor::parse(format("2").as_bytes()), Err(FormatError::Newer { found: 2, known: 1 })));
        for number in ["0", "-1", "null"] {
            assert!(matches!(Descriptor::parse(format(number).as_bytes()), Err(FormatError::Invalid(_))), "{number}");
        }
    }
}
