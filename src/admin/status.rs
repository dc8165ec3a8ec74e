//! The state of a repository at a glance and with reader's rights: is there a fresh snapshot, is it good, was it ever
//! drilled, and what does it all take.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::error::OperationError;
use crate::finding::{Finding, Numbers, Severity};
use crate::format::ranges::ranges;
use crate::format::{CreateOnce, SignedRecord};
use crate::history::{Drill, History, Reader, StorageUse, Verdicts, is_good};
use crate::host::{HostState, KeptKeys};
use crate::policy::times::SnapshotTime;
use crate::repository::kept_keys::key_findings;
use crate::repository::{Listing, Remote, is_complete};

/// The time over which growth is counted.
const GROWTH: SignedDuration = SignedDuration::from_hours(7 * 24);

pub struct StatusRequest {
    pub reader: Reader,
    /// How old the newest good snapshot may be.
    pub max_age: SignedDuration,
}

/// A snapshot in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    pub sequence: u64,
    /// When it was taken: the earlier of its signed time and the server's.
    pub time: Timestamp,
    pub age_seconds: i64,
}

/// What one snapshot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Storage {
    #[serde(flatten)]
    pub point: Point,
    /// Stored bytes that the snapshots before it do not need.
    pub new_bytes: u64,
    pub stored_bytes: u64,
    /// All that it needs is listed, with its size.
    pub restorable: bool,
    /// It is restorable, and each source was sound or unchecked.
    pub good: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    Fresh,
    /// The newest snapshot is fresh, but not good, or there is a problem.
    Problem,
    Stale,
    /// There is no snapshot, or none that counts.
    Missing,
}

/// A snapshot that was drilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drilled {
    pub point: Point,
    pub drill: Drill,
}

pub struct Status {
    pub freshness: Freshness,
    /// The same in a sentence.
    pub verdict: String,
    /// Oldest first.
    pub snapshots: Vec<Storage>,
    pub newest: Option<Point>,
    pub newest_good: Option<Point>,
    /// The newest one that a drill restored.
    pub newest_drilled: Option<Drilled>,
    /// The newest one whose last drill failed.
    pub newest_failed: Option<Drilled>,
    /// Everything stored, whatever needs it.
    pub stored_bytes: u64,
    /// New with the snapshots of the last seven days.
    pub growth_bytes: u64,
    pub warnings: Vec<Finding>,
}

/// Looks at a repository. A claim of a takeover that no person has decided about is an error.
pub async fn status(remote: &Remote, request: &StatusRequest) -> Result<Status, OperationError> {
    let (listing, history) = look(remote, &request.reader).await?;
    history.refuse_claims()?;
    let verdicts = Verdicts::of(remote, &listing.receipts).await?;
    let now = history.now;
    let storage = storage(&history, &listing, now);
    let drilled = |(storage, signed): &(Storage, &SignedRecord)| {
        Some(Drilled { point: storage.point, drill: verdicts.drill(signed)? })
    };
    let (passed, failed): (Vec<_>, Vec<_>) =
        storage.iter().rev().filter_map(drilled).partition(|drilled| drilled.drill.passed);
    let snapshots: Vec<Storage> = storage.into_iter().map(|(storage, _)| storage).collect();
    let newest = snapshots.last().map(|storage| storage.point);
    let newest_good = snapshots.iter().rev().find(|storage| storage.good).map(|storage| storage.point);
    let is_empty = history.listed.is_empty();
    let mut warnings = history.warnings;
    let dir = request.reader.state_dir(remote);
    let host = HostState::load(&dir)?;
    if host.is_some() {
        let kept = KeptKeys::load(&dir)?;
        warnings.extend(key_findings(&kept, listing.keys.keys().copied(), now));
    }
    if host.as_ref().is_some_and(|host| host.create_once() == CreateOnce::Look) {
        warnings.push(Finding::SingleWriter {});
    }
    if host.is_some_and(|host| host.may_delete() == Some(true)) {
        warnings.push(Finding::WriterCanDelete {});
    }
    let is_problem = warnings.iter().any(|finding| finding.severity() == Severity::Problem);
    let (freshness, verdict) = match newest {
        Some(newest) => judge(newest, newest_good, request.max_age, is_problem),
        None if is_empty => (Freshness::Missing, "there is no snapshot".to_owned()),
        None => (Freshness::Missing, "no snapshot counts".to_owned()),
    };
    let recent = snapshots.iter().filter(|storage| storage.point.age_seconds <= GROWTH.as_secs());
    Ok(Status {
        freshness,
        verdict,
        newest,
        newest_good,
        newest_drilled: passed.into_iter().next(),
        newest_failed: failed.into_iter().next(),
        stored_bytes: listing.stored_bytes(),
        growth_bytes: recent.fold(0, |sum, storage| sum.saturating_add(storage.new_bytes)),
        snapshots,
        warnings,
    })
}

