//! Pages are what SQLite's own readers see, whatever the database looks like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod source_support;

use std::fs;
use std::os::unix::fs::{FileExt, symlink};

use rusqlite::Connection;
use sealift::source::{Database, Journal, SourceError, assert_sqlite};
use source_support::*;

const PAGE_SIZES: [usize; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

#[test]
fn this_build_has_what_it_needs() {
    assert_sqlite().unwrap();
}

#[test]
fn every_page_size_and_vacuum_mode_gives_the_files_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for page_size in PAGE_SIZES {
        for auto_vacuum in ["none", "full", "incremental"] {
            let path = folder.path().join(format!("{page_size}-{auto_vacuum}.db"));
            let connection = Connection::open(&path).unwrap();
            let pragmas = format!("pragma page_size = {page_size}; pragma auto_vacuum = {auto_vacuum};");
            connection.execute_batch(&pragmas).unwrap();
            fill(&connection, 300);
            connection.execute_batch("create index i on t(body); delete from t where id % 3 = 0").unwrap();
            let mut database = open(&path);
            let view = database.begin().unwrap();
            assert_eq!((view.page_size(), view.journal()), (page_size, Journal::Rollback));
            assert!(all(&view) == fs::read(&path).unwrap(), "{page_size} {auto_vacuum}");
            view.finish().unwrap();
        }
    }
}

#[test]
fn reserved_bytes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Connection::open(&path).unwrap().execute_batch("pragma user_version = 1").unwrap();
    // SQLite offers it only through a file control; in a database without tables it is two numbers in the header.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[32], 20).unwrap();
    file.write_all_at(&4064_u16.to_be_bytes(), 105).unwrap();
    drop(file);
    let connection = sample(&path);
    connection.execute_batch("insert into t (body) values (hex(randomblob(20000)))").unwrap();
    assert_eq!(fs::read(&path).unwrap()[20], 32);
    assert!(copy(&path).unwrap() == fs::read(&path).unwrap());
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    fs::write(&path, b"").unwrap();
    let mut database = open(&path);
    let view = database.begin().unwrap();
    assert_eq!((view.page_count(), view.page_size(), view.bytes(), view.change_counter()), (0, 4096, 0, 0));
    view.read(1, &mut []).unwrap();
    view.finish().unwrap();
    sample(&path);
    assert!(database.begin().unwrap().page_count() > 1, "and it may grow");
}

#[test]
fn an_empty_file_keeps_whatever_lies_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    fs::write(&path, b"").unwrap();
    fs::write(folder.path().join("a.db-journal"), [1; 600]).unwrap();
    assert_eq!(copy(&path).unwrap(), b"");
    assert_eq!(names(folder.path()), ["a.db", "a.db-journal"]);
    fs::write(folder.path().join("a.db-wal"), [1; 600]).unwrap();
    assert!(matches!(copy(&path), Err(SourceError::EmptyWithLog { .. })));
    assert_eq!(names(folder.path()), ["a.db", "a.db-journal", "a.db-wal"]);
}

#[test]
fn a_database_of_one_page_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Connection::open(&path).unwrap().execute_batch("pragma user_version = 1").unwrap();
    let pages = copy(&path).unwrap();
    assert_eq!(pages.len(), 4096);
    assert!(pages == fs::read(&path).unwrap());
}

#[test]
fn a_page_beyond_the_last_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let mut database = open(&path);
    let view = database.begin().unwrap();
    assert!(view.read(view.page_count() + 1, &mut [0; 4096]).is_err());
}

#[test]
fn wal_content_that_is_not_yet_in_the_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let application = Application::start("make wal", &path);
    assert!(fs::metadata(&path).unwrap().len() < 10_000, "still in the log");
    let mut database = open(&path);
    let view = database.begin().unwrap();
    assert_eq!(view.journal(), Journal::Wal);
    let pages = all(&view);
    view.finish().unwrap();
    drop(application);
    let rows: u32 = restored(folder.path(), &pages).query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 100);
}

#[test]
fn a_wal_view_stays_at_its_instant_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let _application = Application::start("make wal", &path);
    let mut database = open(&path);
    let view = database.begin().unwrap();
    let first = all(&view);
    let writer = Connection::open(&path).unwrap();
    fill(&writer, 500);
    writer.query_row("pragma wal_checkpoint", [], |_| Ok(())).unwrap();
    assert!(all(&view) == first);
    let pages = view.page_count();
    view.finish().unwrap();
    assert!(database.begin().unwrap().page_count() > pages);
}

#[test]
fn page_count_and_size_are_read_anew_in_each_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let writer = sample(&path);
    let mut database = open(&path);
    let first = database.begin().unwrap().page_count();
    fill(&writer, 500);
    let grown = database.begin().unwrap().page_count();
    writer.execute_batch("delete from t where id > 10; pragma page_size = 1024; vacuum").unwrap();
    let view = database.begin().unwrap();
    assert!(grown > first && view.bytes() < u64::from(first) * 4096);
    assert_eq!(view.page_size(), 1024);
    assert!(all(&view) == fs::read(&path).unwrap());
}

