//! What is known of snapshots beyond their records: the last drill of each, which are hurt, and what each takes.

use std::collections::HashSet;

use super::receipts::{last_drill, receipts};
use super::remote::Listing;
use super::{BadObjects, OperationError, Reader, Remote};
use crate::crypto::{Digest, PublicSigner};
use crate::repository::{Record, SignedReceipt, SignedRecord};

pub struct Verdicts {
    receipts: Vec<SignedReceipt>,
    bad: BadObjects,
}

impl Verdicts {
    pub async fn load(remote: &Remote, reader: &Reader, believed: &[PublicSigner]) -> Result<Self, OperationError> {
        let receipts = receipts(remote, believed).await?;
        let bad = BadObjects::known(&receipts, &reader.state_dir(remote))?;
        Ok(Self { receipts, bad })
    }

    /// The last drill of exactly this snapshot.
    pub fn drill(&self, signed: &SignedRecord) -> Option<&SignedReceipt> {
        last_drill(signed, self.receipts.iter())
    }

    /// Whether all that the snapshot needs is in `listing` and not known to be bad.
    pub fn is_whole(&self, record: &Record, listing: &Listing) -> bool {
        self.bad.is_whole(record, listing)
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
