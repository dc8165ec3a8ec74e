//! `status` says at a glance, and by its exit code, whether there is a fresh and good snapshot.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use sealift::crypto::Signer;
use serde_json::{Value, json};

use crate::damage::{Harm, harm};
use crate::keys::{keys, opens, person, ready};
use crate::support::minio::Minio;
use crate::support::past::{Past, days_ago};
use crate::support::world::{Output, World};

fn status(world: &World, arguments: &[&str]) -> Output {
    world.sealift(&[&["status", "--json"], arguments].concat())
}

/// As the bucket's clock has it.
fn make_older(world: &World, sequence: u64, hours: u64) {
    let file = File::options().write(true).open(world.record(sequence)).unwrap();
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
}

fn sequence(point: &Value) -> Option<u64> {
    point["sequence"].as_u64()
}

#[test]
fn a_fresh_and_good_snapshot_is_0_on_the_host_and_for_a_reader_with_nothing_but_the_address() {
    let world = World::ready();
    world.backup();
    world.add_rows(50);
    world.backup();
    for machine in [&world, &world.other_host("watcher")] {
        let json = status(machine, &[]).exits(0).json();
        assert_eq!((&json["status"], &json["repository"]), (&json!("fresh"), &json!(world.repository)));
        assert_eq!((sequence(&json["newest"]), sequence(&json["newest_good"])), (Some(2), Some(2)));
        assert_eq!(json["newest_drilled"], Value::Null);
        let snapshots = json["snapshots"].as_array().unwrap();
        let bytes = |name: &str| snapshots.iter().map(|row| row[name].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(bytes("new_bytes")[0], bytes("stored_bytes")[0], "all of the first one is new");
        assert!(bytes("new_bytes")[1] < bytes("stored_bytes")[1]);
        assert_eq!(json["growth_bytes"], bytes("new_bytes").iter().sum::<u64>());
        assert!(json["stored_bytes"].as_u64() > json["growth_bytes"].as_u64(), "records and keys come on top");
    }
}

#[test]
fn too_old_is_14_and_how_old_is_too_old_is_for_the_caller_to_say() {
    let world = World::ready();
    world.backup();
    make_older(&world, 1, 50);
    let json = status(&world, &[]).exits(14).json();
    assert_eq!((&json["status"], &json["newest"]["age_seconds"].as_i64().unwrap() / 3600), (&json!("stale"), 50));
    status(&world, &["--max-age", "49h"]).exits(14);
    status(&world, &["--max-age", "51h"]).exits(0);
    status(&world, &["--max-age", "3d"]).exits(0);
    for nonsense in ["soon", "-1h", "0s", "1mo", ""] {
        status(&world, &["--max-age", nonsense]).exits(2);
    }
}

#[test]
fn without_any_wrapped_key_no_snapshot_is_good() {
    let world = World::ready();
    world.backup();
    let rows = |machine: &World| machine.sealift(&["snapshots", "--json"]).rows();
    assert_eq!(rows(&world)[0]["restorable"], true);
    fs::remove_file(world.path("repository/keys/1/1.age")).unwrap();
    for machine in [&world, &world.other_host("watcher")] {
        assert_eq!(status(machine, &[]).exits(14).json()["newest_good"], Value::Null);
        assert_eq!(rows(machine)[0]["restorable"], false);
    }
}

#[test]
fn no_snapshot_is_14_and_no_repository_is_10() {
    let world = World::new();
    status(&world, &[]).exits(10);
    world.init().exits(0);
    assert_eq!(status(&world, &[]).exits(14).json()["status"], "missing");
    world.backup();
    let other = Signer::generate().unwrap().public().to_string();
    let output = status(&world.other_host("watcher"), &["--signer", &other]).exits(14);
    assert_eq!((&output.json()["status"], output.warnings()), (&json!("missing"), vec!["record-untrusted".to_owned()]));
}

#[test]
fn a_newest_snapshot_that_is_not_good_is_a_problem_and_stale_once_the_last_good_one_is_too_old() {
    let world = World::ready();
    world.backup();
    world.add_rows(50);
    world.backup();
    let pack = world.packs(2).into_iter().find(|pack| !world.packs(1).contains(pack)).unwrap();
    harm(&pack, Harm::Delete);
    let json = status(&world, &[]).exits(3).json();
    assert_eq!((&json["status"], sequence(&json["newest_good"])), (&json!("problem"), Some(1)));
    make_older(&world, 1, 50);
    assert_eq!(status(&world, &[]).exits(14).json()["status"], "stale");
    harm(&world.packs(1)[0], Harm::Truncate);
    assert_eq!(status(&world, &[]).exits(14).json()["newest_good"], Value::Null);
}

/// On every machine alike; and none of it makes a snapshot good or not good.
#[test]
fn the_last_drill_of_each_snapshot_shows_with_the_key_that_signed_it() {
    let world = World::ready();
    world.backup();
    world.add_rows(50);
    world.backup();
    let (operator, key) = (world.other_host("operator"), world.text("operator.key"));
    let drilled = operator.sealift(&["drill", "1", "-i", &key, "--json"]).exits(0).json();
    harm(world.packs(2).iter().find(|pack| !world.packs(1).contains(pack)).unwrap(), Harm::Flip(500));
    operator.sealift(&["drill", "-i", &key]).exits(13);
    for machine in [&world, &operator, &world.other_host("watcher")] {
        let json = machine.sealift(&["status", "--json"]).exits(0).json();
        assert_eq!((sequence(&json["newest_drilled"]), sequence(&json["newest_failed_drill"])), (Some(1), Some(2)));
        assert_eq!(json["newest_drilled"]["signer"], drilled["signer"]);
        assert_eq!(sequence(&json["newest_good"]), Some(2));
        let rows = machine.sealift(&["snapshots", "--json"]).exits(0).rows();
        for (row, passed) in [(&rows[0], true), (&rows[1], false)] {
            assert_eq!((&row["drill"]["passed"], &row["drill"]["signer"]), (&json!(passed), &drilled["signer"]));
            assert!(row["drill"]["time"].is_string());
            assert_eq!(row["restorable"], true);
        }
    }
}

#[test]
fn a_fleet_is_a_line_each_and_the_highest_exit_code() {
    let (one, other) = (World::ready(), World::ready());
    one.backup();
    other.backup();
    let watcher = one.other_host("watcher");
    let fleet = |more: &[&str]| {
        let arguments = ["status", "--repository", &one.repository, "--repository", &other.repository];
        watcher.sealift(&[&arguments, more].concat())
    };
    let document = fleet(&["--json"]).exits(0).json();
    assert_eq!((&document["version"], &document["warnings"]), (&json!(1), &json!([])));
    let list = document["repositories"].clone();
    let urls: Vec<&Value> = list.as_array().unwrap().iter().map(|row| &row["repository"]).collect();
    assert_eq!(urls, [&json!(one.repository), &json!(other.repository)]);
    make_older(&other, 1, 50);
    fleet(&[]).exits(14).says("fresh").says("STALE").says("50h");
    let signer: Value = serde_json::from_slice(&fs::read(one.path("repository/repository.json")).unwrap()).unwrap();
    let signer = signer["signer"].as_str().unwrap();
    let nowhere = one.text("nowhere");
    fs::write(one.path("fleet"), format!("# ours\n{} {signer}\n\n{nowhere}\n", one.repository)).unwrap();
    let file = one.text("fleet");
    let mut command = watcher.command(&["status", "--json", "--repositories", &file]);
    let list = Output::of(command.env_remove("SEALIFT_REPOSITORY")).exits(10).json()["repositories"].clone();
    assert_eq!((&list[0]["status"], &list[0]["warnings"]), (&json!("fresh"), &json!([])), "pinned by its line");
    assert_eq!((&list[1]["status"], &list[1]["error"]["code"]), (&json!("failed"), &json!(10)));
    fleet(&["--signer", signer]).exits(2);
    let both = ["snapshots", "--repository", &one.repository, "--repository", &other.repository];
    watcher.sealift(&both).exits(2).says("status");
}

/// What only older snapshots need, the newest good one does not miss.
#[test]
fn an_older_snapshot_that_is_incomplete_is_a_problem_in_a_fleet_too() {
    let (world, other) = (World::ready(), World::ready());
    world.backup();
    world.set_environment("TOKEN=second\n");
    world.backup();
    other.backup();
    status(&world, &[]).exits(0);
    harm(&world.manifest(1), Harm::Delete);
    let output = status(&world, &[]).exits(3);
    assert_eq!(output.warnings(), ["snapshots-incomplete"]);
    let json = output.json();
    assert_eq!((&json["status"], sequence(&json["newest_good"])), (&json!("problem"), Some(2)));
    assert_eq!(
        (&json["snapshots"][0]["restorable"], &json["snapshots"][1]["restorable"]),
        (&json!(false), &json!(true))
    );
    let fleet = ["status", "--repository", &other.repository, "--repository", &world.repository];
    world.sealift(&fleet).exits(3).says("snapshots-incomplete");
    world.sealift(&["check"]).exits(13).says("retain --remove N");
    make_older(&world, 2, 50);
    status(&world, &[]).exits(14);
}

/// A host with a clock that runs a month ahead, writing into a directory that takes its times over, and then dead.
#[test]
fn a_snapshot_whose_time_lies_ahead_shows_how_far_and_no_recovery_point() {
    let world = World::ready();
    world.backup();
    Past::of(&world, &world.path("repository")).age(&[-30]);
    let json = status(&world, &[]).exits(0).json();
    assert!(json["newest"]["age_seconds"].as_i64().unwrap() < -28 * 24 * 3600, "{json}");
    world.sealift(&["snapshots"]).exits(0).says("days ahead");
    let drilled = ["drill", "-i", &world.text("operator.key"), "--json"];
    let drilled = world.other_host("operator").sealift(&drilled).exits(0);
    assert_eq!((&drilled.json()["recovery_point_seconds"], &drilled.json()["passed"]), (&Value::Null, &json!(true)));
}

#[test]
fn of_a_fleet_what_cannot_be_looked_at_is_worse_than_a_problem_and_warnings_are_shown() {
    let world = World::ready();
    world.backup();
    world.set_environment("TOKEN=second\n");
    world.backup();
    harm(&world.manifest(1), Harm::Delete);
    let unreachable = world.text("unreachable");
    std::os::unix::fs::symlink(&unreachable, &unreachable).unwrap();
    let watcher = world.other_host("watcher");
    let one = |url: &str| ["status".to_owned(), "--repository".to_owned(), url.to_owned()];
    let fleet = [&one(&world.repository)[..], &one(&unreachable)[1..]].concat();
    let fleet: Vec<&str> = fleet.iter().map(String::as_str).collect();
    let output = watcher.sealift(&fleet).exits(1).says("PROBLEM").says("FAILED");
    output.says("[unpinned-signer]").says("[snapshots-incomplete]");
    // The environment names another one, which the file does not.
    let other = World::ready();
    other.backup();
    fs::write(world.path("fleet"), format!("{}\n", other.repository)).unwrap();
    let file = world.text("fleet");
    let list = watcher.sealift(&["status", "--json", "--repositories", &file]).exits(0).json()["repositories"].clone();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let both = ["status", "--json", "--repositories", &file, "--repository", &world.repository];
    assert_eq!(watcher.sealift(&both).exits(3).json()["repositories"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_tells_its_status() {
    let Some(server) = Minio::start().await else { return };
    let world = World::in_bucket(&server);
    assert_eq!(status(&world, &[]).exits(14).json()["status"], "missing");
    world.backup();
    let json = status(&world.other_host("watcher"), &[]).exits(0).json();
    assert_eq!((&json["status"], sequence(&json["newest_good"])), (&json!("fresh"), Some(1)));
}

#[test]
fn key_files_that_the_host_did_not_make_are_a_note_in_its_status() {
    let world = ready();
    let bob = person(&world, "bob");
    assert!(status(&world, &[]).exits(0).warnings().is_empty());
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    world.an_hour_later();
    world.backup();
    let output = status(&world, &[]).exits(0);
    assert_eq!((&output.json()["status"], output.warnings()), (&json!("fresh"), vec!["key-files-new".to_owned()]));
    world.sealift(&["status", "--strict"]).exits(0);
    let watcher = status(&world.other_host("watcher"), &["--strict"]);
    assert!(!watcher.warnings().contains(&"key-files-new".to_owned()), "it keeps no copies: {watcher:?}");
    // Noise in its place: the host puts its copy back, under the next free version.
    fs::write(world.path("repository/keys/1/2.age"), "noise").unwrap();
    world.an_hour_later();
    let restored = world.sealift(&["backup", "--json"]).exits(3);
    assert!(restored.warnings().contains(&"key-files-restored".to_owned()), "{restored:?}");
    status(&world, &[]).exits(0);
    assert!(opens(&world, "bob", 2));
}

/// A host whose clock is three days ahead.
#[test]
fn a_signed_time_ahead_makes_no_snapshot_younger_wherever_its_age_is_shown() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[5]);
    past.repeat([(days_ago(-3), days_ago(2))]);
    let listed = world.sealift(&["snapshots", "--json"]).exits(0).rows();
    assert_eq!(listed[1]["time"], json!(days_ago(-3)));
    assert_eq!(listed[1]["effective_time"], json!(days_ago(2)));
    let rows = world.sealift(&["snapshots"]).exits(0).all();
    let row: Vec<&str> = rows.lines().last().unwrap().split_whitespace().collect();
    assert!(["h", "days"].contains(&row[3]), "{row:?}");
    let drilled = ["drill", "-i", &world.text("operator.key"), "--json"];
    let drilled = world.other_host("operator").sealift(&drilled).exits(0).json();
    assert!(drilled["recovery_point_seconds"].as_i64().unwrap() > 24 * 3600, "{drilled}");
    // What was there a day ago.
    let restored = world.restore(&days_ago(1).to_string(), "target").exits(0).json();
    assert_eq!(restored["sequence"], 2);
    assert_eq!(world.restore(&days_ago(3).to_string(), "older").exits(0).json()["sequence"], 1);
}
