//! Remembering what is bad, and telling others: the host in its own state, anybody else by a receipt in the repository.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Check, Needs, OperationError};
use crate::clock;
use crate::operations::receipts::{put_if_allowed, receipts};
use crate::repository::{Receipt, ReceiptKind, SignedReceipt, SignedRecord};
use crate::state::{Findings, driller, known_driller};
use crate::store::Key;

impl Check<'_> {
    /// What is held bad after this check: what it found, and what was held bad before and was not read again. Only what
    /// a snapshot still needs, by `needed`.
    fn held_bad(&self, before: &BTreeSet<String>, needed: &Needs) -> BTreeSet<String> {
        let is_needed = |name: &&String| Key::new(name.as_str()).is_ok_and(|key| needed.get(&key).is_some());
        let still = before.iter().filter(|name| !self.good.contains(*name));
        let found = self.problems.iter().map(|problem| &problem.object);
        still.chain(found).filter(is_needed).cloned().collect()
    }

    /// The host believes its own checks without a receipt.
    pub fn remember(&self, state_dir: &Path, needed: &Needs) -> Result<(), OperationError> {
        let before = Findings::load(state_dir)?;
        let after = Findings { bad: self.held_bad(&before.bad, needed) };
        if after != before {
            after.save(state_dir)?;
        }
        Ok(())
    }

    /// Puts a receipt where what this machine holds bad is not what its newest one says.
    pub async fn put_findings(
        &mut self,
        state_root: &Path,
        newest: &SignedRecord,
        needed: &Needs,
    ) -> Result<(), OperationError> {
        let told = match known_driller(state_root)? {
            Some(own) => newest_check(receipts(self.remote, &[own.public()]).await?),
            None => None,
        };
        let before: BTreeSet<String> = told.iter().flat_map(|told| told.receipt.bad.iter().cloned()).collect();
        let bad = self.held_bad(&before, needed);
        if bad.is_empty() && before.is_empty() {
            return Ok(());
        }
        let signer = driller(state_root)?;
        self.signer = Some(signer.public());
        if bad == before {
            return Ok(());
        }
        let receipt = Receipt {
            format: Receipt::FORMAT,
            repository: self.remote.id().clone(),
            sequence: newest.record.sequence,
            record: newest.signed.digest(),
            kind: ReceiptKind::Check,
            time: clock::now(),
            passed: bad.is_empty(),
            epochs: Vec::new(),
            bad: bad.into_iter().collect(),
            recovery_ms: None,
        };
        match put_if_allowed(self.remote, &receipt, &signer).await? {
            Ok(key) => self.receipt = Some(key),
            Err(warning) => self.warnings.push(warning),
        }
        Ok(())
    }
}

fn newest_check(receipts: Vec<SignedReceipt>) -> Option<SignedReceipt> {
    let checks = receipts.into_iter().filter(|receipt| receipt.receipt.kind == ReceiptKind::Check);
    checks.max_by_key(|receipt| receipt.receipt.time)
}
