//! A new key file of every epoch that the given identities open, for a new set of recipients.
//!
//! Everything is opened and planned before anything is written. Then all new key files are stored; an identity of the new set
//! opens a manifest through them, for which its owner may be asked; they are read back, and so are still there; the receipt
//! of that is stored; only then the old ones that the given identities open are deleted.

use std::collections::BTreeSet;

use super::confirm::gone;
use super::delete::{Replacement, delete_replaced};
use super::survey::{Proved, Survey, SurveyedEpoch, unopened};
use crate::crypto::{CryptoError, DataIdentity, IdentityFile, PublicSigner, Recipient, Sealed};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{KeyHolders, layout};
use crate::history::Reader;
use crate::policy::key_sets::Place;
use crate::repository::Remote;
use crate::repository::key_files::{create_version, first_free, read_back, wrap};
use crate::repository::unlock::{OpenedVersion, open_wrapped};
use crate::store::StoreError;

/// What is to become of the set of recipients of each epoch.
pub enum Change {
    Add(Vec<Recipient>),
    Remove(Vec<Recipient>),
    /// The whole new set.
    Set(Vec<Recipient>),
}

pub struct RotateRequest {
    pub change: Change,
    /// Identities of the new set that prove it at once, in addition to the operator's own.
    pub proof: Vec<IdentityFile>,
}

/// One epoch with a key file for the new set.
pub struct RotatedEpoch {
    pub epoch: u32,
    /// A snapshot needs it. Otherwise it has just been begun, or was planted.
    pub needed: bool,
    pub version: u32,
    pub holders: KeyHolders,
    /// An identity of the new set opened a manifest through it, and the receipt of that is stored.
    pub proved: bool,
    pub deleted: Vec<u32>,
}

pub struct RotateReport {
    /// In ascending order.
    pub epochs: Vec<RotatedEpoch>,
    /// Epochs that no given identity opens: left as they were.
    pub unopened: Vec<u32>,
    /// The key that signed the receipt.
    pub receipt_signer: Option<String>,
    pub warnings: Vec<Finding>,
}

/// Rewraps the data identities for another set of recipients.
pub async fn rotate_keys(
    remote: &Remote,
    reader: &Reader,
    request: RotateRequest,
) -> Result<RotateReport, OperationError> {
    let identities = || request.proof.iter().chain(&reader.identities);
    let mut survey = Survey::of(remote, reader, identities(), &[]).await?;
    survey.refuse_closed()?;
    let remote = &survey.remote.clone();
    request.change.check(&survey.epochs)?;
    let mut warnings = survey.warnings.clone();
    warnings.extend(survey.not_opened());
    warnings.extend(unopened(&survey.epochs));
    let mut known = survey.listed.clone();
    let newest = survey.epochs.iter().filter_map(|epoch| Some((epoch, epoch.newest()?)));
    let next = newest.map(|newest| Next::of(newest, &request.change, remote, &survey.signer, &mut known));
    let next = next.collect::<Result<Vec<_>, _>>()?;
    check_proof(&next, &request.proof)?;
    for next in &next {
        next.store(remote).await?;
    }
    let proofs = next.iter().map(|next| match next.prove(identities()) {
        // It is stored by now, and an identity that cannot be asked can confirm it later.
        Err(OperationError::Crypto(CryptoError::IdentityFailed(_))) => Ok(None),
        proof => proof,
    });
    let proofs = proofs.collect::<Result<Vec<_>, _>>()?;
    let opened = next.iter().zip(&proofs);
    let opened = opened.filter_map(|(next, identity)| Some((next.epoch, identity.as_ref()?, next.wrapped.digest())));
    let proved = Proved::by(remote, opened).await?;
    for next in &next {
        next.read_back(remote).await?;
    }
    let mut receipt_signer = None;
    if let Some(proved) = &proved {
        match proved.put_receipt(remote, reader).await? {
            Ok(signer) => receipt_signer = Some(signer),
            Err(finding) => warnings.push(finding),
        }
    }
    let is_proved = |epoch: u32| receipt_signer.is_some() && proved.as_ref().is_some_and(|proved| proved.holds(epoch));
    let epochs: BTreeSet<u32> = next.iter().map(|next| next.epoch.epoch).filter(|epoch| !is_proved(*epoch)).collect();
    if !epochs.is_empty() {
        warnings.push(Finding::RotationNotProved { epochs: epochs.into_iter().collect() });
    }
    let replacements: Vec<Replacement<'_>> =
        next.iter().map(|next| next.replacement(is_proved(next.epoch.epoch))).collect();
    let done = delete_replaced(remote, &replacements, &known).await?;
    warnings.extend(done.warnings);
    let epochs = next.into_iter().zip(&replacements).map(|(next, replacement)| RotatedEpoch {
        epoch: next.epoch.epoch,
        needed: next.epoch.record.is_some(),
        version: next.version,
        holders: next.holders,
        proved: is_proved(next.epoch.epoch),
        deleted: gone(next.epoch.epoch, &replacement.replaced, &done.listed),
    });
    let epochs = epochs.collect();
    Ok(RotateReport { epochs, unopened: survey.unopened(), receipt_signer, warnings })
}

