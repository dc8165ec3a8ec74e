//! A month of daily backups under one policy, the last 14 kept: what lies in the bucket then, how many requests it took,
//! and what a restore of the newest snapshot downloads. Each day is a day's use and a VACUUM.
//!
//! sealift runs in this process on a bucket in memory with a virtual clock, so that its prune, which waits for days by the
//! server's clock, does what it would in a real month. The rivals run one day after the other on a MinIO of their own,
//! delete at once, and are measured from outside: the bucket by a listing, requests by the server's own count.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rusqlite::Connection;
use sealift::crypto::{IdentityFile, Recipient, Unprompted};
use sealift::operations::{
    BackupRequest, Gentleness, InitRequest, NewIdentity, Reader, Remote, RestoreRequest, RetainRequest, Selector,
    SourceKind, SourceSpec, Unwatched, backup, init, restore, retain,
};
use sealift::repository::Retention;
use sealift::store::{Meter, Store, Usage};

use super::measure::run;
use super::rivals::{Place, RIVALS, Rival, Work};
use super::support::Server;
use super::support::memory::{MemoryStore, VirtualClock};
use super::support::minio::Minio;
use super::{check, same, stored_under, trinity};

const DAYS: u64 = 30;

/// What a month came to.
struct Month {
    name: &'static str,
    /// In the bucket after the first day and after the last.
    first_bytes: u64,
    last_bytes: u64,
    /// The highest at the end of a day.
    most_bytes: u64,
    requests: Vec<(String, u64)>,
    /// Of the newest snapshot; `None` where nobody tells.
    restore_bytes: Option<u64>,
}

pub fn run_month(megabytes: u32, with_rivals: bool) {
    let folder = tempfile::tempdir().unwrap();
    let database = trinity::generate(folder.path(), megabytes, 1).database;
    println!("{DAYS} days, database {:.1} MB, the last 14 kept", size(&database) as f64 / 1e6);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut own = runtime.block_on(Own::begin(folder.path(), &database));
    let mut others: Vec<Other> = RIVALS
        .iter()
        .filter(|rival| with_rivals && rival.keeps_few() && rival.is_installed())
        .filter_map(|rival| Other::begin(rival, folder.path(), &database, runtime.block_on(Minio::start())?).into())
        .collect();
    for day in 0..DAYS {
        if day > 0 {
            let connection = Connection::open(&database).unwrap();
            trinity::a_days_use(&connection, 100 + day);
            connection.execute_batch("vacuum").unwrap();
        }
        runtime.block_on(own.day());
        others.iter_mut().for_each(Other::day);
    }
    let own = runtime.block_on(own.end());
    for month in std::iter::once(own).chain(others.into_iter().map(Other::end)) {
        month.print();
    }
}

impl Month {
    fn new(name: &'static str) -> Self {
        let (first_bytes, last_bytes, most_bytes, restore_bytes) = Default::default();
        Self { name, first_bytes, last_bytes, most_bytes, requests: Vec::new(), restore_bytes }
    }

    fn end_of_day(&mut self, bytes: u64) {
        if self.first_bytes == 0 {
            self.first_bytes = bytes;
        }
        (self.last_bytes, self.most_bytes) = (bytes, self.most_bytes.max(bytes));
    }

    fn print(&self) {
        let total: u64 = self.requests.iter().map(|(_, count)| count).sum();
        let requests: Vec<String> = self.requests.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!(
            "{:<8} first {:>8.1} MB  last {:>8.1} MB  most {:>8.1} MB  restore {:>8} MB  {total:>5} requests ({})",
            self.name,
            self.first_bytes as f64 / 1e6,
            self.last_bytes as f64 / 1e6,
            self.most_bytes as f64 / 1e6,
            self.restore_bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
            requests.join(", ")
        );
    }
}

/// sealift, in this process.
struct Own {
    folder: std::path::PathBuf,
    database: std::path::PathBuf,
    clock: Arc<VirtualClock>,
    store: Arc<MemoryStore>,
    meter: Arc<Meter>,
    remote: Remote,
    recipients: Vec<Recipient>,
    month: Month,
}

impl Own {
    async fn begin(folder: &Path, database: &Path) -> Self {
        let folder = folder.join("sealift");
        std::fs::create_dir(&folder).unwrap();
        let clock = VirtualClock::at("2025-01-01T03:00:00Z".parse().unwrap());
        let store = MemoryStore::new(Arc::clone(&clock));
        let meter = Arc::new(Meter::new(store.clone()));
        let metered: Arc<dyn Store> = meter.clone();
        let new_identity = NewIdentity { path: folder.join("identity.txt"), passphrase: None };
        let request = InitRequest { recipients: Vec::new(), new_identity: Some(new_identity) };
        let made = init(&metered, "memory", &folder, request).await.unwrap();
        let recipients = made.recipients.iter().map(|text| Recipient::parse(text).unwrap()).collect();
        let remote = Remote::open(metered, "memory").await.unwrap();
        let month = Month::new("sealift");
        Self { folder, database: database.to_owned(), clock, store, meter, remote, recipients, month }
    }

