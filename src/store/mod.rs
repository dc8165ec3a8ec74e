//! Bytes in a bucket or a directory.
//!
//! Promises, for every store (`tests/contract` holds each of them to it):
//! - An object appears whole or not at all, under its final name, and is durable when the call returns.
//! - [`Store::create`] never changes an object that exists, also while others create it at the same time.
//! - A listing is complete, or an error.
//! - Nothing is sent that is not [`Stored`], and no error or log line holds a credential.
//!
//! [`Meter`] counts and [`Limit`] slows; both wrap any store and change nothing else. A bucket slows itself, piece by
//! piece. [`Look`] stands in for the second promise, less well, where a server ignores conditions; [`probe`] finds such
//! a server. Calls only `crypto` and `fsx`.

mod create_once;
mod credentials;
mod error;
mod key;
mod limit;
mod local;
mod look;
mod meter;
mod open;
mod pace;
mod probe;
mod s3;
mod s3_body;
mod s3_client;
mod s3_error;
mod s3_payload;
mod stored;
mod url;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{StreamExt, iter};
use jiff::Timestamp;

pub use create_once::CreateOnce;
pub use error::StoreError;
pub use key::{Key, KeyError};
pub use limit::Limit;
pub use look::Look;
pub use meter::{Meter, Requests, Usage};
pub use open::{open, open_limited};
pub use pace::Rates;
pub use probe::{Probe, probe, probe_conditional_put, probe_delete};
pub use s3_client::{Credentials, S3Settings};
pub use stored::Stored;
pub use url::{RepositoryUrl, UrlError};

/// A place that keeps objects under names. All calls may run at the same time.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Creates an object unless one of that name exists; one that exists keeps its bytes.
    ///
    /// An object that already holds exactly these bytes counts as [`Creation::Created`]: a lost answer, then a
    /// retry, looks like that. Errors: [`StoreError::NotSupported`] where create-once cannot be had.
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError>;

    /// The same with exactly one attempt to store: no retry by the client, no waiting. An object that is there is still
    /// read back and compared.
    ///
    /// For a caller that must look again before each attempt. After an error with [`StoreError::is_retryable`] it may
    /// try again; the object may be there all the same.
    async fn create_attempt(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        self.create(key, body).await
    }

    /// Creates or replaces an object.
    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError>;

    /// The same with exactly one attempt, as [`Store::create_attempt`].
    async fn put_attempt(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        self.put(key, body).await
    }

    /// A whole object. Errors: [`StoreError::NotFound`]; [`StoreError::TooLarge`] over `max_bytes`, without
    /// fetching or holding more than that.
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError>;

    /// The same, and until when the store itself refuses to remove it, as [`Store::locked_until`] says, at no extra
    /// request.
    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        Ok((self.get(key, max_bytes).await?, None))
    }

    /// Size and time of an object; `None` where there is none. A missing bucket also gives `None`: the answer to
    /// this request has no body that could tell.
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError>;

    /// All objects whose names begin with `prefix` (not only at a `/`; empty: all), sorted by key. What is no
    /// [`Key`] is not ours and is left out.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.list_from(prefix, None).await
    }

    /// Those of [`Store::list`] whose names come after `start_after`, in byte order. That name need not exist, nor
    /// begin with the prefix. As complete as a listing of everything; a bucket is asked for these names only.
    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError>;

    /// Removes an object; one that is gone already is fine.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Removes many objects, in no order, in as few requests as the store can. One that cannot be removed keeps none of
    /// the others. An error: no answer came to a whole request, and any of its objects may be gone.
    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        delete_each(self, keys).await
    }

    /// Where it is, however a person names it: endpoint, bucket and prefix, or an absolute path. Empty: nowhere that
    /// lasts.
    fn location(&self) -> String {
        String::new()
    }

    /// Whether a server grants rights by credentials. In a directory the modes of the file system do.
    fn has_credentials(&self) -> bool {
        true
    }

    /// Until when the store itself refuses to remove an object (Object Lock); `None` where it does not, or does not
    /// tell.
    async fn locked_until(&self, _key: &Key) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}

/// How many objects are removed at once where each takes a request of its own.
const DELETES: usize = 8;

/// [`Store::delete_many`] where each object takes a request of its own.
async fn delete_each<S: Store + ?Sized>(store: &S, keys: &[Key]) -> Result<Deletion, StoreError> {
    let deletes = iter(keys.to_vec()).map(|key| async move {
        let error = store.delete(&key).await.err()?;
        Some((key, error))
    });
    let failed = deletes.buffer_unordered(DELETES).filter_map(std::future::ready);
    Ok(Deletion { failed: failed.collect().await, requests: keys.len() as u64, hidden: 0 })
}

/// What came of [`Store::delete_many`].
#[derive(Debug, Default)]
pub struct Deletion {
    /// What is still there, and why. Some stores say that all is well and keep an object: only a listing shows.
    pub failed: Vec<(Key, StoreError)>,
    /// How many requests it took.
    pub requests: u64,
    /// How many the bucket is known to keep as old versions, behind a delete marker. 0: none, or the store does not
    /// tell.
    pub hidden: u64,
}

/// What came of [`Store::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The object holds the given bytes.
    Created,
    /// An object of that name was there before, with other bytes or with bytes that we may not read.
    AlreadyThere,
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: Key,
    pub bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
    /// What the server calls these bytes, without its quotes: the same name, the same bytes under this key. Else
    /// opaque. `None` for a directory, and where a server does not say.
    pub etag: Option<String>,
}

/// The objects under a prefix at about one moment.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Sorted by key.
    pub objects: Vec<ObjectInfo>,
    /// The store's clock at the last page: the `Date` header, whole seconds; `None` where a server sends none. A
    /// directory's is this host's clock.
    pub server_time: Option<Timestamp>,
    /// How many requests it took; 1 for a directory.
    pub pages: u64,
}
