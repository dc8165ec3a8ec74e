//! The one place that asks what time it is. Everything above takes a time, or a clock, as an argument.

use std::fmt::Debug;
use std::time::Duration;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Gives the time to what takes long enough to ask more than once.
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

/// A moment on a clock that cannot be set and that runs while the machine is suspended. It says nothing after a reboot.
///
/// For "at most a minute ago": `std::time::Instant` stands still in a suspend, and a time of day can be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    pub fn now() -> Self {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Neither is ever negative there.
        let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(since_boot.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanoseconds))
    }

    /// Since this moment, suspends included.
    pub fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_boot_moves_on_as_the_kernel_counts_it() {
        let uptime = || -> f64 {
            let uptime = std::fs::read_to_string("/proc/uptime").expect("an uptime");
            uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("seconds")
        };
        // /proc/uptime counts suspends, too, in hundredths of a second.
        let (before, now, after) = (uptime(), BootInstant::now(), uptime());
        assert!((before - 0.01..after + 0.02).contains(&now.0.as_secs_f64()), "{before} {now:?} {after}");
        assert!(now <= BootInstant::now());
        let since_boot = BootInstant(Duration::ZERO).elapsed();
        assert!(since_boot >= now.0 && now.elapsed() < since_boot);
    }
}
