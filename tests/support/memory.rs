//! A bucket in memory, with a clock that the test holds: what is written gets the time that this clock shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sealift::clock::Clock;
use sealift::crypto::sha256;
use sealift::store::{Creation, Deletion, Key, Listing, ObjectInfo, Store, StoreError, Stored};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    pub fn at(time: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(time.as_second())))
    }

    pub fn advance(&self, by: SignedDuration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

/// The bucket.
#[derive(Debug)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, (Bytes, Timestamp)>>,
    /// What its listings lack, though it is there.
    unlisted: Mutex<Vec<Key>>,
    clock: Arc<VirtualClock>,
}

impl MemoryStore {
    pub fn new(clock: Arc<VirtualClock>) -> Arc<Self> {
        Arc::new(Self { objects: Mutex::default(), unlisted: Mutex::default(), clock })
    }

    /// What `key` holds, without asking as a client would.
    pub fn peek(&self, key: &Key) -> Option<Bytes> {
        self.objects.lock().unwrap().get(key).map(|(bytes, _)| bytes.clone())
    }

    /// All names that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<Key> {
        let objects = self.objects.lock().unwrap();
        objects.keys().filter(|key| key.as_str().starts_with(prefix)).cloned().collect()
    }

    /// From now on its listings lack `key`.
    pub fn unlist(&self, key: Key) {
        self.unlisted.lock().unwrap().push(key);
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.objects.lock().unwrap().values().map(|(bytes, _)| bytes.len() as u64).sum()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        let mut objects = self.objects.lock().unwrap();
        match objects.get(key) {
            Some((there, _)) if there == body.bytes() => Ok(Creation::Created),
            Some(_) => Ok(Creation::AlreadyThere),
            None => {
                objects.insert(key.clone(), (body.bytes().clone(), self.clock.now()));
                Ok(Creation::Created)
            }
        }
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.objects.lock().unwrap().insert(key.clone(), (body.bytes().clone(), self.clock.now()));
        Ok(())
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        let object = key.to_string();
        match self.peek(key) {
            Some(bytes) if bytes.len() as u64 > max_bytes => Err(StoreError::TooLarge { object, max_bytes }),
            Some(bytes) => Ok(bytes),
            None => Err(StoreError::NotFound { object }),
        }
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let objects = self.objects.lock().unwrap();
        Ok(objects.get(key).map(|(bytes, modified)| info(key, bytes, *modified)))
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        let (objects, unlisted) = (self.objects.lock().unwrap(), self.unlisted.lock().unwrap());
        let after = objects.iter().filter(|(key, _)| start_after.is_none_or(|name| *key > name));
        let listed = after.filter(|(key, _)| key.as_str().starts_with(prefix) && !unlisted.contains(key));
        Ok(Listing {
            objects: listed.map(|(key, (bytes, modified))| info(key, bytes, *modified)).collect(),
            server_time: Some(self.clock.now()),
            pages: 1,
        })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    /// A thousand in one request, as S3 has it.
    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        let mut objects = self.objects.lock().unwrap();
        keys.iter().for_each(|key| drop(objects.remove(key)));
        Ok(Deletion { requests: keys.len().div_ceil(1000) as u64, ..Deletion::default() })
    }
}

fn info(key: &Key, bytes: &Bytes, modified: Timestamp) -> ObjectInfo {
    ObjectInfo { key: key.clone(), bytes: bytes.len() as u64, modified, etag: Some(sha256(bytes).to_string()) }
}
