//! Remembering what is bad, and telling others: the host in its own state, anybody else by a receipt in the repository.

use std::collections::BTreeSet;
use std::path::Path;
use std::slice;

use super::{Check, Needs, OperationError, Remote};
use crate::clock;
use crate::operations::BadObjects;
use crate::operations::receipts::{put_if_allowed, receipts};
use crate::repository::{Receipt, ReceiptKind, SignedRecord};
use crate::state::{Findings, driller, known_driller};
use crate::store::Key;

impl Check<'_> {
    /// What is held bad after this check: what it found, and what was held bad before and was not read again. Only what
    /// a snapshot still needs, by `needed`.
    fn held_bad(&self, before: &BTreeSet<String>, needed: &Needs) -> BTreeSet<String> {
        let is_needed = |name: &&String| {
            Key::new(name.as_str()).is_ok_and(|key| needed.get(&key).is_some() || needed.keys.contains(&key))
        };
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

    /// Puts a receipt where what this machine holds bad is not what `before`, its receipts, say.
    pub async fn put_findings(
        &mut self,
        state_root: &Path,
        before: BTreeSet<String>,
        newest: &SignedRecord,
        needed: &Needs,
    ) -> Result<(), OperationError> {
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
            keys: Vec::new(),
            bad: bad.into_iter().collect(),
            recovery_ms: None,
        };
        match put_if_allowed(self.remote, receipt, &signer).await? {
            Ok(key) => self.receipt = Some(key),
            Err(warning) => self.warnings.push(warning),
        }
        Ok(())
    }
}

/// What receipts of this machine's own key hold bad: its checks and its failed drills.
pub(super) async fn told(remote: &Remote, state_root: &Path) -> Result<BTreeSet<String>, OperationError> {
    let Some(own) = known_driller(state_root)? else { return Ok(BTreeSet::new()) };
    let own = own.public();
    let receipts = receipts(remote, slice::from_ref(&own)).await?;
    Ok(BadObjects::held_by(&receipts, &own).cloned().collect())
}
