//! `check` finds what is damaged, says whom it hurts, and the next backup that knows of it heals what it can.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sealift::crypto::Signer;
use sealift::format::{Receipt, ReceiptKind};
use serde_json::{Value, json};

use crate::damage::{Harm, commit_manifest, harm, opened};
use crate::keys::person;
use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::world::{Output, World, tree};

/// Three snapshots: the third has another `.env`, and the database of the second.
fn three_snapshots() -> World {
    let world = World::ready();
    world.backup();
    world.add_rows(20);
    world.backup();
    world.set_environment("TOKEN=second\n");
    world.backup();
    world
}

fn check(world: &World, arguments: &[&str]) -> Output {
    world.sealift(&[&["check", "--json"], arguments].concat())
}

/// On a machine that has no key at all.
fn watch(world: &World, arguments: &[&str]) -> Output {
    check(&world.other_host("watcher"), arguments)
}

fn with_identity<'a>(key: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["-i", key]].concat()
}

/// The one problem that there is.
#[track_caller]
fn problem(output: &Output) -> Value {
    let json = output.json();
    assert_eq!(json["ok"], false);
    let problems = json["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

fn object(world: &World, path: &Path) -> String {
    path.strip_prefix(world.path("repository")).unwrap().display().to_string()
}

/// The snapshots whose records name a pack or a manifest.
fn needed_by(world: &World, path: &Path) -> Vec<u64> {
    let name = path.file_stem().unwrap().to_str().unwrap();
    (1..=3).filter(|sequence| world.record_json(*sequence).to_string().contains(name)).collect()
}

/// The packs and manifests of all snapshots.
fn sealed_objects(world: &World) -> BTreeSet<PathBuf> {
    (1..=3).flat_map(|sequence| [world.packs(sequence), vec![world.manifest(sequence)]].concat()).collect()
}

#[test]
fn a_sound_repository_has_no_problem_with_and_without_an_identity() {
    let world = three_snapshots();
    let before = tree(&world.path("repository"));
    let json = watch(&world, &[]).exits(0).json();
    assert_eq!((&json["ok"], &json["problems"], &json["read_objects"]), (&json!(true), &json!([]), &json!(0)));
    assert_eq!(json["snapshots"], 3);
    let objects = sealed_objects(&world).len();
    let json = watch(&world, &["--read-data"]).exits(0).json();
    assert_eq!((&json["read_objects"], &json["objects"]), (&json!(objects + 1), &json!(objects)), "and the script");
    assert_eq!((&json["unknown"], &json["unreferenced"]), (&json!([]), &json!([])));
    let key = world.text("operator.key");
    let json = watch(&world, &with_identity(&key, &[])).exits(0).json();
    assert_eq!(json["files"], 9, "three sources in three snapshots");
    assert_eq!(watch(&world, &with_identity(&key, &["2"])).exits(0).json()["files"], 3);
    check(&world, &["--read-data"]).exits(0);
    assert!(tree(&world.path("repository")) == before, "a check that finds nothing writes nothing");
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn with_an_identity_each_pack_is_fetched_once() {
    let world = three_snapshots();
    let key = world.text("operator.key");
    let stored: u64 = sealed_objects(&world).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(watch(&world, &with_identity(&key, &[])).exits(0).json()["read_bytes"], stored);
}

/// What is sealed to a key that nobody can open is no good snapshot.
#[test]
fn a_wrapped_key_that_a_believed_checker_found_bad_counts_as_gone_until_it_is_found_whole_again() {
    let world = three_snapshots();
    let (path, key) = (world.path("repository/keys/1/1.age"), world.text("operator.key"));
    let good = fs::read(&path).unwrap();
    harm(&path, Harm::Flip(1000));
    let found = watch(&world, &with_identity(&key, &[])).exits(13).json();
    world.sealift(&["status"]).exits(0);
    believe(&world, &[found["signer"].as_str().unwrap()]);
    world.sealift(&["status"]).exits(14).says("no snapshot is good");
    // Whoever cannot open it has nothing new to say about it.
    assert_eq!(problem(&watch(&world, &["--read-data"]).exits(13))["kind"], "held");
    world.sealift(&["status"]).exits(14);
    fs::write(&path, &good).unwrap();
    watch(&world, &with_identity(&key, &[])).exits(0);
    world.sealift(&["status"]).exits(0);
}

#[test]
fn a_check_that_cannot_try_the_wrapped_keys_says_so() {
    let world = World::ready();
    world.backup();
    harm(&world.path("repository/keys/1/1.age"), Harm::Flip(1000));
    let watcher = world.other_host("watcher");
    assert_eq!(watch(&world, &["--read-data"]).exits(0).json()["keys_untried"], true);
    watcher.sealift(&["check", "--read-data"]).exits(0).says("the wrapped keys were not tried");
    let key = world.text("operator.key");
    let tried = |output: Output| {
        assert_eq!(output.exits(13).json()["keys_untried"], false);
    };
    tried(watch(&world, &with_identity(&key, &[])));
    tried(check(&world, &["--read-data"]));
}

/// What no given identity opens cannot be compared, and still has the hash that is its name.
#[test]
fn with_an_identity_that_opens_one_epoch_the_manifests_of_the_other_are_read_too() {
    let world = World::ready();
    world.backup();
    let bob = person(&world, "bob");
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    world.backup();
    let (old, new) = (world.manifest(1), world.manifest(2));
    assert_ne!(world.record_json(1)["manifest"]["epoch"], world.record_json(2)["manifest"]["epoch"]);
    for key in ["operator.key", "bob.key"].map(|name| world.text(name)) {
        let all = watch(&world, &with_identity(&key, &["--read-data"])).exits(3);
        assert!(all.warnings().contains(&"epoch-not-opened".to_owned()), "{all:?}");
        for manifest in [&old, &new] {
            harm(manifest, Harm::Flip(500));
            let found = problem(&watch(&world, &with_identity(&key, &["--read-data"])).exits(13));
            assert_eq!((&found["object"], &found["kind"]), (&json!(object(&world, manifest)), &json!("hash")));
            harm(manifest, Harm::Flip(500));
        }
    }
}

/// Whoever may write to the bucket could put another program in its place, to be run on the worst day.
#[test]
fn an_exchanged_recovery_script_is_found() {
    let world = three_snapshots();
    let mut names = fs::read_dir(world.path("repository")).unwrap().map(|entry| entry.unwrap().path());
    let script = names.find(|path| path.extension().is_some_and(|end| end == "py")).unwrap();
    fs::write(&script, "import os").unwrap();
    watch(&world, &[]).exits(0);
    let found = problem(&watch(&world, &["--read-data"]).exits(13));
    assert_eq!((&found["object"], &found["kind"]), (&json!(object(&world, &script)), &json!("hash")));
}

#[test]
fn a_manifest_that_lies_about_a_file_is_found_with_an_identity() {
    let world = World::ready();
    world.backup();
    world.add_rows(20);
    world.backup();
    let plain = opened(&world, &fs::read(world.manifest(2)).unwrap());
    let end = plain.iter().position(|byte| *byte == b'\n').unwrap();
    let mut head: Value = serde_json::from_slice(&plain[..end]).unwrap();
    head["sources"][0]["digest"] = json!(sealift::crypto::sha256(b"something else"));
    commit_manifest(&world, 3, &head, &plain[end..]);
    watch(&world, &["--read-data"]).exits(0);
    let key = world.text("operator.key");
    let found = problem(&watch(&world, &with_identity(&key, &[])).exits(13));
    assert_eq!((&found["object"], &found["kind"]), (&json!(object(&world, &world.manifest(3))), &json!("content")));
    assert_eq!((&found["snapshots"], &found["files"]), (&json!([3]), &json!(["trinity.db"])));
    world.other_host("watcher").sealift(&["check", "-i", &key]).exits(13).says("sealed like that").says("keys rebase");
}

/// Not only the one that was asked for.
#[test]
fn a_check_of_one_snapshot_names_every_one_that_what_it_finds_hurts() {
    let world = three_snapshots();
    let (pack, key) = (world.packs(1)[0].clone(), world.path("repository/keys/1/1.age"));
    let operator = world.text("operator.key");
    harm(&pack, Harm::Flip(500));
    for arguments in [&["2", "--read-data"][..], &["2"], &["2", "-i", &operator]] {
        let found = problem(&watch(&world, arguments).exits(13));
        assert_eq!((&found["object"], &found["snapshots"]), (&json!(object(&world, &pack)), &json!([1, 2, 3])));
    }
    harm(&pack, Harm::Delete);
    assert_eq!(problem(&watch(&world, &["2"]).exits(13))["snapshots"], json!([1, 2, 3]));
    harm(&key, Harm::Flip(1000));
    let found = check(&world.other_host("another"), &["3", "-i", &operator]).exits(13).json();
    let hurts = |problem: &Value| (problem["object"].clone(), problem["snapshots"].clone());
    let found: Vec<_> = found["problems"].as_array().unwrap().iter().map(hurts).collect();
    assert!(found.contains(&(json!("keys/1/1.age"), json!([1, 2, 3]))), "{found:?}");
}

#[test]
fn what_nobody_needs_or_knows_is_listed_and_left_alone() {
    let world = three_snapshots();
    let garbage = world.path(&format!("repository/packs/{}.age", sealift::crypto::sha256(b"garbage")));
    fs::write(&garbage, "garbage").unwrap();
    fs::write(world.path("repository/notes.txt"), "mine").unwrap();
    let before = tree(&world.path("repository"));
    let json = watch(&world, &["--read-data"]).exits(0).json();
    assert_eq!(json["unreferenced"], json!([object(&world, &garbage)]));
    assert_eq!(json["unknown"], json!(["notes.txt"]));
    let one = watch(&world, &["1"]).exits(0).json();
    assert_eq!((&one["unreferenced"], &one["snapshots"]), (&json["unreferenced"], &json!(1)));
    assert!(tree(&world.path("repository")) == before);
}

#[test]
fn the_wrong_identity_is_12_and_no_share_outside_1_to_100_is_taken() {
    let (world, stranger) = (three_snapshots(), World::ready());
    watch(&world, &with_identity(&stranger.text("operator.key"), &[])).exits(12);
    for percent in ["0", "101", "-5", "many", ""] {
        watch(&world, &[&format!("--read-data={percent}")]).exits(2);
    }
    watch(&world, &["--read-data=5"]).exits(0);
    watch(&world, &["7"]).exits(1);
}

/// What the host's own check found bad, the next backup uploads anew, once, naming the snapshots that stay hurt.
#[test]
fn a_flipped_byte_that_the_host_finds_is_healed_by_its_next_backup() {
    for changed in [false, true] {
        for find in [|world: &World| world.packs(3)[0].clone(), |world: &World| world.manifest(3)] {
            let world = three_snapshots();
            let path = find(&world);
            harm(&path, Harm::Flip(500));
            check(&world, &["--read-data"]).exits(13);
            let hurt = needed_by(&world, &path);
            let held = problem(&check(&world, &[]).exits(13));
            assert_eq!((&held["kind"], &held["snapshots"]), (&json!("held"), &json!(hurt)));
            heals(&world, &path, changed);
            // Healed in the new snapshot; the old ones stay hurt, and a check says so as long as they are there.
            let held = problem(&check(&world, &[]).exits(13));
            assert_eq!((&held["object"], &held["snapshots"]), (&json!(object(&world, &path)), &json!(hurt)));
            check(&world, &["4"]).exits(0);
            world.sealift(&["check"]).exits(13).says("not read again").says("check --read-data");
        }
    }
}

#[track_caller]
fn heals(world: &World, path: &Path, changed: bool) {
    if changed {
        world.add_rows(3);
    }
    let (now, hurt) = (world.sources(), needed_by(world, path));
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert_eq!(output.json()["sequence"], 4);
    let hurt: Vec<String> = hurt.iter().map(u64::to_string).collect();
    output.says("objects-missing").says(&object(world, path)).says(&format!("snapshot {} cannot", hurt.join(", ")));
    world.assert_restores(4, &now);
    let key = world.text("operator.key");
    watch(world, &with_identity(&key, &["4"])).exits(0);
    world.sealift(&["backup", "--json"]).exits(0);
    world.assert_restores(5, &now);
}

#[test]
fn what_another_machine_finds_the_host_heals_once_it_believes_that_machine() {
    let world = three_snapshots();
    let path = world.packs(3)[0].clone();
    harm(&path, Harm::Flip(500));
    let found = watch(&world, &["--read-data"]).exits(13).json();
    let receipt = world.path("repository").join(found["receipt"].as_str().unwrap());
    assert!(fs::read_to_string(&receipt).unwrap().contains(&object(&world, &path)));
    // As long as it is not believed, it is noise; and so is a receipt of anybody else.
    world.sealift(&["backup", "--dry-run", "--json"]).exits(0);
    let stranger = Signer::generate().unwrap();
    believe(&world, &[&stranger.public().to_string()]);
    assert_eq!(world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json()["new_blocks"], 0);
    believe(&world, &[&stranger.public().to_string(), found["signer"].as_str().unwrap()]);
    heals(&world, &path, false);
    // Told once: the same finding makes no second receipt; that it is whole again makes one.
    let again = watch(&world, &["--read-data"]).exits(13).json();
    assert_eq!((&again["receipt"], &again["signer"]), (&Value::Null, &found["signer"]));
    harm(&path, Harm::Flip(500));
    let receipt = watch(&world, &["--read-data"]).exits(0).json()["receipt"].as_str().unwrap().to_owned();
    assert!(fs::read_to_string(world.path("repository").join(receipt)).unwrap().contains("\"passed\":true"));
}

/// A check that reads nothing takes nothing back, and one that reads again takes back what a drill found.
#[test]
fn what_a_drill_found_outlives_a_check_that_does_not_read_and_not_one_that_does() {
    let (world, key) = (three_snapshots(), "operator.key");
    let operator = world.other_host("operator");
    let (pack, manifest) = (world.packs(3)[0].clone(), world.manifest(1));
    let (good, first) = (fs::read(&pack).unwrap(), fs::read(&manifest).unwrap());
    harm(&pack, Harm::Flip(500));
    let drilled = operator.sealift(&["drill", "3", "-i", &world.text(key), "--json"]).exits(13).json();
    let bad = |found: &Value| {
        let text = fs::read_to_string(world.path("repository").join(found["receipt"].as_str().unwrap())).unwrap();
        let receipt: Receipt = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        receipt.bad.into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(bad(&drilled), BTreeSet::from([object(&world, &pack)]));
    harm(&manifest, Harm::Delete);
    let found = check(&operator, &[]).exits(13).json();
    assert_eq!(bad(&found), BTreeSet::from([object(&world, &pack), object(&world, &manifest)]));
    believe(&world, &[drilled["signer"].as_str().unwrap()]);
    assert_ne!(world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json()["new_blocks"], 0, "it knows");
    // Both repaired from a copy.
    fs::write(&pack, &good).unwrap();
    fs::write(&manifest, &first).unwrap();
    assert_eq!(bad(&check(&operator, &["--read-data"]).exits(0).json()), BTreeSet::new());
    // A drill that fails now is the newest word; a check that reads it whole takes that back, too.
    harm(&pack, Harm::Flip(500));
    operator.sealift(&["drill", "3", "-i", &world.text(key), "--json"]).exits(13);
    fs::write(&pack, &good).unwrap();
    let unread = check(&operator, &[]).exits(13);
    assert_eq!(
        (&problem(&unread)["kind"], &unread.json()["receipt"]),
        (&json!("held"), &Value::Null),
        "nothing was read"
    );
    assert_eq!(bad(&check(&operator, &["--read-data"]).exits(0).json()), BTreeSet::new());
    assert_eq!(world.sealift(&["backup", "--json"]).exits(0).json()["sequence"], 4);
}

#[test]
fn a_drill_that_failed_on_the_host_is_taken_back_there() {
    let world = three_snapshots();
    let pack = world.packs(3)[0].clone();
    let good = fs::read(&pack).unwrap();
    harm(&pack, Harm::Flip(500));
    let key = world.text("operator.key");
    let drilled = world.sealift(&["drill", "--here", "-i", &key, "--json"]).exits(13).json();
    believe(&world, &[drilled["signer"].as_str().unwrap()]);
    fs::write(&pack, &good).unwrap();
    check(&world, &["--read-data"]).exits(0);
    world.backup();
}

#[test]
fn a_clock_that_ran_ahead_does_not_silence_a_checker() {
    let world = three_snapshots();
    let path = world.packs(3)[0].clone();
    harm(&path, Harm::Flip(500));
    let found = watch(&world, &["--read-data"]).exits(13).json();
    let name = |found: &Value| world.path("repository").join(found["receipt"].as_str().unwrap());
    let read = |path: &Path| -> Receipt {
        serde_json::from_str(fs::read_to_string(path).unwrap().lines().next().unwrap()).unwrap()
    };
    harm(&path, Harm::Flip(500));
    let mut wrong = read(&name(&found));
    (wrong.passed, wrong.bad, wrong.time) = (true, Vec::new(), wrong.time + jiff::SignedDuration::from_hours(9000));
    let driller = fs::read_to_string(world.other_host("watcher").state().join("driller")).unwrap();
    let signed = wrong.sign(&Signer::from_openssh(&driller).unwrap()).unwrap();
    fs::write(world.path("repository/receipts/0000000003-20990101T000000Z.receipt"), signed.bytes()).unwrap();
    harm(&path, Harm::Flip(500));
    let found = watch(&world, &["--read-data"]).exits(13).json();
    assert!(read(&name(&found)).time > wrong.time);
    // Whoever may write to the bucket puts the other one there again: that makes it no newer.
    fs::write(world.path("repository/receipts/0000000003-20990102T000000Z.receipt"), signed.bytes()).unwrap();
    believe(&world, &[found["signer"].as_str().unwrap()]);
    heals(&world, &path, false);
}

/// Replaces the configured `drill_signers`.
pub fn believe(world: &World, signers: &[&str]) {
    let text = fs::read_to_string(world.config()).unwrap();
    let kept: String =
        text.lines().filter(|line| !line.starts_with("drill_signers")).map(|line| format!("{line}\n")).collect();
    fs::write(world.config(), format!("drill_signers = {signers:?}\n{kept}")).unwrap();
}

/// A receipt names objects, and nothing of what they hold.
#[test]
fn a_receipt_tells_the_public_nothing_but_names_of_objects() {
    let world = three_snapshots();
    harm(&world.packs(3)[0], Harm::Flip(500));
    let key = world.text("operator.key");
    let found = watch(&world, &with_identity(&key, &["--read-data"])).exits(13).json();
    assert_eq!(problem_files(&found), ["trinity.db"]);
    let text = fs::read_to_string(world.path("repository").join(found["receipt"].as_str().unwrap())).unwrap();
    let receipt: Receipt = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((receipt.kind, receipt.passed, receipt.sequence), (ReceiptKind::Check, false, 3));
    assert_eq!(receipt.bad, [object(&world, &world.packs(3)[0])]);
    assert!(!text.contains("trinity") && !text.contains(".env"), "{text}");
}

/// A newer program may say more; that is no damage.
#[test]
fn a_receipt_of_a_newer_format_is_no_problem() {
    let world = three_snapshots();
    let key = world.text("operator.key");
    let drilled = world.other_host("operator").sealift(&["drill", "-i", &key, "--json"]).exits(0).json();
    let path = world.path("repository").join(drilled["receipt"].as_str().unwrap());
    let mut receipt: Receipt =
        serde_json::from_str(fs::read_to_string(&path).unwrap().lines().next().unwrap()).unwrap();
    receipt.format += 1;
    fs::write(path, receipt.sign(&Signer::generate().unwrap()).unwrap().bytes()).unwrap();
    watch(&world, &["--read-data"]).exits(0);
    world.sealift(&["snapshots"]).exits(0);
}

fn problem_files(found: &Value) -> Vec<&str> {
    found["problems"][0]["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_a_missing_and_an_exchanged_pack_are_found_and_healed() {
    let Some(server) = Minio::start().await else { return };
    let world = World::in_bucket(&server);
    world.backup();
    let store = sealift::store::open(&server.url("trinity"), &server.settings()).await.unwrap();
    let packs = store.list("packs/").await.unwrap().objects;
    check(&world, &["--read-data"]).exits(0);
    let good = store.get(&packs[0].key, packs[0].bytes).await.unwrap();
    store.delete(&packs[0].key).await.unwrap();
    assert_eq!(problem(&watch(&world, &[]).exits(13))["kind"], "missing");
    let junk = sealift::store::Stored::public_text("x".repeat(good.len()));
    store.put(&packs[0].key, junk).await.unwrap();
    assert_eq!(problem(&watch(&world, &[]).exits(13))["kind"], "held");
    let found = watch(&world, &["--read-data"]).exits(13);
    assert_eq!(problem(&found)["kind"], "hash");
    believe(&world, &[found.json()["signer"].as_str().unwrap()]);
    let now = world.sources();
    world.sealift(&["backup", "--json"]).exits(3).says("objects-missing");
    world.assert_restores(2, &now);
}
