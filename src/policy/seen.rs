//! What a machine remembers of a repository against what is there now: rolled back, replaced, removed. Times are never a
//! conflict, and nothing is computed again to explain a gap.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::crypto::Digest;
use crate::finding::{Finding, Numbers};
use crate::format::ranges::{Range, contains, ranges, without};

/// What this machine saw at one location at its last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLook {
    /// The newest record that it verified: number, and SHA-256 of its bytes.
    pub newest: Option<(u64, Digest)>,
    /// The numbers of the records that counted.
    #[serde(default)]
    pub listed: Numbers,
    /// How many days had a snapshot.
    #[serde(default)]
    pub days: u64,
    /// Records that counted and are gone.
    #[serde(default)]
    pub missed: BTreeMap<u64, Missed>,
}

/// A record that counted and is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// When this machine first missed it.
    pub since: Timestamp,
    /// This machine removed it.
    pub here: bool,
}

/// What is there under the number of the newest record that this machine verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The same bytes.
    Same,
    /// Other bytes, whose signature counts.
    Replaced,
    /// Bytes that do not count; they are named for themselves.
    Unusable,
    Absent,
}

/// What follows from the remembered newest record: `None` where it is in place or was removed since.
pub fn judge_newest(remembered: u64, found: Remembered, newest: Option<u64>) -> Option<Finding> {
    match found {
        Remembered::Same | Remembered::Unusable => None,
        Remembered::Replaced => Some(Finding::RecordReplaced { snapshot: remembered }),
        Remembered::Absent if newest.is_some_and(|newest| newest > remembered) => None,
        Remembered::Absent => Some(Finding::RolledBack { snapshot: remembered, newest }),
    }
}

/// A record that counts, as it is there now.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub sequence: u64,
    pub digest: Digest,
    /// The day that it is of, counted from any fixed one.
    pub day: i64,
}

impl LastLook {
    /// Takes note of what is `present`, in ascending order, and says what is gone. `there`: all numbers under which a record
    /// lies, whether it counts or not. `is_conflict`: the repository was rolled back or a record was replaced, and no person
    /// has accepted that, so the remembered newest record stays.
    pub fn update(
        &mut self,
        present: &[Present],
        there: &[Range],
        now: Timestamp,
        grace: SignedDuration,
        is_conflict: bool,
    ) -> Vec<Finding> {
        let gone = self.gone(there);
        for sequence in gone.into_iter().flat_map(|(first, last)| first..=last) {
            self.missed.entry(sequence).or_insert(Missed { since: now, here: false });
        }
        let is_over = |missed: &Missed| now.duration_since(missed.since) > grace;
        self.missed.retain(|sequence, missed| !contains(there, *sequence) && !is_over(missed));
        let removed = ranges(self.missed.iter().filter(|(_, missed)| !missed.here).map(|(sequence, _)| *sequence));
        let mut days: Vec<i64> = present.iter().map(|record| record.day).collect();
        days.sort_unstable();
        days.dedup();
        let (days_before, days_left) = (self.days, days.len() as u64);
        let mut findings = Vec::new();
        if !removed.is_empty() && !is_conflict {
            if days_left.saturating_mul(2) < days_before {
                findings.push(Finding::ManyRemoved { days_before, days_left });
            }
            findings.push(Finding::SnapshotsRemoved { snapshots: removed });
        }
        // One that counted and does not any more is not gone until it is.
        let counted = |sequence: &u64| contains(&self.listed, *sequence);
        let still = there.iter().flat_map(|(first, last)| *first..=*last).filter(counted);
        let all: BTreeSet<u64> = still.chain(present.iter().map(|record| record.sequence)).collect();
        self.listed = ranges(all);
        self.days = days_left;
        if let Some(newest) = present.last().filter(|_| !is_conflict) {
            self.saw_newest(newest.sequence, newest.digest);
        }
        findings
    }

    /// The newest record that counts. What was remembered is only ever raised: an older one in its place is a rollback until
    /// a person accepts it.
    pub fn saw_newest(&mut self, sequence: u64, digest: Digest) {
        if self.newest.is_none_or(|(known, _)| known <= sequence) {
            self.newest = Some((sequence, digest));
        }
    }

    /// What counted at the last look and is not `there`.
    pub fn gone(&self, there: &[Range]) -> Numbers {
        without(&self.listed, there)
    }

    /// These go by this machine's own doing: no news to it, and they are no longer remembered as the newest.
    pub fn remove_here(&mut self, removed: impl IntoIterator<Item = u64>, now: Timestamp) {
        for sequence in removed {
            self.newest = self.newest.filter(|newest| newest.0 != sequence);
            self.missed.insert(sequence, Missed { since: now, here: true });
            self.listed = without(&self.listed, &[(sequence, sequence)]);
        }
        // The days that are left are counted at the next look.
        self.days = 0;
    }

