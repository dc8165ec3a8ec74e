//! The host is lost: a fresh one continues its repository, and the old one, should it run again, changes nothing.

use std::fs;

use serde_json::{Value, json};

use crate::keys::{person, secret};
use crate::support::minio::Minio;
use crate::support::s3s::{S3s, Side};
use crate::support::world::{Output, Sources, World, copy_tree, tree};

/// A host with two snapshots, and what each shows.
pub fn a_host_with_a_past(world: &World) -> [Sources; 2] {
    let first = world.sources();
    world.backup();
    world.add_rows(20);
    let second = world.sources();
    world.backup();
    [first, second]
}

/// `init --take-over` on another machine, for the same sources.
pub fn take_over(fresh: &World, more: &[&str]) -> Output {
    let (database, file) = (fresh.database().display().to_string(), fresh.environment().display().to_string());
    let identity = fresh.text("operator.key");
    let always = ["init", "--take-over", "--database", &database, "--file", &file, "--identity", &identity, "--json"];
    fresh.sealift(&[&always, more].concat())
}

/// With the operator as the only recipient; what it printed.
#[track_caller]
pub fn takes_over(fresh: &World) -> Value {
    take_over(fresh, &["--yes", "-r", &own(fresh)]).exits(0).json()
}

/// The operator's recipient.
pub fn own(world: &World) -> String {
    secret(world, "operator").to_public().to_string()
}

pub fn signer_of(document: &Value) -> String {
    document["signer"].as_str().unwrap().to_owned()
}

fn fingerprint_of(document: &Value) -> &str {
    document["fingerprint"].as_str().unwrap()
}

/// Restores a snapshot for a reader who names the signing key.
fn assert_restores(world: &World, snapshot: u64, signer: &str, sources: &Sources) {
    let to = (0..).map(|n| format!("restored-{n}")).find(|to| !world.path(to).exists()).unwrap();
    let reader = world.other_host(&format!("reader of {to}"));
    let (identity, target) = (world.text("operator.key"), world.text(&to));
    reader.sealift(&["restore", &snapshot.to_string(), "-i", &identity, "--to", &target, "--signer", signer]).exits(0);
    assert!(fs::read(world.path(&to).join("trinity.db")).unwrap() == sources.database, "another database");
    assert_eq!(fs::read(world.path(&to).join(".env")).unwrap(), sources.environment);
}

