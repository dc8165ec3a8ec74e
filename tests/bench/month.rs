//! A month of daily backups under one policy, the last 14 kept: what lies in the bucket then, how many requests it took,
//! and what a restore of the newest snapshot downloads. Each day is a day's use and a VACUUM.
//!
//! Everybody has a MinIO of his own and works there one day after the other; the bucket is measured by a listing, requests and
//! a restore's bytes by the server's own count. sealift runs in this process, on that server with a clock that the bench
//! holds, so that its prune, which waits for days by the server's clock, does what it would in a real month; the repository
//! is opened anew for each backup and each prune, as the program does. The rivals delete at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rusqlite::Connection;
use sealift::admin::InitRequest;
use sealift::admin::init;
use sealift::backup::backup;
use sealift::backup::{BackupRequest, Gentleness, SourceKind, SourceSpec};
use sealift::crypto::{IdentityFile, Recipient, Unprompted};
use sealift::events::Unwatched;
use sealift::format::Retention;
use sealift::history::{Reader, Selector};
use sealift::keys::NewIdentity;
use sealift::repository::Remote;
use sealift::restore::RestoreRequest;
use sealift::restore::restore;
use sealift::retention::RetainRequest;
use sealift::retention::retain;
use sealift::store::Store;

use super::dated::Dated;
use super::measure::run;
use super::rivals::{Place, RIVALS, Rival, Work};
use super::support::Server;
use super::support::memory::VirtualClock;
use super::support::minio::Minio;
use super::{check, same, stored_under, trinity};

const DAYS: u64 = 30;
/// Under which sealift works in its bucket.
const PREFIX: &str = "sealift";

/// What a month came to.
struct Month {
    name: &'static str,
    /// In the bucket after the first day and after the last.
    first_bytes: u64,
    last_bytes: u64,
    /// The highest at the end of a day.
    most_bytes: u64,
    requests: Vec<(String, u64)>,
    /// What the server sends for a restore of the newest snapshot.
    restore_megabytes: f64,
}

pub fn run_month(megabytes: u32, with_rivals: bool) {
    let folder = tempfile::tempdir().unwrap();
    let database = trinity::generate(folder.path(), megabytes, 1).database;
    println!("{DAYS} days, database {:.1} MB, the last 14 kept", size(&database) as f64 / 1e6);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = || runtime.block_on(Minio::start());
    let Some(server) = start() else { return };
    let mut own = runtime.block_on(Own::begin(folder.path(), &database, server));
    let mut others: Vec<Other> = RIVALS
        .iter()
        .filter(|rival| with_rivals && rival.keeps_few() && rival.is_installed())
        .filter_map(|rival| Some(Other::begin(rival, folder.path(), &database, start()?)))
        .collect();
    for day in 0..DAYS {
        if day > 0 {
            let connection = Connection::open(&database).unwrap();
            trinity::a_days_use(&connection, 100 + day);
            connection.execute_batch("vacuum").unwrap();
        }
        runtime.block_on(own.day());
        own.month.end_of_day(stored_under(&own.server, PREFIX));
        others.iter_mut().for_each(Other::day);
    }
    let mut month = std::mem::replace(&mut own.month, Month::new("sealift"));
    end(&mut month, &own.server, || runtime.block_on(own.restore()));
    month.print();
    for mut other in others {
        let mut month = std::mem::replace(&mut other.month, Month::new(other.rival.name));
        end(&mut month, &other.server, || other.does(Work::Restore));
        month.print();
    }
}

impl Month {
    fn new(name: &'static str) -> Self {
        let (first_bytes, last_bytes, most_bytes, restore_megabytes) = Default::default();
        Self { name, first_bytes, last_bytes, most_bytes, requests: Vec::new(), restore_megabytes }
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
            "{:<8} first {:>8.1} MB  last {:>8.1} MB  most {:>8.1} MB  restore {:>8.1} MB  {total:>5} requests ({})",
            self.name,
            self.first_bytes as f64 / 1e6,
            self.last_bytes as f64 / 1e6,
            self.most_bytes as f64 / 1e6,
            self.restore_megabytes,
            requests.join(", ")
        );
    }
}

