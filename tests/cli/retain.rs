//! Retention as a person meets it: the plan with its reasons, what is refused, and what an `--apply` leaves.

use std::fs;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::damage::{Harm, harm};
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
    let json = world.sealift(&["snapshots", "--json"]).json();
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
    let newest = "newest, newest good, newest good of epoch 1, none proved, last";
    assert_eq!(
        plan(&output),
        ["1 go: no rule reaches it", "2 go: no rule reaches it", "3 keep: last", &format!("4 keep: {newest}")]
    );
    assert_eq!(output.json()["applied"], false);
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
    // A database made anew shares no page with the old one.
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
fn without_a_section_a_day_is_kept_for_two_weeks() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[20]);
    past.repeat((0..20).rev().map(|days| (days_ago(days), days_ago(days))));
    let output = world.sealift(&["retain", "--json"]).exits(0);
    assert_eq!(output.json()["rules"], json!({ "keep_daily": 14 }));
    assert_eq!(plan(&output).iter().filter(|line| line.contains("keep")).count(), 14);
}

/// A rule that is given is one that is set, whatever else stands in the section or whether there is one.
#[test]
fn with_a_rule_as_a_flag_the_two_weeks_hold_no_more() {
    let (world, _) = history(3);
    let plain = fs::read_to_string(world.config()).unwrap();
    let rules = |section: &str, flags: &[&str]| {
        fs::write(world.config(), format!("{plain}\n{section}\n")).unwrap();
        world.sealift(&[&["retain", "--json"], flags].concat()).exits(0).json()["rules"].clone()
    };
    let zone = "[retention]\ntime_zone = \"Asia/Tokyo\"";
    let weekly = "[retention]\nkeep_weekly = 3";
    let last = &["--keep-last", "2"];
    for (section, none, with_flag) in [
        ("", json!({ "keep_daily": 14 }), json!({ "keep_last": 2 })),
        ("[retention]", json!({ "keep_daily": 14 }), json!({ "keep_last": 2 })),
        (
            zone,
            json!({ "keep_daily": 14, "time_zone": "Asia/Tokyo" }),
            json!({ "keep_last": 2, "time_zone": "Asia/Tokyo" }),
        ),
        (weekly, json!({ "keep_weekly": 3 }), json!({ "keep_last": 2, "keep_weekly": 3 })),
    ] {
        assert_eq!((rules(section, &[]), rules(section, last)), (none, with_flag), "{section}");
    }
}

/// Its key is its own, so nothing but the configuration can say that it is to be believed.
#[test]
fn retention_says_where_it_counts_as_whole_what_this_machine_itself_found_hurt() {
    let (world, _) = history(3);
    let pack = world.packs(3).into_iter().find(|pack| !world.packs(2).contains(pack)).unwrap();
    harm(&pack, Harm::Flip(500));
    let pruner = world.other_host("pruner");
    let found = pruner.sealift(&["check", "--signer", &signer(&world), "--read-data", "--json"]).exits(13).json();
    let rules = ["retain", "--keep-last", "1", "--json"];
    let unheard = |output: &Output| output.warnings().contains(&"own-findings-unheard".to_owned());
    let output = pruner.sealift(&rules).exits(3).says("found snapshot 3 hurt");
    assert!(unheard(&output), "{output:?}");
    assert_eq!(plan(&output)[1], "2 go: no rule reaches it");
    // Another machine hears nothing of it, and one that believes it counts the snapshot as hurt.
    assert!(!unheard(&world.sealift(&rules).exits(0)));
    fs::write(pruner.config(), format!("drill_signers = [{}]\n", found["signer"])).unwrap();
    let output = pruner.sealift(&rules).exits(0);
    assert!(!unheard(&output) && plan(&output)[1].starts_with("2 keep: newest good"), "{output:?}");
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
    let shown = other.sealift(&["retain", "--signer", &signer, "--json"]).exits(3);
    assert!(shown.warnings().contains(&"apply-refused".to_owned()), "{shown:?}");
    let shown = shown.json();
    assert_eq!((&shown["rules"], &shown["rules_from"]), (&rules, &json!("record")));
    assert_eq!((&shown["refused"], &shown["applied"]), (&json!(true), &json!(false)));
    other.sealift(&["retain", "--apply"]).exits(15).says("keep_daily = 2");
    assert_eq!(listed(&world).len(), 9);
    // A slip of the pen: one place for all of these days.
    let slip = other.sealift(&["retain", "--apply", "--unattended", "--keep-yearly", "1"]).exits(15);
    slip.says("of 8 of 9 days with a snapshot nothing would be left").says("max_remove_percent");
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
    world.sealift(&["retain", "--unattended", "--apply"]).exits(15).says("nobody looks on").says("keep_daily = 14");
    world.sealift(&["retain", "--keep-last", "1", "--remove", "1"]).exits(2);
    world.sealift(&["retain", "--keep-within", "never"]).exits(2).says("30d");
    world.sealift(&["retain", "--forget", "1"]).exits(2).says("--remove 1");
    assert!(tree(&world.path("repository")) == before);
    configure(&world, "[retention]\nkeep_last = 2\nmax_remove_percent = 34");
    world.sealift(&["retain", "--unattended", "--apply"]).exits(0);
    assert_eq!(listed(&world), [2, 3]);
}