/// Everything that a takeover is for, wherever the repository lies.
fn a_lost_host_is_followed(world: &World) {
    let [first, second] = a_host_with_a_past(world);
    let old_signer = world.signer().public().to_string();
    let fresh = world.other_host("fresh");
    let report = takes_over(&fresh);
    let signer = signer_of(&report);
    assert_ne!(signer, old_signer);
    assert_eq!(report["took_over"], json!({ "from": old_signer, "last": 2 }));
    assert!(report["restore"].as_str().unwrap().contains(&format!("--signer '{signer}'")), "{report}");

    // The first snapshot is a full upload in an epoch of its own, under the next number.
    world.add_rows(20);
    let third = world.sources();
    let backup = fresh.sealift(&["backup", "--json"]).exits(0);
    // The key file of the host before is no news.
    assert_eq!(backup.warnings(), ["single-recipient"], "{backup:?}");
    assert_eq!(backup.json()["sequence"], 3);
    assert_eq!(backup.json()["unchanged"], false);
    assert_eq!(fresh.backup(), 4, "from then on as ever");
    assert!(!fresh.state_of_repository().join("take-over.json").exists());
    for (snapshot, sources) in [(1, &first), (2, &second), (3, &third), (4, &third)] {
        assert_restores(world, snapshot, &signer, sources);
    }

    // The comments of the identity file name the old signer: a person decides, and sees both fingerprints.
    let reader = world.other_host("operator");
    let restore = |more: &[&str]| {
        reader.sealift(&[&["restore", "-i", &world.text("operator.key"), "--dry-run", "--json"], more].concat())
    };
    let old = world.signer().public().fingerprint();
    let claimed = restore(&[]).exits(13).says(fingerprint_of(&report)).says(&old).says("--accept-signer");
    assert!(!claimed.all().contains(&signer), "{claimed:?}");
    assert!(!claimed.all().contains(&format!("--accept-signer {}", fingerprint_of(&report))), "{claimed:?}");
    reader.sealift(&["status", "--json"]).exits(13);
    reader.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(15);
    let second_of_old = restore(&["2"]);
    assert_eq!((second_of_old.json()["sequence"].clone(), second_of_old.code), (json!(2), 3));
    restore(&["--accept-signer", &old]).exits(13);
    assert_eq!(restore(&["--accept-signer", fingerprint_of(&report)]).exits(0).json()["sequence"], 4);
    assert_eq!(restore(&[]).exits(0).json()["sequence"], 4, "it is remembered");
    // The comments that the takeover printed do the same on a machine that knows nothing.
    let key = fs::read_to_string(world.identity()).unwrap();
    let comments = report["comments"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    let private = key.lines().filter(|line| !line.starts_with("# repository") && !line.starts_with("# signer"));
    fs::write(world.path("new.key"), comments.chain(private).collect::<Vec<_>>().join("\n")).unwrap();
    let newcomer = world.other_host("newcomer");
    let read = newcomer.sealift(&["restore", "-i", &world.text("new.key"), "--dry-run", "--json"]).exits(0);
    assert_eq!((read.json()["sequence"].clone(), read.warnings()), (json!(4), Vec::new()));
    // The fresh host trusts itself.
    let list = fresh.sealift(&["snapshots", "--json"]).exits(0).rows();
    assert!(list.as_array().unwrap().iter().all(|row| row.get("problem").is_none()), "{list}");
}

#[test]
fn a_fresh_host_continues_and_old_and_new_snapshots_restore() {
    a_lost_host_is_followed(&World::ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_host_continues_in_the_bucket_of_a_real_server() {
    let Some(minio) = Minio::start().await else { return };
    a_lost_host_is_followed(&World::in_bucket(&minio));
}

#[test]
fn the_first_record_follows_on_the_old_ones_and_every_later_one_carries_the_change() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&takes_over(&fresh));
    fresh.backup();
    fresh.backup();
    let (third, fourth) = (world.record_json(3), world.record_json(4));
    assert_eq!(third["earlier"], json!([[1, 2]]));
    assert_eq!(third["previous"], json!(sealift::crypto::sha256(&fs::read(world.record(2)).unwrap())));
    let steps = third["takeovers"].as_array().unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!((&steps[0]["from"], &steps[0]["last"]), (&json!(world.signer().public()), &json!(2)));
    assert_eq!(steps[0]["to"], json!(signer));
    assert_eq!(fourth["takeovers"], third["takeovers"]);
    let epochs: Vec<_> = third["epochs"].as_array().unwrap().iter().map(|epoch| epoch["epoch"].clone()).collect();
    assert_eq!(epochs, [json!(2)]);
}

#[test]
fn the_old_host_is_stopped_for_good_and_changes_nothing() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let report = takes_over(&fresh);
    let (signer, fingerprint) = (signer_of(&report), fingerprint_of(&report));
    world.add_rows(5);
    let now = world.sources();
    fresh.backup();
    let before = tree(&world.path("repository"));
    for arguments in [&["backup"][..], &["backup", "--adopt"], &["backup", "--dry-run"], &["backup", "--adopt"]] {
        let output = world.sealift(&[arguments, &["--json"]].concat()).exits(16);
        output.says(fingerprint).says("snapshot 3").says("retain --ignore");
        assert!(tree(&world.path("repository")) == before, "{arguments:?}");
    }
    assert_eq!(fresh.backup(), 4);
    assert_restores(&world, 4, &signer, &now);
    // Nor does it find a way once its last record is no longer kept.
    fs::remove_file(world.record(2)).unwrap();
    world.sealift(&["backup"]).exits(16);
}

/// A person at the old host finds that the takeover is false: it continues, and no other machine asks again.
#[test]
fn a_false_takeover_that_is_ignored_on_the_host_stops_no_machine() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    takes_over(&fresh);
    fresh.backup();
    world.sealift(&["backup"]).exits(16);
    world.sealift(&["retain", "--ignore", "3", "--apply"]).exits(0);
    let now = world.sources();
    assert_eq!(world.backup(), 4);
    let reader = world.other_host("reader");
    let read = reader.sealift(&["restore", "-i", &world.text("operator.key"), "--dry-run", "--json"]).exits(0);
    assert_eq!(read.json()["sequence"], 4);
    assert_restores(&world, 4, &world.signer().public().to_string(), &now);
    // For the other one this record does not count.
    let output = fresh.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"record-untrusted".to_owned()), "{output:?}");
    world.sealift(&["backup"]).exits(16);
}

#[test]
fn an_old_host_that_crashed_with_a_record_unsent_does_not_send_it() {
    let world = World::ready();
    world.backup();
    let mut record = world.record_json(1);
    record["sequence"] = json!(2);
    record["previous"] = json!(sealift::crypto::sha256(&fs::read(world.record(1)).unwrap()));
    record["earlier"] = json!([[1, 1]]);
    let unsent = world.signer().sign(&record.to_string()).unwrap();
    fs::write(world.state_of_repository().join("unsent.record"), unsent.bytes()).unwrap();
    let fresh = world.other_host("fresh");
    takes_over(&fresh);
    fresh.backup();
    let before = tree(&world.path("repository"));
    world.sealift(&["backup"]).exits(16);
    assert!(tree(&world.path("repository")) == before);
}

