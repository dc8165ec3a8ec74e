//! The host is lost: a fresh one goes on with its repository, and the old one, should it wake, harms nothing.

use std::fs;

use serde_json::{Value, json};

use crate::keys::{keys, person, secret};
use crate::keys_exchanged::forge;
use crate::support::minio::Minio;
use crate::support::s3s::{S3s, Side};
use crate::support::world::{Output, Sources, World, copy_tree, tree};

/// A host with two snapshots, and what each shows.
fn a_host_with_a_past(world: &World) -> [Sources; 2] {
    let first = world.sources();
    world.backup();
    world.add_rows(20);
    let second = world.sources();
    world.backup();
    [first, second]
}

/// `init --take-over` on another machine, for the same sources.
fn take_over(fresh: &World, more: &[&str]) -> Output {
    let (database, file) = (fresh.database().display().to_string(), fresh.environment().display().to_string());
    let identity = fresh.text("operator.key");
    let always = ["init", "--take-over", "--database", &database, "--file", &file, "--identity", &identity, "--json"];
    fresh.sealift(&[&always, more].concat())
}

fn signer_of(document: &Value) -> String {
    document["signer"].as_str().unwrap().to_owned()
}

/// Restores a snapshot for a reader who knows who signs now.
fn assert_restores(world: &World, snapshot: u64, signer: &str, sources: &Sources) {
    let to = (0..).map(|n| format!("restored-{n}")).find(|to| !world.path(to).exists()).unwrap();
    let reader = world.other_host(&format!("reader of {to}"));
    let (identity, target) = (world.text("operator.key"), world.text(&to));
    reader.sealift(&["restore", &snapshot.to_string(), "-i", &identity, "--to", &target, "--signer", signer]).exits(0);
    assert!(fs::read(world.path(&to).join("trinity.db")).unwrap() == sources.database, "another database");
    assert_eq!(fs::read(world.path(&to).join(".env")).unwrap(), sources.environment);
}

/// Everything that a take-over is for, wherever the repository lies.
fn a_lost_host_is_followed(world: &World) {
    let [first, second] = a_host_with_a_past(world);
    let old_signer = world.signer().public().to_string();
    let fresh = world.other_host("fresh");
    let report = take_over(&fresh, &["--yes"]).exits(0).json();
    let signer = signer_of(&report);
    assert_ne!(signer, old_signer);
    assert_eq!(report["took_over"], json!({ "from": old_signer, "last": 2 }));
    assert!(report["restore"].as_str().unwrap().contains(&format!("--signer '{signer}'")), "{report}");

    // The first snapshot is a full upload in an epoch of its own, under the next number.
    world.add_rows(20);
    let third = world.sources();
    let backup = fresh.sealift(&["backup", "--json"]).exits(0);
    assert_eq!(backup.warnings(), ["single-recipient"], "{backup:?}");
    assert_eq!(backup.json()["sequence"], 3);
    assert_eq!(backup.json()["unchanged"], false);
    assert_eq!(fresh.backup(), 4, "from then on as ever");
    assert!(!fresh.state_of_repository().join("take-over.json").exists());
    for (snapshot, sources) in [(1, &first), (2, &second), (3, &third), (4, &third)] {
        assert_restores(world, snapshot, &signer, sources);
    }

    // Who has nothing but the identity, whose comments name the old signer, is told what to do.
    let reader = world.other_host("operator");
    let restore = |more: &[&str]| {
        reader.sealift(&[&["restore", "-i", &world.text("operator.key"), "--dry-run", "--json"], more].concat())
    };
    let words = format!("--accept-signer '{signer}'");
    restore(&[]).exits(13).says("an operator's identity of epoch 1").says(&words);
    assert_eq!(restore(&["--accept-signer", &signer]).exits(0).json()["sequence"], 4);
    assert_eq!(restore(&[]).exits(0).json()["sequence"], 4);
    // The fresh host reads its own without being told, too.
    let list = fresh.sealift(&["snapshots", "--json"]).exits(0).json();
    assert!(list.as_array().unwrap().iter().all(|row| row.get("problem").is_none()), "{list}");
}

