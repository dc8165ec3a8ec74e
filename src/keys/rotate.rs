//! A new generation of every epoch that the given identities open, for a new set of recipients.
//!
//! Everything is opened and planned before anything is written; then all new generations are stored; then an identity of
//! the new set proves them, for which its owner may be asked; then they are read back, and so are still there; only then
//! are the old ones deleted, and never one that is newer than what was opened.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::replace::{Replacement, replace};
use super::survey::{Proved, Survey, SurveyedEpoch, not_looked_into};
use crate::crypto::{CryptoError, DataIdentity, IdentityFile, PublicSigner, Recipient, Sealed};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{KeyHolders, layout};
use crate::history::Reader;
use crate::repository::Remote;
use crate::repository::key_files::{create_generation, first_free, read_back, wrap};
use crate::repository::unlock::{Opening, Unopened, Verdict, open_generation, open_wrapped};
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
    /// Identities of the new set that prove it at once, besides those of the operator himself.
    pub proof: Vec<IdentityFile>,
}

/// One epoch whose newest generation is for the new set.
pub struct RotatedEpoch {
    pub epoch: u32,
    /// A snapshot needs it: not one that has just been begun, or was planted.
    pub needed: bool,
    pub generation: u32,
    pub holders: KeyHolders,
    /// An identity of the new set opened it, and the generations before it are deleted.
    pub proved: bool,
    pub deleted: Vec<u32>,
}

pub struct RotateReport {
    /// In ascending order.
    pub epochs: Vec<RotatedEpoch>,
    /// Epochs that no given identity opens: left as they were.
    pub unopened: Vec<u32>,
    pub warnings: Vec<Warning>,
}

/// Rewraps the data identities for another set of recipients.
pub async fn rotate_keys(
    remote: &Remote,
    reader: &Reader,
    request: RotateRequest,
) -> Result<RotateReport, OperationError> {
    let identities = || request.proof.iter().chain(&reader.identities);
    let survey = Survey::of(remote, reader, identities(), &[]).await?;
    let (plans, unopened) = plan(remote, identities(), &survey, &request.change).await?;
    let mut warnings = survey.warnings.clone();
    warnings.extend(plans.iter().filter_map(Plan::newer));
    for epoch in &unopened {
        let text =
            format!("no given identity opens epoch {epoch}: it stays as it is, for those who could open it before");
        warnings.push(Warning::doubt("epoch-not-opened", text));
    }
    let mut taken = survey.listed.clone();
    let next = plans.into_iter().map(|plan| plan.wrap(remote, &survey.signer, &mut taken));
    let next = next.collect::<Result<Vec<_>, _>>()?;
    check_proof(&next, &request.proof)?;
    for next in &next {
        next.store(remote).await?;
    }
    let proofs = next.iter().map(|next| match next.prove(identities()) {
        // It is stored by now, and whoever cannot be asked can confirm it later.
        Err(OperationError::Crypto(CryptoError::IdentityFailed(_))) => Ok(None),
        proof => proof,
    });
    let proofs = proofs.collect::<Result<Vec<_>, _>>()?;
    let opened = next.iter().zip(&proofs);
    let proved = opened.filter_map(|(next, identity)| Some((next.epoch, identity.as_ref()?, next.wrapped.digest())));
    // No receipt says so, which would cost a request more: the next drill leaves one, or `confirm`.
    Proved::by(remote, proved).await?;
    let proved: Vec<bool> = proofs.iter().map(Option::is_some).collect();
    warnings.extend(not_proved(next.iter().zip(&proved)));
    for next in &next {
        next.read_back(remote).await?;
    }
    let replacements: Vec<_> = next.iter().zip(&proved).map(|(next, proved)| next.replacement(*proved)).collect();
    let done = replace(remote, identities(), &replacements).await?;
    warnings.extend(done.warnings);
    warnings.extend(appeared(&done.listed, &taken, &next)?);
    let epochs = next.iter().zip(proved).map(|(next, proved)| next.report(proved, &done.listed)).collect();
    Ok(RotateReport { epochs, unopened, warnings })
}

