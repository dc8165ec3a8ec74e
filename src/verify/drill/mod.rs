//! A test restore of a snapshot: into a scratch directory, where it is looked at and then removed.
//! A receipt of the outcome, signed by this machine's own key, goes into the repository.
//!
//! What the restored files hold (names, counts of rows) is in the report only, never in the receipt.

mod application;
mod databases;
mod host;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::task::spawn_blocking;

pub use self::databases::DatabaseReport;
use self::databases::{Looked, look};
use self::host::refuse_on_the_host;
use super::check::is_needed;
use crate::clock;
use crate::crypto::{Digest, PublicSigner};
use crate::error::OperationError;
use crate::events::Monitor;
use crate::finding::Finding;
use crate::format::{Receipt, ReceiptKind, SignedRecord};
use crate::fsx::ScratchDir;
use crate::history::{History, Reader, Selector};
use crate::host::driller;
use crate::policy::times::lies_ahead;
use crate::repository::Remote;
use crate::repository::receipts::put_if_allowed;
use crate::restore::RestoreReport;
use crate::restore::opened::open;
use crate::restore::scratch_dir::{remove_scratch, scratch_dir};
use crate::restore::sqlite_check::open_still;
use crate::restore::{Destination, restore_opened};
use crate::source::Credentials;
use crate::store::Key;

pub struct DrillRequest {
    pub snapshot: Selector,
    pub reader: Reader,
    /// Where the scratch directory is made.
    pub dir: PathBuf,
    /// What `sh -c` is to run in the directory of the restored files; it passes with 0.
    pub command: Option<String>,
    /// Even on the host itself, where no identity should ever be.
    pub here: bool,
    /// Where the host's state would lie on this machine, in addition to the reader's state directory.
    pub state_roots: Vec<PathBuf>,
    /// Packs fetched and opened at once, and threads that verify.
    pub threads: usize,
}

pub struct DrillReport {
    pub sequence: u64,
    pub time: jiff::Timestamp,
    /// Why it did not pass; empty: it passed.
    pub failures: Vec<String>,
    pub downloaded_bytes: u64,
    pub restored_bytes: u64,
    pub databases: Vec<DatabaseReport>,
    /// Trinity's credentials, where a database holds any.
    pub credentials: Option<Credentials>,
    pub command: Option<ExitStatus>,
    /// How long it took until the files were restored and verified.
    pub recovery_time: Duration,
    /// How old what was restored is, by its time; `None` where that lies ahead.
    pub recovery_point: Option<SignedDuration>,
    pub receipt: Option<Key>,
    /// Whose signature the receipt carries.
    pub signer: PublicSigner,
    pub warnings: Vec<Finding>,
}

