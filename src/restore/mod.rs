//! Bringing a snapshot back, with an identity and nothing else.
//!
//! Everything is verified before anything appears under its name: the record's signature against the pin, manifest and
//! packs against their hashes, every file against its digest, every database by SQLite's `integrity_check`.

mod fill;
pub(crate) mod opened;
pub(crate) mod pieces;
mod scatter;
pub(crate) mod scratch_dir;
pub(crate) mod sqlite_check;
mod target;
mod writeback;

pub use self::target::is_there;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::fill::Fill;
use self::scatter::{by_pack, placements};
use self::target::TargetDir;
use crate::clock;
use crate::crypto::Digest;
use crate::error::OperationError;
use crate::events::{Monitor, Phase};
use crate::finding::Finding;
use crate::format::{Entry, Health, PackReader};
use crate::history::{Reader, Selector};
use crate::repository::Remote;
use crate::restore::opened::{OpenedSnapshot, PackPlan, identity_of, open_with};
use crate::restore::pieces::digest_alongside;
use crate::restore::sqlite_check::integrity_check;

pub struct RestoreRequest {
    pub snapshot: Selector,
    pub reader: Reader,
    pub target: PathBuf,
    /// Names of the sources wanted; empty: all.
    pub only: Vec<String>,
    pub force: bool,
    pub dry_run: bool,
    /// Packs fetched and opened at once, and threads that verify.
    pub threads: usize,
}

impl RestoreRequest {
    fn destination(&self) -> Destination<'_> {
        let Self { target, only, force, dry_run, threads, .. } = self;
        Destination { target, only, force: *force, dry_run: *dry_run, threads: *threads }
    }
}

/// Where a snapshot is restored to, and how; as in [`RestoreRequest`].
pub(super) struct Destination<'a> {
    pub target: &'a Path,
    pub only: &'a [String],
    pub force: bool,
    pub dry_run: bool,
    pub threads: usize,
}

/// One restored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFile {
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
    pub is_database: bool,
}

pub struct RestoreReport {
    pub sequence: u64,
    pub time: jiff::Timestamp,
    pub files: Vec<RestoredFile>,
    /// Of packs and manifest; with `dry_run`, what would be.
    pub downloaded_bytes: u64,
    /// What was in the way, and where it is now.
    pub moved: Vec<(PathBuf, PathBuf)>,
    pub warnings: Vec<Finding>,
}

/// Restores one snapshot.
pub async fn restore(
    remote: &Remote,
    request: RestoreRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<RestoreReport, OperationError> {
    let opened = open_with(remote, &request.snapshot, &request.reader).await?;
    restore_opened(remote, opened, request.destination(), monitor).await
}

/// Restores a snapshot that is open already.
pub(super) async fn restore_opened(
    remote: &Remote,
    mut opened: OpenedSnapshot,
    to: Destination<'_>,
    monitor: Arc<dyn Monitor>,
) -> Result<RestoreReport, OperationError> {
    opened.keep_only(to.only)?;
    let names: Vec<&str> = opened.manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
    target::check(to.target, &names, to.force)?;
    let placements = placements(&opened.manifest.entries);
    let packs = opened.packs(&by_pack(&placements))?;
    tracing::info!(sequence = opened.record().sequence, packs = packs.len(), "snapshot opened");
    let mut report = report(&opened, to.target, &packs);
    report.warnings.extend(target::left_behind(to.target));
    if to.dry_run {
        return Ok(report);
    }
    // It goes with everything in it when this is dropped, by an error or by Ctrl-C.
    let dir = TargetDir::prepare(to.target, &names, to.force)?;
    let targets = opened.manifest.entries.into_iter().map(|entry| dir.create(entry));
    let fill = Arc::new(Fill {
        remote: remote.clone(),
        signed: opened.signed,
        packs: opened.manifest.packs,
        identities: opened.identities,
        placements,
        targets: targets.collect::<Result<_, _>>()?,
        monitor,
        threads: to.threads,
        buffers: PackReader::buffers(),
    });
    fill.inline()?;
    report.warnings.extend(fill.run(packs).await?);
    let published = dir.publish(&fill.targets, clock::now())?;
    report.moved = published.moved;
    report.warnings.extend(published.warning);
    Ok(report)
}

fn report(opened: &OpenedSnapshot, target: &Path, packs: &[PackPlan]) -> RestoreReport {
    let record = opened.record();
    let file = |entry: &Entry| RestoredFile {
        name: entry.name.clone(),
        path: target.join(&entry.name),
        bytes: entry.bytes,
        digest: entry.digest,
        is_database: entry.is_database(),
    };
    let mut warnings = opened.warnings.clone();
    if record.worst_health() > Health::Unchecked {
        let health = record.worst_health().as_str().to_owned();
        warnings.push(Finding::SnapshotHealth { snapshot: record.sequence, health });
    }
    RestoreReport {
        sequence: record.sequence,
        time: record.time,
        files: opened.manifest.entries.iter().map(file).collect(),
        downloaded_bytes: record.manifest.bytes + packs.iter().map(|plan| plan.pack.1).sum::<u64>(),
        moved: Vec::new(),
        warnings,
    }
}
