//! Signatures mean something: records that were changed, moved, removed or signed with another key are told apart, and each
//! machine decides by the key that it trusts.

use std::fs;

use sealift::crypto::{PublicSigner, Signer, sha256};
use sealift::format::Takeover;
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

/// Looks at all of them.
fn looks(reader: &World) {
    let signer = reader.other_host("host").signer().public().to_string();
    assert!(reader.sealift(&["status", "--signer", &signer, "--json"]).exits(0).warnings().is_empty());
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
    let output = read(&reader, &[]).exits(3);
    assert_eq!((&output.json()["sequence"], &output.warnings()[..]), (&json!(3), &["record-untrusted".to_owned()][..]));
    read(&reader, &["4"]).exits(13).says("which is not trusted").says("0000000004.record");
}

#[test]
fn a_record_that_is_removed_is_a_note_for_a_machine_that_saw_it_and_no_news_to_others() {
    let (world, reader) = three_snapshots();
    looks(&reader);
    fs::remove_file(world.record(2)).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&reader, &["--strict"]).exits(0).warnings(), ["snapshots-removed"]);
    }
    says_nothing(&world.other_host("new reader"));
    world.an_hour_later();
    assert_eq!(world.sealift(&["backup", "--json"]).exits(0).warnings(), ["single-recipient"]);
    assert_eq!(world.record_json(4)["earlier"], json!([[1, 1], [3, 3]]));
}

#[test]
fn what_retain_removes_is_no_news_to_the_machine_that_ran_it_and_a_note_to_others() {
    let (world, reader) = three_snapshots();
    looks(&reader);
    world.sealift(&["retain", "--keep-last", "2", "--apply", "--json"]).exits(0);
    assert!(!world.record(1).exists() && world.record(2).exists());
    assert_eq!(read(&reader, &["--strict"]).exits(0).warnings(), ["snapshots-removed"]);
    assert_eq!(world.sealift(&["backup", "--json"]).exits(0).warnings(), ["single-recipient"]);
    says_nothing(&world.other_host("newcomer"));
}

#[test]
fn a_record_replaced_under_the_newest_number_is_a_problem_until_a_person_accepts_it() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    resign(&world, 3, |record| record["tags"] = json!(["another"]));
    for _ in 0..2 {
        assert_eq!(read(&reader, &[]).exits(3).warnings(), ["record-replaced"]);
    }
    world.sealift(&["backup", "--json"]).exits(16).says("was replaced");
    read(&reader, &["--accept-rollback"]).exits(0);
    says_nothing(&reader);
    says_nothing(&world.other_host("newcomer"));
}

#[test]
fn two_records_swapped_are_13_each() {
    let (world, reader) = three_snapshots();
    fs::rename(world.record(1), world.path("kept")).unwrap();
    fs::rename(world.record(2), world.record(1)).unwrap();
    fs::rename(world.path("kept"), world.record(2)).unwrap();
    read(&reader, &["1"]).exits(13).says("it is the record of snapshot 2, stored under number 1");
    read(&reader, &["2"]).exits(13).says("it is the record of snapshot 1, stored under number 2");
    assert_eq!(read(&reader, &[]).exits(0).json()["sequence"], 3);
    let signer = world.signer().public().to_string();
    let output = reader.sealift(&["snapshots", "--signer", &signer, "--json"]).exits(3);
    assert_eq!(output.warnings(), ["record-damaged", "record-damaged"]);
}

#[test]
fn an_old_record_under_a_new_number_does_not_become_the_latest() {
    let (world, reader) = three_snapshots();
    fs::copy(world.record(1), world.record(4)).unwrap();
    let output = read(&reader, &[]).exits(3).says("it is the record of snapshot 1, stored under number 4");
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
fn lists_that_no_host_writes_are_13() {
    let (world, reader) = three_snapshots();
    for earlier in [json!([[2, 1]]), json!([[1, 3]]), json!([[2, 2], [1, 1]]), json!([[1, 2], [2, 2]])] {
        resign(&world, 3, |record| record["earlier"] = earlier);
        read(&reader, &["3"]).exits(13).says("the list of earlier ones, is not in order");
    }
}

#[test]
fn a_repository_that_was_rolled_back_is_a_problem_until_it_has_gone_on_or_a_person_accepts_it() {
    let (world, reader) = three_snapshots();
    let other = world.other_host("another reader");
    says_nothing(&reader);
    says_nothing(&other);
    fs::remove_file(world.record(3)).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&reader, &[]).exits(3).json()["sequence"], 2);
        assert_eq!(read(&reader, &[]).exits(3).warnings(), ["rolled-back"]);
    }
    read(&other, &["--accept-rollback"]).exits(0);
    says_nothing(&other);
    world.sealift(&["backup", "--json"]).exits(16).says("rolled back");
    world.sealift(&["backup", "--adopt", "--json"]).exits(0);
    // The host numbers above what it wrote before, so the old number stays free.
    assert!(!world.record(3).exists() && world.record(4).exists());
    says_nothing(&reader);
}

