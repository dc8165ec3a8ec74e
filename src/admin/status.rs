//! How a repository does, at a glance and with reader's rights: is there a fresh snapshot, is it good, was it ever tried,
//! and what does it all take.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::clock;
use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::ranges::{ranges, written};
use crate::format::{Health, SignedRecord};
use crate::history::time_to_come;
use crate::history::{Bill, Driller, History, Reader, Verdicts};
use crate::host::{HostState, KeptKeys};
use crate::policy::effective::{Effective, effective_times};
use crate::repository::Listing;
use crate::repository::Remote;
use crate::repository::kept_keys::{later_epochs, managed_by_rotation, standing_warnings};

/// The time over which growth is told.
const GROWTH: SignedDuration = SignedDuration::from_hours(7 * 24);

pub struct StatusRequest {
    pub reader: Reader,
    /// The configured `drill_signers`. This machine's own receipts are believed, too.
    pub believed: Vec<PublicSigner>,
    /// How old the newest good snapshot may be.
    pub max_age: SignedDuration,
}

/// A snapshot in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    pub sequence: u64,
    /// When it was taken, as far as its signed time can be believed.
    pub time: Timestamp,
    /// Negative: its time lies ahead, so a clock is wrong.
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
    /// Something that it needs is missing or known to be bad.
    pub hurt: bool,
    /// It is not hurt, no source was damaged or missing, and the last drill of it by somebody who is believed here, if there
    /// was any, did not fail.
    pub good: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    Fresh,
    /// The newest snapshot is fresh, but not good, or something about the repository is doubtful.
    Doubtful,
    Stale,
    /// There is no snapshot, or none that can be verified.
    Missing,
}

/// A snapshot that was drilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drilled {
    pub point: Point,
    /// When that drill ended.
    pub drilled: Timestamp,
    pub driller: Driller,
}

pub struct Status {
    pub freshness: Freshness,
    /// The same in a sentence.
    pub verdict: String,
    /// Oldest first.
    pub snapshots: Vec<Storage>,
    pub newest: Option<Point>,
    pub newest_good: Option<Point>,
    /// The newest one that somebody drilled who is believed here.
    pub newest_drilled: Option<Drilled>,
    /// A newer one that an unknown driller says to have tried.
    pub newest_drilled_by_unknown: Option<Drilled>,
    /// The newest one whose last drill failed, by somebody who is believed here: it is not good.
    pub newest_failed: Option<Drilled>,
    /// Everything stored, whoever needs it.
    pub stored_bytes: u64,
    /// New with the snapshots of the last seven days.
    pub growth_bytes: u64,
    /// On the host: it did not write all wrapped keys, so its configuration does not say who opens the backups.
    pub managed_by_rotation: bool,
    /// Where this machine keeps what it knows of the repository.
    pub state_dir: PathBuf,
    pub warnings: Vec<Warning>,
}

pub async fn status(remote: &Remote, request: &StatusRequest) -> Result<Status, OperationError> {
    let history = History::load(remote, &request.reader).await?;
    let verdicts = Verdicts::load(remote, &request.reader, &request.believed).await?;
    // After the records: whatever they need was stored before them, so it is in this listing.
    let listing = remote.list().await?;
    let now = listing.server_time.unwrap_or_else(clock::now);
    let storage = storage(&history, &verdicts, &listing, now);
    let drilled = |(storage, signed): &(Storage, &SignedRecord)| {
        let drill = verdicts.drill(signed)?;
        let drilled = Drilled { point: storage.point, drilled: drill.receipt.time(), driller: drill.driller };
        Some((drilled, drill.receipt.receipt.passed))
    };
    let drills = storage.iter().rev().filter_map(drilled);
    let (passed, failed): (Vec<_>, Vec<_>) = drills.partition(|(_, passed)| *passed);
    let [passed, failed] =
        [passed, failed].map(|drills| drills.into_iter().map(|(drilled, _)| drilled).collect::<Vec<_>>());
    let is_unknown = |drilled: &&Drilled| drilled.driller == Driller::Unknown;
    let newest_drilled = passed.iter().find(|drilled| !is_unknown(drilled)).copied();
    let newest_drilled_by_unknown = passed.first().filter(is_unknown).copied();
    let newest_failed = failed.iter().find(|drilled| !is_unknown(drilled)).copied();
    let snapshots: Vec<Storage> = storage.into_iter().map(|(storage, _)| storage).collect();
    let newest = snapshots.last().map(|storage| storage.point);
    let newest_good = snapshots.iter().rev().find(|storage| storage.good).map(|storage| storage.point);
    let dir = request.reader.state_dir(remote);
    let kept = KeptKeys::load(&dir)?;
    let first_look = history.first_look();
    let mut warnings = history.warnings;
    warnings.extend(first_look);
    warnings.extend(standing_warnings(&kept, &[], !request.believed.is_empty()));
    let sealed_to = HostState::load(&dir)?.map(|host| host.sealed_to.epoch);
    warnings.extend(hurt_warning(remote, &snapshots).await?);
    warnings.extend(newest_good.or(newest).and_then(|point| time_to_come(point.sequence, point.time, now)));
    warnings.extend(sealed_to.and_then(|epoch| later_epochs(&kept, epoch, listing.keys.keys())));
    let doubtful = warnings.iter().any(|warning| warning.doubt);
    let (freshness, verdict) = match newest {
        Some(newest) => judge(newest, newest_good, request.max_age, doubtful),
        None if history.listed.is_empty() => (Freshness::Missing, "there is no snapshot".to_owned()),
        None => (Freshness::Missing, "no snapshot can be verified".to_owned()),
    };
    let recent = snapshots.iter().filter(|storage| storage.point.age_seconds <= GROWTH.as_secs());
    Ok(Status {
        freshness,
        verdict,
        newest,
        newest_good,
        newest_drilled,
        newest_drilled_by_unknown,
        newest_failed,
        stored_bytes: listing.stored_bytes(),
        growth_bytes: recent.map(|storage| storage.new_bytes).sum(),
        snapshots,
        managed_by_rotation: sealed_to.is_some_and(|epoch| managed_by_rotation(&kept, epoch, &listing.keys)),
        state_dir: dir,
        warnings,
    })
}

