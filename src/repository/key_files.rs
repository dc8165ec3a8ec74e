//! Making an epoch, and the generations of one: created once, and read back before anybody relies on them.

use std::path::Path;

use crate::clock;
use crate::crypto::{DataIdentity, PublicSigner, Recipient, Sealed};
use crate::error::OperationError;
use crate::format::{KeyHolders, MAX_KEY_BYTES, RepositoryId, former_comments, key_file_comments, layout};
use crate::host::{KeptKey, KeptKeys, SealedTo};
use crate::store::{Creation, Store, Stored};

/// The first number above `above` that none of `taken` has: what somebody put far above does not push us there.
pub(crate) fn first_free(above: u32, taken: impl Fn(u32) -> bool) -> Result<u32, OperationError> {
    let mut numbers = above.saturating_add(1)..u32::MAX;
    numbers.find(|number| !taken(*number)).ok_or(OperationError::NoNumberLeft)
}

/// Makes, wraps, stores and reads back an epoch's data identity; only its public half leaves this function. The host
/// whose state is in `dir` keeps a copy of the wrapping. `None`: somebody else just made that epoch.
pub(crate) async fn make_epoch(
    store: &dyn Store,
    dir: &Path,
    repository: &RepositoryId,
    signer: &PublicSigner,
    epoch: u32,
    recipients: &[Recipient],
) -> Result<Option<SealedTo>, OperationError> {
    let identity = DataIdentity::generate();
    let holders = KeyHolders { recipients: recipients.to_vec(), former: Vec::new() };
    let wrapped = wrap(repository, signer, epoch, &identity, &holders)?;
    let recipient = identity.recipient();
    drop(identity);
    // Known as our own before it can be seen there: whatever is cut short, nobody takes it for somebody else's.
    let mut kept = KeptKeys::load(dir)?;
    kept.keep(KeptKey::own(epoch, 1, &wrapped, recipients), wrapped.bytes())?;
    if !put_generation(store, epoch, 1, &wrapped).await? {
        kept.forget((epoch, 1), &wrapped.digest())?;
        return Ok(None);
    }
    Ok(Some(SealedTo { epoch, recipient }))
}

/// A data identity, wrapped for `holders.recipients`, with the comments that say so.
pub(crate) fn wrap(
    repository: &RepositoryId,
    signer: &PublicSigner,
    epoch: u32,
    identity: &DataIdentity,
    holders: &KeyHolders,
) -> Result<Sealed, OperationError> {
    let mut comments = key_file_comments(repository, epoch, signer, &holders.recipients, clock::now());
    comments.extend(former_comments(&holders.former));
    let wrapped = identity.wrap(&comments, &holders.recipients)?;
    if wrapped.len() > MAX_KEY_BYTES {
        let text = format!("these are too many recipients: a wrapped key has at most {MAX_KEY_BYTES} bytes");
        return Err(OperationError::Usage(text));
    }
    Ok(wrapped)
}

/// Stores a generation under a name that must be new, and reads it back. `false`: the name is taken.
pub(crate) async fn put_generation(
    store: &dyn Store,
    epoch: u32,
    generation: u32,
    wrapped: &Sealed,
) -> Result<bool, OperationError> {
    let created = create_generation(store, epoch, generation, wrapped).await?;
    if created {
        read_back(store, epoch, generation, wrapped).await?;
    }
    Ok(created)
}

/// Stores a generation under a name that must be new. Nobody may rely on it before it is read back. `false`: the name is
/// taken.
pub(crate) async fn create_generation(
    store: &dyn Store,
    epoch: u32,
    generation: u32,
    wrapped: &Sealed,
) -> Result<bool, OperationError> {
    let key = layout::data_key(epoch, generation);
    Ok(store.create(&key, Stored::from(wrapped.clone())).await? == Creation::Created)
}

/// Whether a generation has the bytes that were stored.
pub(crate) async fn read_back(
    store: &dyn Store,
    epoch: u32,
    generation: u32,
    wrapped: &Sealed,
) -> Result<(), OperationError> {
    let key = layout::data_key(epoch, generation);
    if store.get(&key, MAX_KEY_BYTES).await? != *wrapped.bytes() {
        return Err(OperationError::Verification {
            object: key.to_string(),
            why: "it does not read back as it was written".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_planted_far_above_pushes_nobody_there() {
        assert_eq!(first_free(1, |number| [1, 2, u32::MAX].contains(&number)).expect("a number"), 3);
        assert!(first_free(u32::MAX - 1, |_| false).is_err());
    }
}
