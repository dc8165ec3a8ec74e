//! A new generation of every epoch that the given identities open, for a new set of recipients.
//!
//! Everything is opened and planned before anything is written; then all new generations are stored and read back; then
//! an identity of the new set proves them; only then are the old ones deleted.

use jiff::Timestamp;

use super::super::epoch::{first_free, put_generation, wrap};
use super::super::unlock::{OpenedGeneration, open_wrapped};
use super::super::{OperationError, Reader, Remote, Warning};
use super::survey::{NamedEpoch, Proved, Survey};
use crate::crypto::{CryptoError, DataIdentity, IdentityFile, Recipient, Sealed};
use crate::repository::{KeyHolders, layout};

/// What is to become of the set of recipients of each epoch.
pub enum Change {
    Add(Vec<Recipient>),
    Remove(Vec<Recipient>),
    /// The whole new set.
    Set(Vec<Recipient>),
}

pub struct RotateRequest {
    pub change: Change,
    /// Identities of the new set that prove it at once, besides those of the operator himself.
    pub proof: Vec<IdentityFile>,
}

/// One epoch whose newest generation is for the new set.
pub struct RotatedEpoch {
    pub epoch: u32,
    pub generation: u32,
    pub holders: KeyHolders,
    /// An identity of the new set opened it, and all other generations are deleted.
    pub proved: bool,
    pub deleted: Vec<u32>,
}

pub struct RotateReport {
    /// In ascending order.
    pub epochs: Vec<RotatedEpoch>,
    /// Epochs that no given identity opens: left as they were.
    pub unopened: Vec<u32>,
    /// Whose key signed the receipt.
    pub receipt_signer: Option<String>,
    pub warnings: Vec<Warning>,
}

/// Rewraps the data identities for another set of recipients.
pub async fn rotate_keys(
    remote: &Remote,
    reader: &Reader,
    request: RotateRequest,
) -> Result<RotateReport, OperationError> {
    let survey = Survey::of(remote, reader).await?;
    let (plans, unopened) = plan(remote, reader, &survey, &request.change).await?;
    let mut warnings = survey.warnings.clone();
    for epoch in &unopened {
        let text =
            format!("no given identity opens epoch {epoch}: it stays as it is, for those who could open it before");
        warnings.push(Warning::doubt("epoch-not-opened", text));
    }
    let mut next = plans.into_iter().map(|plan| plan.wrap(remote, &survey)).collect::<Result<Vec<_>, _>>()?;
    check_proof(&next, &request.proof)?;
    for next in &mut next {
        next.store(remote).await?;
    }
    let provers = || request.proof.iter().chain(&reader.identities);
    let proofs = next.iter().map(|next| next.prove(provers())).collect::<Result<Vec<_>, _>>()?;
    let proved: Vec<_> =
        next.iter().zip(&proofs).filter_map(|(next, identity)| Some((next.epoch, identity.as_ref()?))).collect();
    let mut receipt_signer = None;
    if let Some(proved) = Proved::by(remote, &proved).await? {
        match proved.put_receipt(remote, reader).await? {
            Ok(signer) => receipt_signer = Some(signer),
            Err(warning) => warnings.push(warning),
        }
    }
    let unproved = next.iter().zip(&proofs).filter(|(_, proof)| proof.is_none());
    let unproved: Vec<String> = unproved.map(|(next, _)| next.epoch.epoch.to_string()).collect();
    if !unproved.is_empty() {
        let text = format!(
            "nobody of the new set has opened epoch {} yet, so the old generation stays and opens, too, until \
             `sealift keys confirm --identity NEW`",
            unproved.join(", ")
        );
        warnings.push(Warning::doubt("rotation-not-proved", text));
    }
    let mut epochs = Vec::new();
    for (next, proof) in next.into_iter().zip(proofs) {
        let until = next.locked_until.filter(|_| proof.is_some());
        warnings.extend(until.map(|until| next.epoch.still_locked(until)));
        epochs.push(next.finish(remote, proof.is_some()).await?);
    }
    Ok(RotateReport { epochs, unopened, receipt_signer, warnings })
}

/// A generation to make, or one that already is as wanted.
struct Plan<'a> {
    epoch: &'a NamedEpoch,
    opened: OpenedGeneration,
    wanted: KeyHolders,
}

