//! The application: it commits every few milliseconds, and notes how long each commit took.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::random::{Language, Random};
use super::trinity;

const PAUSE: Duration = Duration::from_millis(4);
/// Python's default, and so what Trinity's scheduler waits before a write of its fails.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A thread that writes until it is stopped or dropped.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<rusqlite::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

/// What was committed in a while.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub commits: u64,
    /// From the start of a transaction to the end of its commit.
    pub longest: Duration,
}

impl Writer {
    pub fn start(path: &Path, seed: u64) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let thread = std::thread::spawn(move || mine.write(&mut connection, seed));
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What was committed since the last call.
    pub fn lap(&self) -> Tally {
        std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends it with the commit that is under way; an error if one of its writes had failed.
    pub fn stop(mut self) -> rusqlite::Result<Tally> {
        self.end()?;
        Ok(self.lap())
    }

    fn end(&mut self) -> rusqlite::Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Shared {
    fn write(&self, connection: &mut Connection, seed: u64) -> rusqlite::Result<()> {
        let (mut random, language) = (Random::new(seed), Language::new());
        while !self.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for _ in 0..1 + random.below(3) {
                trinity::say(&work, &mut random, &language, "2026-09-01T12:00:00Z")?;
            }
            work.commit()?;
            let took = started.elapsed();
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.commits += 1;
            tally.longest = tally.longest.max(took);
            drop(tally);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}
