//! A snapshot that shows what its parent shows: one small record, in few requests.
//!
//! Where `stat` and the change counters prove that no source has changed, and this host saw within the hour that all is there
//! which the parent needs, neither older records nor packs are listed.

use jiff::SignedDuration;

use super::commit::{Commit, settle};
use super::health::health_warning;
use super::keys::{recipients_changed, single_recipient};
use super::parent::{self, ParentSnapshot};
use super::report::{BackupReport, report};
use super::sources::SourceSpec;
use super::{BackupRequest, OperationError, clock_off};
use crate::clock::BootInstant;
use crate::crypto::Digest;
use crate::finding::Finding;
use crate::format::ranges::{Range, joined};
use crate::format::{Epoch, ManifestRef, Record, SignedRecord};
use crate::host::{HostState, Last, SourceLook};
use crate::repository::{DescriptorState, Remote};

/// A full look at the sources is taken at least this often, whatever `stat` says.
const FULL_SCAN: SignedDuration = SignedDuration::from_hours(24);
/// The whole repository is listed at least this often.
const FULL_LISTING: SignedDuration = SignedDuration::from_hours(1);

/// The snapshot of an unchanged set of sources; `None` where more has to be looked at.
pub(super) async fn repeat(
    remote: &Remote,
    host: &HostState,
    request: &BackupRequest,
) -> Result<Option<BackupReport>, OperationError> {
    let is_plain = !request.adopt && request.replace.is_empty() && remote.descriptor_state == DescriptorState::Same;
    if !is_plain || host.unsent()?.is_some() || !host.is_server(&remote.location) {
        return Ok(None);
    }
    let Some(own) = host.parent()?.and_then(|bytes| SignedRecord::read_own(bytes.into(), remote.id()).ok()) else {
        return Ok(None);
    };
    let Some(last) = proven_unchanged(host, request, &own).filter(|last| is_listed(last, request)) else {
        return Ok(None);
    };
    let listed = BootInstant::now();
    let records = remote.list_records_from(own.record.sequence).await?;
    let mut parent = parent::find(remote, &records, host, false).await?;
    let is_own = parent.signed().is_some_and(|parent| parent.signed.bytes() == own.signed.bytes());
    if !is_own || !parent.ignored(|_| true).is_empty() {
        return Ok(None);
    }
    let mut warnings = std::mem::take(&mut parent.warnings);
    warnings.extend(clock_off(request, records.server_time));
    warnings.extend(single_recipient(host)?);
    warnings.extend(recipients_changed(host, None, &request.recipients)?);
    let record = blank_record(remote, host, request, &parent, own.record.earlier.clone());
    Repeat { remote, host, request, listed }.parent(&parent, record, last, warnings).await.map(Some)
}

/// Whether all that the parent needs was seen not long ago.
fn is_listed(last: &Last, request: &BackupRequest) -> bool {
    let age = |listed| request.clock.now().duration_since(listed);
    last.listed.is_some_and(|listed| age(listed) >= SignedDuration::ZERO && age(listed) < FULL_LISTING)
}

pub(super) fn is_of_epoch(parent: &SignedRecord, host: &HostState) -> bool {
    parent.record.manifest.epoch == host.sealed_to.epoch
}

/// Whether `stat` and the change counter prove that no source differs from the parent snapshot.
pub(super) fn proven_unchanged(host: &HostState, request: &BackupRequest, parent: &SignedRecord) -> Option<Last> {
    let last = host.last().filter(|_| is_of_epoch(parent, host))?;
    let age = request.clock.now().duration_since(last.read);
    let fresh = age >= SignedDuration::ZERO && age < FULL_SCAN;
    let specs = &request.sources;
    let key = &host.fingerprint_key;
    let same = |(spec, earlier): (&SourceSpec, &SourceLook)| {
        spec.name == earlier.name
            && spec.path == earlier.path
            && spec.look(request.gentleness, key).is_ok_and(|now| now.proves_unchanged(&earlier.look))
    };
    (fresh && specs.len() == last.sources.len() && specs.iter().zip(&last.sources).all(same)).then_some(last)
}

/// What every record of this host says next, whatever was read. `earlier` are the records before the parent.
pub(super) fn blank_record(
    remote: &Remote,
    host: &HostState,
    request: &BackupRequest,
    parent: &ParentSnapshot,
    earlier: Vec<Range>,
) -> Record {
    let before = parent.signed();
    let all = earlier
        .into_iter()
        .flat_map(|(first, last)| [(first, last)])
        .chain(before.map(|_| (parent.sequence(), parent.sequence())));
    let sealed_to = &host.sealed_to;
    Record {
        format: Record::FORMAT,
        repository: remote.id().clone(),
        sequence: parent.next,
        previous: before.map(|parent| parent.signed.digest()),
        earlier: joined(all),
        time: request.clock.now(),
        host: request.host.clone(),
        tags: request.tags.clone(),
        health: Vec::new(),
        writer_hold_ms: 0,
        manifest: ManifestRef { name: Digest::from_bytes([0; 32]), bytes: 0, epoch: sealed_to.epoch },
        epochs: vec![Epoch { epoch: sealed_to.epoch, recipient: sealed_to.recipient.clone(), packs: Vec::new() }],
        takeovers: parent.takeovers.clone(),
        ignored: Vec::new(),
        create_once: host.create_once(),
        nonce: Record::new_nonce(),
        retention: request.retention.clone(),
    }
}

pub(super) struct Repeat<'a> {
    pub remote: &'a Remote,
    pub host: &'a HostState,
    pub request: &'a BackupRequest,
    /// When the listing began that showed the parent as the newest record.
    pub listed: BootInstant,
}

impl Repeat<'_> {
    /// Commits `blank` as a snapshot that shows what `parent` shows.
    pub async fn parent(
        &self,
        parent: &ParentSnapshot,
        blank: Record,
        last: Last,
        mut warnings: Vec<Finding>,
    ) -> Result<BackupReport, OperationError> {
        let Some(before) = parent.signed() else { return Err(OperationError::Stopped) };
        // No source is missing here, so health and sources are in step.
        for (spec, health) in self.request.sources.iter().zip(&before.record.health) {
            warnings.extend(health_warning(&spec.path, *health, "as the last full look found it"));
        }
        tracing::info!("no source has changed");
        let record = Record {
            time: self.request.clock.now(),
            health: before.record.health.clone(),
            manifest: before.record.manifest.clone(),
            epochs: before.record.epochs.clone(),
            ..blank
        };
        let commit = Commit { remote: self.remote, host: self.host, parent: Some(before.clone()), listed: self.listed };
        let done = Box::pin(commit.run(record)).await?;
        // It needs the packs of its parent, so the catalog stays as it is.
        settle(self.remote, self.host, parent, &done, None, &last)?;
        Ok(report(&done, true, 0, last.ideal_bytes, warnings))
    }
}
