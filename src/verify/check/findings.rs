//! Remembering what is bad, and telling others: the host in its own state, anybody else by a receipt in the repository.

use std::collections::BTreeSet;
use std::path::Path;
use std::slice;

use super::{Check, Needs, OperationError, ProblemKind, Remote};
use crate::clock;
use crate::format::{Receipt, ReceiptKind, SignedRecord, layout};
use crate::history::BadObjects;
use crate::host::{Findings, driller, known_driller};
use crate::repository::receipts::{put_if_allowed, receipts};
use crate::store::Key;

impl Check<'_> {
    /// What is held bad after this check: what it found, and what was held bad `before` and is not cleared. Only what a
    /// snapshot still needs.
    fn held_after(&self, before: &Findings) -> Findings {
        let found = |of_contents: bool| {
            let problems = self.problems.iter().filter(move |problem| !of_contents || problem.kind.is_of_contents());
            problems.map(|problem| &problem.object)
        };
        let needed = |name: &&String| needed_key(name, &self.all).is_some();
        let still = before.contents.iter().filter(|name| !self.clears(name, before));
        let contents = still.chain(found(true)).chain(&self.doubted).filter(needed).cloned().collect();
        let still = before.bad.iter().filter(|name| !self.clears(name, before));
        let bad = still.chain(found(false)).filter(needed).cloned().collect();
        Findings { bad, contents }
    }

    /// Whether this check refutes what was held `before` against an object: the hash where that was wrong; where it was
    /// right and the contents were not, only whoever opened the object and compared all that is made of it.
    fn clears(&self, name: &str, before: &Findings) -> bool {
        let is_opened = || match Key::new(name).ok().as_ref().and_then(|key| self.all.get(key)) {
            Some(need) => need.snapshots.is_subset(&self.compared),
            None => self.opened_keys.contains(name),
        };
        self.good.contains(name) && (!before.contents.contains(name) || is_opened())
    }

    /// What was held bad `before` and is not cleared is a problem as it was; a wrapped key where its epoch has no other.
    pub fn held(&mut self, before: &Findings) {
        let still: BTreeSet<&String> = before.bad.iter().filter(|name| !self.clears(name, before)).collect();
        let epoch = |key: &Key| Some(layout::epoch_and_generation(key)?.0);
        for name in &still {
            let Some(key) = needed_key(name, &self.all) else { continue };
            let is_bad = |other: &Key| still.iter().any(|name| **name == other.as_str());
            let other = |other: &Key| epoch(other) == epoch(&key) && !is_bad(other);
            let is_spare = epoch(&key).is_some() && self.all.keys.iter().any(other);
            if self.needs.snapshots(&key).is_some() && !is_spare {
                let why = match before.contents.contains(*name) {
                    false => "a check or drill on this machine found it bad, and it was not read again",
                    true => {
                        "a check or drill on this machine opened it and found it bad, and it was not opened again with all \
                         that needs it"
                    }
                };
                self.problem(name.as_str(), ProblemKind::Held, why);
            }
        }
    }

    /// The host believes its own checks without a receipt.
    pub fn remember(&self, state_dir: &Path) -> Result<(), OperationError> {
        let before = Findings::load(state_dir)?;
        let after = self.held_after(&before);
        if after != before {
            after.save(state_dir)?;
        }
        Ok(())
    }

    /// Puts a receipt where what this machine holds bad is not what `before`, its receipts, say.
    pub async fn put_findings(
        &mut self,
        state_root: &Path,
        before: Findings,
        newest: &SignedRecord,
    ) -> Result<(), OperationError> {
        let after = self.held_after(&before);
        if after.is_empty() && before.is_empty() {
            return Ok(());
        }
        let signer = driller(state_root)?;
        self.signer = Some(signer.public());
        if after == before {
            return Ok(());
        }
        let receipt = Receipt {
            format: Receipt::FORMAT,
            repository: self.remote.id().clone(),
            sequence: newest.record.sequence,
            record: newest.signed.digest(),
            kind: ReceiptKind::Check,
            time: clock::now(),
            passed: after.is_empty(),
            epochs: Vec::new(),
            keys: Vec::new(),
            bad: after.bad.into_iter().collect(),
            contents: after.contents.into_iter().collect(),
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
pub(super) async fn told(remote: &Remote, state_root: &Path) -> Result<Findings, OperationError> {
    let Some(own) = known_driller(state_root)? else { return Ok(Findings::default()) };
    let own = own.public();
    let receipts = receipts(remote, slice::from_ref(&own)).await?;
    Ok(BadObjects::held_by(&receipts, &own))
}