    /// This host's own new record.
    pub fn add_own(&mut self, sequence: u64, digest: Digest) {
        self.newest = Some((sequence, digest));
        if !contains(&self.listed, sequence) {
            self.listed.push((sequence, sequence));
            self.listed.sort_unstable();
            let joined = std::mem::take(&mut self.listed);
            for range in joined {
                match self.listed.last_mut() {
                    Some(last) if last.1 + 1 == range.0 => last.1 = range.1,
                    _ => self.listed.push(range),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::sha256;

    const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * 3600).expect("a time")
    }

    fn present(sequences: &[u64]) -> Vec<Present> {
        let record = |sequence: &u64| Present {
            sequence: *sequence,
            digest: sha256(&sequence.to_le_bytes()),
            day: sequence.cast_signed(),
        };
        sequences.iter().map(record).collect()
    }

    fn codes(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(Finding::code).collect()
    }

    #[test]
    fn what_is_gone_is_a_note_for_the_grace_period_and_then_nothing() {
        let mut look = LastLook::default();
        assert!(look.update(&present(&[1, 2, 3]), &ranges([1, 2, 3]), at(0), GRACE, false).is_empty());
        assert_eq!(codes(&look.update(&present(&[2, 3]), &ranges([2, 3]), at(1), GRACE, false)), ["snapshots-removed"]);
        assert_eq!(
            codes(&look.update(&present(&[2, 3]), &ranges([2, 3]), at(168), GRACE, false)),
            ["snapshots-removed"]
        );
        assert!(look.update(&present(&[2, 3]), &ranges([2, 3]), at(170), GRACE, false).is_empty());
        assert!(look.missed.is_empty());
    }

    #[test]
    fn what_this_machine_removed_is_no_news_to_it() {
        let mut look = LastLook::default();
        look.update(&present(&[1, 2, 3, 4, 5]), &ranges([1, 2, 3, 4, 5]), at(0), GRACE, false);
        look.remove_here([1, 2, 3, 4], at(1));
        assert!(look.update(&present(&[5]), &ranges([5]), at(1), GRACE, false).is_empty());
    }

    #[test]
    fn more_than_half_of_the_days_at_once_is_a_warning_once() {
        let mut look = LastLook::default();
        look.update(&present(&[1, 2, 3, 4, 5]), &ranges([1, 2, 3, 4, 5]), at(0), GRACE, false);
        assert_eq!(
            codes(&look.update(&present(&[4, 5]), &ranges([4, 5]), at(1), GRACE, false)),
            ["many-removed", "snapshots-removed"]
        );
        assert_eq!(codes(&look.update(&present(&[4, 5]), &ranges([4, 5]), at(2), GRACE, false)), ["snapshots-removed"]);
        let mut look = LastLook::default();
        look.update(&present(&[1, 2, 3, 4]), &ranges([1, 2, 3, 4]), at(0), GRACE, false);
        assert_eq!(codes(&look.update(&present(&[3, 4]), &ranges([3, 4]), at(1), GRACE, false)), ["snapshots-removed"]);
    }

    #[test]
    fn a_remembered_record_that_is_gone_means_a_rollback_only_without_a_newer_one() {
        use Remembered::{Absent, Replaced, Same, Unusable};
        let code = |found, newest| judge_newest(5, found, newest).map(|finding| finding.code());
        assert_eq!(code(Absent, Some(6)), None);
        for newest in [Some(4), None] {
            assert_eq!(code(Absent, newest), Some("rolled-back"));
        }
        assert_eq!(code(Replaced, Some(6)), Some("record-replaced"));
        assert_eq!((code(Same, Some(5)), code(Unusable, Some(4))), (None, None));
    }

    #[test]
    fn what_was_remembered_is_not_lowered_by_a_look_that_finds_the_newest_record_damaged() {
        let mut look = LastLook::default();
        look.update(&present(&[1, 2, 3]), &ranges([1, 2, 3]), at(0), GRACE, false);
        // 3 lies there and does not count.
        look.update(&present(&[1, 2]), &ranges([1, 2, 3]), at(1), GRACE, false);
        assert_eq!(look.newest.map(|newest| newest.0), Some(3));
        look.remove_here([3], at(2));
        look.update(&present(&[1, 2]), &ranges([1, 2]), at(2), GRACE, false);
        assert_eq!(look.newest.map(|newest| newest.0), Some(2));
    }

    #[test]
    fn in_a_conflict_the_remembered_newest_record_stays() {
        let mut look = LastLook::default();
        look.update(&present(&[1, 2, 3]), &ranges([1, 2, 3]), at(0), GRACE, false);
        let newest = look.newest;
        look.update(&present(&[1, 2]), &ranges([1, 2]), at(1), GRACE, true);
        assert_eq!(look.newest, newest);
        // A person accepts it.
        look.newest = None;
        look.update(&present(&[1, 2]), &ranges([1, 2]), at(1), GRACE, false);
        assert_eq!(look.newest.map(|newest| newest.0), Some(2));
        look.add_own(3, sha256(b"own"));
        assert_eq!((look.listed.clone(), look.newest), (vec![(1, 3)], Some((3, sha256(b"own")))));
    }

    proptest! {
        /// Whatever is found in whatever order: without a person the remembered number never falls.
        #[test]
        fn what_was_remembered_as_the_newest_never_falls(looks in vec((btree_set(1_u64..20, 0..8), any::<bool>()), 1..8)) {
            let mut look = LastLook::default();
            for (hour, (numbers, is_conflict)) in (0..).zip(&looks) {
                let before = look.newest.map(|newest| newest.0);
                let numbers: Vec<u64> = numbers.iter().copied().collect();
                let there = ranges(numbers.iter().copied());
                look.update(&present(&numbers), &there, at(hour), GRACE, *is_conflict);
                prop_assert!(look.newest.map(|newest| newest.0) >= before);
                prop_assert!(numbers.iter().all(|number| contains(&look.listed, *number)));
                prop_assert!(look.missed.keys().all(|number| !contains(&there, *number)));
            }
        }
    }
}
