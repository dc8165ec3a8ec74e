//! Backups while applications run that never rest, and backups that are killed again and again.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rustix::fs::{OFlags, fcntl_setfl};

use crate::support::s3s::{S3s, Side};
use crate::support::world::{World, wait_until};

/// Bytes of all packs in the repository.
fn packed(world: &World) -> u64 {
    let packs = std::fs::read_dir(world.path("repository/packs"));
    packs.map_or(0, |packs| packs.map(|pack| pack.unwrap().metadata().unwrap().len()).sum())
}

fn count_packs(world: &World) -> u64 {
    std::fs::read_dir(world.path("repository/packs")).map_or(0, |packs| packs.count() as u64)
}

fn limit(world: &World, line: &str) {
    let config = std::fs::read_to_string(world.config()).unwrap();
    let config = config.replacen("[[database]]", &format!("[limits]\n{line}\n\n[[database]]"), 1);
    std::fs::write(world.config(), config).unwrap();
}

#[test]
fn a_hold_limit_that_no_pass_can_keep_is_a_clean_failure_that_names_the_ways_out() {
    let world = World::ready();
    limit(&world, "writer_hold = \"1ns\"");
    let output = world.sealift(&["backup"]).exits(1);
    for way_out in ["WAL", "quieter hour", "writer_hold"] {
        assert!(output.all().contains(way_out), "{}", output.all());
    }
    assert_eq!(world.sealift(&["snapshots", "--json"]).exits(0).rows(), serde_json::json!([]));
}

/// A writer that never pauses and, like the application's scheduler, gives up after 5 s; how often it wrote.
fn never_pausing(database: &Path, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let (database, stop) = (database.to_owned(), Arc::clone(stop));
    std::thread::spawn(move || {
        let connection = Connection::open(database).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        let mut commits = 0;
        while !stop.load(Ordering::Relaxed) {
            // A starved writer would fail here with "database is locked".
            connection.execute("update pulse set beats = beats + 1", []).unwrap();
            commits += 1;
        }
        commits
    })
}

#[test]
fn two_writers_that_never_pause_neither_starve_a_backup_nor_are_starved_by_it() {
    let world = World::ready();
    world.add_rows(60_000);
    Connection::open(world.database())
        .unwrap()
        .execute_batch("create table pulse(beats); insert into pulse values (0)")
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [never_pausing(&world.database(), &stop), never_pausing(&world.database(), &stop)];
    let output = world.sealift(&["backup"]);
    stop.store(true, Ordering::Relaxed);
    output.exits(0);
    for writer in writers {
        assert!(writer.join().expect("no commit failed") > 0);
    }
    world.restore("latest", "out").exits(0);
    let beats: i64 = Connection::open(world.path("out/trinity.db"))
        .unwrap()
        .query_row("select beats from pulse", [], |row| row.get(0))
        .unwrap();
    assert!(beats > 0, "the snapshot was taken before the writers began");
}

/// A pipe that takes not one byte more, as a terminal after Ctrl-S.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    for piece in [&[b'.'; 4096][..], b"."] {
        while writer.write(piece).is_ok() {}
    }
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn a_log_that_is_not_read_holds_up_neither_the_backup_nor_the_application() {
    for arguments in [&["backup", "--json"][..], &["backup", "-vv"], &["backup", "--json", "-vv"]] {
        let world = World::ready();
        world.add_rows(20_000);
        Connection::open(world.database())
            .unwrap()
            .execute_batch("create table pulse(beats); insert into pulse values (0)")
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = never_pausing(&world.database(), &stop);
        let (mut reader, full) = full_pipe();
        let backup = world.start_with(arguments, full);
        wait_until("the record is stored, though the log is not read", || world.record(1).exists());
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("no commit failed") > 0);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert!(said.trim_start_matches('.').len() > 10, "what was kept waiting comes in the end");
        backup.wait().exits(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_a_log_lost_are_counted_at_its_end() {
    let server = S3s::start().await;
    let mut world = World::in_bucket(&server);
    // Some eight hundred lines.
    world.set_variable("SEALIFT_LOG", "trace");
    let held = server.hold("PUT", "/snapshots/", Side::After);
    let (mut reader, full) = full_pipe();
    let backup = world.start_with(&["backup"], full);
    held.reached();
    held.release();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    backup.wait().exits(0);
    assert!(said.contains("lines of this log were left out"), "{} lines", said.lines().count());
}

#[test]
fn a_first_backup_that_is_killed_ten_times_costs_little_more_and_is_whole_in_the_end() {
    let rows = 250_000;
    let undisturbed = World::ready();
    undisturbed.add_rows(rows);
    undisturbed.backup();
    let packs = count_packs(&undisturbed);
    assert!(packs >= 8, "{packs} packs");

    let world = World::ready();
    world.add_rows(rows);
    let mut seed: u64 = 7;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    // Points spread over the whole of a first backup by a fixed seed, and then some milliseconds.
    let mut points: Vec<u64> = (0..10).map(|_| random() % (packs - 3)).collect();
    points.sort_unstable();
    let mut fruitful = 0;
    for point in points {
        let before = count_packs(&world);
        let running = world.start(&["backup"]);
        wait_until("so many packs are stored", || count_packs(&world) >= point);
        std::thread::sleep(Duration::from_millis(random() % 50));
        running.kill();
        fruitful += u32::from(count_packs(&world) > before);
        assert!(!world.record(1).exists(), "the kill came too late");
    }
    assert!(fruitful >= 3, "{fruitful} of ten killed runs stored anything");
    world.backup();
    let (bytes, ideal) = (packed(&world), packed(&undisturbed));
    assert!(bytes as f64 <= ideal as f64 * 1.2, "{bytes} bytes after ten kills, {ideal} undisturbed");
    world.restore("latest", "out").exits(0);
    assert!(std::fs::read(world.database()).unwrap() == std::fs::read(world.path("out/trinity.db")).unwrap());
}
