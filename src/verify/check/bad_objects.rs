//! What becomes of the packs and manifests that a check found bad: the host remembers them for its next backup. On any other
//! machine nothing is remembered, and a person names them there with `sealift backup --replace`.

use super::{Check, OperationError};
use crate::host::{BadObjects, HostState};
use crate::store::Key;

impl Check<'_> {
    /// The packs and manifests that are bad after this check: what it found, and what was bad `before` and was not found good.
    /// Only what a snapshot still needs.
    fn bad_after(&self, before: &BadObjects) -> BadObjects {
        let found = |of_contents: bool| {
            let problems = self.problems.iter().filter(move |problem| !of_contents || problem.kind.is_of_contents());
            problems.map(|problem| &problem.object)
        };
        let is_needed = |name: &&String| Key::new(name.as_str()).is_ok_and(|key| self.all.get(&key).is_some());
        let still = before.contents.iter().filter(|name| !self.clears(name, before));
        let contents = still.chain(found(true)).chain(&self.doubted).filter(is_needed).cloned().collect();
        let still = before.bad.iter().filter(|name| !self.clears(name, before));
        let bad = still.chain(found(false)).filter(is_needed).cloned().collect();
        BadObjects { bad, contents }
    }

    /// Whether this check found an object good that was bad `before`: it was read whole; and where its contents were wrong, an
    /// identity compared everything that is made of it.
    fn clears(&self, name: &str, before: &BadObjects) -> bool {
        let is_compared = || {
            let key = Key::new(name).ok();
            let need = key.as_ref().and_then(|key| self.all.get(key));
            need.is_some_and(|need| need.snapshots.is_subset(&self.compared))
        };
        self.good.contains(name) && (!before.contents.contains(name) || is_compared())
    }

    /// On the host: its next backup treats them as missing.
    pub(super) fn remember(&self, host: &HostState) -> Result<(), OperationError> {
        let before = BadObjects::load(host.dir())?;
        let after = self.bad_after(&before);
        if after != before {
            after.save(host.dir())?;
        }
        if !self.problems.is_empty() {
            host.look_again()?;
        }
        Ok(())
    }

    /// On any other machine: what to name on the host.
    pub(super) fn to_replace(&self) -> Vec<String> {
        self.bad_after(&BadObjects::default()).names().cloned().collect()
    }
}
