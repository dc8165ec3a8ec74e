//! The benchmark: one command that makes a Trinity-shaped database, backs it up through its day, restores it, and
//! prints what each step cost, beside the rivals that are installed.
//!
//! ```text
//! cargo bench --bench trinity -- [--mb 500] [--wal] [--no-writer] [--level N] [--directory] [--rivals] [--turns N]
//!                              [--month]
//! ```
//! With `--turns` only the first backup and the restore are measured, N times each, sealift and the rivals taking turns on
//! an idle database, and medians are printed: of the restore also the time until its files are on the disk, which
//! sealift waits for and others leave to the kernel.
//!
//! With `SEALIFT_TEST_MINIO` naming a MinIO binary the repository is in a bucket on loopback; otherwise, and with
//! `--directory`, in a directory. `--month` makes thirty daily backups instead, see `month.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod dated;
mod measure;
mod month;
mod rivals;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/trinity.rs"]
mod trinity;
mod writer;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use measure::{Cost, run, run_settled, settle};
use rivals::{Place, RIVALS, Rival, Work};
use rusqlite::Connection;
use support::Server;
use support::minio::Minio;
use writer::{Application, Waits};

/// Databases up to this size are held in memory twice, to find the pages that a day changes.
const COMPARABLE_BYTES: u64 = 4 << 30;

struct Options {
    megabytes: u32,
    wal: bool,
    writer: bool,
    level: Option<String>,
    directory: bool,
    rivals: bool,
    turns: Option<usize>,
    month: bool,
}

impl Options {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let has = |flag: &str| words.iter().any(|word| word == flag);
        let value = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)).cloned();
        Self {
            megabytes: value("--mb").and_then(|mb| mb.parse().ok()).unwrap_or(500),
            wal: has("--wal"),
            writer: !has("--no-writer"),
            level: value("--level"),
            directory: has("--directory"),
            rivals: has("--rivals"),
            turns: value("--turns").and_then(|turns| turns.parse().ok()),
            month: has("--month"),
        }
    }
}

/// Where everything lies, and how sealift is called.
struct Bench {
    options: Options,
    folder: tempfile::TempDir,
    database: PathBuf,
    server: Option<Minio>,
}

impl Bench {
    fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let database = trinity::generate(&source, options.megabytes, 1).database;
        if options.wal {
            Connection::open(&database).unwrap().pragma_update(None, "journal_mode", "wal").unwrap();
        }
        let server =
            if options.directory { None } else { tokio::runtime::Runtime::new().unwrap().block_on(Minio::start()) };
        Self { options, folder, database, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn repository(&self) -> String {
        match &self.server {
            Some(server) => server.url("bench").to_string(),
            None => self.path("repository").display().to_string(),
        }
    }

    fn sealift(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command.args(words).arg("--json").arg("--no-progress").arg("--state-dir").arg(self.path("state"));
        if let Some(server) = &self.server {
            command
                .args(["--s3-endpoint", server.endpoint()])
                .env("AWS_ACCESS_KEY_ID", server.access_key_id())
                .env("AWS_SECRET_ACCESS_KEY", server.secret_access_key());
        }
        command
    }

    fn init(&self) {
        let (config, identity) = (self.path("sealift.toml"), self.path("identity.txt"));
        let environment = self.path("source").join(".env");
        let mut command = self.sealift(&["init", "--repository", &self.repository(), "--no-passphrase"]);
        command.arg("--config").arg(config).arg("--new-identity").arg(identity);
        command.arg("--database").arg(&self.database).arg("--file").arg(environment);
        check("init", &run(&mut command));
    }

    fn backup_command(&self) -> Command {
        let mut command = self.sealift(&["backup"]);
        command.arg("--config").arg(self.path("sealift.toml"));
        if let Some(level) = &self.options.level {
            command.args(["--compression", level]);
        }
        command
    }

    fn backup(&self, step: &str, with_writer: bool) {
        let mut command = self.backup_command();
        settle();
        let application =
            (with_writer && self.options.writer).then(|| Application::start(&self.database, Duration::from_millis(10)));
        let cost = run(&mut command);
        print_row(step, &cost, application.map(Application::stop));
    }

    fn restore_command(&self) -> Command {
        let mut command = self.sealift(&["restore", "--repository", &self.repository()]);
        command.arg("-i").arg(self.path("identity.txt")).arg("--to").arg(self.path("restored"));
        command
    }

    fn restore(&self) {
        let target = self.path("restored");
        let cost = run_settled(&mut self.restore_command());
        print_row("restore", &cost, None);
        let pragma = if self.options.wal { "pragma wal_checkpoint(truncate)" } else { "pragma user_version" };
        let _ = Connection::open(&self.database).unwrap().query_row(pragma, [], |_| Ok(()));
        assert!(same(&self.database, &target.join("trinity.db")), "the restored database differs");
    }

    /// The rivals that take part: those that are installed, where there is a bucket.
    fn rivals(&self) -> Vec<&'static Rival> {
        let wanted = self.options.rivals && self.server.is_some();
        RIVALS.iter().filter(|rival| wanted && rival.is_installed()).collect()
    }

