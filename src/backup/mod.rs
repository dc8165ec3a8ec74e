//! One snapshot: look at what is there, read the sources, store what is new, commit.
//!
//! Order: packs, then manifest, then record. Until the record is stored, nothing of this run is listed; a crash
//! anywhere leaves packs that the next run uses.

mod assemble;
mod capture;
mod commit;
mod compaction;
mod health;
mod keys;
mod known;
mod lifetime;
mod packing;
mod parent;
mod rebase;
mod report;
mod scan;
mod sources;
mod survey;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use self::assemble::{assemble, locations};
use self::commit::{commit, settle};
use self::compaction::restore_size;
use self::health::health_warning;
use self::keys::{check_keys, look_after_keys, recipients_changed, single_recipient};
use self::known::{missing_of, usable_catalog, warn_of_missing};
use self::packing::{PackSettings, Packer};
use self::parent::Standing;
pub use self::rebase::{Rebase, RebaseReport};
pub use self::report::BackupReport;
use self::report::report;
use self::scan::{Scanner, piece_buffers};
pub use self::sources::{Gentleness, SourceKind, SourceSpec};
use self::sources::{SourceSet, read_all};
pub use self::survey::{Survey, survey};
use self::upload::Uploader;
use crate::clock::Clock;
use crate::crypto::{Digest, PublicSigner, Recipient};
use crate::error::OperationError;
use crate::events::{Monitor, Phase};
use crate::finding::Warning;
use crate::format::ranges::{contains, ranges, written};
use crate::format::{Epoch, Manifest, ManifestRef, Record, Retention, SignedRecord, layout};
use crate::history::BadObjects;
use crate::host::{Catalog, HostState, KeptKeys, Last, Look, SealedTo, SourceLook, WriterLock, load_signer};
use crate::repository::kept_keys::later_epochs;
use crate::repository::lock::take_turn;
use crate::repository::receipts::receipts;
use crate::repository::{Listing, Remote, Seen};
use crate::source;
use crate::store::Stored;

/// A full look at the sources is taken at least this often, whatever `stat` says.
const FULL_SCAN: SignedDuration = SignedDuration::from_hours(24);

/// What to back up and how.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    pub sources: Vec<SourceSpec>,
    /// Whom the configuration names; sealed is for those of the epoch.
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
    /// This machine was restored to an older state: go on from the newest record of its own signer.
    pub adopt: bool,
    /// How many stored bytes compaction may upload afresh.
    pub max_compact_bytes: u64,
    pub clock: Arc<dyn Clock>,
    /// Whose receipts are believed: what they hold bad is uploaded anew.
    pub believed: Vec<PublicSigner>,
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
    let run = begin(remote, dir, request, monitor).await?;
    run.run().await
}

/// Takes this host's turn and looks what is there; what a crash left is settled, and nothing else is written.
pub(super) async fn begin<'a>(
    remote: &'a Remote,
    dir: &Path,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<Run<'a>, OperationError> {
    source::assert_sqlite()?;
    if HostState::load(dir)?.is_none() {
        return Err(not_the_writer(remote, dir));
    }
    let lock = take_turn(dir, request.wait).await?;
    let mut host = HostState::load(dir)?.ok_or_else(|| not_the_writer(remote, dir))?;
    let receipts = receipts(remote, &request.believed).await?;
    let bad = BadObjects::known(&receipts, dir)?;
    let mut listing = sound_listing(remote, &bad).await?;
    tracing::info!(records = listing.records.len(), packs = listing.packs.len(), "repository listed");
    let mut standing = parent::find(remote, &listing, &host, request.adopt).await?;
    if request.adopt {
        adopt(&mut host, &standing)?;
    }
    standing.warnings.extend(look_after_keys(remote, &host, &mut listing, &receipts, &request.believed).await?);
    standing.warnings.extend(recipients_changed(&host, &listing, &request.recipients)?);
    let unsent = host.unsent()?;
    send_unsent(remote, &host, &listing, &request.believed, &mut standing).await?;
    let parent = standing.parent.as_ref().map(|(parent, _)| parent.signed.bytes());
    let earlier = standing.parent.as_ref().map(|(parent, _)| parent.record.earlier.clone()).unwrap_or_default();
    let unlisted = remote.unlisted(&earlier, &listing.records, &HashSet::new()).await?;
    standing.warnings.extend(not_listed(&unlisted));
    let finished = unsent.is_some() && unsent.as_deref() == parent.map(|bytes| &bytes[..]);
    Ok(Run { remote, _lock: lock, host, bad, listing, unlisted, standing, finished, request, monitor })
}

