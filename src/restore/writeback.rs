//! Bringing restored files to the disk while the rest is still fetched and verified, so that no time is lost for it at
//! the end. Left to itself, the kernel begins when memory runs short.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::task::{JoinHandle, spawn_blocking};

use super::OperationError;
use super::scatter::Target;

/// One at a time syncs what was written so far.
pub(super) struct Writeback {
    more: SyncSender<()>,
    syncing: JoinHandle<Result<(), OperationError>>,
}

impl Writeback {
    pub fn start(targets: Arc<[Target]>) -> Self {
        let (more, wake) = sync_channel(1);
        Self { more, syncing: spawn_blocking(move || sync_until_filled(&targets, &wake)) }
    }

    /// More has been written.
    pub fn go_on(&self) {
        // Where the disk has not come to what was there before, it will find this, too.
        let _ = self.more.try_send(());
    }

    /// Everything has been written; this waits until all of it is on the disk.
    pub async fn finish(self) -> Result<(), OperationError> {
        drop(self.more);
        self.syncing.await.map_err(|_| OperationError::Stopped)?
    }
}

fn sync_until_filled(targets: &[Target], wake: &Receiver<()>) -> Result<(), OperationError> {
    while wake.recv().is_ok() {
        sync(targets)?;
    }
    sync(targets)
}

fn sync(targets: &[Target]) -> Result<(), OperationError> {
    targets.iter().try_for_each(|target| target.file.sync_data().map_err(OperationError::io(&target.path)))
}
