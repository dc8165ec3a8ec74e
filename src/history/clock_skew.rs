//! Snapshots whose time has not come yet: a clock is wrong, so nobody can tell how old they are.

use jiff::{SignedDuration, Timestamp};

use crate::finding::Warning;
use crate::policy::effective::lies_ahead;

/// A doubt where `time`, at which the snapshot was taken by its effective time, lies ahead of `now`.
pub(crate) fn time_to_come(sequence: u64, time: Timestamp, now: Timestamp) -> Option<Warning> {
    lies_ahead(time, now).then(|| {
        let ahead = SignedDuration::from_secs(time.duration_since(now).as_secs());
        let text = format!(
            "the time of snapshot {sequence} lies {ahead:#} ahead: the clock of the host, of the server or of this machine \
             is wrong, so nobody can tell how old it is. Set that clock, and take a new snapshot"
        );
        Warning::doubt("time-to-come", text)
    })
}
