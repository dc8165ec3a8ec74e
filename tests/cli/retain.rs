//! Retention as a person meets it: the plan with its reasons, what is refused, and what an `--apply` leaves.

use std::fs;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::past::{Past, days_ago, set_time};
use crate::support::world::{Output, Sources, World, tree};

/// A host with `snapshots` snapshots, each of other sources, the newest taken yesterday and each other one a day before
/// the next; and what the sources held each time.
pub fn history(snapshots: u32) -> (World, Vec<Sources>) {
    let days: Vec<i64> = (1..=i64::from(snapshots)).rev().collect();
    history_of(&days)
}

/// The same, each taken so many days ago.
pub fn history_of(days: &[i64]) -> (World, Vec<Sources>) {
    let world = World::ready();
    let mut sources = Vec::new();
    for number in 1..=days.len() {
        world.add_rows(20);
        world.set_environment(&format!("TOKEN={number}\n"));
        sources.push(world.sources());
        world.backup();
    }
    Past::of(&world, &world.path("repository")).age(days);
    (world, sources)
}

fn configure(world: &World, section: &str) {
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("{config}\n{section}\n")).unwrap();
}

pub fn signer(world: &World) -> String {
    let json = fs::read(world.path("repository/repository.json")).unwrap();
    serde_json::from_slice::<Value>(&json).unwrap()["signer"].as_str().unwrap().to_owned()
}

pub fn listed(world: &World) -> Vec<u64> {
    let json = world.sealift(&["snapshots", "--json"]).rows();
    json.as_array().unwrap().iter().map(|row| row["sequence"].as_u64().unwrap()).collect()
}

fn files(world: &World, folder: &str) -> usize {
    fs::read_dir(world.path("repository").join(folder)).map_or(0, Iterator::count)
}

