//! What is backed up: sources that are missing, damaged, empty, large or badly named.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::support::world::{World, tree};

fn newest(world: &World) -> serde_json::Value {
    let list = world.sealift(&["snapshots", "--json"]).rows();
    list.as_array().unwrap().last().cloned().unwrap_or_default()
}

#[test]
fn a_missing_file_is_3_and_the_snapshot_has_the_rest() {
    let world = World::ready();
    let database = world.sources().database;
    fs::remove_file(world.environment()).unwrap();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"source-missing".to_owned()));
    assert!(output.all().contains(".env"));
    assert_eq!(newest(&world)["health"], "missing");
    world.restore("latest", "target").exits(3);
    assert!(fs::read(world.path("target/trinity.db")).unwrap() == database);
    assert!(!world.path("target/.env").exists());
    world.sealift(&["backup", "--json"]).exits(3).says("source-missing");
}

#[test]
fn a_missing_database_is_3_and_the_snapshot_has_the_rest() {
    let world = World::ready();
    fs::remove_file(world.database()).unwrap();
    world.sealift(&["backup", "--json"]).exits(3).says("trinity.db");
    world.restore("latest", "target").exits(3);
    assert!(world.path("target/.env").exists());
    assert!(!world.path("target/trinity.db").exists());
}

#[test]
fn a_source_that_comes_back_is_in_the_next_snapshot() {
    let world = World::ready();
    world.backup();
    let now = world.sources();
    fs::rename(world.environment(), world.path("away")).unwrap();
    world.sealift(&["backup"]).exits(3);
    fs::rename(world.path("away"), world.environment()).unwrap();
    assert_eq!(world.backup(), 3);
    world.assert_restores(3, &now);
}

#[test]
fn with_every_source_missing_nothing_is_listed() {
    let world = World::ready();
    fs::remove_dir_all(world.path("app")).unwrap();
    world.sealift(&["backup"]).exits(1).says("sealift.toml");
    assert_eq!(world.sealift(&["snapshots", "--json"]).exits(0).rows(), serde_json::json!([]));
}

#[test]
fn a_dry_run_reports_a_missing_source_as_a_backup_does() {
    let world = World::ready();
    fs::remove_file(world.environment()).unwrap();
    world.sealift(&["backup", "--dry-run", "--json"]).exits(3).says("source-missing");
    fs::remove_file(world.database()).unwrap();
    world.sealift(&["backup", "--dry-run", "--json"]).exits(1);
}

#[test]
fn a_dry_run_shows_how_much_is_new_and_puts_nothing() {
    let world = World::ready();
    let json = world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json();
    assert!(json["new_bytes"].as_u64().unwrap() > 100_000);
    world.backup();
    let json = world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(json["new_bytes"], 0);
    assert_eq!(newest(&world)["sequence"], 1);
}

#[test]
fn what_is_no_database_is_an_error_that_says_what_to_do() {
    let world = World::ready();
    fs::write(world.database(), "these are not the pages of a database ".repeat(400)).unwrap();
    world.sealift(&["backup"]).exits(1).says("trinity.db is not an SQLite database").says("[[file]]");
    assert_eq!(world.sealift(&["snapshots", "--json"]).exits(0).rows(), serde_json::json!([]));
}

#[test]
fn a_directory_in_the_place_of_a_file_is_an_error() {
    let world = World::ready();
    fs::remove_file(world.environment()).unwrap();
    fs::create_dir(world.environment()).unwrap();
    world.sealift(&["backup"]).exits(1).says("is not a regular file");
}

#[test]
fn a_damaged_database_is_3_each_time_and_comes_back_as_it_was() {
    let world = World::ready();
    let mut file = fs::File::options().write(true).open(world.database()).unwrap();
    file.seek(SeekFrom::Start(5 * 4096)).unwrap();
    file.write_all(&[0xff; 4096]).unwrap();
    drop(file);
    let now = world.sources();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"source-damaged".to_owned()));
    assert_eq!(newest(&world)["health"], "damaged");
    world.assert_restores(1, &now);
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"source-damaged".to_owned()), "nothing changed, and it is damaged still");
    assert_eq!(newest(&world)["health"], "damaged");
}

