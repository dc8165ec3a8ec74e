//! Whether a repository is what its records say.
//!
//! Without a key: every record's signature, chain and list; every object that a record names, with its size; and, as
//! far as they are read, the hashes of the stored bytes. With an identity: every file's digest, computed from its
//! blocks. Nothing is deleted, and nothing that was backed up is written in the clear.

mod bad_objects;
mod contents;
mod keys;
mod needs;
mod objects;
mod problems;
mod receipts;
mod recovery;
mod sample;
mod scratch;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use self::needs::{Need, Needs};
use self::objects::{Objects, Reading};
use self::problems::Problems;
pub use self::problems::{Problem, ProblemKind};
pub(super) use self::receipts::is_needed;
use self::sample::{Round, Sample};
use self::snapshots::Contents;
use crate::clock;
use crate::crypto::{DataIdentity, IdentityFile, PublicSigner};
use crate::error::OperationError;
use crate::events::{Monitor, Phase};
use crate::finding::{Finding, Severity};
use crate::format::ranges::ranges;
use crate::format::{SignedRecord, layout};
use crate::history::{History, Reader, Selector, Unusable};
use crate::host::{HostState, KeptKeys};
use crate::repository::Remote;
use crate::repository::unlock::open_epoch;
use crate::store::Key;

pub struct CheckRequest {
    /// `None`: every one.
    pub snapshot: Option<Selector>,
    /// With identities, what is encrypted is compared, too.
    pub reader: Reader,
    /// How many percent (1 to 100) of the stored bytes are read and compared with their names: those whose turn it is.
    /// An identity reads those of its snapshots in any case.
    pub read_percent: Option<u8>,
    /// Where opened blocks are kept, encrypted once more, while files are compared.
    pub scratch: PathBuf,
    pub threads: usize,
}

pub struct CheckReport {
    /// How many snapshots were looked at.
    pub snapshots: usize,
    /// How many objects they need.
    pub objects: usize,
    pub read_objects: u64,
    pub read_bytes: u64,
    /// The key files were not tried: this is not the host, and there is no identity.
    pub keys_untried: bool,
    /// Which part of how many of the stored bytes was read, where not all were to be; the first is 1.
    pub part: Option<(u64, u64)>,
    /// Files whose digests were computed.
    pub files: u64,
    pub problems: Vec<Problem>,
    /// Packs and manifests that no record names: of a run under way or cut short, or for retention to take.
    pub unreferenced: Vec<String>,
    /// What is no part of a repository.
    pub unknown: Vec<String>,
    /// The receipt that was stored: of a check that read data.
    pub receipt: Option<Key>,
    /// The key of this machine that signed it.
    pub signer: Option<PublicSigner>,
    /// Packs and manifests that the host should upload again: `sealift backup --replace`. Empty on the host itself,
    /// whose next backup does that without being asked.
    pub replace: Vec<String>,
    pub warnings: Vec<Finding>,
}

impl CheckReport {
    /// Nothing is wrong with the objects, nor with what the records say.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty() && self.warnings.iter().all(|finding| finding.severity() < Severity::Problem)
    }

    /// What was checked is what the records say, signed by the key that counts.
    pub fn verifies(&self) -> bool {
        let is_claim = |finding: &Finding| matches!(finding, Finding::SignerClaim { .. });
        self.problems.is_empty() && !self.warnings.iter().any(is_claim)
    }
}

