//! Bytes in a bucket or a directory, under names that are relative to the repository's prefix.
//!
//! A store promises:
//! - **Create once.** Of any number of `create` calls with one name, from any number of machines, exactly one stores its
//!   bytes; the others are told that something is there.
//! - **Whole or not at all.** What is listed or read is all that was put, whatever crashed.
//! - **Durable.** When a call that stores returns, the bytes survive a power cut (as far as the server keeps its word).
//!
//! It takes only [`Stored`], which cannot be made of plain bytes by accident. Decorators ([`Meter`], [`Limit`]) each do
//! one thing.

mod error;
mod key;
mod limit;
mod local;
mod meter;
mod open;
mod s3;
mod s3_error;
mod stored;
mod url;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

pub use error::StoreError;
pub use key::{Key, NotAKey};
pub use limit::Limit;
pub use local::LocalStore;
pub use meter::{Meter, Requests};
pub use open::{S3Settings, open};
pub use stored::Stored;
pub use url::{NotARepositoryUrl, RepositoryUrl};

/// Whether a `create` stored its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object has exactly these bytes, and this call (or a repetition of it whose answer was lost) put them there.
    Created,
    /// An object of this name was there before; it is untouched.
    AlreadyThere,
}

/// What a listing or a `head` says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: Key,
    pub bytes: u64,
    /// By the server's clock.
    pub modified: Timestamp,
}

/// All objects under a prefix, in the order of their names.
#[derive(Clone, Debug)]
pub struct Listing {
    pub objects: Vec<ObjectInfo>,
    /// What time the server says it is (the HTTP `Date` header); a directory's is this machine's.
    pub server_time: Option<Timestamp>,
}

#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Stores `body` under a name that must be free.
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError>;

    /// Stores `body`, replacing what lies there.
    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError>;

    /// The whole object, at most `max_bytes` of it: a larger one is [`StoreError::TooLarge`].
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError>;

    /// Size and time of an object; `None` where there is none.
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError>;

    /// Everything whose name begins with `prefix`, however many pages that takes.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Removes an object; one that is gone already is no error.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;
}