#[test]
fn what_the_old_host_wrote_before_the_first_record_of_the_new_one_counts() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let report = takes_over(&fresh);
    // The old host sees no other writer yet, only a key file that it did not make.
    world.add_rows(5);
    let third = world.sources();
    let old = world.sealift(&["backup", "--json"]).exits(0);
    assert_eq!(
        (&old.json()["sequence"], old.warnings()),
        (&json!(3), vec!["key-files-new".to_owned(), "single-recipient".to_owned()])
    );
    let now = world.sources();
    assert_eq!(fresh.backup(), 4);
    let record = world.record_json(4);
    assert_eq!((&record["takeovers"][0]["last"], &record["earlier"]), (&json!(3), &json!([[1, 3]])));
    assert_restores(&world, 3, &signer_of(&report), &third);
    assert_restores(&world, 4, &signer_of(&report), &now);
    world.sealift(&["backup"]).exits(16);
}

/// The first upload of the new host may take hours.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_host_writes_while_the_new_one_uploads_counts() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&takes_over(&fresh));
    let now = world.sources();
    let held = server.hold("PUT", "/packs/", Side::Before);
    let uploads = fresh.start(&["backup", "--json"]);
    held.reached();
    assert_eq!(world.backup(), 3);
    held.release();
    assert_eq!(uploads.wait().exits(0).json()["sequence"], 4);
    let record = fs::read(server.bucket_folder().join("trinity/snapshots/0000000004.record")).unwrap();
    let record: Value = serde_json::from_slice(record.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!((&record["takeovers"][0]["last"], &record["earlier"]), (&json!(3), &json!([[1, 3]])));
    for snapshot in [3, 4] {
        assert_restores(&world, snapshot, &signer, &now);
    }
    world.sealift(&["backup"]).exits(16);
    assert_eq!(fresh.backup(), 5);
}

