//! What the source room's tests share: scratch databases, whole copies, and an application in a process of its own.

#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use sealift::source::{Database, DatabaseView, ReadLimits, SourceError};

pub const APPLICATION: u32 = 1000;
pub const STRANGER: u32 = 1001;

pub fn limits(busy_ms: u64) -> ReadLimits {
    ReadLimits { busy: Duration::from_millis(busy_ms) }
}

pub fn open(path: &Path) -> Database {
    Database::open(path, &limits(5_000)).unwrap()
}

/// All pages of one view.
pub fn all(view: &DatabaseView<'_>) -> Vec<u8> {
    let mut pages = vec![0xee; usize::try_from(view.bytes()).unwrap()];
    view.read(1, &mut pages).unwrap();
    pages
}

/// All pages of one confirmed transaction.
pub fn copy(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut database = Database::open(path, &limits(5_000))?;
    let view = database.begin()?;
    let pages = all(&view);
    view.finish().map(|_| pages)
}

/// Puts a copy into a file and opens it, as a restore would.
pub fn restored(folder: &Path, pages: &[u8]) -> Connection {
    let path = folder.join("restored.db");
    fs::write(&path, pages).unwrap();
    Connection::open(&path).unwrap()
}

/// A table `t` with `rows` rows of about 500 bytes, that differ.
pub fn fill(connection: &Connection, rows: u32) {
    connection.execute_batch("create table if not exists t (id integer primary key, body text)").unwrap();
    let insert = "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?1)
                  insert into t (body) select printf('%d-%.480c', i, 'x') from n";
    connection.execute(insert, [rows]).unwrap();
}

/// A database in rollback mode with something in it.
pub fn sample(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    fill(&connection, 100);
    connection
}

/// Sets a file's mtime far back, so that any write to it shows, however coarse the clock is.
pub fn make_old(path: &Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

/// Names, owners and modes in a folder.
pub fn listing(folder: &Path) -> Vec<(String, u32, u32, u32)> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), meta.uid(), meta.gid(), meta.mode())
        })
        .collect();
    entries.sort();
    entries
}

pub fn names(folder: &Path) -> Vec<String> {
    listing(folder).into_iter().map(|entry| entry.0).collect()
}

/// Tests about owners need root, as a backup agent's container has it.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can act as several users");
    }
    root
}

/// A folder that belongs to the application's user, mode 0700.
pub fn application_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    give(folder.path(), APPLICATION, 0o700);
    folder
}

pub fn give(path: &Path, user: u32, mode: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs `f` with the rights of any user.
pub fn as_user<T: Send>(user: u32, f: impl FnOnce() -> T + Send) -> T {
    let token = tempfile::NamedTempFile::new().unwrap();
    give(token.path(), user, 0o600);
    sealift::source::as_owner_of(token.path(), f).unwrap()
}

/// Another process that works on a database. Locks belong to processes, so nothing less will do. Ended when dropped.
pub struct Application {
    child: Child,
    /// Open to the end, or its last words would end it with an error.
    _said: BufReader<ChildStdout>,
}

impl Application {
    /// Starts this test program again as [`application`] and waits until it says that it has done its part.
    pub fn start(part: &str, path: &Path) -> Self {
        Self::start_as(rustix::process::geteuid().as_raw(), part, path)
    }

    pub fn start_as(user: u32, part: &str, path: &Path) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", "source_support::application", "--nocapture"]);
        command.env("APPLICATION_PART", part).env("APPLICATION_DATABASE", path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if user != rustix::process::geteuid().as_raw() {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let ready = said.by_ref().lines().map_while(Result::ok).any(|line| line.contains("READY"));
        assert!(ready, "the application's part {part} failed");
        Self { child, _said: said }
    }

    /// Lets it finish its part and close the database.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what [`Application`] runs.
#[test]
fn application() {
    let Ok(part) = std::env::var("APPLICATION_PART") else { return };
    let path = PathBuf::from(std::env::var_os("APPLICATION_DATABASE").unwrap());
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    match part.as_str() {
        "make" => fill(&connection, 100),
        "make wal" => {
            connection.execute_batch("pragma journal_mode = wal").unwrap();
            fill(&connection, 100);
        }
        "write" => fill(&connection, 1),
        "write uncommitted" => connection.execute_batch("begin immediate; update t set body = 'changed'").unwrap(),
        "lock" => connection.execute_batch("begin exclusive").unwrap(),
        "be locked out" => {
            connection.busy_timeout(Duration::ZERO).unwrap();
            connection.execute_batch("begin exclusive").expect_err("somebody reads");
        }
        "spill" => {
            let big = "pragma cache_size = 2; pragma cache_spill = 2; begin; update t set body = body || 'changed'";
            connection.execute_batch(big).unwrap();
        }
        "hammer" => return hammer(&connection),
        other => panic!("no part {other}"),
    }
    println!("\nREADY");
    let _ = std::io::stdin().read_line(&mut String::new());
    if !connection.is_autocommit() {
        connection.execute_batch("commit").unwrap();
    }
}

/// Moves two tables in step, a thousand pages a commit, until it is ended. A torn copy has them apart.
fn hammer(connection: &Connection) {
    // No power is cut here, and without syncs it writes nearly all the time.
    connection.execute_batch("pragma synchronous = off").unwrap();
    let parent = rustix::process::getppid();
    println!("\nREADY");
    while rustix::process::getppid() == parent {
        let step = "begin immediate; update a set n = n + 1; insert into log (body) values (zeroblob(9000));
                    delete from log where id < (select max(id) from log) - 20; update b set n = n + 1; commit;";
        connection.execute_batch(step).unwrap();
    }
}

/// Whether a copy made beside the hammer is no instant of the anvil; otherwise how far the hammer had come.
pub fn step(folder: &Path, pages: &[u8]) -> Result<i64, String> {
    let connection = restored(folder, pages);
    let spread =
        "select (select min(n) from a), (select max(n) from a), (select min(n) from b), (select max(n) from b)";
    let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    let counts: [i64; 4] = connection.query_row(spread, [], read).map_err(|error| error.to_string())?;
    let integrity = connection.query_row("pragma integrity_check", [], |row| row.get::<_, String>(0));
    match integrity {
        Ok(sound) if sound == "ok" && counts.iter().all(|&n| n == counts[0]) => Ok(counts[0]),
        other => Err(format!("{counts:?} {other:?}")),
    }
}

/// Two tables of 2,000 rows and about 600 pages each, for the hammer.
pub fn anvil(path: &Path, journal_mode: &str) {
    let connection = Connection::open(path).unwrap();
    let mut schema =
        format!("pragma journal_mode = {journal_mode}; create table log (id integer primary key, body blob);");
    for table in ["a", "b"] {
        schema.push_str(&format!(
            "create table {table} (id integer primary key, n integer not null, pad blob);
             with recursive i(i) as (select 1 union all select i + 1 from i where i < 2000)
             insert into {table} select i, 0, randomblob(1000) from i;"
        ));
    }
    connection.execute_batch(&schema).unwrap();
}
