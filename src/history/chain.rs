//! Whether the records that lie there follow on each other as they say.
//!
//! Each names the one before by its hash, and all earlier ones by their numbers. So one that was exchanged, put back
//! after it was removed, or written beside the others by a copy of the host does not fit. Nor does one that the server got
//! long after its successors, or whose time lies before that of a lower number.

use super::{History, Warning};
use crate::format::SignedRecord;
use crate::format::ranges::{Range, ranges, without, written};
use crate::policy::effective::{Effective, effective_times};

pub(super) fn check(history: &History) -> Vec<Warning> {
    let verified: Vec<&SignedRecord> = history.verified().map(AsRef::as_ref).collect();
    let pairs = verified.windows(2).flat_map(|pair| check_pair(pair[0], pair[1]));
    let sequences = verified.iter().map(|signed| signed.record.sequence);
    let times: Vec<(u64, Effective)> = sequences.zip(effective_times(history.stated())).collect();
    pairs.chain(check_list(&verified)).chain(check_late(&times)).chain(check_behind(&times)).collect()
}

/// What does not fit between two records, of which the first is the one before the second, as far as it is there.
fn check_pair(before: &SignedRecord, record: &SignedRecord) -> Vec<Warning> {
    let (n, before_n) = (record.record.sequence, before.record.sequence);
    let parent = record.record.earlier.last().map_or(0, |range| range.1);
    let mut warnings = Vec::new();
    if parent == before_n && record.record.previous != Some(before.signed.digest()) {
        let text = format!(
            "snapshot {n} does not follow on the snapshot {before_n} that lies here: one of them was exchanged"
        );
        warnings.push(Warning::doubt("broken-chain", text));
    }
    let below = |ranges: &[Range]| without(ranges, &[(before_n, u64::MAX)]);
    let unknown = without(&below(&record.record.earlier), &before.record.earlier);
    if !unknown.is_empty() {
        let text = format!(
            "snapshot {n} names snapshot {} as earlier, which snapshot {before_n} does not: the one or the other was \
             not made by the host that it says",
            written(&unknown)
        );
        warnings.push(Warning::doubt("earlier-unfit", text));
    }
    warnings
}

/// What lies there and the newest record does not name.
fn check_list(verified: &[&SignedRecord]) -> Option<Warning> {
    let (newest, earlier) = verified.split_last()?;
    let unlisted = without(&ranges(earlier.iter().map(|record| record.record.sequence)), &newest.record.earlier);
    (!unlisted.is_empty()).then(|| {
        let text = format!(
            "snapshot {} does not know of snapshot {}, which has a valid signature: it was put back after it was \
             removed, or a copy of the host writes here, too",
            newest.record.sequence,
            written(&unlisted)
        );
        Warning::doubt("record-unlisted", text)
    })
}

/// What came more than a day after a higher number. No more than a standing warning: a bucket whose copying took longer
/// looks like that, too.
fn check_late(times: &[(u64, Effective)]) -> Option<Warning> {
    let late = |(sequence, effective): &(u64, Effective)| Some((*sequence, effective.late_after?));
    let late: Vec<(u64, u64)> = times.iter().filter_map(late).collect();
    let (first, after) = *late.first()?;
    let numbers = written(&ranges(late.iter().map(|(sequence, _)| *sequence)));
    let text = format!(
        "snapshot {numbers} came to the server more than a day after a higher number ({first} after {after}): it was put \
         back, or planted by somebody who has the host's key, or the bucket was copied slowly. It takes no other's place in \
         retention; if it does not belong there, `sealift retain --remove {first} --apply` takes it out"
    );
    Some(Warning::standing("stored-late", text))
}

/// What says to be older than a lower number. A standing warning, too: a clock that was wrong once leaves it behind.
fn check_behind(times: &[(u64, Effective)]) -> Option<Warning> {
    let behind = |(sequence, effective): &(u64, Effective)| Some((*sequence, effective.behind?));
    let behind: Vec<(u64, u64)> = times.iter().filter_map(behind).collect();
    let (first, than) = *behind.first()?;
    let numbers = written(&ranges(behind.iter().map(|(sequence, _)| *sequence)));
    let text = format!(
        "snapshot {numbers} has an earlier time than a lower number ({first} than {than}): the clock of the host was wrong, \
         or one of them was planted by somebody who has the host's key. Nobody can tell which time is right, so those stay \
         until younger ones have all places in retention; if {than} does not belong there, \
         `sealift retain --remove {than} --apply` takes it out"
    );
    Some(Warning::standing("time-behind", text))
}
