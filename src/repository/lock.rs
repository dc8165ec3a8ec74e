//! One writing command a state directory at a time: waiting for this one's turn, in a way that Ctrl-C ends.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::OperationError;
use crate::host::{LockFile, StateError, WriterLock};

/// How often the lock is asked for.
const POLL: Duration = Duration::from_millis(50);

/// Takes the writer's lock in `dir`, waiting for at most `wait`.
pub(crate) async fn take_turn(dir: &Path, wait: Duration) -> Result<WriterLock, OperationError> {
    let began = Instant::now();
    let mut file = LockFile::open(dir)?;
    loop {
        match file.take() {
            Ok(lock) => return Ok(lock),
            Err((waiting, StateError::Locked { .. })) if began.elapsed() < wait => file = waiting,
            Err((_, error)) => return Err(error.into()),
        }
        sleep(POLL).await;
    }
}
