//! One snapshot: look at what is there, read the sources, store what is new, commit.
//!
//! Order: packs, then manifest, then record. Until the record is stored, nothing of this run is listed; a crash
//! anywhere leaves packs that the next run uses.

mod assemble;
mod capture;
mod commit;
mod compaction;
mod confirm;
mod health;
mod keys;
mod known;
mod lifetime;
mod packing;
mod parent;
mod rebase;
mod repeat;
mod report;
mod run;
mod scan;
mod server;
mod sources;
mod survey;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use self::commit::Commit;
use self::keys::{check_keys, look_after_keys, recipients_changed};
use self::known::missing_of;
use self::parent::ParentSnapshot;
pub use self::rebase::{Rebase, RebaseReport};
pub use self::report::BackupReport;
pub(crate) use self::run::Run;
pub use self::sources::{Gentleness, SourceKind, SourceSpec};
pub use self::survey::{Survey, survey};
use crate::clock::{BootInstant, Clock};
use crate::crypto::Recipient;
use crate::error::OperationError;
use crate::events::{Monitor, Phase};
use crate::finding::Finding;
use crate::format::ranges::ranges;
use crate::format::{Retention, SignedRecord, layout};
use crate::history::{TrustStore, treat_as_missing};
use crate::host::{BadObjects, Catalog, HostState, SealedTo, WriterLock, load_signer};
use crate::repository::lock::take_turn;
use crate::repository::{DescriptorState, Listing, Remote, Seen};
use crate::source;
use crate::store::{Key, Stored};

/// Clocks further apart than this are named.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// What to back up and how.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    pub sources: Vec<SourceSpec>,
    /// The recipients in the configuration; data is encrypted to those of the epoch.
    pub recipients: Vec<Recipient>,
    /// The host's label in the record.
    pub host: String,
    pub tags: Vec<String>,
    /// zstd level, 1 to 19.
    pub compression: i32,
    /// Lanes that compress, and threads that hash.
    pub threads: usize,
    pub gentleness: Gentleness,
    /// How long to wait for another run of this host.
    pub wait: Duration,
    /// This machine was restored to an older state: continue from the newest record that counts.
    pub adopt: bool,
    /// How many stored bytes compaction may upload again.
    pub max_compact_bytes: u64,
    pub clock: Arc<dyn Clock>,
    /// Packs and manifests to treat as missing: what still exists here is uploaded again.
    pub replace: Vec<Key>,
    /// The retention rules in force, for the record.
    pub retention: Option<Retention>,
}

/// Takes one snapshot into `remote`, with the state in `dir`.
pub async fn backup(
    remote: &Remote,
    dir: &Path,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<BackupReport, OperationError> {
    let (host, lock) = take_host(remote, dir, request.wait).await?;
    if let Some(report) = repeat::repeat(remote, &host, &request).await? {
        return Ok(report);
    }
    begin_with(remote, host, lock, request, monitor).await?.run().await
}

/// Takes this host's lock and looks what is there; what a crash left is settled, and nothing else is written.
pub(crate) async fn begin<'a>(
    remote: &'a Remote,
    dir: &Path,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<Run<'a>, OperationError> {
    let (host, lock) = take_host(remote, dir, request.wait).await?;
    begin_with(remote, host, lock, request, monitor).await
}

async fn take_host(remote: &Remote, dir: &Path, wait: Duration) -> Result<(HostState, WriterLock), OperationError> {
    source::assert_sqlite()?;
    if HostState::load(dir)?.is_none() {
        return Err(not_the_writer(remote, dir));
    }
    let lock = take_turn(dir, wait).await?;
    let host = HostState::load(dir)?.ok_or_else(|| not_the_writer(remote, dir))?;
    Ok((host, lock))
}

async fn begin_with<'a>(
    remote: &'a Remote,
    mut host: HostState,
    lock: WriterLock,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<Run<'a>, OperationError> {
    let bad = BadObjects::load(host.dir())?;
    let listed = BootInstant::now();
    let mut listing = sound_listing(remote, &bad, &request.replace).await?;
    tracing::info!(records = listing.records.len(), packs = listing.packs.len(), "repository listed");
    let mut parent = parent::find(remote, &listing.of_records(), &host, request.adopt).await?;
    if request.adopt {
        adopt(&mut host, &parent)?;
    }
    server::check(remote, &mut host).await?;
    parent.warnings.extend(restore_descriptor(remote, &parent).await?);
    parent.warnings.extend(clock_off(&request, listing.server_time));
    parent.warnings.extend(look_after_keys(remote, &host, &mut listing).await?);
    parent.warnings.extend(recipients_changed(&host, Some(&listing), &request.recipients)?);
    let unsent = host.unsent()?;
    send_unsent(remote, &host, &listing, listed, &mut parent).await?;
    let earlier = parent.signed().map(|parent| parent.record.earlier.clone()).unwrap_or_default();
    let unlisted = remote.unlisted(&earlier, &listing.records, &HashSet::new()).await?;
    if !unlisted.is_empty() {
        parent.warnings.push(Finding::RecordUnlisted { snapshots: ranges(unlisted.iter().copied()) });
    }
    parent.warnings.extend(parent::passed_over(remote, &listing.records, &host, &parent).await?);
    let parent_bytes = parent.signed().map(|parent| parent.signed.bytes());
    let finished = unsent.is_some() && unsent.as_deref() == parent_bytes.map(|bytes| &bytes[..]);
    Ok(Run { remote, _lock: lock, host, bad, listed, listing, unlisted, parent, finished, request, monitor })
}