/// A timer runs once a day.
#[test]
fn hourly_snapshots_of_which_a_day_keeps_one_are_thinned_by_a_run_that_nobody_looks_at() {
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
    let refused: [&[&str]; 3] = [
        &["retain", "--keep-last", "1", "--unattended"],
        &["retain", "--unattended"],
        &["retain", "--keep-yearly", "1", "--unattended"],
    ];
    for command in refused {
        let output = world.sealift(command).exits(3).says("--apply would refuse this: ").says("[apply-refused]");
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
fn one_that_is_removed_by_hand_is_reported_once_by_whoever_saw_it() {
    let (world, sources) = history(4);
    let reader = world.other_host("reader");
    reader.sealift(&["snapshots", "--signer", &signer(&world), "--json"]).exits(0);
    let output = world.sealift(&["retain", "--remove", "2", "--apply", "--json"]).exits(0);
    assert_eq!(output.warnings(), ["unexplained-removal"]);
    assert_eq!(plan(&output)[1], "2 go: named by hand");
    reader.sealift(&["snapshots"]).exits(3).says("record-vanished");
    reader.sealift(&["snapshots"]).exits(0);
    world.sealift(&["snapshots"]).exits(0);
    assert_eq!(listed(&world), [1, 3, 4]);
    for sequence in [1, 3, 4] {
        world.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
    }
}

#[test]
fn what_the_rules_in_the_record_remove_is_no_news_to_a_reader() {
    let world = World::ready();
    configure(&world, "[retention]\nkeep_daily = 2");
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[4]);
    past.repeat((1..4).rev().map(|days| (days_ago(days), days_ago(days))));
    let reader = world.other_host("reader");
    reader.sealift(&["snapshots", "--signer", &signer(&world)]).exits(0);
    assert_eq!(world.sealift(&["retain", "--apply", "--json"]).exits(0).warnings(), Vec::<String>::new());
    reader.sealift(&["snapshots", "--strict"]).exits(0);
    assert_eq!(listed(&reader), [3, 4]);
}

#[test]
fn a_record_that_cannot_be_verified_stops_the_packs_until_somebody_lets_go_of_it() {
    let (world, sources) = history(12);
    let broken = world.record(5);
    let text = fs::read_to_string(&broken).unwrap().replacen("\"sequence\":5", "\"sequence\":6", 1);
    fs::write(&broken, text).unwrap();
    let (packs, manifests) = (files(&world, "packs"), files(&world, "manifests"));
    let output = world.sealift(&["retain", "--keep-last", "3", "--apply", "--json"]).exits(3);
    assert!(output.warnings().contains(&"nothing-pruned".to_owned()), "{output:?}");
    assert!(output.all().contains("--forget 5"), "{output:?}");
    assert_eq!(output.json()["deleted"]["records"], 8);
    assert_eq!((files(&world, "packs"), files(&world, "manifests")), (packs, manifests));
    assert!(broken.exists());

    world.sealift(&["retain", "--forget", "9", "--apply"]).exits(1);
    world.sealift(&["retain", "--remove", "5", "--apply"]).exits(15).says("cannot be verified").says("--forget 5");
    world.sealift(&["retain", "--forget", "5", "--apply", "--json"]).exits(0);
    assert!(!broken.exists());
    assert!(files(&world, "manifests") < manifests);
    // The same bytes stay forgotten, others do not.
    let kept = fs::read(world.record(11)).unwrap();
    fs::write(world.record(6), &kept).unwrap();
    world.sealift(&["retain", "--keep-last", "3", "--apply"]).exits(3);
    for sequence in 10..=12 {
        world.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
    }
}

/// A host that was upgraded signs such. Whoever let go of it would delete the newest snapshot.
#[test]
fn a_record_of_a_newer_format_stops_the_packs_and_nobody_lets_go_of_it() {
    let (world, _) = history(12);
    Past::of(&world, &world.path("repository")).newer_format();
    let pruner = world.other_host("pruner");
    let manifests = files(&world, "manifests");
    let signer = signer(&world);
    let retain = ["retain", "--signer", &signer, "--keep-last", "1", "--apply", "--json"];
    let check = ["check"];
    for (command, code) in [(&retain[..], 3), (&check, 13)] {
        let output = pruner.sealift(command).exits(code).says("pgrade sealift on this machine");
        assert!(!output.all().contains("--forget"), "{output:?}");
    }
    assert_eq!(files(&world, "manifests"), manifests);
    pruner.sealift(&["retain", "--forget", "12", "--apply"]).exits(15).says("upgrade sealift");
    // Nor of anything else that the host signed, wherever it lies.
    fs::copy(world.record(11), world.record(5)).unwrap();
    pruner.sealift(&["retain", "--forget", "5", "--apply"]).exits(15).says("what this repository's host signed");
    assert!(world.record(12).exists() && world.record(5).exists());
}

#[test]
fn a_newest_snapshot_without_rules_where_others_name_some_lets_nobody_delete_by_the_standard_ones() {
    let world = World::ready();
    let without = fs::read_to_string(world.config()).unwrap();
    configure(&world, "[retention]\nkeep_daily = 100");
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[30]);
    past.repeat((1..30).rev().map(|days| (days_ago(days), days_ago(days))));
    fs::write(world.config(), without).unwrap();
    world.add_rows(1);
    world.backup();
    assert_eq!(world.record_json(31)["retention"], Value::Null);
    let other = world.other_host("pruner");
    let before = listed(&other);
    other.sealift(&["retain", "--signer", &signer(&world), "--apply"]).exits(15).says("keep_daily = 14");
    assert_eq!(listed(&other), before);
    other.sealift(&["retain", "--keep-daily", "14", "--apply"]).exits(0);
    assert_eq!(listed(&other).len(), 14);
}

