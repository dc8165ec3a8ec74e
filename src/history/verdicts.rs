//! What is known of snapshots beyond their records: the last drill of each, which are hurt, and what each takes.

use std::collections::HashSet;

use crate::crypto::{Digest, PublicSigner};
use crate::error::OperationError;
use crate::format::{Record, SignedReceipt, SignedRecord};
use crate::history::{BadObjects, Reader};
use crate::host::known_driller;
use crate::repository::Listing;
use crate::repository::Remote;
use crate::repository::receipts::{last_drill, receipts_of_anybody};

/// What the receipts and this machine's own checks say.
pub struct Verdicts {
    /// Of anybody.
    receipts: Vec<SignedReceipt>,
    /// The `drill_signers` of the configuration.
    known: Vec<PublicSigner>,
    /// This machine's own key, if it ever signed a receipt.
    own: Option<PublicSigner>,
    bad: BadObjects,
}

/// Whose word a drill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driller {
    /// One of the configured `drill_signers`: retention goes by it.
    Known,
    /// This machine, which is not one of them.
    Own,
    /// Anybody who may write to the repository.
    Unknown,
}

/// The last drill of a snapshot.
#[derive(Clone, Copy)]
pub struct Drill<'a> {
    pub receipt: &'a SignedReceipt,
    pub driller: Driller,
}

impl Verdicts {
    /// With `known` as the configured `drill_signers`.
    pub async fn load(remote: &Remote, reader: &Reader, known: &[PublicSigner]) -> Result<Self, OperationError> {
        let receipts = receipts_of_anybody(remote).await?.into_iter().map(|(_, receipt)| receipt).collect();
        let own = known_driller(&reader.state_root)?.map(|own| own.public());
        let mut verdicts = Self { receipts, known: known.to_vec(), own, bad: BadObjects::default() };
        let believed: Vec<SignedReceipt> = verdicts.believed().cloned().collect();
        verdicts.bad = BadObjects::known(&believed, &reader.state_dir(remote))?;
        Ok(verdicts)
    }

    /// The last drill of exactly this snapshot by somebody who is believed here; where there is none, by anybody.
    pub fn drill(&self, signed: &SignedRecord) -> Option<Drill<'_>> {
        let receipt = last_drill(signed, self.believed()).or_else(|| last_drill(signed, self.receipts.iter()))?;
        Some(Drill { receipt, driller: self.driller(receipt) })
    }

    /// Whether the snapshot is whole, and the last drill of it, if there was any, did not fail.
    pub fn is_sound(&self, signed: &SignedRecord, listing: &Listing) -> bool {
        self.bad.is_sound(signed, listing)
    }

    /// Whether all that the snapshot needs is in `listing` and not known to be bad.
    pub fn is_whole(&self, record: &Record, listing: &Listing) -> bool {
        self.bad.is_whole(record, listing)
    }

    fn believed(&self) -> impl Iterator<Item = &SignedReceipt> {
        self.receipts.iter().filter(|receipt| self.driller(receipt) != Driller::Unknown)
    }

    fn driller(&self, receipt: &SignedReceipt) -> Driller {
        let signer = receipt.signed.signer();
        if self.known.contains(signer) {
            Driller::Known
        } else if self.own.as_ref() == Some(signer) {
            Driller::Own
        } else {
            Driller::Unknown
        }
    }
}

/// Counts what snapshots take, each stored object with the first that needs it.
#[derive(Default)]
pub struct Bill(HashSet<Digest>);

impl Bill {
    /// Stored bytes that no record before this one needs.
    pub fn add(&mut self, record: &Record) -> u64 {
        let packs = record.packs().map(|pack| (pack.0, pack.1));
        let objects = packs.chain([(record.manifest.name, record.manifest.bytes)]);
        objects.filter(|(name, _)| self.0.insert(*name)).map(|(_, bytes)| bytes).sum()
    }
}
