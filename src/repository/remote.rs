//! What is in a repository right now: its descriptor, its listing, its records.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::crypto::{Digest, MAX_SEALED_BYTES};
use crate::error::OperationError;
use crate::format::ranges::{Range, ranges, without};
use crate::format::{Descriptor, PackRef, Record, RepositoryId, SignedRecord, layout};
use crate::store::{Key, ObjectInfo, Store, StoreError};

/// The largest record or descriptor that is read, in bytes: some 400,000 packs.
pub(crate) const MAX_TEXT_BYTES: u64 = 32 << 20;
/// What is wrong with an object that a server shows in its listing and does not hand out.
pub(crate) const WITHHELD: &str = "it is listed and cannot be fetched";
/// How many records that no listing shows are looked for.
const MAX_LOOKS: usize = 1000;
/// Small objects fetched at once.
pub(crate) const FETCHES: usize = 8;

/// An open repository.
#[derive(Clone)]
pub struct Remote {
    pub store: Arc<dyn Store>,
    /// As a person would name it.
    pub url: String,
    pub descriptor: Descriptor,
}

impl Remote {
    pub async fn open(store: Arc<dyn Store>, url: &str) -> Result<Self, OperationError> {
        let key = layout::descriptor();
        let json = match store.get(&key, MAX_TEXT_BYTES).await {
            Ok(json) => json,
            Err(StoreError::NotFound { .. }) => return Err(OperationError::NoRepository { url: url.to_owned() }),
            Err(error) => return Err(error.into()),
        };
        let descriptor = Descriptor::parse(&json).map_err(|error| OperationError::object(&key, error))?;
        Ok(Self { store, url: url.to_owned(), descriptor })
    }

    pub fn id(&self) -> &RepositoryId {
        &self.descriptor.repository
    }

    /// Everything that matters, by name, with sizes and the server's times.
    pub async fn list(&self) -> Result<Listing, OperationError> {
        let read = Instant::now();
        let (records, packs, manifests, keys) = futures::try_join!(
            self.store.list(layout::RECORDS),
            self.store.list(layout::PACKS),
            self.store.list(layout::MANIFESTS),
            self.store.list(layout::KEYS),
        )?;
        let dates = [&records, &packs, &manifests, &keys].map(|listing| listing.server_time);
        let by_digest = |objects: Vec<ObjectInfo>| {
            objects.into_iter().filter_map(|object| Some((layout::digest(&object.key)?, Seen::of(&object)))).collect()
        };
        Ok(Listing {
            read,
            server_time: dates.into_iter().collect::<Option<Vec<_>>>().and_then(|dates| dates.into_iter().max()),
            records: records
                .objects
                .iter()
                .filter_map(|object| Some((layout::record_sequence(&object.key)?, Seen::of(object))))
                .collect(),
            packs: by_digest(packs.objects),
            manifests: by_digest(manifests.objects),
            keys: keys
                .objects
                .iter()
                .filter_map(|object| Some((layout::epoch_and_generation(&object.key)?, Seen::of(object))))
                .collect(),
        })
    }

    /// Only the records.
    pub async fn list_records(&self) -> Result<BTreeMap<u64, Seen>, OperationError> {
        let listing = self.store.list(layout::RECORDS).await?;
        let records = listing.objects.iter();
        Ok(records.filter_map(|object| Some((layout::record_sequence(&object.key)?, Seen::of(object)))).collect())
    }

    /// Only the wrapped keys, by epoch and generation.
    pub async fn list_keys(&self) -> Result<BTreeMap<(u32, u32), Seen>, OperationError> {
        let listing = self.store.list(layout::KEYS).await?;
        let seen = |object: &ObjectInfo| Some((layout::epoch_and_generation(&object.key)?, Seen::of(object)));
        Ok(listing.objects.iter().filter_map(seen).collect())
    }

    /// Only the wrapped keys of `epoch`.
    pub async fn list_generations(&self, epoch: u32) -> Result<BTreeMap<u32, Seen>, OperationError> {
        let listing = self.store.list(&format!("{}{epoch}/", layout::KEYS)).await?;
        let seen = |object: &ObjectInfo| Some((layout::epoch_and_generation(&object.key)?.1, Seen::of(object)));
        Ok(listing.objects.iter().filter_map(seen).collect())
    }

