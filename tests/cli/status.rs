//! `status` says at a glance, and by its exit code, whether there is a fresh and good snapshot.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use sealift::crypto::Signer;
use serde_json::{Value, json};

use crate::check::believe;
use crate::damage::{Harm, harm};
use crate::keys::{keys, person, ready};
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
    let rows = |machine: &World| machine.sealift(&["snapshots", "--json"]).json();
    assert_eq!(rows(&world)[0]["hurt"], false);
    fs::remove_file(world.path("repository/keys/1/1.age")).unwrap();
    for machine in [&world, &world.other_host("watcher")] {
        assert_eq!(status(machine, &[]).exits(14).json()["newest_good"], Value::Null);
        assert_eq!(rows(machine)[0]["hurt"], true);
    }
}

#[test]
fn no_snapshot_is_14_and_no_repository_is_10() {
    let world = World::new();
    status(&world, &[]).exits(10);
    world.init().exits(0);
    assert_eq!(status(&world, &[]).exits(14).json()["status"], "missing");
    world.backup();
    let stranger = Signer::generate().unwrap().public().to_string();
    let output = status(&world.other_host("watcher"), &["--signer", &stranger]).exits(14);
    output.says("no snapshot can be verified");
}

#[test]
fn a_newest_snapshot_that_is_not_good_is_a_doubt_and_stale_once_the_last_good_one_is_too_old() {
    let world = World::ready();
    world.backup();
    world.add_rows(50);
    world.backup();
    let pack = world.packs(2).into_iter().find(|pack| !world.packs(1).contains(pack)).unwrap();
    harm(&pack, Harm::Delete);
    let json = status(&world, &[]).exits(3).json();
    assert_eq!((&json["status"], sequence(&json["newest_good"])), (&json!("doubtful"), Some(1)));
    make_older(&world, 1, 50);
    assert_eq!(status(&world, &[]).exits(14).json()["status"], "stale");
    harm(&world.packs(1)[0], Harm::Truncate);
    assert_eq!(status(&world, &[]).exits(14).json()["newest_good"], Value::Null);
}

#[test]
fn what_believed_drills_and_checks_found_shows_in_status_and_snapshots() {
    let world = World::ready();
    world.backup();
    world.add_rows(50);
    world.backup();
    let (operator, key) = (world.other_host("operator"), world.text("operator.key"));
    let drilled = operator.sealift(&["drill", "1", "-i", &key, "--json"]).exits(0).json();
    let row = |machine: &World, sequence: usize| {
        machine.sealift(&["snapshots", "--json"]).exits(0).json()[sequence - 1].clone()
    };
    // The host does not know that driller: what he says is shown as such, and believed by nobody.
    let says = |machine: &World, text: &str| {
        for command in ["snapshots", "status"] {
            machine.sealift(&[command]).exits(0).says(text);
        }
    };
    let unknown = row(&world, 1);
    assert_eq!((&unknown["drill"], &unknown["drill_by_unknown"]["passed"]), (&Value::Null, &json!(true)));
    assert_eq!(unknown["drill_by_unknown"]["driller"], drilled["signer"]);
    let json = status(&world, &[]).exits(0).json();
    assert_eq!((&json["newest_drilled"], sequence(&json["newest_drilled_by_unknown"])), (&Value::Null, Some(1)));
    world.sealift(&["snapshots"]).exits(0).says("passed, unknown driller");
    world.sealift(&["status"]).exits(0).says("newest drilled  none").says("says a driller who is not in drill_signers");
    let own = row(&operator, 1);
    assert_eq!((&own["drill"]["passed"], &own["drill"]["known"]), (&json!(true), &json!(false)), "its own");
    says(&operator, ", by this machine");
    believe(&world, &[drilled["signer"].as_str().unwrap()]);
    let known = row(&world, 1);
    assert_eq!((&known["drill"]["known"], &known["drill_by_unknown"]), (&json!(true), &Value::Null));
    let json = status(&world, &[]).exits(0).json();
    assert_eq!((&json["newest_drilled"]["known"], &json["newest_drilled_by_unknown"]), (&json!(true), &Value::Null));
    assert!(!world.sealift(&["snapshots"]).exits(0).all().contains("passed,"));
    assert_eq!((&row(&world, 1)["drill"]["passed"], &row(&world, 2)["drill"]), (&json!(true), &Value::Null));
    assert_eq!(sequence(&status(&world, &[]).exits(0).json()["newest_drilled"]), Some(1));
    let pack = world.packs(2).into_iter().find(|pack| !world.packs(1).contains(pack)).unwrap();
    harm(&pack, Harm::Flip(500));
    operator.sealift(&["drill", "-i", &key]).exits(13);
    assert_eq!((&row(&world, 1)["hurt"], &row(&world, 2)["hurt"]), (&json!(false), &json!(true)));
    assert_eq!(row(&world, 2)["drill"]["passed"], false);
    let json = status(&world, &[]).exits(3).json();
    assert_eq!((sequence(&json["newest_good"]), sequence(&json["newest_drilled"])), (Some(1), Some(1)));
    let table = String::from_utf8(world.sealift(&["snapshots"]).exits(0).stdout).unwrap();
    let words: Vec<bool> = table.lines().map(|line| line.contains("hurt") && line.contains("FAILED")).collect();
    assert_eq!(words, [false, false, true], "{table}");
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
    let list = fleet(&["--json"]).exits(0).json();
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
    let list = Output::of(command.env_remove("SEALIFT_REPOSITORY")).exits(10).json();
    assert_eq!((&list[0]["status"], &list[0]["warnings"]), (&json!("fresh"), &json!([])), "pinned by its line");
    assert_eq!((&list[1]["status"], &list[1]["error"]["code"]), (&json!("failed"), &json!(10)));
    fleet(&["--signer", signer]).exits(2);
    let both = ["snapshots", "--repository", &one.repository, "--repository", &other.repository];
    watcher.sealift(&both).exits(2).says("status");
}

