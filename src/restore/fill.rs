//! Filling the files of a restore: packs are fetched, opened and scattered several at once; then every file is read
//! back and compared with its digest, while SQLite checks the databases. All the while the disk takes what is there.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::task::{JoinSet, spawn_blocking};

use super::scatter::{Placement, Scatter, ScatterError, Target};
use super::writeback::Writeback;
use super::{
    Finding, Monitor, OperationError, PackPlan, Phase, Remote, digest_alongside, identity_of, integrity_check,
};
use crate::buffers::Buffers;
use crate::crypto::{DataIdentity, Digest};
use crate::format::{Body, Entry, SignedRecord, layout};

/// Packs in memory at once at most, which bounds memory on machines with many cores.
const MAX_PACKS: usize = 3;

pub(super) struct Fill {
    pub remote: Remote,
    pub signed: Arc<SignedRecord>,
    /// The manifest's table of them.
    pub packs: Vec<Digest>,
    pub identities: Vec<(u32, DataIdentity)>,
    pub placements: Vec<Placement>,
    pub targets: Arc<[Target]>,
    pub monitor: Arc<dyn Monitor>,
    /// Packs opened at once, and threads that verify.
    pub threads: usize,
    /// For the frames of packs that are being opened.
    pub buffers: Arc<Buffers>,
}

impl Fill {
    fn total_bytes(&self) -> u64 {
        self.targets.iter().map(|target| target.entry.bytes).sum()
    }

    /// Writes what the manifest itself holds.
    pub fn inline(&self) -> Result<(), OperationError> {
        for target in self.targets.iter() {
            if let Body::Inline(bytes) = &target.entry.body {
                target.file.write_all_at(bytes, 0).map_err(OperationError::io(&target.path))?;
            }
        }
        Ok(())
    }

    /// Fetches, opens and scatters the packs, and verifies what came of it; at the end it is on the disk.
    pub async fn run(self: &Arc<Self>, packs: Vec<PackPlan>) -> Result<Vec<Finding>, OperationError> {
        let writeback = Writeback::start(Arc::clone(&self.targets));
        self.scatter(packs, &writeback).await?;
        tracing::info!(files = self.targets.len(), "files filled");
        // Nothing is written from here on, so the disk gets what is verified.
        let verifying = Arc::clone(self);
        let verified = async { spawn_blocking(move || verifying.verify()).await.map_err(|_| OperationError::Stopped)? };
        let (warnings, ()) = tokio::try_join!(verified, writeback.finish())?;
        tracing::info!("files verified");
        Ok(warnings)
    }

    /// One pack more at once than there are threads, so that the network does not wait for the cores. The first failure
    /// ends it.
    async fn scatter(self: &Arc<Self>, packs: Vec<PackPlan>, writeback: &Writeback) -> Result<(), OperationError> {
        self.monitor.begin(Phase::Restoring, Some(self.total_bytes()));
        let mut waiting = VecDeque::from(packs);
        let mut running = JoinSet::new();
        loop {
            while running.len() < MAX_PACKS.min(self.threads + 1)
                && let Some(plan) = waiting.pop_front()
            {
                running.spawn(Arc::clone(self).pack(plan));
            }
            match running.join_next().await {
                Some(done) => done.map_err(|_| OperationError::Stopped)??,
                None => break,
            }
            writeback.go_on();
        }
        self.monitor.end(Phase::Restoring);
        Ok(())
    }

    async fn pack(self: Arc<Self>, plan: PackPlan) -> Result<(), OperationError> {
        let key = layout::pack(&plan.pack.0);
        let sealed = self.remote.sealed(&key, &plan.pack.0, plan.pack.1).await?;
        let scatter = move || {
            let identity = identity_of(&self.identities, plan.epoch, &key)?;
            let placements = &self.placements[plan.placements];
            let scatter =
                Scatter { sealed: &sealed, identity, placements, targets: &self.targets, buffers: &self.buffers };
            scatter.run(|bytes| self.monitor.advance(Phase::Restoring, bytes)).map_err(|error| match error {
                ScatterError::Pack(why) => OperationError::contents(&key, why),
                ScatterError::Target(file, error) => {
                    OperationError::Io { path: self.targets[file].path.clone(), error }
                }
            })
        };
        spawn_blocking(scatter).await.map_err(|_| OperationError::Stopped)?
    }

    /// Compares every file with its digest, and meanwhile lets SQLite check the databases. A wrong digest is an error;
    /// a database that was unsound when it was saved is a warning: its bytes are those of the snapshot, and withholding
    /// them would be of no use.
    fn verify(&self) -> Result<Vec<Finding>, OperationError> {
        self.monitor.begin(Phase::Verifying, Some(self.total_bytes()));
        let mut warnings = Vec::new();
        for target in self.targets.iter() {
            let advance = |bytes| self.monitor.advance(Phase::Verifying, bytes);
            let read_at = |buffer: &mut [u8], offset| target.file.read_exact_at(buffer, offset);
            let check = || warnings.extend(self.check(target));
            let digest = digest_alongside(check, target.entry.bytes, self.threads, read_at, advance)
                .map_err(OperationError::io(&target.path))?;
            if digest != target.entry.digest {
                return Err(self.wrong_digest(&target.entry, digest));
            }
        }
        self.monitor.end(Phase::Verifying);
        Ok(warnings)
    }

    /// Either the manifest's word is wrong or a block in one of the packs that the file is made of.
    fn wrong_digest(&self, entry: &Entry, found: Digest) -> OperationError {
        let record = &self.signed.record;
        let packs = entry.used_packs().into_iter().map(|pack| layout::pack(&self.packs[pack as usize]));
        OperationError::Contents {
            what: format!("{} of snapshot {}", entry.name, record.sequence),
            why: format!("its digest is {found}, and the manifest says {}", entry.digest),
            objects: [layout::manifest(&record.manifest.name)]
                .into_iter()
                .chain(packs)
                .map(|key| key.to_string())
                .collect(),
        }
    }

    /// What SQLite finds wrong with a database.
    fn check(&self, target: &Target) -> Option<Finding> {
        if !target.entry.is_database() || target.entry.bytes == 0 {
            return None;
        }
        self.monitor.begin(Phase::Checking, None);
        let finding = integrity_check(&target.path);
        self.monitor.end(Phase::Checking);
        let name = &target.entry.name;
        finding.map(|why| Finding::IntegrityCheck { source: name.clone(), why })
    }
}
