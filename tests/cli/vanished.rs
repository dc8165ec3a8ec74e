//! A record that this machine saw and that another one removed: a note for the grace period, in which what it needs stays.

use std::fs;

use jiff::Timestamp;
use sealift::history::TrustStore;

use crate::retain::{history_of, signer};
use crate::support::past::days_ago;
use crate::support::world::World;

const APPLY: [&str; 5] = ["retain", "--keep-last", "9", "--apply", "--json"];

/// Three old snapshots, and a pruner that saw them.
fn seen() -> (World, World) {
    let (world, _) = history_of(&[30, 20, 10]);
    let pruner = world.other_host("pruner");
    pruner.sealift(&["snapshots", "--signer", &signer(&world)]).exits(0);
    (world, pruner)
}

/// The same, and then the record of `sequence` went.
fn lost(sequence: u64) -> (World, World) {
    let (world, pruner) = seen();
    fs::rename(world.record(sequence), world.path("kept")).unwrap();
    (world, pruner)
}

fn manifests(world: &World) -> usize {
    fs::read_dir(world.path("repository/manifests")).unwrap().count()
}

/// From now on this machine first missed record 2 then.
fn first_missed(world: &World, time: Timestamp) {
    let dir = world.state_of_repository();
    let mut store = TrustStore::load(&dir).unwrap();
    let look = store.looks.values_mut().next().unwrap();
    look.missed.get_mut(&2).unwrap().since = time;
    store.save(&dir).unwrap();
}

#[test]
fn what_a_record_needs_that_is_missing_from_one_listing_is_there_when_it_comes_back() {
    let (world, pruner) = lost(2);
    // Whatever else looks in between.
    assert_eq!(pruner.sealift(&["snapshots", "--json"]).exits(0).warnings(), ["snapshots-removed"]);
    for _ in 0..2 {
        let output = pruner.sealift(&APPLY).exits(0);
        assert_eq!(output.warnings(), ["snapshots-removed"]);
        assert_eq!(output.json()["deleted"]["manifests"], 0, "{output:?}");
    }
    assert_eq!(manifests(&world), 3);
    fs::rename(world.path("kept"), world.record(2)).unwrap();
    assert!(pruner.sealift(&APPLY).exits(0).warnings().is_empty());
    world.restore("2", "back").exits(0);
}

#[test]
fn while_the_newest_record_is_missing_nothing_is_deleted() {
    let (world, pruner) = lost(3);
    let records = fs::read_dir(world.path("repository/snapshots")).unwrap().count();
    for _ in 0..2 {
        pruner.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(15);
        let output = pruner.sealift(&["retain", "--keep-last", "1", "--json"]).exits(3);
        assert_eq!(output.warnings(), ["rolled-back", "apply-refused"]);
    }
    assert_eq!((manifests(&world), fs::read_dir(world.path("repository/snapshots")).unwrap().count()), (3, records));
    fs::rename(world.path("kept"), world.record(3)).unwrap();
    assert!(pruner.sealift(&APPLY).exits(0).warnings().is_empty());
    world.restore("3", "back").exits(0);
}

#[test]
fn what_vanished_and_stays_away_for_the_grace_period_is_gone() {
    let (world, pruner) = lost(2);
    pruner.sealift(&APPLY).exits(0);
    first_missed(&pruner, days_ago(6));
    assert_eq!(pruner.sealift(&APPLY).exits(0).warnings(), ["snapshots-removed"]);
    assert_eq!(manifests(&world), 3);
    first_missed(&pruner, days_ago(8));
    let output = pruner.sealift(&APPLY).exits(0);
    assert!(output.warnings().is_empty(), "{output:?}");
    assert_eq!(manifests(&world), 2);
}

#[test]
fn what_vanished_stays_for_a_longer_grace_period_where_one_is_configured() {
    let (world, pruner) = lost(2);
    fs::write(pruner.config(), "[retention]\nkeep_last = 9\ngrace = \"14d\"\n").unwrap();
    pruner.sealift(&APPLY).exits(0);
    for (days, left) in [(13, 3), (15, 2)] {
        first_missed(&pruner, days_ago(days));
        pruner.sealift(&APPLY).exits(0);
        assert_eq!(manifests(&world), left, "{days} days");
    }
}

/// It is protected by what a machine saw, and this one saw nothing.
#[test]
fn a_machine_that_never_saw_a_record_does_not_miss_it() {
    let (world, _) = lost(2);
    let other = world.other_host("other");
    let output = other.sealift(&[&APPLY[..], &["--signer", &signer(&world)]].concat()).exits(0);
    assert!(output.warnings().is_empty(), "{output:?}");
    assert_eq!(manifests(&world), 2);
}

#[test]
fn each_command_that_lists_all_records_has_the_note_until_the_record_is_back() {
    let (world, pruner) = lost(2);
    let commands: [&[&str]; 4] = [
        &["snapshots", "--json", "--strict"],
        &["status", "--max-age", "99d", "--json", "--strict"],
        &["check", "--json", "--strict"],
        &["retain", "--keep-last", "9", "--json", "--strict"],
    ];
    for command in [commands, commands].concat() {
        let output = pruner.sealift(command).exits(0);
        assert!(output.warnings().contains(&"snapshots-removed".to_owned()), "{command:?}: {output:?}");
        assert_eq!(finding(&output.json(), "snapshots-removed")["snapshots"], serde_json::json!([[2, 2]]));
    }
    fs::rename(world.path("kept"), world.record(2)).unwrap();
    for command in commands {
        let output = pruner.sealift(command).exits(0);
        assert!(!output.warnings().contains(&"snapshots-removed".to_owned()), "{command:?}: {output:?}");
    }
}

fn finding(json: &serde_json::Value, code: &str) -> serde_json::Value {
    let mut findings = json["warnings"].as_array().unwrap().iter();
    findings.find(|finding| finding["code"] == code).unwrap().clone()
}

/// Of three days one is left: a warning, once. What a machine removed itself is neither a note nor protected there.
#[test]
fn a_machine_that_removed_most_days_itself_is_not_warned_and_another_one_is() {
    let (world, pruner) = seen();
    let watcher = world.other_host("watcher");
    watcher.sealift(&["snapshots", "--signer", &signer(&world)]).exits(0);
    let output = pruner.sealift(&["retain", "--keep-last", "1", "--apply", "--json"]).exits(0);
    assert!(output.warnings().is_empty(), "{output:?}");
    assert_eq!(manifests(&world), 1);
    assert!(pruner.sealift(&["snapshots", "--json"]).exits(0).warnings().is_empty());
    let output = watcher.sealift(&["snapshots", "--json", "--strict"]).exits(3);
    assert_eq!(output.warnings(), ["many-removed", "snapshots-removed"]);
    let many = finding(&output.json(), "many-removed");
    assert_eq!((&many["days_before"], &many["days_left"]), (&3.into(), &1.into()));
    assert_eq!(watcher.sealift(&["snapshots", "--json"]).exits(0).warnings(), ["snapshots-removed"]);
}
