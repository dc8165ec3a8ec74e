//! Putting finished packs into the store, a fixed number at a time, each noted in the catalog's log first.

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

/// Uploads under way at once.
const UPLOADS: usize = 3;

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
        while let Some(pack) = packs.recv().await {
            let pack = pack.map_err(OperationError::Packing)?;
            if uploads.len() == UPLOADS
                && let Some(done) = uploads.join_next().await
            {
                done.map_err(|_| OperationError::Stopped)??;
            }
            uploads.spawn(Arc::clone(&self).upload(pack));
        }
        while let Some(done) = uploads.join_next().await {
            done.map_err(|_| OperationError::Stopped)??;
        }
        Ok(())
    }

    async fn upload(self: Arc<Self>, pack: FinishedPack) -> Result<(), OperationError> {
        let (name, bytes) = (pack.sealed.digest(), pack.sealed.len());
        // Noted first: a crash after the put then wastes nothing, and what never arrived is in no listing.
        self.note(pack.ordinal, name, bytes)?;
        let key = layout::pack(&name);
        self.store.create(&key, Stored::from(pack.sealed.clone())).await?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_string());
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.monitor.advance(Phase::Uploading, bytes);
        tracing::debug!(pack = %name, bytes, "pack stored");
        Ok(())
    }

    fn note(&self, ordinal: usize, name: Digest, bytes: u64) -> Result<(), OperationError> {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        catalog.close_pack(ordinal, name, bytes, self.epoch);
        Ok(catalog.append(ordinal, &self.dir)?)
    }
}
