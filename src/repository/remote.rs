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
use crate::store::{CreateOnce, Key, Look, ObjectInfo, Store, StoreError};

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
    /// Where it is, in one spelling: endpoint, bucket and prefix, or an absolute path.
    pub location: String,
    pub descriptor: Descriptor,
    /// `repository.json`, byte for byte, where it could be read.
    pub descriptor_text: Option<String>,
    pub descriptor_state: DescriptorState,
}

/// `repository.json` against what this machine remembers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorState {
    /// The same, or not known before.
    Same,
    Changed,
    Missing,
}

impl Remote {
    /// Opens what is there, by its own word.
    pub async fn open(store: Arc<dyn Store>, url: &str) -> Result<Self, OperationError> {
        Self::open_at(store, url, url).await
    }

    /// The same, with its location.
    pub async fn open_at(store: Arc<dyn Store>, url: &str, location: &str) -> Result<Self, OperationError> {
        let key = layout::descriptor();
        let json = match store.get(&key, MAX_TEXT_BYTES).await {
            Ok(json) => json,
            Err(StoreError::NotFound { .. }) => return Err(OperationError::NoRepository { url: url.to_owned() }),
            Err(error) => return Err(error.into()),
        };
        let descriptor = Descriptor::parse(&json).map_err(|error| OperationError::object(&key, error))?;
        let descriptor_text = String::from_utf8(json.to_vec()).ok();
        let (url, location) = (url.to_owned(), location.to_owned());
        Ok(Self { store, url, location, descriptor, descriptor_text, descriptor_state: DescriptorState::Same })
    }

    /// The same, whose store creates objects as the newest record says that its writer does.
    pub fn creating(&self, once: CreateOnce) -> Self {
        match once {
            CreateOnce::Conditional => self.clone(),
            CreateOnce::Look => Self { store: Arc::new(Look::new(Arc::clone(&self.store))), ..self.clone() },
        }
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
        Ok(Listing {
            read,
            server_time: dates.into_iter().collect::<Option<Vec<_>>>().and_then(|dates| dates.into_iter().max()),
            records: records_of(&records.objects),
            packs: by_digest(&packs.objects),
            manifests: by_digest(&manifests.objects),
            keys: keys_of(&keys.objects).into_iter().collect(),
            receipts: Vec::new(),
        })
    }

    /// Only the records.
    pub async fn list_records(&self) -> Result<BTreeMap<u64, Seen>, OperationError> {
        Ok(self.list_records_timed().await?.0)
    }

    /// All objects by one listing, receipts too: fewer requests than one for each kind. Records come last in it, so one
    /// may be there that needs what was stored after its page was read.
    pub async fn list_everything(&self) -> Result<Listing, OperationError> {
        let read = Instant::now();
        let listing = self.store.list("").await?;
        let is_receipt = |object: &&ObjectInfo| layout::receipt_sequence(&object.key).is_some();
        Ok(Listing {
            read,
            server_time: listing.server_time,
            records: records_of(&listing.objects),
            packs: by_digest(&in_folder(&listing.objects, layout::PACKS)),
            manifests: by_digest(&in_folder(&listing.objects, layout::MANIFESTS)),
            keys: keys_of(&listing.objects).into_iter().collect(),
            receipts: listing.objects.iter().filter(is_receipt).cloned().collect(),
        })
    }

    /// Only packs and manifests.
    pub async fn list_sealed(&self) -> Result<Listing, OperationError> {
        let read = Instant::now();
        let (packs, manifests) =
            futures::try_join!(self.store.list(layout::PACKS), self.store.list(layout::MANIFESTS))?;
        Ok(Listing {
            read,
            server_time: packs.server_time.max(manifests.server_time),
            records: BTreeMap::new(),
            packs: by_digest(&packs.objects),
            manifests: by_digest(&manifests.objects),
            keys: HashMap::new(),
            receipts: Vec::new(),
        })
    }

