//! Which stored bytes a check reads that is to read only a share of them.
//!
//! P percent are one part of 100 / P (rounded up); an object's part follows from its name. Which part comes next is
//! remembered on this machine, and moves on when a check came to its end. So after that many checks every object was
//! read, however often they run and whatever cuts one short. Where nothing is remembered, as in a container that is made
//! new each time, the day says which part it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::crypto::Digest;
use crate::finding::Finding;
use crate::host::Rounds;

/// One part of so many of all stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    parts: u64,
    /// The first is 0.
    part: u64,
}

impl Sample {
    pub fn includes(&self, name: &Digest) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *name.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % self.parts == self.part
    }

    /// As a person counts, from 1: which part of how many.
    pub fn counted(&self) -> (u64, u64) {
        (self.part + 1, self.parts)
    }
}

/// A round through all parts, as this machine remembers it.
pub(super) struct Round {
    dir: PathBuf,
    /// The snapshot that is looked at; `None`: every one.
    only: Option<u64>,
    pub sample: Sample,
}

impl Round {
    /// The part of `percent` (1 to 100) whose turn it is, by the state in `dir`, or by the day of `now`. A round that
    /// cannot be read any more starts over.
    pub fn next(dir: &Path, percent: u8, only: Option<u64>, now: Timestamp) -> (Self, Option<Finding>) {
        let parts = 100_u64.div_ceil(u64::from(percent.clamp(1, 100)));
        let (mut rounds, warning) = match Rounds::load(dir) {
            Ok(rounds) => (rounds, None),
            Err(error) => (Rounds::default(), Some(Finding::ReadingRestarted { why: error.to_string() })),
        };
        let part = rounds.of(only).get(&parts).map_or_else(|| part_of_day(now, parts), |part| part % parts);
        (Self { dir: dir.to_owned(), only, sample: Sample { parts, part } }, warning)
    }

    /// To be called when all of the part was read: the next check reads the next one. Only of snapshots that are `listed`
    /// anything is remembered.
    pub fn advance(self, listed: &BTreeSet<u64>) -> Option<Finding> {
        let Sample { parts, part } = self.sample;
        if parts == 1 {
            return None;
        }
        // Read again: another check may have ended meanwhile.
        let mut rounds = Rounds::load(&self.dir).unwrap_or_default();
        rounds.of(self.only).insert(parts, (part + 1) % parts);
        rounds.each.retain(|sequence, _| listed.contains(sequence));
        let saved = rounds.save(&self.dir);
        saved.err().map(|error| Finding::ReadingNotRemembered { why: error.to_string() })
    }
}

/// One part after the other on successive days, and each round begins elsewhere (multiplied by 2^64 over the golden
/// ratio): so a check every second day, or every seventh, comes to all of them, too.
fn part_of_day(now: Timestamp, parts: u64) -> u64 {
    let day = u64::try_from(now.as_second()).unwrap_or(0) / (24 * 3600);
    let begin = (day / parts).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (day + begin) % parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    fn read(dir: &Path, percent: u8) -> Sample {
        read_of(dir, percent, None)
    }

    fn read_of(dir: &Path, percent: u8, only: Option<u64>) -> Sample {
        let (round, warning) = Round::next(dir, percent, only, Timestamp::UNIX_EPOCH);
        let sample = round.sample;
        assert_eq!((warning, round.advance(&BTreeSet::from([1, 2]))), (None, None));
        sample
    }

    #[test]
    fn each_round_reads_every_object_exactly_once_and_rounds_of_other_lengths_go_on_beside_it() {
        let names: Vec<Digest> = (0..500u32).map(|n| sha256(&n.to_le_bytes())).collect();
        let dir = tempfile::tempdir().expect("a folder");
        for (percent, checks) in [(100, 1), (99, 2), (50, 2), (49, 3), (5, 20), (4, 25), (3, 34), (1, 100)] {
            for _ in 0..2 {
                let round: Vec<Sample> = (0..checks)
                    .map(|_| {
                        read(dir.path(), 7);
                        read(dir.path(), percent)
                    })
                    .collect();
                let times = |name| round.iter().filter(|sample| sample.includes(name)).count();
                assert!(names.iter().all(|name| times(name) == 1), "{percent} %");
            }
        }
    }

    #[test]
    fn what_came_to_no_end_is_read_again_and_each_snapshot_has_a_round_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = read(dir.path(), 10);
        let cut_short = Round::next(dir.path(), 10, None, Timestamp::MAX).0.sample;
        assert_eq!((first.counted(), cut_short.counted()), ((1, 10), (2, 10)));
        for counted in [(1, 10), (2, 10)] {
            for only in [1, 2] {
                assert_eq!(read_of(dir.path(), 10, Some(only)).counted(), counted);
            }
        }
        assert_eq!(read(dir.path(), 10), cut_short);
        // Of one that is gone nothing is remembered.
        read_of(dir.path(), 10, Some(3));
        assert_eq!(Rounds::load(dir.path()).expect("rounds").each.into_keys().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn without_memory_everything_is_read_by_and_by_however_many_days_lie_between() {
        let dir = tempfile::tempdir().expect("a folder");
        for (percent, runs) in [(5, 20_u16), (15, 7), (3, 34), (50, 2)] {
            for (between, rounds) in [(1, 2), (2, 20), (7, 20)] {
                let part = |run: u16| {
                    let now = Timestamp::from_second((20_000 + i64::from(run) * between) * 24 * 3600).expect("a time");
                    Round::next(dir.path(), percent, None, now).0.sample.part
                };
                let read: std::collections::BTreeSet<u64> = (0..rounds * runs).map(part).collect();
                assert_eq!(read.len(), usize::from(runs), "{percent} % every {between} days");
            }
        }
    }

    #[test]
    fn a_part_reads_about_its_share() {
        let dir = tempfile::tempdir().expect("a folder");
        let sample = read(dir.path(), 5);
        let read = (0..4000u32).filter(|n| sample.includes(&sha256(&n.to_le_bytes()))).count();
        assert!((140..260).contains(&read), "{read} of 4000");
    }
}