/// `sequence: keep|go: reasons`, from the JSON.
pub fn plan(output: &Output) -> Vec<String> {
    let json = output.json();
    let line = |line: &Value| {
        let reasons: Vec<&str> = line["reasons"].as_array().unwrap().iter().map(|why| why.as_str().unwrap()).collect();
        let what = if line["keep"] == true { "keep" } else { "go" };
        format!("{} {what}: {}", line["sequence"], reasons.join(", "))
    };
    json["snapshots"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn a_plan_says_why_of_each_snapshot_and_changes_nothing() {
    let (world, _) = history(4);
    let before = tree(&world.path("repository"));
    let output = world.sealift(&["retain", "--keep-last", "2"]).exits(0).says("nothing deleted; add --apply");
    assert!(output.all().contains("no rule reaches it") && output.all().contains("newest"), "{}", output.all());
    let output = world.sealift(&["retain", "--keep-last", "2", "--json"]).exits(0);
    let newest = "newest, newest good, last";
    assert_eq!(
        plan(&output),
        ["1 go: no rule reaches it", "2 go: no rule reaches it", "3 keep: last", &format!("4 keep: {newest}")]
    );
    assert_eq!((&output.json()["applied"], &output.json()["version"]), (&json!(false), &json!(1)));
    assert!(tree(&world.path("repository")) == before);
}

#[test]
fn what_is_left_after_an_apply_restores_and_nothing_else_is_there() {
    let (world, sources) = history_of(&[20, 19, 18, 17, 16, 15, 14, 5, 4, 3, 2, 1]);
    configure(&world, "[retention]\nkeep_last = 2\nkeep_weekly = 2");
    let output = world.sealift(&["retain", "--apply", "--json"]).exits(0);
    let kept = listed(&world);
    assert!(kept.ends_with(&[11, 12]) && kept.len() <= 4, "{kept:?}");
    for sequence in &kept {
        world.assert_restores(*sequence, &sources[usize::try_from(*sequence - 1).unwrap()]);
    }
    let deleted = &output.json()["deleted"];
    assert_eq!(deleted["records"], 12 - kept.len());
    assert!(deleted["manifests"].as_u64().unwrap() > 0 && deleted["bytes"].as_u64().unwrap() > 0, "{deleted}");
    // Manifests older than the grace period of a week are gone with their records, younger ones wait.
    let young = (8..=12).filter(|sequence| !kept.contains(sequence)).count();
    assert_eq!(files(&world, "manifests"), kept.len() + young);
    let again = world.sealift(&["retain", "--apply", "--json"]).exits(0).json();
    assert_eq!((&again["deleted"]["records"], &again["deleted"]["manifests"]), (&json!(0), &json!(0)));
    let now = world.sources();
    let sequence = world.backup();
    world.assert_restores(sequence, &now);
}

#[test]
fn packs_that_no_snapshot_needs_go_and_those_that_one_needs_stay() {
    let world = World::ready();
    world.backup();
    // A new database shares no page with the old one.
    fs::remove_file(world.database()).unwrap();
    let connection = rusqlite::Connection::open(world.database()).unwrap();
    connection.execute_batch("create table t (id integer primary key, body blob)").unwrap();
    drop(connection);
    world.add_rows(100);
    let now = world.sources();
    world.backup();
    let before = files(&world, "packs");
    Past::of(&world, &world.path("repository")).age(&[20, 10]);
    let output = world.sealift(&["retain", "--keep-last", "1", "--apply", "--json"]).exits(0).json();
    let packs = output["deleted"]["packs"].as_u64().unwrap();
    assert!(packs > 0, "{output}");
    assert_eq!(files(&world, "packs"), before - usize::try_from(packs).unwrap());
    assert_eq!(output["requests"]["delete"].as_u64().unwrap(), 1 + packs + 1);
    world.assert_restores(2, &now);
    world.restore("1", "gone").exits(1);
}

#[test]
fn without_rules_retention_is_refused_with_the_lines_to_add() {
    let (world, _) = history(3);
    let plain = fs::read_to_string(world.config()).unwrap();
    let before = tree(&world.path("repository"));
    for section in ["", "[retention]", "[retention]\ntime_zone = \"Asia/Tokyo\"", "[retention]\ngrace = \"14d\""] {
        fs::write(world.config(), format!("{plain}\n{section}\n")).unwrap();
        for command in [&["retain"][..], &["retain", "--apply"], &["retain", "--apply", "--unattended"]] {
            world.sealift(command).exits(2).says("[retention]\nkeep_daily = 14");
        }
    }
    assert!(tree(&world.path("repository")) == before);
    // Naming a snapshot needs no rule.
    world.sealift(&["retain", "--remove", "1", "--apply"]).exits(0);
    assert_eq!(listed(&world), [2, 3]);
}

#[test]
fn a_grace_period_may_be_longer_and_never_shorter() {
    let (world, _) = history_of(&[30, 20, 10]);
    let plain = fs::read_to_string(world.config()).unwrap();
    let section = |grace: &str| {
        fs::write(world.config(), format!("{plain}\n[retention]\nkeep_last = 1\ngrace = \"{grace}\"\n")).unwrap();
    };
    section("6d");
    world.sealift(&["retain"]).exits(2).says("7d");
    section("25d");
    let output = world.sealift(&["retain", "--apply", "--json"]).exits(0).json();
    assert_eq!((&output["deleted"]["records"], &output["deleted"]["manifests"]), (&json!(2), &json!(1)), "{output}");
    section("7d");
    let output = world.sealift(&["retain", "--apply", "--json"]).exits(0).json();
    assert_eq!(output["deleted"]["manifests"], 1, "{output}");
}

#[test]
fn a_flag_replaces_the_rule_of_its_name() {
    let (world, _) = history(3);
    let plain = fs::read_to_string(world.config()).unwrap();
    let rules = |section: &str, flags: &[&str]| {
        fs::write(world.config(), format!("{plain}\n{section}\n")).unwrap();
        world.sealift(&[&["retain", "--json"], flags].concat()).exits(0).json()["rules"].clone()
    };
    let zone = "[retention]\ntime_zone = \"Asia/Tokyo\"";
    let weekly = "[retention]\nkeep_weekly = 3";
    let last = &["--keep-last", "2"];
    for (section, with_flag) in [
        ("", json!({ "keep_last": 2 })),
        ("[retention]", json!({ "keep_last": 2 })),
        (zone, json!({ "keep_last": 2, "time_zone": "Asia/Tokyo" })),
        (weekly, json!({ "keep_last": 2, "keep_weekly": 3 })),
    ] {
        assert_eq!(rules(section, last), with_flag, "{section}");
    }
    assert_eq!(rules(weekly, &[]), json!({ "keep_weekly": 3 }));
}

#[test]
fn the_record_names_the_rules_and_another_machine_deletes_only_by_its_own() {
    let world = World::ready();
    configure(&world, "[retention]\nkeep_daily = 2\ntime_zone = \"Europe/Berlin\"");
    world.backup();
    let rules = json!({ "keep_daily": 2, "time_zone": "Europe/Berlin" });
    assert_eq!(world.record_json(1)["retention"], rules);
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[9]);
    past.repeat((1..9).rev().map(|days| (days_ago(days), days_ago(days))));

    let other = world.other_host("pruner");
    let signer = signer(&world);
    for command in [&["retain"][..], &["retain", "--apply"]] {
        other.sealift(&[command, &["--signer", &signer]].concat()).exits(2).says("[retention]\nkeep_daily = 14");
    }
    let shown = other.sealift(&["retain", "--keep-daily", "3", "--signer", &signer, "--json"]).exits(0).json();
    assert_eq!((&shown["rules"], &shown["recorded_rules"]), (&json!({ "keep_daily": 3 }), &rules));
    assert_eq!(listed(&world).len(), 9);
    // A slip of the pen: one place for all of these days.
    let slip = other.sealift(&["retain", "--apply", "--unattended", "--keep-yearly", "1"]).exits(15);
    slip.says("8 of 9 days").says("max_remove_percent");
    assert_eq!(listed(&world).len(), 9);
    other.sealift(&["retain", "--apply", "--keep-daily", "3"]).exits(0);
    assert_eq!(listed(&other), [7, 8, 9]);
    assert_eq!(world.backup(), 10);
}

#[test]
fn what_must_stay_is_not_removed_and_rules_that_keep_nothing_are_none() {
    let (world, _) = history(3);
    let before = tree(&world.path("repository"));
    world.sealift(&["retain", "--remove", "3", "--apply"]).exits(15).says("newest");
    world.sealift(&["retain", "--remove", "7", "--apply"]).exits(1).says("no snapshot 7");
    for rules in [&["--keep-last", "0"][..], &["--keep-tag", "none"]] {
        world.sealift(&[&["retain", "--apply"], rules].concat()).exits(15).says("keep no snapshot");
    }
    let refused = world.sealift(&["retain", "--keep-last", "1", "--unattended", "--apply"]).exits(15);
    refused.says("2 of 3 days").says("a higher max_remove_percent");
    world.sealift(&["retain", "--keep-last", "1", "--remove", "1"]).exits(2);
    world.sealift(&["retain", "--keep-within", "never"]).exits(2).says("30d");
    world.sealift(&["retain", "--ignore", "1"]).exits(15).says("--remove 1");
    world.sealift(&["retain", "--ignore", "7"]).exits(1);
    assert!(tree(&world.path("repository")) == before);
    configure(&world, "[retention]\nkeep_last = 2\nmax_remove_percent = 34");
    world.sealift(&["retain", "--unattended", "--apply"]).exits(0);
    assert_eq!(listed(&world), [2, 3]);
}

/// A timer runs once a day.
#[test]
fn hourly_snapshots_of_which_a_day_keeps_one_are_thinned_by_an_unattended_run() {
    let (world, _) = history_of(&[9]);
    let past = Past::of(&world, &world.path("repository"));
    past.repeat((2..9).rev().map(|days| (days_ago(days), days_ago(days))));
    let hour = |hour: i64| days_ago(1) + SignedDuration::from_hours(hour);
    past.repeat((-12..12).map(|number| (hour(number), hour(number))));
    configure(&world, "[retention]\nkeep_daily = 7");
    world.sealift(&["retain", "--unattended", "--apply"]).exits(0);
    assert_eq!(listed(&world), [3, 4, 5, 6, 7, 8, 32]);
}

#[test]
fn a_plan_promises_nothing_that_apply_refuses() {
    let (world, _) = history(3);
    let refused: [&[&str]; 2] =
        [&["retain", "--keep-last", "1", "--unattended"], &["retain", "--keep-yearly", "1", "--unattended"]];
    for command in refused {
        let output = world.sealift(command).exits(3).says("[apply-refused]");
        assert!(!output.all().contains("add --apply"), "{output:?}");
        let json = world.sealift(&[command, &["--json"]].concat()).exits(3);
        assert_eq!(
            (json.warnings().contains(&"apply-refused".to_owned()), &json.json()["refused"]),
            (true, &json!(true))
        );
        world.sealift(&[command, &["--apply"]].concat()).exits(15);
    }
    let output = world.sealift(&["retain", "--keep-last", "2", "--unattended", "--json"]).exits(0);
    assert_eq!(output.json()["refused"], json!(false));
    world.sealift(&["retain", "--keep-last", "2", "--unattended", "--apply"]).exits(0);
}

#[test]
fn one_that_is_removed_by_hand_goes_alone() {
    let (world, sources) = history(4);
    let output = world.sealift(&["retain", "--remove", "2", "--apply", "--json"]).exits(0);
    assert_eq!(plan(&output)[1], "2 go: named by hand");
    assert_eq!(listed(&world), [1, 3, 4]);
    for sequence in [1, 3, 4] {
        world.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
    }
}

/// Twelve snapshots, of which the record of the fifth is damaged.
fn damaged_record() -> (World, Vec<Sources>) {
    let (world, sources) = history(12);
    let text = fs::read_to_string(world.record(5)).unwrap().replacen("\"sequence\":5", "\"sequence\":6", 1);
    fs::write(world.record(5), text).unwrap();
    (world, sources)
}

const KEEP_THREE: [&str; 5] = ["retain", "--keep-last", "3", "--apply", "--json"];

#[test]
fn a_damaged_record_blocks_every_deletion_until_a_person_ignores_it() {
    let (world, sources) = damaged_record();
    let before = tree(&world.path("repository"));
    world.sealift(&KEEP_THREE).exits(15).says("--ignore 5");
    let shown = world.sealift(&["retain", "--keep-last", "3", "--json"]).exits(3);
    assert!(shown.warnings().contains(&"apply-refused".to_owned()), "{shown:?}");
    assert_eq!(shown.json()["refused"], true);
    world.sealift(&["retain", "--remove", "5", "--apply"]).exits(15).says("--ignore 5");
    world.sealift(&["retain", "--ignore", "99", "--apply"]).exits(1);
    // Without --apply nothing is remembered.
    world.sealift(&["retain", "--ignore", "5", "--json"]);
    world.sealift(&KEEP_THREE).exits(15);

    let output = world.sealift(&["retain", "--ignore", "5", "--apply", "--json"]).exits(0);
    assert_eq!(output.json()["ignored"], json!([5]));
    assert!(output.warnings().contains(&"record-ignored".to_owned()), "{output:?}");
    assert!(tree(&world.path("repository")) == before, "ignoring deletes nothing");

    let output = world.sealift(&KEEP_THREE).exits(0).json();
    assert_eq!(output["deleted"]["records"], 8, "{output}");
    assert!(world.record(5).exists());
    for sequence in 10..=12 {
        world.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
    }
    world.sealift(&["retain", "--remove", "5", "--apply"]).exits(0);
    assert!(!world.record(5).exists());
}

#[test]
fn other_bytes_under_an_ignored_number_block_again() {
    let (world, _) = damaged_record();
    world.sealift(&["retain", "--ignore", "5", "--apply"]).exits(0);
    fs::write(world.record(5), "something else").unwrap();
    world.sealift(&KEEP_THREE).exits(15).says("--ignore 5");
}

/// Signed by a key that nothing names: what it needs stays while its record is there.
#[test]
fn what_an_ignored_record_with_a_valid_signature_names_stays_until_it_is_removed() {
    let (world, _) = history_of(&[30, 20, 10]);
    let other = sealift::crypto::Signer::generate().unwrap();
    let record = world.record_json(1);
    let manifest = world.manifest(1);
    world.write_record(1, &record, &other);
    set_time(&world.record(1), days_ago(30));
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(15).says("--ignore 1");
    world.sealift(&["retain", "--ignore", "1", "--apply"]).exits(0);
    let output = world.sealift(&["retain", "--keep-last", "1", "--apply", "--json"]).exits(0).json();
    assert_eq!((&output["deleted"]["records"], &output["deleted"]["manifests"]), (&json!(1), &json!(1)), "{output}");
    assert!(manifest.exists());
    world.sealift(&["retain", "--remove", "1", "--apply"]).exits(0);
    assert!(!world.record(1).exists() && !manifest.exists());
}

/// A host that was upgraded signs such.
#[test]
fn a_record_of_a_newer_format_by_the_trusted_key_blocks_and_cannot_be_ignored() {
    let (world, _) = history(12);
    Past::of(&world, &world.path("repository")).newer_format();
    let pruner = world.other_host("pruner");
    let before = tree(&world.path("repository"));
    let signer = signer(&world);
    let retain = ["retain", "--signer", &signer, "--keep-last", "1", "--apply"];
    let output = pruner.sealift(&retain).exits(15).says("upgrade sealift on this machine");
    assert!(!output.all().contains("--ignore"), "{output:?}");
    pruner.sealift(&["retain", "--ignore", "12", "--apply"]).exits(15).says("upgrade sealift");
    assert!(tree(&world.path("repository")) == before);
}

/// A copy of one record under the number of another is damage that a person may ignore.
#[test]
fn a_record_that_was_moved_can_be_ignored() {
    let (world, _) = history(4);
    fs::copy(world.record(2), world.record(1)).unwrap();
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(15).says("--ignore 1");
    world.sealift(&["retain", "--ignore", "1", "--apply"]).exits(0);
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(0);
    assert!(world.record(1).exists() && !world.record(2).exists() && world.record(4).exists());
}

#[test]
fn with_nothing_to_delete_a_blocker_refuses_nothing() {
    // What the damaged record may need is younger than the grace period.
    let (world, _) = history(4);
    fs::write(world.record(2), "something else").unwrap();
    let output = world.sealift(&["retain", "--keep-last", "99", "--apply", "--json"]).exits(3);
    assert!(!output.warnings().contains(&"apply-refused".to_owned()), "{output:?}");
    assert_eq!(output.json()["deleted"]["records"], 0);
}

/// Receipts are evidence, not commands.
#[test]
fn a_drill_changes_nothing_about_what_is_kept() {
    let (world, _) = history(4);
    let identity = world.text("operator.key");
    let drills = world.other_host("driller");
    let drill = drills.sealift(&["drill", "2", "-i", &identity, "--signer", &signer(&world), "--json"]);
    assert_eq!(drill.json()["passed"], true, "{drill:?}");
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(0);
    assert_eq!(listed(&world), [4]);
}

#[test]
fn the_list_of_snapshots_says_why_each_is_kept() {
    let (world, _) = history(3);
    configure(&world, "[retention]\nkeep_last = 2");
    let json = world.sealift(&["snapshots", "--json"]).exits(0).rows();
    assert_eq!((&json[0]["keep"], &json[0]["reasons"]), (&json!(false), &json!(["no rule reaches it"])));
    assert_eq!((&json[1]["keep"], &json[1]["reasons"]), (&json!(true), &json!(["last"])));
    world.sealift(&["snapshots"]).exits(0).says("not kept: no rule reaches it");
}

/// A missing object counts for both.
#[test]
fn the_list_of_snapshots_gives_the_reasons_that_retention_has() {
    let (world, _) = history(4);
    configure(&world, "[retention]\nkeep_last = 1");
    let missing = world.packs(4).into_iter().find(|pack| !world.packs(3).contains(pack)).unwrap();
    fs::remove_file(missing).unwrap();
    let reasons = |rows: &serde_json::Value| -> Vec<(bool, serde_json::Value)> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (row["keep"].as_bool().unwrap(), row["reasons"].clone())).collect()
    };
    let planned = reasons(&world.sealift(&["retain", "--json"]).exits(0).json()["snapshots"]);
    assert_eq!((planned[2].0, planned[1].0), (true, false), "the newest good one: {planned:?}");
    let listed = world.sealift(&["snapshots", "--json"]).exits(3);
    assert_eq!(listed.warnings(), ["snapshots-incomplete"]);
    assert_eq!(reasons(&listed.rows()), planned);
}

/// Rules pass over it, and a person removes it.
#[test]
fn a_snapshot_that_was_stored_long_after_its_successors_is_out_of_order() {
    let (world, _) = history_of(&[30, 20, 10]);
    let rules = ["retain", "--keep-last", "1", "--json"];
    let is_reported = |output: &Output| output.warnings().contains(&"out-of-order".to_owned());
    let (other, signer) = (world.other_host("other"), signer(&world));
    set_time(&world.record(2), days_ago(10) + SignedDuration::from_hours(20));
    let output = world.other_host("first").sealift(&[&rules[..], &["--signer", &signer]].concat()).exits(0);
    assert!(!is_reported(&output), "a bucket is copied in no order");
    set_time(&world.record(2), days_ago(5));
    let output = other.sealift(&[&rules[..], &["--signer", &signer]].concat()).exits(0);
    assert!(is_reported(&output), "{output:?}");
    assert_eq!(plan(&output)[1], "2 keep: out of order");
    other.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(0);
    assert_eq!(listed(&other), [2, 3]);
    other.sealift(&["retain", "--remove", "2", "--apply"]).exits(0);
    assert!(!is_reported(&other.sealift(&rules).exits(0)));
}
