//! What a server does with conditions and deletes, found by trying it on one tiny object under a random name.
//!
//! To be asked of the server itself: through [`super::Look`] every server looks as if it honoured conditions. Where
//! deleting is denied, the object of a few bytes stays.

use super::{Creation, Key, Store, StoreError, Stored};
use crate::crypto::FingerprintKey;

/// What came of [`probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The server refused to create a name that was taken.
    pub conditional_put: bool,
    /// These credentials could delete an object, and it was gone afterwards.
    pub delete: bool,
    /// `Some(true)`: the bucket kept what was deleted as an old version. `None`: it was not deleted, or the server does
    /// not say. A server that keeps versions and does not say so looks like one without.
    pub versions: Option<bool>,
    /// The server grants rights by credentials; a directory does not.
    pub credentials: bool,
}

impl Probe {
    /// Whether these credentials can delete an object for good; `None` where there are none.
    pub fn may_delete(&self) -> Option<bool> {
        self.credentials.then_some(self.delete && self.versions != Some(true))
    }
}

/// Tries conditional puts and deleting with one object.
pub async fn probe(store: &dyn Store) -> Result<Probe, StoreError> {
    let key = random_key();
    let conditional_put = refuses_second(store, &key).await?;
    if !conditional_put {
        // A server that refused the condition has stored nothing.
        store.put(&key, text(1)).await?;
    }
    let (delete, versions) = remove(store, &key).await?;
    Ok(Probe { conditional_put, delete, versions, credentials: store.has_credentials() })
}

/// Whether the server refuses to create a name that is taken. `false`: it ignores the condition, or does not know it.
pub async fn probe_conditional_put(store: &dyn Store) -> Result<bool, StoreError> {
    let key = random_key();
    let refuses = refuses_second(store, &key).await?;
    remove(store, &key).await?;
    Ok(refuses)
}

/// Whether these credentials can delete, and what is deleted is gone. `false`: the server denies it, or only says so.
pub async fn probe_delete(store: &dyn Store) -> Result<bool, StoreError> {
    let key = random_key();
    store.put(&key, text(1)).await?;
    Ok(remove(store, &key).await?.0)
}

async fn refuses_second(store: &dyn Store, key: &Key) -> Result<bool, StoreError> {
    for number in [1, 2] {
        match store.create(key, text(number)).await {
            Ok(Creation::AlreadyThere) => return Ok(true),
            Ok(Creation::Created) => {}
            Err(StoreError::NotSupported { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether it is gone, and whether an old version stays.
async fn remove(store: &dyn Store, key: &Key) -> Result<(bool, Option<bool>), StoreError> {
    // Only the answer to a request for many says that there are versions.
    let deletion = match store.delete_many(std::slice::from_ref(key)).await {
        Ok(deletion) => deletion,
        Err(StoreError::AccessDenied { .. }) => return Ok((false, None)),
        Err(error) => return Err(error),
    };
    match deletion.failed.into_iter().next() {
        Some((_, StoreError::AccessDenied { .. })) => Ok((false, None)),
        Some((_, error)) => Err(error),
        None => {
            let gone = store.head(key).await?.is_none();
            Ok((gone, (gone && deletion.hidden > 0).then_some(true)))
        }
    }
}

fn random_key() -> Key {
    Key::from_trusted(format!("probe-{}", hex::encode(&FingerprintKey::generate().as_bytes()[..16])))
}

fn text(number: u8) -> Stored {
    Stored::public_text(format!("sealift probe {number}\n"))
}
