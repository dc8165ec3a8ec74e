//! An operator of the new set opens what a rotation left, and with that the old generations may go.

use super::super::unlock::Opening;
use super::super::{OperationError, Reader, Remote, Warning};
use super::survey::{Proved, Survey};
use crate::repository::{KeyHolders, layout};

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
            Ok(opening) => opened.push((epoch, opening)),
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
    let is_proved = |opening: &Opening| remove_newer || opening.newer.is_empty();
    let left = opened.iter().filter(|(_, opening)| !is_proved(opening));
    warnings.extend(left.filter_map(|(epoch, opening)| Some(newer(epoch.epoch, *opening.newer.first()?))));
    let proved = opened.iter().filter(|(_, opening)| is_proved(opening));
    let proved = proved.map(|(epoch, opening)| (*epoch, &opening.opened.identity, opening.opened.digest));
    let mut receipt_signer = None;
    if let Some(proved) = Proved::by(remote, proved).await? {
        match proved.put_receipt(remote, reader).await? {
            Ok(signer) => receipt_signer = Some(signer),
            Err(warning) => warnings.push(warning),
        }
    }
    let mut epochs = Vec::new();
    for (epoch, opening) in opened {
        let (proved, Opening { opened, newer, noise, .. }) = (is_proved(&opening), opening);
        let others = epoch.generations.range(..opened.generation).copied().chain(noise).chain(newer);
        let deleted: Vec<u32> = if proved { others.collect() } else { Vec::new() };
        for generation in &deleted {
            let until = remote.store.locked_until(&layout::data_key(epoch.epoch, *generation)).await?;
            warnings.extend(until.map(|until| epoch.still_locked(until)));
        }
        epoch.delete(remote, &deleted).await?;
        let (epoch, generation, holders) = (epoch.epoch, opened.generation, opened.holders);
        epochs.push(ConfirmedEpoch { epoch, generation, holders, proved, deleted });
    }
    Ok(ConfirmReport { epochs, unopened, receipt_signer, warnings })
}

fn newer(epoch: u32, above: u32) -> Warning {
    let text = format!(
        "generation {above} of epoch {epoch} is newer than the one that the given identity opens, so nothing is proved \
         and nothing deleted: confirm with an identity that opens it or, if no operator knows of it, with --remove-newer"
    );
    Warning::doubt("newer-generation", text)
}
