//! The memory that a backup and a restore take for themselves.

use crate::support::memory_of;
use crate::support::world::{Running, World};

/// For either, whatever the database's size, the cores and the level.
const LIMIT_MIB: u64 = 128;

/// The most that a program had in memory of its own until it ended, in MiB.
fn peak(mut running: Running) -> u64 {
    let mut peak = 0;
    while running.is_running() {
        peak = peak.max(memory_of(running.pid()).unwrap_or(0));
        std::thread::yield_now();
    }
    running.wait().exits(0);
    peak >> 20
}

/// Random bytes, so that compressed packs are as large as they get, and more threads than most machines have cores.
#[test]
fn backups_and_a_restore_of_200_mb_that_do_not_compress_stay_within_128_mib() {
    let world = World::ready();
    world.add_rows(320_000);
    let config = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), config.replacen("[[database]]", "[limits]\nthreads = 64\n\n[[database]]", 1))
        .unwrap();
    assert!(std::fs::metadata(world.database()).unwrap().len() > 200_000_000);
    let backup = peak(world.start(&["backup", "--no-progress"]));
    let (key, out) = (world.text("operator.key"), world.text("out"));
    let restore = peak(world.start(&["restore", "-i", &key, "--to", &out, "--no-progress"]));
    // A page here and there, so that each piece has something new and something known.
    let scattered = "update t set body = randomblob(600) where id % 500 = 0";
    rusqlite::Connection::open(world.database()).unwrap().execute_batch(scattered).unwrap();
    let later = peak(world.start(&["backup", "--no-progress"]));
    println!("backup {backup} MiB, later {later} MiB, restore {restore} MiB");
    assert!((1..=LIMIT_MIB).contains(&backup), "backup: {backup} MiB");
    assert!((1..=LIMIT_MIB).contains(&later), "a later backup: {later} MiB");
    assert!((1..=LIMIT_MIB).contains(&restore), "restore: {restore} MiB");
}

/// Each with blocks of its own, read one after the other.
#[test]
fn forty_databases_take_no_more_memory_than_one() {
    let world = World::ready();
    let mut config = std::fs::read_to_string(world.config()).unwrap();
    for number in 0..40 {
        let path = world.path(&format!("{number}.db"));
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch("create table t(x); insert into t values (randomblob(4500000))").unwrap();
        config += &format!("\n[[database]]\npath = \"{}\"\n", path.display());
    }
    std::fs::write(world.config(), config).unwrap();
    let backup = peak(world.start(&["backup", "--no-progress"]));
    println!("backup {backup} MiB");
    assert!((1..=LIMIT_MIB).contains(&backup), "backup: {backup} MiB");
}
