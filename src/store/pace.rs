//! The time that bytes take at a rate, given out to all transfers of one direction.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Limits of what moves; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Bytes a second, as in `download`. Bodies count; names, headers and listings do not.
    pub upload: Option<NonZeroU64>,
    pub download: Option<NonZeroU64>,
}

/// A piece is what moves in so much of a second, within the bounds below: a line is never full for long, and no timer
/// fires more often than it can.
const PIECES_PER_SECOND: u64 = 50;
const MIN_PIECE: u64 = 1 << 10;
const MAX_PIECE: u64 = 64 << 10;

/// How much earlier than the pace a piece may move. Timers are late by a little: so that is made up for, and no more.
const SLACK: Duration = Duration::from_millis(20);

/// Transfers that move at once where each must end in a bounded time.
const SHARERS: u32 = 8;

/// Gives out spans of time, one after the other, so that what moves in them moves at the rate.
///
/// Who moves slower than the rate is never slowed further: time that was not asked for is not saved up.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: NonZeroU64,
    taken_until: Mutex<Option<Instant>>,
    shares: Semaphore,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub begin: Instant,
    pub end: Instant,
}

impl Pace {
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, taken_until: Mutex::new(None), shares: Semaphore::new(SHARERS as usize) }
    }

    /// What `bytes` take where nothing else moves.
    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64)
    }

    pub fn take(&self, bytes: usize) -> Span {
        self.take_since(Instant::now(), bytes)
    }

    /// A span for `bytes`, after all others and not before `earliest`.
    pub fn take_since(&self, earliest: Instant, bytes: usize) -> Span {
        let mut taken_until = self.taken_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = taken_until.map_or(earliest, |taken| taken.max(earliest));
        let end = begin + self.time_for(bytes);
        *taken_until = Some(end);
        Span { begin, end }
    }

    /// Waits until few enough others move. Who holds a share moves `bytes` within [`Pace::time_for_share`].
    pub async fn share(&self) -> Option<SemaphorePermit<'_>> {
        self.shares.acquire().await.ok()
    }

    /// What `bytes` take at most where all who may share the pace do.
    pub fn time_for_share(&self, bytes: usize) -> Duration {
        self.time_for(bytes) * SHARERS
    }

    /// As much of a body as should move at once, in bytes; at least 1.
    pub fn piece(&self) -> usize {
        let bytes = (self.bytes_per_second.get() / PIECES_PER_SECOND).clamp(MIN_PIECE, MAX_PIECE);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// When a piece of a body may move. In no window does more go than at the rate in the window and [`SLACK`].
    pub fn due(&self, bytes: usize) -> Instant {
        let end = self.take(bytes).end;
        end.checked_sub(SLACK).unwrap_or(end)
    }

    /// Waits until a piece that came may be followed by another.
    pub async fn wait(&self, bytes: usize) {
        sleep_until(self.due(bytes)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn as_many_share_a_pace_as_the_time_for_a_share_allows_for() {
        let pace = Pace::new(NonZeroU64::new(1000).expect("not zero"));
        let mut shares = Vec::new();
        while let Some(Some(share)) = pace.share().now_or_never() {
            shares.push(share);
        }
        assert_eq!(Duration::from_secs(shares.len() as u64), pace.time_for_share(1000));
        shares.pop();
        assert!(pace.share().now_or_never().is_some(), "the next one's turn");
    }
}
