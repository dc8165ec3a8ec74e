//! A new epoch, and a full upload from the live sources: the next snapshot needs no older key. Needs no identity.
//!
//! The new epoch counts from the moment that its key is stored and read back. What is interrupted later, the next run
//! goes on with, be it a rebase for the same set or an ordinary backup.

use std::path::Path;
use std::sync::Arc;

use crate::backup::{BackupReport, BackupRequest};
use crate::backup::{Run, begin};
use crate::clock;
use crate::crypto::{Recipient, seal};
use crate::error::OperationError;
use crate::events::Monitor;
use crate::format::KeyHolders;
use crate::host::KeptKeys;
use crate::repository::Remote;
use crate::repository::Seen;
use crate::repository::kept_keys::managed_by_rotation;
use crate::repository::key_files::{first_free, make_epoch};

/// Nobody but this host may have said who is a recipient, unless a person has just named the set.
fn refuse_rotated<'a>(
    run: &Run<'_>,
    listed: impl IntoIterator<Item = (&'a (u32, u32), &'a Seen)>,
) -> Result<(), OperationError> {
    let kept = KeptKeys::load(run.host.dir())?;
    if !managed_by_rotation(&kept, run.host.sealed_to.epoch, listed) {
        return Ok(());
    }
    Err(OperationError::Refused {
        what: "the keys were rotated elsewhere, so the configuration may name recipients that were removed".to_owned(),
        way_out: "name the whole set: keys rebase -r … (an operator's `keys list` shows it)".to_owned(),
    })
}

/// A rebase that may go on; nothing is written yet.
pub struct Rebase<'a> {
    run: Run<'a>,
    recipients: Vec<Recipient>,
    named: bool,
}

pub struct RebaseReport {
    pub epoch: u32,
    /// An interrupted rebase was finished.
    pub resumed: bool,
    pub backup: BackupReport,
}

impl<'a> Rebase<'a> {
    /// Looks whether this host may seal for `recipients` from now on. `named`: a person has just named them, and they do
    /// not merely stand in the configuration, which a rotation elsewhere does not change.
    pub async fn begin(
        remote: &'a Remote,
        dir: &Path,
        recipients: Vec<Recipient>,
        named: bool,
        request: BackupRequest,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self, OperationError> {
        // Before anything is made: a plugin that is missing, or keys that age will not mix.
        seal(b"", &recipients)?;
        let run = begin(remote, dir, request, monitor).await?;
        if !named {
            refuse_rotated(&run, &run.listing.keys)?;
        }
        Ok(Self { run, recipients, named })
    }

    /// Makes the epoch, unless an interrupted rebase for the same set did, and takes a full snapshot.
    pub async fn run(mut self) -> Result<RebaseReport, OperationError> {
        let resumed = self.is_begun()?;
        if !resumed {
            self.make_epoch().await?;
        }
        let epoch = self.run.host.sealed_to.epoch;
        Ok(RebaseReport { epoch, resumed, backup: self.run.run().await? })
    }

    /// Whether the epoch that this host seals to is for this set, and its first snapshot was not known to be there.
    fn is_begun(&self) -> Result<bool, OperationError> {
        let epoch = self.run.host.sealed_to.epoch;
        let unused = self.run.standing.parent.as_ref().is_some_and(|(parent, _)| parent.record.manifest.epoch != epoch);
        let kept = KeptKeys::load(self.run.host.dir())?;
        let mut own = kept.iter().filter(|key| key.epoch == epoch && key.own && !key.gone);
        Ok((unused || self.run.finished) && own.any(|key| KeyHolders::of(&key.recipients).are(&self.recipients)))
    }

    async fn make_epoch(&mut self) -> Result<(), OperationError> {
        let run = &mut self.run;
        let epochs: Vec<u32> = run.listing.keys.keys().map(|(epoch, _)| *epoch).collect();
        let epoch = first_free(run.host.sealed_to.epoch, |number| epochs.contains(&number))?;
        let (id, signer) = (run.remote.id(), run.host.signer.public());
        let made = make_epoch(run.remote.store.as_ref(), run.host.dir(), id, &signer, epoch, &self.recipients).await?;
        let sealed_to =
            made.ok_or_else(|| OperationError::OtherWriter(format!("epoch {epoch} was just made by another")))?;
        let kept = KeptKeys::load(run.host.dir())?;
        for key in kept.iter().filter(|key| key.epoch == epoch) {
            run.listing.keys.insert((epoch, key.generation), Seen { bytes: key.bytes, modified: clock::now() });
        }
        if !self.named {
            // A rotation that began before this epoch was to be seen does not reach it.
            refuse_rotated(run, &run.remote.list_keys().await?)?;
        }
        tracing::info!(epoch, "a new epoch");
        // What was remembered of the sources belongs to the epoch before.
        run.host.drop_last()?;
        Ok(run.host.seal_to(sealed_to)?)
    }
}