/// Puts a record above `last`, by a key that claims to have taken over.
fn take_over(world: &World, last: u64, from: &PublicSigner, to: &Signer) {
    let step = Takeover { from: from.clone(), last, to: to.public() };
    let mut record = next_record(world, last);
    let mut steps = record["takeovers"].as_array().cloned().unwrap_or_default();
    steps.push(serde_json::to_value(step).unwrap());
    record["takeovers"] = json!(steps);
    world.write_record(last + 1, &record, to);
}

#[test]
fn a_takeover_is_a_claim_until_its_fingerprint_is_accepted_and_what_the_known_key_signed_restores() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new);
    let fingerprint = new.public().fingerprint();
    for snapshot in ["latest", "4", "2099-01-01"] {
        read(&reader, &[snapshot])
            .exits(13)
            .says(&fingerprint)
            .says("host elsewhere")
            .says("--accept-signer FINGERPRINT");
    }
    let old = read(&reader, &["3"]).exits(3);
    assert_eq!((&old.json()["sequence"], &old.warnings()[..]), (&json!(3), &["signer-claim".to_owned()][..]));

    assert_eq!(read(&reader, &["--accept-signer", &fingerprint]).exits(0).json()["sequence"], 4);
    says_nothing(&reader);
    for snapshot in ["1", "3", "4"] {
        read(&reader, &[snapshot]).exits(0);
    }
    let flagged = world.other_host("reader who knows the new signer");
    assert_eq!(read(&flagged, &["--signer", &new.public().to_string()]).exits(0).json()["sequence"], 4);
}

#[test]
fn a_list_shows_a_claim_and_ends_with_13() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new);
    let output = reader.sealift(&["snapshots"]).exits(13).says(&new.public().fingerprint());
    assert!(String::from_utf8_lossy(&output.stdout).contains("4  does not count"), "{output:?}");
    reader.sealift(&["status"]).exits(13);
    reader.sealift(&["snapshots", "--accept-signer", &new.public().to_string()]).exits(0);
    reader.sealift(&["snapshots"]).exits(0);
}

#[test]
fn a_key_that_no_record_leads_to_is_not_accepted() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    world.write_record(4, &next_record(&world, 3), &stranger());
    let other = stranger().public().to_string();
    read(&reader, &["--accept-signer", &other]).exits(13).says("no record shows that");
    read(&reader, &["--accept-signer", "no key"]).exits(2);
    read(&reader, &["--accept-signer", "SHA256:short"]).exits(2);
}

#[test]
fn of_two_that_claim_a_takeover_the_one_that_a_person_names_is_accepted() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    let (new, forger, old) = (stranger(), stranger(), world.signer().public());
    take_over(&world, 3, &old, &new);
    let mut forged = world.record_json(4);
    forged["takeovers"] = json!([Takeover { from: old, last: 3, to: forger.public() }]);
    forged["sequence"] = json!(5);
    world.write_record(5, &forged, &forger);
    read(&reader, &[]).exits(13);
    let output = read(&reader, &["4", "--accept-signer", &new.public().fingerprint()]).exits(3);
    assert_eq!(output.warnings(), ["record-untrusted"]);
    assert_eq!(read(&reader, &[]).exits(3).json()["sequence"], 4);
}

#[test]
fn two_takeovers_in_a_row_are_accepted_by_the_last_fingerprint() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    let (second, third) = (stranger(), stranger());
    take_over(&world, 3, &world.signer().public(), &second);
    take_over(&world, 4, &second.public(), &third);
    read(&reader, &[]).exits(13).says(&third.public().fingerprint());
    read(&reader, &["--accept-signer", &third.public().to_string()]).exits(0);
    for snapshot in ["1", "4", "5"] {
        read(&reader, &[snapshot]).exits(0);
    }
}

#[test]
fn what_a_former_writer_signs_after_its_place_was_taken_does_not_count() {
    let (world, reader) = three_snapshots();
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new);
    let mut late = next_record(&world, 4);
    late.as_object_mut().unwrap().remove("takeovers");
    world.write_record(5, &late, &world.signer());
    let new = new.public().to_string();
    let output = read(&reader, &["--signer", &new]).exits(3);
    assert_eq!(output.json()["sequence"], 4);
    assert_eq!(output.warnings(), ["record-untrusted"]);
    read(&reader, &["5", "--signer", &new]).exits(13).says("which is not trusted");
}

