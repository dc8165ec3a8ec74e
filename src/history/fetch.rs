//! Getting records: out of the cache where they were verified before, else from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};

use super::record_cache::RecordCache;
use crate::crypto::{Digest, PublicSigner, sha256};
use crate::error::OperationError;
use crate::format::{ReadRecord, RepositoryId, SignedRecord, layout};
use crate::policy::parent::Above;
use crate::repository::{FETCHES, MAX_TEXT_BYTES, Remote, Seen};
use crate::store::StoreError;

/// What is wrong with a record that a server lists and does not hand out.
pub(super) const NOT_FETCHED: &str = "listed, but GET returned 404";

/// What is there under the number of a record.
pub(super) enum Fetched {
    /// The signature holds.
    Record {
        record: Arc<SignedRecord>,
        digest: Digest,
    },
    /// The signature holds, and the format is newer.
    Newer {
        signer: PublicSigner,
        format: u64,
        digest: Digest,
    },
    /// It cannot be read, or its signature fails.
    Damaged {
        why: String,
        digest: Option<Digest>,
    },
    Missing,
    /// It is listed, and nothing was asked about it.
    NotRead,
}

impl Fetched {
    pub fn record(&self) -> Option<&SignedRecord> {
        match self {
            Self::Record { record, .. } => Some(record),
            _ => None,
        }
    }

    /// SHA-256 of the bytes, as far as they could be had.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Record { digest, .. } | Self::Newer { digest, .. } => Some(*digest),
            Self::Damaged { digest, .. } => *digest,
            Self::Missing | Self::NotRead => None,
        }
    }

    fn of(bytes: Bytes, sequence: u64, id: &RepositoryId) -> Self {
        let digest = sha256(&bytes);
        match SignedRecord::read_any(bytes, sequence, id) {
            Ok(ReadRecord::Record(record)) => Self::Record { record: Arc::new(record), digest },
            Ok(ReadRecord::Newer { signed, format }) => Self::Newer { signer: signed.signer().clone(), format, digest },
            Err(error) => Self::Damaged { why: error.to_string(), digest: Some(digest) },
        }
    }
}

/// The record under `sequence`, from the store.
pub(super) async fn one(remote: &Remote, sequence: u64) -> Result<Fetched, OperationError> {
    match remote.store.get(&layout::record(sequence), MAX_TEXT_BYTES).await {
        Ok(bytes) => Ok(Fetched::of(bytes, sequence, remote.id())),
        Err(StoreError::NotFound { .. }) => Ok(Fetched::Missing),
        Err(error @ StoreError::TooLarge { .. }) => Ok(Fetched::Damaged { why: error.to_string(), digest: None }),
        Err(error) => Err(error.into()),
    }
}

pub(super) struct Fetcher<'a> {
    pub remote: &'a Remote,
    pub cache: &'a mut RecordCache,
}

impl Fetcher<'_> {
    /// Every listed record; where some are `wanted`, only those are fetched, and of the others those that the cache has. One
    /// that retention removed since it was listed is left out; one that is still listed and cannot
    /// be fetched stays, as missing.
    pub async fn all(
        self,
        listing: &BTreeMap<u64, Seen>,
        only: Option<&BTreeSet<u64>>,
    ) -> Result<Vec<(u64, Fetched)>, OperationError> {
        let Self { remote, cache } = self;
        let mut found: BTreeMap<u64, Fetched> = BTreeMap::new();
        let mut wanted = Vec::new();
        for (sequence, seen) in listing {
            match cache.get(*sequence, seen.bytes, seen.etag.as_deref(), seen.modified) {
                Some(bytes) => match SignedRecord::reread(bytes.clone(), *sequence, remote.id()) {
                    Ok(record) => {
                        let digest = cache.digest(*sequence).unwrap_or_else(|| sha256(&bytes));
                        found.insert(*sequence, Fetched::Record { record: Arc::new(record), digest });
                    }
                    Err(_) => wanted.push(*sequence),
                },
                None if only.is_some_and(|only| !only.contains(sequence)) => {
                    found.insert(*sequence, Fetched::NotRead);
                }
                None => wanted.push(*sequence),
            }
        }
        let fetched: Vec<(u64, Fetched)> = futures::stream::iter(wanted)
            .map(|sequence| async move { Ok::<_, OperationError>((sequence, one(remote, sequence).await?)) })
            .buffered(FETCHES)
            .try_collect()
            .await?;
        let all_there = fetched.iter().all(|(_, found)| !matches!(found, Fetched::Missing));
        let listed_now = if all_there { BTreeMap::new() } else { remote.list_records().await? };
        for (sequence, fetched) in fetched {
            match fetched {
                Fetched::Missing if !listed_now.contains_key(&sequence) => continue,
                Fetched::Record { ref record, .. } => {
                    let seen = &listing[&sequence];
                    cache.insert(sequence, seen.modified, seen.etag.as_deref(), record.signed.bytes());
                }
                _ => {}
            }
            found.insert(sequence, fetched);
        }
        Ok(found.into_iter().collect())
    }
}

/// What lies above the number `floor`, for a host that decides what to follow; in ascending order.
pub(crate) async fn read_above(
    remote: &Remote,
    listed: &BTreeMap<u64, Seen>,
    floor: u64,
) -> Result<Vec<Above>, OperationError> {
    let sequences: Vec<u64> = listed.range(floor.saturating_add(1)..).map(|(sequence, _)| *sequence).collect();
    let fetched: Vec<(u64, Fetched)> = futures::stream::iter(sequences)
        .map(|sequence| async move { Ok::<_, OperationError>((sequence, one(remote, sequence).await?)) })
        .buffered(FETCHES)
        .try_collect()
        .await?;
    let above = fetched.into_iter().map(|(sequence, found)| match found {
        Fetched::Record { record, .. } => Above::Valid(Box::new(record.as_ref().clone())),
        Fetched::Newer { signer, digest, .. } => Above::Newer { sequence, digest, signer },
        Fetched::Damaged { why, digest } => Above::Damaged { sequence, digest, why },
        Fetched::Missing | Fetched::NotRead => Above::Damaged { sequence, digest: None, why: NOT_FETCHED.to_owned() },
    });
    Ok(above.collect())
}
