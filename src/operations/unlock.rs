//! Getting at an epoch's data identity with an operator's identity.

use bytes::Bytes;
use jiff::Timestamp;

use super::error::ObjectError;
use super::{OperationError, Remote};
use crate::crypto::{CryptoError, DataIdentity, DataRecipient, IdentityFile};
use crate::repository::{Epoch, KeyHolders, MAX_KEY_BYTES, layout};
use crate::store::StoreError;

/// The data identity of `epoch`.
pub(super) async fn unlock(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<DataIdentity, OperationError> {
    Ok(open_newest(remote, epoch, identities).await?.0.identity)
}

/// The newest generation of `epoch` that opens, and the number of the newest that is there. All are tried, the newest
/// first; one whose data identity is not the one that the signed record names is noise that somebody planted, and is
/// passed over.
pub(super) async fn open_newest(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<(OpenedGeneration, u32), OperationError> {
    let mut generations = remote.list_generations(epoch.epoch).await?;
    generations.sort_unstable();
    let newest = generations.last().copied().unwrap_or_default();
    let mut failure = None;
    for generation in generations.into_iter().rev() {
        match open_generation(remote, (epoch.epoch, generation), &epoch.recipient, identities).await? {
            Ok(opened) => return Ok((opened, newest)),
            Err(OperationError::Store(_)) => {}
            Err(error @ OperationError::NoIdentityOpens { .. }) => failure = Some(error),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.unwrap_or_else(|| OperationError::Verification {
        object: format!("{}{}/", layout::KEYS, epoch.epoch),
        why: "no wrapped key of this epoch is there".to_owned(),
    }))
}

/// A generation that one of the identities opened.
pub(super) struct OpenedGeneration {
    pub generation: u32,
    pub wrapped: Bytes,
    /// Until when the bucket refuses to remove it, where it says so.
    pub locked_until: Option<Timestamp>,
    pub identity: DataIdentity,
    pub holders: KeyHolders,
}

/// Opens one generation; or why it is of no use here. `named` is the public half that a signed record names.
pub(super) async fn open_generation(
    remote: &Remote,
    (epoch, generation): (u32, u32),
    named: &DataRecipient,
    identities: &[IdentityFile],
) -> Result<Result<OpenedGeneration, OperationError>, OperationError> {
    let key = layout::data_key(epoch, generation);
    let (wrapped, locked_until) = match remote.store.get_and_lock(&key, MAX_KEY_BYTES).await {
        Ok(got) => got,
        Err(error @ (StoreError::NotFound { .. } | StoreError::TooLarge { .. })) => return Ok(Err(error.into())),
        Err(error) => return Err(error.into()),
    };
    Ok(match open_wrapped(&wrapped, named, identities) {
        Ok((identity, holders)) => Ok(OpenedGeneration { generation, wrapped, locked_until, identity, holders }),
        // What somebody can mend at the keyboard goes before everything else.
        Err(error @ (CryptoError::NoPassphrase(_) | CryptoError::WrongPassphrase(_))) => return Err(error.into()),
        Err(error) => Err(OperationError::object(&key, ObjectError::from(error))),
    })
}

/// The data identity in `wrapped`, if it is the one that a signed record names, and whom its comments name.
pub(super) fn open_wrapped<'a>(
    wrapped: &[u8],
    named: &DataRecipient,
    identities: impl IntoIterator<Item = &'a IdentityFile>,
) -> Result<(DataIdentity, KeyHolders), CryptoError> {
    let keys = identities.into_iter().flat_map(IdentityFile::keys);
    let (identity, comments) = DataIdentity::unwrap_with_comments(wrapped, keys)?;
    if identity.recipient() != *named {
        let why = "it holds another data identity than the signed record names".to_owned();
        return Err(CryptoError::Damaged(why));
    }
    Ok((identity, KeyHolders::read(&comments)))
}
