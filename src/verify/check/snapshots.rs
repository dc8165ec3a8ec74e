//! Comparing the files of snapshots with their manifests.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::contents::digest_of_entry;
use super::needs::Needs;
use super::scratch::Scratch;
use super::{Check, OperationError, Phase, ProblemKind};
use crate::crypto::DataIdentity;
use crate::format::{Entry, Manifest, Record, SignedRecord, layout};
use crate::restore::opened::open_manifest;
use crate::store::Key;

/// What opens the snapshots, and where their packs lie opened.
pub(super) struct Contents {
    /// By epoch.
    pub identities: Arc<Vec<(u32, DataIdentity)>>,
    pub scratch: Arc<Scratch>,
    numbers: BTreeMap<Key, usize>,
}

impl Contents {
    /// Room in `dir` for every needed pack that one of `identities` opens.
    pub fn new(identities: Vec<(u32, DataIdentity)>, needs: &Needs, dir: &Path) -> Result<Self, OperationError> {
        let opens = |epoch: u32| identities.iter().any(|(number, _)| *number == epoch);
        let packs = needs.packs.iter().filter(|(_, need)| opens(need.epoch));
        let numbers: BTreeMap<Key, usize> = packs.zip(0..).map(|((key, _), number)| (key.clone(), number)).collect();
        let scratch = Scratch::new(dir, numbers.len()).map_err(OperationError::io(dir))?;
        Ok(Self { identities: Arc::new(identities), scratch: Arc::new(scratch), numbers })
    }

    /// Where a pack lies opened; `None` for what is no pack, or is not opened.
    pub fn number(&self, key: &Key) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    /// The manifests of those of `records` that are opened: they are read when their files are compared.
    pub fn manifests(&self, records: &[Arc<SignedRecord>]) -> BTreeSet<Key> {
        let opened = records.iter().map(|signed| &signed.record).filter(|record| self.opens(record));
        opened.map(|record| layout::manifest(&record.manifest.name)).collect()
    }

    fn opens(&self, record: &Record) -> bool {
        record.epochs.iter().all(|epoch| self.identities.iter().any(|(number, _)| *number == epoch.epoch))
    }
}

impl Check<'_> {
    /// Compares every file of every snapshot that `contents` opens; snapshots with one manifest are one.
    pub async fn files(&mut self, contents: &Contents) -> Result<(), OperationError> {
        let mut seen = HashSet::new();
        let chosen = self.chosen.clone();
        for record in chosen.iter().map(|signed| &signed.record) {
            let key = layout::manifest(&record.manifest.name);
            if self.problems.has(key.as_str()) || !contents.opens(record) || !seen.insert(record.manifest.name) {
                continue;
            }
            let sealed = match self.remote.sealed(&key, &record.manifest.name, record.manifest.bytes).await {
                Ok(sealed) => sealed,
                Err(OperationError::Verification { why, .. }) => {
                    self.problem(key.as_str(), ProblemKind::Hash, why);
                    continue;
                }
                Err(other) => return Err(other),
            };
            self.read_bytes += sealed.len() as u64;
            match open_manifest(&sealed, record, &contents.identities) {
                Ok(manifest) => self.manifest(&key, record, manifest, contents).await?,
                Err(error) => self.problem(key.as_str(), ProblemKind::Content, error.to_string()),
            }
        }
        Ok(())
    }

    async fn manifest(
        &mut self,
        key: &Key,
        record: &Record,
        manifest: Manifest,
        contents: &Contents,
    ) -> Result<(), OperationError> {
        let named: HashSet<Key> = record.packs().map(|pack| layout::pack(&pack.0)).collect();
        let packs: Vec<Key> = manifest.packs.iter().map(layout::pack).collect();
        if let Some(unnamed) = packs.iter().find(|pack| !named.contains(pack)) {
            let why = format!("it needs {unnamed}, which the signed record does not name");
            self.problem(key.as_str(), ProblemKind::Content, why);
            return Ok(());
        }
        let numbers: Arc<Vec<usize>> = Arc::new(packs.iter().filter_map(|pack| contents.number(pack)).collect());
        self.monitor.begin(Phase::Verifying, Some(manifest.entries.iter().map(|entry| entry.bytes).sum()));
        let mut compared = true;
        for entry in manifest.entries {
            let used: Vec<&Key> = entry.used_packs().into_iter().map(|pack| &packs[pack as usize]).collect();
            if self.is_bad(&entry.name, &used) {
                compared = false;
                continue;
            }
            let (name, digest) = (entry.name.clone(), entry.digest);
            match self.digest(entry, &numbers, contents).await? {
                Some(found) if found == digest => self.files += 1,
                found => {
                    let found =
                        found.map_or("its packs hold too few blocks".to_owned(), |found| format!("it is {found}"));
                    let why = format!("it says that the digest of {name} is {digest}, and {found}");
                    self.problem(key.as_str(), ProblemKind::Content, why);
                    // The manifest may be wrong, or a block in one of the packs.
                    self.doubted.extend(used.iter().map(ToString::to_string));
                    if let Some(problem) = self.problems.of(key.as_str()) {
                        problem.files.insert(name);
                    }
                }
            }
        }
        self.monitor.end(Phase::Verifying);
        if !self.problems.has(key.as_str()) {
            self.good.insert(key.to_string());
        }
        if compared {
            self.compared.extend(self.all.manifests.get(key).iter().flat_map(|need| &need.snapshots));
        }
        Ok(())
    }

    /// Whether a pack that the file called `name` uses is bad already; then the name is noted there.
    fn is_bad(&mut self, name: &str, used: &[&Key]) -> bool {
        let mut is_bad = false;
        for pack in used {
            if let Some(problem) = self.problems.of(pack.as_str()) {
                problem.files.insert(name.to_owned());
                is_bad = true;
            }
        }
        is_bad
    }

    /// The digest of a file as its blocks make it; `None` where its packs hold too little.
    async fn digest(
        &self,
        entry: Entry,
        numbers: &Arc<Vec<usize>>,
        contents: &Contents,
    ) -> Result<Option<crate::crypto::Digest>, OperationError> {
        let (numbers, scratch) = (Arc::clone(numbers), Arc::clone(&contents.scratch));
        let (monitor, threads) = (Arc::clone(&self.monitor), self.threads);
        let compute = move || {
            digest_of_entry(&entry, &numbers, &scratch, threads, |bytes| monitor.advance(Phase::Verifying, bytes))
        };
        match spawn_blocking(compute).await.map_err(|_| OperationError::Stopped)? {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(OperationError::io("the scratch file")(error)),
        }
    }
}
