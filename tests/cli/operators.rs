//! Operators come and go as intended: no step leaves more than notes, on the host or elsewhere, and the notes end with the
//! grace period.

use std::fs;

use serde_json::{Value, json};

use crate::keys::{keys, opens, operator, ready, secret, versions};
use crate::support::world::{Output, World};

/// Makes an identity as the guide says, on the operator's machine; its public half.
fn colleague(world: &World, name: &str) -> String {
    let file = world.text(&format!("{name}.key"));
    let made = operator(world).sealift(&["keys", "new", &file, "--no-passphrase", "--json"]).exits(0);
    made.json()["recipient"].as_str().unwrap().to_owned()
}

/// The codes of its findings, all of which must be notes but for `expected`.
#[track_caller]
fn notes(output: &Output, expected: &[&str]) -> Vec<String> {
    let json = output.json();
    let findings = json["warnings"].as_array().unwrap().iter();
    let (notes, others): (Vec<&Value>, Vec<_>) = findings.partition(|finding| finding["severity"] == "note");
    let others: Vec<_> = others.iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert_eq!(others, expected, "{json}");
    notes.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

/// What a backup on the host notes, of which the host's `status` notes the same. On another machine there is nothing to say.
#[track_caller]
fn all_is_well(world: &World, recipients: usize) -> Vec<String> {
    world.an_hour_later();
    let backup = world.sealift(&["backup", "--strict", "--json"]);
    let warned: &[&str] = if recipients == 1 { &["single-recipient"] } else { &[] };
    let backup = backup.exits(if recipients == 1 { 3 } else { 0 });
    let noted = notes(&backup, warned);
    assert_eq!(notes(&world.sealift(&["status", "--strict", "--json"]).exits(0), &[]), noted);
    let other = world.other_host("other machine");
    for command in ["status", "snapshots", "check"] {
        assert_eq!(notes(&other.sealift(&[command, "--strict", "--json"]).exits(0), &[]), [""; 0], "{command}");
    }
    noted
}

/// `sealift keys …` on the operator's machine, which must end well.
#[track_caller]
fn changes(world: &World, arguments: &[&str], identity: &str) -> Value {
    let output = keys(world, &[arguments, &["--strict"]].concat(), &[identity]).exits(0);
    assert_eq!(notes(&output, &[]), [""; 0]);
    output.json()
}

/// Every key file was first seen so much earlier.
fn hours_pass(world: &World, hours: i64) {
    let index = world.state_of_repository().join("keys/index.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    for copy in json["copies"].as_array_mut().unwrap() {
        let seen: jiff::Timestamp = copy["first_seen"].as_str().unwrap().parse().unwrap();
        copy["first_seen"] = json!(seen - jiff::SignedDuration::from_hours(hours));
    }
    fs::write(&index, json.to_string()).unwrap();
}

const GRACE_HOURS: i64 = 7 * 24;

/// A repository that another machine has looked at: the first time it names the key that it trusts from then on.
fn watched() -> World {
    let world = ready();
    let first = world.other_host("other machine").sealift(&["status", "--json"]).exits(0);
    assert_eq!(notes(&first, &["unpinned-signer"]), [""; 0]);
    // The operator's own machine knows it by the comments of the identity file.
    changes(&world, &["confirm"], "operator");
    assert_eq!(all_is_well(&world, 1), [""; 0]);
    world
}

#[test]
fn an_operator_is_added_and_confirms_the_first_one_leaves_and_the_host_rebases() {
    let world = watched();
    let first = secret(&world, "operator").to_public().to_string();
    let second = colleague(&world, "second");

    let added = changes(&world, &["add", "-r", &second], "operator");
    assert_eq!(added["epochs"][0]["deleted"], json!([1]), "the operator is of the new set and proves it");
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    changes(&world, &["confirm"], "second");
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    assert!(opens(&world, "operator", 1) && opens(&world, "second", 1));

    // One recipient is left: a warning, as ever.
    let removed = keys(&world, &["remove", "-r", &first], &["second"]).exits(0);
    assert_eq!(notes(&removed, &["single-recipient"]), [""; 0]);
    assert_eq!(all_is_well(&world, 1), ["key-files-new"]);
    assert_eq!(versions(&world, 1), ["3.age"], "what the receipts explain stays gone");
    assert!(!opens(&world, "operator", 1) && opens(&world, "second", 1));

    // A third one, kept offline, so that a lost key does not lose the backups.
    let third = colleague(&world, "third");
    changes(&world, &["add", "-r", &third], "second");
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    let rebase = ["keys", "rebase", "-r", &second, "-r", &third, "--strict", "--json"];
    let rebased = world.sealift(&rebase).exits(0);
    assert_eq!((&rebased.json()["epoch"], notes(&rebased, &[])), (&json!(2), vec!["key-files-new".to_owned()]));
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    let newest = world.backup();
    assert!(["second", "third"].into_iter().all(|name| opens(&world, name, 1) && opens(&world, name, newest)));
    assert!(![1, newest].into_iter().any(|snapshot| opens(&world, "operator", snapshot)));

    hours_pass(&world, GRACE_HOURS - 1);
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    hours_pass(&world, 1);
    assert_eq!(all_is_well(&world, 2), [""; 0]);
    assert_eq!((versions(&world, 1), versions(&world, 2)), (vec!["4.age".to_owned()], vec!["1.age".to_owned()]));
}

/// The whole set at once, proved by an identity of the new set.
#[test]
fn a_whole_set_replaces_another_one() {
    let world = watched();
    let (second, third) = (colleague(&world, "second"), colleague(&world, "third"));
    let proof = world.text("second.key");
    let rotated = changes(&world, &["rotate", "-r", &second, "-r", &third, "--proof", &proof], "operator");
    assert_eq!(rotated["epochs"][0]["deleted"], json!([1]));
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    changes(&world, &["confirm"], "third");
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    assert_eq!(versions(&world, 1), ["2.age"]);
    assert!(!opens(&world, "operator", 1) && opens(&world, "second", 1) && opens(&world, "third", 1));
    world.sealift(&["keys", "rebase", "-r", &second, "-r", &third, "--strict"]).exits(0);
    assert_eq!(all_is_well(&world, 2), ["key-files-new"]);
    hours_pass(&world, GRACE_HOURS);
    assert_eq!(all_is_well(&world, 2), [""; 0]);
}

/// A rotation that the new set has not proved is a problem for the operator who ran it, and no news on the host.
#[test]
fn a_rotation_that_waits_for_its_confirmation_leaves_no_more_than_a_note() {
    let world = watched();
    let second = colleague(&world, "second");
    let waits = keys(&world, &["rotate", "-r", &second], &["operator"]).exits(3);
    assert_eq!(notes(&waits, &["rotation-not-proved", "single-recipient"]), [""; 0]);
    assert_eq!(all_is_well(&world, 1), ["key-files-new"]);
    keys(&world, &["confirm", "--strict"], &["second", "operator"]).exits(0);
    assert_eq!(all_is_well(&world, 1), ["key-files-new"]);
    assert_eq!(versions(&world, 1), ["2.age"]);
    hours_pass(&world, GRACE_HOURS);
    assert_eq!(all_is_well(&world, 1), [""; 0]);
}