/// Checks a repository, or one snapshot of it.
pub async fn check(
    remote: &Remote,
    request: CheckRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<CheckReport, OperationError> {
    let (reader, state_dir) = (&request.reader, request.reader.state_dir(remote));
    let history = match request.read_percent {
        Some(_) => History::load_uncached(remote, reader).await?,
        None => History::load(remote, reader).await?,
    };
    let all: Vec<Arc<SignedRecord>> = history.verified().cloned().collect();
    let chosen = match &request.snapshot {
        Some(snapshot) => vec![Arc::clone(history.find(snapshot)?)],
        None => all.clone(),
    };
    // After the records: whatever they need was stored before them, so it is in this listing.
    let objects = Objects::list(remote).await?;
    let needed = Needs::of(&all).with_keys(objects.wrapped_keys().map(|(key, ..)| key));
    let mut check = Check::of(remote, chosen, needed, objects.recovery_scripts(), request.threads, monitor);
    check.history(&history);
    check.listing(&objects);
    check.recovery(&objects).await?;
    let only = request.snapshot.as_ref().and(check.chosen.first()).map(|only| only.record.sequence);
    let round = request.read_percent.map(|percent| Round::next(&state_dir, percent, only, clock::now()));
    let round = round.map(|(round, restarted)| {
        check.warnings.extend(restarted);
        round
    });
    let sample = round.as_ref().map(|round| round.sample);
    if reader.identities.is_empty() {
        check.read(sample, None).await?;
    } else {
        let identities = check.open_epochs(&reader.identities).await?;
        let contents = Contents::new(identities, &check.needs, &request.scratch)?;
        check.read(sample, Some(&contents)).await?;
        check.files(&contents).await?;
    }
    let host = HostState::load(&state_dir)?;
    check.keys_untried = host.is_none() && reader.identities.is_empty();
    match (host.is_some(), sample.is_some()) {
        (true, all) => check.kept_keys(&KeptKeys::load(&state_dir)?, all).await?,
        (false, true) => check.unlike_keys(&objects).await?,
        (false, false) => {}
    }
    if sample.is_some() {
        check.receipts().await?;
    }
    check.forget_gone().await?;
    match host {
        Some(host) => check.remember(&host)?,
        None => check.replace = check.to_replace(),
    }
    let has_read = sample.is_some() || !reader.identities.is_empty();
    if let Some(newest) = check.chosen.last().filter(|_| has_read).cloned() {
        check.put_receipt(&reader.state_root, &newest).await?;
    }
    check.part = sample.map(|sample| sample.counted()).filter(|(_, parts)| *parts > 1);
    check
        .warnings
        .extend(round.and_then(|round| round.advance(&all.iter().map(|signed| signed.record.sequence).collect())));
    let (unreferenced, unknown) = objects.not_needed(&check.all);
    Ok(check.report(unreferenced, unknown))
}

/// A check under way.
struct Check<'a> {
    remote: &'a Remote,
    threads: usize,
    /// The snapshots that are looked at.
    chosen: Vec<Arc<SignedRecord>>,
    needs: Needs,
    /// What all snapshots need: a problem names every snapshot that needs the object.
    all: Needs,
    scripts: BTreeMap<Key, Need>,
    monitor: Arc<dyn Monitor>,
    problems: Problems,
    warnings: Vec<Finding>,
    /// Objects that were read and are what they should be.
    good: BTreeSet<String>,
    /// Snapshots every file of which was assembled from its blocks and compared, right or wrong.
    compared: BTreeSet<u64>,
    /// Packs of files that are not what their manifests say: whole by their hashes, and perhaps wrong inside.
    doubted: BTreeSet<String>,
    read_bytes: u64,
    keys_untried: bool,
    part: Option<(u64, u64)>,
    files: u64,
    receipt: Option<Key>,
    signer: Option<PublicSigner>,
    replace: Vec<String>,
}

impl<'a> Check<'a> {
    fn of(
        remote: &'a Remote,
        chosen: Vec<Arc<SignedRecord>>,
        all: Needs,
        scripts: BTreeMap<Key, Need>,
        threads: usize,
        monitor: Arc<dyn Monitor>,
    ) -> Self {
        Self {
            remote,
            threads,
            needs: Needs::of(&chosen),
            all,
            scripts,
            chosen,
            monitor,
            problems: Problems::default(),
            warnings: Vec::new(),
            good: BTreeSet::new(),
            compared: BTreeSet::new(),
            doubted: BTreeSet::new(),
            read_bytes: 0,
            keys_untried: false,
            part: None,
            files: 0,
            receipt: None,
            signer: None,
            replace: Vec::new(),
        }
    }

    /// What is wrong with the records themselves. Those that a person ignored are no problem.
    fn history(&mut self, history: &History) {
        for listed in history.listed.iter().filter(|listed| !listed.ignored) {
            let kind = match &listed.record {
                Err(Unusable::Newer { .. }) => ProblemKind::Newer,
                Err(Unusable::Damaged(_) | Unusable::Untrusted { .. }) => ProblemKind::Record,
                // A claim is named as one, below.
                Ok(_) | Err(Unusable::Claim { .. } | Unusable::NotRead) => continue,
            };
            let why = listed.record.as_ref().err().map(ToString::to_string).unwrap_or_default();
            self.problems.add(layout::record(listed.sequence).to_string(), kind, why, [listed.sequence]);
        }
        let is_named = |finding: &Finding| {
            matches!(
                finding,
                Finding::RecordDamaged { .. } | Finding::RecordUntrusted { .. } | Finding::RecordNewer { .. }
            )
        };
        self.warnings.extend(history.warnings.iter().filter(|finding| !is_named(finding)).cloned());
    }

