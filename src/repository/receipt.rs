//! The receipt: what somebody found who tried a snapshot, signed with his own key and never the host's.
//!
//! Public like a record: verdicts, times and the names of stored objects; never a source's name or a count of its rows.

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

    /// When it was signed; the store's time of it where that is earlier: the signer's clock may have run ahead.
    pub fn time(&self) -> Timestamp {
        self.receipt.time.min(self.stored)
    }

    /// The place of this one among its signer's.
    pub fn order(&self) -> (Timestamp, Timestamp) {
        (self.time(), self.receipt.time)
    }
}
