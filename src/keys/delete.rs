//! Deleting what a new key file replaces, while other operators may do the same.
//!
//! Each command deletes only lower versions than the one that it relies on, so that of several at once the highest that one
//! of them relies on stays. Whether its own is still there a command sees afterwards.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::survey::SurveyedEpoch;
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::layout;
use crate::policy::key_sets::Place;
use crate::repository::Remote;
use crate::repository::delete::{left_of, tell_of_left};
use crate::repository::kept_keys::names;
use crate::store::Key;

/// A key file that a command relies on, and what goes for that.
pub(super) struct Replacement<'a> {
    pub epoch: &'a SurveyedEpoch,
    pub relied_on: u32,
    /// The versions to delete.
    pub replaced: Vec<u32>,
}

/// What came of it.
pub(super) struct Outcome {
    /// Every key file that was there afterwards.
    pub listed: BTreeSet<Place>,
    pub warnings: Vec<Finding>,
}

/// Deletes what is replaced in one request, and looks whether what is relied on is still there. `known` is all that was listed
/// when the command began or that it made: another key file in one of these epochs is that of another command.
pub(super) async fn delete_replaced(
    remote: &Remote,
    replacements: &[Replacement<'_>],
    known: &BTreeSet<Place>,
) -> Result<Outcome, OperationError> {
    let going: Vec<Key> = replacements.iter().flat_map(Replacement::keys).collect();
    let mut warnings = Vec::new();
    let mut failed = Default::default();
    if !going.is_empty() {
        let until = replacements.iter().filter_map(Replacement::locked_until).max();
        let deletion = remote.store.delete_many(&going).await?;
        warnings.extend(still_fetched(until, deletion.hidden > 0));
        failed = deletion.failed.into_iter().collect();
    }
    let listed: BTreeSet<Place> = remote.list_keys().await?.into_keys().collect();
    refuse_changed(replacements, &listed, known)?;
    let there: BTreeSet<Key> = listed.iter().map(|(epoch, version)| layout::data_key(*epoch, *version)).collect();
    let left = left_of(&going, failed, |key| there.contains(key));
    let gone = left.len() < going.len();
    warnings.extend(tell_of_left(remote, left, gone).await?);
    let begun = listed.difference(known).copied();
    let objects = names(begun);
    if !objects.is_empty() {
        warnings.push(Finding::KeyFilesUnopened { objects });
    }
    Ok(Outcome { listed, warnings })
}

/// An error where another command changed the key files of one of these epochs.
pub(super) fn refuse_changed(
    replacements: &[Replacement<'_>],
    listed: &BTreeSet<Place>,
    known: &BTreeSet<Place>,
) -> Result<(), OperationError> {
    let object = |(epoch, version): Place| layout::data_key(epoch, version).to_string();
    for place in replacements.iter().map(|replacement| (replacement.epoch.epoch, replacement.relied_on)) {
        if !listed.contains(&place) {
            return Err(OperationError::KeyDeleted { object: object(place) });
        }
    }
    let is_ours = |place: &&Place| replacements.iter().any(|replacement| replacement.epoch.epoch == place.0);
    match listed.difference(known).find(is_ours) {
        Some(place) => Err(OperationError::OtherRotation { object: object(*place) }),
        None => Ok(()),
    }
}

impl Replacement<'_> {
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.replaced.iter().map(|version| layout::data_key(self.epoch.epoch, *version))
    }

    /// The latest date until which the bucket locks what goes.
    fn locked_until(&self) -> Option<Timestamp> {
        let going = self.epoch.opened.iter().filter(|opened| self.replaced.contains(&opened.version));
        going.filter_map(|opened| opened.locked_until).max()
    }
}

/// Until when what was deleted can still be fetched.
fn still_fetched(locked_until: Option<Timestamp>, hidden: bool) -> Option<Finding> {
    match (locked_until, hidden) {
        (Some(until), _) => Some(Finding::OldKeyLocked { until }),
        (None, true) => Some(Finding::OldKeyKept {}),
        (None, false) => None,
    }
}
