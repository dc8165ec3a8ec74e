//! An operator of the new set opens what a rotation left, and with that the old generations may go.

use std::collections::BTreeSet;

use super::claims::{back_again, unnamed};
use super::replace::{Replacement, replace};
use super::survey::{Proved, Survey, SurveyedEpoch};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{KeyHolders, layout};
use crate::history::Reader;
use crate::repository::Remote;
use crate::repository::unlock::Opening;

pub struct ConfirmedEpoch {
    pub epoch: u32,
    pub generation: u32,
    pub holders: KeyHolders,
    /// It is the newest or wanted instead of what is newer, and all others are deleted.
    pub proved: bool,
    pub deleted: Vec<u32>,
}

pub struct ConfirmReport {
    /// In ascending order.
    pub epochs: Vec<ConfirmedEpoch>,
    pub unopened: Vec<u32>,
    /// Whose key signed the receipt.
    pub receipt_signer: Option<String>,
    pub warnings: Vec<Warning>,
}

/// Opens the newest generations and a manifest, says so in a receipt, and deletes the generations before them.
///
/// One that is sealed for others than it names, or for somebody whom an earlier one names as removed, proves nothing.
/// A generation above the one that opens may be the new one of somebody else: then nothing of that epoch is proved, unless
/// the operator wants it gone (`remove_newer`).
pub async fn confirm_keys(
    remote: &Remote,
    reader: &Reader,
    remove_newer: bool,
) -> Result<ConfirmReport, OperationError> {
    let survey = Survey::of(remote, reader, &reader.identities, &[]).await?;
    let mut warnings = survey.warnings.clone();
    let (mut opened, mut unopened, mut failure) = (Vec::new(), Vec::new(), None);
    for epoch in &survey.epochs {
        match epoch.open(remote, &reader.identities).await? {
            Ok(opening) => {
                let doubt = doubt(remote, reader, epoch, &opening, remove_newer).await?;
                opened.push((epoch, opening, doubt.is_none()));
                warnings.extend(doubt);
            }
            Err(error) => {
                let text = format!("no given identity opens epoch {}: it stays as it is", epoch.epoch);
                warnings.push(Warning::doubt("epoch-not-opened", text));
                unopened.push(epoch.epoch);
                failure = Some(error);
            }
        }
    }
    if let Some(error) = failure.filter(|_| opened.is_empty()) {
        return Err(error);
    }
    let proved = opened.iter().filter(|(_, _, proved)| *proved);
    let proved = proved.map(|(epoch, opening, _)| (*epoch, &opening.opened.identity, opening.opened.digest));
    let mut receipt_signer = None;
    if let Some(proved) = Proved::by(remote, proved).await? {
        match proved.put_receipt(remote, reader).await? {
            Ok(signer) => receipt_signer = Some(signer),
            Err(warning) => warnings.push(warning),
        }
    }
    let replacements: Vec<Replacement<'_>> =
        opened.iter().map(|(epoch, opening, proved)| replacement(epoch, opening, *proved)).collect();
    look_again(remote, &survey, &replacements).await?;
    let done = replace(remote, &reader.identities, &replacements).await?;
    warnings.extend(done.warnings);
    let gone = |epoch: u32, generation: &u32| !done.listed.contains(&(epoch, *generation));
    let confirmed = |(replacement, (epoch, opening, proved)): (&Replacement<'_>, &(&SurveyedEpoch, Opening, bool))| {
        ConfirmedEpoch {
            epoch: epoch.epoch,
            generation: replacement.generation,
            holders: opening.opened.holders.clone(),
            proved: *proved,
            deleted: replacement.replaced.iter().filter(|generation| gone(epoch.epoch, generation)).copied().collect(),
        }
    };
    let epochs = replacements.iter().zip(&opened).map(confirmed).collect();
    Ok(ConfirmReport { epochs, unopened, receipt_signer, warnings })
}

/// Why an epoch is not proved by what opened: then nothing of it is deleted.
async fn doubt(
    remote: &Remote,
    reader: &Reader,
    epoch: &SurveyedEpoch,
    opening: &Opening,
    remove_newer: bool,
) -> Result<Option<Warning>, OperationError> {
    if let Some(above) = opening.newer.first().filter(|_| !remove_newer) {
        return Ok(Some(newer(epoch.epoch, *above)));
    }
    match unnamed(epoch.epoch, &opening.opened) {
        Some(doubt) => Ok(Some(doubt)),
        None => {
            let before = epoch.generations.range(..opening.opened.generation);
            let earlier = before.map(|generation| ((epoch.epoch, *generation), &epoch.recipient));
            back_again(remote, &reader.identities, (epoch.epoch, &opening.opened), earlier).await
        }
    }
}

fn replacement<'a>(epoch: &'a SurveyedEpoch, opening: &'a Opening, proved: bool) -> Replacement<'a> {
    let Opening { opened, newer, noise, .. } = opening;
    let others = epoch.generations.range(..opened.generation).chain(noise).chain(newer);
    Replacement {
        epoch,
        generation: opened.generation,
        sealed: &opened.sealed,
        replaced: if proved { others.copied().collect() } else { Vec::new() },
        locked: (opened.generation, opened.locked_until),
    }
}

/// Before anything is deleted: since the survey the owner of an identity may have been asked, for minutes. Who finds that
/// somebody else changed the keys meanwhile stops.
async fn look_again(remote: &Remote, survey: &Survey, all: &[Replacement<'_>]) -> Result<(), OperationError> {
    if all.iter().all(|replacement| replacement.replaced.is_empty()) {
        return Ok(());
    }
    let there: BTreeSet<(u32, u32)> = remote.list_keys().await?.into_keys().collect();
    let object = |(epoch, generation)| layout::data_key(epoch, generation).to_string();
    for place in all.iter().map(|replacement| (replacement.epoch.epoch, replacement.generation)) {
        if !there.contains(&place) {
            return Err(OperationError::KeyDeleted { object: object(place), put_back: false });
        }
    }
    let ours = |(epoch, _): &&(u32, u32)| all.iter().any(|replacement| replacement.epoch.epoch == *epoch);
    match there.difference(&survey.listed).find(ours) {
        Some(place) => Err(OperationError::OtherRotation { object: object(*place) }),
        None => Ok(()),
    }
}

fn newer(epoch: u32, above: u32) -> Warning {
    let text = format!(
        "generation {above} of epoch {epoch} is newer than the one that the given identity opens, so nothing is proved \
         and nothing deleted: confirm with an identity that opens it or, if no operator knows of it, with --remove-newer"
    );
    Warning::doubt("newer-generation", text)
}
