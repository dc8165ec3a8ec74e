//! A simulated year: a database that changes, grows and is vacuumed each night, backed up by a virtual clock, with
//! retention and compaction on. After every step each listed snapshot can be restored, little more is stored than the
//! snapshots' blocks, and a restore downloads little more than it needs.
//!
//! Everything comes from a seed. `SEALIFT_TEST_YEAR=full` runs the whole year, otherwise a part of it;
//! `SEALIFT_TEST_SEED` replays one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod application;
mod ledger;
#[path = "../support/memory.rs"]
mod memory;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use application::{Application, Random};
use jiff::{SignedDuration, Timestamp};
use ledger::Ledger;
use memory::{MemoryStore, VirtualClock};
use sealift::admin::{Freshness, InitRequest, StatusRequest, init, status};
use sealift::backup::backup;
use sealift::backup::{BackupReport, BackupRequest, Gentleness, SourceKind, SourceSpec};
use sealift::clock::Clock;
use sealift::crypto::{DataIdentity, IdentityFile, Recipient, Unprompted, sha256};
use sealift::error::OperationError;
use sealift::events::Unwatched;
use sealift::finding::{Finding, Severity};
use sealift::format::{Retention, layout};
use sealift::history::{Reader, Selector};
use sealift::keys::NewIdentity;
use sealift::policy::prune::PruneBlocker;
use sealift::repository::Remote;
use sealift::restore::RestoreRequest;
use sealift::restore::restore;
use sealift::retention::retain;
use sealift::retention::{RetainReport, RetainRequest};
use sealift::store::Store;

/// What one run may upload afresh: about half of the database, compressed.
const MAX_COMPACT_BYTES: u64 = 1 << 20;

struct Year {
    folder: tempfile::TempDir,
    clock: Arc<VirtualClock>,
    store: Arc<MemoryStore>,
    remote: Remote,
    recipients: Vec<Recipient>,
    application: Application,
    ledger: Ledger,
    random: Random,
    rules: Retention,
    /// How many runs in a row left a restore that downloads too much.
    behind: u64,
    worst: Worst,
}

/// The highest ratios seen since the last line that was printed.
#[derive(Default)]
struct Worst {
    stored: f64,
    restore: f64,
    packs: usize,
    runs: u32,
}

impl Year {
    /// `now` is what the clock of the server and of the host shows.
    async fn begin(seed: u64, now: Timestamp, rules: Retention) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::at(now);
        let store = MemoryStore::new(Arc::clone(&clock));
        let application = Application::start(&folder.path().join("app.db"), seed);
        let dynamic: Arc<dyn Store> = store.clone();
        let new_identity = NewIdentity { path: folder.path().join("identity.txt"), passphrase: None };
        // Two, so that no warning stands.
        let offline = Recipient::parse(&DataIdentity::generate().recipient().to_string()).unwrap();
        let (recipients, new_identity) = (vec![offline], Some(new_identity));
        let request = InitRequest { recipients, new_identity, single_writer: false };
        let (made, _) = init(&dynamic, "memory", folder.path(), request).await.unwrap();
        let remote = Remote::open(dynamic, "memory").await.unwrap();
        let wrapped = store.peek(&layout::data_key(made.epoch, 1)).unwrap();
        let identity = DataIdentity::unwrap(&wrapped, identity(&folder.path().join("identity.txt")).keys()).unwrap();
        let recipients = made.recipients.iter().map(|text| Recipient::parse(text).unwrap()).collect();
        let ledger = Ledger::new(Arc::clone(&store), made.repository, identity);
        let random = Random(seed | 1);
        Self {
            folder,
            clock,
            store,
            remote,
            recipients,
            application,
            ledger,
            random,
            rules,
            behind: 0,
            worst: Worst::default(),
        }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    async fn back_up(&mut self) -> BackupReport {
        self.back_up_with(&[]).await
    }

    async fn back_up_with(&mut self, expected: &[&str]) -> BackupReport {
        let request = BackupRequest {
            sources: vec![SourceSpec { name: "app.db".to_owned(), path: self.database(), kind: SourceKind::Database }],
            host: "year".to_owned(),
            tags: Vec::new(),
            compression: 3,
            threads: 1,
            gentleness: Gentleness::default(),
            wait: Duration::ZERO,
            adopt: false,
            max_compact_bytes: MAX_COMPACT_BYTES,
            clock: self.clock.clone(),
            replace: Vec::new(),
            retention: Some(self.rules.clone()),
            recipients: self.recipients.clone(),
        };
        let dir = self.folder.path().join(self.remote.id().as_str());
        let report = backup(&self.remote, &dir, request, Arc::new(Unwatched)).await.unwrap();
        let warnings: Vec<&str> = report.warnings.iter().map(Finding::code).collect();
        assert_eq!((&warnings[..], report.time), (expected, self.clock.now()));
        let ratio = self.ledger.take_in(report.sequence, &self.database());
        assert!((ratio - report.restore_ratio).abs() < 0.01, "{ratio}, and reported {}", report.restore_ratio);
        self.judge(&report);
        report
    }

