//! Stored objects that somebody who is believed found bad: the host's own checks, and receipts of known drillers.
//!
//! A signer's newest check receipt names all that it holds bad at that time; what later drills of its failed on comes on
//! top. So nothing is taken back by silence, and a later check can say that an object is whole again.
//!
//! A drill that failed says of its snapshot that it does not come back, whatever stood in the way, until a later one passes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::crypto::{Digest, PublicSigner};
use crate::error::OperationError;
use crate::format::{ReceiptKind, Record, SignedReceipt, SignedRecord, layout};
use crate::host::Findings;
use crate::repository::Remote;
use crate::repository::receipts::{last_drill_of, receipts};
use crate::repository::{Listing, missing_of};
use crate::store::Key;

/// What a name in a receipt or a finding stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bad {
    /// A pack or a manifest, by the hash that is its name.
    Sealed(Digest),
    /// A wrapped key, by its epoch and generation.
    Key(u32, u32),
}

/// Packs, manifests and wrapped keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadObjects {
    /// They hurt every snapshot that needs them.
    bad: BTreeSet<Bad>,
    /// In them something may be wrong: they hurt none, and nothing is to be made of them any more.
    doubted: BTreeSet<Bad>,
    /// Snapshots whose last drill failed: the number and the digest of the record.
    failed: BTreeSet<(u64, Digest)>,
}

impl BadObjects {
    /// What is known to a machine with its state in `state_dir` that believes `believed`.
    pub async fn load(remote: &Remote, believed: &[PublicSigner], state_dir: &Path) -> Result<Self, OperationError> {
        Self::known(&receipts(remote, believed).await?, state_dir)
    }

    /// The same, from receipts that were read before.
    pub(crate) fn known(receipts: &[SignedReceipt], state_dir: &Path) -> Result<Self, OperationError> {
        let mut all = Self::of(receipts);
        all.hold(&Findings::load(state_dir)?);
        Ok(all)
    }

    /// What `receipts`, all of them by believed signers, hold bad.
    pub fn of(receipts: &[SignedReceipt]) -> Self {
        let mut signers: Vec<&PublicSigner> = Vec::new();
        for receipt in receipts {
            if !signers.contains(&receipt.signed.signer()) {
                signers.push(receipt.signed.signer());
            }
        }
        let failed = last_drills(receipts).filter(|last| !last.receipt.passed);
        let failed = failed.map(|last| (last.receipt.sequence, last.receipt.record)).collect();
        let mut all = Self { failed, ..Self::default() };
        signers.into_iter().for_each(|signer| all.hold(&Self::held_by(receipts, signer)));
        all
    }

    fn hold(&mut self, findings: &Findings) {
        self.bad.extend(findings.bad.iter().filter_map(|name| bad(name)));
        self.doubted.extend(findings.contents.iter().filter_map(|name| bad(name)));
    }

    /// What `signer` holds bad, by those of `receipts` that it signed.
    pub fn held_by(receipts: &[SignedReceipt], signer: &PublicSigner) -> Findings {
        let own = || receipts.iter().filter(|receipt| receipt.signed.signer() == signer);
        let checks = own().filter(|own| own.receipt.kind == ReceiptKind::Check);
        let newest = checks.max_by_key(|own| own.order());
        let drills = own().filter(|own| own.receipt.kind == ReceiptKind::Drill && !own.receipt.passed);
        let later = drills.filter(|drill| newest.is_none_or(|newest| drill.order() > newest.order()));
        let findings = |signed: &SignedReceipt| Findings {
            bad: signed.receipt.bad.iter().cloned().collect(),
            contents: signed.receipt.contents.iter().cloned().collect(),
        };
        newest.into_iter().chain(later).map(findings).fold(Findings::default(), Findings::with)
    }

    /// Whether the snapshot is whole, and the last drill of it, if there was any, did not fail.
    pub(crate) fn is_sound(&self, signed: &SignedRecord, listing: &Listing) -> bool {
        let failed = self.failed.contains(&(signed.record.sequence, signed.signed.digest()));
        !failed && self.is_whole(&signed.record, listing)
    }

    /// Whether all that a snapshot needs is there, a wrapped key of each epoch too, and nothing of it is known to be bad.
    pub(crate) fn is_whole(&self, record: &Record, listing: &Listing) -> bool {
        let is_bad = |name: Digest| self.bad.contains(&Bad::Sealed(name));
        let hurt = is_bad(record.manifest.name) || record.packs().any(|pack| is_bad(pack.0));
        let has_key = |epoch: u32| {
            let mut keys = listing.keys.keys().filter(|(of, _)| *of == epoch);
            keys.any(|(epoch, generation)| !self.bad.contains(&Bad::Key(*epoch, *generation)))
        };
        let mut epochs = record.epochs.iter().map(|epoch| epoch.epoch).chain([record.manifest.epoch]);
        !hurt && missing_of(record, listing).is_empty() && epochs.all(has_key)
    }