fn not_proved<'a>(next: impl Iterator<Item = (&'a Next<'a>, &'a bool)>) -> Option<Warning> {
    let unproved: Vec<String> =
        next.filter(|(_, proved)| !**proved).map(|(next, _)| next.epoch.epoch.to_string()).collect();
    (!unproved.is_empty()).then(|| {
        let text = format!(
            "nobody of the new set has opened epoch {} yet, so the old generation stays and opens, too, until \
             `sealift keys confirm --identity NEW`",
            unproved.join(", ")
        );
        Warning::doubt("rotation-not-proved", text)
    })
}

/// What appeared while this ran. A generation is another rotation's, and both are told; an epoch is one that this
/// rotation does not reach.
fn appeared(
    listed: &BTreeSet<(u32, u32)>,
    known: &BTreeSet<(u32, u32)>,
    next: &[Next<'_>],
) -> Result<Option<Warning>, OperationError> {
    let mut begun = Vec::new();
    for (epoch, generation) in listed.difference(known).copied() {
        let object = layout::data_key(epoch, generation).to_string();
        if next.iter().any(|next| next.epoch.epoch == epoch) {
            return Err(OperationError::OtherRotation { object });
        }
        begun.push(object);
    }
    Ok((!begun.is_empty()).then(|| not_looked_into(&begun)))
}

/// A generation to make.
struct Plan<'a> {
    epoch: &'a SurveyedEpoch,
    opening: Opening,
    wanted: KeyHolders,
}

