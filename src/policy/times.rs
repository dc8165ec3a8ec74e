//! The time of a snapshot, and whether it is in order.
//!
//! The time is the earlier of the signed one and the server's. So a clock that runs ahead cannot make a snapshot younger
//! than it is, and a copied bucket, all of whose objects are new, keeps its history.
//!
//! A snapshot is out of order if it was stored more than a day after a higher number, or is dated more than an hour before
//! a lower number that is itself in order. Retention rules neither count nor remove it.

use jiff::{SignedDuration, Timestamp};

/// By how much a record may be younger than its successors: a bucket is copied in no order.
const STORED_LATE: SignedDuration = SignedDuration::from_hours(24);

/// By how much a snapshot may be dated before a lower number: clocks are set back by seconds, and by an hour by mistake.
const DATED_EARLY: SignedDuration = SignedDuration::from_hours(1);

/// By how much the clocks of two machines may differ unnoticed.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// Whether `time` is later than `now` by more than a minute.
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

/// The time that restore, status and retention go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTime {
    /// The earlier of the signed time and the server's.
    pub time: Timestamp,
    /// When the record was stored, by the server's clock.
    pub stored: Timestamp,
    /// Rules neither count nor remove it.
    pub out_of_order: bool,
}

/// The times of `snapshots`, which are in the order of their sequence numbers.
pub fn snapshot_times(snapshots: impl IntoIterator<Item = Stated>) -> Vec<SnapshotTime> {
    let snapshots: Vec<Stated> = snapshots.into_iter().collect();
    // The latest time of a lower number that is in order.
    let mut latest: Option<Timestamp> = None;
    let time = |(stated, stored_late): (&Stated, bool)| {
        let time = stated.signed.min(stated.modified);
        let dated_early = latest.is_some_and(|latest| latest.duration_since(time) > DATED_EARLY);
        let out_of_order = stored_late || dated_early;
        if !out_of_order {
            latest = latest.max(Some(time));
        }
        SnapshotTime { time, stored: stated.modified, out_of_order }
    };
    snapshots.iter().zip(stored_late(&snapshots)).map(time).collect()
}

/// For each snapshot whether it was stored more than a day after one with a higher number.
fn stored_late(snapshots: &[Stated]) -> Vec<bool> {
    let mut first: Option<Timestamp> = None;
    let mut late = Vec::with_capacity(snapshots.len());
    for stated in snapshots.iter().rev() {
        late.push(first.is_some_and(|first| stated.modified.duration_since(first) > STORED_LATE));
        first = Some(first.map_or(stated.modified, |first| first.min(stated.modified)));
    }
    late.reverse();
    late
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn stated(minutes: &[(i64, i64)]) -> Vec<Stated> {
        let time = |minutes: i64| Timestamp::from_second(minutes * 60).expect("a time");
        let stated = |(sequence, (signed, modified)): (u64, &(i64, i64))| Stated {
            sequence,
            signed: time(*signed),
            modified: time(*modified),
        };
        (1..).zip(minutes).map(stated).collect()
    }

    /// Pairs of signed and stored, in hours; times in hours, and who is out of order.
    fn times(hours: &[(i64, i64)]) -> Vec<(i64, bool)> {
        let minutes: Vec<_> = hours.iter().map(|(signed, stored)| (signed * 60, stored * 60)).collect();
        let times = snapshot_times(stated(&minutes));
        times.iter().map(|found| (found.time.as_second() / 3600, found.out_of_order)).collect()
    }

    #[test]
    fn ordinary_times_are_in_order() {
        assert_eq!(times(&[(1, 1), (2, 2), (2, 3)]), [(1, false), (2, false), (2, false)]);
    }

    #[test]
    fn a_clock_that_runs_ahead_counts_as_the_servers() {
        assert_eq!(times(&[(1, 1), (9000, 2), (3, 3)]), [(1, false), (2, false), (3, false)]);
    }

    #[test]
    fn dated_more_than_an_hour_before_a_lower_number_that_is_in_order_is_out_of_order() {
        assert_eq!(
            times(&[(90, 90), (100, 100), (3, 101), (95, 102), (103, 103)]),
            [(90, false), (100, false), (3, true), (95, true), (103, false)]
        );
        let out = |minutes: &[(i64, i64)]| snapshot_times(stated(minutes))[1].out_of_order;
        assert!(!out(&[(100, 100), (40, 101)]));
        assert!(out(&[(100, 100), (39, 101)]));
    }

    /// 2 was stored days after 3: the late time that it says makes nothing after it early.
    #[test]
    fn what_is_out_of_order_itself_puts_no_other_out_of_order() {
        assert_eq!(
            times(&[(10, 10), (90, 200), (20, 20), (30, 30)]),
            [(10, false), (90, true), (20, false), (30, false)]
        );
    }

    #[test]
    fn a_copied_bucket_keeps_its_history() {
        assert_eq!(times(&[(1, 900), (2, 890), (3, 901)]), [(1, false), (2, false), (3, false)]);
    }

    #[test]
    fn stored_more_than_a_day_after_a_higher_number_is_out_of_order() {
        let out = |hours: &[i64]| {
            let times = times(&hours.iter().map(|hours| (1, *hours)).collect::<Vec<_>>());
            times.iter().map(|(_, out_of_order)| *out_of_order).collect::<Vec<_>>()
        };
        assert_eq!(out(&[1, 100, 76, 101]), [false; 4]);
        assert_eq!(out(&[1, 101, 76, 200]), [false, true, false, false]);
        assert_eq!(out(&[300, 299, 1]), [true, true, false]);
    }

    proptest! {
        /// From the definition, pair by pair.
        #[test]
        fn out_of_order_is_what_the_definition_says(minutes in vec((0..5000i64, 0..5000i64), 1..30)) {
            let stated = stated(&minutes);
            let times = snapshot_times(stated.clone());
            let minutes_between = |later: Timestamp, earlier: Timestamp| later.duration_since(earlier).as_secs() / 60;
            for (at, time) in times.iter().enumerate() {
                let late = stated[at + 1..].iter().any(|higher| minutes_between(time.stored, higher.modified) > 24 * 60);
                let early = times[..at].iter().any(|lower| {
                    !lower.out_of_order && minutes_between(lower.time, time.time) > 60
                });
                prop_assert_eq!(time.out_of_order, late || early);
                prop_assert_eq!(time.time, stated[at].signed.min(stated[at].modified));
            }
        }

        /// So there is always something that the rules can go by.
        #[test]
        fn at_least_one_is_in_order(minutes in vec((0..5000i64, 0..5000i64), 1..30)) {
            prop_assert!(snapshot_times(stated(&minutes)).iter().any(|time| !time.out_of_order));
        }

        /// One more snapshot at the end, stored after all others, changes nothing about those before it.
        #[test]
        fn a_new_snapshot_changes_no_other(minutes in vec((0..5000i64, 0..5000i64), 1..30), signed in 0..9000i64) {
            let before = snapshot_times(stated(&minutes));
            let after = snapshot_times(stated(&[minutes, vec![(signed, 5000)]].concat()));
            prop_assert_eq!(&before[..], &after[..before.len()]);
        }
    }
}