    fn rival_does(&self, rival: &Rival, work: Work) -> Cost {
        let variables = self.server.as_ref().map_or_else(Vec::new, |server| variables(server).to_vec());
        let place = Place { folder: self.folder.path(), database: &self.database, variables: &variables };
        let cost = run_settled(&mut rival.command(work, &place));
        check(rival.name, &cost);
        cost
    }

    fn rivals_do(&self, step: &str, work: Work) {
        let Some(server) = &self.server else { return };
        for rival in self.rivals() {
            let before = stored_under(server, rival.name);
            let cost = self.rival_does(rival, work);
            let stored = stored_under(server, rival.name) - before;
            println!(
                "  {:<12} {:>8.2} {:>8} {:>9} {:>10.2}   ({step})",
                rival.name,
                cost.wall.as_secs_f64(),
                "",
                "",
                stored as f64 / 1e6
            );
        }
    }

    /// First backup and restore, into an empty bucket each time, everybody in turn.
    fn take_turns(&self, turns: usize) {
        let mut sealift = Turns::default();
        let mut rivals: Vec<(&Rival, Turns)> =
            self.rivals().into_iter().map(|rival| (rival, Turns::default())).collect();
        for _ in 0..turns {
            for name in ["state", "restored", "sealift.toml", "identity.txt"] {
                self.remove(name);
            }
            self.empty("bench");
            self.init();
            let first = run_settled(&mut self.backup_command());
            let restore = run_settled(&mut self.restore_command());
            sealift.add(&first, &restore, &run(&mut to_disk(&self.path("restored"))));
            sealift.stored = self.stored("bench");
            for (rival, turns) in &mut rivals {
                self.remove(rival.name);
                self.empty(rival.name);
                self.rival_does(rival, Work::Setup);
                let first = self.rival_does(rival, Work::Backup);
                let restore = self.rival_does(rival, Work::Restore);
                turns.add(&first, &restore, &run(&mut to_disk(&self.path(rival.name).join("back"))));
                turns.stored = self.stored(rival.name);
            }
        }
        println!("{:<10} {:>8} {:>8} {:>8} {:>10}   medians of {turns}", "", "first s", "restore", "on disk", "MB");
        sealift.print("sealift", &sealift);
        for (rival, turns) in &rivals {
            turns.print(rival.name, &sealift);
        }
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        let _ = std::fs::remove_dir_all(&path);
        let _ = std::fs::remove_file(&path);
    }

    fn stored(&self, prefix: &str) -> u64 {
        self.server.as_ref().map_or(0, |server| stored_under(server, prefix))
    }

    /// Deletes all objects under a prefix.
    fn empty(&self, prefix: &str) {
        self.remove("repository");
        let Some(server) = &self.server else { return };
        let emptying = async {
            let store = sealift::store::open(&server.url(prefix), &server.settings()).await.unwrap();
            for object in store.list("").await.unwrap().objects {
                store.delete(&object.key).await.unwrap();
            }
        };
        tokio::runtime::Runtime::new().unwrap().block_on(emptying);
    }

    fn change(&self, change: impl FnOnce(&Connection)) {
        change(&Connection::open(&self.database).unwrap());
    }
}

/// Brings what was restored into `folder` to the disk.
fn to_disk(folder: &Path) -> Command {
    let mut command = Command::new("find");
    command.arg(folder).args(["-type", "f", "-exec", "sync", "{}", "+"]);
    command
}

/// What the turns of one tool took, and what lay in the bucket after the last of them.
#[derive(Default)]
struct Turns {
    first: Vec<Duration>,
    restore: Vec<Duration>,
    on_disk: Vec<Duration>,
    stored: u64,
}

impl Turns {
    fn add(&mut self, first: &Cost, restore: &Cost, to_disk: &Cost) {
        for (step, cost) in [("first", first), ("restore", restore), ("to disk", to_disk)] {
            check(step, cost);
        }
        self.first.push(first.wall);
        self.restore.push(restore.wall);
        self.on_disk.push(restore.wall + to_disk.wall);
    }

    fn medians(&self) -> [f64; 3] {
        [&self.first, &self.restore, &self.on_disk].map(|times| median(times))
    }