async fn plan<'a, 'b>(
    remote: &Remote,
    identities: impl IntoIterator<Item = &'b IdentityFile> + Clone,
    survey: &'a Survey,
    change: &Change,
) -> Result<(Vec<Plan<'a>>, Vec<u32>), OperationError> {
    let (mut plans, mut unopened, mut failure) = (Vec::new(), Vec::new(), None);
    for epoch in &survey.epochs {
        match epoch.open(remote, identities.clone()).await? {
            Ok(opening) => {
                change.check_newest(&opening, epoch.epoch)?;
                let wanted = change.of(&opening.opened.holders, epoch.epoch)?;
                plans.push(Plan { epoch, opening, wanted });
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
            change.check(remote, identities, &plans).await?;
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

    /// Whoever is added or removed, is so beside those of the newest generation, and they must be known.
    fn check_newest(&self, opening: &Opening, epoch: u32) -> Result<(), OperationError> {
        match (self, opening.newer.first()) {
            (Self::Add(_) | Self::Remove(_), Some(newer)) => Err(OperationError::Refused {
                what: format!(
                    "{} is newer than what the given identities open, so who is a recipient now cannot be told",
                    layout::data_key(epoch, *newer)
                ),
                way_out:
                    "use an identity that opens it; if no operator knows of it, `sealift keys confirm --remove-newer` \
                          removes it"
                        .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// A recipient to remove that is none is a typing error. Whoever is one of an older generation still opens the epoch:
    /// an earlier removal did not come to its end.
    async fn check<'b>(
        &self,
        remote: &Remote,
        identities: impl IntoIterator<Item = &'b IdentityFile> + Clone,
        plans: &[Plan<'_>],
    ) -> Result<(), OperationError> {
        let Self::Remove(less) = self else { return Ok(()) };
        for wanted in less {
            let newest = || plans.iter().map(|plan| &plan.opening.opened.holders.recipients);
            let mut known = newest().any(|recipients| recipients.contains(wanted));
            for plan in plans {
                known = known || plan.is_of_an_older(remote, identities.clone(), wanted).await?;
            }
            if !known {
                return Err(OperationError::Usage(format!("{} is no recipient", wanted.as_str())));
            }
        }
        Ok(())
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
    /// Always a new wrapping: that an old one is for this very set, only its comments say, which anybody who knows the data
    /// identity could have written.
    fn wrap(
        self,
        remote: &Remote,
        signer: &PublicSigner,
        taken: &mut BTreeSet<(u32, u32)>,
    ) -> Result<Next<'a>, OperationError> {
        let Self { epoch, opening: Opening { opened, noise, .. }, wanted } = self;
        let wrapped = wrap(remote.id(), signer, epoch.epoch, &opened.identity, &wanted)?;
        let number = first_free(opened.generation, |number| taken.contains(&(epoch.epoch, number)))?;
        taken.insert((epoch.epoch, number));
        let replaced = epoch.generations.range(..=opened.generation).copied().chain(noise).collect();
        let locked = (opened.generation, opened.locked_until);
        Ok(Next { epoch, number, holders: wanted, wrapped, replaced, locked })
    }

    /// Whether `wanted` may open a generation that is older than the newest: one that names it, or one that is for others
    /// where the newest names it as removed.
    async fn is_of_an_older<'b>(
        &self,
        remote: &Remote,
        identities: impl IntoIterator<Item = &'b IdentityFile> + Clone,
        wanted: &Recipient,
    ) -> Result<bool, OperationError> {
        let Self { epoch, opening: Opening { opened, .. }, .. } = self;
        for generation in epoch.generations.range(..opened.generation) {
            let place = (epoch.epoch, *generation);
            let is_of = match open_generation(remote, place, Some(&epoch.recipient), identities.clone()).await? {
                Ok(older) => older.holders.recipients.contains(wanted),
                Err(Unopened { verdict: Verdict::Closed | Verdict::Unasked, .. }) => {
                    opened.holders.former.contains(wanted)
                }
                Err(Unopened { verdict: Verdict::Gone | Verdict::Noise, .. }) => false,
            };
            if is_of {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A doubt about what somebody else wrapped for a newer set.
    fn newer(&self) -> Option<Warning> {
        let newer = self.opening.newer.first()?;
        let text = format!(
            "{} is newer than what the given identities open, and stays: whoever it is for may open the snapshots. If no \
             operator knows of it, `sealift keys confirm --remove-newer` with an identity of the new set removes it",
            layout::data_key(self.epoch.epoch, *newer)
        );
        Some(Warning::doubt("newer-generation", text))
    }
}

/// An epoch's generation for the new set.
struct Next<'a> {
    epoch: &'a SurveyedEpoch,
    number: u32,
    holders: KeyHolders,
    /// As it is about to be stored.
    wrapped: Sealed,
    /// The generations that go once this one is proved.
    replaced: Vec<u32>,
    /// The generation that was opened, and until when the bucket locks it.
    locked: (u32, Option<Timestamp>),
}

impl Next<'_> {
    async fn store(&self, remote: &Remote) -> Result<(), OperationError> {
        if !create_generation(remote.store.as_ref(), self.epoch.epoch, self.number, &self.wrapped).await? {
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
        match open_wrapped(self.wrapped.bytes(), Some(&self.epoch.recipient), provers) {
            Ok((identity, _)) => Ok(Some(identity)),
            Err(CryptoError::NoIdentityOpens) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is still there, as it was stored.
    async fn read_back(&self, remote: &Remote) -> Result<(), OperationError> {
        match read_back(remote.store.as_ref(), self.epoch.epoch, self.number, &self.wrapped).await {
            Err(OperationError::Store(StoreError::NotFound { .. })) => {
                let object = layout::data_key(self.epoch.epoch, self.number).to_string();
                Err(OperationError::KeyDeleted { object, put_back: false })
            }
            read => read,
        }
    }

    fn replacement(&self, proved: bool) -> Replacement<'_> {
        Replacement {
            epoch: self.epoch,
            generation: self.number,
            sealed: &self.wrapped,
            replaced: if proved { self.replaced.clone() } else { Vec::new() },
            locked: self.locked,
        }
    }

    /// What is so, after what is `listed` was left.
    fn report(&self, proved: bool, listed: &BTreeSet<(u32, u32)>) -> RotatedEpoch {
        let epoch = self.epoch.epoch;
        let gone = |generation: &&u32| proved && !listed.contains(&(epoch, **generation));
        RotatedEpoch {
            epoch,
            needed: self.epoch.record.is_some(),
            generation: self.number,
            holders: self.holders.clone(),
            proved,
            deleted: self.replaced.iter().filter(gone).copied().collect(),
        }
    }
}
