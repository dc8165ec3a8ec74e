//! `check --read-data=PERCENT` reads one part after the other, however often it runs and whatever cuts one short.

use std::fs;

use serde_json::Value;

use crate::support::s3s::{S3s, Side};
use crate::support::world::{Output, World};

fn read(world: &World, arguments: &[&str]) -> Output {
    world.other_host("watcher").sealift(&[&["check", "--json"], arguments].concat())
}

/// How many objects `runs` checks read, one after the other, and which parts those were. The day says where they begin.
fn round(world: &World, runs: u64, arguments: &[&str]) -> (u64, Vec<u64>) {
    let read: Vec<Value> = (0..runs).map(|_| read(world, arguments).exits(0).json()).collect();
    let part = |json: &Value| {
        assert_eq!(json["part"]["of"], runs);
        json["part"]["number"].as_u64().unwrap()
    };
    (read.iter().map(|json| json["read_objects"].as_u64().unwrap()).sum(), read.iter().map(part).collect())
}

/// Eight packs and manifests, four of them of the newest snapshot.
fn snapshots(world: &World) {
    for _ in 0..4 {
        world.add_rows(20);
        world.backup();
    }
}

#[test]
fn so_many_runs_on_one_day_read_every_object_once() {
    let world = World::ready();
    snapshots(&world);
    let all = read(&world, &["--read-data"]).exits(0).json();
    assert_eq!(all["part"], Value::Null);
    let whole = all["read_objects"].as_u64().unwrap();
    let (read_first, parts) = round(&world, 4, &["--read-data=30"]);
    assert_eq!((read_first, in_turn(&parts)), (whole, parts.clone()), "100 / 30, rounded up");
    assert_eq!(round(&world, 4, &["--read-data=30"]), (whole, parts.clone()));
    // A machine of its own, with a round of its own.
    world.sealift(&["check", "--read-data=30", "--json"]).exits(0);
    assert_eq!(read(&world, &["--read-data=30"]).json()["part"]["number"], parts[0]);
    let newest = read(&world, &["latest", "--read-data"]).json()["read_objects"].as_u64().unwrap();
    assert!(newest < whole);
    let (read_of_one, of_one) = round(&world, 4, &["latest", "--read-data=30"]);
    assert_eq!((read_of_one, in_turn(&of_one)), (newest, of_one));
}

/// As many parts as `parts`, one after the other from the same one on.
fn in_turn(parts: &[u64]) -> Vec<u64> {
    let of = parts.len() as u64;
    (0..of).map(|step| (parts[0] - 1 + step) % of + 1).collect()
}

#[test]
fn checks_of_two_snapshots_in_turn_read_all_of_each() {
    let world = World::ready();
    snapshots(&world);
    let number = |snapshot: &str| read(&world, &[snapshot, "--read-data=50"]).exits(0).json()["part"]["number"].clone();
    let read: Vec<[Value; 2]> = (0..2).map(|_| ["1", "2"].map(number)).collect();
    for snapshot in 0..2 {
        assert_ne!(read[0][snapshot], read[1][snapshot], "{read:?}");
    }
}

#[test]
fn a_round_that_cannot_be_read_starts_over_and_one_that_cannot_be_written_says_so() {
    let world = World::ready();
    world.backup();
    round(&world, 2, &["--read-data=50"]);
    read(&world, &["--read-data=50"]).exits(0);
    let state = world.other_host("watcher").state_of_repository();
    for damaged in ["", "{\"all\":[]}", "{\"all\":{\"2\":-1}}"] {
        fs::write(state.join("rounds.json"), damaged).unwrap();
        let output = read(&world, &["--read-data=50"]).exits(0);
        assert!(output.warnings().contains(&"reading-restarted".to_owned()), "{damaged}: {output:?}");
        let number = |output: &Output| output.json()["part"]["number"].as_u64().unwrap();
        assert_eq!(number(&read(&world, &["--read-data=50"]).exits(0)), 3 - number(&output), "{damaged}");
    }
    fs::write(state.join("rounds.json"), "{\"all\":{\"2\":41}}").unwrap();
    assert_eq!(read(&world, &["--read-data=50"]).exits(0).json()["part"]["number"], 2);
    // Nothing replaces a folder by a file.
    fs::remove_file(state.join("rounds.json")).unwrap();
    fs::create_dir(state.join("rounds.json")).unwrap();
    let output = read(&world, &["--read-data=50"]).exits(0);
    assert!(output.warnings().contains(&"reading-not-remembered".to_owned()), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_was_killed_is_made_up_for_by_the_next_one() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    snapshots(&world);
    // One of two parts holds a pack for sure.
    let mut interrupted = 0;
    let mut part = read(&world, &["--read-data=50"]).exits(0).json()["part"]["number"].as_u64().unwrap();
    for _ in 0..2 {
        part = 3 - part;
        let held = server.hold("GET", "/packs/", Side::After);
        let mut running = world.other_host("watcher").start(&["check", "--read-data=50"]);
        if held.reached_by(&mut running) {
            running.kill();
            interrupted += 1;
            assert_eq!(read(&world, &["--read-data=50"]).exits(0).json()["part"]["number"], part);
        } else {
            server.let_all_pass();
            running.wait().exits(0);
        }
    }
    assert!(interrupted > 0);
    assert_eq!(read(&world, &["--read-data=50"]).exits(0).json()["part"]["number"], 3 - part);
}
