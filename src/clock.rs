//! The one place that asks what time it is. Everything above takes a time as an argument.

use jiff::{Timestamp, Unit};

/// Now, in whole seconds: what records and receipts are stamped with.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}