/// What only older snapshots need, the newest good one does not miss.
#[test]
fn an_older_snapshot_that_is_hurt_is_a_doubt_in_a_fleet_too() {
    let (world, other) = (World::ready(), World::ready());
    world.backup();
    world.set_environment("TOKEN=second\n");
    world.backup();
    other.backup();
    status(&world, &[]).exits(0);
    harm(&world.manifest(1), Harm::Delete);
    let output = status(&world, &[]).exits(3);
    assert_eq!(output.warnings(), ["snapshots-hurt"]);
    let json = output.json();
    assert_eq!((&json["status"], sequence(&json["newest_good"])), (&json!("doubtful"), Some(2)));
    assert_eq!((&json["snapshots"][0]["hurt"], &json["snapshots"][1]["hurt"]), (&json!(true), &json!(false)));
    let fleet = ["status", "--repository", &other.repository, "--repository", &world.repository];
    world.sealift(&fleet).exits(3).says("snapshot 1 cannot be restored in full");
    world.sealift(&["check"]).exits(13).says("retain --remove N");
    make_older(&world, 2, 50);
    status(&world, &[]).exits(14);
}

/// A host with a clock that runs a month ahead, writing into a directory that takes its times over, and then dead.
#[test]
fn a_snapshot_whose_time_lies_ahead_is_not_fresh_however_long_that_lasts() {
    let world = World::ready();
    world.backup();
    Past::of(&world, &world.path("repository")).age(&[-30]);
    let output = status(&world, &[]).exits(3);
    assert_eq!(output.json()["status"], "doubtful");
    assert!(output.warnings().contains(&"time-to-come".to_owned()));
    world.sealift(&["status"]).exits(3).says("days ahead").says("nobody can tell how old snapshot 1 is");
    world.sealift(&["snapshots"]).exits(0).says("days ahead");
    let drilled = ["drill", "-i", &world.text("operator.key"), "--json"];
    let drilled = world.other_host("operator").sealift(&drilled).exits(3);
    assert_eq!((&drilled.json()["recovery_point_seconds"], &drilled.json()["passed"]), (&Value::Null, &json!(true)));
    drilled.says("time-to-come");
}

#[test]
fn of_a_fleet_what_cannot_be_looked_at_is_worse_than_a_doubt_and_warnings_are_told() {
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
    let output = watcher.sealift(&fleet).exits(1).says("DOUBTFUL").says("FAILED");
    output.says("[first-look]");
    // The environment names another one, which the file does not.
    let other = World::ready();
    other.backup();
    fs::write(world.path("fleet"), format!("{}\n", other.repository)).unwrap();
    let file = world.text("fleet");
    let list = watcher.sealift(&["status", "--json", "--repositories", &file]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let both = ["status", "--json", "--repositories", &file, "--repository", &world.repository];
    assert_eq!(watcher.sealift(&both).exits(3).json().as_array().unwrap().len(), 2);
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
fn on_the_host_it_says_that_recipients_are_managed_by_rotation_and_that_a_key_is_in_doubt() {
    let world = ready();
    let bob = person(&world, "bob");
    assert_eq!(status(&world, &[]).exits(0).json()["managed_by_rotation"], false);
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    assert_eq!(status(&world, &[]).exits(0).json()["managed_by_rotation"], true);
    world.sealift(&["status"]).exits(0).says("recipients managed by rotation");
    let watcher = world.other_host("watcher");
    assert_eq!(status(&watcher, &[]).exits(0).json()["managed_by_rotation"], false, "it keeps no copies");
    world.backup();
    fs::write(world.path("repository/keys/1/2.age"), "noise").unwrap();
    world.sealift(&["backup"]).exits(13);
    status(&world, &[]).exits(3).says("keys-exchanged");
}

/// A host whose clock is three days ahead, or a thief of its key.
#[test]
fn a_time_to_come_makes_no_snapshot_younger_wherever_its_age_is_told() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[5]);
    past.repeat([(days_ago(-3), days_ago(2))]);
    let listed = world.sealift(&["snapshots", "--json"]).exits(0).json();
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
