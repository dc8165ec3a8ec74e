//! Ordinary files are read at one instant, and nothing that is not a file is waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod source_support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use sealift::source::{BLOCK_BYTES, INLINE_MAX, LargeFile, Source, SourceError, read_small};
use source_support::*;

#[test]
fn a_small_file_is_read_with_its_mode_and_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    fs::write(&path, b"KEY=1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    make_old(&path);
    let small = read_small(&path).unwrap().unwrap();
    assert_eq!(small.bytes.as_slice(), b"KEY=1\n");
    assert_eq!((small.meta.mode, small.meta.bytes), (0o600, 6));
    assert_eq!(small.meta.uid, rustix::process::geteuid().as_raw());
    assert_eq!(small.meta.mtime_ns, 1_000_000_000_000_000_000);
    assert_eq!(small.print, read_small(&path).unwrap().unwrap().print);
}

#[test]
fn an_empty_file_is_small_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    fs::write(&path, b"").unwrap();
    assert!(read_small(&path).unwrap().unwrap().bytes.is_empty());
}

#[test]
fn a_file_above_the_limit_is_not_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    fs::write(&path, vec![1; usize::try_from(INLINE_MAX).unwrap()]).unwrap();
    assert!(read_small(&path).unwrap().is_some());
    fs::write(&path, vec![1; usize::try_from(INLINE_MAX).unwrap() + 1]).unwrap();
    assert!(read_small(&path).unwrap().is_none());
}

#[test]
fn a_large_file_is_read_in_blocks_the_last_one_filled_with_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    let content: Vec<u8> = (0..BLOCK_BYTES * 3 + 5).map(|i| (i % 251) as u8).collect();
    fs::write(&path, &content).unwrap();
    let mut source = Source::File(LargeFile::open(&path).unwrap());
    let view = source.view().unwrap();
    assert_eq!((view.block_size(), view.block_count(), view.bytes()), (BLOCK_BYTES, 4, content.len() as u64));
    let mut blocks = vec![0xee; BLOCK_BYTES * 4];
    view.read(1, &mut blocks).unwrap();
    assert!(blocks.starts_with(&content) && blocks[content.len()..].iter().all(|&byte| byte == 0));
    let mut third = vec![0; BLOCK_BYTES];
    view.read(3, &mut third).unwrap();
    assert!(third == blocks[BLOCK_BYTES * 2..BLOCK_BYTES * 3]);
    let print = view.finish().unwrap();
    assert!(!print.proves_unchanged(&print), "only a change counter proves it");
}

#[test]
fn both_kinds_of_source_have_one_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path);
    let mut source = Source::Database(open(&path));
    let view = source.view().unwrap();
    let mut pages = vec![0; usize::try_from(view.bytes()).unwrap()];
    view.read(1, &mut pages).unwrap();
    assert!(pages == fs::read(&path).unwrap());
    assert_eq!(view.meta().bytes, view.bytes());
    view.finish().unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    let other = folder.path().join("b.bin");
    let change: [&dyn Fn(); 4] = [
        &|| fs::write(&path, [2; 100]).unwrap(),
        &|| fs::write(&path, [2; 10]).unwrap(),
        &|| fs::rename(&other, &path).unwrap(),
        &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap(),
    ];
    for change in change {
        fs::write(&path, [1; 100]).unwrap();
        fs::write(&other, [1; 100]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut file = LargeFile::open(&path).unwrap();
        let view = file.view().unwrap();
        change();
        let error = view.finish().unwrap_err();
        assert!(matches!(error, SourceError::Changing { .. }) && error.is_transient());
    }
}

#[test]
fn a_file_that_shrinks_in_mid_read_is_changing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    fs::write(&path, [1; BLOCK_BYTES * 2]).unwrap();
    let mut file = LargeFile::open(&path).unwrap();
    let view = file.view().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    assert!(matches!(view.read(2, &mut [0; BLOCK_BYTES]), Err(SourceError::Changing { .. })));
}

#[test]
fn a_small_file_that_is_rewritten_all_the_time_is_never_read_torn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    fs::write(&path, [b'a'; 50_000]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut letters = (b'a'..=b'z').cycle();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&path, [letters.next().unwrap(); 50_000]).unwrap();
            }
        });
        for _ in 0..20 {
            match read_small(&path) {
                Ok(small) => {
                    let bytes = small.unwrap().bytes;
                    assert!(bytes.iter().all(|&byte| byte == bytes[0]));
                }
                Err(error) => assert!(matches!(error, SourceError::Changing { .. }), "{error:?}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    symlink(at("fifo"), at("link to fifo")).unwrap();
    for name in ["fifo", "socket", "link to fifo", "."] {
        assert!(matches!(read_small(&at(name)), Err(SourceError::NotRegular { .. })), "{name}");
    }
    assert!(matches!(read_small("/dev/null".as_ref()), Err(SourceError::NotRegular { .. })));
    assert!(matches!(read_small(&at("missing")), Err(SourceError::Missing { .. })));
}

#[test]
fn a_symbolic_link_gives_the_bytes_that_it_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join(".env"));
    fs::write(&real, b"KEY=1\n").unwrap();
    symlink("real", &link).unwrap();
    assert_eq!(read_small(&link).unwrap().unwrap().bytes.as_slice(), b"KEY=1\n");
}

#[test]
fn a_file_of_another_user_that_may_not_be_read_is_named() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    fs::write(&path, b"KEY=1\n").unwrap();
    give(&path, APPLICATION, 0o600);
    give(folder.path(), APPLICATION, 0o755);
    assert!(matches!(as_user(STRANGER, || read_small(&path)), Err(SourceError::NoPermission { .. })));
}

#[test]
fn one_file_is_never_open_as_a_database_and_as_a_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(sample(&path));
    let mut database = open(&path);
    let view = database.begin().unwrap();
    assert!(matches!(LargeFile::open(&path), Err(SourceError::OpenTwice { .. })));
    let _writer = Application::start("write uncommitted", &path);
    view.finish().unwrap();
    drop(database);
    read_small(&path).unwrap();
}
