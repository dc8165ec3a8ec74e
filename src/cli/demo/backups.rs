//! The first half: a live host, and what its backups cost.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rusqlite::Connection;

use super::super::failure::Failure;
use super::super::output::human_bytes;
use super::child::Done;
use super::story::{Story, broken, read};
use super::telling::{human_count, human_time, seconds};
use super::trinity;
use super::writer::{PATIENCE, Tally, Writer};

/// How long the application writes before a backup begins, so that its commits alone have been measured.
const WARM_UP: Duration = Duration::from_millis(400);

impl Story {
    pub(super) fn make_host(&mut self) -> Result<(), Failure> {
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

    pub(super) fn init(&mut self) -> Result<(), Failure> {
        self.telling.step("A repository, and a key that only its operator keeps")?;
        let done = self.run(
            true,
            "init --config sealift.toml --repository ../repository --database trinity.db --file .env \
             --new-identity ../operator/key.txt --no-passphrase",
        )?;
        self.telling.fact("took", &human_time(done.took), "and no passphrase: it is a demo")
    }

    pub(super) fn first_backup(&mut self) -> Result<(), Failure> {
        self.telling.step("The first backup, while the application keeps writing")?;
        let done = self.backup_while_writing(1)?;
        self.first = done.number("/stored_bytes")?.max(1);
        self.telling.figure("first_stored_bytes", self.first);
        self.telling.figure("first_seconds", seconds(done.took));
        Ok(())
    }

    pub(super) fn a_day_later(&mut self) -> Result<(), Failure> {
        self.telling.step("A day of use: old executions go, new ones come; the writer keeps writing")?;
        let database = self.database();
        Connection::open(&database)
            .and_then(|mut connection| trinity::a_days_use(&mut connection))
            .map_err(|error| broken(&database, error))?;
        let done = self.backup_while_writing(2)?;
        self.later("day", &done)
    }

    pub(super) fn after_vacuum(&mut self) -> Result<(), Failure> {
        self.telling.step("The nightly VACUUM renumbers the pages; the writer keeps writing")?;
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
        let note = format!("of {} are unlike any page before", human_count(all));
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

    pub(super) fn at_rest(&mut self) -> Result<(), Failure> {
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

    /// A backup with the application's commits measured before it and during it.
    fn backup_while_writing(&mut self, seed: u64) -> Result<Done, Failure> {
        let database = self.database();
        let failed = |error: rusqlite::Error| broken("the application", error);
        let writer = Writer::start(&database, seed).map_err(failed)?;
        std::thread::sleep(WARM_UP);
        let alone = writer.lap();
        let done = self.run(true, "backup")?;
        let during = writer.stop().map_err(failed)?;
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
            0 => format!("in {}; compressed and encrypted", human_time(done.took)),
            first => format!("in {}; {} of the first", human_time(done.took), percent_of(stored, first)),
        };
        self.telling.fact("stored", &human_bytes(stored), &note)
    }

    fn later(&mut self, name: &str, done: &Done) -> Result<(), Failure> {
        let stored = done.number("/stored_bytes")?;
        self.telling.figure(&format!("{name}_stored_bytes"), stored);
        self.telling.figure(&format!("{name}_percent"), tenth(100.0 * stored as f64 / self.first as f64));
        Ok(())
    }
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
