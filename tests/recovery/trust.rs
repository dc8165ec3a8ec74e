//! Whose snapshots the script believes, who took over from whom, and several epochs.

use std::fs;

use sealift::crypto::{DataIdentity, Signer, sha256};
use sealift::format::Takeover;
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

/// Writes the record `sequence`, by a host that says that it took over from `from` after snapshot `last`.
fn take_over(world: &World, sequence: u64, (from, last): (&Signer, u64)) -> Signer {
    let new = Signer::generate().unwrap();
    let mut record = next_record(world, sequence - 1);
    let step = Takeover { from: from.public(), last, to: new.public() };
    let mut takeovers = record["takeovers"].as_array().cloned().unwrap_or_default();
    takeovers.push(serde_json::to_value(step).unwrap());
    record["takeovers"] = json!(takeovers);
    world.write_record(sequence, &record, &new);
    new
}

fn fingerprint(signer: &Signer) -> String {
    signer.public().fingerprint()
}

fn list(world: &World, more: &[&str]) -> Output {
    script::run("list", &world.path("repository"), more)
}

#[test]
fn a_takeover_is_a_claim_until_its_fingerprint_is_accepted() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let old = world.signer();
    let new = take_over(&world, 2, (&old, 1));
    for output in [check(&world, &[]), list(&world, &["--signer", &old.public().to_string()])] {
        let output = output.exits(13).says(&fingerprint(&old)).says(&fingerprint(&new));
        let key = new.public().to_string();
        assert!(
            !output.all().contains(key.split(' ').nth(1).unwrap()),
            "the new key is nowhere to be pasted: {output:?}"
        );
        let flag = output.all().split("--accept-signer ").nth(1).unwrap().to_owned();
        assert!(flag.starts_with("FINGERPRINT"), "{flag}");
    }
    check(&world, &["1"]).exits(0).says("snapshot 1 of").says("snapshot 2 is passed over");
    check(&world, &["2"]).exits(13);
    check(&world, &["--accept-signer", &fingerprint(&new)]).exits(0).says("snapshot 2 of");
    check(&world, &["1", "--accept-signer", &fingerprint(&new)]).exits(0).says("snapshot 1 of");
    check(&world, &["--accept-signer", &fingerprint(&old)]).exits(13);
    check(&world, &["--accept-signer", &fingerprint(&Signer::generate().unwrap())]).exits(13);
    let key = new.public().to_string();
    check(&world, &["--signer", &key]).exits(0).says("snapshot 2 of");
    check(&world, &["1", "--signer", &key]).exits(0).says("snapshot 1 of");
    fs::write(world.path("signer.pub"), format!("{key} a comment\n")).unwrap();
    check(&world, &["--signer", &world.text("signer.pub")]).exits(0);
}

/// After a takeover the new lines go below the old ones.
#[test]
fn the_last_lines_in_an_identity_file_about_this_repository_name_the_trusted_signer() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let new = take_over(&world, 2, (&world.signer(), 1));
    let without = fs::read_to_string(world.identity()).unwrap();
    let id = world.record_json(1)["repository"].as_str().unwrap().to_owned();
    let lines = |repository: &str| format!("# repository: {repository}\n# signer: {}\n", new.public());
    fs::write(world.identity(), format!("{without}{}", lines(&"0".repeat(32)))).unwrap();
    let output = check(&world, &[]).exits(13);
    assert!(!output.all().contains("nothing here says"), "the older lines still name the signer: {output:?}");
    fs::write(world.identity(), format!("{without}{}", lines(&id))).unwrap();
    check(&world, &[]).exits(0).says("snapshot 2 of");
    fs::write(world.identity(), without.lines().filter(|line| !line.starts_with('#')).collect::<String>()).unwrap();
    check(&world, &["1"]).exits(0).says("nothing here says who signs");
    check(&world, &["--accept-signer", &fingerprint(&new)]).exits(0).says("snapshot 2 of");
}

#[test]
fn a_second_takeover_is_accepted_with_the_chain_that_leads_to_it() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let second = take_over(&world, 2, (&world.signer(), 1));
    let third = take_over(&world, 3, (&second, 2));
    check(&world, &[]).exits(13).says(&fingerprint(&third));
    check(&world, &["--accept-signer", &fingerprint(&second)]).exits(13).says(&fingerprint(&third));
    for snapshot in ["1", "2", "3", "latest"] {
        check(&world, &[snapshot, "--accept-signer", &fingerprint(&third)]).exits(0);
    }
}

