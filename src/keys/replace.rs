//! Deleting what a generation replaces, while other operators may do the same the other way round.
//!
//! Each of two commands that rely on different generations and delete the other's would leave none. So each looks whether
//! its own is still there right before it deletes, and once more afterwards; the last of these looks cannot miss it, and
//! whoever finds his own gone puts it back from the bytes that he holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::survey::SurveyedEpoch;
use crate::crypto::{IdentityFile, Sealed};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::layout;
use crate::repository::Remote;
use crate::repository::Seen;
use crate::repository::delete::{left_of, tell_of_left};
use crate::repository::key_files::{first_free, put_generation};
use crate::repository::unlock::open_newest_of;
use crate::store::{Key, StoreError};

/// A generation that is proved, and what goes for that.
pub(super) struct Replacement<'a> {
    pub epoch: &'a SurveyedEpoch,
    /// What is relied on.
    pub generation: u32,
    pub sealed: &'a Sealed,
    /// What goes.
    pub replaced: Vec<u32>,
    /// The generation of this epoch that was fetched last, and until when the bucket locks it.
    pub locked: (u32, Option<Timestamp>),
}

/// What came of it.
pub(super) struct Replaced {
    /// Every wrapped key that was there afterwards.
    pub listed: BTreeSet<(u32, u32)>,
    pub warnings: Vec<Warning>,
}

/// Deletes what is replaced in one request, and looks whether all that is relied on is still there. Somebody must have
/// looked right before. `identities` are those that opened what is relied on.
pub(super) async fn replace<'a>(
    remote: &Remote,
    identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
    replacements: &[Replacement<'_>],
) -> Result<Replaced, OperationError> {
    let going: Vec<Key> = replacements.iter().flat_map(Replacement::keys).collect();
    let mut warnings = Vec::new();
    let mut failed = Default::default();
    if !going.is_empty() {
        let until = latest_lock(remote, replacements).await?;
        let deletion = remote.store.delete_many(&going).await?;
        warnings.extend(still_fetched(until, deletion.hidden > 0));
        failed = deletion.failed.into_iter().collect();
    }
    let there = remote.list_keys().await?;
    for replacement in replacements {
        replacement.look(remote, identities.clone(), &there).await?;
    }
    let listed: BTreeSet<(u32, u32)> = there.into_keys().collect();
    let names: BTreeSet<Key> = listed.iter().map(|(epoch, generation)| layout::data_key(*epoch, *generation)).collect();
    let left = left_of(&going, failed, |key| names.contains(key));
    let gone = left.len() < going.len();
    warnings.extend(tell_of_left(remote, left, gone).await?);
    Ok(Replaced { listed, warnings })
}

impl Replacement<'_> {
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.replaced.iter().map(|generation| layout::data_key(self.epoch.epoch, *generation))
    }

    /// Whether what is relied on is among what is `there`, or else another generation that the same identities open. It
    /// is put back otherwise.
    async fn look<'b>(
        &self,
        remote: &Remote,
        identities: impl IntoIterator<Item = &'b IdentityFile> + Clone,
        there: &BTreeMap<(u32, u32), Seen>,
    ) -> Result<(), OperationError> {
        let epoch = self.epoch.epoch;
        if there.contains_key(&(epoch, self.generation)) {
            return Ok(());
        }
        let object = layout::data_key(epoch, self.generation).to_string();
        let left: BTreeSet<u32> = there.keys().filter(|(of, _)| *of == epoch).map(|(_, number)| *number).collect();
        let opened = open_newest_of(remote, (epoch, &left), &self.epoch.recipient, identities).await;
        if matches!(opened, Ok(Ok(_))) {
            return Err(OperationError::KeyDeleted { object, put_back: false });
        }
        let mut number = self.generation - 1;
        loop {
            number = first_free(number, |number| left.contains(&number))?;
            if put_generation(remote.store.as_ref(), epoch, number, self.sealed).await? {
                return Err(OperationError::KeyDeleted { object, put_back: true });
            }
        }
    }
}

/// The latest date until which the bucket locks what goes. Where it locked nothing that was just fetched, nothing else is
/// asked about: that would cost a request each.
async fn latest_lock(remote: &Remote, all: &[Replacement<'_>]) -> Result<Option<Timestamp>, OperationError> {
    let mut latest = None;
    for Replacement { epoch, replaced, locked: (seen, until), .. } in all {
        for generation in replaced.iter().filter(|_| until.is_some()) {
            let until = if generation == seen {
                *until
            } else {
                match remote.store.locked_until(&layout::data_key(epoch.epoch, *generation)).await {
                    Err(StoreError::AccessDenied { .. }) => None,
                    until => until?,
                }
            };
            latest = latest.max(until);
        }
    }
    Ok(latest)
}

/// Until when what was deleted can still be fetched.
fn still_fetched(locked_until: Option<Timestamp>, hidden: bool) -> Option<Warning> {
    let expired = "until a lifecycle rule of the bucket expires noncurrent versions";
    match (locked_until, hidden) {
        (Some(until), _) => {
            let text = format!(
                "the bucket locks its objects: what was deleted of the wrapped keys can still be fetched, as old versions, \
                 until {until} at least, and after that {expired}"
            );
            Some(Warning::standing("old-key-locked", text))
        }
        (None, true) => {
            let text = format!(
                "the bucket keeps old versions: what was deleted of the wrapped keys can still be fetched for ever, {expired}"
            );
            Some(Warning::standing("old-key-kept", text))
        }
        (None, false) => None,
    }
}
