//! One run of a backup, once it is clear that this host may write: read the sources, store what is new, commit.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use super::assemble::{assemble, locations};
use super::commit::{Commit, settle};
use super::compaction::restore_size;
use super::confirm::confirm;
use super::keys::{check_keys, single_recipient};
use super::known::{missing_objects, missing_of, usable_catalog};
use super::packing::{PackSettings, Packer};
use super::parent::ParentSnapshot;
use super::repeat::{Repeat, blank_record, is_of_epoch, proven_unchanged};
use super::report::{BackupReport, report};
use super::scan::{Scanner, piece_buffers};
use super::sources::{SourceSet, SourceSpec, read_all};
use super::upload::Uploader;
use super::{BackupRequest, Monitor, OperationError, Phase};
use crate::clock::BootInstant;
use crate::finding::Finding;
use crate::format::ranges::{contains, ranges};
use crate::format::{Manifest, ManifestRef, Record, layout};
use crate::host::{BadObjects, Catalog, HostState, Last, Look, SourceLook, WriterLock};
use crate::repository::{Listing, Remote};
use crate::store::Stored;

/// One run, once it is clear that this host may write.
pub(crate) struct Run<'a> {
    pub remote: &'a Remote,
    pub(super) _lock: WriterLock,
    pub host: HostState,
    pub(super) bad: BadObjects,
    /// When `listing` began.
    pub(super) listed: BootInstant,
    pub listing: Listing,
    /// Earlier records that are there and that the listing lacks.
    pub(super) unlisted: Vec<u64>,
    pub parent: ParentSnapshot,
    /// The parent is a record that a crash had left unsent.
    pub finished: bool,
    pub(super) request: BackupRequest,
    pub(super) monitor: Arc<dyn Monitor>,
}

impl Run<'_> {
    pub async fn run(mut self) -> Result<BackupReport, OperationError> {
        check_keys(&self.host, &self.blank_record().epochs, &self.listing)?;
        let mut warnings = std::mem::take(&mut self.parent.warnings);
        warnings.extend(single_recipient(&self.host)?);
        let missing = self.parent.signed().map(|parent| missing_of(&parent.record, &self.listing)).unwrap_or_default();
        if !missing.is_empty() {
            let objects = missing.clone();
            warnings.push(missing_objects(self.remote, &self.listing, &self.bad, objects).await?);
        }
        if missing.is_empty()
            && let Some(parent) = self.parent.signed()
            && let Some(last) = proven_unchanged(&self.host, &self.request, parent)
        {
            let last = Last { listed: Some(self.request.clock.now()), ..last };
            let context = Repeat { remote: self.remote, host: &self.host, request: &self.request, listed: self.listed };
            return context.parent(&self.parent, self.blank_record(), last, warnings).await;
        }
        self.full(missing.is_empty(), warnings).await
    }

    /// After a rebase the parent is of an older epoch, and nothing of it may be used again.
    fn parent_is_of_epoch(&self) -> bool {
        self.parent.signed().is_some_and(|parent| is_of_epoch(parent, &self.host))
    }

    /// What every record of this run says, whatever was read.
    fn blank_record(&self) -> Record {
        let parent = self.parent.signed();
        // What the parent does not name was put there by others, or is back after it was removed.
        let named = |sequence: &u64| parent.is_some_and(|parent| contains(&parent.record.earlier, *sequence));
        let listed = self.listing.records.keys().copied().filter(named);
        let earlier: BTreeSet<u64> = listed.chain(self.unlisted.iter().copied()).collect();
        let is_listed = |sequence: u64| self.listing.records.contains_key(&sequence);
        Record {
            ignored: self.parent.ignored(is_listed),
            ..blank_record(self.remote, &self.host, &self.request, &self.parent, ranges(earlier))
        }
    }

    async fn full(self, parent_whole: bool, mut warnings: Vec<Finding>) -> Result<BackupReport, OperationError> {
        let loaded = Catalog::load(self.host.dir())?;
        Catalog::mend(self.host.dir(), &loaded)?;
        let parent = self.parent.record.as_ref();
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
        let (reference, manifest_bytes) = self.store_manifest(&plain, &manifest_print, parent_whole).await?;
        let mut put = uploader.put();
        if manifest_bytes > 0 {
            put.insert(layout::manifest(&reference.name), reference.bytes);
        }
        let blocks = set.contents.iter().flat_map(|(_, content)| locations(content));
        let ideal_bytes = reference.bytes + restore_size(blocks, &read(&catalog)).ideal_bytes;
        let mut record = self.blank_record();
        record.time = set.time.unwrap_or(record.time);
        record.health = set.health.clone();
        record.writer_hold_ms = set.hold.as_millis() as u64;
        record.manifest = reference;
        record.epochs[0].packs = packs;
        confirm(self.remote, &record, &self.listing, &put).await?;
        let commit = Commit {
            remote: self.remote,
            host: &self.host,
            parent: self.parent.signed().cloned(),
            listed: self.listed,
        };
        let done = Box::pin(commit.run(record)).await?;
        let last = self.last(set, manifest_print, ideal_bytes);
        settle(self.remote, &self.host, &self.parent, &done, Some(&read(&catalog)), &last)?;
        Ok(report(&done, manifest_bytes == 0, uploader.uploaded() + manifest_bytes, ideal_bytes, warnings))
    }

    /// A database that had pages last time and has none now is either new or gone.
    fn emptied(&self, set: &SourceSet) -> Vec<Finding> {
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
            .map(|(spec, _)| Finding::SourceEmptied { path: spec.path.clone() })
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
        if let Some(parent) = self.parent.signed().filter(|_| same) {
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
        let now = self.request.clock.now();
        Last { read: now, listed: Some(now), manifest_print, ideal_bytes, sources }
    }
}

fn read(catalog: &RwLock<Catalog>) -> std::sync::RwLockReadGuard<'_, Catalog> {
    catalog.read().unwrap_or_else(PoisonError::into_inner)
}
