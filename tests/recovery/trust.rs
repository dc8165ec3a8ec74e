//! Whose snapshots the script believes, who took over from whom, and several epochs.

use std::fs;

use sealift::crypto::{DataIdentity, Signer};
use sealift::format::{RepositoryId, TakeOver};
use serde_json::{Value, json};

use crate::forge::{commit, data_identity, manifest, next_record, opened, put, sealed};
use crate::live::have;
use crate::script::{self, TOOLS};
use crate::support::world::{Output, World};

fn check(world: &World, more: &[&str]) -> Output {
    let key = world.text("operator.key");
    script::run("check", &world.path("repository"), &[&["-i", &key], more].concat())
}

/// Sources as they are now come back from a snapshot with both.
fn assert_both_restore(world: &World, snapshot: u64) {
    let (number, key) = (snapshot.to_string(), world.text("operator.key"));
    let (with, without) = (format!("with-{number}"), world.text(&format!("without-{number}")));
    world.restore(&number, &with).exits(0);
    script::run("restore", &world.path("repository"), &[&number, "-i", &key, "--to", &without]).exits(0);
    for name in ["trinity.db", ".env"] {
        let bytes = fs::read(world.path(&with).join(name)).unwrap();
        assert!(bytes == fs::read(world.path(&format!("without-{number}")).join(name)).unwrap(), "{name}");
        assert!(bytes == fs::read(world.path("app").join(name)).unwrap(), "{name} is not its original");
    }
}

/// The record after `parent`, by a host that says to have taken over.
fn take_over(world: &World, parent: u64, proof_by: &DataIdentity) -> Signer {
    let (old, new) = (world.signer().public(), Signer::generate().unwrap());
    let mut record = next_record(world, parent);
    let id: RepositoryId = record["repository"].as_str().unwrap().parse().unwrap();
    let change = TakeOver::new(&id, old, parent, new.public(), (1, proof_by));
    record["take_overs"] = serde_json::to_value([change]).unwrap();
    world.write_record(parent + 1, &record, &new);
    new
}

#[test]
fn a_take_over_is_told_to_whoever_knows_the_old_host_and_its_proof_is_checked() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let new = take_over(&world, 1, &data_identity(&world, 1)).public().to_string();
    let output = check(&world, &[]).exits(13);
    output.says("its proof holds").says("until he was removed had").says(&format!("--signer '{new}'"));
    let listing = ["--signer", &world.signer().public().to_string()];
    script::run("list", &world.path("repository"), &listing)
        .exits(13)
        .says("took over after snapshot 1")
        .says("cannot be told");
    check(&world, &["1"]).exits(3).says("snapshot 1 of").says("snapshot 2 is passed over");
    check(&world, &["2"]).exits(13);
    check(&world, &["--signer", &new]).exits(0).says("snapshot 2 of");
    check(&world, &["1", "--signer", &new]).exits(0).says("snapshot 1 of");
    fs::write(world.path("signer.pub"), format!("{new} a comment\n")).unwrap();
    check(&world, &["--signer", &world.text("signer.pub")]).exits(0);
}

#[test]
fn a_take_over_by_somebody_without_an_identity_is_called_a_forgery() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    take_over(&world, 1, &DataIdentity::generate());
    check(&world, &[]).exits(13).says("its proof is FALSE");
    check(&world, &["1"]).exits(3).says("snapshot 1 of");
}

/// Whoever has the host's key says in a snapshot of his own that all before it are by somebody else.
#[test]
fn what_the_signer_signed_comes_back_whatever_a_later_record_of_his_says_of_who_was_before() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let mut record = next_record(&world, 1);
    let id: RepositoryId = record["repository"].as_str().unwrap().parse().unwrap();
    let (other, own) = (Signer::generate().unwrap().public(), world.signer());
    let step = TakeOver::new(&id, other, 1, own.public(), (1, &DataIdentity::generate()));
    record["take_overs"] = serde_json::to_value([step]).unwrap();
    world.write_record(2, &record, &own);
    check(&world, &["1"]).exits(3).says("snapshot 1 of").says("snapshots [2] tell of other take-overs");
    check(&world, &[]).exits(3).says("snapshot 2 of");
}

#[test]
fn a_list_of_take_overs_that_does_not_lead_to_its_signer_is_no_list() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let new = take_over(&world, 1, &data_identity(&world, 1));
    let good = world.record_json(2);
    let stranger = Signer::generate().unwrap().public().to_string();
    let wrong: [(&str, Value); 4] =
        [("to", json!(stranger)), ("last", json!(2)), ("last", json!("1")), ("from", json!(null))];
    for (member, value) in wrong {
        let mut record = good.clone();
        record["take_overs"][0][member] = value;
        world.write_record(2, &record, &new);
        let signer = new.public().to_string();
        if member == "from" {
            check(&world, &["1", "--signer", &signer]).exits(13);
        } else {
            check(&world, &["--signer", &signer]).exits(13).says("snapshot 2 cannot be verified");
        }
    }
}