/// One listing of everything, and the records in it. Where something seems to be missing, another listing decides: a
/// snapshot may have been stored while the first one was read.
pub async fn look(remote: &Remote, reader: &Reader) -> Result<(Listing, History), OperationError> {
    let listing = remote.list_everything().await?;
    let mut history = History::of(remote, reader, &listing.records, listing.server_time).await?;
    if incomplete(&history, &listing).is_empty() {
        return Ok((listing, history));
    }
    let again = remote.list_everything().await?;
    // Records that are new since were not read.
    let records = listing.records.into_iter().filter(|(sequence, _)| again.records.contains_key(sequence)).collect();
    let listing = Listing { records, ..again };
    let snapshots = incomplete(&history, &listing);
    if !snapshots.is_empty() {
        history.warnings.push(Finding::SnapshotsIncomplete { snapshots });
    }
    Ok((listing, history))
}

/// Listed snapshots that need what is not listed with its size.
fn incomplete(history: &History, listing: &Listing) -> Numbers {
    let listed = history.verified().filter(|signed| listing.records.contains_key(&signed.record.sequence));
    ranges(listed.filter(|signed| !is_complete(&signed.record, listing)).map(|signed| signed.record.sequence))
}

/// Every snapshot that counts and is still listed.
fn storage<'a>(history: &'a History, listing: &Listing, now: Timestamp) -> Vec<(Storage, &'a SignedRecord)> {
    let snapshots = history.verified().zip(history.ordered_times());
    let listed = snapshots.filter(|(signed, _)| listing.records.contains_key(&signed.record.sequence));
    let mut used = StorageUse::default();
    let storage = |(signed, time): (&'a Arc<SignedRecord>, SnapshotTime)| {
        let record = &signed.record;
        let new_bytes = used.add(record);
        let point =
            Point { sequence: record.sequence, time: time.time, age_seconds: now.duration_since(time.time).as_secs() };
        let (restorable, good) = (is_complete(record, listing), is_good(record, listing));
        let storage = Storage { point, new_bytes, stored_bytes: record.stored_bytes(), restorable, good };
        (storage, signed.as_ref())
    };
    listed.map(storage).collect()
}

fn judge(newest: Point, good: Option<Point>, max_age: SignedDuration, is_problem: bool) -> (Freshness, String) {
    let is_old = |point: Point| point.age_seconds > max_age.as_secs();
    let age = |point: Point| SignedDuration::from_secs(point.age_seconds.max(0));
    let n = newest.sequence;
    match good {
        _ if is_old(newest) => (Freshness::Stale, format!("the newest snapshot, {n}, is {:#} old", age(newest))),
        None => (Freshness::Stale, "no snapshot is good".to_owned()),
        Some(good) if is_old(good) => {
            (Freshness::Stale, format!("the newest good snapshot, {}, is {:#} old", good.sequence, age(good)))
        }
        Some(good) if good.sequence < n => {
            (Freshness::Problem, format!("snapshot {n} is not good; the newest good one is {}", good.sequence))
        }
        Some(_) if is_problem => {
            (Freshness::Problem, format!("snapshot {n} is {:#} old; see the problems", age(newest)))
        }
        Some(_) => (Freshness::Fresh, format!("snapshot {n} is {:#} old and good", age(newest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(sequence: u64, hours: i64) -> Point {
        Point { sequence, time: Timestamp::UNIX_EPOCH, age_seconds: hours * 3600 }
    }

    #[test]
    fn only_a_good_snapshot_is_fresh() {
        use Freshness::{Fresh, Problem, Stale};
        let cases = [
            (point(3, 1), Some(point(3, 1)), false, Fresh),
            (point(3, 26), Some(point(3, 26)), false, Fresh),
            (point(3, 27), Some(point(3, 27)), false, Stale),
            (point(3, 1), None, false, Stale),
            (point(3, 1), Some(point(1, 30)), false, Stale),
            (point(3, 1), Some(point(2, 20)), false, Problem),
            (point(3, 1), Some(point(3, 1)), true, Problem),
            (point(3, 0), Some(point(3, 0)), false, Fresh),
        ];
        for (newest, good, is_problem, expected) in cases {
            let (freshness, verdict) = judge(newest, good, SignedDuration::from_hours(26), is_problem);
            assert_eq!(freshness, expected, "{verdict}");
        }
    }
}