/// What is in the repository, without what a check here found bad and what a person wants to replace.
async fn sound_listing(remote: &Remote, bad: &BadObjects, replace: &[Key]) -> Result<Listing, OperationError> {
    let mut listing = remote.list().await?;
    treat_as_missing(remote, &mut listing, bad, replace).await?;
    Ok(listing)
}

/// `repository.json` never changes: once this host has found its own newest record in place, it puts the one that it
/// remembers back.
async fn restore_descriptor(remote: &Remote, parent: &ParentSnapshot) -> Result<Option<Finding>, OperationError> {
    let (Some(text), Some(_)) = (&remote.descriptor_text, parent.signed()) else { return Ok(None) };
    if remote.descriptor_state == DescriptorState::Same {
        return Ok(None);
    }
    remote.store.put(&layout::descriptor(), Stored::public_text(text.clone())).await?;
    Ok(Some(Finding::DescriptorChanged { restored: true }))
}

/// No time stops a backup; one that is far off is named.
fn clock_off(request: &BackupRequest, server_time: Option<Timestamp>) -> Option<Finding> {
    let (host_time, server_time) = (request.clock.now(), server_time?);
    let off = host_time.duration_since(server_time).abs() > CLOCKS_APART;
    off.then_some(Finding::ClockOff { host_time, server_time })
}

/// Why a machine without a host's state may not write.
fn not_the_writer(remote: &Remote, dir: &Path) -> OperationError {
    if let Ok(Some(own)) = load_signer(dir) {
        let command = if own.public() == remote.descriptor.signer { "init" } else { "init --take-over" };
        let what = format!("`sealift {command}` for {} was interrupted on this machine", remote.url);
        return OperationError::NotTheWriter { what, way_out: format!("run `sealift {command}` again") };
    }
    OperationError::NotTheWriter {
        what: format!("this machine is not the writer of {}: there is no state of it in {}", remote.url, dir.display()),
        way_out: format!(
            "if this is the right machine, name its state directory with --state-dir; if that is lost, `sealift init \
             --take-over --identity FILE` continues the repository (its first signing key is {})",
            remote.descriptor.signer.fingerprint()
        ),
    }
}

/// Goes on from the newest record that counts for this host: its epoch, its number, and nothing of what the state
/// directory believed.
fn adopt(host: &mut HostState, parent: &ParentSnapshot) -> Result<(), OperationError> {
    // An empty one: what this machine knew of stored blocks is of the state before.
    Catalog::drop_log(host.dir())?;
    Catalog::of([]).save(host.dir(), |_| false)?;
    host.drop_unsent()?;
    host.drop_last()?;
    let Some(parent) = parent.signed() else { return Ok(()) };
    host.set_parent(parent.signed.bytes())?;
    if *parent.signed.signer() != host.signer.public() {
        // Its predecessor's: this host has made an epoch of its own and no record yet.
        return Ok(());
    }
    let newest = parent.record.epochs.iter().find(|epoch| epoch.epoch == parent.record.manifest.epoch);
    // A later epoch of this host's own, from a rebase that was interrupted or that a rolled-back bucket no longer
    // shows, stays: the recipients that it removed could read on.
    if let Some(epoch) = newest.filter(|newest| newest.epoch >= host.sealed_to.epoch) {
        host.seal_to(SealedTo { epoch: epoch.epoch, recipient: epoch.recipient.clone() })?;
    }
    Ok(())
}

/// A record that a crash left unsent goes out now if all that it needs is still there; otherwise it is dropped.
async fn send_unsent(
    remote: &Remote,
    host: &HostState,
    listing: &Listing,
    listed: BootInstant,
    parent: &mut ParentSnapshot,
) -> Result<(), OperationError> {
    let Some(bytes) = host.unsent()? else { return Ok(()) };
    let Ok(unsent) = SignedRecord::read_own(bytes.into(), remote.id()) else { return Ok(host.drop_unsent()?) };
    if parent.signed().is_some_and(|parent| parent.signed.bytes() == unsent.signed.bytes()) {
        return become_parent(remote, host, parent, &unsent);
    }
    let previous = parent.signed().map(|parent| parent.signed.digest());
    let follows = unsent.record.sequence == parent.next && unsent.record.previous == previous;
    if !follows || !missing_of(&unsent.record, listing).is_empty() {
        tracing::info!(sequence = unsent.record.sequence, "an unsent record is dropped: what it needs is gone");
        return Ok(host.drop_unsent()?);
    }
    check_keys(host, &unsent.record.epochs, listing)?;
    let commit = Commit { remote, host, parent: parent.signed().cloned(), listed };
    let committed = commit.run(unsent.record).await?;
    become_parent(remote, host, parent, &committed)?;
    let sequence = committed.record.sequence;
    parent.next = layout::next_sequence(sequence).ok_or(OperationError::NoNumberLeft)?;
    let seen = remote.store.head(&layout::record(sequence)).await?;
    let bytes = committed.signed.bytes().len() as u64;
    // Without a time no left-over pack counts as younger than the record.
    let unknown = Seen { bytes, modified: Timestamp::MAX, etag: None };
    parent.record = Some((committed, seen.map_or(unknown, |object| Seen::of(&object))));
    Ok(())
}

/// What this host remembers of its sources is from before that record, so it proves nothing about them any more.
fn become_parent(
    remote: &Remote,
    host: &HostState,
    parent: &mut ParentSnapshot,
    record: &SignedRecord,
) -> Result<(), OperationError> {
    host.drop_last()?;
    host.set_parent(record.signed.bytes())?;
    commit::remember(remote, host, parent.store.clone(), record)?;
    parent.store = TrustStore::load(host.dir())?;
    Ok(host.drop_unsent()?)
}
