//! Counts what passes through a store: for `--json`, and for tests that bound what an operation may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Creation, Deletion, Key, Listing, ObjectInfo, Store, StoreError, Stored};

/// A store that counts.
///
/// A request counts when it ends, failed or not; a listing counts once a page, a removal of many once a request. What the
/// S3 client repeats below this (retries, the reading back after a conflict) is not seen here.
#[derive(Debug)]
pub struct Meter {
    inner: Arc<dyn Store>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    create: AtomicU64,
    put: AtomicU64,
    get: AtomicU64,
    head: AtomicU64,
    list: AtomicU64,
    delete: AtomicU64,
    uploaded_bytes: AtomicU64,
    downloaded_bytes: AtomicU64,
}

/// Requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Requests {
    pub create: u64,
    pub put: u64,
    pub get: u64,
    pub head: u64,
    /// Pages of listings; a failed listing counts as one.
    pub list: u64,
    /// Requests, each of one object or of many; one of many that failed as a whole counts as one.
    pub delete: u64,
}

/// What a [`Meter`] has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    pub requests: Requests,
    /// Bytes of bodies given to `create` and `put`, failed or not.
    pub uploaded_bytes: u64,
    /// Bytes of bodies that `get` returned.
    pub downloaded_bytes: u64,
}

impl Meter {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, counts: Counts::default() }
    }

    async fn uploading<T>(
        &self,
        count: &AtomicU64,
        bytes: usize,
        upload: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = upload.await;
        count.fetch_add(1, Relaxed);
        self.counts.uploaded_bytes.fetch_add(bytes as u64, Relaxed);
        done
    }

    /// The counts at about this moment.
    pub fn usage(&self) -> Usage {
        let counts = &self.counts;
        Usage {
            requests: Requests {
                create: counts.create.load(Relaxed),
                put: counts.put.load(Relaxed),
                get: counts.get.load(Relaxed),
                head: counts.head.load(Relaxed),
                list: counts.list.load(Relaxed),
                delete: counts.delete.load(Relaxed),
            },
            uploaded_bytes: counts.uploaded_bytes.load(Relaxed),
            downloaded_bytes: counts.downloaded_bytes.load(Relaxed),
        }
    }
}

#[async_trait]
impl Store for Meter {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        self.uploading(&self.counts.create, body.bytes().len(), self.inner.create(key, body)).await
    }

    async fn create_attempt(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        self.uploading(&self.counts.create, body.bytes().len(), self.inner.create_attempt(key, body)).await
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.uploading(&self.counts.put, body.bytes().len(), self.inner.put(key, body)).await
    }

    async fn put_attempt(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.uploading(&self.counts.put, body.bytes().len(), self.inner.put_attempt(key, body)).await
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_and_lock(key, max_bytes).await.map(|(bytes, _)| bytes)
    }

    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        let got = self.inner.get_and_lock(key, max_bytes).await;
        self.counts.get.fetch_add(1, Relaxed);
        let bytes = got.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64);
        self.counts.downloaded_bytes.fetch_add(bytes, Relaxed);
        got
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let info = self.inner.head(key).await;
        self.counts.head.fetch_add(1, Relaxed);
        info
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        let listing = self.inner.list_from(prefix, start_after).await;
        let pages = listing.as_ref().map_or(1, |listing| listing.pages);
        self.counts.list.fetch_add(pages, Relaxed);
        listing
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let deleted = self.inner.delete(key).await;
        self.counts.delete.fetch_add(1, Relaxed);
        deleted
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        let deleted = self.inner.delete_many(keys).await;
        let requests = deleted.as_ref().map_or(1, |deletion| deletion.requests);
        self.counts.delete.fetch_add(requests, Relaxed);
        deleted
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn has_credentials(&self) -> bool {
        self.inner.has_credentials()
    }

    async fn locked_until(&self, key: &Key) -> Result<Option<Timestamp>, StoreError> {
        let until = self.inner.locked_until(key).await;
        self.counts.head.fetch_add(1, Relaxed);
        until
    }
}
