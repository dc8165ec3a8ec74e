//! Looking before creating: what it decides, what it asks for, and what it cannot decide.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use sealift::store::{Creation, Key, Listing, Look, Meter, ObjectInfo, Requests, Store, StoreError, Stored};

use crate::suite::{key, text};
use crate::support::memory::{MemoryStore, VirtualClock};

/// What another client does right after the next put.
#[derive(Debug)]
enum Meanwhile {
    Replaces(&'static str),
    Deletes,
}

/// A server that ignores conditions.
#[derive(Debug)]
struct Ignores {
    memory: Arc<MemoryStore>,
    meanwhile: Mutex<Option<Meanwhile>>,
    unreadable: bool,
}

impl Ignores {
    fn new(meanwhile: Option<Meanwhile>) -> Self {
        let memory = MemoryStore::new(VirtualClock::at(jiff::Timestamp::UNIX_EPOCH));
        Self { memory, meanwhile: Mutex::new(meanwhile), unreadable: false }
    }
}

#[async_trait]
impl Store for Ignores {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        self.put(key, body).await.map(|()| Creation::Created)
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.memory.put(key, body).await?;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        match meanwhile {
            Some(Meanwhile::Replaces(by)) => self.memory.put(key, text(by)).await,
            Some(Meanwhile::Deletes) => self.memory.delete(key).await,
            None => Ok(()),
        }
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        if self.unreadable {
            let (object, code) = (key.to_string(), "AccessDenied".to_owned());
            return Err(StoreError::AccessDenied { object, code, message: String::new() });
        }
        self.memory.get(key, max_bytes).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.memory.head(key).await
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        self.memory.list_from(prefix, start_after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.memory.delete(key).await
    }
}

fn looking(server: Ignores) -> (Arc<MemoryStore>, Arc<Meter>, Look) {
    let memory = server.memory.clone();
    let meter = Arc::new(Meter::new(Arc::new(server)));
    (memory, meter.clone(), Look::new(meter))
}

/// What comes of storing "mine" as `a`, in many attempts or in one.
async fn create(store: &Look, attempt: bool) -> Result<Creation, StoreError> {
    match attempt {
        true => store.create_attempt(&key("a"), text("mine")).await,
        false => store.create(&key("a"), text("mine")).await,
    }
}

#[tokio::test]
async fn a_free_name_costs_a_look_a_put_and_a_look_back() {
    for attempt in [false, true] {
        let (memory, meter, store) = looking(Ignores::new(None));
        assert_eq!(create(&store, attempt).await.expect("created"), Creation::Created);
        assert_eq!(memory.peek(&key("a")).expect("there"), "mine");
        assert_eq!(meter.usage().requests, Requests { head: 1, put: 1, get: 1, ..Requests::default() });
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_put() {
    for attempt in [false, true] {
        for (there, creation) in
            [("mine", Creation::Created), ("ours", Creation::AlreadyThere), ("longer", Creation::AlreadyThere)]
        {
            let (memory, meter, store) = looking(Ignores::new(None));
            memory.put(&key("a"), text(there)).await.expect("a put");
            assert_eq!(create(&store, attempt).await.expect("an answer"), creation, "{there}");
            assert_eq!(memory.peek(&key("a")).expect("there"), there);
            assert_eq!(meter.usage().requests.put, 0);
        }
    }
}

#[tokio::test]
async fn one_that_was_replaced_right_after_the_put_is_another_s() {
    for attempt in [false, true] {
        for by in ["ours", "longer", ""] {
            let (_, _, store) = looking(Ignores::new(Some(Meanwhile::Replaces(by))));
            assert_eq!(create(&store, attempt).await.expect("an answer"), Creation::AlreadyThere, "{by}");
        }
        let (_, _, store) = looking(Ignores::new(Some(Meanwhile::Deletes)));
        let gone = create(&store, attempt).await.expect_err("put and gone");
        assert!(matches!(gone, StoreError::NotFound { .. }), "{gone:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_there_before_and_an_error_after() {
    let unreadable = || Ignores { unreadable: true, ..Ignores::new(None) };
    let (memory, meter, store) = looking(unreadable());
    memory.put(&key("a"), text("ours")).await.expect("a put");
    assert_eq!(create(&store, false).await.expect("an answer"), Creation::AlreadyThere);
    assert_eq!(meter.usage().requests.put, 0);
    let (_, _, store) = looking(unreadable());
    let denied = create(&store, false).await.expect_err("it cannot be read back");
    assert!(matches!(denied, StoreError::AccessDenied { .. }), "{denied:?}");
}

/// The limit that the module's text names: the last of two that overlap wins, and both can get `Created`.
#[tokio::test]
async fn two_that_overlap_are_not_decided() {
    let (memory, _, one) = looking(Ignores::new(None));
    let other = Look::new(memory.clone());
    assert_eq!(memory.head(&key("a")).await.expect("an answer"), None, "both look");
    assert_eq!(create(&one, false).await.expect("created"), Creation::Created);
    memory.put(&key("a"), text("other")).await.expect("the other's put");
    assert_eq!(other.create(&key("a"), text("other")).await.expect("an answer"), Creation::Created);
    assert_eq!(
        create(&one, false).await.expect("an answer"),
        Creation::AlreadyThere,
        "it learns of it by looking again"
    );
}
