//! Bringing a snapshot back, with an identity and nothing else.
//!
//! Everything is verified before anything appears under its name: the record's signature against the pin, manifest and
//! packs against their hashes, every file against its digest, every database by SQLite's `integrity_check`.

mod fill;
mod scatter;
mod target;
mod verify;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::fill::{Fill, PackPlan, identity_of};
use self::scatter::{Target, by_pack, placements};
use self::target::TargetDir;
use super::history::{History, Selector, pin};
use super::unlock::unlock;
use super::{Monitor, OperationError, Phase, Remote, Warning};
use crate::clock;
use crate::crypto::{DataIdentity, Digest, IdentityFile, PublicSigner};
use crate::repository::{Entry, Health, Manifest, PackRef, Record, layout};

pub struct RestoreRequest {
    pub snapshot: Selector,
    pub identities: Vec<IdentityFile>,
    /// Whose signature counts; `None`: as remembered, or as the identity file says.
    pub signer: Option<PublicSigner>,
    /// Where this reader remembers pins.
    pub state_root: PathBuf,
    pub target: PathBuf,
    /// Names of the sources wanted; empty: all.
    pub only: Vec<String>,
    pub force: bool,
    pub dry_run: bool,
    /// Packs fetched and opened at once, and threads that verify.
    pub threads: usize,
}

/// One restored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFile {
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
}

pub struct RestoreReport {
    pub sequence: u64,
    pub time: jiff::Timestamp,
    pub files: Vec<RestoredFile>,
    /// Of packs and manifest; with `dry_run`, what would be.
    pub downloaded_bytes: u64,
    /// What was in the way, and where it is now.
    pub moved: Vec<(PathBuf, PathBuf)>,
    pub warnings: Vec<Warning>,
}

/// Restores one snapshot.
pub async fn restore(
    remote: &Remote,
    request: RestoreRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<RestoreReport, OperationError> {
    let mut opened = open_snapshot(remote, &request).await?;
    opened.keep_only(&request.only)?;
    let names: Vec<&str> = opened.manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
    target::check(&request.target, &names, request.force)?;
    let placements = placements(&opened.manifest.entries);
    let packs = opened.packs(&by_pack(&placements))?;
    tracing::info!(sequence = opened.record.sequence, packs = packs.len(), "snapshot opened");
    let mut report = opened.report(&request.target, &packs);
    if request.dry_run {
        return Ok(report);
    }
    // It goes with everything in it when this is dropped, by an error or by Ctrl-C.
    let dir = TargetDir::prepare(&request.target, &names, request.force)?;
    let targets = opened.manifest.entries.into_iter().map(|entry| Target::create(&dir, entry));
    let fill = Arc::new(Fill {
        remote: remote.clone(),
        sequence: opened.record.sequence,
        identities: opened.identities,
        placements,
        targets: targets.collect::<Result<_, _>>()?,
        monitor,
        threads: request.threads,
    });
    fill.inline()?;
    fill.packs(packs).await?;
    tracing::info!(files = fill.targets.len(), "files filled");
    report.warnings.extend(fill.verify().await?);
    tracing::info!("files verified");
    let published = dir.publish(&fill.targets, clock::now())?;
    report.moved = published.moved;
    report.warnings.extend(published.warning);
    Ok(report)
}

/// A verified record with its manifest open.
pub struct OpenedSnapshot {
    pub record: Record,
    pub manifest: Manifest,
    identities: Vec<(u32, DataIdentity)>,
    pub warnings: Vec<Warning>,
}

async fn open_snapshot(remote: &Remote, request: &RestoreRequest) -> Result<OpenedSnapshot, OperationError> {
    let state_dir = request.state_root.join(remote.id().as_str());
    open_with(remote, &request.snapshot, &request.identities, request.signer.clone(), &state_dir).await
}

/// Finds, verifies and opens a snapshot.
pub async fn open_with(
    remote: &Remote,
    snapshot: &Selector,
    identities: &[IdentityFile],
    signer: Option<PublicSigner>,
    state_dir: &Path,
) -> Result<OpenedSnapshot, OperationError> {
    let pin = pin(remote, signer, state_dir, identities)?;
    let history = History::load(remote, &pin, state_dir).await?;
    let record = history.find(snapshot)?.record.clone();
    let mut opened = Vec::new();
    for epoch in &record.epochs {
        opened.push((epoch.epoch, unlock(remote, epoch, identities).await?));
    }
    pin.refuse_exchanged(remote)?;
    let key = layout::manifest(&record.manifest.name);
    let sealed = remote.sealed(&key, &record.manifest.name).await?;
    let identity = identity_of(&opened, record.manifest.epoch, &key)?;
    let manifest = Manifest::open(&sealed, identity).map_err(|error| OperationError::object(&key, error))?;
    Ok(OpenedSnapshot { record, manifest, identities: opened, warnings: history.warnings })
}

impl OpenedSnapshot {
    /// Lets go of what is not wanted; an unknown name is an error.
    fn keep_only(&mut self, only: &[String]) -> Result<(), OperationError> {
        if let Some(name) = only.iter().find(|name| !self.manifest.entries.iter().any(|entry| entry.name == **name)) {
            let names: Vec<&str> = self.manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
            let text = format!("snapshot {} has no {name}; it has {}", self.record.sequence, names.join(", "));
            return Err(OperationError::Usage(text));
        }
        self.manifest.entries.retain(|entry| only.is_empty() || only.contains(&entry.name));
        Ok(())
    }

    /// What the record says of each pack that is needed: a pack that it does not name is refused.
    fn packs(&self, groups: &[(usize, Range<usize>)]) -> Result<Vec<PackPlan>, OperationError> {
        let known: HashMap<Digest, (PackRef, u32)> = self
            .record
            .epochs
            .iter()
            .flat_map(|epoch| epoch.packs.iter().map(|pack| (pack.0, (*pack, epoch.epoch))))
            .collect();
        let plan = |(index, placements): &(usize, Range<usize>)| {
            let name = self.manifest.packs[*index];
            let (pack, epoch) = *known.get(&name).ok_or_else(|| OperationError::Verification {
                object: layout::manifest(&self.record.manifest.name).to_string(),
                why: format!("it needs the pack {name}, which the signed record does not name"),
            })?;
            Ok(PackPlan { pack, epoch, placements: placements.clone() })
        };
        groups.iter().map(plan).collect()
    }

    fn report(&self, target: &Path, packs: &[PackPlan]) -> RestoreReport {
        let file = |entry: &Entry| RestoredFile {
            name: entry.name.clone(),
            path: target.join(&entry.name),
            bytes: entry.bytes,
            digest: entry.digest,
        };
        let mut warnings = self.warnings.clone();
        if self.record.worst_health() > Health::Unchecked {
            let text = format!(
                "when snapshot {} was taken, a source was {}",
                self.record.sequence,
                self.record.worst_health().as_str()
            );
            warnings.push(Warning::doubt("snapshot-health", text));
        }
        RestoreReport {
            sequence: self.record.sequence,
            time: self.record.time,
            files: self.manifest.entries.iter().map(file).collect(),
            downloaded_bytes: self.record.manifest.bytes + packs.iter().map(|plan| plan.pack.1).sum::<u64>(),
            moved: Vec::new(),
            warnings,
        }
    }
}
