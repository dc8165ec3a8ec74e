//! The record that this host follows: whether the one that it wrote last is in place, and what lies above it.
//!
//! What that means is decided in `policy::parent`.

use std::collections::{BTreeMap, BTreeSet};

use super::OperationError;
use crate::finding::Finding;
use crate::format::ranges::contains;
use crate::format::{Ignored, SignedRecord, Takeover, layout};
use crate::history::{Above, TrustStore, read_above};
use crate::host::{HostState, StateError};
use crate::policy::parent::{self as policy, Own, ParentConflict, decide};
use crate::repository::{Records, Remote, Seen};

/// How many records that were passed over a full look reads again.
const MAX_PASSED_OVER: usize = 100;

/// The record that the next one follows, and the number that it gets.
pub(crate) struct ParentSnapshot {
    pub record: Option<(SignedRecord, Seen)>,
    pub next: u64,
    /// What the next record says of the changes of the signer so far.
    pub takeovers: Vec<Takeover>,
    /// What this machine remembers of the repository.
    pub store: TrustStore,
    pub warnings: Vec<Finding>,
}

impl ParentSnapshot {
    pub fn signed(&self) -> Option<&SignedRecord> {
        self.record.as_ref().map(|(record, _)| record)
    }

    /// The number of the record; 0: there is none.
    pub fn sequence(&self) -> u64 {
        self.signed().map_or(0, |parent| parent.record.sequence)
    }

    /// The records that a person ignored, here or on the host before, and that are still listed.
    pub fn ignored(&self, is_listed: impl Fn(u64) -> bool) -> Vec<Ignored> {
        let before = self.signed().map(|parent| parent.record.ignored.clone()).unwrap_or_default();
        let all: BTreeSet<Ignored> = self.store.ignored.iter().copied().chain(before).collect();
        all.into_iter().filter(|ignored| is_listed(ignored.0)).collect()
    }
}

/// Compares `host` with the listed `records`, which begin at its own last one or before. With `adopt` the newest record
/// that counts for this host becomes the parent.
pub(super) async fn find(
    remote: &Remote,
    records: &Records,
    host: &HostState,
    adopt: bool,
) -> Result<ParentSnapshot, OperationError> {
    let known = if adopt { None } else { host.parent()? };
    let known = known.map(|bytes| read_parent(remote, host, bytes)).transpose()?;
    find_from(remote, records, host, known, adopt).await
}

/// Whether `host` may still continue from `parent`, by a later listing.
pub(super) async fn confirm(
    remote: &Remote,
    records: &Records,
    host: &HostState,
    parent: Option<&SignedRecord>,
) -> Result<ParentSnapshot, OperationError> {
    find_from(remote, records, host, parent.cloned(), false).await
}

async fn find_from(
    remote: &Remote,
    records: &Records,
    host: &HostState,
    known: Option<SignedRecord>,
    adopt: bool,
) -> Result<ParentSnapshot, OperationError> {
    let mut store = TrustStore::load(host.dir())?;
    // With `adopt` the record that this host wrote last is not where it goes on, but what it says is so.
    let last = match known {
        Some(_) => None,
        None => host.parent()?.and_then(|bytes| SignedRecord::read_own(bytes.into(), remote.id()).ok()),
    };
    let last = known.as_ref().or(last.as_ref()).map(|last| &last.record);
    let ignored: BTreeSet<Ignored> =
        store.ignored.iter().copied().chain(last.iter().flat_map(|last| last.ignored.clone())).collect();
    let takeovers = last.map(|last| last.takeovers.clone()).unwrap_or_default();
    let floor = known.as_ref().map_or(0, |parent| parent.record.sequence);
    let mut record = match known {
        Some(known) => Some(in_place(remote, records, known).await?),
        None => None,
    };
    let mut above = read_above(remote, &records.listed, floor).await?;
    let (signer, takeover, unsent) = (host.signer.public(), pending(host)?, host.unsent()?);
    let unsent = unsent.filter(|_| !adopt);
    let own = Own {
        signer: &signer,
        takeovers: &takeovers,
        takeover: takeover.as_ref(),
        unsent: unsent.as_deref(),
        adopt,
        ignored: &ignored,
    };
    let decision = decide(&own, record.as_ref().map(|(record, _)| record), &above)?;
    if let Some(Above::Valid(found)) = decision.parent.map(|at| above.swap_remove(at)) {
        let seen = records.listed[&found.record.sequence].clone();
        record = Some((*found, seen));
    }
    let sequence = record.as_ref().map_or(0, |(parent, _)| parent.record.sequence);
    let remembered = store.look(&remote.location).newest.map_or(0, |newest| newest.0);
    let above_all = if adopt {
        // A person says that what is there is right; the next number is above all that was ever seen.
        store.look(&remote.location).newest = None;
        remembered.max(records.listed.keys().next_back().copied().unwrap_or(0))
    } else {
        refuse_rollback(remote, records, sequence, remembered).await?;
        0
    };
    Ok(ParentSnapshot {
        // Where a record lies under the last number of all, above all that counts and was seen.
        next: next_free(records, sequence.max(above_all)).or_else(|_| next_free(records, sequence.max(remembered)))?,
        record,
        takeovers: decision.takeovers,
        store,
        warnings: decision.findings,
    })
}

