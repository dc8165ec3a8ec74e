//! What the records say must be stored: every pack and manifest with its size, and who needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crypto::Digest;
use crate::repository::{SignedRecord, layout};
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
}

impl Needs {
    pub fn of(records: &[Arc<SignedRecord>]) -> Self {
        let mut needs = Self { packs: BTreeMap::new(), manifests: BTreeMap::new(), epochs: BTreeMap::new() };
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

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Need)> {
        self.packs.iter().chain(&self.manifests)
    }

    pub fn get(&self, key: &Key) -> Option<&Need> {
        self.packs.get(key).or_else(|| self.manifests.get(key))
    }
}

fn note(needs: &mut BTreeMap<Key, Need>, key: Key, (name, bytes, epoch): (Digest, u64, u32), sequence: u64) {
    let new = || Need { name, bytes, epoch, snapshots: BTreeSet::new() };
    needs.entry(key).or_insert_with(new).snapshots.insert(sequence);
}
