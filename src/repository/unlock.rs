//! Getting at an epoch's data identity with an operator's identity.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Digest, IdentityFile, Sealed};
use crate::error::OperationError;
use crate::format::{Epoch, KeyHolders, MAX_KEY_BYTES, layout};
use crate::repository::Remote;
use crate::store::StoreError;

/// The newest generation of `epoch` that opens. Where none does and the list is another one by now, once more: a rotation
/// may have put a new one and deleted the old one in between.
pub(crate) async fn open_newest(
    remote: &Remote,
    epoch: &Epoch,
    identities: &[IdentityFile],
) -> Result<Opening, OperationError> {
    let list =
        async || Ok::<BTreeSet<u32>, OperationError>(remote.list_generations(epoch.epoch).await?.into_keys().collect());
    let generations = list().await?;
    let opening = open_newest_of(remote, (epoch.epoch, &generations), &epoch.recipient, identities).await?;
    let error = match opening {
        Ok(opening) => return Ok(opening),
        Err(unopened) => unopened.error,
    };
    let now = list().await?;
    if now == generations {
        return Err(error);
    }
    let opening = open_newest_of(remote, (epoch.epoch, &now), &epoch.recipient, identities).await?;
    opening.map_err(|unopened| unopened.error)
}

/// What identities make of the generations of one epoch.
pub(crate) struct Opening {
    /// The newest that opens.
    pub opened: OpenedGeneration,
    /// Those above it that are for others: perhaps of a newer set.
    pub newer: Vec<u32>,
    /// Why an identity could not be asked about one of these.
    pub unasked: Option<OperationError>,
    /// Those above it that hold no data identity of this epoch: somebody planted them.
    pub noise: Vec<u32>,
}

/// Tries all `generations` of an epoch, the newest first. One whose data identity is not the one that the signed record
/// names is noise that somebody planted, and is passed over. Where none opens: what stood in the way, the most telling.
pub(crate) async fn open_newest_of<'a>(
    remote: &Remote,
    (epoch, generations): (u32, &BTreeSet<u32>),
    named: &DataRecipient,
    identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
) -> Result<Result<Opening, Unopened>, OperationError> {
    let why = "no wrapped key of this epoch is there".to_owned();
    let error = OperationError::NoKeyLeft { object: format!("{}{epoch}/", layout::KEYS), why };
    let mut failure = Unopened { verdict: Verdict::Gone, error };
    let (mut newer, mut noise) = (Vec::new(), Vec::new());
    for generation in generations.iter().rev().copied() {
        let unopened = match open_generation(remote, (epoch, generation), Some(named), identities.clone()).await? {
            Ok(opened) => {
                let unasked = (failure.verdict == Verdict::Unasked).then_some(failure.error);
                return Ok(Ok(Opening { opened, newer, unasked, noise }));
            }
            Err(unopened) => unopened,
        };
        match unopened.verdict {
            Verdict::Gone => {}
            Verdict::Noise => noise.push(generation),
            Verdict::Closed | Verdict::Unasked => newer.push(generation),
        }
        if unopened.verdict > failure.verdict {
            failure = unopened;
        }
    }
    Ok(Err(failure))
}

/// A generation that is of no use here.
pub(crate) struct Unopened {
    pub verdict: Verdict,
    pub error: OperationError,
}

/// What that says about the generation. The later ones tell more about what to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It is no longer there.
    Gone,
    /// Nobody can read it, or it holds no data identity of this epoch.
    Noise,
    /// It may be for others.
    Closed,
    /// It may be for a given identity, which could not be asked.
    Unasked,
}

/// A generation that one of the identities opened.
pub(crate) struct OpenedGeneration {
    pub generation: u32,
    /// Its stored bytes.
    pub sealed: Sealed,
    pub digest: Digest,
    /// Until when the bucket refuses to remove it, where it says so.
    pub locked_until: Option<Timestamp>,
    pub identity: DataIdentity,
    pub holders: KeyHolders,
}

/// Opens one generation; or why it is of no use here. `named` is the public half that a signed record names; where none
/// does yet, any is taken.
pub(crate) async fn open_generation<'a>(
    remote: &Remote,
    (epoch, generation): (u32, u32),
    named: Option<&DataRecipient>,
    identities: impl IntoIterator<Item = &'a IdentityFile>,
) -> Result<Result<OpenedGeneration, Unopened>, OperationError> {
    let key = layout::data_key(epoch, generation);
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
            Ok(OpenedGeneration { generation, digest: sealed.digest(), sealed, locked_until, identity, holders })
        }
        // What somebody can mend at the keyboard goes before everything else.
        Err(error @ (CryptoError::NoPassphrase(_) | CryptoError::WrongPassphrase(_))) => return Err(error.into()),
        Err(CryptoError::Damaged(why)) => Err(noise(why)),
        Err(error) => {
            // Whatever is not refuted may be for others: it must not be deleted.
            let verdict = match error {
                CryptoError::IdentityFailed(_) => Verdict::Unasked,
                _ => Verdict::Closed,
            };
            Err(Unopened { verdict, error: OperationError::object(&key, error) })
        }
    })
}

/// The data identity in `wrapped`, if it is the one that a signed record names, and whom its comments name.
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
