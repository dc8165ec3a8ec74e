//! Signatures mean something: whatever somebody does to records that he cannot sign, or signs with another key, a reader
//! tells it apart and says so.

use std::fs;

use sealift::crypto::{DataIdentity, IdentityFile, PublicSigner, Signer, Unprompted, sha256};
use sealift::format::TakeOver;
use serde_json::{Value, json};

use crate::support::world::{Output, World};

/// Three snapshots, and a reader on another machine.
fn three_snapshots() -> (World, World) {
    let world = World::ready();
    for rows in [5, 5, 5] {
        world.add_rows(rows);
        world.backup();
    }
    let reader = world.other_host("reader");
    (world, reader)
}

/// A reader with the operator's identity; nothing is written.
fn read(reader: &World, arguments: &[&str]) -> Output {
    let identity = reader.text("operator.key");
    reader.sealift(&[&["restore", "-i", &identity, "--dry-run", "--json"], arguments].concat())
}

fn says_nothing(reader: &World) {
    assert!(read(reader, &[]).exits(0).warnings().is_empty());
}

/// Signs the record anew with the host's own key, after `change`.
fn resign(world: &World, sequence: u64, change: impl FnOnce(&mut Value)) {
    let mut record = world.record_json(sequence);
    change(&mut record);
    world.write_record(sequence, &record, &world.signer());
}

fn stranger() -> Signer {
    Signer::generate().unwrap()
}

/// The record after `before`, as another signer's host would write it.
fn next_record(world: &World, before: u64) -> Value {
    let mut record = world.record_json(before);
    record["sequence"] = json!(before + 1);
    record["previous"] = json!(sha256(&fs::read(world.record(before)).unwrap()));
    record["earlier"] = json!([[1, before]]);
    record["host"] = json!("elsewhere");
    record
}

#[test]
fn a_record_signed_by_a_stranger_is_passed_over_and_named() {
    let (world, reader) = three_snapshots();
    world.write_record(4, &next_record(&world, 3), &stranger());
    let output = read(&reader, &[]).exits(3).says("signed by a stranger");
    assert_eq!(output.json()["sequence"], 3);
    assert_eq!(output.warnings(), ["unverifiable-record"]);
    read(&reader, &["4"]).exits(13).says("signed by a stranger").says("0000000004.record");
}

#[test]
fn a_record_that_is_removed_is_told_once() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    fs::remove_file(world.record(2)).unwrap();
    let output = read(&reader, &[]).exits(3).says("snapshot 2 was there and is gone");
    assert_eq!(output.warnings(), ["record-vanished"]);
    says_nothing(&reader);
    // Whoever was never here before sees it from the list in the newest record.
    assert_eq!(read(&world.other_host("new reader"), &[]).exits(3).warnings(), ["record-vanished"]);
    // The host itself, too, and its next record is the new state of things.
    assert_eq!(world.sealift(&["backup", "--json"]).exits(3).warnings()[0], "record-vanished");
    assert_eq!(world.record_json(4)["earlier"], json!([[1, 1], [3, 3]]));
    world.sealift(&["backup", "--json"]).exits(0);
    says_nothing(&world.other_host("later reader"));
}

#[test]
fn what_the_rules_in_the_newest_record_remove_is_told_apart_from_what_vanished() {
    let (world, reader) = three_snapshots();
    resign(&world, 3, |record| record["retention"] = json!({ "keep_last": 2 }));
    says_nothing(&reader);
    fs::remove_file(world.record(1)).unwrap();
    says_nothing(&reader);
    let newcomer = world.other_host("newcomer");
    let output = read(&newcomer, &[]).exits(0).says("it cannot tell whether the rules did it");
    assert_eq!(output.warnings(), ["record-removed"]);
    says_nothing(&newcomer);
    fs::remove_file(world.record(2)).unwrap();
    assert_eq!(read(&reader, &[]).exits(3).says("snapshot 2 was there and is gone").warnings(), ["record-vanished"]);
    says_nothing(&reader);
}

#[test]
fn what_retain_removes_by_the_rules_surprises_nobody_and_what_is_removed_by_hand_whoever_did_not_do_it_once() {
    let (world, reader) = three_snapshots();
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config + "\n[retention]\nkeep_last = 3\n").unwrap();
    for _ in 0..3 {
        world.backup();
    }
    says_nothing(&reader);
    world.sealift(&["retain", "--apply", "--json"]).exits(0);
    assert!(!world.record(3).exists() && world.record(4).exists());
    says_nothing(&reader);
    assert!(!world.sealift(&["backup", "--json"]).exits(0).all().contains("record-"));
    world.sealift(&["retain", "--remove", "5", "--apply", "--json"]).exits(0);
    assert!(!world.record(5).exists());
    assert_eq!(read(&reader, &[]).exits(3).warnings(), ["record-vanished"]);
    says_nothing(&reader);
    assert!(!world.sealift(&["backup", "--json"]).exits(0).all().contains("record-"));
}