#[test]
fn a_fresh_host_goes_on_and_old_and_new_snapshots_restore() {
    a_lost_host_is_followed(&World::ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_host_goes_on_in_the_bucket_of_a_real_server() {
    let Some(minio) = Minio::start().await else { return };
    a_lost_host_is_followed(&World::in_bucket(&minio));
}

#[test]
fn the_first_record_follows_on_the_old_ones_and_every_later_one_carries_the_change() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&take_over(&fresh, &["--yes"]).exits(0).json());
    fresh.backup();
    fresh.backup();
    let (third, fourth) = (world.record_json(3), world.record_json(4));
    assert_eq!(third["earlier"], json!([[1, 2]]));
    assert_eq!(third["previous"], json!(sealift::crypto::sha256(&fs::read(world.record(2)).unwrap())));
    let steps = third["take_overs"].as_array().unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!((&steps[0]["from"], &steps[0]["last"]), (&json!(world.signer().public()), &json!(2)));
    assert_eq!((&steps[0]["to"], &steps[0]["epoch"]), (&json!(signer), &json!(1)));
    assert_eq!(fourth["take_overs"], third["take_overs"]);
    let epochs: Vec<_> = third["epochs"].as_array().unwrap().iter().map(|epoch| epoch["epoch"].clone()).collect();
    assert_eq!(epochs, [json!(2)]);
}

#[test]
fn the_old_host_is_stopped_for_good_and_harms_nothing() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&take_over(&fresh, &["--yes"]).exits(0).json());
    world.add_rows(5);
    let now = world.sources();
    fresh.backup();
    let before = tree(&world.path("repository"));
    for arguments in [&["backup"][..], &["backup", "--adopt"], &["backup", "--dry-run"], &["backup", "--adopt"]] {
        world.sealift(arguments).exits(11).says("which took over from this one").says("writes here no more");
        assert!(tree(&world.path("repository")) == before, "{arguments:?}");
    }
    assert_eq!(fresh.backup(), 4);
    assert_restores(&world, 4, &signer, &now);
    // Nor does it find a way once its last record is no longer kept.
    fs::remove_file(world.record(2)).unwrap();
    world.sealift(&["backup"]).exits(11).says("which took over from this one");
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
    take_over(&fresh, &["--yes"]).exits(0);
    fresh.backup();
    let before = tree(&world.path("repository"));
    world.sealift(&["backup"]).exits(11);
    assert!(tree(&world.path("repository")) == before);
}

#[test]
fn an_old_host_that_wrote_meanwhile_stops_the_new_one_until_it_takes_over_again() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    take_over(&fresh, &["--yes"]).exits(0);
    // It knows of no other writer yet, but that a key was made for one.
    let old = world.sealift(&["backup", "--json"]).exits(3);
    assert!(old.json()["sequence"] == 3 && old.warnings().contains(&"later-epoch".to_owned()), "{old:?}");
    let before = tree(&world.path("repository"));
    fresh.sealift(&["backup"]).exits(11).says("snapshot 3 was written by the former writer").says("--take-over");
    assert!(tree(&world.path("repository")) == before);
    let again = take_over(&fresh, &["--yes"]).exits(0).json();
    assert_eq!((&again["resumed"], &again["took_over"]["last"]), (&json!(true), &json!(3)));
    let now = world.sources();
    assert_eq!(fresh.backup(), 4);
    assert_restores(&world, 4, &signer_of(&again), &now);
    world.sealift(&["backup"]).exits(11);
}

