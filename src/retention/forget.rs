//! Records that cannot be verified: what they need is unknown, so they stop every deletion of packs, manifests and keys
//! until a person lets go of them. A record of a newer format stops them, too, and nobody lets go of it here: the newest
//! snapshot of a host that was upgraded looks like that.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use super::view::{View, unusable};
use crate::crypto::{Digest, Signed, sha256};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{SignedRecord, layout};
use crate::history::Unusable;
use crate::host::{Forgotten, Pins};
use crate::repository::MAX_TEXT_BYTES;
use crate::repository::Remote;
use crate::store::StoreError;

pub(super) struct LetGo {
    forgotten: Forgotten,
    records: Vec<Unverifiable>,
    /// The numbers of those that only a newer sealift reads.
    newer: Vec<u64>,
    /// Named, and no longer there.
    vanished: Vec<u64>,
}

struct Unverifiable {
    sequence: u64,
    /// The hash of its bytes; `None` where they are too many to be a record, or the server does not hand them out.
    digest: Option<Digest>,
    /// A person let go of it, now or before.
    let_go: bool,
}

impl LetGo {
    /// The records that cannot be verified, and which of them somebody let go of: before, or with `named` now.
    pub async fn of(remote: &Remote, dir: &Path, view: &View, named: &BTreeSet<u64>) -> Result<Self, OperationError> {
        let (newer, unverifiable): (Vec<_>, Vec<_>) =
            unusable(view).partition(|(_, why)| matches!(why, Unusable::NewerFormat(_)));
        let numbers = |of: Vec<(u64, &Unusable)>| of.into_iter().map(|(sequence, _)| sequence).collect::<Vec<u64>>();
        let (newer, mut unverifiable) = (numbers(newer), numbers(unverifiable));
        unverifiable.extend(disputed(view, named)?);
        unverifiable.sort_unstable();
        if let Some(sequence) = named.iter().find(|sequence| newer.contains(sequence)) {
            return Err(OperationError::Refused {
                what: format!("snapshot {sequence} has a newer format, and may be as good as any"),
                way_out: "upgrade sealift on this machine".to_owned(),
            });
        }
        let (forgotten, pins) = (Forgotten::load(dir)?, Pins::load(dir)?);
        let mut unlisted = Vec::new();
        for sequence in named.iter().filter(|sequence| !view.listing.records.contains_key(sequence)) {
            match remote.store.get(&layout::record(*sequence), MAX_TEXT_BYTES).await {
                Ok(bytes) => refuse_signed(remote, view, (*sequence, false), bytes)?,
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            unlisted.push(Unverifiable { sequence: *sequence, digest: None, let_go: true });
        }
        let is_unlisted = |sequence: &u64| unlisted.iter().any(|record| record.sequence == *sequence);
        let vanished: Vec<u64> =
            pins.vanished.into_keys().filter(|it| named.contains(it) && !is_unlisted(it)).collect();
        let is_known = |it: &u64| unverifiable.contains(it) || vanished.contains(it) || is_unlisted(it);
        if let Some(wrong) = named.iter().find(|sequence| !is_known(sequence)) {
            return Err(match view.listing.records.contains_key(wrong) {
                true => {
                    OperationError::Usage(format!("snapshot {wrong} can be verified: --remove {wrong} takes it out"))
                }
                false => OperationError::NoSnapshot(Some(wrong.to_string())),
            });
        }
        let mut records = unlisted;
        for sequence in unverifiable {
            let key = layout::record(sequence);
            let digest = match remote.store.get(&key, MAX_TEXT_BYTES).await {
                Ok(bytes) => {
                    let digest = sha256(&bytes);
                    if named.contains(&sequence) {
                        let was_seen = pins.seen.iter().any(|seen| seen.record == digest);
                        refuse_signed(remote, view, (sequence, was_seen), bytes)?;
                    }
                    Some(digest)
                }
                Err(StoreError::TooLarge { .. }) if named.contains(&sequence) => {
                    return Err(OperationError::Refused {
                        what: format!("{key} is too large to be a record"),
                        way_out: "delete it with the tools of the bucket, if nobody needs it".to_owned(),
                    });
                }
                // Listed and withheld, or gone since: the next listing tells.
                Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let before = digest.is_some_and(|digest| forgotten.contains(&digest));
            records.push(Unverifiable { sequence, digest, let_go: before || named.contains(&sequence) });
        }
        Ok(Self { forgotten, records, newer, vanished })
    }

    /// Those that were let go of.
    pub fn sequences(&self) -> Vec<u64> {
        self.records.iter().filter(|record| record.let_go).map(|record| record.sequence).collect()
    }

    /// Those that nobody let go of.
    pub fn unverifiable(&self) -> Vec<u64> {
        self.records.iter().filter(|record| !record.let_go).map(|record| record.sequence).collect()
    }

    /// Those that only a newer sealift reads.
    pub fn newer(&self) -> Vec<u64> {
        self.newer.clone()
    }

    /// Remembers by hash what was let go of, and that what is gone may be.
    pub fn remember(&self, dir: &Path) -> Result<(), OperationError> {
        let let_go = self.records.iter().filter(|record| record.let_go).filter_map(|record| record.digest);
        let new: Vec<Digest> = let_go.filter(|digest| !self.forgotten.contains(digest)).collect();
        if !new.is_empty() {
            self.forgotten.clone().add(dir, new)?;
        }
        if !self.vanished.is_empty() {
            let mut pins = Pins::load(dir)?;
            pins.vanished.retain(|sequence, _| !self.vanished.contains(sequence));
            pins.save(dir)?;
        }
        Ok(())
    }

    /// The history's warnings, but for those of records that a person has decided about.
    pub fn warnings_of(&self, view: &View) -> Vec<Warning> {
        let decided = self.unverifiable().is_empty();
        let about_records = ["unverifiable-record", "signer-changed"];
        let told = |warning: &&Warning| !(decided && about_records.contains(&warning.name));
        view.history.warnings.iter().filter(told).cloned().collect()
    }
}

/// Of the records that contradict each other, those that a person names. One side must be left.
fn disputed(view: &View, named: &BTreeSet<u64>) -> Result<Vec<u64>, OperationError> {
    let disputed = view.history.disputed();
    if !disputed.is_empty() && disputed.iter().all(|sequence| named.contains(sequence)) {
        return Err(OperationError::Refused {
            what: "all that this repository's host signed would go".to_owned(),
            way_out: "name only those that do not belong there".to_owned(),
        });
    }
    Ok(disputed.into_iter().filter(|sequence| named.contains(sequence)).collect())
}

/// What the right one signed he meant, whatever is odd about it, and so what verified here before; but for what contradicts
/// all else that he signed.
fn refuse_signed(
    remote: &Remote,
    view: &View,
    (sequence, was_seen): (u64, bool),
    bytes: Bytes,
) -> Result<(), OperationError> {
    let record = SignedRecord::read(bytes.clone(), sequence, remote.id());
    let own = view.history.disputed();
    if own.contains(&sequence) || record.is_ok_and(|record| view.history.is_contradicted_by(&record)) {
        return Ok(());
    }
    let key = layout::record(sequence);
    let (what, way_out) = match Signed::verify(bytes) {
        Ok(signed) if view.history.is_signer_of(sequence, signed.signer()) => (
            "holds what this repository's host signed",
            "put it where it belongs, or delete it with the tools of the bucket, if nobody needs it",
        ),
        _ if was_seen => (
            "is as it was when this machine could verify it",
            "say with --signer whose signature counts here: that of the host that wrote it",
        ),
        _ => return Ok(()),
    };
    Err(OperationError::Refused { what: format!("{key} {what}"), way_out: way_out.to_owned() })
}