    /// The record under `sequence`, its signature checked, or why it cannot be used.
    pub async fn record(&self, sequence: u64) -> Result<Result<SignedRecord, OperationError>, OperationError> {
        let key = layout::record(sequence);
        let bytes = match self.store.get(&key, MAX_TEXT_BYTES).await {
            Ok(bytes) => bytes,
            Err(error @ StoreError::TooLarge { .. }) => {
                let (object, why) = (key.to_string(), error.to_string());
                return Ok(Err(OperationError::Verification { object, why }));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(SignedRecord::read(bytes, sequence, self.id()).map_err(|error| OperationError::object(&key, error)))
    }

    /// Several records at once, in the order asked for. One that retention removed since it was listed is left out; one
    /// that is still listed cannot be verified, because nobody can say what it needs.
    pub async fn records(
        &self,
        sequences: &[u64],
    ) -> Result<Vec<(u64, Result<SignedRecord, OperationError>)>, OperationError> {
        let read: Vec<(u64, Option<Result<SignedRecord, OperationError>>)> =
            futures::stream::iter(sequences.iter().copied())
                .map(|sequence| async move {
                    match self.record(sequence).await {
                        Ok(record) => Ok((sequence, Some(record))),
                        Err(OperationError::Store(StoreError::NotFound { .. })) => Ok((sequence, None)),
                        Err(error) => Err(error),
                    }
                })
                .buffered(FETCHES)
                .try_collect()
                .await?;
        let all_read = read.iter().all(|(_, record)| record.is_some());
        let listed = if all_read { BTreeMap::new() } else { self.list_records().await? };
        let known = |(sequence, record): (u64, Option<_>)| {
            let withheld = || listed.contains_key(&sequence).then(|| Err(withheld(sequence)));
            Some((sequence, record.or_else(withheld)?))
        };
        Ok(read.into_iter().filter_map(known).collect())
    }

    /// Which of the records `named` are there although `records`, a listing, lacks them: not every server lists all that it
    /// holds. Those `removed` are not looked for, and of very many, as only a forger names them, the newest.
    pub async fn unlisted(
        &self,
        named: &[Range],
        records: &BTreeMap<u64, Seen>,
        removed: &HashSet<u64>,
    ) -> Result<Vec<u64>, OperationError> {
        let lacking = without(named, &ranges(records.keys().copied()));
        let newest_first = lacking.into_iter().rev().flat_map(|(first, last)| (first..=last).rev());
        let lacking = newest_first.filter(|sequence| !removed.contains(sequence));
        let mut unlisted: Vec<u64> = futures::stream::iter(lacking.take(MAX_LOOKS))
            .map(|sequence| async move {
                let there = self.store.head(&layout::record(sequence)).await?.is_some();
                Ok::<_, OperationError>(there.then_some(sequence))
            })
            .buffered(FETCHES)
            .try_filter_map(|found| std::future::ready(Ok::<_, OperationError>(found)))
            .try_collect()
            .await?;
        unlisted.sort_unstable();
        Ok(unlisted)
    }

    /// A stored object whose name is the hash of its bytes, checked against that hash. No more than the `bytes` that a
    /// record says are fetched, whatever lies there.
    pub async fn sealed(&self, key: &Key, name: &Digest, bytes: u64) -> Result<bytes::Bytes, OperationError> {
        let verification = |why: String| OperationError::Verification { object: key.to_string(), why };
        let bytes = match self.store.get(key, bytes.min(MAX_SEALED_BYTES)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Err(verification("it is missing".to_owned())),
            Err(error @ StoreError::TooLarge { .. }) => return Err(verification(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        if crate::crypto::sha256(&bytes) != *name {
            return Err(verification("its bytes do not have the hash that is its name".to_owned()));
        }
        Ok(bytes)
    }
}

fn withheld(sequence: u64) -> OperationError {
    let object = layout::record(sequence).to_string();
    OperationError::Verification { object, why: WITHHELD.to_owned() }
}

/// A listed object's size and the server's time of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub bytes: u64,
    pub modified: Timestamp,
}

impl Seen {
    fn of(object: &ObjectInfo) -> Self {
        Self { bytes: object.bytes, modified: object.modified }
    }
}

/// What a listing showed.
pub struct Listing {
    /// When the listing began.
    pub read: Instant,
    /// The server's clock at its end, where the server tells it.
    pub server_time: Option<Timestamp>,
    pub records: BTreeMap<u64, Seen>,
    pub packs: HashMap<Digest, Seen>,
    pub manifests: HashMap<Digest, Seen>,
    /// By epoch and generation.
    pub keys: HashMap<(u32, u32), Seen>,
}

impl Listing {
    /// Everything in it, in bytes.
    pub fn stored_bytes(&self) -> u64 {
        let sealed = self.packs.values().chain(self.manifests.values());
        sealed.chain(self.records.values()).chain(self.keys.values()).map(|seen| seen.bytes).sum()
    }

    /// Whether the pack is there with its size.
    pub fn has_pack(&self, pack: &PackRef) -> bool {
        self.packs.get(&pack.0).is_some_and(|seen| seen.bytes == pack.1)
    }
}

/// What the record needs and the listing lacks.
pub(crate) fn missing_of(record: &Record, listing: &Listing) -> Vec<String> {
    let mut missing: Vec<String> = record
        .packs()
        .filter(|pack| !listing.has_pack(pack))
        .map(|PackRef(name, _)| layout::pack(name).to_string())
        .collect();
    let manifest = &record.manifest;
    if listing.manifests.get(&manifest.name).is_none_or(|seen| seen.bytes != manifest.bytes) {
        missing.push(layout::manifest(&manifest.name).to_string());
    }
    missing
}
