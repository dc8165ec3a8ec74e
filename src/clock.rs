//! The one place that asks what time it is. Everything above takes a time as an argument.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// The second that runs now, never one to come: what records and receipts are stamped with.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).unwrap_or(now)
}
