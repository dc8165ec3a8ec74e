//! The steps, in their order.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::context::SYSTEM_CONFIG;
use super::super::failure::{FAILED, Failure};
use super::super::output::human_bytes;
use super::child::{Done, Host, Running};
use super::scratch::Scratch;
use super::telling::{Telling, human_count, human_time, seconds};
use super::trinity;
use super::writer::{PATIENCE, Tally, Writer};

/// How long the application writes before a backup begins, so that its commits alone have been measured.
const WARM_UP: Duration = Duration::from_millis(400);
const NO_IDENTITY: i32 = 12;

pub struct Story {
    pub telling: Telling,
    running: Running,
    root: PathBuf,
    host: Host,
    fresh: Host,
    /// What the first backup stored: the measure of the later ones.
    first: u64,
    /// The longest commit during any backup, and all commits then.
    commits: Tally,
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

    fn make_host(&mut self) -> Result<(), Failure> {
        self.telling.step("A host with a live database in rollback-journal mode, and its .env")?;
        for dir in [&self.host.dir, &self.fresh.dir, &self.root.join("operator")] {
            crate::fsx::create_private_dir(dir).map_err(|error| broken(dir, error))?;
        }
        let (database, environment) = (self.database(), self.host.dir.join(".env"));
        trinity::make(&database, self.running.stop_flag()).map_err(|error| broken(&database, error))?;
        self.running.check()?;
        fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).map_err(|error| broken(&database, error))?;
        trinity::write_environment(&environment).map_err(|error| broken(&environment, error))?;
        let bytes = read(&database)?.len() as u64;
        let rows = self.query(&database, trinity::rows)?;
        self.telling.figure("database_bytes", bytes);
        self.telling.figure("rows", rows);
        let note = format!("{} tables, {} rows", trinity::TABLES.len(), human_count(rows));
        self.telling.fact("trinity.db", &human_bytes(bytes), &note)?;
        let bytes = read(&environment)?.len() as u64;
        self.telling.fact(".env", &human_bytes(bytes), "mode 0600, holds CREDENTIAL_ENCRYPTION_KEY")
    }

    fn init(&mut self) -> Result<(), Failure> {
        self.telling.step("A repository, and a key that only its operator keeps")?;
        let done = self.run(
            true,
            "init --config sealift.toml --repository ../repository --database trinity.db --file .env \
             --new-identity ../operator/key.txt --no-passphrase",
        )?;
        self.telling.fact("took", &human_time(done.took), "")
    }

    fn first_backup(&mut self) -> Result<(), Failure> {
        self.telling.step("The first backup, while the application commits every few milliseconds")?;
        let done = self.backup_while_writing(1)?;
        self.first = done.number("/stored_bytes")?.max(1);
        self.telling.figure("first_stored_bytes", self.first);
        self.telling.figure("first_seconds", seconds(done.took));
        Ok(())
    }

    fn a_day_later(&mut self) -> Result<(), Failure> {
        self.telling.step("A day of use: old executions go, new ones come; the writer goes on")?;
        let database = self.database();
        Connection::open(&database)
            .and_then(|mut connection| trinity::a_days_use(&mut connection))
            .map_err(|error| broken(&database, error))?;
        let done = self.backup_while_writing(2)?;
        self.later("day", &done)
    }

    fn after_vacuum(&mut self) -> Result<(), Failure> {
        self.telling.step("The nightly VACUUM renumbers the pages; the writer goes on")?;
        let database = self.database();
        let before: HashSet<blake3::Hash> = pages(&read(&database)?).collect();
        Connection::open(&database)
            .and_then(|connection| connection.execute_batch("vacuum"))
            .map_err(|error| broken(&database, error))?;
        let bytes = read(&database)?;
        let (all, new) =
            pages(&bytes).fold((0u64, 0u64), |(all, new), page| (all + 1, new + u64::from(!before.contains(&page))));
        let percent = 100.0 * new as f64 / all.max(1) as f64;
        self.telling.figure("vacuum_new_pages_percent", tenth(percent));
        let note = format!("of {} differ from every page before: what others upload", human_count(all));
        self.telling.fact("pages", &format!("{percent:.0} %"), &note)?;
        let done = self.backup_while_writing(3)?;
        self.later("vacuum", &done)?;
        let stored = done.number("/stored_bytes")?;
        let holds = stored * 20 <= self.first;
        let share = percent_of(stored, self.first);
        self.telling.proof(
            "vacuum",
            holds,
            format!("the backup after VACUUM stored {share} of the first, at most 5 %"),
        );
        Ok(())
    }

    fn at_rest(&mut self) -> Result<(), Failure> {
        self.telling.step("The application is stopped; the last backup, and one with nothing new")?;
        let done = self.run(true, "backup")?;
        self.cost(&done)?;
        let done = self.run(true, "backup")?;
        let (stored, puts) = (done.number("/stored_bytes")?, requests(&done)?);
        let unchanged = done.document["unchanged"] == true;
        self.telling.figure("unchanged_stored_bytes", stored);
        self.telling.figure("unchanged_puts", puts);
        self.cost(&done)?;
        let text = format!("an unchanged backup stores one record of {}", human_bytes(stored));
        self.telling.proof("unchanged", unchanged && puts == 1, text);
        Ok(())
    }

    fn restore(&mut self) -> Result<(), Failure> {
        self.telling.step("A fresh host: nothing but the key and the repository's URL")?;
        self.restore_while_writing()?;
        let done = self
            .run(false, &format!("restore {}--repository ../repository -i ../operator/key.txt --to latest", plain()))?;
        self.downloaded(&done)?;
        let there = self.fresh.dir.join("latest");
        let same =
            |name: &str| -> Result<bool, Failure> { Ok(read(&self.host.dir.join(name))? == read(&there.join(name))?) };
        let (database, environment) = (same("trinity.db")?, same(".env")?);
        let mode =
            fs::metadata(there.join(".env")).map_err(|error| broken(&there, error))?.permissions().mode() & 0o7777;
        self.telling.proof("identical", database, "the last snapshot's trinity.db is the live file, byte for byte");
        let text = format!(".env is the live file, byte for byte, mode {mode:04o}");
        self.telling.proof("environment", environment && mode == 0o600, text);
        Ok(())
    }

    /// The first snapshot: the one where a torn copy would show.
    fn restore_while_writing(&mut self) -> Result<(), Failure> {
        let done = self.run(
            false,
            &format!("restore 1 {}--repository ../repository -i ../operator/key.txt --to first", plain()),
        )?;
        self.downloaded(&done)?;
        let database = self.fresh.dir.join("first/trinity.db");
        let damage = self.query(&database, trinity::damage)?;
        let text = "integrity_check finds the snapshot taken while writing whole";
        self.telling.proof(
            "integrity",
            damage.is_none(),
            damage.map_or(text.to_owned(), |damage| format!("{text}: {damage}")),
        );
        let (counted, there) = self.query(&database, trinity::messages)?;
        let text = format!(
            "no transaction is torn: agents count {} messages, and {} are there",
            human_count(counted),
            human_count(there)
        );
        self.telling.proof("invariant", counted == there, text);
        let Tally { commits, longest } = self.commits;
        self.telling.figure("commits_during_backups", commits);
        self.telling.figure("longest_commit_seconds", seconds(longest));
        let text = format!(
            "{} commits during backups, none over {} (Trinity gives up at 5 s)",
            human_count(commits),
            human_time(longest)
        );
        self.telling.proof("writer", commits > 0 && longest < PATIENCE, text);
        Ok(())
    }

    fn wrong_identity(&mut self) -> Result<(), Failure> {
        self.telling.step("Whoever holds another key reads nothing")?;
        let stranger = self.root.join("stranger.txt");
        let (_, text) = crate::crypto::new_identity_file(|_| Vec::new(), None).map_err(|error| broken(&stranger, error))?;
        crate::fsx::write_atomic(&stranger, &text).map_err(|error| broken(&stranger, error))?;
        let line = format!("restore {}--repository ../repository -i ../stranger.txt --to stolen", plain());
        let arguments = split(&line);
        self.telling.command(&self.fresh, &arguments)?;
        let done = self.fresh.sealift(&arguments)?;
        self.telling.done(&self.fresh, &arguments, &done);
        self.telling.fact("refused", &format!("exit {}", done.code), done.error())?;
        self.telling.figure("wrong_identity_exit_code", done.code);
        let written = self.fresh.dir.join("stolen").join("trinity.db").exists();
        let holds = done.code == NO_IDENTITY && !written;
        self.telling.proof("wrong_identity", holds, "a wrong identity is refused, and nothing is written");
        Ok(())
    }

    /// A backup with the application's commits measured before it and during it.
    fn backup_while_writing(&mut self, seed: u64) -> Result<Done, Failure> {
        let database = self.database();
        let failed = |error: rusqlite::Error| broken("the application", error);
        let writer = Writer::start(&database, seed).map_err(failed)?;
        std::thread::sleep(WARM_UP);
        let alone = writer.lap();
        let done = self.run(true, "backup")?;
        let during = writer.lap();
        writer.stop().map_err(failed)?;
        self.cost(&done)?;
        let note =
            format!("the longest of {} commits; {} before", human_count(during.commits), human_time(alone.longest));
        self.telling.fact("writer waited", &human_time(during.longest), &note)?;
        self.commits.commits += during.commits;
        self.commits.longest = self.commits.longest.max(during.longest);
        Ok(done)
    }

    fn cost(&self, done: &Done) -> Result<(), Failure> {
        let stored = done.number("/stored_bytes")?;
        let note = match self.first {
            0 => "compressed and encrypted".to_owned(),
            first => format!("{} of the first", percent_of(stored, first)),
        };
        self.telling.fact("stored", &human_bytes(stored), &note)?;
        self.telling.fact("took", &human_time(done.took), "")
    }

    fn later(&mut self, name: &str, done: &Done) -> Result<(), Failure> {
        let stored = done.number("/stored_bytes")?;
        self.telling.figure(&format!("{name}_stored_bytes"), stored);
        self.telling.figure(&format!("{name}_percent"), tenth(100.0 * stored as f64 / self.first as f64));
        Ok(())
    }

    fn downloaded(&self, done: &Done) -> Result<(), Failure> {
        self.telling.fact(
            "downloaded",
            &human_bytes(done.number("/downloaded_bytes")?),
            "verified before it is put in place",
        )?;
        self.telling.fact("took", &human_time(done.took), "")
    }

    /// Runs a command that must succeed, on the live host or on the fresh one.
    fn run(&mut self, live: bool, line: &str) -> Result<Done, Failure> {
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

    fn database(&self) -> PathBuf {
        self.host.dir.join("trinity.db")
    }

    fn query<T>(&self, path: &Path, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
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

/// A configuration of this machine's own has no say on the fresh host.
fn plain() -> &'static str {
    if Path::new(SYSTEM_CONFIG).exists() { "--config /dev/null " } else { "" }
}

fn split(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn requests(done: &Done) -> Result<u64, Failure> {
    Ok(done.number("/requests/create")? + done.number("/requests/put")?)
}

fn pages(bytes: &[u8]) -> impl Iterator<Item = blake3::Hash> {
    bytes.chunks(4096).map(blake3::hash)
}

fn percent_of(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    if percent < 0.1 { "under 0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| broken(path, error))
}

fn broken(what: impl AsRef<Path>, error: impl std::fmt::Display) -> Failure {
    Failure::new(FAILED, format!("{}: {error}", what.as_ref().display()))
}