fn not_listed(unlisted: &[u64]) -> Option<Warning> {
    (!unlisted.is_empty()).then(|| {
        let text = format!(
            "snapshot {} is there, and the server does not list it: as long as that is so, retention deletes no pack",
            written(&ranges(unlisted.iter().copied()))
        );
        Warning::doubt("record-unlisted", text)
    })
}

/// What is in the repository and not known to be bad: what a check found damaged is as good as deleted.
async fn sound_listing(remote: &Remote, bad: &BadObjects) -> Result<Listing, OperationError> {
    let mut listing = remote.list().await?;
    bad.strike_from(&mut listing);
    Ok(listing)
}

/// Why a machine without a host's state may not write.
fn not_the_writer(remote: &Remote, dir: &Path) -> OperationError {
    if let Ok(Some(own)) = load_signer(dir) {
        let command = if own.public() == remote.descriptor.signer { "init" } else { "init --take-over" };
        let what = format!("`sealift {command}` for {} was cut short on this machine", remote.url);
        return OperationError::NotTheWriter { what, way_out: format!("run `sealift {command}` again") };
    }
    OperationError::OtherWriter(format!(
        "this machine is not the writer of the repository at {} (signer {})",
        remote.url, remote.descriptor.signer
    ))
}

/// Goes on from the newest record that this host's own signer verifies: its epoch, its number, and nothing of what
/// the state directory believed.
fn adopt(host: &mut HostState, standing: &Standing) -> Result<(), OperationError> {
    Catalog::drop_log(host.dir())?;
    host.drop_unsent()?;
    host.drop_last()?;
    let Some((parent, _)) = &standing.parent else { return Ok(()) };
    host.set_parent(parent.signed.bytes())?;
    if *parent.signed.signer() != host.signer.public() {
        // Its predecessor's: this host has made an epoch of its own and no record yet.
        return Ok(());
    }
    let newest = parent.record.epochs.iter().find(|epoch| epoch.epoch == parent.record.manifest.epoch);
    // A later epoch of this host's own, from a rebase that was cut short or that a set-back bucket no longer shows, stays:
    // whoever it removed would read on.
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
    believed: &[PublicSigner],
    standing: &mut Standing,
) -> Result<(), OperationError> {
    let Some(bytes) = host.unsent()? else { return Ok(()) };
    let Ok(unsent) = SignedRecord::read_own(bytes.into(), remote.id()) else { return Ok(host.drop_unsent()?) };
    let stored = |parent: &(SignedRecord, Seen)| parent.0.signed.bytes() == unsent.signed.bytes();
    if standing.parent.as_ref().is_some_and(stored) {
        return become_parent(host, &unsent);
    }
    let previous = standing.parent.as_ref().map(|(parent, _)| parent.signed.digest());
    let follows = unsent.record.sequence == standing.next && unsent.record.previous == previous;
    if !follows || !missing_of(&unsent.record, listing).is_empty() {
        tracing::info!(sequence = unsent.record.sequence, "an unsent record is dropped: what it needs is gone");
        return Ok(host.drop_unsent()?);
    }
    let parent = standing.parent.as_ref().map(|(parent, _)| parent);
    let committed = commit(remote, host, parent, unsent.record, listing, believed, |_| None).await?;
    become_parent(host, &committed)?;
    let sequence = committed.record.sequence;
    standing.next = layout::next_sequence(sequence).ok_or(OperationError::NoNumberLeft)?;
    let seen = remote.store.head(&layout::record(sequence)).await?;
    // Without a time no left-over pack counts as younger than the record.
    let modified = seen.map_or(Timestamp::MAX, |seen| seen.modified);
    let bytes = committed.signed.bytes().len() as u64;
    standing.parent = Some((committed, Seen { bytes, modified }));
    Ok(())
}

