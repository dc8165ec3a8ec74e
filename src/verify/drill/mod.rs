//! The proof that a snapshot brings everything back: it is restored into a scratch directory, looked at, and thrown away.
//! A receipt of the outcome, signed by this machine's own key, goes into the repository.
//!
//! What the restored files hold (names, counts of rows) is told to whoever asked, and nobody else.

mod application;
mod databases;
mod host;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::task::spawn_blocking;

pub use self::databases::DatabaseReport;
use self::databases::{Looked, look};
use self::host::refuse_on_the_host;
use crate::clock;
use crate::crypto::{Digest, PublicSigner};
use crate::error::OperationError;
use crate::events::Monitor;
use crate::finding::Warning;
use crate::format::{Receipt, ReceiptKind, SignedRecord, layout};
use crate::fsx::ScratchDir;
use crate::history::time_to_come;
use crate::history::{History, Reader, Selector};
use crate::host::{Findings, driller};
use crate::policy::effective::lies_ahead;
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
    /// Where the host's state would lie on this machine, besides the reader's state directory.
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
    /// How old what was restored is, by its effective time; `None` where that lies ahead.
    pub recovery_point: Option<SignedDuration>,
    pub receipt: Option<Key>,
    /// Whose signature the receipt carries.
    pub signer: PublicSigner,
    pub warnings: Vec<Warning>,
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
    let history = History::load(remote, &request.reader).await?;
    let signed = Arc::clone(history.find(&request.snapshot)?);
    let (scratch, left) = scratch_dir(&request.dir, "sealift-drill")?;
    warnings.extend(left);
    let taken = history.times().get(&signed.record.sequence).copied().unwrap_or(signed.record.time);
    let now = clock::now();
    warnings.extend(time_to_come(signed.record.sequence, taken, now));
    let seen = history.warnings.clone();
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
    let (mut blamed, mut keys) = (Findings::default(), Vec::new());
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
            blamed = objects;
        }
        Err(Err(other)) => return Err(other),
    }
    report.warnings.extend(remove_scratch(scratch));
    let keys = keys.into_iter().filter(|_| report.passed()).collect();
    let receipt = Receipt { keys, ..receipt(remote, &signed, &report, blamed) };
    match put_if_allowed(remote, receipt, &signer).await? {
        Ok(key) => report.receipt = Some(key),
        Err(warning) => report.warnings.push(warning),
    }
    Ok(report)
}

/// What was restored, and the SHA-256s of the wrapped keys through which it was opened.
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
    for warning in restored.warnings {
        match warning.name {
            "integrity-check" => report.failures.push(warning.text),
            // Here nobody wants the owners back.
            "owner-not-restored" => {}
            _ => report.warnings.push(warning),
        }
    }
    let files = restored.files;
    let looked = spawn_blocking(move || look(&files)).await.map_err(|_| OperationError::Stopped)?;
    let Looked { databases, credentials, warnings, failures } = looked;
    report.databases = databases;
    report.credentials = credentials;
    report.warnings.extend(warnings);
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

/// Why a restore failed, and the stored objects that are to blame for it; or the error, where it says nothing about the
/// snapshot.
fn blame(error: OperationError) -> Result<(String, Findings), OperationError> {
    use OperationError as E;
    let failure = error.to_string();
    let (objects, has_hash) = match error {
        E::Verification { object, .. } => (vec![object], false),
        // A wrapped key has no hash for a name: only who tries it can tell that it is bad, or no longer.
        E::NoKeyLeft { object, .. } => (vec![object], true),
        E::Contents { objects, .. } => (objects, true),
        other => return Err(other),
    };
    let bad: BTreeSet<String> = objects.into_iter().filter(|object| is_needed_object(object)).collect();
    let contents = if has_hash { bad.clone() } else { BTreeSet::new() };
    Ok((failure, Findings { bad, contents }))
}

/// Whether it is the name of a pack, a manifest or a wrapped key.
fn is_needed_object(object: &str) -> bool {
    let is_needed = |key: Key| layout::digest(&key).is_some() || layout::epoch_and_generation(&key).is_some();
    Key::new(object).is_ok_and(is_needed)
}

fn receipt(remote: &Remote, signed: &SignedRecord, report: &DrillReport, blamed: Findings) -> Receipt {
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
        bad: blamed.bad.into_iter().collect(),
        contents: blamed.contents.into_iter().collect(),
        recovery_ms: report.passed().then_some(report.recovery_time.as_millis() as u64),
    }
}
