//! Before a record is put, everything that it needs was seen in the store: what was there before by the run's listing, what
//! this run put by a look at each object, or by a listing where that is fewer requests.

use std::collections::HashMap;
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};

use super::OperationError;
use crate::format::Record;
use crate::repository::{FETCHES, Listing, Remote, missing_of};
use crate::store::{Key, ObjectInfo};

/// A listing that is older than this says nothing any more about what is there.
const LISTING_VALID: Duration = Duration::from_secs(3600);
/// How many names a page of a listing has.
const NAMES_A_PAGE: usize = 1000;

/// Fails where something that `record` needs is not there. `put` is what this run put, with its size.
pub(super) async fn confirm(
    remote: &Remote,
    record: &Record,
    seen: &Listing,
    put: &HashMap<Key, u64>,
) -> Result<(), OperationError> {
    let mut missing = missing_of(record, seen);
    missing.retain(|name| !put.keys().any(|key| key.as_str() == name));
    let pages = (seen.packs.len() + put.len()) / NAMES_A_PAGE + seen.manifests.len() / NAMES_A_PAGE + 2;
    if put.len() > pages || seen.read.elapsed() > LISTING_VALID {
        missing = missing_of(record, &remote.list_sealed().await?);
    } else {
        missing.extend(unseen(remote, put).await?);
    }
    if missing.is_empty() { Ok(()) } else { Err(OperationError::Disappeared { objects: missing }) }
}

/// What of `put` the store does not have, or has in another size.
async fn unseen(remote: &Remote, put: &HashMap<Key, u64>) -> Result<Vec<String>, OperationError> {
    let is_there = |found: Option<ObjectInfo>, bytes: u64| found.is_some_and(|found| found.bytes == bytes);
    futures::stream::iter(put.iter().map(|(key, bytes)| (key.clone(), *bytes)))
        .map(|(key, bytes)| async move {
            let found = remote.store.head(&key).await?;
            Ok::<_, OperationError>((!is_there(found, bytes)).then(|| key.to_string()))
        })
        .buffer_unordered(FETCHES)
        .try_filter_map(|missing| std::future::ready(Ok(missing)))
        .try_collect()
        .await
}
