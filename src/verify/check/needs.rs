//! What the records say must be stored: every pack and manifest with its size, and which snapshots need it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crypto::Digest;
use crate::format::{SignedRecord, layout};
use crate::store::Key;

pub(super) struct Need {
    pub name: Digest,
    pub bytes: u64,
    pub epoch: u32,
    pub snapshots: BTreeSet<u64>,
}

/// Packs and manifests by their keys.
pub(super) struct Needs {
    pub packs: BTreeMap<Key, Need>,
    pub manifests: BTreeMap<Key, Need>,
    /// The snapshots that need a data identity, by its epoch.
    pub epochs: BTreeMap<u32, BTreeSet<u64>>,
    /// The key files of those epochs, as far as they were looked for.
    pub keys: BTreeSet<Key>,
}

impl Needs {
    pub fn of(records: &[Arc<SignedRecord>]) -> Self {
        let (packs, manifests, epochs, keys) = Default::default();
        let mut needs = Self { packs, manifests, epochs, keys };
        for signed in records {
            let record = &signed.record;
            let (sequence, manifest) = (record.sequence, &record.manifest);
            let key = layout::manifest(&manifest.name);
            note(&mut needs.manifests, key, (manifest.name, manifest.bytes, manifest.epoch), sequence);
            for epoch in &record.epochs {
                needs.epochs.entry(epoch.epoch).or_default().insert(sequence);
                for pack in &epoch.packs {
                    note(&mut needs.packs, layout::pack(&pack.0), (pack.0, pack.1, epoch.epoch), sequence);
                }
            }
        }
        needs
    }

    /// With those of the `listed` key files that a snapshot may need: any version of an epoch may be the one.
    pub fn with_keys(mut self, listed: impl Iterator<Item = Key>) -> Self {
        self.keys = listed.filter(|key| self.snapshots(key).is_some()).collect();
        self
    }

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Need)> {
        self.packs.iter().chain(&self.manifests)
    }

    pub fn get(&self, key: &Key) -> Option<&Need> {
        self.packs.get(key).or_else(|| self.manifests.get(key))
    }

    /// The snapshots that need the data identity of `epoch`.
    pub fn of_epoch(&self, epoch: u32) -> BTreeSet<u64> {
        self.epochs.get(&epoch).cloned().unwrap_or_default()
    }

    /// The snapshots that need a pack, a manifest or a key file; `None` where none does.
    pub fn snapshots(&self, key: &Key) -> Option<&BTreeSet<u64>> {
        let of_epoch = || self.epochs.get(&layout::epoch_and_version(key)?.0);
        self.get(key).map(|need| &need.snapshots).or_else(of_epoch)
    }
}

fn note(needs: &mut BTreeMap<Key, Need>, key: Key, (name, bytes, epoch): (Digest, u64, u32), sequence: u64) {
    let new = || Need { name, bytes, epoch, snapshots: BTreeSet::new() };
    needs.entry(key).or_insert_with(new).snapshots.insert(sequence);
}