/// Findings about records below the parent that no record of this host names: they were passed over, and still lie there.
pub(super) async fn passed_over(
    remote: &Remote,
    listed: &BTreeMap<u64, Seen>,
    host: &HostState,
    parent: &ParentSnapshot,
) -> Result<Vec<Finding>, OperationError> {
    let Some(signed) = parent.signed() else { return Ok(Vec::new()) };
    let ignored: BTreeSet<Ignored> = parent.ignored(|_| true).into_iter().collect();
    let is_left = |sequence: u64| sequence < signed.record.sequence && !contains(&signed.record.earlier, sequence);
    let left = listed.iter().filter(|(sequence, _)| is_left(**sequence)).take(MAX_PASSED_OVER);
    let left: BTreeMap<u64, Seen> = left.map(|(sequence, seen)| (*sequence, seen.clone())).collect();
    let found = read_above(remote, &left, 0).await?;
    Ok(policy::left_below(&host.signer.public(), &parent.takeovers, &ignored, &found))
}

/// The change of the signer that this host's first record is to carry.
fn pending(host: &HostState) -> Result<Option<Takeover>, OperationError> {
    let Some(bytes) = host.take_over()? else { return Ok(None) };
    let path = host.dir().join("take-over.json");
    let takeover = serde_json::from_slice(&bytes);
    Ok(Some(takeover.map_err(|error| StateError::Damaged { path, why: error.to_string() })?))
}

/// A newer record than the parent was seen here, and is gone.
async fn refuse_rollback(
    remote: &Remote,
    records: &Records,
    parent: u64,
    remembered: u64,
) -> Result<(), OperationError> {
    if remembered <= parent || records.listed.contains_key(&remembered) {
        return Ok(());
    }
    match remote.store.head(&layout::record(remembered)).await? {
        Some(_) => Ok(()),
        None => Err(ParentConflict::RolledBack { snapshot: remembered }.into()),
    }
}

/// The first number above `sequence` under which nothing lies: what others put far above does not push us there.
fn next_free(records: &Records, sequence: u64) -> Result<u64, OperationError> {
    let mut next = layout::next_sequence(sequence).ok_or(OperationError::NoNumberLeft)?;
    while records.listed.contains_key(&next) {
        next = layout::next_sequence(next).ok_or(OperationError::NoNumberLeft)?;
    }
    Ok(next)
}

fn read_parent(remote: &Remote, host: &HostState, bytes: Vec<u8>) -> Result<SignedRecord, OperationError> {
    let path = host.dir().join("parent.record");
    let damaged = |error: crate::format::RecordError| StateError::Damaged { path, why: error.to_string() };
    Ok(SignedRecord::read_own(bytes.into(), remote.id()).map_err(damaged)?)
}

/// The record that this host wrote last, as it lies in the repository. Where the listing lacks it, it is asked for by
/// name.
async fn in_place(
    remote: &Remote,
    records: &Records,
    own: SignedRecord,
) -> Result<(SignedRecord, Seen), OperationError> {
    let snapshot = own.record.sequence;
    let seen = match records.listed.get(&snapshot) {
        Some(seen) => seen.clone(),
        None => match remote.store.head(&layout::record(snapshot)).await? {
            Some(object) => Seen::of(&object),
            None => return Err(ParentConflict::RolledBack { snapshot }.into()),
        },
    };
    match remote.record(snapshot).await? {
        Ok(found) if found.signed.bytes() == own.signed.bytes() => Ok((found, seen)),
        Ok(_) => Err(ParentConflict::Replaced { snapshot }.into()),
        Err(error) => Err(ParentConflict::Unreadable { snapshot, why: error.to_string() }.into()),
    }
}
