//! What is known of snapshots beyond their records: whether they are good, the last drill of each, and what each takes.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::crypto::{Digest, PublicSigner};
use crate::error::OperationError;
use crate::format::{Health, ReceiptKind, Record, SignedReceipt, SignedRecord, layout};
use crate::repository::receipts::receipts_in;
use crate::repository::{Listing, Remote, is_complete};
use crate::store::ObjectInfo;

/// Whether a snapshot whose record verifies is good: every source is `ok` or `unchecked`, and all that it needs is listed.
pub fn is_good(record: &Record, listing: &Listing) -> bool {
    record.worst_health() <= Health::Unchecked && is_complete(record, listing)
}

/// What receipts say of snapshots: evidence for people. Nothing that a backup uploads or retention keeps depends on it.
pub struct Verdicts {
    /// The last drill of each snapshot, by its number and the digest of its record.
    drills: HashMap<(u64, Digest), Drill>,
}

/// The last drill of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    pub passed: bool,
    /// The earlier of the signed time and the server's.
    pub time: Timestamp,
    /// The key that signed the receipt.
    pub signer: PublicSigner,
}

impl Verdicts {
    /// Lists the receipts and reads them.
    pub async fn load(remote: &Remote) -> Result<Self, OperationError> {
        Self::of(remote, &remote.store.list(layout::RECEIPTS).await?.objects).await
    }

    /// Reads the receipts among `objects`, which were listed before.
    pub async fn of(remote: &Remote, objects: &[ObjectInfo]) -> Result<Self, OperationError> {
        let receipts = receipts_in(remote, objects.to_vec()).await?;
        Ok(Self::of_receipts(receipts.iter().map(|(_, receipt)| receipt)))
    }

    fn of_receipts<'a>(receipts: impl Iterator<Item = &'a SignedReceipt>) -> Self {
        let mut drills: HashMap<(u64, Digest), (Drill, Timestamp)> = HashMap::new();
        for signed in receipts.filter(|signed| signed.receipt.kind == ReceiptKind::Drill) {
            let receipt = &signed.receipt;
            let drill = Drill { passed: receipt.passed, time: signed.time(), signer: signed.signed.signer().clone() };
            // Where two ended at the same second, the one that says so later was stored later.
            let order = (drill.time, signed.stored);
            let last =
                drills.entry((receipt.sequence, receipt.record)).or_insert_with(|| (drill.clone(), signed.stored));
            if order > (last.0.time, last.1) {
                *last = (drill, signed.stored);
            }
        }
        Self { drills: drills.into_iter().map(|(snapshot, (drill, _))| (snapshot, drill)).collect() }
    }

    /// The last drill of exactly this snapshot.
    pub fn drill(&self, signed: &SignedRecord) -> Option<Drill> {
        self.drills.get(&(signed.record.sequence, signed.signed.digest())).cloned()
    }
}

/// Counts what snapshots take, each stored object with the first that needs it.
#[derive(Default)]
pub struct StorageUse(HashSet<Digest>);

impl StorageUse {
    /// Stored bytes that no record before this one needs.
    pub fn add(&mut self, record: &Record) -> u64 {
        let packs = record.packs().map(|pack| (pack.0, pack.1));
        let objects = packs.chain([(record.manifest.name, record.manifest.bytes)]);
        objects.filter(|(name, _)| self.0.insert(*name)).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Signer, sha256};
    use crate::format::{Receipt, RepositoryId};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("a time")
    }

    /// A receipt about snapshot 1 whose record has the digest of `record`, signed and stored at these minutes.
    fn receipt(signer: &Signer, kind: ReceiptKind, record: &str, passed: bool, minutes: [i64; 2]) -> SignedReceipt {
        let [time, stored] = minutes.map(at);
        let json = serde_json::json!({
            "format": Receipt::FORMAT, "repository": RepositoryId::generate(), "sequence": 1,
            "record": sha256(record.as_bytes()), "kind": kind, "time": time, "passed": passed,
        });
        let receipt: Receipt = serde_json::from_value(json).expect("a receipt");
        let signed = receipt.sign(signer).expect("signed");
        SignedReceipt { receipt, signed, stored }
    }

    fn last(receipts: &[SignedReceipt], record: &str) -> Option<Drill> {
        Verdicts::of_receipts(receipts.iter()).drills.get(&(1, sha256(record.as_bytes()))).cloned()
    }

    #[test]
    fn the_last_drill_is_the_newest_of_exactly_this_record_whatever_its_signer() {
        use ReceiptKind::{Check, Confirm, Drill as Drilled};
        let (alice, bob) = (Signer::generate().expect("a key"), Signer::generate().expect("a key"));
        let mut receipts = vec![
            receipt(&alice, Drilled, "a", true, [1, 1]),
            receipt(&bob, Drilled, "a", false, [2, 2]),
            receipt(&bob, Drilled, "b", true, [3, 3]),
            receipt(&alice, Check, "a", true, [4, 4]),
            receipt(&alice, Confirm, "a", true, [5, 5]),
        ];
        for _ in 0..2 {
            let drill = last(&receipts, "a").expect("drilled");
            assert_eq!((drill.passed, drill.time, drill.signer), (false, at(2), bob.public()));
            assert!(last(&receipts, "b").expect("drilled").passed);
            assert_eq!(last(&receipts, "c"), None);
            receipts.reverse();
        }
    }

    #[test]
    fn a_receipt_from_the_future_counts_from_when_it_was_stored() {
        let signer = Signer::generate().expect("a key");
        let ahead = receipt(&signer, ReceiptKind::Drill, "a", true, [9000, 1]);
        assert_eq!(last(std::slice::from_ref(&ahead), "a").expect("drilled").time, at(1));
        let later = receipt(&signer, ReceiptKind::Drill, "a", false, [2, 2]);
        assert!(!last(&[later, ahead], "a").expect("drilled").passed);
    }
}