    fn print(&self, name: &str, sealift: &Self) {
        let (own, [first, restore, on_disk]) = (sealift.medians(), self.medians());
        println!(
            "{name:<10} {first:>8.2} {restore:>8.2} {on_disk:>8.2} {:>10.2}   sealift takes {:.2}, {:.2} and {:.2} of it",
            self.stored as f64 / 1e6,
            own[0] / first,
            own[1] / restore,
            own[2] / on_disk,
        );
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// How a rival finds its bucket.
fn variables(server: &Minio) -> [(&'static str, String); 6] {
    [
        ("ENDPOINT", server.endpoint().to_owned()),
        ("BUCKET", server.bucket().to_owned()),
        ("AWS_ACCESS_KEY_ID", server.access_key_id().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", server.secret_access_key().to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("RESTIC_REPOSITORY", format!("s3:{}/{}/restic", server.endpoint(), server.bucket())),
    ]
}

fn same(a: &Path, b: &Path) -> bool {
    Command::new("cmp").arg("-s").arg(a).arg(b).status().unwrap().success()
}

/// Bytes of all objects under a prefix of the server's bucket.
fn stored_under(server: &Minio, prefix: &str) -> u64 {
    let listing = async {
        let store = sealift::store::open(&server.url(prefix), &server.settings()).await.unwrap();
        store.list("").await.unwrap()
    };
    let listing = tokio::runtime::Runtime::new().unwrap().block_on(listing);
    listing.objects.iter().map(|object| object.bytes).sum()
}

/// What the changed pages alone come to with `zstd -3`: the yardstick for a day's backup.
fn print_changed_pages(before: &[u8], after: &[u8]) {
    let page = 4096;
    let changed: Vec<&[u8]> = after
        .chunks(page)
        .enumerate()
        .filter(|(at, bytes)| before.get(at * page..(at + 1) * page) != Some(*bytes))
        .map(|(_, bytes)| bytes)
        .collect();
    let compressed = zstd::encode_all(changed.concat().as_slice(), 3).unwrap();
    println!(
        "  changed pages {} of {}; zstd -3 of them: {:.2} MB",
        changed.len(),
        after.len() / page,
        compressed.len() as f64 / 1e6
    );
}

fn check(step: &str, cost: &Cost) {
    let error = String::from_utf8_lossy(&cost.output.stdout);
    assert!(cost.output.status.success(), "{step}: {error} {}", String::from_utf8_lossy(&cost.output.stderr));
}

fn print_row(step: &str, cost: &Cost, waits: Option<Waits>) {
    check(step, cost);
    let json: serde_json::Value = serde_json::from_slice(&cost.output.stdout).unwrap();
    let bytes = json["stored_bytes"].as_u64().or_else(|| json["downloaded_bytes"].as_u64()).unwrap_or(0);
    let waits = waits.map_or(String::new(), |waits| {
        format!(
            "{:>8.0} {:>8.0} {:>8}",
            waits.commit.as_secs_f64() * 1e3,
            waits.read.as_secs_f64() * 1e3,
            waits.commits
        )
    });
    println!(
        "{step:<14} {:>8.2} {:>8.2} {:>9.1} {:>10.2} {:>6} {:>7.3} {waits}",
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.own_memory as f64 / 1048576.0,
        bytes as f64 / 1e6,
        json["requests"].as_object().map_or(0, |r| r.values().filter_map(serde_json::Value::as_u64).sum()),
        json["writer_hold_seconds"].as_f64().unwrap_or(0.0),
    );
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let options = Options::read();
    if options.month {
        return month::run_month(options.megabytes, options.rivals);
    }
    let bench = Bench::new(options);
    let bytes = std::fs::metadata(&bench.database).unwrap().len();
    let mode = if bench.options.wal { "WAL" } else { "DELETE" };
    println!("database {:.1} MB, {mode} mode, repository {}", bytes as f64 / 1e6, bench.repository());
    if let Some(turns) = bench.options.turns {
        return bench.take_turns(turns);
    }
    println!(
        "{:<14} {:>8} {:>8} {:>9} {:>10} {:>6} {:>7} {:>8} {:>8} {:>8}",
        "step", "wall s", "cpu s", "own MiB", "MB", "reqs", "hold s", "commit", "read ms", "commits"
    );
    bench.init();
    bench.rivals_do("setup", Work::Setup);
    bench.backup("first", true);
    bench.backup("settle", false);
    bench.rivals_do("first", Work::Backup);
    bench.backup("unchanged", false);
    bench.rivals_do("unchanged", Work::Backup);
    let before = (bytes < COMPARABLE_BYTES).then(|| std::fs::read(&bench.database).unwrap());
    bench.change(|connection| trinity::a_days_use(connection, 7));
    bench.backup("a day's use", false);
    if let Some(before) = before {
        print_changed_pages(&before, &std::fs::read(&bench.database).unwrap());
    }
    bench.rivals_do("a day's use", Work::Backup);
    bench.change(|connection| connection.execute_batch("vacuum").unwrap());
    bench.backup("after VACUUM", false);
    bench.rivals_do("after VACUUM", Work::Backup);
    bench.backup("busy again", true);
    bench.backup("settle", false);
    bench.restore();
    bench.rivals_do("restore", Work::Restore);
}
