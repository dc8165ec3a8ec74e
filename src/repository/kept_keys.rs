//! A host's copies of the key files in the repository, brought up to date with a listing.
//!
//! The host opens none of them. It fetches a key file whose size or time changed, and compares bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::crypto::{Sealed, sha256};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{MAX_KEY_BYTES, layout};
use crate::host::{KeptKey, KeptKeys, NamedKey};
use crate::policy::key_sets::{KeptCopy, MAX_FILES, Place, Stored, is_new};
use crate::repository::Remote;
use crate::repository::Seen;
use crate::store::StoreError;

/// Of epochs above the one that the host encrypts to, copies of the lowest few are kept: numbers are free to anybody who may
/// write to the bucket, and must not fill this disk.
const LATER_EPOCHS: usize = 8;

/// Fetches what this host has not seen under its name in its size and of its time, and keeps a copy of each key file.
/// `current` is the epoch that the host encrypts to. Which key files no copy is kept of: too large, too many, denied, or no
/// age files.
pub(crate) async fn keep_listed(
    remote: &Remote,
    kept: &mut KeptKeys,
    listed: &HashMap<Place, Seen>,
    (current, now): (u32, Timestamp),
) -> Result<Vec<Place>, OperationError> {
    let listed: BTreeMap<Place, Seen> = listed.iter().map(|(place, seen)| (*place, seen.clone())).collect();
    kept.retain_names(|place| listed.contains_key(&place));
    let later: BTreeSet<u32> = listed.keys().map(|(epoch, _)| *epoch).filter(|epoch| *epoch > current).collect();
    let too_late = later.into_iter().nth(LATER_EPOCHS);
    let mut left = BTreeSet::new();
    for (place, seen) in &listed {
        if kept.is_compared(*place, seen.bytes, seen.modified) {
            continue;
        }
        let is_known = kept.names().any(|name| name.place() == *place);
        let is_too_late = too_late.is_some_and(|epoch| place.0 >= epoch);
        // What takes the place of another one is looked at in any case.
        if seen.bytes > MAX_KEY_BYTES || !is_known && (is_too_late || !kept.make_room(place.0)?) {
            kept.retain_names(|named| named != *place);
            left.insert(*place);
            continue;
        }
        match keep(remote, kept, *place, seen, now).await {
            Ok(()) => {}
            Err(OperationError::Store(StoreError::NotFound { .. })) => kept.retain_names(|named| named != *place),
            Err(OperationError::Store(StoreError::TooLarge { .. } | StoreError::AccessDenied { .. })) => {
                kept.retain_names(|named| named != *place);
                left.insert(*place);
            }
            Err(error) => return Err(error),
        }
    }
    left.extend(kept.names().filter(|name| kept.at(name.place()).is_none()).map(NamedKey::place));
    if !left.is_empty() {
        kept.set_saw_others();
    }
    kept.save()?;
    Ok(left.into_iter().collect())
}

async fn keep(
    remote: &Remote,
    kept: &mut KeptKeys,
    (epoch, version): Place,
    seen: &Seen,
    now: Timestamp,
) -> Result<(), OperationError> {
    let bytes = remote.store.get(&layout::data_key(epoch, version), MAX_KEY_BYTES).await?;
    let digest = sha256(&bytes);
    if kept.copy_of(epoch, &digest).is_none() && Sealed::reread(bytes.clone()).is_ok() && kept.make_room(epoch)? {
        kept.keep(KeptKey::found(epoch, version, &bytes, digest, now), &bytes)?;
    }
    kept.set_name(NamedKey { epoch, version, digest, bytes: seen.bytes, modified: Some(seen.modified) }, now);
    Ok(())
}

/// What lies under each listed name, as far as this host compared it.
pub(crate) fn stored(kept: &KeptKeys, listed: &HashMap<Place, Seen>) -> Stored {
    let names: BTreeMap<Place, &NamedKey> = kept.names().map(|name| (name.place(), name)).collect();
    let digest =
        |place: &Place, seen: &Seen| names.get(place).filter(|name| name.bytes == seen.bytes).map(|name| name.digest);
    listed.iter().map(|(place, seen)| (*place, digest(place, seen))).collect()
}

/// The copies of what was in the repository.
pub(crate) fn copies(kept: &KeptKeys) -> Vec<KeptCopy> {
    let was_there = kept.iter().filter(|key| key.stored);
    was_there.map(|key| KeptCopy { place: key.place(), digest: key.digest, explained: key.explained }).collect()
}

/// What a host says of the key files that it saw at its last look: new ones that it did not make, and too many of one epoch.
/// `listed` is all that a listing shows.
pub(crate) fn key_findings(kept: &KeptKeys, listed: impl IntoIterator<Item = Place>, now: Timestamp) -> Vec<Finding> {
    let is_news = |name: &&NamedKey| {
        kept.at(name.place()).is_some_and(|key| (!key.own || key.explained) && is_new(key.first_seen, now))
    };
    let new: BTreeSet<Place> = kept.names().filter(is_news).map(NamedKey::place).collect();
    let mut findings = Vec::new();
    if !new.is_empty() {
        findings.push(Finding::KeyFilesNew { objects: names(new) });
    }
    findings.extend(too_many(listed));
    findings
}

/// Epochs with more key files than `keys` changes.
pub(crate) fn too_many(places: impl IntoIterator<Item = Place>) -> Vec<Finding> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for (epoch, _) in places {
        *counts.entry(epoch).or_default() += 1;
    }
    let over = counts.into_iter().filter(|(_, count)| *count > MAX_FILES as u64);
    over.map(|(epoch, count)| Finding::TooManyKeyFiles { epoch, count }).collect()
}

/// Names as they stand in the repository.
pub(crate) fn names(places: impl IntoIterator<Item = Place>) -> Vec<String> {
    places.into_iter().map(|(epoch, version)| layout::data_key(epoch, version).to_string()).collect()
}
