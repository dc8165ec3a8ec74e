//! When a snapshot was taken, as far as a signed time can be believed.
//!
//! A record's effective time is its signed time, but not later than the server's last-modified. So a clock that runs
//! ahead, or a forger, cannot make a snapshot younger than it is; and a copied bucket, all of whose objects are new, keeps
//! its history.
//!
//! Nothing says that a snapshot is younger than it says: in a copy, or where objects were rewritten, the server's times
//! show no order. So one whose time lies before that of a lower number is [behind](Effective::behind): one of both times is
//! wrong, and nobody can tell which.
//!
//! A record that came long after one with a higher number was put back, or planted in a hole that retention left. It is
//! [late](Effective::late_after). Both may stay, and never take the place of another.

use jiff::{SignedDuration, Timestamp};

/// By how much a record may be younger than its successors: a bucket is copied in no order.
const COPYING: SignedDuration = SignedDuration::from_hours(24);

/// By how much clocks may differ.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// Whether `time` is later than `now`, and no small difference between two clocks says why.
pub fn lies_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > TOLERANCE
}

/// What a record and the listing say about the time of one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    pub sequence: u64,
    /// The time in the record.
    pub signed: Timestamp,
    /// When the record was stored, by the server's clock.
    pub modified: Timestamp,
}

/// The time that retention goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    pub time: Timestamp,
    /// When the record was stored: whatever it says, it is not younger than that.
    pub modified: Timestamp,
    /// The lower number with the latest time, where that is later than this one's. While this one is kept, that one is,
    /// which alone shows that this one's time may be wrong.
    pub behind: Option<u64>,
    /// The later number that the server got more than a day before this one. While this one is kept, that one is, which
    /// alone shows that this one came late.
    pub late_after: Option<u64>,
}

/// The effective times of `snapshots`, which are in the order of their sequence numbers.
pub fn effective_times(snapshots: impl IntoIterator<Item = Stated>) -> Vec<Effective> {
    let snapshots: Vec<Stated> = snapshots.into_iter().collect();
    let late_after = late_after(&snapshots);
    let mut latest: Option<(Timestamp, u64)> = None;
    let effective = |(stated, late_after): (&Stated, Option<u64>)| {
        let time = stated.signed.min(stated.modified);
        let behind = latest.filter(|latest| latest.0 > time).map(|latest| latest.1);
        if behind.is_none() {
            latest = Some((time, stated.sequence));
        }
        Effective { time, modified: stated.modified, behind, late_after }
    };
    snapshots.iter().zip(late_after).map(effective).collect()
}

/// For each snapshot the one with a higher number that was stored first of all such, where that was long before it.
fn late_after(snapshots: &[Stated]) -> Vec<Option<u64>> {
    let mut first: Option<&Stated> = None;
    let mut late_after = Vec::with_capacity(snapshots.len());
    for stated in snapshots.iter().rev() {
        let late = first.filter(|first| stated.modified.duration_since(first.modified) > COPYING);
        late_after.push(late.map(|first| first.sequence));
        if first.is_none_or(|first| stated.modified < first.modified) {
            first = Some(stated);
        }
    }
    late_after.reverse();
    late_after
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of signed and modified, in hours; times, and whom they are behind.
    fn times(hours: &[(i64, i64)]) -> Vec<(i64, Option<u64>)> {
        let time = |hours: i64| Timestamp::from_second(hours * 3600).expect("a time");
        let stated = (1..).zip(hours).map(|(sequence, (signed, modified))| Stated {
            sequence,
            signed: time(*signed),
            modified: time(*modified),
        });
        effective_times(stated).iter().map(|found| (found.time.as_second() / 3600, found.behind)).collect()
    }

    #[test]
    fn honest_times_stand() {
        assert_eq!(times(&[(1, 1), (2, 2), (2, 3)]), [(1, None), (2, None), (2, None)]);
    }

    #[test]
    fn a_clock_that_runs_ahead_counts_as_the_servers() {
        assert_eq!(times(&[(1, 1), (9000, 2), (3, 3)]), [(1, None), (2, None), (3, None)]);
    }

    #[test]
    fn a_time_before_that_of_a_lower_number_stands_and_is_behind_the_latest_such() {
        assert_eq!(
            times(&[(90, 90), (100, 100), (3, 101), (95, 102), (103, 103)]),
            [(90, None), (100, None), (3, Some(2)), (95, Some(2)), (103, None)]
        );
    }

    #[test]
    fn a_copied_bucket_keeps_its_history() {
        assert_eq!(times(&[(1, 900), (2, 800), (3, 901)]), [(1, None), (2, None), (3, None)]);
    }

    #[test]
    fn no_record_makes_another_one_younger_whenever_the_server_got_them() {
        for modified in [[240, 48, 72], [300, 300, 300], [300, 310, 320], [320, 310, 300]] {
            let [planted, second, third] = modified;
            assert_eq!(
                times(&[(240, planted), (48, second), (72, third), (999, 999)]),
                [(240, None), (48, Some(1)), (72, Some(1)), (999, None)]
            );
        }
    }

    #[test]
    fn only_what_came_more_than_a_day_after_its_successor_is_late() {
        let stated = |(sequence, hours): (u64, i64)| {
            let time = Timestamp::from_second(hours * 3600).expect("a time");
            Stated { sequence, signed: time, modified: time }
        };
        let late = |hours: &[i64]| {
            let stated = (1..).zip(hours.iter().copied()).map(stated);
            effective_times(stated).iter().map(|effective| effective.late_after).collect::<Vec<_>>()
        };
        assert_eq!(late(&[1, 100, 76, 101]), [None, None, None, None]);
        assert_eq!(late(&[1, 101, 76, 200]), [None, Some(3), None, None]);
        assert_eq!(late(&[300, 299, 1]), [Some(3), Some(3), None]);
    }
}
