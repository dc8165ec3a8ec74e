//! Bringing a snapshot back, with an identity and nothing else.
//!
//! Everything is verified before anything appears under its name: the record's signature against the pin, manifest and
//! packs against their hashes, every file against its digest, every database by SQLite's `integrity_check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{StreamExt, TryStreamExt};

use super::history::{History, Selector, pin};
use super::scatter::{Scatter, ScatterError, Target, by_pack, placements};
use super::target::{self, TargetDir};
use super::unlock::unlock;
use super::verify::{digest_of, integrity_check};
use super::{Monitor, OperationError, Phase, Remote, Warning};
use crate::clock;
use crate::crypto::{DataIdentity, Digest, IdentityFile, PublicSigner};
use crate::repository::{Body, Entry, Health, Manifest, PackRef, Record, layout};

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
    let opened = open_snapshot(remote, &request).await?;
    let entries = opened.wanted(&request.only)?;
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    target::check(&request.target, &names, request.force)?;
    let placements = placements(entries.iter().copied());
    let packs = opened.packs(&by_pack(&placements, &opened.manifest))?;
    let mut report = opened.report(&entries, &request.target, &packs);
    if request.dry_run {
        return Ok(report);
    }
    let dir = TargetDir::prepare(&request.target, &names, request.force)?;
    let targets = entries.iter().map(|entry| Ok(Target { file: dir.create(entry)?, entry }));
    let targets = targets.collect::<Result<Vec<_>, OperationError>>()?;
    let fill = Fill { remote, opened: &opened, targets: &targets, monitor: monitor.as_ref(), threads: request.threads };
    fill.inline()?;
    fill.packs(&packs).await?;
    tokio::task::block_in_place(|| {
        fill.verify(&dir)?;
        fill.check_databases(&dir, &mut report.warnings);
        report.moved = dir.publish(&entries, clock::now())?;
        Ok(report)
    })
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

fn identity_of<'a>(
    opened: &'a [(u32, DataIdentity)],
    epoch: u32,
    key: &crate::store::Key,
) -> Result<&'a DataIdentity, OperationError> {
    let found = opened.iter().find(|(number, _)| *number == epoch);
    found.map(|(_, identity)| identity).ok_or_else(|| OperationError::Verification {
        object: key.to_string(),
        why: format!("the record does not name its epoch {epoch}"),
    })
}

/// A pack to fetch, and what of it goes where.
struct PackPlan<'a> {
    pack: PackRef,
    epoch: u32,
    placements: &'a [super::scatter::Placement],
}

impl OpenedSnapshot {
    fn wanted(&self, only: &[String]) -> Result<Vec<&Entry>, OperationError> {
        if let Some(name) = only.iter().find(|name| !self.manifest.entries.iter().any(|entry| entry.name == **name)) {
            let names: Vec<&str> = self.manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
            let text = format!("snapshot {} has no {name}; it has {}", self.record.sequence, names.join(", "));
            return Err(OperationError::Usage(text));
        }
        let wanted = |entry: &&Entry| only.is_empty() || only.contains(&entry.name);
        Ok(self.manifest.entries.iter().filter(wanted).collect())
    }

    /// What the record says of each pack that is needed: a pack that it does not name is refused.
    fn packs<'a>(
        &self,
        groups: &[(usize, &'a [super::scatter::Placement])],
    ) -> Result<Vec<PackPlan<'a>>, OperationError> {
        let known: std::collections::HashMap<Digest, (PackRef, u32)> = self
            .record
            .epochs
            .iter()
            .flat_map(|epoch| epoch.packs.iter().map(|pack| (pack.0, (*pack, epoch.epoch))))
            .collect();
        let plan = |(index, placements): &(usize, &'a [super::scatter::Placement])| {
            let name = self.manifest.packs[*index];
            let (pack, epoch) = *known.get(&name).ok_or_else(|| OperationError::Verification {
                object: layout::manifest(&self.record.manifest.name).to_string(),
                why: format!("it needs the pack {name}, which the signed record does not name"),
            })?;
            Ok(PackPlan { pack, epoch, placements })
        };
        groups.iter().map(plan).collect()
    }