#[test]
fn names_are_taken_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"file:a.db?mode=rwc"[..], b"a b%41#.db", b"\xff\xfe.db"] {
        let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
        let plain = folder.path().join("plain.db");
        drop(sample(&plain));
        fs::rename(&plain, &path).unwrap();
        assert!(copy(&path).unwrap() == fs::read(&path).unwrap());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

/// Such a database is over 1 GiB. The file is sparse: its unused pages take no room on the disk.
#[test]
fn the_lock_page_reads_as_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("pragma page_size = 65536; create table t (a)").unwrap();
    let (lock_page, last) = (16_385_u32, 16_390_u32);
    let at = |page: u32| u64::from(page - 1) * 65_536;
    let file = fs::File::options().write(true).open(&path).unwrap();
    for page in [lock_page - 1, lock_page, lock_page + 1, last] {
        file.write_all_at(&[7; 65_536], at(page)).unwrap();
    }
    file.write_all_at(&last.to_be_bytes(), 28).unwrap();
    let mut database = open(&path);
    let view = database.begin().unwrap();
    assert_eq!(view.page_count(), last);
    let mut pages = vec![1; 65_536 * 3];
    view.read(lock_page - 1, &mut pages).unwrap();
    let seen: Vec<_> = pages.chunks(65_536).map(|page| (page[0], page.iter().all(|&byte| byte == page[0]))).collect();
    assert_eq!(seen, [(7, true), (0, true), (7, true)]);
}

#[test]
fn a_truncated_file_gives_what_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    fs::File::options().write(true).open(&path).unwrap().set_len(4096 * 5 + 100).unwrap();
    let mut expected = fs::read(&path).unwrap();
    expected.resize(4096 * 6, 0);
    assert!(copy(&path).unwrap() == expected);
}

#[test]
fn a_damaged_schema_can_still_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..4096].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    assert!(copy(&path).unwrap() == bytes);
    let connection = sample(&folder.path().join("b.db"));
    connection
        .execute_batch("pragma writable_schema = on; update sqlite_schema set sql = 'create nonsense', rootpage = 999")
        .unwrap();
    let path = folder.path().join("b.db");
    assert!(copy(&path).unwrap() == fs::read(&path).unwrap());
}

#[test]
fn garbage_is_named_as_such_at_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    for length in [2, 99, 512, 5000, 100_000] {
        fs::write(&path, vec![0xa5; length]).unwrap();
        let error = copy(&path).unwrap_err();
        assert!(matches!(error, SourceError::NotADatabase { .. }), "{length}: {error:?}");
        assert!(error.to_string().contains("encrypted"));
        assert!(!error.is_transient());
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let status = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    assert!(status.success());
    symlink(at("nowhere"), at("dangling")).unwrap();
    let error = |name: &str| Database::open(&at(name), &limits(50)).unwrap_err();
    assert!(matches!(error("missing"), SourceError::Missing { .. }));
    assert!(matches!(error("dangling"), SourceError::Missing { .. }));
    assert!(matches!(error("."), SourceError::NotRegular { .. }));
    assert!(matches!(error("fifo"), SourceError::NotRegular { .. }));
    assert!(matches!(error("fifo/x"), SourceError::Missing { .. }));
}

#[test]
fn a_symbolic_link_is_followed_to_where_the_journal_lies() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
    let application = Application::start("make wal", &real);
    symlink(&real, &link).unwrap();
    let pages = copy(&link).unwrap();
    assert!(pages.len() > 40_000, "the log beside the real file was read");
    assert_eq!(names(folder.path()), ["link.db", "real.db", "real.db-shm", "real.db-wal"]);
    drop(application);
}

#[test]
fn a_file_that_is_itself_mounted_is_refused() {
    const INSIDE: &str = "MOUNTED_DATABASE";
    if let Some(path) = std::env::var_os(INSIDE) {
        let error = Database::open(path.as_ref(), &limits(50)).unwrap_err();
        assert!(matches!(error, SourceError::MountPoint { .. }), "{error:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, mounted) = (folder.path().join("a.db"), folder.path().join("mounted here.db"));
    sample(&path);
    fs::write(&mounted, b"").unwrap();
    let script = "mount --bind \"$1\" \"$2\" || { echo no mount; exit 0; }
                  exec \"$3\" --exact a_file_that_is_itself_mounted_is_refused --nocapture";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&path).arg(&mounted);
    let output = command.arg(std::env::current_exe().unwrap()).env(INSIDE, &mounted).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("no mount") || !said.contains("running 1 test") {
        return eprintln!("skipped: mounts are not allowed here");
    }
    assert!(output.status.success(), "{said}");
}