    async fn day(&mut self) {
        let database =
            SourceSpec { name: "trinity.db".into(), path: self.database.clone(), kind: SourceKind::Database };
        let request = BackupRequest {
            sources: vec![database],
            recipients: self.recipients.clone(),
            host: "bench".to_owned(),
            tags: Vec::new(),
            compression: 3,
            threads: 2,
            gentleness: Gentleness::default(),
            wait: Duration::ZERO,
            adopt: false,
            max_compact_bytes: 1 << 30,
            clock: self.clock.clone(),
            believed: Vec::new(),
            retention: Some(policy()),
        };
        let dir = self.folder.join(self.remote.id().as_str());
        let report = backup(&self.remote, &dir, request, Arc::new(Unwatched)).await.unwrap();
        self.month.restore_bytes = Some(report.restore_bytes);
        self.clock.advance(SignedDuration::from_mins(5));
        let request = RetainRequest { own_rules: Some(policy()), apply: true, ..RetainRequest::default() };
        retain(&self.remote, &self.reader(), &request).await.unwrap();
        self.month.end_of_day(self.store.bytes());
        self.clock.advance(SignedDuration::from_hours(24) - SignedDuration::from_mins(5));
    }

    fn reader(&self) -> Reader {
        let bytes = std::fs::read(self.folder.join("identity.txt")).unwrap();
        let identity = IdentityFile::parse(&bytes, "identity.txt", &Unprompted).unwrap();
        Reader { identities: vec![identity], signer: None, accept: None, state_root: self.folder.clone() }
    }

    async fn end(mut self) -> Month {
        let Usage { requests, .. } = self.meter.usage();
        let serde_json::Value::Object(requests) = serde_json::to_value(requests).unwrap() else { unreachable!() };
        let counts = requests.into_iter().filter_map(|(kind, count)| Some((kind, count.as_u64()?)));
        self.month.requests = counts.filter(|(_, count)| *count > 0).collect();
        let target = self.folder.join("restored");
        let request = RestoreRequest {
            snapshot: Selector::Latest,
            reader: self.reader(),
            target: target.clone(),
            only: Vec::new(),
            force: false,
            dry_run: false,
            threads: 2,
        };
        restore(&self.remote, request, Arc::new(Unwatched)).await.unwrap();
        assert!(same(&self.database, &target.join("trinity.db")), "the restored database differs");
        self.month
    }
}

/// A rival, with a server of its own.
struct Other {
    rival: &'static Rival,
    folder: std::path::PathBuf,
    database: std::path::PathBuf,
    server: Minio,
    month: Month,
}

impl Other {
    fn begin(rival: &'static Rival, folder: &Path, database: &Path, server: Minio) -> Self {
        let month = Month::new(rival.name);
        let other = Self { rival, folder: folder.to_owned(), database: database.to_owned(), server, month };
        other.does(Work::Setup);
        other
    }

    fn day(&mut self) {
        self.does(Work::Backup);
        self.does(Work::KeepFew);
        self.month.end_of_day(stored_under(&self.server, self.rival.name));
    }

    fn does(&self, work: Work) {
        let variables = super::variables(&self.server);
        let place = Place { folder: &self.folder, database: &self.database, variables: &variables };
        check(self.rival.name, &run(&mut self.rival.command(work, &place)));
    }

    fn end(mut self) -> Month {
        self.month.requests = requests(&self.server);
        self.month
    }
}

/// What the server counted: requests for objects and listings, whoever sent them. The listings of this bench, one a day,
/// are taken off.
fn requests(server: &Minio) -> Vec<(String, u64)> {
    let url = format!("{}/minio/v2/metrics/node", server.endpoint());
    // The server counts anew every ten seconds.
    std::thread::sleep(Duration::from_secs(11));
    let output = Command::new("curl").args(["-sf", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let counts = text.lines().filter_map(|line| {
        let (labels, count) = line.strip_prefix("minio_s3_requests_total{")?.split_once("} ")?;
        let api = labels.split("api=\"").nth(1)?.split('"').next()?.to_owned();
        // The bucket itself is made by the bench.
        if api == "putbucket" {
            return None;
        }
        let own = if api.starts_with("listobjects") { DAYS } else { 0 };
        Some((api, count.parse::<u64>().ok()?.saturating_sub(own)))
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn policy() -> Retention {
    Retention { keep_last: Some(14), ..Retention::default() }
}