/// What it signed up to `last` counts, and nothing after it.
#[test]
fn a_predecessor_counts_up_to_the_last_snapshot_that_its_successor_names() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let old = world.signer();
    let new = take_over(&world, 2, (&old, 1));
    world.write_record(3, &next_record(&world, 1).tap("sequence", json!(3)), &old);
    let signer = ["--signer", &new.public().to_string()];
    check(&world, &signer).exits(3).says("snapshot 2 of").says("snapshot 3 is passed over");
    check(&world, &[&signer[..], &["3"]].concat()).exits(13);
    check(&world, &[&signer[..], &["1"]].concat()).exits(0);
}

/// A JSON object with one member set.
trait Tap {
    fn tap(self, member: &str, value: Value) -> Self;
}

impl Tap for Value {
    fn tap(mut self, member: &str, value: Value) -> Self {
        self[member] = value;
        self
    }
}

#[test]
fn what_the_newest_trusted_record_ignores_is_passed_over_in_silence_and_nothing_else_is() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let (old, stranger) = (world.signer(), Signer::generate().unwrap());
    let ignored = |sequence: u64| json!([sequence, sha256(&fs::read(world.record(sequence)).unwrap())]);
    world.write_record(2, &next_record(&world, 1), &stranger);
    let claim = take_over(&world, 3, (&old, 1));
    fs::write(world.record(4), "damaged").unwrap();
    check(&world, &[]).exits(13).says(&fingerprint(&claim));
    let record = next_record(&world, 1).tap("sequence", json!(5));
    let all = json!([ignored(1), ignored(2), ignored(3), ignored(4)]);
    world.write_record(5, &record.clone().tap("ignored", all.clone()), &old);
    let output = check(&world, &[]).exits(0).says("snapshot 5 of");
    assert!(!output.all().contains("passed over"), "{output:?}");
    check(&world, &["1"]).exits(0).says("snapshot 1 of");
    check(&world, &["3"]).exits(13);
    // Other bytes under that number were ignored by no one.
    fs::write(world.record(4), "damaged otherwise").unwrap();
    check(&world, &[]).exits(3).says("snapshot 4 is passed over");
    // Only what the trusted signer's newest record says counts.
    fs::write(world.record(4), "damaged").unwrap();
    world.write_record(6, &record.clone().tap("sequence", json!(6)), &old);
    check(&world, &[]).exits(13).says(&fingerprint(&claim));
    world.write_record(6, &record.tap("sequence", json!(6)).tap("ignored", all), &stranger);
    let output = check(&world, &[]).exits(3).says("snapshot 6 is passed over").says("snapshot 5 of");
    assert!(!output.all().contains("snapshot 4 "), "{output:?}");
}

#[test]
fn a_newer_format_of_a_trusted_signer_stops_the_latest_and_of_another_is_passed_over() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let newer = json!({ "format": 2, "everything": "else" });
    world.write_record(2, &newer, &world.signer());
    check(&world, &[]).exits(13).says("snapshot 2 has format 2");
    list(&world, &[]).exits(13).says("snapshot 2 has format 2");
    check(&world, &["2"]).exits(13);
    check(&world, &["1"]).exits(0).says("snapshot 1 of");
    world.write_record(2, &newer, &Signer::generate().unwrap());
    check(&world, &[]).exits(3).says("snapshot 1 of").says("snapshot 2 is passed over");
    for format in [json!(0), json!(-1), json!("2"), json!(true), json!(1.0), json!(null)] {
        world.write_record(2, &next_record(&world, 1).tap("format", format), &world.signer());
        check(&world, &[]).exits(3).says("snapshot 2 is passed over");
    }
    world.write_record(2, &next_record(&world, 1).tap("later", json!({ "any": [1] })), &world.signer());
    check(&world, &[]).exits(0).says("snapshot 2 of");
}

#[test]
fn a_list_of_takeovers_that_does_not_lead_to_its_signer_is_no_list() {
    if !have(&TOOLS) {
        return;
    }
    let world = World::ready();
    world.backup();
    let new = take_over(&world, 2, (&world.signer(), 1));
    let good = world.record_json(2);
    let stranger = Signer::generate().unwrap().public().to_string();
    let wrong: [(&str, Value); 5] =
        [("to", json!(stranger)), ("last", json!(2)), ("last", json!("1")), ("last", json!(-1)), ("from", json!(null))];
    for (member, value) in wrong {
        let mut record = good.clone();
        record["takeovers"][0][member] = value;
        world.write_record(2, &record, &new);
        let signer = new.public().to_string();
        check(&world, &["2", "--signer", &signer]).exits(13).says("snapshot 2 is passed over");
        check(&world, &["1", "--signer", &signer]).exits(13);
        check(&world, &[]).exits(3).says("snapshot 1 of").says("snapshot 2 is passed over");
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
