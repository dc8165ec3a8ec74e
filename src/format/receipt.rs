//! The receipt: what somebody found who tried a snapshot, signed with his own key and never the host's.
//!
//! Public like a record: verdicts, times and the names of stored objects; never a source's name or a count of its rows.

use std::cmp::Reverse;
use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RepositoryId;
use super::format::{FormatError, parse};
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
    /// An identity of a new set opened the manifest through a new generation.
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
    /// SHA-256s of the wrapped keys through which it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Digest>,
    /// Stored objects that are not what their name or the record says: `packs/….age`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<String>,
    /// Stored objects that have the right hash, and in which something is wrong or may be: only who opens them can tell.
    /// Those that are in `bad`, too, hurt whatever needs them; of the others a backup just takes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<String>,
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

/// A receipt whose signature holds. Whether its signer is believed is for the reader to judge.
#[derive(Clone)]
pub struct SignedReceipt {
    pub receipt: Receipt,
    pub signed: Signed,
    /// When the store got it, by the store's clock; see [`SignedReceipt::settle`].
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

    /// Makes copies under later names count for nothing. One that was stored again has the time at which it was stored
    /// first; and of those that a clock which ran ahead signed, none was stored after one that its signer signed later:
    /// the times that he writes ascend.
    pub fn settle<'a>(receipts: impl IntoIterator<Item = &'a mut Self>) {
        let mut receipts: Vec<&mut Self> = receipts.into_iter().collect();
        receipts.sort_by_key(|receipt| receipt.stored);
        let mut first: HashMap<(String, Vec<u8>), Timestamp> = HashMap::new();
        for receipt in &mut receipts {
            let content = (receipt.signed.signer().to_string(), receipt.signed.line().to_vec());
            receipt.stored = *first.entry(content).or_insert(receipt.stored);
        }
        receipts.retain(|receipt| receipt.receipt.time > receipt.stored);
        receipts.sort_by_key(|receipt| Reverse(receipt.receipt.time));
        let mut earliest: HashMap<String, Timestamp> = HashMap::new();
        for receipt in receipts {
            let earliest = earliest.entry(receipt.signed.signer().to_string()).or_insert(receipt.stored);
            *earliest = receipt.stored.min(*earliest);
            receipt.stored = *earliest;
        }
    }

    /// When it was signed; the store's time of it where that is earlier: the signer's clock may have run ahead.
    pub fn time(&self) -> Timestamp {
        self.receipt.time.min(self.stored)
    }

    /// The place of this one among its signer's.
    pub fn order(&self) -> (Timestamp, Timestamp) {
        (self.time(), self.receipt.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("a time")
    }

    fn receipt(repository: &RepositoryId, minute: i64) -> Receipt {
        Receipt {
            format: Receipt::FORMAT,
            repository: repository.clone(),
            sequence: 1,
            record: sha256(b"record"),
            kind: ReceiptKind::Check,
            time: at(minute),
            passed: true,
            epochs: Vec::new(),
            keys: Vec::new(),
            bad: Vec::new(),
            contents: Vec::new(),
            recovery_ms: None,
        }
    }

    /// The minutes in the receipts of one signer, given with those at which they were stored, in their order.
    fn order(stored: &[(i64, i64)]) -> Vec<i64> {
        let (id, signer) = (RepositoryId::generate(), Signer::generate().expect("a key"));
        let read = |(minute, stored): &(i64, i64)| {
            let signed = receipt(&id, *minute).sign(&signer).expect("signed");
            SignedReceipt::read(Bytes::copy_from_slice(signed.bytes()), 1, &id, at(*stored)).expect("a receipt")
        };
        let mut receipts: Vec<SignedReceipt> = stored.iter().map(read).collect();
        SignedReceipt::settle(&mut receipts);
        receipts.sort_by_key(SignedReceipt::order);
        receipts.iter().map(|receipt| receipt.receipt.time.as_second() / 60).collect()
    }

    #[test]
    fn a_copy_of_a_receipt_by_a_clock_that_ran_ahead_is_no_newer_than_it() {
        // The copies beside what they are copies of; and where that was taken away.
        assert_eq!(order(&[(1000, 1), (1001, 2), (1000, 3)]), [1000, 1000, 1001]);
        assert_eq!(order(&[(1001, 2), (1000, 3)]), [1000, 1001]);
        assert_eq!(order(&[(1000, 1), (1001, 2), (1000, 2000)]), [1000, 1000, 1001], "when its time has come, too");
        assert_eq!(order(&[(1000, 1), (1000, 9), (5, 5)]), [1000, 1000, 5], "the clock was set right");
        assert_eq!(order(&[(5, 5), (7, 7), (5, 9)]), [5, 5, 7]);
    }

    #[test]
    fn a_receipt_of_another_repository_or_under_another_number_is_none() {
        let (id, signer) = (RepositoryId::generate(), Signer::generate().expect("a key"));
        let signed = receipt(&id, 1).sign(&signer).expect("signed");
        let read = |sequence: u64, id: &RepositoryId| {
            SignedReceipt::read(Bytes::copy_from_slice(signed.bytes()), sequence, id, at(1)).map(|_| ())
        };
        read(1, &id).expect("it is of this one");
        for wrong in [read(2, &id), read(1, &RepositoryId::generate())] {
            assert_eq!(wrong.expect_err("refused").to_string(), "it is about another snapshot");
        }
    }
}
