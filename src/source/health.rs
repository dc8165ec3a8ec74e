//! Whether SQLite finds a database sound.
//!
//! Structure is checked, not content: a custom collation, an old NULL in a NOT NULL column or a missing module of a virtual
//! table is no damage. Each table is checked in a short transaction of its own, so that no writer waits longer than the bound.

use std::cmp::Ordering;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use serde::{Deserialize, Serialize};

use super::SourceError;
use super::busy::Wait;
use super::database::{Database, ReadLimits};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    Damaged,
    /// Something could not be looked at in time, or at all; what was looked at is sound.
    Unchecked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    pub health: Health,
    /// The first finding in SQLite's words. It may name tables: print it, never store it in public.
    pub detail: Option<String>,
    /// The longest that one of the transactions lasted.
    pub longest_hold: Duration,
}

impl Checkup {
    fn new(health: Health, detail: Option<String>) -> Self {
        Self { health, detail, longest_hold: Duration::ZERO }
    }
}

/// How many of SQLite's steps pass between two looks at the clock. A step is a page of a table's tree with the overflow chains
/// of all its rows, which may be megabytes.
const STEPS: i32 = 10;
/// A check that cannot get its turn within this is left out, not waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Findings about values, not about structure.
const HARMLESS: [&str; 4] = ["NULL value in ", "NUMERIC value in ", "TEXT value in ", "CHECK constraint failed in "];

/// Runs `quick_check` table by table, each for at most `bound`. The first damage ends it.
pub fn quick_check(path: &Path, bound: Duration) -> Checkup {
    let checked = Database::open(path, &ReadLimits { busy: BUSY }).and_then(|database| check(database, bound));
    checked.unwrap_or_else(unreadable)
}

fn check(mut database: Database, bound: Duration) -> Result<Checkup, SourceError> {
    let mut result = Checkup::new(Health::Ok, None);
    let mut longest_hold = Duration::ZERO;
    for table in patiently(&mut database, &mut longest_hold, tables)? {
        let found = patiently(&mut database, &mut longest_hold, |connection| check_table(connection, &table, bound));
        let found = found.unwrap_or_else(unreadable);
        if found.health == Health::Damaged || result.health == Health::Ok {
            result = found;
        }
        if result.health == Health::Damaged {
            break;
        }
    }
    Ok(Checkup { longest_hold, ..result })
}

/// A quick check compares no keys, so any order will do where the application's own collation is not at hand.
fn any_order(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.create_collation(name, |_, _| Ordering::Equal)
}

/// Tables with pages of their own; a virtual table has none, its shadow tables are among these.
fn tables(connection: &mut Connection) -> rusqlite::Result<Vec<String>> {
    connection.execute_batch("pragma writable_schema = off; pragma ignore_check_constraints = on;")?;
    connection.collation_needed(any_order)?;
    let mut statement = connection.prepare("select name from sqlite_schema where type = 'table' and rootpage > 0")?;
    let mut names = vec!["sqlite_schema".to_owned()];
    for name in statement.query_map([], |row| row.get(0))? {
        names.push(name?);
    }
    Ok(names)
}

fn check_table(connection: &mut Connection, table: &str, bound: Duration) -> rusqlite::Result<Checkup> {
    let deadline = Instant::now() + bound;
    connection.progress_handler(STEPS, Some(move || Instant::now() >= deadline))?;
    let mut statement = connection.prepare(&format!("pragma quick_check('{}')", table.replace('\'', "''")))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let finding: String = row.get(0)?;
        let harmless = finding == "ok"
            || HARMLESS.iter().any(|start| finding.starts_with(start))
            || (finding.starts_with("non-") && finding.contains(" value in "));
        if !harmless {
            return Ok(Checkup::new(Health::Damaged, Some(finding)));
        }
    }
    Ok(Checkup::new(Health::Ok, None))
}

/// What an error says about the database.
fn unreadable(error: SourceError) -> Checkup {
    let (health, detail) = match error {
        SourceError::NotADatabase { .. } => (Health::Damaged, error.to_string()),
        SourceError::Sqlite { source, .. } => match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => (Health::Damaged, source.to_string()),
            _ => (Health::Unchecked, source.to_string()),
        },
        other => (Health::Unchecked, other.to_string()),
    };
    Checkup::new(health, Some(detail))
}

/// Tries again while writers are in the way, and notes how long a try held up others.
fn patiently<T>(
    database: &mut Database,
    longest_hold: &mut Duration,
    mut step: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
) -> Result<T, SourceError> {
    let wait = Wait::new(database.path(), BUSY);
    loop {
        let begun = Instant::now();
        let done = step(database.connection());
        *longest_hold = (*longest_hold).max(begun.elapsed());
        match done {
            Ok(value) => return Ok(value),
            Err(error) => wait.again(error)?,
        }
    }
}