async fn plan<'a>(
    remote: &Remote,
    reader: &Reader,
    survey: &'a Survey,
    change: &Change,
) -> Result<(Vec<Plan<'a>>, Vec<u32>), OperationError> {
    let (mut plans, mut unopened, mut failure) = (Vec::new(), Vec::new(), None);
    for epoch in &survey.epochs {
        match epoch.open(remote, &reader.identities).await? {
            Ok(opened) => {
                let wanted = change.of(&opened.holders, epoch.epoch)?;
                plans.push(Plan { epoch, opened, wanted });
            }
            Err(error) => {
                unopened.push(epoch.epoch);
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if plans.is_empty() => Err(error),
        _ => {
            change.check(&plans)?;
            Ok((plans, unopened))
        }
    }
}

impl Change {
    /// The holders that the next generation of `epoch` has.
    fn of(&self, now: &KeyHolders, epoch: u32) -> Result<KeyHolders, OperationError> {
        if now.recipients.is_empty() && !matches!(self, Self::Set(_)) {
            let what = format!("the key file of epoch {epoch} does not say whom it is for");
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
                what: format!("nobody could open epoch {epoch} any more"),
                way_out: "add another recipient first, or name the whole new set: keys rotate -r …".to_owned(),
            });
        }
        Ok(now.followed_by(&set))
    }

    /// A recipient to remove that is none is a typing error.
    fn check(&self, plans: &[Plan<'_>]) -> Result<(), OperationError> {
        let Self::Remove(less) = self else { return Ok(()) };
        let known = |wanted: &&Recipient| plans.iter().any(|plan| plan.opened.holders.recipients.contains(wanted));
        match less.iter().find(|wanted| !known(wanted)) {
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
                object: "what is sealed for the new set: --proof".to_owned(),
            });
        }
    }
    Ok(())
}

impl<'a> Plan<'a> {
    fn wrap(self, remote: &Remote, survey: &Survey) -> Result<Next<'a>, OperationError> {
        let Self { epoch, opened, wanted } = self;
        if opened.holders.are(&wanted.recipients) {
            // An earlier run got as far as this.
            let wrapped = Sealed::reread(opened.wrapped)?;
            return Ok(Next {
                epoch,
                number: opened.generation,
                holders: wanted,
                wrapped,
                is_new: false,
                locked_until: None,
            });
        }
        let wrapped = wrap(remote.id(), &survey.signer, epoch.epoch, &opened.identity, &wanted)?;
        let number = first_free(opened.generation, |number| epoch.generations.contains(&number))?;
        Ok(Next { epoch, number, holders: wanted, wrapped, is_new: true, locked_until: opened.locked_until })
    }
}

/// An epoch's generation for the new set.
struct Next<'a> {
    epoch: &'a NamedEpoch,
    number: u32,
    holders: KeyHolders,
    /// As it is stored, or is about to be.
    wrapped: Sealed,
    is_new: bool,
    /// Until when the bucket locks the generation before it.
    locked_until: Option<Timestamp>,
}

impl Next<'_> {
    async fn store(&self, remote: &Remote) -> Result<(), OperationError> {
        if !self.is_new {
            return Ok(());
        }
        if !put_generation(remote.store.as_ref(), self.epoch.epoch, self.number, &self.wrapped).await? {
            let object = layout::data_key(self.epoch.epoch, self.number).to_string();
            return Err(OperationError::OtherRotation { object });
        }
        tracing::info!(epoch = self.epoch.epoch, generation = self.number, "wrapped key stored");
        Ok(())
    }

    /// The data identity as one of `provers` opens it through this generation; `None`: none of them does.
    fn prove<'b>(
        &self,
        provers: impl IntoIterator<Item = &'b IdentityFile>,
    ) -> Result<Option<DataIdentity>, OperationError> {
        match open_wrapped(self.wrapped.bytes(), &self.epoch.recipient, provers) {
            Ok((identity, _)) => Ok(Some(identity)),
            Err(CryptoError::NoIdentityOpens) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the other generations once this one is proved.
    async fn finish(self, remote: &Remote, proved: bool) -> Result<RotatedEpoch, OperationError> {
        let others = self.epoch.generations.iter().copied().filter(|number| *number != self.number);
        let deleted: Vec<u32> = if proved { others.collect() } else { Vec::new() };
        self.epoch.delete(remote, &deleted).await?;
        Ok(RotatedEpoch { epoch: self.epoch.epoch, generation: self.number, holders: self.holders, proved, deleted })
    }
}
