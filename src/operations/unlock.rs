//! Getting at an epoch's data identity with an operator's identity.

use super::error::ObjectError;
use super::{OperationError, Remote};
use crate::crypto::{CryptoError, DataIdentity, IdentityFile};
use crate::repository::{Epoch, layout};
use crate::store::StoreError;

/// The largest wrapped key that is read, in bytes.
pub(super) const MAX_KEY_BYTES: u64 = 1 << 20;

/// The data identity of `epoch`. All of its generations are tried, the newest first; one whose data identity is not
/// the one that the signed record names is noise that somebody planted, and is passed over.
pub(super) async fn unlock(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<DataIdentity, OperationError> {
    let mut generations = remote.list_generations(epoch.epoch).await?;
    generations.sort_unstable();
    let mut failure = None;
    for generation in generations.into_iter().rev() {
        let key = layout::data_key(epoch.epoch, generation);
        let wrapped = match remote.store.get(&key, MAX_KEY_BYTES).await {
            Ok(wrapped) => wrapped,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let keys = identities.iter().flat_map(IdentityFile::keys);
        match DataIdentity::unwrap(&wrapped, keys) {
            Ok(identity) if identity.recipient() == epoch.recipient => return Ok(identity),
            Ok(_) => {
                let why = "it holds another data identity than the signed record names".to_owned();
                failure.get_or_insert(OperationError::object(&key, ObjectError::Damaged(why)));
            }
            // What somebody can mend at the keyboard goes before everything else.
            Err(error @ (CryptoError::NoPassphrase(_) | CryptoError::WrongPassphrase(_))) => return Err(error.into()),
            Err(CryptoError::NoIdentityOpens) => {
                failure = Some(OperationError::NoIdentityOpens { object: key.to_string() });
            }
            Err(error) => {
                failure.get_or_insert(OperationError::object(&key, error));
            }
        }
    }
    Err(failure.unwrap_or_else(|| OperationError::Verification {
        object: format!("{}{}/", layout::KEYS, epoch.epoch),
        why: "no wrapped key of this epoch is there".to_owned(),
    }))
}