impl Change {
    /// The holders that the next key file of `epoch` has.
    fn of(&self, now: &KeyHolders, epoch: u32) -> Result<KeyHolders, OperationError> {
        if now.recipients.is_empty() && !matches!(self, Self::Set(_)) {
            let what = format!("the key file of epoch {epoch} names no recipients");
            return Err(OperationError::Refused { what, way_out: "name the whole set: keys rotate -r …".to_owned() });
        }
        let mut recipients = now.recipients.clone();
        match self {
            Self::Add(more) => recipients.extend(more.iter().cloned()),
            Self::Remove(less) => recipients.retain(|recipient| !less.contains(recipient)),
            Self::Set(all) => recipients.clone_from(all),
        }
        let mut set: Vec<Recipient> = Vec::new();
        for recipient in recipients {
            if !set.contains(&recipient) {
                set.push(recipient);
            }
        }
        if set.is_empty() {
            return Err(OperationError::Refused {
                what: format!("epoch {epoch} would have no recipient left"),
                way_out: "add another recipient first, or name the whole new set: keys rotate -r …".to_owned(),
            });
        }
        Ok(now.followed_by(&set))
    }

    /// A recipient to remove that no key file names is a typing error. One of an older key file still opens the epoch: an
    /// earlier removal was interrupted.
    fn check(&self, epochs: &[SurveyedEpoch]) -> Result<(), OperationError> {
        let Self::Remove(less) = self else { return Ok(()) };
        let is_named = |wanted: &Recipient| {
            let mut opened = epochs.iter().flat_map(|epoch| &epoch.opened);
            opened.any(|opened| opened.holders.recipients.contains(wanted))
        };
        match less.iter().find(|wanted| !is_named(wanted)) {
            Some(unknown) => Err(OperationError::Usage(format!("{} is no recipient", unknown.as_str()))),
            None => Ok(()),
        }
    }
}

/// An identity that was given as a proof and proves nothing is a mistake, found before anything is written.
fn check_proof(next: &[Next<'_>], proof: &[IdentityFile]) -> Result<(), OperationError> {
    for next in next.iter().filter(|_| !proof.is_empty()) {
        if next.prove(proof)?.is_none() {
            return Err(OperationError::NoIdentityOpens {
                object: "what is encrypted to the new set: --proof".to_owned(),
            });
        }
    }
    Ok(())
}

/// An epoch's key file for the new set.
struct Next<'a> {
    epoch: &'a SurveyedEpoch,
    version: u32,
    holders: KeyHolders,
    /// As it is about to be stored.
    wrapped: Sealed,
}

impl<'a> Next<'a> {
    /// Always a new wrapping: that an old one is for this very set, only its comments say, which prove nothing. Its name is
    /// added to those that are `known`.
    fn of(
        (epoch, newest): (&'a SurveyedEpoch, &OpenedVersion),
        change: &Change,
        remote: &Remote,
        signer: &PublicSigner,
        known: &mut BTreeSet<Place>,
    ) -> Result<Self, OperationError> {
        let holders = change.of(&newest.holders, epoch.epoch)?;
        let wrapped = wrap(remote.id(), signer, epoch.epoch, &newest.identity, &holders)?;
        let version = first_free(newest.version, |version| known.contains(&(epoch.epoch, version)))?;
        known.insert((epoch.epoch, version));
        Ok(Self { epoch, version, holders, wrapped })
    }

    fn object(&self) -> String {
        layout::data_key(self.epoch.epoch, self.version).to_string()
    }

    async fn store(&self, remote: &Remote) -> Result<(), OperationError> {
        if !create_version(remote.store.as_ref(), self.epoch.epoch, self.version, &self.wrapped).await? {
            return Err(OperationError::OtherRotation { object: self.object() });
        }
        tracing::info!(epoch = self.epoch.epoch, version = self.version, "key file stored");
        Ok(())
    }

    /// The data identity as one of `provers` opens it through this key file; `None`: none of them does.
    fn prove<'b>(
        &self,
        provers: impl IntoIterator<Item = &'b IdentityFile>,
    ) -> Result<Option<DataIdentity>, OperationError> {
        match open_wrapped(self.wrapped.bytes(), Some(&self.epoch.recipient), provers) {
            Ok((identity, _)) => Ok(Some(identity)),
            Err(CryptoError::NoIdentityOpens) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is still there, as it was stored.
    async fn read_back(&self, remote: &Remote) -> Result<(), OperationError> {
        match read_back(remote.store.as_ref(), self.epoch.epoch, self.version, &self.wrapped).await {
            Err(OperationError::Store(StoreError::NotFound { .. })) => {
                Err(OperationError::KeyDeleted { object: self.object() })
            }
            read => read,
        }
    }

    fn replacement(&self, proved: bool) -> Replacement<'a> {
        let replaced = self.epoch.superseded(self.version, proved).replaced;
        Replacement { epoch: self.epoch, relied_on: self.version, replaced }
    }
}
