//! Beside other processes: one instant is one instant, nobody is harmed, and a file that is no longer the same is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod source_support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use sealift::source::{Database, Journal, Print, SourceError};
use source_support::*;

fn print(path: &Path) -> Print {
    open(path).begin().unwrap().finish().unwrap()
}

/// Copies over a file in place, from outside, as `docker cp` or an editor would.
fn copy_over(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

fn copies_beside_a_hammering_writer_are_whole(journal_mode: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    anvil(&path, journal_mode);
    let _writers = [Application::start("hammer", &path), Application::start("hammer", &path)];
    let mut instants = std::collections::BTreeSet::new();
    for _ in 0..20 {
        instants.insert(step(folder.path(), &copy(&path).unwrap()).unwrap());
    }
    assert!(instants.len() > 3, "the writers did write meanwhile");
    // The hammer would tear a copy that is not made through SQLite: the test can fail.
    let torn = (0..5000).find(|_| step(folder.path(), &fs::read(&path).unwrap()).is_err());
    assert!(torn.is_some(), "no plain copy was ever torn");
}

#[test]
fn in_rollback_mode_copies_beside_two_hammering_writers_are_whole() {
    copies_beside_a_hammering_writer_are_whole("delete");
}

#[test]
fn in_wal_mode_copies_beside_two_hammering_writers_are_whole() {
    copies_beside_a_hammering_writer_are_whole("wal");
}

#[test]
fn a_writer_that_holds_on_makes_it_busy_after_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let _application = Application::start("lock", &path);
    let mut database = Database::open(&path, &limits(100)).unwrap();
    let error = database.begin().unwrap_err();
    assert!(matches!(error, SourceError::Busy { waited, .. } if waited >= Duration::from_millis(100)), "{error:?}");
    assert!(error.is_transient());
}

#[test]
fn the_wait_for_a_writer_is_counted_and_not_part_of_the_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let application = Application::start("lock", &path);
    let mut database = Database::open(&path, &limits(200)).unwrap();
    assert!(database.begin().is_err());
    let mut patient = open(&path);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            application.finish();
        });
        let view = patient.begin().unwrap();
        assert!(view.waited() >= Duration::from_millis(1), "{:?}", view.waited());
        assert!(view.held_for() < view.waited());
    });
}

#[test]
fn an_open_transaction_of_the_application_is_not_seen_and_not_hurt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let before = fs::read(&path).unwrap();
    let application = Application::start("write uncommitted", &path);
    let listed = listing(folder.path());
    assert!(copy(&path).unwrap() == before);
    assert_eq!(listing(folder.path()), listed);
    application.finish();
    let changed = "select count(*) from t where body = 'changed'";
    let rows: u32 = restored(folder.path(), &copy(&path).unwrap()).query_row(changed, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 100);
}

#[test]
fn a_dropped_view_lets_writers_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let writer = sample(&path);
    writer.busy_timeout(Duration::ZERO).unwrap();
    let mut database = open(&path);
    let view = database.begin().unwrap();
    assert!(writer.execute_batch("delete from t").is_err(), "a view keeps writers out");
    drop(view);
    writer.execute_batch("delete from t").unwrap();
}

#[test]
fn a_reader_that_ends_takes_no_lock_from_another_one_of_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Application::start("make", &path).finish();
    let mut database = open(&path);
    let view = database.begin().unwrap();
    open(&path).begin().unwrap().finish().unwrap();
    sealift::source::quick_check(&path, Duration::from_secs(1));
    Application::start("be locked out", &path).finish();
    drop(view);
    Application::start("lock", &path).finish();
}

#[test]
fn a_hot_journal_is_left_to_the_application() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(sample(&path));
    let whole = fs::read(&path).unwrap();
    Application::start("spill", &path).kill();
    let torn = fs::read(&path).unwrap();
    assert!(torn != whole, "the crash left half a transaction");
    let mut database = Database::open(&path, &limits(100)).unwrap();
    let error = database.begin().unwrap_err();
    assert!(matches!(error, SourceError::HotJournal { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!(fs::read(&path).unwrap() == torn, "nothing was recovered by us");
    assert_eq!(names(folder.path()), ["a.db", "a.db-journal"]);

    Application::start("write", &path).finish();
    let view = database.begin().unwrap();
    assert!(all(&view) == fs::read(&path).unwrap());
    view.finish().unwrap();
}

#[test]
fn an_unchanged_database_proves_it_in_rollback_mode_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let writer = sample(&path);
    let first = print(&path);
    assert!(print(&path).proves_unchanged(&first));
    writer.execute_batch("update t set body = 'x' where id = 1").unwrap();
    assert!(!print(&path).proves_unchanged(&first));
    writer.execute_batch("pragma journal_mode = wal; delete from t where id = 2").unwrap();
    let (second, third) = (print(&path), print(&path));
    assert_eq!(second.journal, Some(Journal::Wal));
    assert!(!third.proves_unchanged(&second));
}

#[test]
fn a_restored_copy_with_the_same_change_counter_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.db"), folder.path().join("b.db"));
    drop(sample(&path));
    fs::copy(&path, &other).unwrap();
    Connection::open(&path).unwrap().execute_batch("update t set body = 'mine'").unwrap();
    Connection::open(&other).unwrap().execute_batch("update t set body = 'ours'").unwrap();
    let mut database = open(&path);
    let view = database.begin().unwrap();
    let before = all(&view);
    let first = view.finish().unwrap();

    copy_over(&other, &path);
    let view = database.begin().unwrap();
    let after = all(&view);
    let second = view.finish().unwrap();
    assert_eq!((first.change_counter, first.blocks), (second.change_counter, second.blocks));
    assert!(!second.proves_unchanged(&first));
    assert!(before != after && after == fs::read(&path).unwrap(), "no page of the old content is kept");
}

#[test]
fn a_print_survives_being_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let stored = serde_json::to_string(&print(&path)).unwrap();
    assert!(print(&path).proves_unchanged(&serde_json::from_str(&stored).unwrap()), "{stored}");
}

#[test]
fn a_file_replaced_by_rename_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.db"), folder.path().join("b.db"));
    sample(&path);
    sample(&other);
    let mut database = open(&path);
    let view = database.begin().unwrap();
    fs::rename(&other, &path).unwrap();
    let error = view.finish().unwrap_err();
    assert!(matches!(error, SourceError::Replaced { .. }) && error.is_transient());
    assert!(matches!(database.begin(), Err(SourceError::Replaced { .. })), "this connection has the old one");
    open(&path).begin().unwrap().finish().unwrap();
}

#[test]
fn a_removed_file_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let mut database = open(&path);
    let view = database.begin().unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(view.finish(), Err(SourceError::Missing { .. })));
}

#[test]
fn writing_past_the_locks_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.db"), folder.path().join("b.db"));
    drop(sample(&path));
    fs::copy(&path, &other).unwrap();
    make_old(&path);
    let mut database = open(&path);
    let view = database.begin().unwrap();
    copy_over(&other, &path);
    assert!(matches!(view.finish(), Err(SourceError::Replaced { .. })));
}