/// Every verified snapshot that is still listed.
fn storage<'a>(
    history: &'a History,
    verdicts: &Verdicts,
    listing: &Listing,
    now: Timestamp,
) -> Vec<(Storage, &'a SignedRecord)> {
    let snapshots = history.verified().zip(effective_times(history.stated()));
    let listed = snapshots.filter(|(signed, _)| listing.records.contains_key(&signed.record.sequence));
    let mut bill = Bill::default();
    let storage = |(signed, effective): (&'a Arc<SignedRecord>, Effective)| {
        let (record, time) = (&signed.record, effective.time);
        let new_bytes = bill.add(record);
        let healthy = record.worst_health() <= Health::Unchecked;
        let hurt = !verdicts.is_whole(record, listing);
        let sound = verdicts.is_sound(signed, listing);
        let point = Point { sequence: record.sequence, time, age_seconds: now.duration_since(time).as_secs() };
        let storage = Storage { point, new_bytes, stored_bytes: record.stored_bytes(), hurt, good: healthy && sound };
        (storage, signed.as_ref())
    };
    listed.map(storage).collect()
}

/// What no backup notices any more, once the newest snapshot does not need it. What retention took meanwhile is not hurt.
async fn hurt_warning(remote: &Remote, snapshots: &[Storage]) -> Result<Option<Warning>, OperationError> {
    let mut hurt: Vec<u64> = snapshots.iter().filter(|one| one.hurt).map(|one| one.point.sequence).collect();
    if !hurt.is_empty() {
        let listed = remote.list_records().await?;
        hurt.retain(|sequence| listed.contains_key(sequence));
    }
    Ok((!hurt.is_empty()).then(|| {
        let text = format!(
            "snapshot {} cannot be restored in full: something that it needs is missing or known to be bad. `sealift check` \
             names it and the way out",
            written(&ranges(hurt))
        );
        Warning::doubt("snapshots-hurt", text)
    }))
}

fn judge(newest: Point, good: Option<Point>, max_age: SignedDuration, doubtful: bool) -> (Freshness, String) {
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
            (Freshness::Doubtful, format!("snapshot {n} is not good; the newest good one is {}", good.sequence))
        }
        Some(_) if doubtful && newest.age_seconds < 0 => {
            (Freshness::Doubtful, format!("nobody can tell how old snapshot {n} is; see the warnings"))
        }
        Some(_) if doubtful => {
            (Freshness::Doubtful, format!("snapshot {n} is {:#} old; see the warnings", age(newest)))
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
        use Freshness::{Doubtful, Fresh, Stale};
        let cases = [
            (point(3, 1), Some(point(3, 1)), false, Fresh),
            (point(3, 26), Some(point(3, 26)), false, Fresh),
            (point(3, 27), Some(point(3, 27)), false, Stale),
            (point(3, 1), None, false, Stale),
            (point(3, 1), Some(point(1, 30)), false, Stale),
            (point(3, 1), Some(point(2, 20)), false, Doubtful),
            (point(3, 1), Some(point(3, 1)), true, Doubtful),
            // A time to come is a warning, and within a minute only a small difference between two clocks.
            (point(3, -2), Some(point(3, -2)), true, Doubtful),
            (point(3, 0), Some(point(3, 0)), false, Fresh),
        ];
        for (newest, good, doubtful, expected) in cases {
            let (freshness, verdict) = judge(newest, good, SignedDuration::from_hours(26), doubtful);
            assert_eq!(freshness, expected, "{verdict}");
        }
    }
}