/// What this host remembers of its sources is from before that record, so it proves nothing about them any more.
fn become_parent(host: &HostState, record: &SignedRecord) -> Result<(), OperationError> {
    host.drop_last()?;
    host.set_parent(record.signed.bytes())?;
    Ok(host.drop_unsent()?)
}

/// One run, once it is clear that this host may write.
pub(super) struct Run<'a> {
    pub remote: &'a Remote,
    _lock: WriterLock,
    pub host: HostState,
    bad: BadObjects,
    pub listing: Listing,
    /// Earlier records that are there and that the listing lacks.
    pub unlisted: Vec<u64>,
    pub standing: Standing,
    /// The parent is a record that a crash had left unsent.
    pub finished: bool,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
}

impl Run<'_> {
    pub async fn run(mut self) -> Result<BackupReport, OperationError> {
        check_keys(&self.host, &self.blank_record().epochs, &self.listing)?;
        let mut warnings = std::mem::take(&mut self.standing.warnings);
        warnings.extend(single_recipient(&self.host)?);
        let kept = KeptKeys::load(self.host.dir())?;
        warnings.extend(later_epochs(&kept, self.host.sealed_to.epoch, self.listing.keys.keys()));
        let missing = match &self.standing.parent {
            Some((parent, _)) => missing_of(&parent.record, &self.listing),
            None => Vec::new(),
        };
        if !missing.is_empty() {
            warnings.push(warn_of_missing(self.remote, &self.listing, &self.bad, &missing).await?);
        }
        if missing.is_empty()
            && self.parent_is_of_epoch()
            && let Some(last) = self.proven_unchanged()
        {
            return self.repeat_parent(last, warnings).await;
        }
        self.full(missing.is_empty(), warnings).await
    }

    /// After a rebase the parent is of an older epoch, and nothing of it may be used again.
    fn parent_is_of_epoch(&self) -> bool {
        let epoch = self.host.sealed_to.epoch;
        self.standing.parent.as_ref().is_some_and(|(parent, _)| parent.record.manifest.epoch == epoch)
    }

    /// Whether `stat` and the change counter prove that no source differs from the parent snapshot.
    fn proven_unchanged(&self) -> Option<Last> {
        let last = self.host.last()?;
        let age = self.request.clock.now().duration_since(last.read);
        let fresh = age >= SignedDuration::ZERO && age < FULL_SCAN;
        let specs = &self.request.sources;
        let key = &self.host.fingerprint_key;
        let same = |(spec, earlier): (&SourceSpec, &SourceLook)| {
            spec.name == earlier.name
                && spec.path == earlier.path
                && spec.look(self.request.gentleness, key).is_ok_and(|now| now.proves_unchanged(&earlier.look))
        };
        (fresh && specs.len() == last.sources.len() && specs.iter().zip(&last.sources).all(same)).then_some(last)
    }

    /// A snapshot that shows what its parent shows: one small record.
    async fn repeat_parent(self, last: Last, mut warnings: Vec<Warning>) -> Result<BackupReport, OperationError> {
        let Some((parent, _)) = &self.standing.parent else { return Err(OperationError::Stopped) };
        // No source is missing here, so health and sources are in step.
        for (spec, health) in self.request.sources.iter().zip(&parent.record.health) {
            warnings.extend(health_warning(&spec.path, *health, "as the last full look found it"));
        }
        tracing::info!("no source has changed");
        let record = Record {
            time: self.request.clock.now(),
            health: parent.record.health.clone(),
            writer_hold_ms: 0,
            manifest: parent.record.manifest.clone(),
            epochs: parent.record.epochs.clone(),
            ..self.blank_record()
        };
        let done = self.commit(record, |_| None).await?;
        // It needs the packs of its parent, so the catalog stays as it is.
        settle(&self.host, self.standing.pins, &done, None, &last)?;
        Ok(report(&done, true, 0, last.ideal_bytes, warnings))
    }

    /// What every record of this run says, whatever was read.
    fn blank_record(&self) -> Record {
        let parent = self.standing.parent.as_ref().map(|(parent, _)| parent);
        let parent_sequence = parent.map_or(0, |parent| parent.record.sequence);
        // What the parent does not name was put there by somebody else, or put back after it was removed.
        let named = |sequence: &u64| parent.is_some_and(|parent| contains(&parent.record.earlier, *sequence));
        let listed = self.listing.records.keys().copied().filter(named);
        let earlier: BTreeSet<u64> = listed.chain(self.unlisted.iter().copied()).collect();
        let sealed_to = &self.host.sealed_to;
        Record {
            format: Record::FORMAT,
            repository: self.remote.id().clone(),
            sequence: self.standing.next,
            previous: parent.map(|parent| parent.signed.digest()),
            earlier: ranges(earlier.into_iter().chain(parent.map(|_| parent_sequence))),
            time: self.request.clock.now(),
            host: self.request.host.clone(),
            tags: self.request.tags.clone(),
            health: Vec::new(),
            writer_hold_ms: 0,
            manifest: ManifestRef { name: Digest::from_bytes([0; 32]), bytes: 0, epoch: sealed_to.epoch },
            epochs: vec![Epoch { epoch: sealed_to.epoch, recipient: sealed_to.recipient.clone(), packs: Vec::new() }],
            take_overs: self.standing.take_overs.clone(),
            retention: self.request.retention.clone(),
        }
    }

    async fn full(self, parent_whole: bool, mut warnings: Vec<Warning>) -> Result<BackupReport, OperationError> {
        let loaded = Catalog::load(self.host.dir())?;
        Catalog::mend(self.host.dir(), &loaded)?;
        let parent = self.standing.parent.as_ref();
        let catalog = usable_catalog(&self.host, loaded, &self.listing, parent, &mut warnings);
        tracing::info!(blocks = catalog.blocks(), "catalog loaded");
        let catalog = Arc::new(RwLock::new(catalog));
        let uploader = self.uploader(&catalog);
        let mut set = self.read_and_store(&catalog, &uploader).await?;
        warnings.append(&mut set.warnings);
        warnings.extend(self.emptied(&set));
        let (manifest, packs) = assemble(&set.contents, &read(&catalog))?;
        let plain = manifest.to_plain().map_err(|error| OperationError::Usage(error.to_string()))?;
        let manifest_print = self.host.fingerprint_key.print(&plain);
        let began = Instant::now();
        let (reference, manifest_bytes) = self.store_manifest(&plain, &manifest_print, parent_whole).await?;
        let name = layout::manifest(&reference.name).to_string();
        let manifest_at = (manifest_bytes > 0).then_some(began);
        let blocks = set.contents.iter().flat_map(|(_, content)| locations(content));
        let ideal_bytes = reference.bytes + restore_size(blocks, &read(&catalog)).ideal_bytes;
        let mut record = self.blank_record();
        record.time = set.time.unwrap_or(record.time);
        record.health = set.health.clone();
        record.writer_hold_ms = set.hold.as_millis() as u64;
        record.manifest = reference;
        record.epochs[0].packs = packs;
        let put_at = |object: &str| if object == name { manifest_at } else { uploader.put_at(object) };
        let done = self.commit(record, put_at).await?;
        let last = self.last(set, manifest_print, ideal_bytes);
        settle(&self.host, self.standing.pins, &done, Some(&read(&catalog)), &last)?;
        Ok(report(&done, manifest_bytes == 0, uploader.uploaded() + manifest_bytes, ideal_bytes, warnings))
    }

    async fn commit(
        &self,
        record: Record,
        put_at: impl Fn(&str) -> Option<Instant>,
    ) -> Result<SignedRecord, OperationError> {
        let parent = self.standing.parent.as_ref().map(|(parent, _)| parent);
        commit(self.remote, &self.host, parent, record, &self.listing, &self.request.believed, put_at).await
    }

    /// A database that had pages last time and has none now is either new or gone.
    fn emptied(&self, set: &SourceSet) -> Vec<Warning> {
        let blocks = |look: &Look| match look {
            Look::Print(print) => print.blocks,
            Look::Small { .. } => 1,
        };
        let earlier = self.host.last().map(|last| last.sources).unwrap_or_default();
        let had_pages = |spec: &SourceSpec| earlier.iter().any(|was| was.path == spec.path && blocks(&was.look) > 0);
        let is_empty = |look: &Option<Look>| look.as_ref().is_some_and(|look| blocks(look) == 0);
        let sources = self.request.sources.iter().zip(&set.looks);
        sources
            .filter(|(spec, look)| is_empty(look) && had_pages(spec))
            .map(|(spec, _)| {
                let text = format!("{} is empty, and had content in the snapshot before", spec.path.display());
                Warning::doubt("source-emptied", text)
            })
            .collect()
    }

    fn uploader(&self, catalog: &Arc<RwLock<Catalog>>) -> Arc<Uploader> {
        Arc::new(Uploader {
            store: Arc::clone(&self.remote.store),
            catalog: Arc::clone(catalog),
            epoch: self.host.sealed_to.epoch,
            dir: self.host.dir().to_owned(),
            monitor: Arc::clone(&self.monitor),
            bytes: Default::default(),
            put: Default::default(),
            log: Default::default(),
        })
    }

    /// Reads all sources on a blocking thread while finished packs are uploaded here.
    async fn read_and_store(
        &self,
        catalog: &Arc<RwLock<Catalog>>,
        uploader: &Arc<Uploader>,
    ) -> Result<SourceSet, OperationError> {
        let settings = PackSettings {
            recipient: self.host.sealed_to.recipient.clone(),
            level: self.request.compression,
            threads: self.request.threads,
        };
        let (mut packer, finished) = Packer::start(&settings, Arc::clone(catalog)).map_err(OperationError::Packing)?;
        let reading = {
            let (request, monitor) = (self.request.clone(), Arc::clone(&self.monitor));
            let (key, catalog) = (self.host.fingerprint_key.clone(), Arc::clone(catalog));
            tokio::task::spawn_blocking(move || {
                let buffers = piece_buffers();
                let scanner = || Scanner::new(&key, &catalog, request.threads, &buffers);
                let set = read_all(&request, scanner, &mut packer, monitor.as_ref())?;
                packer.finish()?;
                Ok(set)
            })
        };
        self.monitor.begin(Phase::Uploading, None);
        let uploaded = Arc::clone(uploader).run(finished).await;
        let set = reading.await.map_err(|_| OperationError::Stopped)?;
        self.monitor.end(Phase::Uploading);
        // A failed upload stops the reading, so its error is the cause and goes first.
        uploaded?;
        set
    }

    /// Stores the manifest unless the parent's is the same; its reference, and the bytes that were put.
    async fn store_manifest(
        &self,
        plain: &[u8],
        print: &str,
        parent_whole: bool,
    ) -> Result<(ManifestRef, u64), OperationError> {
        let same = parent_whole
            && self.parent_is_of_epoch()
            && self.host.last().is_some_and(|last| last.manifest_print == print);
        if let Some((parent, _)) = self.standing.parent.as_ref().filter(|_| same) {
            return Ok((parent.record.manifest.clone(), 0));
        }
        let sealed_to = &self.host.sealed_to;
        let sealed = Manifest::seal(plain, &sealed_to.recipient).map_err(OperationError::Packing)?;
        let (name, bytes) = (sealed.digest(), sealed.len());
        tracing::info!(manifest = %name, bytes, "storing the manifest");
        self.remote.store.create(&layout::manifest(&name), Stored::from(sealed)).await?;
        Ok((ManifestRef { name, bytes, epoch: sealed_to.epoch }, bytes))
    }

    /// What the next run compares with. A source that is missing proves nothing.
    fn last(&self, set: SourceSet, manifest_print: String, ideal_bytes: u64) -> Last {
        let sources = self.request.sources.iter().zip(set.looks);
        let sources = sources
            .map(|(spec, look)| Some(SourceLook { name: spec.name.clone(), path: spec.path.clone(), look: look? }))
            .collect::<Option<Vec<_>>>()
            .unwrap_or_default();
        Last { read: self.request.clock.now(), manifest_print, ideal_bytes, sources }
    }
}

fn read(catalog: &RwLock<Catalog>) -> std::sync::RwLockReadGuard<'_, Catalog> {
    catalog.read().unwrap_or_else(PoisonError::into_inner)
}
