//! The second half: a fresh host, what is restored on it, and with which key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::context::SYSTEM_CONFIG;
use super::super::failure::Failure;
use super::super::output::human_bytes;
use super::child::Done;
use super::story::{Story, broken, read, split};
use super::telling::{human_count, human_time};
use super::trinity;

const NO_IDENTITY: i32 = 12;

impl Story {
    pub(super) fn restore(&mut self) -> Result<(), Failure> {
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
        Ok(())
    }

    pub(super) fn wrong_identity(&mut self) -> Result<(), Failure> {
        self.telling.step("Another key opens nothing")?;
        let other = self.root.join("other.txt");
        let (_, text) =
            crate::crypto::new_identity_file(|_| Vec::new(), None).map_err(|error| broken(&other, error))?;
        crate::fsx::write_atomic(&other, &text).map_err(|error| broken(&other, error))?;
        let line = format!("restore {}--repository ../repository -i ../other.txt --to refused", plain());
        let arguments = split(&line);
        self.telling.command(&self.fresh, &arguments)?;
        let done = self.fresh.sealift(&arguments)?;
        self.telling.done(&self.fresh, &arguments, &done);
        self.telling.fact("refused", &format!("exit {}", done.code), done.error())?;
        self.telling.figure("wrong_identity_exit_code", done.code);
        let written = fs::read_dir(self.fresh.dir.join("refused")).is_ok_and(|mut entries| entries.next().is_some());
        let holds = done.code == NO_IDENTITY && !written;
        self.telling.proof("wrong_identity", holds, "a wrong identity is refused, and nothing is written");
        Ok(())
    }

    fn downloaded(&self, done: &Done) -> Result<(), Failure> {
        let note = format!("in {}; verified before it is put in place", human_time(done.took));
        self.telling.fact("downloaded", &human_bytes(done.number("/downloaded_bytes")?), &note)
    }
}

/// A configuration of this machine's own has no say on the fresh host.
fn plain() -> &'static str {
    if Path::new(SYSTEM_CONFIG).exists() { "--config /dev/null " } else { "" }
}
