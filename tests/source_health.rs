//! Damage is found, and what is no damage is not called so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod source_support;

use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use sealift::source::{Checkup, Health, quick_check};
use source_support::*;

const BOUND: Duration = Duration::from_secs(20);

fn check(path: &Path) -> Checkup {
    quick_check(path, BOUND)
}

#[track_caller]
fn assert_sound(path: &Path) {
    let found = check(path);
    assert_eq!((found.health, &found.detail), (Health::Ok, &None), "{found:?}");
}

#[test]
fn a_sound_database_is_ok_in_both_modes() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["make", "make wal"] {
        let path = folder.path().join(part);
        let application = Application::start(part, &path);
        assert_sound(&path);
        application.finish();
    }
}

#[test]
fn odd_names_empty_files_and_tables_without_rowid_are_ok() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    fs::write(&path, b"").unwrap();
    assert_eq!(check(&path).health, Health::Ok);
    let connection = sample(&path);
    connection.execute_batch("create table \"it's \"\"x\"\"\" (a); create table w (a text primary key) without rowid; create view v as select * from nowhere; insert into w values ('b'), ('a')").unwrap();
    assert_sound(&path);
}

#[test]
fn a_damaged_page_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(sample(&path));
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xa5; 4096], 4096 * 4).unwrap();
    let found = check(&path);
    assert_eq!(found.health, Health::Damaged, "{found:?}");
    assert!(found.detail.is_some());
}

#[test]
fn a_truncated_file_and_garbage_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(sample(&path));
    fs::File::options().write(true).open(&path).unwrap().set_len(4096 * 5).unwrap();
    assert_eq!(check(&path).health, Health::Damaged);
    fs::write(&path, [0xa5; 5000]).unwrap();
    assert_eq!(check(&path).health, Health::Damaged);
}

#[test]
fn a_damaged_schema_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = sample(&path);
    connection.execute_batch("pragma writable_schema = on; update sqlite_schema set sql = 'create nonsense'").unwrap();
    drop(connection);
    let found = check(&path);
    assert_eq!(found.health, Health::Damaged, "{found:?}");
}

#[test]
fn an_applications_own_collation_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = sample(&path);
    connection.create_collation("backwards", |a: &str, b: &str| b.cmp(a)).unwrap();
    connection
        .execute_batch(
            "create table c (a text collate backwards primary key) without rowid; insert into c values ('a'), ('b'), ('c');
             create index ci on t(body collate backwards)",
        )
        .unwrap();
    assert_eq!("a".cmp("b"), Ordering::Less);
    assert_sound(&path);
}

#[test]
fn values_that_a_column_should_not_have_are_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "create table n (a text, b int, c int check (c > 0), d any); insert into n values (null, 1, 1, 1), ('x', 'y', 2, 3);
             pragma ignore_check_constraints = on; insert into n values ('z', 1, -1, 0);
             pragma writable_schema = on;
             update sqlite_schema set sql = 'create table n (a text not null, b int, c int check (strange(c)), d any)'",
        )
        .unwrap();
    drop(connection);
    assert_sound(&path);
}

#[test]
fn a_virtual_table_whose_module_is_missing_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = sample(&path);
    connection
        .execute_batch(
            "pragma writable_schema = on;
             insert into sqlite_schema values ('table', 'v', 'v', 0, 'create virtual table v using missing(a)')",
        )
        .unwrap();
    drop(connection);
    assert_sound(&path);
}

#[test]
fn what_cannot_be_looked_at_in_time_is_unchecked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = sample(&path);
    fill(&connection, 20_000);
    let found = quick_check(&path, Duration::ZERO);
    assert_eq!(found.health, Health::Unchecked, "{found:?}");
    assert_eq!(quick_check(&folder.path().join("missing"), BOUND).health, Health::Unchecked);
}

/// One page of the tree holds several long rows, so few steps of SQLite are much to read.
#[test]
fn a_few_long_rows_are_enough_to_run_out_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let rows = "create table long (body blob);
                with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)
                insert into long select zeroblob(200000) from n";
    Connection::open(&path).unwrap().execute_batch(rows).unwrap();
    assert_sound(&path);
    let found = quick_check(&path, Duration::from_millis(1));
    assert_eq!(found.health, Health::Unchecked, "{found:?}");
}

#[test]
fn a_check_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let _application = Application::start("make", &path);
    let before = listing(folder.path());
    check(&path);
    assert_eq!(listing(folder.path()), before);
}
