//! Looking at restored databases: broken references, rows a table, and whether stored credentials open.

use rusqlite::Connection;
use serde::Serialize;

use super::{Finding, open_still};
use crate::restore::RestoredFile;
use crate::source::{CredentialKeys, Credentials, INLINE_MAX, try_credentials};

/// How many broken references are counted at most.
const MAX_VIOLATIONS: u64 = 1000;

/// What a restored database holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseReport {
    pub name: String,
    /// Tables and their rows, the largest first.
    pub tables: Vec<(String, u64)>,
    /// Rows that refer to rows that are not there, counted up to 1000.
    pub foreign_key_violations: u64,
}

/// What came of looking.
#[derive(Default)]
pub(super) struct Looked {
    pub databases: Vec<DatabaseReport>,
    pub credentials: Option<Credentials>,
    pub findings: Vec<Finding>,
    pub failures: Vec<String>,
}

/// Looks at all restored files. SQLite's integrity check was part of the restore.
pub(super) fn look(files: &[RestoredFile]) -> Looked {
    let mut looked = Looked::default();
    let keys = files
        .iter()
        .filter(|file| file.bytes <= INLINE_MAX)
        .find_map(|file| CredentialKeys::parse(&zeroize::Zeroizing::new(std::fs::read(&file.path).ok()?)));
    let mut credentials = Credentials::default();
    for file in files.iter().filter(|file| file.is_database) {
        let found = open_still(&file.path).and_then(|connection| {
            let report = report(&file.name, &connection)?;
            Ok((report, try_credentials(&connection, keys.as_ref())?))
        });
        match found {
            Ok((report, found)) => {
                credentials.stored += found.stored;
                credentials.opened += found.opened;
                looked.findings.extend(violations(&report));
                looked.databases.push(report);
            }
            Err(error) => looked.failures.push(format!("{}: {error}", file.name)),
        }
    }
    if credentials.stored > 0 {
        looked.judge(credentials, keys.is_some());
    }
    looked
}

impl Looked {
    fn judge(&mut self, found: Credentials, has_keys: bool) {
        let Credentials { stored, opened } = found;
        if !has_keys {
            self.findings.push(Finding::CredentialKeyMissing { credentials: stored });
        } else if opened == 0 {
            self.failures
                .push(format!("none of the {stored} stored credentials opens with the key in the restored .env"));
        } else if opened < stored {
            self.findings.push(Finding::CredentialKeyMismatch { credentials: stored, opened });
        }
        self.credentials = Some(found);
    }
}

fn report(name: &str, connection: &Connection) -> rusqlite::Result<DatabaseReport> {
    let mut statement = connection.prepare("select name from sqlite_schema where type = 'table' and rootpage > 0")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut tables = Vec::with_capacity(names.len());
    for table in names {
        let sql = format!("select count(*) from \"{}\"", table.replace('"', "\"\""));
        let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        tables.push((table, rows.unsigned_abs()));
    }
    tables.sort_by(|(a, rows_a), (b, rows_b)| rows_b.cmp(rows_a).then(a.cmp(b)));
    Ok(DatabaseReport { name: name.to_owned(), tables, foreign_key_violations: broken_references(connection)? })
}

fn broken_references(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare("pragma foreign_key_check")?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while count < MAX_VIOLATIONS && rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// A note: many applications run without SQLite's foreign keys, and such rows were there when the snapshot was taken.
fn violations(report: &DatabaseReport) -> Option<Finding> {
    let rows = report.foreign_key_violations;
    (rows > 0).then(|| Finding::ForeignKeys { source: report.name.clone(), rows })
}
