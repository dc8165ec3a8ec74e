//! A thief of the host's key signs a snapshot that tells another story of who signed before: it takes nothing of the honest
//! history with it, whoever believes whom.

use std::fs;

use sealift::crypto::{DataIdentity, Signer, sha256};
use sealift::format::TakeOver;
use serde_json::json;

use crate::retain::{history, listed, signer};
use crate::support::world::{Output, World, tree};

/// Four honest snapshots and the fifth, in which the thief says that the four are by somebody else. `pruner` knew the four.
fn forged() -> (World, World) {
    let (world, _) = history(4);
    let pruner = world.other_host("pruner");
    pruner.sealift(&["snapshots", "--signer", &signer(&world)]).exits(0);
    forge(&world);
    (world, pruner)
}

fn forge(world: &World) {
    let mut record = world.record_json(4);
    let id = record["repository"].as_str().unwrap().parse().unwrap();
    let (other, own) = (Signer::generate().unwrap().public(), world.signer());
    let step = TakeOver::new(&id, other, 4, own.public(), (1, &DataIdentity::generate()));
    record["sequence"] = json!(5);
    record["previous"] = json!(sha256(&fs::read(world.record(4)).unwrap()));
    record["earlier"] = json!([[1, 4]]);
    record["take_overs"] = json!([step]);
    world.write_record(5, &record, &own);
}

fn says(output: &Output, name: &str) -> bool {
    output.warnings().contains(&name.to_owned())
}

#[test]
fn who_knew_the_host_before_passes_the_forged_record_over_and_lets_go_of_it_alone() {
    let (world, pruner) = forged();
    let before = tree(&world.path("repository"));
    let apply = ["retain", "--keep-daily", "9", "--apply", "--json"];
    let output = pruner.sealift(&apply).exits(3).says("somebody else has the host's key");
    assert!(says(&output, "unverifiable-record") && !output.all().contains("snapshot 1"), "{output:?}");
    let key = world.text("operator.key");
    let restore = |snapshot: &str| pruner.sealift(&["restore", snapshot, "-i", &key, "--dry-run", "--json"]);
    assert_eq!(restore("latest").exits(3).json()["sequence"], 4);
    restore("1").exits(3);
    restore("5").exits(13);
    for sequence in ["1", "4"] {
        pruner.sealift(&["retain", "--forget", sequence, "--apply"]).exits(2);
    }
    assert!(tree(&world.path("repository")) == before);
    world.sealift(&["backup"]).exits(11).says("somebody else has its key").says("retain --forget 5 --apply");
    world.sealift(&["backup", "--adopt"]).exits(11).says("retain --forget 5 --apply");
    pruner.sealift(&["retain", "--forget", "5", "--apply"]).exits(0);
    assert_eq!(listed(&pruner), [1, 2, 3, 4]);
    assert_eq!(world.backup(), 5);
    world.restore("1", "first").exits(0);
}

#[test]
fn who_never_saw_the_host_reads_all_of_its_records_and_deletes_nothing_until_a_person_decides() {
    let (world, _) = forged();
    let fresh = world.other_host("fresh");
    let before = tree(&world.path("repository"));
    let apply = ["retain", "--keep-last", "1", "--apply", "--json"];
    let told = fresh.sealift(&["snapshots", "--signer", &signer(&world)]).exits(3);
    told.says("snapshot 1 to 4 and snapshot 5 are signed by the same host");
    let key = world.text("operator.key");
    for (snapshot, sequence) in [("latest", 5), ("1", 1), ("4", 4)] {
        let output = fresh.sealift(&["restore", snapshot, "-i", &key, "--dry-run", "--json"]).exits(3);
        assert_eq!(output.json()["sequence"], sequence);
    }
    fresh.sealift(&apply).exits(15).says("retain --forget N");
    let all: Vec<&str> = "retain --apply --forget 1 --forget 2 --forget 3 --forget 4 --forget 5".split(' ').collect();
    fresh.sealift(&all).exits(15).says("name only those that do not belong there");
    assert!(tree(&world.path("repository")) == before);
    fresh.sealift(&["retain", "--forget", "5", "--apply"]).exits(3);
    assert_eq!(listed(&fresh), [1, 2, 3, 4]);
    // From now on it knows.
    forge(&world);
    fresh.sealift(&["restore", "5", "-i", &key, "--dry-run"]).exits(13);
    fresh.sealift(&["restore", "1", "-i", &key, "--dry-run"]).exits(3);
}

#[test]
fn what_verified_here_once_is_not_let_go_of_whoever_is_said_to_sign_now() {
    let (world, _) = history(3);
    let pruner = world.other_host("pruner");
    pruner.sealift(&["snapshots", "--signer", &signer(&world)]).exits(0);
    let stranger = Signer::generate().unwrap().public().to_string();
    let forget = ["retain", "--forget", "1", "--apply", "--signer", &stranger];
    pruner.sealift(&forget).exits(15).says("when this machine could verify it");
}
