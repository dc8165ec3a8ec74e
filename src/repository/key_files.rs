//! Making an epoch, and the key files of one: created once, and read back before anything relies on them.

use std::path::Path;

use crate::clock;
use crate::crypto::{DataIdentity, PublicSigner, Recipient, Sealed};
use crate::error::OperationError;
use crate::format::{KeyHolders, MAX_KEY_BYTES, RepositoryId, former_comments, key_file_comments, layout};
use crate::host::{KeptKey, KeptKeys, NamedKey, SealedTo};
use crate::policy::key_sets;
use crate::store::{Creation, Store, Stored};

/// The first number above `above` that is not taken.
pub(crate) fn first_free(above: u32, taken: impl Fn(u32) -> bool) -> Result<u32, OperationError> {
    key_sets::first_free(above, taken).ok_or(OperationError::NoNumberLeft)
}

/// Makes, wraps, stores and reads back an epoch's data identity; only its public half leaves this function. The host
/// whose state is in `dir` keeps a copy of the key file. `None`: another machine just made that epoch.
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
    // Known as this host's own before it can be seen there, whatever is interrupted.
    let (mut kept, now) = (KeptKeys::load(dir)?, clock::now());
    kept.keep(KeptKey::own(epoch, 1, &wrapped, recipients, now), wrapped.bytes())?;
    if !put_version(store, epoch, 1, &wrapped).await? {
        kept.forget(epoch, &wrapped.digest())?;
        return Ok(None);
    }
    let named = NamedKey { epoch, version: 1, digest: wrapped.digest(), bytes: wrapped.len(), modified: None };
    kept.set_name(named, now);
    kept.save()?;
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

/// Stores a key file under a name that must be new, and reads it back. `false`: the name is taken.
pub(crate) async fn put_version(
    store: &dyn Store,
    epoch: u32,
    version: u32,
    wrapped: &Sealed,
) -> Result<bool, OperationError> {
    let created = create_version(store, epoch, version, wrapped).await?;
    if created {
        read_back(store, epoch, version, wrapped).await?;
    }
    Ok(created)
}

/// Stores a key file under a name that must be new. Nothing may rely on it before it is read back. `false`: the name is
/// taken.
pub(crate) async fn create_version(
    store: &dyn Store,
    epoch: u32,
    version: u32,
    wrapped: &Sealed,
) -> Result<bool, OperationError> {
    let key = layout::data_key(epoch, version);
    Ok(store.create(&key, Stored::from(wrapped.clone())).await? == Creation::Created)
}

/// Whether a key file has the bytes that were stored.
pub(crate) async fn read_back(
    store: &dyn Store,
    epoch: u32,
    version: u32,
    wrapped: &Sealed,
) -> Result<(), OperationError> {
    let key = layout::data_key(epoch, version);
    if store.get(&key, MAX_KEY_BYTES).await? != *wrapped.bytes() {
        return Err(OperationError::Verification {
            object: key.to_string(),
            why: "it does not read back as it was written".to_owned(),
        });
    }
    Ok(())
}
