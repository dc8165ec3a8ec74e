//! Whoever reads, the application finds its folder as it left it: no file that it cannot open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod source_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sealift::source::{Database, SourceError, as_owner_of};
use source_support::*;

#[test]
fn reading_as_the_owner_beside_an_open_application_leaves_no_trace() {
    if !is_root() {
        return;
    }
    for part in ["make", "make wal"] {
        let folder = application_folder();
        let path = folder.path().join("a.db");
        let application = Application::start_as(APPLICATION, part, &path);
        let before = listing(folder.path());
        let pages = as_owner_of(&path, || copy(&path)).unwrap().unwrap();
        assert_eq!(listing(folder.path()), before, "{part}");
        application.finish();
        assert!(pages == fs::read(&path).unwrap(), "{part}");
    }
}

/// A database at rest has no sidecars. Reading it leaves an empty log and an index of the owner's, with the database's mode,
/// until the application next closes it.
#[test]
fn a_wal_database_at_rest_gets_sidecars_of_its_owner_which_the_application_removes() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    let path = folder.path().join("a.db");
    Application::start_as(APPLICATION, "make wal", &path).finish();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(names(folder.path()), ["a.db"]);
    as_owner_of(&path, || copy(&path)).unwrap().unwrap();
    let owned = |name: &str| (name.to_owned(), APPLICATION, APPLICATION, 0o100_600);
    assert_eq!(listing(folder.path()), [owned("a.db"), owned("a.db-shm"), owned("a.db-wal")]);
    assert_eq!(fs::metadata(folder.path().join("a.db-wal")).unwrap().len(), 0);
    Application::start_as(APPLICATION, "write", &path).finish();
    assert_eq!(names(folder.path()), ["a.db"]);
}

#[test]
fn the_log_of_a_crashed_application_is_read_and_left_to_it() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    let path = folder.path().join("a.db");
    Application::start_as(APPLICATION, "make wal", &path).kill();
    let log = fs::read(folder.path().join("a.db-wal")).unwrap();
    let pages = as_owner_of(&path, || copy(&path)).unwrap().unwrap();
    assert!(pages.len() > 40_000);
    assert!(fs::read(folder.path().join("a.db-wal")).unwrap() == log, "not checkpointed, not reset");
    Application::start_as(APPLICATION, "write", &path).finish();
    assert_eq!(names(folder.path()), ["a.db"]);
}

#[test]
fn another_user_does_not_read_a_wal_database_at_rest_not_even_root() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("a.db");
    Application::start_as(APPLICATION, "make wal", &path).finish();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = |result: Result<Vec<u8>, SourceError>| matches!(result, Err(SourceError::WalNotOwner { .. }));
    assert!(refused(copy(&path)));
    assert!(refused(as_user(STRANGER, || copy(&path))));
    assert_eq!(names(folder.path()), ["a.db"]);
}

#[test]
fn another_user_reads_a_wal_database_that_is_open() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("a.db");
    let application = Application::start_as(APPLICATION, "make wal", &path);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let before = listing(folder.path());
    let pages = as_user(STRANGER, || copy(&path)).unwrap();
    assert_eq!(listing(folder.path()), before);
    application.finish();
    assert!(pages == fs::read(&path).unwrap());
}

#[test]
fn another_user_stops_when_the_application_has_closed_its_log() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("a.db");
    let application = Application::start_as(APPLICATION, "make wal", &path);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    as_user(STRANGER, || {
        let mut database = open(&path);
        database.begin().unwrap().finish().unwrap();
        // The stranger's connection keeps the application from removing its files; somebody else may.
        application.finish();
        for name in ["a.db-wal", "a.db-shm"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        assert!(matches!(database.begin(), Err(SourceError::WalNotOwner { .. })));
    });
    assert_eq!(names(folder.path()), ["a.db"]);
}

#[test]
fn another_user_reads_a_database_in_rollback_mode() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("a.db");
    let _application = Application::start_as(APPLICATION, "make", &path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let before = listing(folder.path());
    assert!(as_user(STRANGER, || copy(&path)).unwrap() == fs::read(&path).unwrap());
    assert!(copy(&path).is_ok(), "root too");
    assert_eq!(listing(folder.path()), before);
}

#[test]
fn what_may_not_be_read_is_said_plainly() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    let path = folder.path().join("a.db");
    Application::start_as(APPLICATION, "make", &path).finish();
    let error = as_user(STRANGER, || Database::open(&path, &limits(50)).unwrap_err());
    assert!(matches!(error, SourceError::NoPermission { .. }), "{error:?}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let error = as_owner_of(&path, || ()).unwrap_err();
    assert!(matches!(error, SourceError::OwnerCannotRead { uid: APPLICATION, .. }), "{error:?}");

    give(&path, APPLICATION, 0o600);
    give(folder.path(), 0, 0o700);
    let error = as_owner_of(&path, || ()).unwrap_err();
    assert!(matches!(error, SourceError::OwnerCannotRead { uid: APPLICATION, .. }), "{error:?}");
}

#[test]
fn a_log_that_cannot_be_opened_is_said_plainly_and_nothing_is_made() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    let path = folder.path().join("a.db");
    Application::start_as(APPLICATION, "make wal", &path).finish();
    give(folder.path(), APPLICATION, 0o500);
    let error = as_owner_of(&path, || Database::open(&path, &limits(20)).unwrap().begin().unwrap_err()).unwrap();
    assert!(matches!(error, SourceError::LogUnreachable { .. }), "{error:?}");
    assert_eq!(names(folder.path()), ["a.db"]);

    give(folder.path(), APPLICATION, 0o755);
    let _application = Application::start_as(APPLICATION, "write", &path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["a.db-wal", "a.db-shm"] {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let error = as_user(STRANGER, || Database::open(&path, &limits(20)).unwrap().begin().unwrap_err());
    assert!(matches!(error, SourceError::LogUnreachable { .. }), "{error:?}");
}

#[test]
fn the_owners_thread_is_the_only_one_that_changes_its_user() {
    if !is_root() {
        return;
    }
    let folder = application_folder();
    let path = folder.path().join("a.db");
    Application::start_as(APPLICATION, "make", &path).finish();
    let user = || rustix::process::geteuid().as_raw();
    let back = || rustix::thread::set_thread_res_uid(None, rustix::process::Uid::ROOT, None);
    assert_eq!(as_owner_of(&path, || (user(), back().is_err())).unwrap(), (APPLICATION, true));
    assert_eq!(user(), 0);
    assert_eq!(std::thread::spawn(user).join().unwrap(), 0);
}

#[test]
fn ones_own_database_is_read_right_here() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let here = std::thread::current().id();
    assert_eq!(as_owner_of(&path, || std::thread::current().id()).unwrap(), here);
}