    /// Whether the object called `name` is only in doubt: no snapshot is known to be hurt by it.
    pub(crate) fn is_only_doubted(&self, name: &str) -> bool {
        bad(name).is_some_and(|named| self.doubted.contains(&named) && !self.bad.contains(&named))
    }

    /// Takes them out of a listing, as if they had been deleted: what still exists on the host is uploaded anew.
    pub(crate) fn strike_from(&self, listing: &mut Listing) {
        for bad in self.bad.union(&self.doubted) {
            // The host judges the keys itself, by its copies.
            if let Bad::Sealed(name) = bad {
                listing.packs.remove(name);
                listing.manifests.remove(name);
            }
        }
    }
}

/// Of every snapshot that somebody drilled, the last one.
fn last_drills(receipts: &[SignedReceipt]) -> impl Iterator<Item = &SignedReceipt> {
    let drills = receipts.iter().filter(|signed| signed.receipt.kind == ReceiptKind::Drill);
    let tried: BTreeSet<(u64, Digest)> = drills.map(|drill| (drill.receipt.sequence, drill.receipt.record)).collect();
    tried.into_iter().filter_map(|tried| last_drill_of(tried, receipts.iter()))
}

/// `None` where the name is that of no object which a snapshot needs.
fn bad(name: &str) -> Option<Bad> {
    let key = Key::new(name).ok()?;
    let wrapped = || layout::epoch_and_generation(&key).map(|(epoch, generation)| Bad::Key(epoch, generation));
    layout::digest(&key).map(Bad::Sealed).or_else(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Signer, sha256};
    use crate::format::{Receipt, RepositoryId};

    fn receipt(signer: &Signer, kind: ReceiptKind, minute: i64, bad: &[&str]) -> SignedReceipt {
        let receipt = Receipt {
            format: Receipt::FORMAT,
            repository: RepositoryId::generate(),
            sequence: 1,
            record: sha256(b"record"),
            kind,
            time: jiff::Timestamp::from_second(minute * 60).expect("a time"),
            passed: bad.is_empty(),
            epochs: Vec::new(),
            keys: Vec::new(),
            bad: bad.iter().map(|name| layout::pack(&sha256(name.as_bytes())).to_string()).collect(),
            contents: Vec::new(),
            recovery_ms: None,
        };
        let signed = receipt.sign(signer).expect("signed");
        SignedReceipt { stored: receipt.time, receipt, signed }
    }

    /// Signed by a clock that ran a year ahead.
    fn ahead(mut early: SignedReceipt, signer: &Signer) -> SignedReceipt {
        early.receipt.time += jiff::SignedDuration::from_hours(365 * 24);
        early.signed = early.receipt.sign(signer).expect("signed");
        early
    }

    #[test]
    fn a_receipt_from_the_future_counts_from_when_it_was_stored() {
        use ReceiptKind::{Check, Drill};
        let signer = Signer::generate().expect("a key");
        let wrong = ahead(receipt(&signer, Check, 1, &["a"]), &signer);
        let bad = |name: &str| Bad::Sealed(sha256(name.as_bytes()));
        let all = [wrong.clone(), receipt(&signer, Drill, 2, &["b"])];
        assert_eq!(BadObjects::of(&all).bad, BTreeSet::from([bad("a"), bad("b")]));
        assert_eq!(BadObjects::of(&[wrong, receipt(&signer, Check, 2, &[])]), BadObjects::default());
    }

    #[test]
    fn a_signers_newest_check_counts_with_the_drills_that_failed_after_it() {
        use ReceiptKind::{Check, Confirm, Drill};
        let (alice, bob) = (Signer::generate().expect("a key"), Signer::generate().expect("a key"));
        let cases: [(&[SignedReceipt], &[&str]); 5] = [
            (&[receipt(&alice, Check, 1, &["a", "b"])], &["a", "b"]),
            (&[receipt(&alice, Check, 2, &["b"]), receipt(&alice, Check, 1, &["a"])], &["b"]),
            (&[receipt(&alice, Drill, 1, &["a"]), receipt(&alice, Check, 2, &[])], &[]),
            (&[receipt(&alice, Drill, 3, &["c"]), receipt(&alice, Check, 2, &["a"])], &["a", "c"]),
            (
                &[receipt(&alice, Check, 1, &["a"]), receipt(&bob, Check, 2, &[]), receipt(&bob, Confirm, 3, &["x"])],
                &["a"],
            ),
        ];
        for (receipts, expected) in cases {
            let expected = expected.iter().map(|name| Bad::Sealed(sha256(name.as_bytes()))).collect();
            assert_eq!(BadObjects::of(receipts).bad, expected);
        }
    }
}
