//! The steps, in their order.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::super::failure::{FAILED, Failure};
use super::child::{Done, Host, Running};
use super::scratch::Scratch;
use super::telling::Telling;
use super::writer::Tally;

pub struct Story {
    pub telling: Telling,
    pub(super) running: Running,
    pub(super) root: PathBuf,
    pub(super) host: Host,
    pub(super) fresh: Host,
    /// What the first backup stored: the measure of the later ones.
    pub(super) first: u64,
    /// The longest commit during any backup, and all commits then.
    pub(super) commits: Tally,
}

impl Story {
    pub fn new(root: &Path, running: Running, telling: Telling) -> Self {
        let host = |name: &'static str| Host {
            name,
            dir: root.join(name),
            state: root.join(name).join("state"),
            running: running.clone(),
        };
        let (live, fresh) = (host("host"), host("fresh"));
        Self { telling, running, root: root.to_owned(), host: live, fresh, first: 0, commits: Tally::default() }
    }

    pub fn tell(&mut self) -> Result<(), Failure> {
        self.telling.lines(["A live database, backed up, vacuumed, and brought back on a fresh host".to_owned()])?;
        self.make_host()?;
        self.init()?;
        self.first_backup()?;
        self.a_day_later()?;
        self.after_vacuum()?;
        self.at_rest()?;
        self.restore()?;
        self.wrong_identity()?;
        self.telling.show_proofs()
    }

    /// Runs a command that must succeed, on the live host or on the fresh one.
    pub(super) fn run(&mut self, live: bool, line: &str) -> Result<Done, Failure> {
        let arguments = split(line);
        let host = if live { &self.host } else { &self.fresh };
        self.telling.command(host, &arguments)?;
        let done = host.sealift(&arguments)?;
        self.telling.done(host, &arguments, &done);
        if done.code == 0 {
            return Ok(done);
        }
        let command = arguments.first().map_or("", String::as_str);
        Err(Failure::new(FAILED, format!("`sealift {command}` ended with {}: {}", done.code, done.error())))
    }

    pub(super) fn database(&self) -> PathBuf {
        self.host.dir.join("trinity.db")
    }

    pub(super) fn query<T>(
        &self,
        path: &Path,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        self.running.check()?;
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|connection| ask(&connection))
            .map_err(|error| broken(path, error))
    }
}

/// What to type for a real installation.
pub fn next_steps(scratch: &Scratch) -> Vec<String> {
    let mut lines = vec![String::new()];
    if scratch.is_kept() {
        lines.push(format!("All of it is in {}", scratch.path().display()));
        lines.push(String::new());
    }
    let steps = [
        "\x1b[1mNext, on your host\x1b[0m",
        "  \x1b[36msealift init --repository s3://bucket/prefix -r age1... \\\x1b[0m",
        "      \x1b[36m--database /srv/trinity/trinity.db --file /srv/trinity/.env\x1b[0m",
        "  \x1b[36msealift backup\x1b[0m",
        "and on the day you need it, anywhere",
        "  \x1b[36msealift restore --repository s3://bucket/prefix -i key.txt --to DIR\x1b[0m",
    ];
    lines.extend(steps.map(str::to_owned));
    lines
}

pub fn split(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| broken(path, error))
}

pub fn broken(what: impl AsRef<Path>, error: impl std::fmt::Display) -> Failure {
    Failure::new(FAILED, format!("{}: {error}", what.as_ref().display()))
}
