//! When a snapshot was taken, as far as a signed time can be believed.
//!
//! A record's effective time is its signed time, but not later than the server's last-modified and not earlier than
//! its predecessor's. So a clock that runs ahead, or a forger, cannot make a snapshot younger than it is; and a copied
//! bucket, all of whose objects are new, keeps its history.

use jiff::Timestamp;

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
}

/// The effective times of `snapshots`, which are in the order of their sequence numbers.
pub fn effective_times(snapshots: impl IntoIterator<Item = Stated>) -> Vec<Effective> {
    let mut latest: Option<(Timestamp, u64)> = None;
    let effective = |stated: Stated| {
        let own = stated.signed.min(stated.modified);
        match latest {
            Some((time, sequence)) if time > own => Effective { time, rests_on: Some(sequence) },
            _ => {
                latest = Some((own, stated.sequence));
                Effective { time: own, rests_on: None }
            }
        }
    };
    snapshots.into_iter().map(effective).collect()
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
}
