//! Receipts in the repository that cannot be read, and the receipt of a check itself. No command depends on a receipt that is
//! gone.

use std::path::Path;

use super::{Check, OperationError, ProblemKind};
use crate::clock;
use crate::finding::Finding;
use crate::format::{Receipt, ReceiptKind, SignedRecord, layout};
use crate::host::{StateError, driller};
use crate::repository::receipts::{put_if_allowed, unreadable_receipts};
use crate::store::Key;

impl Check<'_> {
    pub async fn receipts(&mut self) -> Result<(), OperationError> {
        for (key, why) in unreadable_receipts(self.remote).await? {
            self.problems.add(key.to_string(), ProblemKind::Receipt, why, []);
        }
        Ok(())
    }

    /// Stores a receipt of what this check read, about `newest`, signed by this machine's own key. Where that cannot be done, a
    /// note says so.
    pub async fn put_receipt(&mut self, state_root: &Path, newest: &SignedRecord) -> Result<(), OperationError> {
        let signer = match driller(state_root) {
            Ok(signer) => signer,
            Err(error @ StateError::Io { .. }) => {
                self.warnings.push(Finding::ReceiptNotStored { why: error.to_string() });
                return Ok(());
            }
            Err(damaged) => return Err(damaged.into()),
        };
        let receipt = Receipt {
            format: Receipt::FORMAT,
            repository: self.remote.id().clone(),
            sequence: newest.record.sequence,
            record: newest.signed.digest(),
            kind: ReceiptKind::Check,
            time: clock::now(),
            passed: self.problems.is_empty(),
            epochs: Vec::new(),
            keys: Vec::new(),
            bad: self.problems.iter().map(|problem| &problem.object).filter(|name| is_needed(name)).cloned().collect(),
            recovery_ms: None,
        };
        self.signer = Some(signer.public());
        match put_if_allowed(&self.remote.creating(newest.record.create_once), receipt, &signer).await? {
            Ok(key) => self.receipt = Some(key),
            Err(note) => self.warnings.push(note),
        }
        Ok(())
    }
}

/// Whether it is the name of something that a restore needs: a pack, a manifest or a key file.
pub(crate) fn is_needed(object: &str) -> bool {
    let is_needed = |key: Key| layout::digest(&key).is_some() || layout::epoch_and_version(&key).is_some();
    Key::new(object).is_ok_and(is_needed)
}
