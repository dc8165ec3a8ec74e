//! Deleting, and seeing whether it did: some servers say that all is well and keep the object, others have it locked.

use std::collections::HashMap;

use futures::stream::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::layout;
use crate::repository::FETCHES;
use crate::repository::Remote;
use crate::store::{Key, StoreError};

/// What was deleted, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Deleted {
    pub records: u64,
    pub manifests: u64,
    pub packs: u64,
    pub receipts: u64,
    pub bytes: u64,
}

impl Deleted {
    /// Counts `keys` but for those that are `left`.
    pub(crate) fn count(&mut self, keys: &[Key], left: &[Left], sizes: &HashMap<Key, u64>) {
        for key in keys.iter().filter(|key| !left.iter().any(|left| left.key == **key)) {
            let kinds = [
                (layout::RECORDS, &mut self.records),
                (layout::MANIFESTS, &mut self.manifests),
                (layout::PACKS, &mut self.packs),
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
pub(crate) struct Left {
    key: Key,
    error: Option<StoreError>,
}

/// What could not be deleted, as far as the server says.
pub(crate) async fn delete(
    remote: &Remote,
    keys: &[Key],
    warnings: &mut Vec<Finding>,
) -> Result<HashMap<Key, StoreError>, OperationError> {
    let deletion = remote.store.delete_many(keys).await?;
    if deletion.hidden > 0 && !warnings.contains(&Finding::VersionedBucket {}) {
        warnings.push(Finding::VersionedBucket {});
    }
    Ok(deletion.failed.into_iter().collect())
}

/// What of `keys` a listing from afterwards still shows.
pub(crate) fn left_of(keys: &[Key], mut failed: HashMap<Key, StoreError>, listed: impl Fn(&Key) -> bool) -> Vec<Left> {
    let left = keys.iter().filter(|key| listed(key));
    left.map(|key| Left { key: key.clone(), error: failed.remove(key) }).collect()
}

/// Reports what is left, and why: a lock has a date. That nothing at all may be deleted is an error. Credentials that may
/// delete and not look at an object get no date. `gone` says whether anything was deleted.
pub(crate) async fn tell_of_left(remote: &Remote, left: Vec<Left>, gone: bool) -> Result<Vec<Finding>, OperationError> {
    let looked: Vec<(Left, Option<Timestamp>)> = futures::stream::iter(left)
        .map(|left| async move {
            let until = match remote.store.locked_until(&left.key).await {
                Err(StoreError::AccessDenied { .. }) => None,
                until => until?,
            };
            Ok::<_, OperationError>((left, until))
        })
        .buffered(FETCHES)
        .try_collect()
        .await?;
    let (locked, mut left): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, until)| until.is_some());
    let mut warnings = Vec::new();
    if let Some(until) = locked.iter().filter_map(|(_, until)| *until).max() {
        warnings.push(Finding::StillLocked { objects: names(&locked), until });
    }
    let denied = |(left, _): &(Left, _)| matches!(left.error, Some(StoreError::AccessDenied { .. }));
    if !gone
        && locked.is_empty()
        && left.iter().all(denied)
        && let Some(error) = left.pop().and_then(|(left, _)| left.error)
    {
        return Err(error.into());
    }
    if !left.is_empty() {
        let error = left.iter().find_map(|(left, _)| left.error.as_ref());
        let why = error.map_or("the server said that they were deleted".to_owned(), StoreError::to_string);
        warnings.push(Finding::NotDeleted { objects: names(&left), why });
    }
    Ok(warnings)
}

fn names(left: &[(Left, Option<Timestamp>)]) -> Vec<String> {
    left.iter().map(|(left, _)| left.key.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::crypto::Signer;
    use crate::format::{Descriptor, RepositoryId};
    use crate::repository::DescriptorState;
    use crate::store::{Creation, Listing, ObjectInfo, Store, Stored};

    /// Keeps each object until its date.
    #[derive(Debug)]
    struct Locks {
        until: HashMap<Key, Timestamp>,
        knows: bool,
    }

    #[async_trait::async_trait]
    impl Store for Locks {
        async fn create(&self, _: &Key, _: Stored) -> Result<Creation, StoreError> {
            Ok(Creation::AlreadyThere)
        }

        async fn put(&self, _: &Key, _: Stored) -> Result<(), StoreError> {
            Ok(())
        }

        async fn get(&self, key: &Key, _: u64) -> Result<Bytes, StoreError> {
            Err(StoreError::NotFound { object: key.to_string() })
        }

        async fn head(&self, _: &Key) -> Result<Option<ObjectInfo>, StoreError> {
            Ok(None)
        }

        async fn list_from(&self, _: &str, _: Option<&Key>) -> Result<Listing, StoreError> {
            Ok(Listing { objects: Vec::new(), server_time: None, pages: 1 })
        }

        async fn delete(&self, key: &Key) -> Result<(), StoreError> {
            Err(denied(key))
        }

        async fn locked_until(&self, key: &Key) -> Result<Option<Timestamp>, StoreError> {
            if self.knows { Ok(self.until.get(key).copied()) } else { Err(denied(key)) }
        }
    }

    fn denied(key: &Key) -> StoreError {
        StoreError::AccessDenied { object: key.to_string(), code: "AccessDenied".into(), message: String::new() }
    }

    /// What is said of two objects that the server denied, with these locks on them, after nothing else was deleted.
    async fn findings(locks: &[(u64, &str)]) -> Result<Vec<Finding>, OperationError> {
        findings_of(true, locks, false).await
    }

    /// The same of a server that `knows` of locks or not, where something else is `gone` or not.
    async fn findings_of(knows: bool, locks: &[(u64, &str)], gone: bool) -> Result<Vec<Finding>, OperationError> {
        let locked = |(sequence, until): &(u64, &str)| (layout::record(*sequence), until.parse().expect("a time"));
        let locks = Locks { until: locks.iter().map(locked).collect(), knows };
        let signer = Signer::generate().expect("a key").public();
        let descriptor = Descriptor::new(RepositoryId::generate(), Timestamp::UNIX_EPOCH, signer);
        let remote = Remote {
            store: Arc::new(locks),
            url: String::new(),
            location: String::new(),
            descriptor,
            descriptor_text: None,
            descriptor_state: DescriptorState::Same,
        };
        let keys = [1, 2].map(layout::record);
        let failed = delete(&remote, &keys, &mut Vec::new()).await?;
        tell_of_left(&remote, left_of(&keys, failed, |_| true), gone).await
    }

    #[tokio::test]
    async fn a_lock_is_a_date_and_no_error() {
        let warnings = findings(&[(1, "2026-12-01T00:00:00Z"), (2, "2026-12-24T00:00:00Z")]).await.expect("no error");
        let latest: Timestamp = "2026-12-24T00:00:00Z".parse().expect("a time");
        assert!(matches!(&warnings[..], [Finding::StillLocked { until, .. }] if *until == latest), "{warnings:?}");
    }

    #[tokio::test]
    async fn what_is_not_locked_and_still_there_is_doubtful_and_all_of_it_an_error() {
        let warnings = findings(&[(1, "2026-12-01T00:00:00Z")]).await.expect("no error");
        assert_eq!(warnings.iter().map(Finding::code).collect::<Vec<_>>(), ["still-locked", "not-deleted"]);
        assert!(matches!(findings(&[]).await, Err(OperationError::Store(StoreError::AccessDenied { .. }))));
    }

    #[tokio::test]
    async fn a_server_that_denies_a_look_at_the_lock_ends_no_run_that_deleted_something() {
        let locks = [(1, "2026-12-01T00:00:00Z")];
        let warnings = findings_of(false, &locks, true).await.expect("no error");
        assert_eq!(warnings.iter().map(Finding::code).collect::<Vec<_>>(), ["not-deleted"]);
        let nothing = findings_of(false, &locks, false).await;
        assert!(matches!(nothing, Err(OperationError::Store(StoreError::AccessDenied { .. }))));
    }
}
