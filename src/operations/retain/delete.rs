//! Deleting, and seeing whether it did: some servers say that all is well and keep the object, others have it locked.

use std::collections::HashMap;

use futures::stream::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::super::remote::FETCHES;
use super::super::{OperationError, Remote, Warning};
use crate::repository::layout;
use crate::store::{Key, StoreError};

/// What was deleted, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Deleted {
    pub records: u64,
    pub manifests: u64,
    pub packs: u64,
    pub keys: u64,
    pub receipts: u64,
    pub bytes: u64,
}

impl Deleted {
    /// Counts `keys` but for those that are `left`.
    pub(super) fn count(&mut self, keys: &[Key], left: &[Left], sizes: &HashMap<Key, u64>) {
        for key in keys.iter().filter(|key| !left.iter().any(|left| left.key == **key)) {
            let kinds = [
                (layout::RECORDS, &mut self.records),
                (layout::MANIFESTS, &mut self.manifests),
                (layout::PACKS, &mut self.packs),
                (layout::KEYS, &mut self.keys),
                (layout::RECEIPTS, &mut self.receipts),
            ];
            for (kind, count) in kinds {
                *count += u64::from(key.as_str().starts_with(kind));
            }
            self.bytes += sizes.get(key).copied().unwrap_or(0);
        }
    }
}

/// An object that should be gone, and what the server said, if it said that it failed.
pub(super) struct Left {
    key: Key,
    error: Option<StoreError>,
}

/// What could not be deleted, as far as the server says.
pub(super) async fn delete(remote: &Remote, keys: &[Key]) -> Result<HashMap<Key, StoreError>, OperationError> {
    Ok(remote.store.delete_many(keys).await?.failed.into_iter().collect())
}

/// What of `keys` a listing from afterwards still shows.
pub(super) fn left_of(keys: &[Key], mut failed: HashMap<Key, StoreError>, listed: impl Fn(&Key) -> bool) -> Vec<Left> {
    let left = keys.iter().filter(|key| listed(key));
    left.map(|key| Left { key: key.clone(), error: failed.remove(key) }).collect()
}

/// Says what is left of `asked` objects, and why: a lock is a date. That nothing at all may be deleted is an error.
pub(super) async fn tell_of_left(
    remote: &Remote,
    left: Vec<Left>,
    asked: usize,
) -> Result<Vec<Warning>, OperationError> {
    let looked: Vec<(Left, Option<Timestamp>)> = futures::stream::iter(left)
        .map(|left| async move {
            let until = remote.store.locked_until(&left.key).await?;
            Ok::<_, OperationError>((left, until))
        })
        .buffered(FETCHES)
        .try_collect()
        .await?;
    let (locked, mut left): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, until)| until.is_some());
    let mut warnings = Vec::new();
    if let Some(until) = locked.iter().filter_map(|(_, until)| *until).max() {
        let text = format!(
            "{} are locked by the bucket, the last of them until {until}; a run after that deletes them",
            written(locked.iter().map(|(left, _)| &left.key))
        );
        warnings.push(Warning::standing("still-locked", text));
    }
    let denied = |(left, _): &(Left, _)| matches!(left.error, Some(StoreError::AccessDenied { .. }));
    if left.len() == asked
        && left.iter().all(denied)
        && let Some(error) = left.pop().and_then(|(left, _)| left.error)
    {
        return Err(error.into());
    }
    if !left.is_empty() {
        let error = left.iter().find_map(|(left, _)| left.error.as_ref());
        let why = error.map_or("the server said that they were deleted".to_owned(), StoreError::to_string);
        let names = written(left.iter().map(|(left, _)| &left.key));
        warnings.push(Warning::doubt("not-deleted", format!("{names} are still there: {why}")));
    }
    Ok(warnings)
}

/// One name, and how many more.
fn written<'a>(mut keys: impl ExactSizeIterator<Item = &'a Key>) -> String {
    let all = keys.len();
    match keys.next() {
        Some(first) if all > 1 => format!("{all} objects ({first} and others)"),
        Some(only) => format!("1 object ({only})"),
        None => String::new(),
    }
}
