//! An operator of the new set opens what a rotation left. With that stored in a receipt, the old key files that the operator
//! opens as well may go.

use std::collections::BTreeSet;

use super::delete::{Replacement, delete_replaced, refuse_changed};
use super::survey::{Proved, Survey, unopened};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::KeyHolders;
use crate::history::Reader;
use crate::policy::key_sets::Place;
use crate::repository::Remote;

pub struct ConfirmedEpoch {
    pub epoch: u32,
    /// The newest that a given identity opens.
    pub version: u32,
    pub holders: KeyHolders,
    /// A manifest was opened through it, and the receipt of that is stored.
    pub proved: bool,
    pub deleted: Vec<u32>,
}

pub struct ConfirmReport {
    /// In ascending order.
    pub epochs: Vec<ConfirmedEpoch>,
    /// Epochs that no given identity opens.
    pub unopened: Vec<u32>,
    /// The key that signed the receipt.
    pub receipt_signer: Option<String>,
    pub warnings: Vec<Finding>,
}

/// Opens the newest key file of each epoch that a given identity can open, and a manifest of the epoch; stores a receipt of
/// that; then deletes the other key files that the given identities open. What they do not open stays.
pub async fn confirm_keys(remote: &Remote, reader: &Reader) -> Result<ConfirmReport, OperationError> {
    let mut survey = Survey::of(remote, reader, &reader.identities, &[]).await?;
    survey.refuse_closed()?;
    let remote = &survey.remote.clone();
    let mut warnings = survey.warnings.clone();
    warnings.extend(survey.not_opened());
    warnings.extend(unopened(&survey.epochs));
    let newest: Vec<_> = survey.epochs.iter().filter_map(|epoch| Some((epoch, epoch.newest()?))).collect();
    let opened = newest.iter().map(|(epoch, opened)| (*epoch, &opened.identity, opened.digest));
    let proved = Proved::by(remote, opened).await?;
    let mut receipt_signer = None;
    if let Some(proved) = &proved {
        match proved.put_receipt(remote, reader).await? {
            Ok(signer) => receipt_signer = Some(signer),
            Err(finding) => warnings.push(finding),
        }
    }
    let is_proved = |epoch: u32| receipt_signer.is_some() && proved.as_ref().is_some_and(|proved| proved.holds(epoch));
    let replacements: Vec<Replacement<'_>> = newest
        .iter()
        .map(|(epoch, opened)| Replacement {
            epoch,
            relied_on: opened.version,
            replaced: epoch.superseded(opened.version, is_proved(epoch.epoch)).replaced,
        })
        .collect();
    // An epoch that no snapshot needs yet is proved after the next backup. That matters where something is to go.
    let waits = |replacement: &&Replacement<'_>| {
        let (epoch, version) = (replacement.epoch, replacement.relied_on);
        let missed = proved.is_some() && receipt_signer.is_none() && epoch.record.is_some();
        !is_proved(epoch.epoch) && (missed || !epoch.superseded(version, true).replaced.is_empty())
    };
    let epochs: BTreeSet<u32> = replacements.iter().filter(waits).map(|replacement| replacement.epoch.epoch).collect();
    if !epochs.is_empty() {
        warnings.push(Finding::RotationNotProved { epochs: epochs.into_iter().collect() });
    }
    if replacements.iter().any(|replacement| !replacement.replaced.is_empty()) {
        // Since the survey the owner of an identity may have been asked, for minutes.
        let listed: BTreeSet<Place> = remote.list_keys().await?.into_keys().collect();
        refuse_changed(&replacements, &listed, &survey.listed)?;
    }
    let done = delete_replaced(remote, &replacements, &survey.listed).await?;
    warnings.extend(done.warnings);
    let epochs = replacements.iter().zip(&newest).map(|(replacement, (epoch, opened))| ConfirmedEpoch {
        epoch: epoch.epoch,
        version: opened.version,
        holders: opened.holders.clone(),
        proved: is_proved(epoch.epoch),
        deleted: gone(epoch.epoch, &replacement.replaced, &done.listed),
    });
    let epochs = epochs.collect();
    Ok(ConfirmReport { epochs, unopened: survey.unopened(), receipt_signer, warnings })
}

/// Those of `replaced` that are no longer listed.
pub(super) fn gone(epoch: u32, replaced: &[u32], listed: &BTreeSet<Place>) -> Vec<u32> {
    replaced.iter().filter(|version| !listed.contains(&(epoch, **version))).copied().collect()
}