/// sealift, in this process.
struct Own {
    folder: PathBuf,
    database: PathBuf,
    clock: Arc<VirtualClock>,
    server: Minio,
    store: Arc<dyn Store>,
    recipients: Vec<Recipient>,
    month: Month,
}

impl Own {
    async fn begin(folder: &Path, database: &Path, server: Minio) -> Self {
        let folder = folder.join("sealift");
        std::fs::create_dir(&folder).unwrap();
        let clock = VirtualClock::at("2025-01-01T03:00:00Z".parse().unwrap());
        let bucket = sealift::store::open(&server.url(PREFIX), &server.settings()).await.unwrap();
        let store: Arc<dyn Store> = Dated::new(bucket, Arc::clone(&clock));
        let new_identity = NewIdentity { path: folder.join("identity.txt"), passphrase: None };
        let (recipients, new_identity) = (Vec::new(), Some(new_identity));
        let request = InitRequest { recipients, new_identity, single_writer: false };
        let (made, _) = init(&store, PREFIX, &folder, request).await.unwrap();
        let recipients = made.recipients.iter().map(|text| Recipient::parse(text).unwrap()).collect();
        let (database, month) = (database.to_owned(), Month::new("sealift"));
        Self { folder, database, clock, server, store, recipients, month }
    }

    /// As each run of the program begins.
    async fn remote(&self) -> Remote {
        Remote::open(Arc::clone(&self.store), PREFIX).await.unwrap()
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
            replace: Vec::new(),
            retention: Some(policy()),
        };
        let remote = self.remote().await;
        backup(&remote, &self.folder.join(remote.id().as_str()), request, Arc::new(Unwatched)).await.unwrap();
        self.clock.advance(SignedDuration::from_mins(5));
        let request = RetainRequest { rules: Some(policy()), apply: true, ..RetainRequest::default() };
        retain(&self.remote().await, &self.reader(), &request).await.unwrap();
        self.clock.advance(SignedDuration::from_hours(24) - SignedDuration::from_mins(5));
    }

    fn reader(&self) -> Reader {
        let bytes = std::fs::read(self.folder.join("identity.txt")).unwrap();
        let identity = IdentityFile::parse(&bytes, "identity.txt", &Unprompted).unwrap();
        Reader { identities: vec![identity], state_root: self.folder.clone(), ..Reader::default() }
    }

    async fn restore(&self) {
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
        restore(&self.remote().await, request, Arc::new(Unwatched)).await.unwrap();
        assert!(same(&self.database, &target.join("trinity.db")), "the restored database differs");
    }
}

/// A rival, with a server of its own.
struct Other {
    rival: &'static Rival,
    folder: PathBuf,
    database: PathBuf,
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
}

/// What the server counted so far, whoever asked: requests for objects and listings by their kind, and the
/// megabytes that it sent. The listings of this bench, one a day, are taken off.
fn counted(server: &Minio) -> (Vec<(String, u64)>, f64) {
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
    let sent = text.lines().find_map(|line| {
        let (_, bytes) = line.strip_prefix("minio_s3_traffic_sent_bytes{")?.split_once("} ")?;
        Some(bytes.parse::<f64>().ok()? / 1e6)
    });
    (counts.filter(|(_, count)| *count > 0).collect(), sent.expect("a count of bytes"))
}

/// Counts the month, and then what a restore sends.
fn end(month: &mut Month, server: &Minio, restore: impl FnOnce()) {
    let (requests, before) = counted(server);
    month.requests = requests;
    restore();
    month.restore_megabytes = counted(server).1 - before;
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn policy() -> Retention {
    Retention { keep_last: Some(14), ..Retention::default() }
}
