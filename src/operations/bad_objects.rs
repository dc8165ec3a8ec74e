//! Stored objects that somebody who is believed found bad: the host's own checks, and receipts of known drillers.
//!
//! A signer's newest check receipt names all that it holds bad at that time; what later drills of its failed on comes on
//! top. So nothing is taken back by silence, and a later check can say that an object is whole again.

use std::collections::BTreeSet;
use std::path::Path;

use super::receipts::receipts;
use super::remote::Listing;
use super::{OperationError, Remote};
use crate::crypto::{Digest, PublicSigner};
use crate::repository::{ReceiptKind, Record, SignedReceipt, layout};
use crate::state::Findings;
use crate::store::Key;

/// Packs and manifests, by the hash that is their name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadObjects(BTreeSet<Digest>);

impl BadObjects {
    /// What is known to a machine with its state in `state_dir` that believes `believed`.
    pub async fn load(remote: &Remote, believed: &[PublicSigner], state_dir: &Path) -> Result<Self, OperationError> {
        Self::known(&receipts(remote, believed).await?, state_dir)
    }

    /// The same, from receipts that were read before.
    pub(super) fn known(receipts: &[SignedReceipt], state_dir: &Path) -> Result<Self, OperationError> {
        let own = Findings::load(state_dir)?.bad;
        let mut all = Self::of(receipts);
        all.0.extend(own.iter().filter_map(|name| digest(name)));
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
        Self(signers.into_iter().flat_map(|signer| Self::of_signer(receipts, signer)).collect())
    }

    fn of_signer(receipts: &[SignedReceipt], signer: &PublicSigner) -> BTreeSet<Digest> {
        let own = || receipts.iter().filter(|receipt| receipt.signed.signer() == signer).map(|own| &own.receipt);
        let newest = own().filter(|receipt| receipt.kind == ReceiptKind::Check).max_by_key(|receipt| receipt.time);
        let later = own().filter(|receipt| receipt.kind == ReceiptKind::Drill && !receipt.passed);
        let later = later.filter(|receipt| newest.is_none_or(|newest| receipt.time > newest.time));
        newest.into_iter().chain(later).flat_map(|receipt| &receipt.bad).filter_map(|name| digest(name)).collect()
    }

    /// Whether a snapshot needs one of them, and so cannot be restored in full.
    pub fn hurt(&self, record: &Record) -> bool {
        !self.0.is_empty()
            && (self.0.contains(&record.manifest.name) || record.packs().any(|pack| self.0.contains(&pack.0)))
    }

    /// Takes them out of a listing, as if they had been deleted: what still exists on the host is uploaded anew.
    pub(super) fn strike_from(&self, listing: &mut Listing) {
        for name in &self.0 {
            listing.packs.remove(name);
            listing.manifests.remove(name);
        }
    }
}

/// The hash in an object's name; `None` where it is neither a pack nor a manifest.
fn digest(name: &str) -> Option<Digest> {
    layout::digest(&Key::new(name).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Signer, sha256};
    use crate::repository::{Receipt, RepositoryId};

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
            bad: bad.iter().map(|name| layout::pack(&sha256(name.as_bytes())).to_string()).collect(),
            recovery_ms: None,
        };
        let signed = receipt.sign(signer).expect("signed");
        SignedReceipt { receipt, signed }
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
            let expected = expected.iter().map(|name| sha256(name.as_bytes())).collect();
            assert_eq!(BadObjects::of(receipts), BadObjects(expected));
        }
    }
}
