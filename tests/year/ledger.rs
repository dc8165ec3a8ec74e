//! What is known of every snapshot from outside: which blocks it has, and what they take at best.
//!
//! A snapshot is compared block by block with the live file when it is taken, and what is stored of it is kept. So from
//! then on it is enough that all of its objects are still there with the same bytes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sealift::crypto::{DataIdentity, Digest, sha256};
use sealift::format::{Body, Manifest, PackReader, PackRef, RepositoryId, Run, SignedRecord, layout};
use sealift::store::Key;

use crate::memory::MemoryStore;

const PAGE: usize = 4096;

/// A listed snapshot.
pub struct Snapshot {
    /// Of the file that it shows.
    pub file: Digest,
    record: Bytes,
    objects: Vec<(Key, Bytes)>,
    /// Which blocks it has, each once.
    blocks: HashSet<u32>,
}

/// A pack: which blocks lie in it.
struct Pack {
    bytes: u64,
    blocks: Vec<u32>,
}

pub struct Ledger {
    store: Arc<MemoryStore>,
    repository: RepositoryId,
    identity: DataIdentity,
    packs: HashMap<Digest, Pack>,
    /// The number of each block's content.
    numbers: HashMap<Digest, u32>,
    /// By number: the share of a pack that the block took when it was first stored, and how many snapshots have it.
    blocks: Vec<(f64, u32)>,
    pub snapshots: BTreeMap<u64, Snapshot>,
}

impl Ledger {
    pub fn new(store: Arc<MemoryStore>, repository: RepositoryId, identity: DataIdentity) -> Self {
        let (packs, numbers, snapshots) = Default::default();
        Self { store, repository, identity, packs, numbers, blocks: Vec::new(), snapshots }
    }

    /// Compares the newest snapshot with the file that it shows; how many times its ideal a restore of it downloads.
    pub fn take_in(&mut self, sequence: u64, file: &Path) -> f64 {
        let bytes = self.store.peek(&layout::record(sequence)).expect("the record is stored");
        let record = SignedRecord::read(bytes.clone(), sequence, &self.repository).expect("a record").record;
        let manifest_key = layout::manifest(&record.manifest.name);
        let sealed = self.store.peek(&manifest_key).expect("the manifest is stored");
        let manifest = Manifest::open(&sealed, &self.identity).expect("a manifest");
        let file = std::fs::read(file).unwrap();
        let used = self.compare(&manifest, &file);
        let pack = |PackRef(name, bytes): &PackRef| {
            let stored = self.store.peek(&layout::pack(name)).expect("the pack is stored");
            assert_eq!(stored.len() as u64, *bytes);
            (layout::pack(name), stored)
        };
        let mut objects: Vec<_> = record.packs().map(pack).collect();
        objects.push((manifest_key, sealed));
        let blocks: HashSet<u32> = used.iter().map(|(pack, slot)| self.packs[pack].blocks[*slot as usize]).collect();
        blocks.iter().for_each(|block| self.blocks[*block as usize].1 += 1);
        self.snapshots.insert(sequence, Snapshot { file: sha256(&file), record: bytes, objects, blocks });
        let share = |(name, _): &(Digest, u32)| self.packs[name].bytes as f64 / self.packs[name].blocks.len() as f64;
        let at_best = record.manifest.bytes as f64 + used.iter().map(share).sum::<f64>();
        record.stored_bytes() as f64 / at_best
    }

    /// Where each page of `file` lies, every one compared.
    fn compare(&mut self, manifest: &Manifest, file: &[u8]) -> HashSet<(Digest, u32)> {
        let database = manifest.entries.iter().find(|entry| entry.is_database()).expect("the database");
        let Body::Database { page_size, runs, .. } = &database.body else { panic!("not a database") };
        assert_eq!((*page_size as usize, database.bytes), (PAGE, file.len() as u64));
        manifest.packs.iter().for_each(|name| self.open_pack(name));
        let slots = |run: &Run| {
            let pack = manifest.packs[run.pack as usize];
            (run.slot..run.slot + run.blocks).map(move |slot| (pack, slot))
        };
        let places: Vec<(Digest, u32)> = runs.iter().flat_map(slots).collect();
        assert_eq!(places.len() * PAGE, file.len());
        for (number, ((pack, slot), page)) in places.iter().zip(file.chunks(PAGE)).enumerate() {
            let there = self.packs[pack].blocks[*slot as usize];
            assert_eq!(Some(&there), self.numbers.get(&block_of(number, page)), "page {}", number + 1);
        }
        places.into_iter().collect()
    }