    /// The records from number `first` on, in few requests however many there are before.
    pub async fn list_records_from(&self, first: u64) -> Result<Records, OperationError> {
        let read = Instant::now();
        let before = first.checked_sub(1).filter(|before| *before > 0).map(layout::record);
        let listing = self.store.list_from(layout::RECORDS, before.as_ref()).await?;
        Ok(Records { read, listed: records_of(&listing.objects), server_time: listing.server_time })
    }

    /// The same, with the server's clock where it sends it.
    pub async fn list_records_timed(&self) -> Result<(BTreeMap<u64, Seen>, Option<Timestamp>), OperationError> {
        let listing = self.store.list(layout::RECORDS).await?;
        Ok((records_of(&listing.objects), listing.server_time))
    }

    /// Only the key files, by epoch and version.
    pub async fn list_keys(&self) -> Result<BTreeMap<(u32, u32), Seen>, OperationError> {
        Ok(keys_of(&self.store.list(layout::KEYS).await?.objects))
    }

    /// Only the key files of `epoch`.
    pub async fn list_versions(&self, epoch: u32) -> Result<BTreeMap<u32, Seen>, OperationError> {
        let listing = self.store.list(&format!("{}{epoch}/", layout::KEYS)).await?;
        let seen = |object: &ObjectInfo| Some((layout::epoch_and_version(&object.key)?.1, Seen::of(object)));
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
    /// that is still listed cannot be verified, because what it needs is unknown.
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

    /// Which of the records `named` are there although `records`, a listing, lacks them: not every server lists all
    /// that it holds. Those `removed` are not looked for, and of very many, as only a forger names them, the newest.
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

fn records_of(objects: &[ObjectInfo]) -> BTreeMap<u64, Seen> {
    objects.iter().filter_map(|object| Some((layout::record_sequence(&object.key)?, Seen::of(object)))).collect()
}

fn keys_of(objects: &[ObjectInfo]) -> BTreeMap<(u32, u32), Seen> {
    let seen = |object: &ObjectInfo| Some((layout::epoch_and_version(&object.key)?, Seen::of(object)));
    objects.iter().filter_map(seen).collect()
}

fn in_folder(objects: &[ObjectInfo], folder: &str) -> Vec<ObjectInfo> {
    objects.iter().filter(|object| object.key.as_str().starts_with(folder)).cloned().collect()
}

fn by_digest(objects: &[ObjectInfo]) -> HashMap<Digest, Seen> {
    objects.iter().filter_map(|object| Some((layout::digest(&object.key)?, Seen::of(object)))).collect()
}

fn withheld(sequence: u64) -> OperationError {
    let object = layout::record(sequence).to_string();
    OperationError::Verification { object, why: WITHHELD.to_owned() }
}

/// A listed object's size and the server's time of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub bytes: u64,
    pub modified: Timestamp,
    /// As the server names these bytes, where it does.
    pub etag: Option<String>,
}

impl Seen {
    pub fn of(object: &ObjectInfo) -> Self {
        Self { bytes: object.bytes, modified: object.modified, etag: object.etag.clone() }
    }
}

/// The records that a listing showed, all of them or those from some number on.
#[derive(Clone, Debug)]
pub struct Records {
    /// When the listing began.
    pub read: Instant,
    pub listed: BTreeMap<u64, Seen>,
    /// The server's clock at its end, where the server sends it.
    pub server_time: Option<Timestamp>,
}

/// What a listing showed.
pub struct Listing {
    /// When the listing began.
    pub read: Instant,
    /// The server's clock at its end, where the server sends it.
    pub server_time: Option<Timestamp>,
    pub records: BTreeMap<u64, Seen>,
    pub packs: HashMap<Digest, Seen>,
    pub manifests: HashMap<Digest, Seen>,
    /// By epoch and version.
    pub keys: HashMap<(u32, u32), Seen>,
    /// Where they were listed, too.
    pub receipts: Vec<ObjectInfo>,
}

impl Listing {
    /// Its records alone.
    pub fn of_records(&self) -> Records {
        Records { read: self.read, listed: self.records.clone(), server_time: self.server_time }
    }

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
