//! Putting finished packs into the store, a bounded number of bytes at a time, each noted in the catalog's log first.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::packing::FinishedPack;
use super::{Monitor, OperationError, Phase};
use crate::crypto::Digest;
use crate::repository::layout;
use crate::state::Catalog;
use crate::store::{Store, Stored};

/// Uploads under way at once have no more bytes than this in all, unless a single one does: five packs or so.
const BYTES_IN_FLIGHT: u64 = 32 << 20;

pub(super) struct Uploader {
    pub store: Arc<dyn Store>,
    pub catalog: Arc<RwLock<Catalog>>,
    pub epoch: u32,
    /// Where the catalog's log is.
    pub dir: PathBuf,
    pub monitor: Arc<dyn Monitor>,
    /// Bytes stored by this run.
    pub bytes: AtomicU64,
    /// Names stored by this run.
    pub names: Mutex<HashSet<String>>,
}

impl Uploader {
    /// Bytes that this run has stored.
    pub fn uploaded(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether this run stored the object of this name.
    pub fn put_now(&self, object: &str) -> bool {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).contains(object)
    }

    /// Uploads what comes out of `packs` until it ends. After the first failure the rest is dropped, which stops the
    /// lanes; packs already stored stay noted, and the next run goes on from them.
    pub async fn run(
        self: Arc<Self>,
        mut packs: mpsc::Receiver<Result<FinishedPack, std::io::Error>>,
    ) -> Result<(), OperationError> {
        let mut uploads = JoinSet::new();
        let mut in_flight = 0;
        while let Some(pack) = packs.recv().await {
            let pack = pack.map_err(OperationError::Packing)?;
            while in_flight > 0 && in_flight + pack.sealed.len() > BYTES_IN_FLIGHT {
                in_flight -= finished(uploads.join_next().await)?;
            }
            in_flight += pack.sealed.len();
            uploads.spawn(Arc::clone(&self).upload(pack));
        }
        while in_flight > 0 {
            in_flight -= finished(uploads.join_next().await)?;
        }
        Ok(())
    }

    /// Stores one pack; its size.
    async fn upload(self: Arc<Self>, pack: FinishedPack) -> Result<u64, OperationError> {
        let (name, bytes) = (pack.sealed.digest(), pack.sealed.len());
        // Noted first: a crash after the put then wastes nothing, and what never arrived is in no listing.
        self.note(pack.ordinal, name, bytes)?;
        let key = layout::pack(&name);
        self.store.create(&key, Stored::from(pack.sealed.clone())).await?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_string());
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.monitor.advance(Phase::Uploading, bytes);
        tracing::debug!(pack = %name, bytes, "pack stored");
        Ok(bytes)
    }

    fn note(&self, ordinal: usize, name: Digest, bytes: u64) -> Result<(), OperationError> {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        catalog.close_pack(ordinal, name, bytes, self.epoch);
        Ok(catalog.append(ordinal, &self.dir)?)
    }
}

fn finished(done: Option<Result<Result<u64, OperationError>, tokio::task::JoinError>>) -> Result<u64, OperationError> {
    match done {
        Some(Ok(uploaded)) => uploaded,
        // A task that panicked or is not there: neither can happen while bytes are in flight.
        Some(Err(_)) | None => Err(OperationError::Stopped),
    }
}
