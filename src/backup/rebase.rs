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
use crate::format::{KeyHolders, layout};
use crate::host::{KeptKey, KeptKeys};
use crate::repository::Remote;
use crate::repository::Seen;
use crate::repository::key_files::{first_free, make_epoch};

/// Where another machine made a key file, the configuration may name recipients that were removed.
fn refuse_unnamed() -> OperationError {
    OperationError::Refused {
        what: "key files were made elsewhere, so the configuration may name recipients that were removed".to_owned(),
        way_out: "name the whole set: `sealift keys rebase -r …` (an operator's `keys list` shows it)".to_owned(),
    }
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
    /// Looks whether this host may encrypt to `recipients` from now on. `named`: a person has just named them; otherwise they
    /// come from the configuration, which a rotation elsewhere does not change.
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
        if !named && KeptKeys::load(run.host.dir())?.saw_others() {
            return Err(refuse_unnamed());
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

    /// Whether the epoch that this host encrypts to is for this set, and its first snapshot was not known to be there.
    fn is_begun(&self) -> Result<bool, OperationError> {
        let epoch = self.run.host.sealed_to.epoch;
        let unused = self.run.parent.signed().is_some_and(|parent| parent.record.manifest.epoch != epoch);
        let kept = KeptKeys::load(self.run.host.dir())?;
        let mut there = kept.names().filter(|name| name.epoch == epoch).filter_map(|name| kept.at(name.place()));
        let is_for_this_set = |key: &KeptKey| key.own && KeyHolders::of(&key.recipients).are(&self.recipients);
        Ok((unused || self.run.finished) && there.any(is_for_this_set))
    }

    async fn make_epoch(&mut self) -> Result<(), OperationError> {
        let run = &mut self.run;
        let epochs: Vec<u32> = run.listing.keys.keys().map(|(epoch, _)| *epoch).collect();
        let epoch = first_free(run.host.sealed_to.epoch, |number| epochs.contains(&number))?;
        let (id, signer) = (run.remote.id(), run.host.signer.public());
        let made = make_epoch(run.remote.store.as_ref(), run.host.dir(), id, &signer, epoch, &self.recipients).await?;
        let sealed_to =
            made.ok_or_else(|| OperationError::OtherRotation { object: layout::data_key(epoch, 1).to_string() })?;
        let kept = KeptKeys::load(run.host.dir())?;
        for name in kept.names().filter(|name| name.epoch == epoch) {
            run.listing.keys.insert(name.place(), Seen { bytes: name.bytes, modified: clock::now(), etag: None });
        }
        if !self.named {
            // A rotation that began before this epoch was to be seen does not reach it.
            let is_own = |(place, seen): (&(u32, u32), &Seen)| {
                kept.find(*place, seen.bytes, seen.modified).is_some_and(|key| key.own)
            };
            if !run.remote.list_keys().await?.iter().all(is_own) {
                return Err(refuse_unnamed());
            }
        }
        tracing::info!(epoch, "a new epoch");
        // What was remembered of the sources belongs to the epoch before.
        run.host.drop_last()?;
        Ok(run.host.seal_to(sealed_to)?)
    }
}
