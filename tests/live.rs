//! The main job, on databases that another process writes to all the time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use tokio::runtime::Runtime;

#[path = "support/live.rs"]
mod live;
mod support;
#[path = "support/trinity.rs"]
mod trinity;

use live::{Entry, Host, Place, application_user, document, have, listing};
use support::Server;
use support::minio::Minio;
use support::s3s::S3s;

fn megabytes() -> u32 {
    std::env::var("SEALIFT_TEST_MB").map_or(60, |text| text.parse().expect("SEALIFT_TEST_MB is a number"))
}

fn writer(part: &str, database: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/writer.py")).arg(part).arg(database);
    command.args(more).arg(application_user().to_string());
    command
}

/// The application, in a process of its own. Ended when dropped.
struct Writer {
    child: Child,
    commands: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Writer {
    /// Makes the database as its owner would.
    fn make(database: &Path, journal_mode: &str) {
        let status = writer("make", database, &[journal_mode, &megabytes().to_string()]).status();
        assert!(status.expect("python3 starts").success());
    }

    fn start(database: &Path) -> Self {
        let mut child = writer("write", database, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut writer = Self { child, commands, said };
        assert_eq!(writer.hear(), "writing\n");
        writer
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Commits, and the longest wait for one.
    fn stop(mut self) -> Value {
        self.tell("stop");
        let figures = serde_json::from_str(&self.hear()).expect("its figures");
        assert!(self.child.wait().unwrap().success());
        figures
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `writer.py` promises at every instant; the number of commits that the copy shows.
fn assert_of_one_instant(database: &Path) -> i64 {
    let connection = Connection::open(database).unwrap();
    let number = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    let verdict: String = connection.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    assert_eq!(number("select (select sum(amount) from \"left\") + (select sum(amount) from \"right\")"), 0);
    assert_eq!(number("select 4 * sum(amount) from ledger"), number("select sum(amount) from \"left\""));
    assert_eq!(number("select count(*) from ledger"), number("select commits from state"));
    number("select commits from state")
}

/// Backs up while the application writes, vacuums in the middle, and restores each snapshot.
fn a_live_database_comes_back(place: Place, journal_mode: &str) {
    let host = Host::with_place(place);
    let (database, environment) = (host.source("trinity.db"), host.source(".env"));
    fs::write(&environment, "SECRET_KEY='a $ecret'\n").unwrap();
    fs::set_permissions(&environment, fs::Permissions::from_mode(0o600)).unwrap();
    host.give_sources_away();
    Writer::make(&database, journal_mode);
    let before = listing(&host.path("source"));
    let mut writer = Writer::start(&database);
    let init = host.init(&["trinity.db"], &[".env"]);
    let (first, second) = (host.backup(), host.backup());
    let third = backup_with_vacuum(&host, &mut writer);
    assert_belongs_to_the_application(&host.path("source"));
    let figures = writer.stop();
    assert_eq!(listing(&host.path("source")), before);
    for (what, report) in [("first", first), ("second", second), ("with VACUUM", third)] {
        println!("{journal_mode}, {what}: stored {}, hold {} s", report["stored_bytes"], report["writer_hold_seconds"]);
    }
    println!("{journal_mode}, {} MB, the writer: {figures}", megabytes());
    assert_eq!(above_notes(&init), ["single-recipient"], "{init}");
    let mut commits = 0;
    for snapshot in ["1", "2", "3"] {
        let target = host.restore(snapshot, &format!("restored-{snapshot}"));
        let now = assert_of_one_instant(&target.join("trinity.db"));
        assert!(now > commits, "each snapshot shows a later instant");
        commits = now;
        assert_eq!(fs::read(target.join(".env")).unwrap(), fs::read(&environment).unwrap());
        assert_eq!(fs::metadata(target.join(".env")).unwrap().mode() & 0o7777, 0o600);
    }
    assert_harmless_while_no_process_has_it_open(&host, &database, &before);
}

/// The codes of warnings and problems.
fn above_notes(document: &Value) -> Vec<&str> {
    let findings = document["warnings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "note");
    findings.map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// A reader of a WAL database that is the only one leaves an empty log behind; the application takes it away.
fn assert_harmless_while_no_process_has_it_open(host: &Host, database: &Path, before: &[Entry]) {
    let folder = host.path("source");
    host.backup();
    assert_belongs_to_the_application(&folder);
    let added: Vec<Entry> = listing(&folder).into_iter().filter(|entry| !before.contains(entry)).collect();
    for (name, _, _, mode) in &added {
        assert!(["trinity.db-wal", "trinity.db-shm"].contains(&name.as_str()), "{name}");
        assert_eq!(*mode, fs::metadata(database).unwrap().mode());
    }
    assert!(fs::metadata(host.source("trinity.db-wal")).map_or(0, |log| log.len()) == 0, "no log of ours");
    Writer::start(database).stop();
    assert_eq!(listing(&folder), before);
}

fn assert_belongs_to_the_application(folder: &Path) {
    for (name, user, group, _) in listing(folder) {
        assert_eq!(user, application_user(), "the owner of {name}");
        assert!(!live::is_root() || group == application_user(), "the group of {name}");
    }
}

/// A backup that has come as far as `phase`, and its progress to hold on to.
fn start_backup(host: &Host, phase: &str) -> (Child, BufReader<ChildStderr>) {
    let mut command = host.command(&["backup", "--json"]);
    let mut backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = BufReader::new(backup.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(phase) {
        line.clear();
        assert!(progress.read_line(&mut line).unwrap() > 0, "the backup ended before it was {phase}");
    }
    (backup, progress)
}

/// A backup during which the application runs VACUUM.
fn backup_with_vacuum(host: &Host, writer: &mut Writer) -> Value {
    let (backup, mut progress) = start_backup(host, "reading");
    writer.tell("vacuum");
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    let mut output = backup.wait_with_output().unwrap();
    output.stderr = rest.into_bytes();
    assert_eq!(writer.hear(), "vacuumed\n");
    document(&["backup"], &output)
}

/// An S3 server: MinIO where there is one, else `s3s-fs`.
fn with_s3(run: impl FnOnce(Place)) {
    let runtime = Runtime::new().unwrap();
    let server: Box<dyn Server> = runtime.block_on(async {
        match Minio::start().await {
            Some(minio) => Box::new(minio) as Box<dyn Server>,
            None => Box::new(S3s::start().await),
        }
    });
    let environment = vec![
        ("AWS_ENDPOINT_URL", server.endpoint().to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", server.access_key_id().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", server.secret_access_key().to_owned()),
    ];
    run(Place { url: server.url("live").to_string(), environment });
}

fn in_a_directory(run: impl FnOnce(Place)) {
    let scratch = tempfile::tempdir().unwrap();
    run(Place::directory(&scratch.path().join("repository")));
}

#[test]
fn a_live_rollback_database_comes_back_from_a_directory() {
    if have(&["python3"]) {
        in_a_directory(|place| a_live_database_comes_back(place, "delete"));
    }
}

#[test]
fn a_live_wal_database_comes_back_from_a_directory() {
    if have(&["python3"]) {
        in_a_directory(|place| a_live_database_comes_back(place, "wal"));
    }
}

#[test]
fn a_live_rollback_database_comes_back_from_s3() {
    if have(&["python3"]) {
        with_s3(|place| a_live_database_comes_back(place, "delete"));
    }
}

#[test]
fn a_live_wal_database_comes_back_from_s3() {
    if have(&["python3"]) {
        with_s3(|place| a_live_database_comes_back(place, "wal"));
    }
}

/// Pages that differ between two copies of one length or another.
fn changed_pages(before: &[u8], after: &[u8]) -> usize {
    let grown = after.chunks(4096).count().saturating_sub(before.chunks(4096).count());
    grown + before.chunks(4096).zip(after.chunks(4096)).filter(|(before, after)| before != after).count()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn a_second_backup_stores_what_changed_and_no_more() {
    let host = Host::local();
    let trinity = trinity::generate(&host.path("source"), megabytes(), 5);
    host.init(&["trinity.db"], &[".env"]);
    let connection = Connection::open(&trinity.database).unwrap();
    trinity::a_days_use(&connection, 6);
    let first = number(&host.backup()["stored_bytes"]);

    let unchanged = host.backup();
    assert_eq!(unchanged["unchanged"], true);
    let requests = &unchanged["requests"];
    assert_eq!((number(&requests["create"]), number(&requests["put"])), (1, 0), "an unchanged source puts its record");

    let before = fs::read(&trinity.database).unwrap();
    let touch =
        "update agent_schedules set last_run_at = 'now'; insert into audit_log values (null, 'a', 'b', 'c', 'd', 'e')";
    connection.execute_batch(touch).unwrap();
    let pages = changed_pages(&before, &fs::read(&trinity.database).unwrap()) as u64;
    let small = host.backup();
    let manifest = manifest_bytes(&host, number(&small["sequence"]));
    let blocks = number(&small["stored_bytes"]) - manifest;
    println!("small change: {pages} pages, stored {blocks} bytes and a manifest of {manifest}");
    assert!((1..40).contains(&pages));
    assert!(blocks <= pages * 4096 + 1024, "{pages} pages became {blocks} bytes");

    connection.execute_batch("vacuum").unwrap();
    let vacuumed = number(&host.backup()["stored_bytes"]);
    println!("first {first} bytes, after VACUUM {vacuumed}: {:.1} %", vacuumed as f64 * 100.0 / first as f64);
    assert!(vacuumed * 20 <= first, "VACUUM made {vacuumed} of {first} bytes new");
    let target = host.restore("latest", "restored");
    assert!(fs::read(target.join("trinity.db")).unwrap() == fs::read(&trinity.database).unwrap());
}

fn manifest_bytes(host: &Host, sequence: u64) -> u64 {
    let record = fs::read(host.repository().join(format!("snapshots/{sequence:010}.record"))).unwrap();
    let line = record.split(|byte| *byte == b'\n').next().unwrap();
    number(&serde_json::from_slice::<Value>(line).unwrap()["manifest"]["bytes"])
}

/// Overwrites in place, as `cp` does: no lock, no rename.
fn copy_over(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

fn rename_over(from: &Path, to: &Path) {
    let new = to.with_extension("new");
    fs::copy(from, &new).unwrap();
    fs::rename(new, to).unwrap();
}

/// Two states of one database, of equal age to SQLite: the same change counter, half of the pages different.
fn two_states(host: &Host) -> [PathBuf; 2] {
    let states = [host.path("one.db"), host.path("other.db")];
    let connection = Connection::open(&states[0]).unwrap();
    let sql = "create table t (id integer primary key, body blob);
               with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
                 insert into t (body) select randomblob(5000) from n";
    connection.execute_batch(sql).unwrap();
    fs::copy(&states[0], &states[1]).unwrap();
    connection.execute_batch("update t set body = randomblob(5000) where id % 2 = 0").unwrap();
    let other = Connection::open(&states[1]).unwrap();
    other.execute_batch("update t set body = randomblob(5000) where id % 2 = 1").unwrap();
    let counter = |path: &Path| fs::read(path).unwrap()[24..28].to_vec();
    assert_eq!(counter(&states[0]), counter(&states[1]));
    states
}

/// What came of ten backups, each with the database replaced at another moment of it.
#[derive(Debug, Default)]
struct Outcomes {
    /// Replaced while the backup ran, and not before or after.
    in_the_middle: u32,
    before: u32,
    after: u32,
    without_snapshot: u32,
    /// Called damaged or unchecked.
    doubted: u32,
}

fn replaced_in_the_middle(replace: fn(&Path, &Path)) -> Outcomes {
    let host = Host::local();
    let (states, database) = (two_states(&host), host.source("a.db"));
    fs::copy(&states[0], &database).unwrap();
    host.init(&["a.db"], &[]);
    host.backup();
    let [before, after] = states.each_ref().map(|path| fs::read(path).unwrap());
    let mut outcomes = Outcomes::default();
    for round in 0..10_u32 {
        // A fresh copy, so that the backup has to read all of it.
        copy_over(&states[0], &database);
        let (mut backup, _progress) = start_backup(&host, ["reading", "fixing"][round as usize % 2]);
        std::thread::sleep(Duration::from_millis(5 * u64::from(round)));
        replace(&states[1], &database);
        outcomes.in_the_middle += u32::from(backup.try_wait().unwrap().is_none());
        let output = backup.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer: Value = serde_json::from_str(&said).expect("one JSON document");
        if output.status.code() == Some(1) {
            println!("without one: {said}");
            outcomes.without_snapshot += 1;
            continue;
        }
        // 3: its health was checked a moment later, in the middle of the copy.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
        let target = host.path(&format!("restored-{round}"));
        let (sequence, identity) = (answer["sequence"].to_string(), host.identity());
        let restore = ["restore", &sequence, "-i", identity.to_str().unwrap(), "--to", target.to_str().unwrap()];
        assert_eq!(host.run(&restore).status.code(), output.status.code());
        let restored = fs::read(target.join("a.db")).unwrap();
        assert!(restored == before || restored == after, "round {round}: a mixture: {said}");
        outcomes.before += u32::from(restored == before);
        outcomes.after += u32::from(restored == after);
        outcomes.doubted += u32::from(answer["health"][0] != "ok");
    }
    println!("{outcomes:?}");
    assert!(outcomes.in_the_middle >= 4, "{outcomes:?}");
    outcomes
}

#[test]
fn a_copy_over_the_database_in_the_middle_gives_one_state_or_the_other() {
    replaced_in_the_middle(copy_over);
}

#[test]
fn a_rename_over_the_database_in_the_middle_never_stops_a_backup_of_one_state_or_the_other() {
    assert_eq!(replaced_in_the_middle(rename_over).without_snapshot, 0);
}