    fn report(&self, entries: &[&Entry], target: &Path, packs: &[PackPlan<'_>]) -> RestoreReport {
        let file = |entry: &&Entry| RestoredFile {
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
            files: entries.iter().map(file).collect(),
            downloaded_bytes: self.record.manifest.bytes + packs.iter().map(|plan| plan.pack.1).sum::<u64>(),
            moved: Vec::new(),
            warnings,
        }
    }
}

/// Filling the target files.
struct Fill<'a> {
    remote: &'a Remote,
    opened: &'a OpenedSnapshot,
    targets: &'a [Target<'a>],
    monitor: &'a dyn Monitor,
    threads: usize,
}

impl Fill<'_> {
    fn total_bytes(&self) -> u64 {
        self.targets.iter().map(|target| target.entry.bytes).sum()
    }

    fn inline(&self) -> Result<(), OperationError> {
        for target in self.targets {
            if let Body::Inline(bytes) = &target.entry.body {
                std::os::unix::fs::FileExt::write_all_at(&target.file, bytes, 0)
                    .map_err(OperationError::io(&target.entry.name))?;
            }
        }
        Ok(())
    }

    /// Fetches, opens and scatters several packs at once.
    async fn packs(&self, packs: &[PackPlan<'_>]) -> Result<(), OperationError> {
        self.monitor.begin(Phase::Restoring, Some(self.total_bytes()));
        futures::stream::iter(packs.iter().map(|plan| self.pack(plan)))
            .buffer_unordered(self.threads + 1)
            .try_collect::<()>()
            .await?;
        self.monitor.end(Phase::Restoring);
        Ok(())
    }

    async fn pack(&self, plan: &PackPlan<'_>) -> Result<(), OperationError> {
        let key = layout::pack(&plan.pack.0);
        let sealed = self.remote.sealed(&key, &plan.pack.0).await?;
        let identity = identity_of(&self.opened.identities, plan.epoch, &key)?;
        let scatter = Scatter { sealed: &sealed, identity, placements: plan.placements, targets: self.targets };
        tokio::task::block_in_place(|| scatter.run(|bytes| self.monitor.advance(Phase::Restoring, bytes))).map_err(
            |error| match error {
                ScatterError::Pack(why) => OperationError::Verification { object: key.to_string(), why },
                ScatterError::Target(file, error) => {
                    OperationError::Io { path: self.targets[file].entry.name.clone().into(), error }
                }
            },
        )
    }

    fn verify(&self, dir: &TargetDir) -> Result<(), OperationError> {
        self.monitor.begin(Phase::Verifying, Some(self.total_bytes()));
        for target in self.targets {
            let path = dir.staged(&target.entry.name);
            let advance = |bytes| self.monitor.advance(Phase::Verifying, bytes);
            let digest = digest_of(&target.file, target.entry.bytes, self.threads, advance)
                .map_err(OperationError::io(&path))?;
            if digest != target.entry.digest {
                return Err(OperationError::Verification {
                    object: format!("{} of snapshot {}", target.entry.name, self.opened.record.sequence),
                    why: format!("its digest is {digest}, and the manifest says {}", target.entry.digest),
                });
            }
        }
        self.monitor.end(Phase::Verifying);
        Ok(())
    }

    /// The bytes are those of the snapshot; whether the database was sound in it is another question, and no reason
    /// to withhold it.
    fn check_databases(&self, dir: &TargetDir, warnings: &mut Vec<Warning>) {
        let databases = self.targets.iter().filter(|target| target.entry.is_database() && target.entry.bytes > 0);
        for target in databases {
            self.monitor.begin(Phase::Checking, None);
            if let Some(finding) = integrity_check(&dir.staged(&target.entry.name)) {
                let text =
                    format!("{} was restored byte for byte, and SQLite finds it damaged: {finding}", target.entry.name);
                warnings.push(Warning::doubt("integrity-check", text));
            }
            self.monitor.end(Phase::Checking);
        }
    }
}
