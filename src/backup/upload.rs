//! Putting finished packs into the store as they come, each noted in the catalog's log meanwhile.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::task::{JoinSet, spawn_blocking};

use super::packing::{FinishedPack, FinishedPacks};
use super::{Monitor, OperationError, Phase};
use crate::crypto::Digest;
use crate::format::layout;
use crate::host::Catalog;
use crate::store::{Key, Store, Stored};

pub(super) struct Uploader {
    pub store: Arc<dyn Store>,
    pub catalog: Arc<RwLock<Catalog>>,
    pub epoch: u32,
    /// Where the catalog's log is.
    pub dir: PathBuf,
    pub monitor: Arc<dyn Monitor>,
    /// Bytes stored by this run.
    pub bytes: AtomicU64,
    /// What this run put, with its size.
    pub put: Mutex<HashMap<Key, u64>>,
    /// Held while the log is written to.
    pub log: Mutex<()>,
}

impl Uploader {
    /// Bytes that this run has stored.
    pub fn uploaded(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The packs that this run put, with their sizes.
    pub fn put(&self) -> HashMap<Key, u64> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uploads what comes out of `packs` until it ends. After the first failure the rest is dropped, which stops the
    /// lanes; packs already stored stay noted, and the next run continues from them.
    pub async fn run(self: Arc<Self>, mut packs: FinishedPacks) -> Result<(), OperationError> {
        let mut uploads = JoinSet::new();
        loop {
            tokio::select! {
                pack = packs.next() => match pack {
                    Some(pack) => drop(uploads.spawn(Arc::clone(&self).upload(pack.map_err(OperationError::Packing)?))),
                    None => break,
                },
                Some(done) = uploads.join_next() => done.map_err(|_| OperationError::Stopped)??,
            }
        }
        while let Some(done) = uploads.join_next().await {
            done.map_err(|_| OperationError::Stopped)??;
        }
        Ok(())
    }

    /// Stores one pack.
    async fn upload(self: Arc<Self>, pack: FinishedPack) -> Result<(), OperationError> {
        let (name, bytes) = (pack.sealed.digest(), pack.sealed.len());
        let noting = Arc::clone(&self);
        let key = layout::pack(&name);
        // Long before the put is done, so that a crash wastes next to nothing; and what never arrived is in no listing.
        let noted = spawn_blocking(move || noting.note(pack.ordinal, name, bytes));
        let stored = self.store.create(&key, Stored::from(pack.sealed.clone()));
        let (noted, stored) = tokio::join!(noted, stored);
        noted.map_err(|_| OperationError::Stopped)??;
        stored?;
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(key, bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.monitor.advance(Phase::Uploading, bytes);
        tracing::debug!(pack = %name, bytes, "pack stored");
        Ok(())
    }

    fn note(&self, ordinal: usize, name: Digest, bytes: u64) -> Result<(), OperationError> {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        catalog.close_pack(ordinal, name, bytes, self.epoch);
        let entry = catalog.entry(ordinal).unwrap_or_default();
        drop(catalog);
        // Blocks are looked up while the disk is waited for.
        let _log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Catalog::append(&self.dir, &entry)?)
    }
}