#[test]
fn a_record_that_the_former_writer_signs_later_does_not_stop_the_new_one() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&takes_over(&fresh));
    fresh.backup();
    let mut record = world.record_json(2);
    record["sequence"] = json!(4);
    world.write_record(4, &record, &world.signer());
    let now = world.sources();
    let output = fresh.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"record-untrusted".to_owned()), "{output:?}");
    assert_eq!(output.json()["sequence"], 5);
    let to = world.text("restored");
    let reader = world.other_host("reader");
    let restored =
        reader.sealift(&["restore", "-i", &world.text("operator.key"), "--to", &to, "--signer", &signer, "--json"]);
    assert_eq!(restored.exits(0).json()["sequence"], 5);
    assert_eq!(reader.sealift(&["status", "--signer", &signer, "--json"]).exits(3).warnings(), ["record-untrusted"]);
    assert!(fs::read(world.path("restored/trinity.db")).unwrap() == now.database);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_request_it_is_run_again_and_continues() {
    for (method, part) in [("GET", "/snapshots/"), ("GET", "/keys/"), ("PUT", "/keys/2/"), ("GET", "/keys/2/")] {
        for side in [Side::Before, Side::After] {
            let server = S3s::start().await;
            let world = World::in_bucket(&server);
            world.backup();
            let fresh = world.other_host("fresh");
            let (identity, own) = (world.text("operator.key"), own(&world));
            let database = world.database().display().to_string();
            let held = server.hold(method, part, side);
            let arguments = ["init", "--take-over", "--database", &database, "-i", &identity, "--yes", "-r", &own];
            let running = fresh.start(&arguments);
            held.reached();
            running.kill();
            // The old host may still write, and notes the key file that was made for the new one.
            let is_begun = server.bucket_folder().join("trinity/keys/2/1.age").exists();
            world.an_hour_later();
            let old = world.sealift(&["backup", "--json"]).exits(0);
            assert!(old.json()["sequence"] == 2, "{method} {part} {side:?} {old:?}");
            assert_eq!(old.warnings().contains(&"key-files-new".to_owned()), is_begun, "{method} {part} {side:?}");
            let again = takes_over(&fresh);
            let now = world.sources();
            assert_eq!(fresh.backup(), 3, "{method} {part} {side:?}");
            assert_restores(&world, 3, &signer_of(&again), &now);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_that_is_killed_continues() {
    for (part, side) in [
        ("/packs/", Side::After),
        ("/manifests/", Side::After),
        ("/snapshots/", Side::Before),
        ("/snapshots/", Side::After),
    ] {
        let server = S3s::start().await;
        let world = World::in_bucket(&server);
        world.backup();
        let fresh = world.other_host("fresh");
        let signer = signer_of(&takes_over(&fresh));
        let held = server.hold("PUT", part, side);
        let running = fresh.start(&["backup"]);
        held.reached();
        running.kill();
        world.add_rows(5);
        let now = world.sources();
        let sequence = fresh.backup();
        assert_eq!(sequence, if part == "/snapshots/" { 3 } else { 2 }, "{part} {side:?}");
        assert_restores(&world, sequence, &signer, &now);
        world.sealift(&["backup"]).exits(16);
    }
}

#[test]
fn the_new_host_restored_to_an_older_state_adopts_its_own() {
    let world = World::ready();
    let [first, _] = a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&takes_over(&fresh));
    copy_tree(&fresh.state(), &world.path("image"));
    let back_to_the_image = || {
        fs::remove_dir_all(fresh.state()).unwrap();
        copy_tree(&world.path("image"), &fresh.state());
    };
    // Of before its first snapshot: nothing is to be adopted but its predecessor's.
    assert_eq!(fresh.sealift(&["backup", "--adopt", "--json"]).exits(0).json()["sequence"], 3);
    back_to_the_image();
    fresh.sealift(&["backup"]).exits(16).says("--adopt");
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(fresh.sealift(&["backup", "--adopt", "--json"]).exits(0).json()["sequence"], 4);
    assert_eq!(fresh.backup(), 5);
    assert_restores(&world, 5, &signer, &now);
    assert_restores(&world, 1, &signer, &first);
    assert_eq!(world.record_json(4)["epochs"][0]["epoch"], 2);
}

#[test]
fn a_host_can_be_followed_twice_and_the_first_machine_become_the_host_again() {
    let world = World::ready();
    let [first, second] = a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let report = takes_over(&fresh);
    let (one, recipient) = (signer_of(&report), own(&world));
    fresh.backup();
    // On the machine of the first host, whose state is in the way.
    let yes = ["--yes", "-r", &recipient];
    take_over(&world, &yes).exits(13).says(fingerprint_of(&report));
    let refused = take_over(&world, &[&yes[..], &["--accept-signer", fingerprint_of(&report)]].concat()).exits(15);
    refused.says("the state of a former writer").says("move that directory away");
    fs::rename(world.state(), world.path("moved")).unwrap();
    let report = take_over(&world, &[&yes[..], &["--signer", &one]].concat()).exits(0).json();
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(world.backup(), 4);
    let two = signer_of(&report);
    assert_eq!(world.record_json(4)["takeovers"].as_array().unwrap().len(), 2);
    for (snapshot, sources) in [(1, &first), (2, &second), (4, &now)] {
        assert_restores(&world, snapshot, &two, sources);
    }
    fresh.sealift(&["backup"]).exits(16).says(fingerprint_of(&report));
    // A machine that still knows the first signer accepts both steps at once.
    let reader = world.other_host("reader");
    let restore = ["restore", "-i", &world.text("operator.key"), "--dry-run", "--json"];
    reader.sealift(&restore).exits(13).says(fingerprint_of(&report));
    reader.sealift(&[&restore[..], &["--accept-signer", fingerprint_of(&report)]].concat()).exits(0);
}

#[test]
fn it_is_refused_without_a_snapshot_a_person_or_an_identity_that_opens() {
    let world = World::ready();
    let fresh = world.other_host("fresh");
    let recipient = own(&world);
    let yes = ["--yes", "-r", &recipient];
    take_over(&fresh, &yes).exits(15).says("holds no snapshot");
    world.backup();
    let before = tree(&world.path("repository"));
    // Without a person who confirms, be the recipients named or not.
    take_over(&fresh, &[]).exits(2).says("--yes");
    take_over(&fresh, &["-r", &recipient]).exits(2).says("--yes");
    // Unseen, the key file does not decide who opens the backups.
    take_over(&fresh, &["--yes"]).exits(2).says("-r");
    // On the writer itself.
    take_over(&world, &yes).exits(15).says("is the writer of");
    // With an identity that opens nothing here, or was made for another repository.
    person(&world, "other");
    let (database, identity) = (world.database().display().to_string(), world.text("other.key"));
    let arguments =
        ["init", "--take-over", "--database", &database, "--identity", &identity, "--yes", "-r", &recipient];
    fresh.sealift(&arguments).exits(12);
    let (elsewhere, mut of_another) = (World::ready(), arguments);
    let file = elsewhere.text("operator.key");
    of_another[5] = &file;
    world.other_host("another").sealift(&of_another).exits(13).says("--signer");
    // With none.
    let without = ["init", "--take-over", "--database", &database, "--yes", "-r", &recipient];
    fresh.sealift(&without).exits(2).says("no identity is given");
    // Flags of a takeover without one.
    fresh.sealift(&["init", "--database", &database, "--identity", &identity]).exits(2).says("--take-over");
    // Where there is nothing.
    let nowhere = world.text("nowhere");
    fresh.sealift(&[&arguments[..], &["--repository", &nowhere]].concat()).exits(10);
    assert!(tree(&world.path("repository")) == before);
    assert!(!fresh.config().exists());
}