#[test]
fn a_list_of_takeovers_that_does_not_lead_to_the_key_that_signed_it_is_13() {
    let (world, reader) = three_snapshots();
    take_over(&world, 3, &world.signer().public(), &stranger());
    let record = world.record_json(4);
    world.write_record(4, &record, &stranger());
    read(&reader, &["4"]).exits(13).says("0000000004.record");
}

#[test]
fn a_machine_that_cannot_remember_says_so() {
    let (_world, reader) = three_snapshots();
    // Behind a link to nowhere nothing can be made.
    std::os::unix::fs::symlink("/nonexistent/place", reader.state()).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&reader, &[]).exits(0).warnings(), ["not-remembered"]);
        assert_eq!(read(&reader, &["--strict"]).exits(3).warnings(), ["not-remembered"]);
    }
}

#[test]
fn a_machine_that_nothing_tells_who_signs_says_so_once() {
    let (world, _) = three_snapshots();
    for command in ["check", "status"] {
        let new = world.other_host(&format!("new-{command}"));
        assert_eq!(new.sealift(&[command, "--json"]).exits(0).warnings(), ["unpinned-signer"], "{command}");
        assert!(new.sealift(&[command, "--json"]).exits(0).warnings().is_empty(), "{command}");
        let known = world.other_host(&format!("known-{command}"));
        let signer = world.signer().public().to_string();
        assert!(known.sealift(&[command, "--signer", &signer, "--json"]).exits(0).warnings().is_empty(), "{command}");
    }
}

#[test]
fn a_rollback_in_two_steps_is_noticed() {
    let (world, reader) = three_snapshots();
    looks(&reader);
    fs::write(world.record(3), "garbage").unwrap();
    assert_eq!(reader.sealift(&["status", "--json"]).exits(3).warnings(), ["record-damaged"]);
    fs::remove_file(world.record(3)).unwrap();
    for _ in 0..2 {
        assert_eq!(reader.sealift(&["status", "--json"]).exits(3).warnings(), ["rolled-back"]);
    }
    reader.sealift(&["status", "--accept-rollback", "--json"]).exits(0);
    assert_eq!(reader.sealift(&["status", "--json"]).exits(0).warnings(), ["snapshots-removed"]);
}

/// A look with another key, for one run, lowers nothing that this machine remembers.
#[test]
fn a_signer_that_is_named_for_one_run_changes_nothing_that_is_remembered() {
    let (world, reader) = three_snapshots();
    looks(&reader);
    let before = fs::read(reader.state_of_repository().join("trust.json")).unwrap();
    reader.sealift(&["status", "--signer", &stranger().public().to_string(), "--json"]);
    assert_eq!(fs::read(reader.state_of_repository().join("trust.json")).unwrap(), before);
    assert!(reader.sealift(&["status", "--json"]).exits(0).warnings().is_empty());
    drop(world);
}

/// Size and time are as they were, so nothing but the bytes shows it.
#[test]
fn a_check_that_reads_data_reads_the_records_again() {
    let (world, reader) = three_snapshots();
    looks(&reader);
    let (path, time) = (world.record(1), fs::metadata(world.record(1)).unwrap().modified().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    reader.sealift(&["check", "--json"]).exits(0);
    let checked = reader.sealift(&["check", "--read-data", "--json"]).exits(13).json();
    assert_eq!(
        (&checked["ok"], &checked["problems"][0]["object"]),
        (&json!(false), &json!("snapshots/0000000001.record"))
    );
}

#[test]
fn a_takeover_is_accepted_though_a_damaged_record_lies_above_it() {
    let (world, reader) = three_snapshots();
    says_nothing(&reader);
    let new = stranger();
    take_over(&world, 3, &world.signer().public(), &new);
    fs::write(world.record(9), "garbage").unwrap();
    let output = read(&reader, &["--accept-signer", &new.public().fingerprint()]).exits(3);
    assert_eq!((&output.json()["sequence"], &output.warnings()[..]), (&json!(4), &["record-damaged".to_owned()][..]));
}

#[test]
fn another_repository_at_a_known_location_is_refused_though_what_is_known_of_it_is_lost() {
    let (world, reader) = three_snapshots();
    looks(&reader);
    fs::remove_file(reader.state_of_repository().join("trust.json")).unwrap();
    let other = World::ready();
    other.backup();
    fs::rename(world.path("repository"), world.path("moved")).unwrap();
    crate::support::world::copy_tree(&other.path("repository"), &world.path("repository"));
    reader.sealift(&["status", "--json"]).exits(13).says("--accept-signer");
}
