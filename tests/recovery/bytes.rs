//! The script brings back the same bytes as `restore`: every page size and journal mode, ordinary files, each day of a
//! database in use, whatever kind of key opens it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use crate::live::{self, Host, have};
use crate::script::{self, TOOLS};
use crate::support::world::Output;
use crate::trinity;

const FORMAT: &str = include_str!("../../src/format/FORMAT.md");

/// Restores with the script into a new folder.
fn recover(host: &Host, identity: &Path, folder: &str, more: &[&str]) -> (Output, PathBuf) {
    let target = host.path(folder);
    let (identity, to) = (identity.display().to_string(), target.display().to_string());
    let output = script::run("restore", &host.repository(), &[&["-i", &identity, "--to", &to], more].concat());
    (output, target)
}

/// Both restore the same names, and under each the same bytes, mode and time; and they are those of `originals`.
fn assert_both_bring_back(host: &Host, snapshot: &str, originals: &[(&str, Vec<u8>)]) {
    let with = host.restore(snapshot, &format!("with-{snapshot}"));
    let number = if snapshot == "latest" { &[][..] } else { &[snapshot] };
    let (done, without) = recover(host, &host.identity(), &format!("without-{snapshot}"), number);
    done.exits(0);
    assert_eq!(live::listing(&with), live::listing(&without).into_iter().map(with_mode_of(&with)).collect::<Vec<_>>());
    for (name, original) in originals {
        let (with, without) = (with.join(name), without.join(name));
        assert!(fs::read(&with).unwrap() == *original, "sealift restore changed {name}");
        assert!(fs::read(&without).unwrap() == *original, "recover.py changed {name}");
        let mtime = |path: &Path| fs::metadata(path).map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap();
        assert_eq!(mtime(&with), mtime(&without), "{name}");
    }
}

/// The folder itself is made by each as it likes.
fn with_mode_of(folder: &Path) -> impl Fn((String, u32, u32, u32)) -> (String, u32, u32, u32) {
    let mode = fs::metadata(folder).unwrap().mode();
    move |entry| if entry.0 == "." { (entry.0, entry.1, entry.2, mode) } else { entry }
}

/// Rows of many sizes, overflow pages among them, some deleted again.
fn make_database(path: &Path, page_size: u32, journal_mode: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    let sql = format!(
        "pragma page_size = {page_size}; pragma journal_mode = {journal_mode}; pragma wal_autocheckpoint = 20;
         create table t (id integer primary key, body blob);
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 400)
           insert into t (body) select randomblob(i * 37 % 9000) from n;
         delete from t where id % 7 = 0;
         update t set body = randomblob(30000) where id % 50 = 1;"
    );
    connection.execute_batch(&sql).unwrap();
    connection
}

#[test]
fn every_page_size_and_journal_mode_comes_back_without_sealift() {
    if !have(&TOOLS) {
        return;
    }
    let host = Host::local();
    let (mut names, mut applications) = (Vec::new(), Vec::new());
    for page_size in [512, 1024, 4096, 65_536] {
        for journal_mode in ["delete", "wal"] {
            let name = format!("{journal_mode}-{page_size}.db");
            let connection = make_database(&host.source(&name), page_size, journal_mode);
            let used: u32 = connection.query_row("pragma page_size", [], |row| row.get(0)).unwrap();
            assert_eq!(used, page_size);
            // Open meanwhile, so that the log is there.
            applications.push(connection);
            names.push(name);
        }
    }
    let databases: Vec<&str> = names.iter().map(String::as_str).collect();
    host.init(&databases, &[]);
    host.backup();
    let logs = fs::read_dir(host.path("source")).unwrap().flatten();
    assert_eq!(logs.filter(|entry| entry.file_name().to_string_lossy().ends_with("-wal")).count(), 4);
    let (with, identity) = (host.restore("latest", "with"), host.identity());
    let (done, without) = recover(&host, &identity, "without", &[]);
    done.exits(0);
    for name in databases {
        let restored = fs::read(without.join(name)).unwrap();
        assert!(restored == fs::read(with.join(name)).unwrap(), "{name}: recover.py and sealift differ");
        if name.starts_with("delete") {
            assert!(restored == fs::read(host.source(name)).unwrap(), "{name} is not its original");
        }
        assert_eq!(rows(&without.join(name)), rows(&host.source(name)), "{name}");
    }
}

