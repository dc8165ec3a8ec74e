//! When a snapshot was taken, as far as a signed time can be believed.
//!
//! A record's effective time is its signed time, but not later than the server's last-modified, and not earlier than that
//! of a predecessor which the server had before it. So no time is ever later than the record's own last-modified: a clock
//! that runs ahead, or a forger, cannot make a snapshot younger than it is, neither his own nor, by a record under a free
//! low number, those of others. A copied bucket, all of whose objects are new, keeps its history.
//!
//! A record that came long after one with a higher number was put back, or planted in a hole that retention left. It is
//! [late](Effective::late_after): it may stay, and never takes the place of another.

use jiff::{SignedDuration, Timestamp};

/// By how much a record may be younger than its successors: a bucket is copied in no order.
const COPYING: SignedDuration = SignedDuration::from_hours(24);

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
    /// The earlier snapshot whose time it has, because its own lies before that. While this one is kept, that one is:
    /// without it this one would become older, and a clock that was set back would eat a day of history at each run.
    pub rests_on: Option<u64>,
    /// The later number that the server got more than a day before this one. While this one is kept, that one is, which
    /// alone shows that this one came late.
    pub late_after: Option<u64>,
}

/// A snapshot whose time is its own, and whose time later ones inherit.
struct Holder {
    sequence: u64,
    time: Timestamp,
    modified: Timestamp,
}

/// The effective times of `snapshots`, which are in the order of their sequence numbers.
pub fn effective_times(snapshots: impl IntoIterator<Item = Stated>) -> Vec<Effective> {
    let snapshots: Vec<Stated> = snapshots.into_iter().collect();
    let late_after = late_after(&snapshots);
    // Each later both in its time and in when it was stored than the one before it.
    let mut holders: Vec<Holder> = Vec::new();
    let effective = |(stated, late_after): (&Stated, Option<u64>)| {
        let own = stated.signed.min(stated.modified);
        let stored_before = holders.partition_point(|holder| holder.modified <= stated.modified);
        match holders[..stored_before].last() {
            Some(holder) if holder.time > own => {
                Effective { time: holder.time, rests_on: Some(holder.sequence), late_after }
            }
            _ => {
                let begin = holders.partition_point(|holder| holder.modified < stated.modified);
                let end = holders.partition_point(|holder| holder.time <= own);
                let new = Holder { sequence: stated.sequence, time: own, modified: stated.modified };
                holders.splice(begin..end, [new]);
                Effective { time: own, rests_on: None, late_after }
            }
        }
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

    /// Pairs of signed and modified, in hours.
    fn times(hours: &[(i64, i64)]) -> Vec<(i64, Option<u64>)> {
        let time = |hours: i64| Timestamp::from_second(hours * 3600).expect("a time");
        let stated = (1..).zip(hours).map(|(sequence, (signed, modified))| Stated {
            sequence,
            signed: time(*signed),
            modified: time(*modified),
        });
        effective_times(stated).iter().map(|found| (found.time.as_second() / 3600, found.rests_on)).collect()
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
    fn a_clock_that_was_set_back_counts_as_its_predecessors_and_says_whose() {
        assert_eq!(
            times(&[(100, 100), (3, 101), (4, 102), (103, 103)]),
            [(100, None), (100, Some(1)), (100, Some(1)), (103, None)]
        );
    }

    #[test]
    fn a_copied_bucket_keeps_its_history() {
        assert_eq!(times(&[(1, 900), (2, 800), (3, 901)]), [(1, None), (2, None), (3, None)]);
    }

    #[test]
    fn a_record_planted_under_a_free_low_number_makes_no_other_younger() {
        assert_eq!(
            times(&[(24, 24), (240, 240), (48, 48), (72, 72), (250, 250)]),
            [(24, None), (240, None), (48, None), (72, None), (250, None)]
        );
        // Nor does it where the bucket was copied before.
        assert_eq!(times(&[(1, 300), (399, 400), (2, 300), (3, 300)]), [(1, None), (399, None), (2, None), (3, None)]);
    }

    #[test]
    fn the_latest_of_those_that_were_stored_before_holds_the_time() {
        assert_eq!(
            times(&[(10, 10), (30, 30), (20, 20), (3, 25), (4, 31)]),
            [(10, None), (30, None), (20, None), (20, Some(3)), (30, Some(2))]
        );
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

    /// By the definition, one by one.
    #[test]
    fn times_are_what_the_definition_says() {
        let mut random = 1u64;
        let mut below = |bound: i64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(random >> 40).expect("small") % bound
        };
        for _ in 0..2000 {
            let hours: Vec<(i64, i64)> = (0..12).map(|_| (below(20), below(20))).collect();
            let own = |(signed, modified): (i64, i64)| signed.min(modified);
            let expected = |n: usize| {
                let before = hours[..n].iter().filter(|before| before.1 <= hours[n].1);
                before.map(|before| own(*before)).max().map_or(own(hours[n]), |before| before.max(own(hours[n])))
            };
            let found: Vec<i64> = times(&hours).iter().map(|(time, _)| *time).collect();
            assert_eq!(found, (0..hours.len()).map(expected).collect::<Vec<_>>(), "{hours:?}");
        }
    }
}