#[test]
fn large_files_come_back_byte_for_byte() {
    let world = World::ready();
    for bytes in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001, 17_000_000] {
        let content: Vec<u8> =
            (0..u32::try_from(bytes).unwrap()).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        fs::write(world.environment(), &content).unwrap();
        let now = world.sources();
        let sequence = world.backup();
        world.assert_restores(sequence, &now);
    }
}

#[test]
fn an_empty_file_and_an_empty_database_come_back_empty() {
    let world = World::ready();
    fs::write(world.environment(), "").unwrap();
    fs::write(world.database(), "").unwrap();
    let now = world.sources();
    let sequence = world.backup();
    world.assert_restores(sequence, &now);
    world.set_environment("TOKEN=again\n");
    Connection::open(world.database()).unwrap().execute_batch("create table t (body blob)").unwrap();
    let now = world.sources();
    let sequence = world.backup();
    world.assert_restores(sequence, &now);
}

#[test]
fn pages_of_every_size_come_back() {
    for size in [512, 1024, 8192, 65536] {
        let world = World::ready();
        let connection = Connection::open(world.database()).unwrap();
        connection.execute_batch(&format!("pragma page_size = {size}; vacuum")).unwrap();
        drop(connection);
        let now = world.sources();
        let sequence = world.backup();
        world.assert_restores(sequence, &now);
    }
}

#[test]
fn a_database_in_wal_mode_comes_back_with_what_only_its_log_holds() {
    let world = World::ready();
    let connection = Connection::open(world.database()).unwrap();
    connection
        .execute_batch(
            "pragma journal_mode = wal; pragma wal_autocheckpoint = 0; insert into t (body) values ('in the log')",
        )
        .unwrap();
    world.backup();
    world.restore("latest", "target").exits(0);
    let restored = Connection::open(world.path("target/trinity.db")).unwrap();
    let count: i64 =
        restored.query_row("select count(*) from t where body = 'in the log'", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_vacuumed_database_is_stored_as_it_is_and_costs_little() {
    let world = World::ready();
    let connection = Connection::open(world.database()).unwrap();
    connection.execute_batch("insert into t (body) select randomblob(60000) from t limit 40; delete from t where id % 3 = 0 and id <= 200").unwrap();
    let first = world.sealift(&["backup", "--json"]).exits(0).json()["stored_bytes"].as_u64().unwrap();
    connection.execute_batch("vacuum").unwrap();
    let now = world.sources();
    let second = world.sealift(&["backup", "--json"]).exits(0).json()["stored_bytes"].as_u64().unwrap();
    assert!(second * 5 < first, "{second} of {first}");
    world.assert_restores(2, &now);
}

#[test]
fn an_unknown_key_is_2_with_the_one_that_was_meant() {
    let world = World::ready();
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), text.replacen("recipients", "recipient", 1)).unwrap();
    world.sealift(&["backup"]).exits(2).says("did you mean `recipients`?");
}

#[test]
fn two_sources_of_one_name_are_2() {
    let world = World::ready();
    fs::create_dir(world.path("other")).unwrap();
    fs::write(world.path("other/.env"), "").unwrap();
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("{text}\n[[file]]\npath = {:?}\n", world.path("other/.env"))).unwrap();
    world.sealift(&["backup"]).exits(2).says("two sources are called .env").says("name = ");
    let fresh = World::new();
    let twice = fresh.text("app/.env");
    fresh
        .sealift(&["init", "--file", &twice, "--file", &twice, "--new-identity", &fresh.text("key"), "--no-passphrase"])
        .exits(2);
    assert!(!fresh.path("repository").exists() && !fresh.path("key").exists());
}

