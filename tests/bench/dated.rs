//! A bucket on a real server whose clock is one that the bench holds: every request goes there, and what was written is as
//! old as that clock says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sealift::clock::Clock;
use sealift::store::{Creation, Deletion, Key, Listing, ObjectInfo, Store, StoreError, Stored};

use super::support::memory::VirtualClock;

#[derive(Debug)]
pub struct Dated {
    server: Arc<dyn Store>,
    clock: Arc<VirtualClock>,
    written: Mutex<HashMap<Key, Timestamp>>,
}

impl Dated {
    pub fn new(server: Arc<dyn Store>, clock: Arc<VirtualClock>) -> Arc<Self> {
        Arc::new(Self { server, clock, written: Mutex::default() })
    }

    fn dated(&self, object: ObjectInfo) -> ObjectInfo {
        let modified = self.written.lock().unwrap()[&object.key];
        ObjectInfo { modified, ..object }
    }
}

#[async_trait]
impl Store for Dated {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        let creation = self.server.create(key, body).await?;
        if creation == Creation::Created {
            self.written.lock().unwrap().entry(key.clone()).or_insert_with(|| self.clock.now());
        }
        Ok(creation)
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.server.put(key, body).await?;
        self.written.lock().unwrap().insert(key.clone(), self.clock.now());
        Ok(())
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.server.get(key, max_bytes).await
    }

    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        self.server.get_and_lock(key, max_bytes).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(self.server.head(key).await?.map(|object| self.dated(object)))
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        let Listing { objects, pages, .. } = self.server.list_from(prefix, start_after).await?;
        let objects = objects.into_iter().map(|object| self.dated(object)).collect();
        Ok(Listing { objects, server_time: Some(self.clock.now()), pages })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.server.delete(key).await?;
        self.written.lock().unwrap().remove(key);
        Ok(())
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        let deletion = self.server.delete_many(keys).await?;
        let is_there = |key: &Key| deletion.failed.iter().any(|(failed, _)| failed == key);
        self.written.lock().unwrap().retain(|key, _| !keys.contains(key) || is_there(key));
        Ok(deletion)
    }

    async fn locked_until(&self, key: &Key) -> Result<Option<Timestamp>, StoreError> {
        self.server.locked_until(key).await
    }
}