    /// What is not there, or has another size.
    fn listing(&mut self, objects: &Objects) {
        let wrong = |(key, need): (&Key, &Need)| match objects.bytes(key) {
            Some(bytes) if bytes == need.bytes => None,
            Some(bytes) => {
                let why = format!("it has {bytes} bytes, and the record says {}", need.bytes);
                Some((key.to_string(), ProblemKind::Size, why))
            }
            None => Some((key.to_string(), ProblemKind::Missing, "it is missing".to_owned())),
        };
        let wrong: Vec<(String, ProblemKind, String)> = self.needs.all().filter_map(wrong).collect();
        wrong.into_iter().for_each(|(object, kind, why)| self.problem(object, kind, why));
        for epoch in self.needs.epochs.keys().filter(|epoch| !objects.has_key(**epoch)) {
            let object = format!("{}{epoch}/", layout::KEYS);
            let why = "no key file of this epoch is there";
            self.problems.add(object, ProblemKind::Missing, why, self.all.of_epoch(*epoch));
        }
    }

    /// The data identities of all epochs that the given identities open.
    async fn open_epochs(&mut self, identities: &[IdentityFile]) -> Result<Vec<(u32, DataIdentity)>, OperationError> {
        let (mut opened, mut tried, mut closed) = (Vec::new(), BTreeSet::new(), None);
        let chosen = self.chosen.clone();
        for epoch in chosen.iter().flat_map(|signed| &signed.record.epochs) {
            if !tried.insert(epoch.epoch) {
                continue;
            }
            match open_epoch(self.remote, epoch, identities).await {
                Ok(opened_version) => {
                    self.good.insert(layout::data_key(epoch.epoch, opened_version.version).to_string());
                    opened.push((epoch.epoch, opened_version.identity));
                }
                Err(error @ OperationError::NoIdentityOpens { .. }) => {
                    let snapshots = ranges(self.needs.of_epoch(epoch.epoch));
                    self.warnings.push(Finding::EpochNotOpened { epoch: epoch.epoch, snapshots });
                    closed = Some(error);
                }
                Err(OperationError::Verification { object, why } | OperationError::NoKeyLeft { object, why }) => {
                    self.problems.add(object, ProblemKind::Key, why, self.all.of_epoch(epoch.epoch));
                }
                Err(other) => return Err(other),
            }
        }
        match closed {
            Some(error) if opened.is_empty() => Err(error),
            _ => Ok(opened),
        }
    }

    /// Reads what the sample or an identity asks for, each object once, and compares it with its name; opens the packs.
    async fn read(&mut self, sample: Option<Sample>, contents: Option<&Contents>) -> Result<(), OperationError> {
        let later = contents.map(|contents| contents.manifests(&self.chosen)).unwrap_or_default();
        let wanted = |(key, need): &(&Key, &Need)| {
            let sampled = sample.is_some_and(|sample| sample.includes(&need.name));
            let opened = contents.is_some_and(|contents| contents.number(key).is_some());
            !self.problems.has(key.as_str()) && (opened || sampled) && !later.contains(*key)
        };
        let wanted: Vec<(&Key, &Need)> = self.needs.all().chain(&self.scripts).filter(wanted).collect();
        self.monitor.begin(Phase::Fetching, Some(wanted.iter().map(|(_, need)| need.bytes).sum()));
        let reading = Reading { remote: self.remote, contents, monitor: &self.monitor };
        let read = reading.read(wanted).await?;
        self.monitor.end(Phase::Fetching);
        for (key, found) in read {
            match found {
                Ok(bytes) => {
                    self.read_bytes += bytes;
                    self.good.insert(key.to_string());
                }
                Err((kind, why)) => self.problem(key.as_str(), kind, why),
            }
        }
        Ok(())
    }

    /// Notes what is wrong with an object, and every snapshot that needs it.
    fn problem(&mut self, object: impl Into<String>, kind: ProblemKind, why: impl Into<String>) {
        let object = object.into();
        let snapshots = Key::new(object.as_str()).ok().and_then(|key| self.all.snapshots(&key).cloned());
        self.problems.add(object, kind, why, snapshots.unwrap_or_default());
    }

    /// Retention may have taken a snapshot while this ran: what is gone with it is no problem.
    async fn forget_gone(&mut self) -> Result<(), OperationError> {
        if !self.problems.is_empty() {
            let listed = self.remote.list_records().await?.into_keys().collect();
            self.problems.forget_gone(&listed);
        }
        Ok(())
    }

    fn report(self, unreferenced: Vec<String>, unknown: Vec<String>) -> CheckReport {
        CheckReport {
            snapshots: self.chosen.len(),
            objects: self.needs.all().count(),
            read_objects: self.good.len() as u64,
            read_bytes: self.read_bytes,
            keys_untried: self.keys_untried,
            part: self.part,
            files: self.files,
            problems: self.problems.into_vec(),
            unreferenced,
            unknown,
            receipt: self.receipt,
            signer: self.signer,
            replace: self.replace,
            warnings: self.warnings,
        }
    }
}