#[test]
fn a_record_exchanged_for_another_of_the_same_number_breaks_the_chain() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    resign(&world, 2, |record| record["tags"] = json!(["another"]));
    let output = read(&reader, &[]).exits(3);
    assert_eq!(output.warnings(), ["broken-chain", "record-exchanged"]);
    assert_eq!(read(&world.other_host("newcomer"), &[]).exits(3).warnings(), ["broken-chain"]);
}

#[test]
fn two_records_swapped_are_13_each() {
    let (world, reader) = three_snapshots();
    fs::rename(world.record(1), world.path("kept")).unwrap();
    fs::rename(world.record(2), world.record(1)).unwrap();
    fs::rename(world.path("kept"), world.record(2)).unwrap();
    read(&reader, &["1"]).exits(13).says("it is that of snapshot 2, and lies under 1");
    read(&reader, &["2"]).exits(13).says("it is that of snapshot 1, and lies under 2");
    assert_eq!(read(&reader, &[]).exits(3).json()["sequence"], 3);
}

#[test]
fn an_old_record_under_a_new_number_does_not_become_the_latest() {
    let (world, reader) = three_snapshots();
    fs::copy(world.record(1), world.record(4)).unwrap();
    let output = read(&reader, &[]).exits(3).says("it is that of snapshot 1, and lies under 4: it was moved");
    assert_eq!(output.json()["sequence"], 3);
}

#[test]
fn a_record_of_another_repository_is_said_to_be_one() {
    let (world, reader) = three_snapshots();
    let other = World::ready();
    other.backup();
    fs::copy(other.record(1), world.record(4)).unwrap();
    let output = read(&reader, &[]).exits(3).says("it belongs to another repository, and was copied from there");
    assert_eq!(output.json()["sequence"], 3);
}

#[test]
fn a_record_that_is_put_back_after_it_was_removed_is_told() {
    let (world, reader) = three_snapshots();
    let removed = fs::read(world.record(2)).unwrap();
    fs::remove_file(world.record(2)).unwrap();
    world.sealift(&["backup", "--json"]).exits(3);
    fs::write(world.record(2), removed).unwrap();
    let told = |reader: &World| {
        let output = read(reader, &[]).exits(3).says("does not know of snapshot 2").says("put back");
        assert_eq!(output.warnings(), ["record-unlisted"]);
    };
    told(&reader);
    // The host does not take it for one of its own again.
    world.sealift(&["backup", "--json"]).exits(0);
    told(&reader);
}

#[test]
fn a_copy_of_the_host_that_wrote_beside_it_is_told() {
    let (world, reader) = three_snapshots();
    // Both knew of two snapshots; the one wrote the third, the other, which did not see it, the fourth.
    let mut record = next_record(&world, 2);
    record["sequence"] = json!(4);
    // Not the second's time, which may lie before the third's.
    record["time"] = world.record_json(3)["time"].clone();
    world.write_record(4, &record, &world.signer());
    let output = read(&reader, &[]).exits(3).says("does not know of snapshot 3").says("a copy of the host writes here");
    assert_eq!(output.warnings(), ["record-unlisted"]);
}

#[test]
fn a_list_of_earlier_snapshots_that_does_not_fit_the_one_before_is_told() {
    let (world, reader) = three_snapshots();
    fs::remove_file(world.record(1)).unwrap();
    resign(&world, 2, |record| record["earlier"] = json!([]));
    let digest = sha256(&fs::read(world.record(2)).unwrap());
    resign(&world, 3, |record| record["previous"] = json!(digest));
    let output = read(&reader, &[]).exits(3).says("snapshot 3 names snapshot 1 as earlier, which snapshot 2 does not");
    assert!(output.warnings().contains(&"earlier-unfit".to_owned()), "{output:?}");
}

#[test]
fn lists_that_no_host_writes_are_13() {
    let (world, reader) = three_snapshots();
    for earlier in [json!([[2, 1]]), json!([[1, 3]]), json!([[2, 2], [1, 1]]), json!([[1, 2], [2, 2]])] {
        resign(&world, 3, |record| record["earlier"] = earlier);
        read(&reader, &["3"]).exits(13).says("its list of earlier snapshots is not in order");
    }
}

