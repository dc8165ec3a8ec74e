//! Getting at an epoch's data identity with an operator's identity.
//!
//! Every key file of the epoch is tried, the lowest version first. One whose data identity is not the one that the signed
//! record names is passed over.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Digest, IdentityFile, Sealed};
use crate::error::OperationError;
use crate::format::{Epoch, KeyHolders, MAX_KEY_BYTES, layout};
use crate::repository::Remote;
use crate::store::StoreError;

/// The oldest key file of `epoch` that opens. Where none does and the list is another one by now, once more: a rotation may
/// have put a new one and deleted the old one in between.
pub(crate) async fn open_epoch(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<OpenedVersion, OperationError> {
    let list =
        async || Ok::<BTreeSet<u32>, OperationError>(remote.list_versions(epoch.epoch).await?.into_keys().collect());
    let versions = list().await?;
    let opening = open_oldest_of(remote, (epoch.epoch, &versions), &epoch.recipient, identities).await?;
    let error = match opening {
        Ok(opened) => return Ok(opened),
        Err(unopened) => unopened.error,
    };
    let now = list().await?;
    if now == versions {
        return Err(error);
    }
    let opening = open_oldest_of(remote, (epoch.epoch, &now), &epoch.recipient, identities).await?;
    opening.map_err(|unopened| unopened.error)
}

/// Where none opens: what stood in the way, the most telling.
async fn open_oldest_of(
    remote: &Remote,
    (epoch, versions): (u32, &BTreeSet<u32>),
    named: &DataRecipient,
    identities: &[IdentityFile],
) -> Result<Result<OpenedVersion, Unopened>, OperationError> {
    let mut failure = no_key_file(epoch);
    for version in versions.iter().copied() {
        match open_version(remote, (epoch, version), Some(named), identities).await? {
            Ok(opened) => return Ok(Ok(opened)),
            Err(unopened) => failure = failure.or(unopened),
        }
    }
    Ok(Err(failure))
}

/// What stands in the way where no key file of the epoch is there.
pub(crate) fn no_key_file(epoch: u32) -> Unopened {
    let why = "no wrapped key of this epoch is there".to_owned();
    let error = OperationError::NoKeyLeft { object: format!("{}{epoch}/", layout::KEYS), why };
    Unopened { verdict: Verdict::Gone, error }
}

/// A key file that is of no use here.
pub(crate) struct Unopened {
    pub verdict: Verdict,
    pub error: OperationError,
}

impl Unopened {
    /// The more telling one of two.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.verdict > self.verdict { other } else { self }
    }
}

/// What that says about the key file. The later ones tell more about what to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It is no longer there.
    Gone,
    /// It cannot be read, or holds no data identity of this epoch.
    Noise,
    /// It may be for others.
    Closed,
    /// It may be for a given identity, which could not be asked.
    Unasked,
}

/// A key file that one of the identities opened.
pub(crate) struct OpenedVersion {
    pub version: u32,
    pub digest: Digest,
    /// Until when the bucket refuses to remove it, where it says so.
    pub locked_until: Option<Timestamp>,
    pub identity: DataIdentity,
    pub holders: KeyHolders,
}

/// Opens one key file; or why it is of no use here. `named` is the public half that a signed record names; where none does
/// yet, any is taken.
pub(crate) async fn open_version<'a>(
    remote: &Remote,
    (epoch, version): (u32, u32),
    named: Option<&DataRecipient>,
    identities: impl IntoIterator<Item = &'a IdentityFile>,
) -> Result<Result<OpenedVersion, Unopened>, OperationError> {
    let key = layout::data_key(epoch, version);
    let noise =
        |why| Unopened { verdict: Verdict::Noise, error: OperationError::NoKeyLeft { object: key.to_string(), why } };
    let (wrapped, locked_until) = match remote.store.get_and_lock(&key, MAX_KEY_BYTES).await {
        Ok(got) => got,
        Err(error @ StoreError::NotFound { .. }) => {
            return Ok(Err(Unopened { verdict: Verdict::Gone, error: error.into() }));
        }
        Err(error @ StoreError::TooLarge { .. }) => return Ok(Err(noise(error.to_string()))),
        Err(error) => return Err(error.into()),
    };
    let sealed = match Sealed::reread(wrapped) {
        Ok(sealed) => sealed,
        Err(error) => return Ok(Err(noise(error.to_string()))),
    };
    Ok(match open_wrapped(sealed.bytes(), named, identities) {
        Ok((identity, holders)) => {
            Ok(OpenedVersion { version, digest: sealed.digest(), locked_until, identity, holders })
        }
        // What a person at the keyboard can mend goes before everything else.
        Err(error @ (CryptoError::NoPassphrase(_) | CryptoError::WrongPassphrase(_))) => return Err(error.into()),
        Err(CryptoError::Damaged(why)) => Err(noise(why)),
        Err(error) => {
            let verdict = match error {
                CryptoError::IdentityFailed(_) => Verdict::Unasked,
                _ => Verdict::Closed,
            };
            Err(Unopened { verdict, error: OperationError::object(&key, error) })
        }
    })
}

/// The data identity in `wrapped`, if it is the one that a signed record names, and the recipients that its comments name.
pub(crate) fn open_wrapped<'a>(
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
