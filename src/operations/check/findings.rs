//! Remembering what is bad, and telling others: the host in its own state, anybody else by a receipt in the repository.

use std::collections::BTreeSet;
use std::path::Path;
use std::slice;

use super::{Check, Needs, OperationError, ProblemKind, Remote};
use crate::clock;
use crate::operations::BadObjects;
use crate::operations::receipts::{put_if_allowed, receipts};
use crate::repository::{Receipt, ReceiptKind, SignedRecord, layout};
use crate::state::{Findings, driller, known_driller};
use crate::store::Key;

impl Check<'_> {
    /// What is held bad after this check: what it found, and what was held bad before and was not read again. Only what
    /// a snapshot still needs, by `needed`.
    fn held_bad(&self, before: &BTreeSet<String>, needed: &Needs) -> BTreeSet<String> {
        let still = before.iter().filter(|name| !self.good.contains(*name));
        let found = self.problems.iter().map(|problem| &problem.object);
        still.chain(found).filter(|name| needed_key(name, needed).is_some()).cloned().collect()
    }

    /// What was held bad `before` and was not read again is a problem as it was; a wrapped key where its epoch has no other.
    pub fn held<'n>(&mut self, before: impl Iterator<Item = &'n String>, needed: &Needs) {
        let still: BTreeSet<&str> = before.filter(|name| !self.good.contains(*name)).map(String::as_str).collect();
        let epoch = |key: &Key| Some(layout::epoch_and_generation(key)?.0);
        for name in &still {
            let Some(key) = needed_key(name, needed) else { continue };
            let other = |other: &Key| epoch(other) == epoch(&key) && !still.contains(other.as_str());
            let is_spare = epoch(&key).is_some() && needed.keys.iter().any(other);
            if let Some(snapshots) = self.needs.snapshots(&key).filter(|_| !is_spare).cloned() {
                let why = "a check or drill on this machine found it bad, and it was not read again";
                self.problems.add(*name, ProblemKind::Held, why, snapshots);
            }
        }
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

/// The key of what a snapshot still needs.
fn needed_key(name: &str, needed: &Needs) -> Option<Key> {
    Key::new(name).ok().filter(|key| needed.get(key).is_some() || needed.keys.contains(key))
}

/// What receipts of this machine's own key hold bad: its checks and its failed drills.
pub(super) async fn told(remote: &Remote, state_root: &Path) -> Result<BTreeSet<String>, OperationError> {
    let Some(own) = known_driller(state_root)? else { return Ok(BTreeSet::new()) };
    let own = own.public();
    let receipts = receipts(remote, slice::from_ref(&own)).await?;
    Ok(BadObjects::held_by(&receipts, &own).cloned().collect())
}
