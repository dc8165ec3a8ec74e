//! Which stored bytes a check reads today.
//!
//! A sample of P percent is one slice of 100 / P (rounded down); an object's slice follows from its name, the day's from
//! the date. So a daily check has read every object once after that many days, whoever runs it and wherever.

use jiff::Timestamp;

use crate::crypto::Digest;

const DAY_SECONDS: i64 = 24 * 3600;

/// A share of all stored bytes that changes with the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    slices: u64,
    today: u64,
}

impl Sample {
    /// At least `percent` (1 to 100) of all objects, of the day of `now` in UTC.
    pub fn new(percent: u8, now: Timestamp) -> Self {
        let slices = 100 / u64::from(percent.clamp(1, 100));
        let day = now.as_second().div_euclid(DAY_SECONDS).unsigned_abs();
        Self { slices, today: day % slices }
    }

    pub fn includes(&self, name: &Digest) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *name.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % self.slices == self.today
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    fn on_day(percent: u8, day: i64) -> Sample {
        Sample::new(percent, Timestamp::from_second(1_790_000_000 + day * DAY_SECONDS).expect("a time"))
    }

    #[test]
    fn over_its_days_every_object_is_read_exactly_once() {
        let names: Vec<Digest> = (0..500u32).map(|n| sha256(&n.to_le_bytes())).collect();
        for (percent, days) in [(100, 1), (60, 1), (50, 2), (5, 20), (4, 25), (3, 33), (1, 100)] {
            for first in [0, 17] {
                let read = |name| (first..first + days).filter(|day| on_day(percent, *day).includes(name)).count();
                assert!(names.iter().all(|name| read(name) == 1), "{percent} %");
            }
        }
    }

    #[test]
    fn a_day_reads_about_its_share() {
        let read = (0..4000u32).filter(|n| on_day(5, 3).includes(&sha256(&n.to_le_bytes()))).count();
        assert!((140..260).contains(&read), "{read} of 4000");
    }
}