#[test]
fn a_bucket_that_was_set_back_is_told_until_it_has_gone_on() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    fs::remove_file(world.record(3)).unwrap();
    for _ in 0..2 {
        let output = read(&reader, &[]).exits(3).says("snapshot 3 was here before and is gone: the repository was set");
        assert_eq!(output.warnings(), ["repository-set-back"]);
    }
    world.sealift(&["backup", "--adopt", "--json"]).exits(0);
    let output = read(&reader, &[]).exits(3).says("snapshot 3 is another one than this machine saw under that number");
    assert_eq!(output.warnings(), ["record-exchanged"]);
    says_nothing(&reader);
}

/// The data identity of the first epoch.
fn data_identity(world: &World) -> DataIdentity {
    let operator = IdentityFile::parse(&fs::read(world.identity()).unwrap(), "operator", &Unprompted).unwrap();
    let wrapped = fs::read(world.path("repository/keys/1/1.age")).unwrap();
    DataIdentity::unwrap(&wrapped, operator.keys()).unwrap()
}

/// Puts a record above `last`, by somebody who says to have taken over with `identity`.
fn take_over(world: &World, last: u64, from: &PublicSigner, to: &Signer, identity: &DataIdentity) {
    let id = world.record_json(last)["repository"].as_str().unwrap().parse().unwrap();
    let step = TakeOver::new(&id, from.clone(), last, to.public(), (1, identity));
    let mut record = next_record(world, last);
    let mut steps = record["take_overs"].as_array().cloned().unwrap_or_default();
    steps.push(serde_json::to_value(step).unwrap());
    record["take_overs"] = json!(steps);
    world.write_record(last + 1, &record, to);
}

#[test]
fn after_a_take_over_latest_is_13_until_the_new_signer_is_accepted_and_what_the_pin_verifies_restores() {
    let (world, reader) = three_snapshots();
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new, &data_identity(&world));
    let words = format!("--accept-signer '{}'", new.public());
    for snapshot in ["latest", "4", "2099-01-01"] {
        read(&reader, &[snapshot]).exits(13).says("an operator's identity of epoch 1").says(&words);
    }
    let old = read(&reader, &["3"]).exits(3);
    assert_eq!(old.warnings(), ["signer-changed"]);
    assert_eq!(old.json()["sequence"], 3);

    assert_eq!(read(&reader, &["--accept-signer", &new.public().to_string()]).exits(0).json()["sequence"], 4);
    says_nothing(&reader);
    for snapshot in ["1", "3", "4"] {
        read(&reader, &[snapshot]).exits(0);
    }
    let flagged = world.other_host("reader who knows the new signer");
    assert_eq!(read(&flagged, &["--signer", &new.public().to_string()]).exits(0).json()["sequence"], 4);
}

/// A rotation takes the data identity back from nobody.
#[test]
fn whoever_was_removed_can_prove_a_take_over_and_is_named() {
    let (world, _) = three_snapshots();
    let (bob, known) = (crate::keys::person(&world, "bob"), data_identity(&world));
    let rotate = ["rotate", "-r", &bob, "--proof", &world.text("bob.key")];
    let rotated = crate::keys::keys(&world, &rotate, &["operator"]).exits(0).json();
    take_over(&world, 3, &world.signer().public(), &stranger(), &known);
    let (key, signer) = (world.text("bob.key"), world.signer().public().to_string());
    let restore = ["restore", "-i", &key, "--dry-run", "--signer", &signer];
    let output = world.other_host("bob's").sealift(&restore).exits(13).says("or before a removal had");
    let removed = rotated["epochs"][0]["former"][0].as_str().unwrap();
    output.says(removed).says("compare the signer with what `sealift init --take-over` printed");
    assert!(rotated["caution"]["text"].as_str().unwrap().contains("prove a take-over"), "{rotated}");
}

#[test]
fn without_an_identity_the_list_says_who_signs_now_and_that_nothing_was_proved() {
    let (world, _) = three_snapshots();
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new, &data_identity(&world));
    let signer = world.signer().public().to_string();
    let reader = world.other_host("reader without an identity");
    let output = reader.sealift(&["snapshots", "--signer", &signer]).exits(3);
    let output = output.says("no identity was given").says(&format!("--accept-signer '{}'", new.public()));
    assert!(String::from_utf8_lossy(&output.stdout).contains("4  cannot be verified"), "{output:?}");
    reader.sealift(&["snapshots", "--accept-signer", &new.public().to_string()]).exits(0);
    reader.sealift(&["snapshots"]).exits(0);
}

#[test]
fn a_take_over_without_the_data_identity_is_called_a_forgery_and_not_accepted() {
    let (world, reader) = three_snapshots();
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new, &DataIdentity::generate());
    read(&reader, &[]).exits(13).says("this is a forgery").says("do not accept this signer");
    read(&reader, &["--accept-signer", &new.public().to_string()]).exits(13).says("this is a forgery");
    assert_eq!(read(&reader, &["3"]).exits(3).json()["sequence"], 3);
}

