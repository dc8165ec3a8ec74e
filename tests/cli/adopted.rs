//! What a host keeps to when it goes on from an older state, or in the place of another one: takeovers, and what a person ignored.

use std::fs;

use sealift::crypto::Signer;
use serde_json::{Value, json};

use crate::support::world::World;

/// A host with two snapshots, and one that took over from it and wrote two more.
fn followed() -> (World, World) {
    let old = World::ready();
    for _ in 0..2 {
        old.add_rows(5);
        old.backup();
    }
    (follow(&old), old)
}

fn follow(old: &World) -> World {
    let new = old.other_host("new");
    let (database, identity) = (old.database().display().to_string(), old.text("operator.key"));
    let text = fs::read_to_string(old.identity()).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let take_over = ["init", "--take-over", "--identity", &identity, "-r", recipient, "--yes", "--database", &database];
    new.sealift(&take_over).exits(0);
    for _ in 0..2 {
        old.add_rows(5);
        new.sealift(&["backup", "--json"]).exits(0);
    }
    new
}

fn status(world: &World, machine: &str, signer: &str) -> (i32, Vec<String>) {
    let output = world.other_host(machine).sealift(&["status", "--signer", signer, "--json"]);
    (output.code, output.warnings())
}

#[test]
fn after_a_rollback_to_before_a_takeover_the_host_keeps_it() {
    let (new, old) = followed();
    for sequence in [3, 4] {
        fs::remove_file(old.record(sequence)).unwrap();
    }
    new.sealift(&["backup", "--json"]).exits(16);
    new.sealift(&["backup", "--adopt", "--json"]).exits(0);
    let record = old.record_json(5);
    assert_eq!((&record["takeovers"][0]["last"], &record["earlier"]), (&json!(2), &json!([[1, 2]])));
    let signer = new.signer().public().to_string();
    assert_eq!(status(&old, "fresh", &signer), (0, Vec::new()));
    let identity = old.text("operator.key");
    for (snapshot, to) in [("1", "first"), ("5", "last")] {
        let restore = ["restore", snapshot, "-i", &identity, "--signer", &signer, "--to", &old.text(to), "--json"];
        old.other_host("fresh").sealift(&restore).exits(0);
    }
}

#[test]
fn what_was_ignored_on_the_host_before_stays_ignored() {
    let old = World::ready();
    for _ in 0..3 {
        old.add_rows(5);
        old.backup();
    }
    fs::write(old.record(2), "garbage").unwrap();
    old.sealift(&["retain", "--ignore", "2", "--apply", "--json"]).exits(0);
    old.sealift(&["backup", "--json"]).exits(0);
    let new = follow(&old);
    let signer = new.signer().public().to_string();
    assert_eq!(status(&old, "fresh", &signer), (0, vec!["record-ignored".to_owned()]));
    assert_eq!(old.record_json(6)["ignored"][0][0], json!(2));
    old.other_host("fresh").sealift(&["retain", "--keep-last", "2", "--apply", "--json"]).exits(0);
}

/// Signs a record of a newer format as the one after `before`.
fn newer(world: &World, before: u64, signer: &Signer) {
    let mut record: Value = world.record_json(before);
    record["sequence"] = json!(before + 1);
    record["format"] = json!(2);
    world.write_record(before + 1, &record, signer);
}

#[test]
fn a_newer_format_by_the_hosts_own_key_asks_for_an_upgrade_and_by_another_key_can_be_ignored() {
    let world = World::ready();
    world.backup();
    newer(&world, 1, &world.signer());
    world.sealift(&["backup"]).exits(16).says("newer sealift").says("upgrade sealift");
    newer(&world, 1, &Signer::generate().unwrap());
    assert_eq!(world.sealift(&["backup", "--json"]).exits(3).warnings()[0], "record-untrusted");
    world.sealift(&["retain", "--ignore", "2", "--apply", "--json"]).exits(0);
    for _ in 0..2 {
        world.an_hour_later();
        assert_eq!(world.sealift(&["backup", "--json"]).exits(0).warnings(), ["single-recipient"]);
    }
}

/// Each full look at the repository says it again.
#[test]
fn a_record_that_was_passed_over_is_named_for_as_long_as_it_lies_there() {
    let world = World::ready();
    world.backup();
    world.write_record(2, &world.record_json(1), &Signer::generate().unwrap());
    for _ in 0..3 {
        world.an_hour_later();
        world.sealift(&["backup", "--json"]).exits(3);
    }
    fs::remove_file(world.record(2)).unwrap();
    world.an_hour_later();
    world.sealift(&["backup", "--json"]).exits(0);
}

#[test]
fn a_record_under_the_last_number_keeps_no_host_from_adopting() {
    let world = World::ready();
    for _ in 0..3 {
        world.backup();
    }
    world.write_record(9_999_999_999, &world.record_json(1), &Signer::generate().unwrap());
    fs::remove_file(world.record(3)).unwrap();
    world.sealift(&["backup", "--json"]).exits(16);
    world.sealift(&["backup", "--adopt", "--json"]).exits(3);
    assert!(world.record(4).exists());
}