impl DrillReport {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Tries whether a snapshot comes back. A snapshot that does not is a report, too; only what says nothing about the
/// snapshot, such as an unreachable server or a missing key, is an error.
pub async fn drill(
    remote: &Remote,
    request: DrillRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<DrillReport, OperationError> {
    let mut warnings = if request.here { Vec::new() } else { refuse_on_the_host(remote, &request)? };
    let signer = driller(&request.reader.state_root)?;
    let began = Instant::now();
    let history = History::load_for(remote, &request.reader, &request.snapshot).await?;
    let signed = Arc::clone(history.find(&request.snapshot)?);
    let (scratch, left) = scratch_dir(&request.dir, "sealift-drill")?;
    warnings.extend(left);
    let taken = history.times().get(&signed.record.sequence).copied().unwrap_or(signed.record.time);
    let now = clock::now();
    let (seen, writable) = (history.warnings.clone(), remote.creating(history.create_once()));
    let tried = try_restore(remote, &request, history, &signed, &scratch, monitor).await;
    let recovery_time = began.elapsed();
    let mut report = DrillReport {
        sequence: signed.record.sequence,
        time: signed.record.time,
        failures: Vec::new(),
        downloaded_bytes: 0,
        restored_bytes: 0,
        databases: Vec::new(),
        credentials: None,
        command: None,
        recovery_time,
        recovery_point: (!lies_ahead(taken, now)).then(|| now.duration_since(taken).max(SignedDuration::ZERO)),
        receipt: None,
        signer: signer.public(),
        warnings,
    };
    let (mut bad, mut keys) = (Vec::new(), Vec::new());
    match tried.map_err(blame) {
        Ok((restored, opened)) => {
            keys = opened;
            try_files(&request, restored, &scratch, &mut report).await?;
        }
        Err(Ok((failure, objects))) => {
            // Retention may have taken the snapshot meanwhile, and what it needs: that says nothing about it.
            let sequence = signed.record.sequence;
            if !remote.list_records().await?.contains_key(&sequence) {
                return Err(OperationError::NoSnapshot(Some(format!("{sequence} any more"))));
            }
            report.warnings.extend(seen);
            report.failures.push(failure);
            bad = objects;
        }
        Err(Err(other)) => return Err(other),
    }
    report.warnings.extend(remove_scratch(scratch));
    let keys = keys.into_iter().filter(|_| report.passed()).collect();
    let receipt = Receipt { keys, ..receipt(remote, &signed, &report, bad) };
    match put_if_allowed(&writable, receipt, &signer).await? {
        Ok(key) => report.receipt = Some(key),
        Err(note) => report.warnings.push(note),
    }
    Ok(report)
}

/// What was restored, and the SHA-256s of the key files through which it was opened.
async fn try_restore(
    remote: &Remote,
    request: &DrillRequest,
    history: History,
    signed: &Arc<SignedRecord>,
    scratch: &ScratchDir,
    monitor: Arc<dyn Monitor>,
) -> Result<(RestoreReport, Vec<Digest>), OperationError> {
    let opened = open(remote, history, Arc::clone(signed), &request.reader).await?;
    let keys = opened.keys.clone();
    let to = Destination { target: scratch.path(), only: &[], force: false, dry_run: false, threads: request.threads };
    Ok((restore_opened(remote, opened, to, monitor).await?, keys))
}

/// Looks at what was restored.
async fn try_files(
    request: &DrillRequest,
    restored: RestoreReport,
    scratch: &ScratchDir,
    report: &mut DrillReport,
) -> Result<(), OperationError> {
    report.downloaded_bytes = restored.downloaded_bytes;
    report.restored_bytes = restored.files.iter().map(|file| file.bytes).sum();
    for finding in restored.warnings {
        match finding {
            Finding::IntegrityCheck { source, why } => {
                report.failures.push(format!("{source}: SQLite finds it damaged: {why}"));
            }
            // A scratch directory needs no owners.
            Finding::OwnerNotRestored { .. } => {}
            other => report.warnings.push(other),
        }
    }
    let files = restored.files;
    let looked = spawn_blocking(move || look(&files)).await.map_err(|_| OperationError::Stopped)?;
    let Looked { databases, credentials, findings, failures } = looked;
    report.databases = databases;
    report.credentials = credentials;
    report.warnings.extend(findings);
    report.failures.extend(failures);
    if let Some(command) = &request.command {
        let status = application::run(command, scratch.path()).await?;
        if !status.success() {
            report.failures.push(format!("`{command}` on the restored files ended with {status}"));
        }
        report.command = Some(status);
    }
    Ok(())
}

/// Why a restore failed, and the stored objects that were wrong; or the error, where it says nothing about the
/// snapshot.
fn blame(error: OperationError) -> Result<(String, Vec<String>), OperationError> {
    use OperationError as E;
    let failure = error.to_string();
    let mut objects = match error {
        E::Verification { object, .. } | E::NoKeyLeft { object, .. } => vec![object],
        E::Contents { objects, .. } => objects,
        other => return Err(other),
    };
    objects.retain(|object| is_needed(object));
    objects.sort_unstable();
    objects.dedup();
    Ok((failure, objects))
}

fn receipt(remote: &Remote, signed: &SignedRecord, report: &DrillReport, bad: Vec<String>) -> Receipt {
    Receipt {
        format: Receipt::FORMAT,
        repository: remote.id().clone(),
        sequence: signed.record.sequence,
        record: signed.signed.digest(),
        kind: ReceiptKind::Drill,
        time: clock::now(),
        passed: report.passed(),
        epochs: signed.record.epochs.iter().map(|epoch| epoch.epoch).filter(|_| report.passed()).collect(),
        keys: Vec::new(),
        bad,
        recovery_ms: report.passed().then_some(report.recovery_time.as_millis() as u64),
    }
}
