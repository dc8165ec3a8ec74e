//! Getting at an epoch's data identity with an operator's identity.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::error::ObjectError;
use super::{OperationError, Remote};
use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Digest, IdentityFile, sha256};
use crate::repository::{Epoch, KeyHolders, MAX_KEY_BYTES, layout};
use crate::store::StoreError;

/// The data identity of `epoch`.
pub(super) async fn unlock(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<DataIdentity, OperationError> {
    Ok(open_newest(remote, epoch, identities).await?.opened.identity)
}

/// The newest generation of `epoch` that opens.
pub(super) async fn open_newest(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<Opening, OperationError> {
    let generations = remote.list_generations(epoch.epoch).await?.into_iter().collect();
    open_newest_of(remote, (epoch.epoch, &generations), &epoch.recipient, identities).await?
}

/// What identities make of the generations of one epoch.
pub(super) struct Opening {
    /// The newest that opens.
    pub opened: OpenedGeneration,
    /// Those above it that are for others: perhaps of a newer set.
    pub newer: Vec<u32>,
    /// Those above it that hold no data identity of this epoch: somebody planted them.
    pub noise: Vec<u32>,
}

/// Tries all `generations` of an epoch, the newest first. One whose data identity is not the one that the signed record
/// names is noise that somebody planted, and is passed over. The error within is what stood in the way of all of them.
pub(super) async fn open_newest_of<'a>(
    remote: &Remote,
    (epoch, generations): (u32, &BTreeSet<u32>),
    named: &DataRecipient,
    identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
) -> Result<Result<Opening, OperationError>, OperationError> {
    let (mut newer, mut noise, mut failure) = (Vec::new(), Vec::new(), None);
    for generation in generations.iter().rev().copied() {
        match open_generation(remote, (epoch, generation), Some(named), identities.clone()).await? {
            Ok(opened) => return Ok(Ok(Opening { opened, newer, noise })),
            Err(OperationError::Store(StoreError::NotFound { .. })) => {}
            Err(OperationError::Store(_)) => noise.push(generation),
            Err(error @ OperationError::NoIdentityOpens { .. }) => {
                newer.push(generation);
                failure = Some(error);
            }
            Err(error) => {
                noise.push(generation);
                failure.get_or_insert(error);
            }
        }
    }
    Ok(Err(failure.unwrap_or_else(|| OperationError::Verification {
        object: format!("{}{epoch}/", layout::KEYS),
        why: "no wrapped key of this epoch is there".to_owned(),
    })))
}

/// A generation that one of the identities opened.
pub(super) struct OpenedGeneration {
    pub generation: u32,
    /// Of its stored bytes.
    pub digest: Digest,
    /// Until when the bucket refuses to remove it, where it says so.
    pub locked_until: Option<Timestamp>,
    pub identity: DataIdentity,
    pub holders: KeyHolders,
}

/// Opens one generation; or why it is of no use here. `named` is the public half that a signed record names; where none
/// does yet, any is taken.
pub(super) async fn open_generation<'a>(
    remote: &Remote,
    (epoch, generation): (u32, u32),
    named: Option<&DataRecipient>,
    identities: impl IntoIterator<Item = &'a IdentityFile>,
) -> Result<Result<OpenedGeneration, OperationError>, OperationError> {
    let key = layout::data_key(epoch, generation);
    let (wrapped, locked_until) = match remote.store.get_and_lock(&key, MAX_KEY_BYTES).await {
        Ok(got) => got,
        Err(error @ (StoreError::NotFound { .. } | StoreError::TooLarge { .. })) => return Ok(Err(error.into())),
        Err(error) => return Err(error.into()),
    };
    Ok(match open_wrapped(&wrapped, named, identities) {
        Ok((identity, holders)) => {
            Ok(OpenedGeneration { generation, digest: sha256(&wrapped), locked_until, identity, holders })
        }
        // What somebody can mend at the keyboard goes before everything else.
        Err(error @ (CryptoError::NoPassphrase(_) | CryptoError::WrongPassphrase(_))) => return Err(error.into()),
        Err(error) => Err(OperationError::object(&key, ObjectError::from(error))),
    })
}

/// The data identity in `wrapped`, if it is the one that a signed record names, and whom its comments name.
pub(super) fn open_wrapped<'a>(
    wrapped: &[u8],
    named: Option<&DataRecipient>,
    identities: impl IntoIterator<Item = &'a IdentityFile>,
) -> Result<(DataIdentity, KeyHolders), CryptoError> {
    let keys = identities.into_iter().flat_map(IdentityFile::keys);
    let (identity, comments) = DataIdentity::unwrap_with_comments(wrapped, keys)?;
    if named.is_some_and(|named| identity.recipient() != *named) {
        let why = "it holds another data identity than the signed record names".to_owned();
        return Err(CryptoError::Damaged(why));
    }
    Ok((identity, KeyHolders::read(&comments)))
}
