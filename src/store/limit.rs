//! Holds a store to so many bytes a second.
//!
//! Each transfer gets a span of time, its bytes divided by the rate; spans do not overlap, and a transfer returns no
//! earlier than its span ends. Bytes move at line speed inside the span: the average over a few objects is the
//! rate, a single packet's is not. Transfers that run slower than the limit are never slowed further, because a
//! span begins by the limit's clock and not when the transfer before it is done.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::{Creation, Deletion, Key, Listing, ObjectInfo, Store, StoreError, Stored};

/// A store with limited rates. Bodies count; names, headers and listings do not.
#[derive(Debug)]
pub struct Limit {
    inner: Arc<dyn Store>,
    upload: Pace,
    download: Pace,
}

impl Limit {
    /// Rates are in bytes a second; `None` is unlimited.
    pub fn new(inner: Arc<dyn Store>, upload: Option<NonZeroU64>, download: Option<NonZeroU64>) -> Self {
        Self { inner, upload: Pace::new(upload), download: Pace::new(download) }
    }
}

#[async_trait]
impl Store for Limit {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        let span = self.upload.take(body.bytes().len());
        span.begin().await;
        let created = self.inner.create(key, body).await?;
        span.end().await;
        Ok(created)
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        let span = self.upload.take(body.bytes().len());
        span.begin().await;
        self.inner.put(key, body).await?;
        span.end().await;
        Ok(())
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_and_lock(key, max_bytes).await.map(|(bytes, _)| bytes)
    }

    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        // The size is known only afterwards: wait for the spans taken so far, then take one for what came, from
        // the transfer's own beginning, so that its time at line speed is not charged twice.
        self.download.take(0).begin().await;
        let began = Instant::now();
        let got = self.inner.get_and_lock(key, max_bytes).await?;
        self.download.take_since(began, got.0.len()).end().await;
        Ok(got)
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        self.inner.delete_many(keys).await
    }

    async fn locked_until(&self, key: &Key) -> Result<Option<Timestamp>, StoreError> {
        self.inner.locked_until(key).await
    }
}

/// Hands out spans of time, one after the other.
#[derive(Debug)]
struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    taken_until: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

impl Pace {
    fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, taken_until: Mutex::new(None) }
    }

    fn take(&self, bytes: usize) -> Span {
        self.take_since(Instant::now(), bytes)
    }

    /// A span for `bytes`, after all others and not before `earliest`.
    fn take_since(&self, earliest: Instant, bytes: usize) -> Span {
        let Some(rate) = self.bytes_per_second else { return Span { begin: earliest, end: earliest } };
        let length = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let mut taken_until = self.taken_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = taken_until.map_or(earliest, |taken| taken.max(earliest));
        let end = begin + length;
        *taken_until = Some(end);
        Span { begin, end }
    }
}

impl Span {
    async fn begin(&self) {
        sleep_until(self.begin).await;
    }

    async fn end(&self) {
        sleep_until(self.end).await;
    }
}