    fn judge(&mut self, report: &BackupReport) {
        self.ledger.check();
        let ideal = report.restore_bytes as f64 / report.restore_ratio;
        self.behind = match (report.restore_ratio > 1.5, report.unchanged) {
            (true, false) => self.behind + 1,
            (true, true) => self.behind,
            (false, _) => 0,
        };
        let catching_up = 1.0 + ideal / MAX_COMPACT_BYTES as f64;
        assert!(self.behind as f64 <= catching_up, "a restore downloads {:.2} times the ideal", report.restore_ratio);
        let stored = self.store.bytes() as f64 / self.ledger.ideal_bytes();
        assert!(stored <= 2.0, "{stored:.2} times the ideal is stored");
        self.worst.stored = self.worst.stored.max(stored);
        self.worst.restore = self.worst.restore.max(report.restore_ratio);
        self.worst.packs = self.worst.packs.max(self.store.names(layout::PACKS).len());
        self.worst.runs += 1;
    }

    /// What somebody brings along who reads the repository from another machine.
    fn reader(&self, identities: Vec<IdentityFile>) -> Reader {
        let signer = Some(self.remote.descriptor.signer.clone());
        Reader { identities, signer, state_root: self.folder.path().join("reader"), ..Reader::default() }
    }

    /// Retention, from another machine and without any key.
    async fn retain(&mut self) -> RetainReport {
        let request = RetainRequest {
            rules: Some(self.rules.clone()),
            apply: true,
            max_remove_percent: Some(50),
            ..RetainRequest::default()
        };
        let report = retain(&self.remote, &self.reader(Vec::new()), &request).await.unwrap();
        assert_eq!(report.warnings, []);
        report.plan.removed().for_each(|sequence| self.ledger.forget(sequence));
        self.ledger.check();
        report
    }

    /// `status` on a machine with the operator's identity finds a fresh snapshot, and nothing but notes.
    async fn look_on(&self, machine: &str) {
        let identities = vec![identity(&self.folder.path().join("identity.txt"))];
        let reader = Reader { signer: None, state_root: self.folder.path().join(machine), ..self.reader(identities) };
        let request = StatusRequest { reader, max_age: SignedDuration::from_hours(26) };
        let status = status(&self.remote, &request).await.unwrap();
        assert_eq!(status.freshness, Freshness::Fresh, "{machine}: {}", status.verdict);
        assert!(status.warnings.iter().all(|finding| finding.severity() == Severity::Note), "{:?}", status.warnings);
    }

    /// The whole of one snapshot, by `restore`, is byte for byte what the file was.
    async fn restore(&mut self, sequence: u64) {
        let target = self.folder.path().join("restored");
        let request = RestoreRequest {
            snapshot: Selector::Sequence(sequence),
            reader: self.reader(vec![identity(&self.folder.path().join("identity.txt"))]),
            target: target.clone(),
            only: Vec::new(),
            force: false,
            dry_run: false,
            threads: 1,
        };
        let report = restore(&self.remote, request, Arc::new(Unwatched)).await.unwrap();
        assert_eq!(report.warnings, []);
        let bytes = std::fs::read(target.join("app.db")).unwrap();
        assert!(sha256(&bytes) == self.ledger.snapshots[&sequence].file, "snapshot {sequence} came back changed");
        std::fs::remove_dir_all(target).unwrap();
    }

    async fn restore_some(&mut self) {
        let sequences: Vec<u64> = self.ledger.snapshots.keys().copied().collect();
        let any = sequences[self.random.below(sequences.len() as u32) as usize];
        self.restore(*sequences.last().unwrap()).await;
        self.restore(any).await;
    }

    fn print(&mut self, day: i64) {
        let Worst { stored, restore, packs, runs } = std::mem::take(&mut self.worst);
        println!(
            "day {day:>3}: {runs:>3} runs, {:>3} listed, at most {packs:>4} packs; stored {:.2} MB, of which {:.2} needed; \
             at most {stored:.2} times the ideal; a restore at most {restore:.2}",
            self.ledger.snapshots.len(),
            self.store.bytes() as f64 / 1e6,
            self.ledger.needed_bytes() as f64 / 1e6,
        );
    }
}

fn rules_of_a_year() -> Retention {
    Retention {
        keep_hourly: Some(48),
        keep_daily: Some(14),
        keep_weekly: Some(8),
        keep_monthly: Some(12),
        ..Retention::default()
    }
}

fn identity(path: &std::path::Path) -> IdentityFile {
    IdentityFile::parse(&std::fs::read(path).unwrap(), "identity.txt", &Unprompted).unwrap()
}

fn seed() -> u64 {
    std::env::var("SEALIFT_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"))
}

/// How many days to simulate: all of them, or `part`.
fn days(part: i64) -> i64 {
    if std::env::var("SEALIFT_TEST_YEAR").is_ok_and(|year| year == "full") { 365 } else { part }
}