#[test]
fn a_record_that_the_former_writer_signs_later_does_not_stop_the_new_one() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&take_over(&fresh, &["--yes"]).exits(0).json());
    fresh.backup();
    let mut record = world.record_json(2);
    record["sequence"] = json!(4);
    world.write_record(4, &record, &world.signer());
    let now = world.sources();
    let output = fresh.sealift(&["backup", "--json"]).exits(3).says("written by the former writer");
    assert!(output.warnings().contains(&"former-writer".to_owned()), "{output:?}");
    assert_eq!(output.json()["sequence"], 5);
    let to = world.text("restored");
    let reader = world.other_host("reader");
    let restored =
        reader.sealift(&["restore", "-i", &world.text("operator.key"), "--to", &to, "--signer", &signer, "--json"]);
    assert_eq!(restored.exits(3).json()["sequence"], 5);
    assert!(fs::read(world.path("restored/trinity.db")).unwrap() == now.database);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_whatever_request_it_is_begun_anew_and_goes_on() {
    for (method, part) in [("GET", "/snapshots/"), ("GET", "/keys/"), ("PUT", "/keys/2/"), ("GET", "/keys/2/")] {
        for side in [Side::Before, Side::After] {
            let server = S3s::start().await;
            let world = World::in_bucket(&server);
            world.backup();
            let fresh = world.other_host("fresh");
            let identity = world.text("operator.key");
            let database = world.database().display().to_string();
            let held = server.hold(method, part, side);
            let arguments = ["init", "--take-over", "--database", &database, "--identity", &identity, "--yes"];
            let running = fresh.start(&arguments);
            held.reached();
            running.kill();
            // The old host may still write, and tells that a key was made for another.
            let is_begun = server.bucket_folder().join("trinity/keys/2/1.age").exists();
            let old = world.sealift(&["backup", "--json"]).exits(if is_begun { 3 } else { 0 });
            assert!(old.json()["sequence"] == 2, "{method} {part} {side:?} {old:?}");
            let again = take_over(&fresh, &["--yes"]).exits(0).json();
            let now = world.sources();
            assert_eq!(fresh.backup(), 3, "{method} {part} {side:?}");
            assert_restores(&world, 3, &signer_of(&again), &now);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_that_is_killed_goes_on() {
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
        let signer = signer_of(&take_over(&fresh, &["--yes"]).exits(0).json());
        let held = server.hold("PUT", part, side);
        let running = fresh.start(&["backup"]);
        held.reached();
        running.kill();
        world.add_rows(5);
        let now = world.sources();
        let sequence = fresh.backup();
        assert_eq!(sequence, if part == "/snapshots/" { 3 } else { 2 }, "{part} {side:?}");
        assert_restores(&world, sequence, &signer, &now);
        assert_restores(&world, sequence, &signer, &now);
        world.sealift(&["backup"]).exits(11);
    }
}

#[test]
fn the_new_host_restored_to_an_older_state_adopts_its_own() {
    let world = World::ready();
    let [first, _] = a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let signer = signer_of(&take_over(&fresh, &["--yes"]).exits(0).json());
    copy_tree(&fresh.state(), &world.path("image"));
    let back_to_the_image = || {
        fs::remove_dir_all(fresh.state()).unwrap();
        copy_tree(&world.path("image"), &fresh.state());
    };
    // Of before its first snapshot: nothing is to be adopted but its predecessor's.
    assert_eq!(fresh.sealift(&["backup", "--adopt", "--json"]).exits(0).json()["sequence"], 3);
    back_to_the_image();
    fresh.sealift(&["backup"]).exits(11).says("--adopt");
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(fresh.sealift(&["backup", "--adopt", "--json"]).exits(0).json()["sequence"], 4);
    assert_eq!(fresh.backup(), 5);
    assert_restores(&world, 5, &signer, &now);
    assert_restores(&world, 1, &signer, &first);
    assert_eq!(world.record_json(4)["epochs"][0]["epoch"], 2);
}

#[test]
fn a_host_can_be_followed_twice_and_the_first_one_come_back() {
    let world = World::ready();
    let [first, second] = a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    let one = signer_of(&take_over(&fresh, &["--yes"]).exits(0).json());
    fresh.backup();
    // On the machine of the first host, whose state is in the way.
    take_over(&world, &["--yes"]).exits(13).says(&format!("--accept-signer '{one}'"));
    let refused = take_over(&world, &["--yes", "--accept-signer", &one]).exits(15);
    refused.says("the state of a former writer").says("move that directory away");
    fs::rename(world.state(), world.path("moved")).unwrap();
    let report = take_over(&world, &["--yes", "--signer", &one]).exits(0).json();
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(world.backup(), 4);
    let two = signer_of(&report);
    assert_eq!(world.record_json(4)["take_overs"].as_array().unwrap().len(), 2);
    for (snapshot, sources) in [(1, &first), (2, &second), (4, &now)] {
        assert_restores(&world, snapshot, &two, sources);
    }
    fresh.sealift(&["backup"]).exits(11).says("which took over from this one");
    // Whoever still knows the first signer follows both steps at once.
    let reader = world.other_host("reader");
    let restore = ["restore", "-i", &world.text("operator.key"), "--dry-run", "--json"];
    reader.sealift(&restore).exits(13).says("the proof holds").says(&format!("--accept-signer '{two}'"));
    reader.sealift(&[&restore[..], &["--accept-signer", &two]].concat()).exits(0);
}

#[test]
fn it_is_refused_where_nothing_can_be_proved_or_lost() {
    let world = World::ready();
    let fresh = world.other_host("fresh");
    take_over(&fresh, &["--yes"]).exits(15).says("holds no snapshot");
    world.backup();
    let before = tree(&world.path("repository"));
    // Without a word of agreement.
    take_over(&fresh, &[]).exits(2).says("--yes");
    // On the writer itself.
    take_over(&world, &["--yes"]).exits(15).says("is the writer of");
    // With a stranger's identity.
    let stranger = World::ready();
    let (database, identity) = (world.database().display().to_string(), stranger.text("operator.key"));
    let arguments = ["init", "--take-over", "--database", &database, "--identity", &identity, "--yes"];
    fresh.sealift(&arguments).exits(12);
    // With none.
    fresh.sealift(&["init", "--take-over", "--database", &database, "--yes"]).exits(2).says("no identity is given");
    // Flags of a take-over without one.
    fresh.sealift(&["init", "--database", &database, "--identity", &identity]).exits(2).says("--take-over");
    // Where there is nothing.
    let nowhere = world.text("nowhere");
    fresh.sealift(&[&arguments[..], &["--repository", &nowhere]].concat()).exits(10);
    assert!(tree(&world.path("repository")) == before);
    assert!(!fresh.config().exists());
}

#[test]
fn other_recipients_are_named_with_r_and_nothing_of_the_identity_stays_on_the_host() {
    let world = World::ready();
    world.backup();
    let other = World::ready();
    let text = fs::read_to_string(other.identity()).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    let fresh = world.other_host("fresh");
    let report = take_over(&fresh, &["--yes", "-r", &recipient]).exits(0).json();
    assert_eq!(report["recipients"], json!([recipient]));
    fresh.backup();
    let restore = |identity: &str, snapshot: &str| {
        let signer = signer_of(&report);
        let reader = world.other_host("reader");
        reader.sealift(&["restore", snapshot, "-i", identity, "--dry-run", "--signer", &signer]).code
    };
    let (alice, bob) = (world.text("operator.key"), other.text("operator.key"));
    assert_eq!([restore(&alice, "1"), restore(&alice, "2"), restore(&bob, "1"), restore(&bob, "2")], [0, 12, 12, 0]);
    let secret = fs::read_to_string(world.identity()).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned();
    for (path, (_, _, bytes)) in tree(&fresh.state()) {
        let found = bytes.windows(15).any(|window| window == &secret.as_bytes()[..15]);
        assert!(!found, "{} holds a private key", path.display());
    }
}

#[test]
fn a_generation_that_the_identity_does_not_open_wants_the_recipients_spelled_out() {
    let world = World::ready();
    world.backup();
    let others = age::encrypt(&age::x25519::Identity::generate().to_public(), b"another operator's").unwrap();
    fs::write(world.path("repository/keys/1/2.age"), others).unwrap();
    let fresh = world.other_host("fresh");
    take_over(&fresh, &["--yes"]).exits(15).says("keys/1/2.age is newer").says("-r");
    let text = fs::read_to_string(world.identity()).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    take_over(&fresh, &["--yes", "-r", &recipient]).exits(0);
    fresh.backup();
}

/// With --yes it is refused and nothing is written; with the set spelled out it goes on.
fn assert_wants_the_set_spelled_out(world: &World, host: &str, why: &str) {
    let before = tree(&world.path("repository"));
    let fresh = world.other_host(host);
    take_over(&fresh, &["--yes"]).exits(15).says(why).says("name everybody who is to open the backups with -r");
    assert!(tree(&world.path("repository")) == before && !fresh.config().exists());
    let own = secret(world, "operator").to_public().to_string();
    let report = take_over(&fresh, &["--yes", "-r", &own]).exits(0).json();
    assert_eq!((&report["recipients"], &report["recipients_from"]), (&json!([own]), &json!("command")));
}

#[test]
fn a_generation_that_is_for_others_than_it_names_wants_the_recipients_spelled_out() {
    let world = World::ready();
    world.backup();
    let (own, removed) = (secret(&world, "operator").to_public(), person(&world, "removed"));
    let both = format!("# recipient: {own}\n# recipient: {removed}\n");
    forge(&world, 2, "operator", &["operator"], &both);
    assert_wants_the_set_spelled_out(&world, "fewer", "keys/1/2.age is sealed for 1 and names 2");
    forge(&world, 2, "operator", &["operator", "removed"], &format!("# recipient: {own}\n"));
    assert_wants_the_set_spelled_out(&world, "more", "keys/1/2.age is sealed for 2 and names 1");
    forge(&world, 2, "operator", &["operator"], &format!("# recipient: {own}\n"));
    let report = take_over(&world.other_host("whole"), &["--yes"]).exits(0).json();
    assert_eq!((&report["recipients"], &report["recipients_from"]), (&json!([own.to_string()]), &json!("comments")));
}

#[test]
fn a_generation_for_somebody_who_was_removed_before_wants_the_recipients_spelled_out() {
    let world = World::ready();
    world.backup();
    let (own, removed) = (secret(&world, "operator").to_public().to_string(), person(&world, "removed"));
    let (proof, key) = (world.text("operator.key"), world.path("repository/keys/1/1.age"));
    let known = fs::read(&key).unwrap();
    keys(&world, &["add", "-r", &removed, "--proof", &proof], &["operator"]).exits(0);
    keys(&world, &["remove", "-r", &removed, "--proof", &proof], &["operator"]).exits(0);
    take_over(&world.other_host("before"), &["--yes"]).exits(0);
    // He plants one in the same epoch, which names him as an operator would.
    let both = format!("# recipient: {own}\n# recipient: {removed}\n");
    fs::write(&key, known).unwrap();
    forge(&world, 4, "operator", &["operator", "removed"], &both);
    fs::remove_file(&key).unwrap();
    let why = format!("keys/1/4.age is for {removed}, whom keys/1/3.age names as removed");
    assert_wants_the_set_spelled_out(&world, "same epoch", &why);
    // Or in a later one.
    fs::remove_file(world.path("repository/keys/1/4.age")).unwrap();
    fs::remove_dir_all(world.path("repository/keys/2")).unwrap();
    fs::remove_dir_all(world.path("repository/keys/3")).unwrap();
    world.sealift(&["keys", "rebase", "-r", &own, "-r", &removed]).exits(0);
    let why = format!("keys/2/1.age is for {removed}, whom keys/1/3.age names as removed");
    assert_wants_the_set_spelled_out(&world, "later epoch", &why);
}

#[test]
fn who_takes_over_vouches_for_the_keys_that_he_opened_and_for_no_noise() {
    let world = World::ready();
    a_host_with_a_past(&world);
    fs::write(world.path("repository/keys/1/9.age"), b"noise").unwrap();
    let fresh = world.other_host("fresh");
    take_over(&fresh, &["--yes"]).exits(0);
    let output = fresh.sealift(&["backup", "--json"]).exits(0).says("keys/1/9.age");
    assert!(output.warnings().contains(&"keys-unproved".to_owned()), "{output:?}");
    assert!(!output.all().contains("keys/1/1.age"), "{output:?}");
}

#[test]
fn a_configuration_that_is_changed_after_a_take_over_is_told_though_old_keys_are_of_others() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    take_over(&fresh, &["--yes"]).exits(0);
    fresh.backup();
    let config = fs::read_to_string(fresh.config()).unwrap();
    let own = config.split('"').find(|word| word.starts_with("age1")).unwrap();
    let other = age::x25519::Identity::generate().to_public().to_string();
    fs::write(fresh.config(), config.replace(own, &other)).unwrap();
    let output = fresh.sealift(&["backup", "--json"]).exits(0);
    assert!(output.warnings().contains(&"recipients-changed".to_owned()), "{output:?}");
    fresh.sealift(&["keys", "rebase"]).exits(0);
}
