//! The receipt: what a drill, a check or a confirmation found, signed by the machine that made it.
//!
//! A receipt is evidence for people. It decides neither what a backup uploads nor what retention keeps.
//! Public like a record: verdicts, times and the names of stored objects; never a source's name or a count of its rows.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RepositoryId;
use super::error::{FormatError, parse};
use super::record::RecordError;
use crate::crypto::{Digest, Signed, Signer};

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptKind {
    /// A restore into a scratch directory, with SQLite's integrity check.
    Drill,
    /// Stored objects were read and compared with their names, or opened and compared with the digests.
    Check,
    /// An identity of a new set opened the manifest through a new key version.
    Confirm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`Receipt::FORMAT`].
    pub format: u64,
    pub repository: RepositoryId,
    /// The snapshot that was tried, and the SHA-256 of its record's bytes.
    pub sequence: u64,
    pub record: Digest,
    pub kind: ReceiptKind,
    /// When the trial ended.
    pub time: Timestamp,
    pub passed: bool,
    /// The epochs whose data identity an identity opened in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<u32>,
    /// SHA-256s of the key files through which it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Digest>,
    /// Stored objects that are not what their name or the record says: `packs/….age`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<String>,
    /// How long the restore took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_ms: Option<u64>,
}

impl Receipt {
    pub const FORMAT: u64 = 1;

    /// Signs the receipt as one line of JSON.
    pub fn sign(&self, signer: &Signer) -> Result<Signed, RecordError> {
        let line = serde_json::to_string(self).map_err(|error| FormatError::invalid(error.to_string()))?;
        Ok(signer.sign(&line)?)
    }
}

/// A receipt whose signature holds. Whose signature it is, is for the reader to judge.
#[derive(Clone)]
pub struct SignedReceipt {
    pub receipt: Receipt,
    pub signed: Signed,
    /// When the store got it, by the store's clock.
    pub stored: Timestamp,
}

impl SignedReceipt {
    /// Reads a receipt about the snapshot `sequence` of the repository `id`.
    pub fn read(bytes: Bytes, sequence: u64, id: &RepositoryId, stored: Timestamp) -> Result<Self, RecordError> {
        let signed = Signed::verify(bytes)?;
        let receipt: Receipt = parse(signed.line(), Receipt::FORMAT)?;
        if receipt.repository != *id || receipt.sequence != sequence {
            return Err(FormatError::invalid("it is about another snapshot").into());
        }
        Ok(Self { receipt, signed, stored })
    }

    /// The earlier of the signed time and the store's: the signer's clock may run ahead.
    pub fn time(&self) -> Timestamp {
        self.receipt.time.min(self.stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{CryptoError, sha256};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("a time")
    }

    fn receipt(repository: &RepositoryId) -> Receipt {
        Receipt {
            format: Receipt::FORMAT,
            repository: repository.clone(),
            sequence: 1,
            record: sha256(b"record"),
            kind: ReceiptKind::Check,
            time: at(5),
            passed: true,
            epochs: vec![u32::MAX],
            keys: Vec::new(),
            bad: vec!["packs/x.age".to_owned()],
            recovery_ms: Some(u64::MAX),
        }
    }

    /// Reads a line, signed, as a receipt about snapshot 1.
    fn read(line: &str, id: &RepositoryId) -> Result<SignedReceipt, RecordError> {
        let signed = Signer::generate().and_then(|signer| signer.sign(line)).expect("signed");
        SignedReceipt::read(signed.bytes().clone(), 1, id, at(9))
    }

    #[test]
    fn a_receipt_of_another_repository_or_under_another_number_is_none() {
        let (id, signer) = (RepositoryId::generate(), Signer::generate().expect("a key"));
        let signed = receipt(&id).sign(&signer).expect("signed");
        let read = |sequence: u64, id: &RepositoryId| {
            SignedReceipt::read(signed.bytes().clone(), sequence, id, at(1)).map(|read| read.receipt)
        };
        assert_eq!(read(1, &id).expect("it is of this one"), receipt(&id));
        for wrong in [read(2, &id), read(u64::MAX, &id), read(1, &RepositoryId::generate())] {
            assert!(matches!(wrong, Err(RecordError::Format(FormatError::Invalid(_)))));
        }
    }

    #[test]
    fn a_receipt_has_exact_bytes() {
        let (id, signer) = (RepositoryId::generate(), Signer::generate().expect("a key"));
        let bytes = receipt(&id).sign(&signer).expect("signed").bytes().to_vec();
        let crlf = String::from_utf8(bytes.clone()).expect("text").replace('\n', "\r\n").into_bytes();
        for other in [[&bytes[..], b"\n"].concat(), bytes[..bytes.len() - 1].to_vec(), crlf] {
            let error = SignedReceipt::read(other.into(), 1, &id, at(1)).map(drop).expect_err("refused");
            assert!(matches!(error, RecordError::Signature(CryptoError::Damaged(_))), "{error}");
        }
    }

    #[test]
    fn members_that_are_not_known_are_ignored() {
        let id = RepositoryId::generate();
        let mut json = serde_json::to_value(receipt(&id)).expect("JSON");
        json["later"] = serde_json::json!({ "any": 1 });
        assert_eq!(read(&json.to_string(), &id).expect("a receipt").receipt, receipt(&id));
    }

    #[test]
    fn the_time_is_the_earlier_of_the_signed_and_the_stored_one() {
        let id = RepositoryId::generate();
        for (signed, time) in [(5, 5), (9, 9), (10, 9)] {
            let line = serde_json::to_string(&Receipt { time: at(signed), ..receipt(&id) }).expect("JSON");
            assert_eq!(read(&line, &id).expect("a receipt").time(), at(time));
        }
    }
}