#[test]
fn a_proof_by_an_epoch_that_is_not_the_newest_proves_nothing() {
    let (world, reader) = three_snapshots();
    // Whoever was removed from the recipients still knows the data identity of the first epoch.
    resign(&world, 3, |record| {
        let epoch = json!({ "epoch": 2, "recipient": DataIdentity::generate().recipient(), "packs": [] });
        record["epochs"].as_array_mut().unwrap().push(epoch);
        record["manifest"]["epoch"] = json!(2);
    });
    take_over(&world, 3, &world.signer().public(), &stranger(), &data_identity(&world));
    read(&reader, &[]).exits(13).says("names epoch 1 as the newest");
}

#[test]
fn nobody_is_accepted_who_did_not_take_over_from_the_pinned_signer() {
    let (world, reader) = three_snapshots();
    world.write_record(4, &next_record(&world, 3), &stranger());
    let other = stranger().public().to_string();
    read(&reader, &["--accept-signer", &other]).exits(13).says("no snapshot shows that");
    read(&reader, &["--accept-signer", "no key"]).exits(2);
}

#[test]
fn of_two_who_say_that_they_took_over_the_one_with_the_proof_is_named() {
    let (world, reader) = three_snapshots();
    let (new, forger, old) = (stranger(), stranger(), world.signer().public());
    take_over(&world, 3, &old, &new, &data_identity(&world));
    let mut forged = world.record_json(4);
    let id = forged["repository"].as_str().unwrap().parse().unwrap();
    let step = TakeOver::new(&id, old, 3, forger.public(), (1, &DataIdentity::generate()));
    forged["take_overs"] = json!([step]);
    forged["sequence"] = json!(5);
    world.write_record(5, &forged, &forger);
    read(&reader, &[]).exits(13).says(&format!("--accept-signer '{}'", new.public()));
}

#[test]
fn two_take_overs_in_a_row_are_proved_one_by_the_other() {
    let (world, reader) = three_snapshots();
    let (second, third) = (stranger(), stranger());
    take_over(&world, 3, &world.signer().public(), &second, &data_identity(&world));
    take_over(&world, 4, &second.public(), &third, &data_identity(&world));
    read(&reader, &[]).exits(13).says("the proof holds").says(&format!("--accept-signer '{}'", third.public()));
    read(&reader, &["--accept-signer", &third.public().to_string()]).exits(0);
    for snapshot in ["1", "4", "5"] {
        read(&reader, &[snapshot]).exits(0);
    }
}

#[test]
fn what_a_former_writer_signs_after_its_place_was_taken_counts_no_more() {
    let (world, reader) = three_snapshots();
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new, &data_identity(&world));
    let mut late = next_record(&world, 4);
    late.as_object_mut().unwrap().remove("take_overs");
    world.write_record(5, &late, &world.signer());
    let new = new.public().to_string();
    let output = read(&reader, &["--signer", &new]).exits(3).says("whose place was taken after snapshot 3");
    assert_eq!(output.json()["sequence"], 4);
    assert_eq!(output.warnings(), ["unverifiable-record"]);
    read(&reader, &["5", "--signer", &new]).exits(13).says("whose place was taken after snapshot 3");
}

#[test]
fn a_list_of_take_overs_that_leads_to_nobody_is_13() {
    let (world, reader) = three_snapshots();
    take_over(&world, 3, &world.signer().public(), &stranger(), &data_identity(&world));
    let record = world.record_json(4);
    world.write_record(4, &record, &stranger());
    read(&reader, &["4"]).exits(13).says("does not lead to whoever signed it");
}

/// To such a reader everything that is there is new, and nothing that is gone ever was.
#[test]
fn a_reader_that_cannot_remember_and_one_that_was_never_here_say_so() {
    let (world, reader) = three_snapshots();
    let said = |output: Output, name: &str| output.warnings().contains(&name.to_owned());
    // Behind a link to nowhere nothing can be made, whoever tries.
    std::os::unix::fs::symlink("/nonexistent/place", reader.state()).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&reader, &[]).exits(0).warnings(), ["not-remembered"]);
        assert_eq!(read(&reader, &["--strict"]).exits(3).warnings(), ["not-remembered"]);
    }
    for (number, command) in ["check", "status"].into_iter().enumerate() {
        assert!(said(reader.sealift(&[command, "--json"]).exits(0), "first-look"), "{command}");
        let new = world.other_host(&format!("new-{number}"));
        assert!(said(new.sealift(&[command, "--json"]).exits(0), "first-look"), "{command}");
        assert!(!said(new.sealift(&[command, "--json"]).exits(0), "first-look"), "{command}");
        assert!(!said(world.sealift(&[command, "--json"]).exits(0), "first-look"), "{command} on the host");
    }
}
