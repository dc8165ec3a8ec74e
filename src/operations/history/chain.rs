//! Whether the records that lie there follow on each other as they say.
//!
//! Each names the one before by its hash, and all earlier ones by their numbers. So one that was exchanged, put back
//! after it was removed, or written beside the others by a copy of the host does not fit.

use super::{History, Warning};
use crate::repository::SignedRecord;
use crate::repository::ranges::{Range, without, written};

pub(super) fn check(history: &History) -> Vec<Warning> {
    let verified: Vec<&SignedRecord> = history.verified().map(AsRef::as_ref).collect();
    verified.windows(2).flat_map(|pair| check_pair(pair[0], pair[1])).collect()
}

/// What does not fit between two records, of which the first is the one before the second, as far as it is there.
fn check_pair(before: &SignedRecord, record: &SignedRecord) -> Vec<Warning> {
    let (n, before_n) = (record.record.sequence, before.record.sequence);
    let parent = record.record.earlier.last().map_or(0, |range| range.1);
    let mut warnings = Vec::new();
    if parent < before_n {
        let text = format!(
            "snapshot {n} does not know of snapshot {before_n}, which lies before it and has a valid signature: \
             a copy of the host writes here, too, or one of them was put back after it was removed"
        );
        warnings.push(Warning::doubt("forked-chain", text));
    } else if parent == before_n && record.record.previous != Some(before.signed.digest()) {
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