    fn open_pack(&mut self, name: &Digest) {
        if self.packs.contains_key(name) {
            return;
        }
        let sealed = self.store.peek(&layout::pack(name)).expect("the pack is stored");
        assert_eq!(sha256(&sealed), *name);
        let (mut plain, buffers) = (Vec::new(), PackReader::buffers());
        let mut reader = PackReader::new(&sealed, &self.identity, &buffers).unwrap();
        while let Some(blocks) = reader.blocks(PAGE).unwrap() {
            plain.extend_from_slice(blocks);
        }
        let share = sealed.len() as f64 / (plain.len() / PAGE) as f64;
        let mut number_of = |block| {
            let next = self.blocks.len() as u32;
            let number = *self.numbers.entry(sha256(block)).or_insert(next);
            if number == next {
                self.blocks.push((share, 0));
            }
            number
        };
        let blocks = plain.chunks(PAGE).map(&mut number_of).collect();
        self.packs.insert(*name, Pack { bytes: sealed.len() as u64, blocks });
    }

    /// Retention has removed this snapshot, and may have.
    pub fn forget(&mut self, sequence: u64) {
        let snapshot = self.snapshots.remove(&sequence).expect("it was listed");
        snapshot.blocks.iter().for_each(|block| self.blocks[*block as usize].1 -= 1);
    }

    /// Every listed snapshot still has all that it needs, and no other is listed.
    pub fn check(&self) {
        for (sequence, snapshot) in &self.snapshots {
            assert_eq!(self.store.peek(&layout::record(*sequence)).as_ref(), Some(&snapshot.record), "{sequence}");
            for (key, kept) in &snapshot.objects {
                let there = self.store.peek(key);
                assert!(there.is_some_and(|there| is_same(&there, kept)), "{key}, which snapshot {sequence} needs");
            }
        }
        let listed = self.store.names(layout::RECORDS);
        assert_eq!(listed.len(), self.snapshots.len(), "{listed:?}");
    }

    /// What the listed snapshots take at best: their records and manifests, and every block of any of them once.
    pub fn ideal_bytes(&self) -> f64 {
        let blocks: f64 = self.blocks.iter().filter(|(_, users)| *users > 0).map(|(share, _)| share).sum();
        let is_manifest = |key: &Key| key.as_str().starts_with(layout::MANIFESTS);
        let manifests: HashMap<&Key, u64> = self
            .snapshots
            .values()
            .flat_map(|snapshot| &snapshot.objects)
            .filter(|(key, _)| is_manifest(key))
            .map(|(key, stored)| (key, stored.len() as u64))
            .collect();
        let records: usize = self.snapshots.values().map(|snapshot| snapshot.record.len()).sum();
        blocks + (manifests.values().sum::<u64>() + records as u64) as f64
    }

    /// What the listed snapshots need, of all that is stored.
    pub fn needed_bytes(&self) -> u64 {
        let objects: HashMap<&Key, &Bytes> =
            self.snapshots.values().flat_map(|snapshot| &snapshot.objects).map(|(key, stored)| (key, stored)).collect();
        objects.values().map(|stored| stored.len() as u64).sum::<u64>()
            + self.snapshots.values().map(|snapshot| snapshot.record.len() as u64).sum::<u64>()
    }
}

/// Mostly the very same bytes in memory, which never change: then there is nothing to compare.
fn is_same(there: &Bytes, kept: &Bytes) -> bool {
    (there.as_ptr(), there.len()) == (kept.as_ptr(), kept.len()) || there == kept
}

/// What is stored of a page: a page that may be an overflow page, without its link to the next one.
fn block_of(number: usize, page: &[u8]) -> Digest {
    if number == 0 || page[0] != 0 {
        return sha256(page);
    }
    sha256(&[&[0; 4], &page[4..]].concat())
}