#[test]
fn a_snapshot_with_a_passed_drill_of_a_known_driller_stays() {
    let (world, _) = history(4);
    let identity = world.text("operator.key");
    let drills = world.other_host("driller");
    let drill = drills.sealift(&["drill", "2", "-i", &identity, "--signer", &signer(&world), "--json"]);
    let signed_by = drill.json()["signer"].as_str().unwrap().to_owned();
    assert_eq!(drill.json()["passed"], true, "{drill:?}");
    let rules = ["retain", "--keep-last", "1", "--json"];
    assert!(plan(&world.sealift(&rules).exits(0))[1].starts_with("2 go"), "nobody knows that driller");
    configure(&world, "[retention]\nkeep_last = 1");
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("drill_signers = [\"{signed_by}\"]\n{config}")).unwrap();
    let drilled = plan(&world.sealift(&rules).exits(0));
    assert_eq!(drilled[1], "2 keep: newest drilled");
    world.sealift(&["retain", "--remove", "2", "--apply"]).exits(15).says("newest drilled");
    world.sealift(&["retain", "--apply"]).exits(0);
    assert_eq!(listed(&world), [2, 4]);
}

#[test]
fn the_list_of_snapshots_says_why_each_is_kept() {
    let (world, _) = history(3);
    configure(&world, "[retention]\nkeep_last = 2");
    let json = world.sealift(&["snapshots", "--json"]).exits(0).json();
    assert_eq!((&json[0]["keep"], &json[0]["reasons"]), (&json!(false), &json!(["no rule reaches it"])));
    assert_eq!((&json[1]["keep"], &json[1]["reasons"]), (&json!(true), &json!(["last"])));
    world.sealift(&["snapshots"]).exits(0).says("not kept: no rule reaches it");
}

/// What is missing and nobody reported counts for both.
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
    assert_eq!(reasons(&world.sealift(&["snapshots", "--json"]).exits(0).json()), planned);
}

#[test]
fn a_snapshot_that_came_long_after_its_successors_is_told() {
    let (world, _) = history_of(&[30, 20, 10]);
    let commands = [&["retain"][..], &["check"], &["snapshots"], &["status", "--max-age", "900h"]];
    set_time(&world.record(2), days_ago(10) + SignedDuration::from_hours(20));
    for command in commands {
        assert!(
            !world.sealift(command).exits(0).all().contains("stored-late"),
            "{command:?}: a bucket is copied in no order"
        );
    }
    set_time(&world.record(2), days_ago(5));
    assert!(!world.sealift(&["snapshots"]).exits(0).all().contains("stored-late"), "here it was seen before");
    let (other, signer) = (world.other_host("other"), signer(&world));
    for command in commands {
        let output = other.sealift(&[command, &["--signer", &signer]].concat()).exits(0).says("[stored-late]");
        output.says("snapshot 2 came").says("(2 after 3)").says("retain --remove 2 --apply");
    }
    other.sealift(&["retain", "--remove", "2", "--apply"]).exits(0);
    assert!(!other.sealift(&["snapshots"]).exits(0).all().contains("stored-late"));
}
