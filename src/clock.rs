//! The one place that asks what time it is. Everything above takes a time, or a clock, as an argument.

use std::fmt::Debug;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Tells the time to what takes long enough to ask more than once.
pub trait Clock: Send + Sync + Debug {
    /// In whole seconds, and never one to come.
    fn now(&self) -> Timestamp;
}

/// This machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        now()
    }
}

/// The second that runs now, never one to come: what records and receipts are stamped with.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).unwrap_or(now)
}