/// Everything in the table, and the verdict of `integrity_check`.
fn rows(path: &Path) -> (Vec<(i64, Vec<u8>)>, String) {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("select id, body from t order by id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>();
    (rows.unwrap(), connection.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap())
}

#[test]
fn ordinary_files_and_empty_ones_come_back_without_sealift() {
    if !have(&TOOLS) {
        return;
    }
    let host = Host::local();
    let large: Vec<u8> = (0..3_000_001_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let files: Vec<(&str, Vec<u8>)> = vec![
        (".env", b"SECRET_KEY='a $ecret'\n".to_vec()),
        ("large.bin", large),
        ("zeros.bin", vec![0; (1 << 20) + 1]),
        ("empty.txt", Vec::new()),
        ("empty.db", Vec::new()),
    ];
    for (name, bytes) in &files {
        fs::write(host.source(name), bytes).unwrap();
        fs::set_permissions(host.source(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    host.init(&["empty.db"], &[".env", "large.bin", "zeros.bin", "empty.txt"]);
    host.backup();
    assert_both_bring_back(&host, "latest", &files);
    assert_eq!(fs::metadata(host.path("without-latest/.env")).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn a_trinity_database_comes_back_as_it_was_on_each_day_without_sealift() {
    if !have(&TOOLS) {
        return;
    }
    let host = Host::local();
    let trinity = trinity::generate(&host.path("source"), 12, 3);
    host.init(&["trinity.db"], &[".env"]);
    let original = || {
        vec![("trinity.db", fs::read(&trinity.database).unwrap()), (".env", fs::read(&trinity.environment).unwrap())]
    };
    let connection = Connection::open(&trinity.database).unwrap();
    let mut days = Vec::new();
    let day: [&dyn Fn(); 3] =
        [&|| (), &|| trinity::a_days_use(&connection, 4), &|| connection.execute_batch("vacuum").unwrap()];
    for use_it in day {
        use_it();
        host.backup();
        days.push(original());
    }
    for (number, originals) in (1..).zip(&days) {
        assert_both_bring_back(&host, &format!("{number}"), originals);
    }
}

/// The largest pack, with one byte in the middle changed.
fn flip_a_byte_in_a_pack(repository: &Path) -> PathBuf {
    let packs = fs::read_dir(repository.join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let pack = packs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    pack
}

#[test]
fn a_flipped_byte_in_a_pack_leaves_no_file_without_sealift() {
    if !have(&TOOLS) {
        return;
    }
    let host = Host::local();
    drop(make_database(&host.source("a.db"), 4096, "delete"));
    host.init(&["a.db"], &[]);
    host.backup();
    let pack = flip_a_byte_in_a_pack(&host.repository());
    let (done, target) = recover(&host, &host.identity(), "without", &[]);
    done.exits(13).says(pack.file_name().unwrap().to_str().unwrap());
    assert!(!target.join("a.db").exists());
}

#[test]
fn without_sealift_only_the_named_signer_is_believed() {
    if !have(&TOOLS) {
        return;
    }
    let (host, stranger) = (Host::local(), Host::local());
    let mut signers = Vec::new();
    for host in [&host, &stranger] {
        fs::write(host.source(".env"), "A=1\n").unwrap();
        signers.push(host.init(&[], &[".env"])["signer"].as_str().unwrap().to_owned());
        host.backup();
    }
    assert!(recover(&host, &host.identity(), "own", &["--signer", &signers[0]]).0.code == 0);
    let (done, target) = recover(&host, &host.identity(), "other", &["--signer", &signers[1]]);
    done.exits(13);
    assert!(!target.exists());
}

/// What stands in the format's description between a line ```` ```text ```` and its end.
fn verification() -> &'static str {
    let block = FORMAT.split("```text\n").nth(1).expect("the commands").split("```").next().expect("their end");
    assert!(block.contains("ssh-keygen -Y verify"));
    block
}

#[test]
fn a_record_verifies_with_the_commands_of_the_formats_description() {
    if !have(&TOOLS) {
        return;
    }
    let host = Host::local();
    fs::write(host.source(".env"), "A=1\n").unwrap();
    let signer = host.init(&[], &[".env"])["signer"].as_str().unwrap().to_owned();
    host.backup();
    let record = fs::read_to_string(host.repository().join("snapshots/0000000001.record")).unwrap();
    let script = verification().replace("ssh-ed25519 AAAA…", &signer);
    for (name, text, good) in [("true", record.clone(), true), ("forged", record.replacen(":1,", ":2,", 1), false)] {
        let folder = host.path(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("R"), text).unwrap();
        let done = Command::new("bash").args(["-ec", &script]).current_dir(&folder).output().unwrap();
        assert_eq!(done.status.success(), good, "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn an_ssh_key_opens_the_repository_without_sealift() {
    if !have(&TOOLS) {
        return;
    }
    let host = Host::local();
    let key = host.path("ssh_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    let recipient = fs::read_to_string(host.path("ssh_key.pub")).unwrap();
    drop(make_database(&host.source("a.db"), 4096, "delete"));
    host.init_with(&["a.db"], &[], &["-r", recipient.trim()]);
    host.backup();
    let (done, target) = recover(&host, &key, "without", &[]);
    done.exits(0);
    assert!(fs::read(target.join("a.db")).unwrap() == fs::read(host.source("a.db")).unwrap());
}
