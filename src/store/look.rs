//! Create-once on a server that ignores conditional puts: look, put, read back.
//!
//! Guaranteed for one writer: [`Store::create`] keeps an object that is there, and [`Creation::Created`] means that a GET
//! after the put returned exactly these bytes.
//!
//! *Not* guaranteed: anything between two writers at the same instant. Both can see a free name and put; the later put
//! replaces the earlier object, and if each reads back before the other puts, both get [`Creation::Created`]. The loser
//! learns of it only when it reads the object again. So a repository opens its store through this only if a person chose
//! to have a single writer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Creation, Deletion, Key, Listing, ObjectInfo, Store, StoreError, Stored};

/// A store that looks before it creates. Everything but creating passes through.
#[derive(Debug)]
pub struct Look {
    inner: Arc<dyn Store>,
}

impl Look {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner }
    }

    /// What a create means for the object that is there before the put; `None` for a free name.
    async fn look(&self, key: &Key, body: &Stored) -> Result<Option<Creation>, StoreError> {
        let Some(there) = self.inner.head(key).await? else { return Ok(None) };
        if there.bytes != body.bytes().len() as u64 {
            return Ok(Some(Creation::AlreadyThere));
        }
        match self.compare(key, body).await {
            // Deleted since.
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(StoreError::AccessDenied { .. }) => Ok(Some(Creation::AlreadyThere)),
            compared => compared.map(Some),
        }
    }

    async fn compare(&self, key: &Key, body: &Stored) -> Result<Creation, StoreError> {
        match self.inner.get(key, body.bytes().len() as u64).await {
            Ok(there) if there == body.bytes() => Ok(Creation::Created),
            Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(Creation::AlreadyThere),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Store for Look {
    /// Errors: also those of reading back. An object that was put and cannot be read may have been replaced.
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        if let Some(creation) = self.look(key, &body).await? {
            return Ok(creation);
        }
        self.inner.put(key, body.clone()).await?;
        self.compare(key, &body).await
    }

    async fn create_attempt(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        if let Some(creation) = self.look(key, &body).await? {
            return Ok(creation);
        }
        self.inner.put_attempt(key, body.clone()).await?;
        self.compare(key, &body).await
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.inner.put(key, body).await
    }

    async fn put_attempt(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.inner.put_attempt(key, body).await
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.inner.get(key, max_bytes).await
    }

    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        self.inner.get_and_lock(key, max_bytes).await
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
