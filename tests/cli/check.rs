//! `check` finds what is damaged and names the snapshots that need it; the host's next backup uploads it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sealift::crypto::{Signed, Signer};
use sealift::format::{Receipt, ReceiptKind};
use serde_json::{Value, json};

use crate::damage::{Harm, commit_manifest, harm, opened};
use crate::keys::person;
use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::s3s::S3s;
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

fn without_receipts(world: &World) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut tree = tree(&world.path("repository"));
    tree.retain(|path, _| !path.starts_with(world.path("repository/receipts")));
    tree
}

#[test]
fn a_sound_repository_has_no_problem_with_and_without_an_identity() {
    let world = three_snapshots();
    let before = tree(&world.path("repository"));
    let json = watch(&world, &[]).exits(0).json();
    assert_eq!((&json["ok"], &json["problems"], &json["read_objects"]), (&json!(true), &json!([]), &json!(0)));
    assert_eq!((&json["snapshots"], &json["version"], &json["replace"]), (&json!(3), &json!(1), &json!([])));
    assert!(tree(&world.path("repository")) == before, "a check that reads nothing writes nothing");
    let objects = sealed_objects(&world).len();
    let json = watch(&world, &["--read-data"]).exits(0).json();
    assert_eq!((&json["read_objects"], &json["objects"]), (&json!(objects + 1), &json!(objects)), "and the script");
    assert_eq!((&json["unknown"], &json["unreferenced"]), (&json!([]), &json!([])));
    let key = world.text("operator.key");
    let json = watch(&world, &with_identity(&key, &[])).exits(0).json();
    assert_eq!(json["files"], 9, "three sources in three snapshots");
    assert_eq!(watch(&world, &with_identity(&key, &["2"])).exits(0).json()["files"], 3);
    check(&world, &["--read-data"]).exits(0);
    assert!(without_receipts(&world) == before, "a check writes receipts and nothing else");
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn with_an_identity_each_pack_is_fetched_once() {
    let world = three_snapshots();
    let key = world.text("operator.key");
    let stored: u64 = sealed_objects(&world).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(watch(&world, &with_identity(&key, &[])).exits(0).json()["read_bytes"], stored);
}

#[test]
fn a_check_that_cannot_try_the_wrapped_keys_says_so() {
    let world = World::ready();
    world.backup();
    harm(&world.path("repository/keys/1/1.age"), Harm::Flip(1000));
    assert_eq!(watch(&world, &["--read-data"]).exits(0).json()["keys_untried"], true);
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

/// Who may write to the bucket could put another program in its place, to be run on the worst day.
#[test]
fn a_replaced_recovery_script_is_found() {
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
    assert_eq!(found["restorable"], false);
}

/// Not only the one that was asked for.
#[test]
fn a_check_of_one_snapshot_names_all_that_need_what_it_finds() {
    let world = three_snapshots();
    let (pack, key) = (world.packs(1)[0].clone(), world.path("repository/keys/1/1.age"));
    let operator = world.text("operator.key");
    harm(&pack, Harm::Flip(500));
    for arguments in [&["2", "--read-data"][..], &["2", "-i", &operator]] {
        let found = problem(&watch(&world, arguments).exits(13));
        assert_eq!((&found["object"], &found["snapshots"]), (&json!(object(&world, &pack)), &json!([1, 2, 3])));
    }
    harm(&pack, Harm::Delete);
    assert_eq!(problem(&watch(&world, &["2"]).exits(13))["snapshots"], json!([1, 2, 3]));
    harm(&key, Harm::Flip(1000));
    let found = check(&world.other_host("another"), &["3", "-i", &operator]).exits(13).json();
    let needs = |problem: &Value| (problem["object"].clone(), problem["snapshots"].clone());
    let found: Vec<_> = found["problems"].as_array().unwrap().iter().map(needs).collect();
    assert!(found.contains(&(json!("keys/1/1.age"), json!([1, 2, 3]))), "{found:?}");
}

#[test]
fn what_no_record_needs_is_listed_and_left_alone() {
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
    assert!(without_receipts(&world) == before);
}

#[test]
fn the_wrong_identity_is_12_and_no_share_outside_1_to_100_is_taken() {
    let world = three_snapshots();
    person(&world, "other");
    watch(&world, &with_identity(&world.text("other.key"), &[])).exits(12);
    for percent in ["0", "101", "-5", "many", ""] {
        watch(&world, &[&format!("--read-data={percent}")]).exits(2);
    }
    watch(&world, &["--read-data=5"]).exits(0);
    watch(&world, &["7"]).exits(1);
}

/// A receipt names objects, and nothing of what they hold.
#[test]
fn a_receipt_shows_nothing_but_names_of_objects() {
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

/// What the host's own check found bad, its next backup uploads again. Older snapshots stay incomplete.
#[test]
fn a_flipped_byte_that_the_host_finds_is_healed_by_its_next_backup() {
    for changed in [false, true] {
        for find in [|world: &World| world.packs(3)[0].clone(), |world: &World| world.manifest(3)] {
            let world = three_snapshots();
            let path = find(&world);
            harm(&path, Harm::Flip(500));
            check(&world, &[]).exits(0);
            assert_eq!(bad_objects(&world), None, "a check that reads nothing finds nothing");
            let found = check(&world, &["--read-data"]).exits(13);
            assert_eq!(found.json()["replace"], json!([]), "the host needs no list");
            assert_eq!(bad_objects(&world), Some(vec![object(&world, &path)]));
            heals(&world, &path, changed, &[]);
            // Older snapshots need it still, so the host goes on treating it as missing.
            let again = problem(&check(&world, &["--read-data"]).exits(13));
            assert_eq!(again["snapshots"], json!(needed_by(&world, &path)));
            assert_eq!(bad_objects(&world), Some(vec![object(&world, &path)]));
            check(&world, &["4", "--read-data"]).exits(0);
        }
    }
}

fn would_upload(world: &World) -> u64 {
    world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json()["new_blocks"].as_u64().unwrap()
}

/// What the host remembers of its checks; `None` where it never found anything.
fn bad_objects(world: &World) -> Option<Vec<String>> {
    let text = fs::read_to_string(world.state_of_repository().join("bad-objects.json")).ok()?;
    let json: Value = serde_json::from_str(&text).unwrap();
    Some(json["bad"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect())
}

/// Once it is whole again, or no snapshot needs it, the host forgets it.
#[test]
fn an_object_leaves_what_the_host_remembers_when_a_check_reads_it_whole_or_no_record_needs_it() {
    let world = three_snapshots();
    let (pack, manifest) = (world.packs(3)[0].clone(), world.manifest(1));
    harm(&pack, Harm::Flip(500));
    harm(&manifest, Harm::Flip(500));
    check(&world, &["--read-data"]).exits(13);
    let mut both = vec![object(&world, &manifest), object(&world, &pack)];
    both.sort();
    assert_eq!(bad_objects(&world), Some(both.clone()));
    harm(&pack, Harm::Flip(500));
    check(&world, &[]).exits(0);
    assert_eq!(bad_objects(&world), Some(both), "nothing was read");
    check(&world, &["--read-data"]).exits(13);
    assert_eq!(bad_objects(&world), Some(vec![object(&world, &manifest)]));
    fs::remove_file(world.record(1)).unwrap();
    check(&world, &["3", "--read-data"]);
    assert_eq!(bad_objects(&world), Some(Vec::new()));
}

#[track_caller]
fn heals(world: &World, path: &Path, changed: bool, flags: &[&str]) {
    if changed {
        world.add_rows(3);
    }
    let (now, incomplete) = (world.sources(), needed_by(world, path));
    let output = world.sealift(&[&["backup", "--json"], flags].concat()).exits(3);
    assert_eq!(output.json()["sequence"], 4);
    assert!(output.warnings().contains(&"objects-missing".to_owned()), "{output:?}");
    output.says(&object(world, path));
    assert!(!needed_by(world, path).is_empty() && incomplete == needed_by(world, path));
    assert!(!world.record_json(4).to_string().contains(path.file_stem().unwrap().to_str().unwrap()));
    world.assert_restores(4, &now);
    let key = world.text("operator.key");
    watch(world, &with_identity(&key, &["4"])).exits(0);
    world.sealift(&["backup", "--json"]).exits(0);
    world.assert_restores(5, &now);
}

/// The other machine prints the names, and a person gives them to the host. Its receipt changes nothing.
#[test]
fn what_another_machine_finds_the_host_replaces_when_a_person_names_it() {
    for find in [|world: &World| world.packs(3)[0].clone(), |world: &World| world.manifest(3)] {
        let world = three_snapshots();
        let path = find(&world);
        harm(&path, Harm::Flip(500));
        let found = watch(&world, &["--read-data"]).exits(13).json();
        assert_eq!(found["replace"], json!([object(&world, &path)]));
        let state = world.other_host("watcher").state_of_repository();
        assert!(!state.join("bad-objects.json").exists(), "only the host remembers");
        let text = world.other_host("watcher").sealift(&["check", "--read-data"]).exits(13);
        text.says(&format!("sealift backup --replace {}", object(&world, &path)));
        assert_eq!(would_upload(&world), 0, "a receipt is no command");
        assert_eq!(bad_objects(&world), None);
        heals(&world, &path, false, &["--replace", &object(&world, &path)]);
    }
}

#[test]
fn several_objects_are_replaced_at_once_and_a_missing_one_may_be_named() {
    let world = three_snapshots();
    let (pack, manifest) = (world.packs(3)[0].clone(), world.manifest(3));
    harm(&pack, Harm::Flip(500));
    harm(&manifest, Harm::Delete);
    let found = watch(&world, &["--read-data"]).exits(13).json();
    let mut names: Vec<String> = serde_json::from_value(found["replace"].clone()).unwrap();
    names.sort();
    assert_eq!(names, [object(&world, &manifest), object(&world, &pack)]);
    let now = world.sources();
    world.sealift(&["backup", "--json", "--replace", &names[0], &names[1]]).exits(3);
    world.assert_restores(4, &now);
    watch(&world, &["4", "--read-data"]).exits(0);
}

#[test]
fn a_name_that_is_no_pack_or_manifest_of_this_repository_is_not_replaced() {
    let world = three_snapshots();
    let foreign = format!("packs/{}.age", sealift::crypto::sha256(b"foreign"));
    for name in ["keys/1/1.age", "snapshots/0000000001.record", "repository.json", "x", "", &foreign] {
        world.sealift(&["backup", "--json", "--replace", name]).exits(2);
        world.sealift(&["backup", "--dry-run", "--json", "--replace", name]).exits(2);
    }
    assert!(!world.record(4).exists());
}

#[test]
fn a_damaged_key_file_is_not_replaced_by_a_backup() {
    let world = three_snapshots();
    harm(&world.path("repository/keys/1/1.age"), Harm::Flip(0));
    let found = watch(&world, &["--read-data"]).exits(13).json();
    assert_eq!(found["replace"], json!([]));
    world.other_host("watcher").sealift(&["check", "--read-data"]).exits(13).says("keys restore");
}

/// A receipt is stored by a check that read something, on the host as well, and never signed by the host's own key.
#[test]
fn a_check_that_reads_data_stores_a_receipt_of_what_it_found() {
    let world = three_snapshots();
    let (pack, key) = (world.packs(3)[0].clone(), world.text("operator.key"));
    let receipt = |found: &Value| -> Receipt {
        let path = world.path("repository").join(found["receipt"].as_str().expect("a receipt"));
        let signed = Signed::verify(fs::read(path).unwrap().into()).unwrap();
        assert_eq!(signed.signer().fingerprint(), found["signer"].as_str().unwrap());
        assert_ne!(signed.signer(), &world.signer().public());
        serde_json::from_slice(signed.line()).unwrap()
    };
    let unread = watch(&world, &[]).exits(0).json();
    assert_eq!((&unread["receipt"], &unread["signer"]), (&Value::Null, &Value::Null));
    for arguments in [vec!["--read-data"], with_identity(&key, &[]), vec!["--read-data=5"]] {
        for machine in [&world, &world.other_host("watcher")] {
            let receipt = receipt(&check(machine, &arguments).exits(0).json());
            assert_eq!((receipt.kind, receipt.passed, receipt.sequence), (ReceiptKind::Check, true, 3));
            assert_eq!(receipt.record, sealift::crypto::sha256(&fs::read(world.record(3)).unwrap()));
        }
    }
    assert_eq!(receipt(&watch(&world, &["2", "--read-data"]).exits(0).json()).sequence, 2);
    harm(&pack, Harm::Flip(500));
    for machine in [&world, &world.other_host("watcher")] {
        let receipt = receipt(&check(machine, &["--read-data"]).exits(13).json());
        assert_eq!((receipt.passed, receipt.bad), (false, vec![object(&world, &pack)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_only_read_make_a_note_and_no_receipt() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    server.allow_reading_only();
    world.other_host("operator").sealift(&["check"]).exits(0);
    let key = world.text("operator.key");
    for command in [&["check", "--read-data", "-i", &key][..], &["drill", "-i", &key]] {
        let output = world.other_host("operator").sealift(&[command, &["--json"]].concat()).exits(0);
        assert_eq!(output.warnings(), ["receipt-not-stored"]);
        assert_eq!(output.json()["receipt"], Value::Null);
    }
    assert!(!server.bucket_folder().join("trinity/receipts").exists());
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
    watch(&world, &[]).exits(0);
    let found = watch(&world, &["--read-data"]).exits(13);
    assert_eq!(problem(&found)["kind"], "hash");
    let (now, name) = (world.sources(), packs[0].key.to_string());
    assert_eq!(found.json()["replace"], json!([name]));
    world.sealift(&["backup", "--json", "--replace", &name]).exits(3).says("objects-missing");
    world.assert_restores(2, &now);
}