async fn simulate(days: i64, hours_between: i64) {
    let mut year = Year::begin(seed(), "2025-01-01T00:00:00Z".parse().unwrap(), rules_of_a_year()).await;
    // What happens once in a quarter happens in a shorter time, too.
    let quarter = days.min(90);
    println!("seed {}, a backup each {hours_between} hours", seed());
    for hour in 0..days * 24 {
        let (day, now) = (hour / 24, year.clock.now());
        let of_day = (hour % 24) as i8;
        year.application.hour(of_day, &now.to_string());
        if of_day == 2 {
            year.application.night(day);
            match day % quarter {
                there if there == quarter * 2 / 3 => year.application.tidy_up(),
                there if there == quarter * 5 / 6 => year.application.migrate(day),
                _ => {}
            }
        }
        if hour % hours_between == hours_between.min(4) % hours_between {
            year.back_up().await;
        }
        if of_day == 5 {
            year.retain().await;
            year.restore_some().await;
        }
        if of_day == 23 && day % 7 == 6 {
            year.print(day + 1);
        }
        year.clock.advance(SignedDuration::from_hours(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_hourly_backups_loses_nothing_and_wastes_little() {
    simulate(days(10), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_daily_backups_loses_nothing_and_wastes_little() {
    simulate(days(45), 24).await;
}

/// With the rules that `init` writes: the host, the machine that prunes, an operator's and a fresh one.
#[tokio::test(flavor = "multi_thread")]
async fn three_weeks_of_daily_backups_that_another_machine_prunes_make_no_warning_anywhere() {
    let rules = Retention { keep_daily: Some(14), ..Retention::default() };
    let mut year = Year::begin(seed(), "2025-01-01T00:00:00Z".parse().unwrap(), rules).await;
    let mut removed = 0;
    for day in 0..21 {
        for hour in 0..24 {
            year.application.hour(hour, &year.clock.now().to_string());
        }
        year.back_up().await;
        let report = year.retain().await;
        removed += report.records.len();
        assert!(!report.refused, "day {day}");
        year.look_on("operator").await;
        year.clock.advance(SignedDuration::from_hours(24));
    }
    assert_eq!(removed, 7);
    year.look_on("fresh").await;
    let newest = *year.ledger.snapshots.keys().last().unwrap();
    year.restore(newest).await;
}

/// A server may hold a record that its index has lost: what is there and what it needs stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_listing_lacks_stops_the_prune() {
    let rules = Retention { keep_last: Some(1), ..Retention::default() };
    let mut year = Year::begin(seed(), Timestamp::now(), rules).await;
    for snapshot in 1..=3 {
        // A database made anew shares no page with the old one.
        std::fs::remove_file(year.database()).unwrap();
        year.application = Application::start(&year.database(), seed() + snapshot);
        year.back_up().await;
        year.clock.advance(SignedDuration::from_hours(24 * 9));
    }
    year.store.unlist(layout::record(2));
    let request = RetainRequest { rules: Some(year.rules.clone()), ..RetainRequest::default() };
    // Nor does a backup in between forget it.
    year.back_up_with(&["record-unlisted"]).await;
    for apply in [false, true] {
        let request = RetainRequest { apply, ..request.clone() };
        let report = retain(&year.remote, &year.reader(Vec::new()), &request).await;
        match report {
            Ok(report) => {
                let blocker = PruneBlocker::IncompleteListing { snapshots: vec![2] };
                assert_eq!((apply, report.prune.blocker, report.refused), (false, Some(blocker), true));
            }
            Err(error) => assert!(apply && matches!(error, OperationError::Refused { .. }), "{error}"),
        }
    }
    year.ledger.check();
}

/// The server says when an object was stored and what time it is; that this machine would have it a year later or
/// earlier hurries and delays nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruner_whose_clock_is_a_year_off_goes_by_the_servers() {
    for off in [-365, 365] {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        let rules = Retention { keep_last: Some(1), ..Retention::default() };
        let mut year = Year::begin(seed(), Timestamp::now() + days(off), rules).await;
        year.back_up().await;
        // A database made anew shares no page with the old one.
        std::fs::remove_file(year.database()).unwrap();
        year.application = Application::start(&year.database(), seed() + 1);
        year.clock.advance(days(1));
        year.back_up().await;
        year.clock.advance(days(5));
        let report = year.retain().await;
        assert!(!report.prune.lines.is_empty() && report.prune.blocker.is_none(), "{off}: {:?}", report.prune.blocker);
        let deleted = report.deleted.unwrap();
        assert_eq!((deleted.records, deleted.manifests, deleted.packs), (1, 0, 0), "{off}: a week has not gone by");
        year.clock.advance(days(2));
        let deleted = year.retain().await.deleted.unwrap();
        assert!(deleted.manifests == 1 && deleted.packs > 0, "{off}: {deleted:?}");
        let newest = *year.ledger.snapshots.keys().last().unwrap();
        year.restore(newest).await;
    }
}