#[test]
fn a_bad_recipient_is_2_and_nothing_is_made() {
    let world = World::new();
    world.sealift(&["init", "--file", &world.text("app/.env"), "-r", "age1nonsense"]).exits(2).says("age1nonsense");
    assert!(!world.path("repository").exists() && !world.config().exists());
    let ready = World::ready();
    let text = fs::read_to_string(ready.config()).unwrap();
    fs::write(ready.config(), text.replacen("age1", "age2", 1)).unwrap();
    ready.sealift(&["backup"]).exits(2);
}

#[test]
fn init_without_a_recipient_is_2() {
    let world = World::new();
    world.sealift(&["init", "--file", &world.text("app/.env")]).exits(2).says("--new-identity");
    world.sealift(&["init", "-r", "age1nonsense"]).exits(2);
}

#[test]
fn the_configuration_goes_along() {
    let world = World::ready();
    world.backup();
    world.restore("latest", "target").exits(0);
    assert_eq!(fs::read(world.path("target/sealift.toml")).unwrap(), fs::read(world.config()).unwrap());
}

#[test]
fn a_backup_leaves_the_applications_folder_as_it_was() {
    for journal_mode in ["delete", "wal"] {
        let world = World::ready();
        let connection = Connection::open(world.database()).unwrap();
        connection
            .execute_batch(&format!("pragma journal_mode = {journal_mode}; insert into t (body) values (x'01')"))
            .unwrap();
        let look = || {
            let tree = tree(&world.path("app")).into_iter();
            // The index of a write-ahead log holds the readers' marks: only that may change.
            tree.map(|(path, (mode, owner, bytes))| {
                let index = path.extension().is_some_and(|end| end == "db-shm");
                (path, mode, owner, if index { Vec::new() } else { bytes })
            })
            .collect::<Vec<_>>()
        };
        let before = look();
        world.backup();
        world.backup();
        assert!(look() == before, "{journal_mode}");
        connection.execute_batch("insert into t (body) values (x'02')").unwrap();
    }
}

/// The writer moves money between two tables: no instant has another sum.
#[test]
fn a_snapshot_during_writes_is_one_instant() {
    for journal_mode in ["delete", "wal"] {
        let world = World::ready();
        let connection = Connection::open(world.database()).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        let schema = "create table a (id integer primary key, n integer, pad blob); create table b (id integer primary key, n integer, pad blob);
            with recursive i(i) as (select 1 union all select i + 1 from i where i < 500) insert into a select i, 100, randomblob(1000) from i;
            insert into b select id, n, randomblob(1000) from a;";
        connection
            .execute_batch(&format!("pragma journal_mode = {journal_mode}; pragma synchronous = off; {schema}"))
            .unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let step = "begin immediate; update a set n = n - 1 where id % 7 = 1; update b set n = n + 1 where id % 7 = 1; commit";
                    connection.execute_batch(step).unwrap();
                }
                connection
            });
            let sequences: Vec<u64> = (0..3).map(|_| world.backup()).collect();
            stop.store(true, Ordering::Relaxed);
            drop(writing.join().unwrap());
            for sequence in sequences {
                let to = format!("target-{sequence}");
                world.restore(&sequence.to_string(), &to).exits(0);
                let restored = Connection::open(world.path(&to).join("trinity.db")).unwrap();
                let sum = "select (select sum(n) from a) + (select sum(n) from b)";
                assert_eq!(restored.query_row(sum, [], |row| row.get::<_, i64>(0)).unwrap(), 100_000, "{journal_mode}");
                let sound = restored.query_row("pragma integrity_check", [], |row| row.get::<_, String>(0)).unwrap();
                assert_eq!(sound, "ok", "{journal_mode}");
            }
        });
    }
}

#[test]
fn a_database_that_was_emptied_since_the_last_snapshot_is_3() {
    let world = World::ready();
    world.backup();
    fs::write(world.database(), "").unwrap();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"source-emptied".to_owned()), "{}", output.all());
}