#[test]
fn strangers_replays_and_clones_are_passed_over() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let stranger = Signer::generate().unwrap();
    world.write_record(2, &next_record(&world, 1), &stranger);
    check(&world, &[]).exits(3).says("snapshot 1 of").says("snapshot 2 is passed over");
    check(&world, &["2"]).exits(13);
    fs::copy(world.record(1), world.record(2)).unwrap();
    check(&world, &[]).exits(3).says("belongs to another place");
    let other = World::ready();
    other.backup();
    other.backup();
    fs::copy(other.record(2), world.record(2)).unwrap();
    check(&world, &[]).exits(3).says("belongs to another place");
}

#[test]
fn an_identity_that_was_made_for_another_repository_wants_the_signer_named() {
    if !have(&TOOLS) {
        return;
    }
    // A stranger knows the operator's public key, and puts a repository of his own in the place.
    let (world, stranger) = (World::ready(), World::new());
    let operator = fs::read_to_string(world.identity()).unwrap();
    let recipient = operator.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    stranger.sealift(&["init", "--database", &stranger.text("app/trinity.db"), "-r", recipient]).exits(0);
    stranger.backup();
    fs::copy(world.identity(), stranger.path("operator.key")).unwrap();
    check(&stranger, &[]).exits(13).says("made for another repository");
    check(&stranger, &["--signer", &stranger.signer().public().to_string()]).exits(0);
}

#[test]
fn snapshots_before_and_after_a_rotation_and_a_rebase_come_back_alike() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    assert_both_restore(&world, 1);
    let key = world.text("operator.key");
    let operator = fs::read_to_string(world.identity()).unwrap();
    let alice = operator.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    let bob = age::x25519::Identity::generate();
    fs::write(world.path("bob.key"), age::secrecy::ExposeSecret::expose_secret(&bob.to_string())).unwrap();
    let bobs = bob.to_public().to_string();
    let rotate = ["keys", "rotate", "-r", &alice, "-r", &bobs, "-i", &key, "--proof", &key];
    world.other_host("operator").sealift(&rotate).exits(0);
    check(&world, &[]).exits(0);
    world.add_rows(10);
    world.backup();
    assert_both_restore(&world, 2);
    world.sealift(&["keys", "rebase", "-r", &alice]).exits(0);
    assert_both_restore(&world, 3);
    let bob = ["-i", &world.text("bob.key"), "--signer", &world.signer().public().to_string()];
    script::run("check", &world.path("repository"), &bob).exits(12);
    script::run("check", &world.path("repository"), &[&bob[..], &["2"]].concat()).exits(0);
}

/// A snapshot whose packs are of two epochs, as the format allows.
#[test]
fn a_snapshot_of_two_epochs_comes_back_alike() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    world.add_rows(40);
    world.backup();
    let now = world.sources();
    let (mut head, tail) = manifest(&world, 2);
    let (first, second) = (data_identity(&world, 1), DataIdentity::generate());
    let operator = fs::read_to_string(world.identity()).unwrap();
    let public = operator.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let wrapped = second.wrap(&[], &[sealift::crypto::Recipient::parse(public).unwrap()]).unwrap();
    fs::create_dir(world.path("repository/keys/2")).unwrap();
    fs::write(world.path("repository/keys/2/1.age"), wrapped.bytes()).unwrap();
    let old = head["packs"][0].as_str().unwrap().to_owned();
    let plain = opened(&first, &world.path(&format!("repository/packs/{old}.age")));
    let pack = sealed(&second, &plain);
    head["packs"][0] = json!(put(&world, "packs", &pack));
    commit(&world, 2, (&head, &tail), |record| {
        record["epochs"][0]["packs"].as_array_mut().unwrap().retain(|pack| pack[0] != json!(old));
        let epoch = json!({ "epoch": 2, "recipient": second.recipient(), "packs": [[pack.digest(), pack.len()]] });
        record["epochs"].as_array_mut().unwrap().push(epoch);
    });
    assert!(world.sources() == now);
    assert_both_restore(&world, 3);
    fs::remove_dir_all(world.path("repository/keys/2")).unwrap();
    check(&world, &[]).exits(13).says("keys/2");
    check(&world, &["2"]).exits(0);
}
