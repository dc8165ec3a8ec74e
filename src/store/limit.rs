//! Holds a directory to so many bytes a second.
//!
//! Each transfer gets a span of time, its bytes divided by the rate; spans do not overlap, and a transfer returns no
//! earlier than its span ends. Inside the span a whole object moves as fast as the disk lets it: a file is synced as a
//! whole, so writing it in pieces would change little. Over a network that would fill the line: S3 has its own way,
//! see `s3_body`.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::pace::Pace;
use super::{Creation, Deletion, Key, Listing, ObjectInfo, Rates, Store, StoreError, Stored};

/// A store with limited rates.
#[derive(Debug)]
pub struct Limit {
    inner: Arc<dyn Store>,
    upload: Option<Pace>,
    download: Option<Pace>,
}

impl Limit {
    pub fn new(inner: Arc<dyn Store>, rates: Rates) -> Self {
        Self { inner, upload: rates.upload.map(Pace::new), download: rates.download.map(Pace::new) }
    }

    async fn upload<T>(
        &self,
        bytes: usize,
        transfer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(pace) = &self.upload else { return transfer.await };
        let span = pace.take(bytes);
        sleep_until(span.begin).await;
        let done = transfer.await?;
        sleep_until(span.end).await;
        Ok(done)
    }
}

#[async_trait]
impl Store for Limit {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        self.upload(body.bytes().len(), self.inner.create(key, body)).await
    }

    async fn create_attempt(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        self.upload(body.bytes().len(), self.inner.create_attempt(key, body)).await
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.upload(body.bytes().len(), self.inner.put(key, body)).await
    }

    async fn put_attempt(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.upload(body.bytes().len(), self.inner.put_attempt(key, body)).await
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_and_lock(key, max_bytes).await.map(|(bytes, _)| bytes)
    }

    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        let Some(pace) = &self.download else { return self.inner.get_and_lock(key, max_bytes).await };
        // The size is known only afterwards: wait for the spans taken so far, then take one for what came, from
        // the transfer's own beginning, so that its time at full speed is not charged twice.
        sleep_until(pace.take(0).begin).await;
        let began = Instant::now();
        let got = self.inner.get_and_lock(key, max_bytes).await?;
        sleep_until(pace.take_since(began, got.0.len()).end).await;
        Ok(got)
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.inner.head(key).await
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        self.inner.list_from(prefix, start_after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        self.inner.delete_many(keys).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn has_credentials(&self) -> bool {
        self.inner.has_credentials()
    }

    async fn locked_until(&self, key: &Key) -> Result<Option<Timestamp>, StoreError> {
        self.inner.locked_until(key).await
    }
}
