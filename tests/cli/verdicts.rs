//! Receipts are evidence: `status` shows the last drill, and neither backups nor retention go by it. What an identity finds
//! wrong under a right hash, the host uploads again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sealift::crypto::{Signer, sha256};
use sealift::format::{Receipt, ReceiptKind};
use serde_json::{Value, json};

use crate::damage::{Harm, harm};
use crate::support::past::{days_ago, set_time};
use crate::support::world::{Output, World};

/// The second of two snapshots is wrong though every hash is right: the host mistook two blocks of the first one's pack.
fn wrongly_encrypted() -> World {
    let world = World::ready();
    world.backup();
    mistake_blocks(&world.state_of_repository().join("catalog"));
    world.add_rows(20);
    world.backup();
    world.restore("2", "wrong").exits(13).says("digest");
    world
}

/// Exchanges two fingerprints in the first entry of a catalog: a head of 52 bytes, 16 for each block, 8 to check them.
fn mistake_blocks(catalog: &Path) {
    let mut log = fs::read(catalog).unwrap();
    let entry = b"sealift catalog 1\n".len();
    let count = u32::from_le_bytes(log[entry + 48..entry + 52].try_into().unwrap()) as usize;
    let fingerprints = entry + 52;
    for byte in 0..16 {
        log.swap(fingerprints + 5 * 16 + byte, fingerprints + 6 * 16 + byte);
    }
    let end = fingerprints + count * 16;
    let check = sha256(&log[entry..end]);
    log[end..end + 8].copy_from_slice(&check.as_bytes()[..8]);
    fs::write(catalog, log).unwrap();
}

fn operator(world: &World, arguments: &[&str]) -> Output {
    world.other_host("operator").sealift(&[arguments, &["-i", &world.text("operator.key"), "--json"]].concat())
}

fn status(world: &World) -> Output {
    world.sealift(&["status", "--json"])
}

fn sequence(point: &Value) -> Option<u64> {
    point["sequence"].as_u64()
}

fn receipt(world: &World, report: &Value) -> Receipt {
    let path = world.path("repository").join(report["receipt"].as_str().expect("a receipt"));
    serde_json::from_str(fs::read_to_string(path).unwrap().lines().next().unwrap()).unwrap()
}

fn names<'a>(world: &World, paths: impl IntoIterator<Item = &'a std::path::PathBuf>) -> BTreeSet<String> {
    let name = |path: &std::path::PathBuf| path.strip_prefix(world.path("repository")).unwrap().display().to_string();
    paths.into_iter().map(name).collect()
}

fn set(names: &[String]) -> BTreeSet<String> {
    names.iter().cloned().collect()
}

#[test]
fn a_snapshot_whose_file_has_another_digest_fails_its_drill_and_the_receipt_names_what_may_be_wrong() {
    let world = wrongly_encrypted();
    let drilled = operator(&world, &["drill"]).exits(13).json();
    let receipt = receipt(&world, &drilled);
    let blamed = names(&world, world.packs(2).iter().chain([&world.manifest(2)]));
    assert_eq!((receipt.passed, set(&receipt.bad)), (false, blamed));
}

/// What once said which receipts to believe is a key like any other that is not known.
#[test]
fn drill_signers_is_an_unknown_key() {
    let world = World::ready();
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("drill_signers = []\n{text}")).unwrap();
    world.sealift(&["status", "--json"]).exits(2).says("drill_signers");
}

#[test]
fn a_drill_shows_in_status_and_changes_neither_what_is_good_nor_what_retention_keeps() {
    let world = World::ready();
    world.backup();
    world.add_rows(20);
    world.backup();
    operator(&world, &["drill", "1"]).exits(0);
    let failed = operator(&world, &["drill", "--command", "exit 7"]).exits(13).json();
    assert!(receipt(&world, &failed).bad.is_empty());
    let json = status(&world).exits(0).json();
    assert_eq!((sequence(&json["newest_good"]), sequence(&json["newest_failed_drill"])), (Some(2), Some(2)));
    assert_eq!(sequence(&json["newest_drilled"]), Some(1));
    // One of another snapshot says nothing about it.
    operator(&world, &["drill", "1"]).exits(0);
    assert_eq!(sequence(&status(&world).exits(0).json()["newest_failed_drill"]), Some(2));
    operator(&world, &["drill", "2"]).exits(0);
    let json = status(&world).exits(0).json();
    assert_eq!((sequence(&json["newest_drilled"]), &json["newest_failed_drill"]), (Some(2), &Value::Null));
    operator(&world, &["drill", "--command", "exit 7"]).exits(13);
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(0);
    assert!(!world.record(1).exists() && world.record(2).exists());
}

#[test]
fn a_drill_that_finds_the_only_key_file_damaged_or_gone_fails_with_a_receipt() {
    for (way, named) in [(Harm::Flip(1000), vec!["keys/1/1.age".to_owned()]), (Harm::Delete, Vec::new())] {
        let world = World::ready();
        world.backup();
        let key = world.path("repository/keys/1/1.age");
        let good = fs::read(&key).unwrap();
        harm(&key, way);
        let failed = operator(&world, &["drill"]).exits(13).json();
        let receipt = receipt(&world, &failed);
        assert_eq!((receipt.passed, receipt.bad), (false, named));
        // A key file of the epoch must be there for a snapshot to be good; damage inside shows to an identity only.
        let json = world.other_host("watcher").sealift(&["status", "--json"]).json();
        assert_eq!(json["snapshots"][0]["restorable"], json!(way != Harm::Delete));
        assert_eq!(sequence(&json["newest_good"]), (way != Harm::Delete).then_some(1));
        assert_eq!((&json["newest_drilled"], sequence(&json["newest_failed_drill"])), (&Value::Null, Some(1)));
        fs::write(&key, &good).unwrap();
        operator(&world, &["drill"]).exits(0);
        assert_eq!(sequence(&status(&world).exits(0).json()["newest_drilled"]), Some(1));
    }
}

/// The right hash says nothing about it: only an identity that compares everything which is made of it does.
#[test]
fn the_host_remembers_wrong_contents_until_an_identity_compared_all_that_needs_them() {
    let world = wrongly_encrypted();
    let key = world.text("operator.key");
    let check = |arguments: &[&str]| world.sealift(&[&["check", "--json"], arguments].concat());
    let found = check(&["-i", &key]).exits(13).json();
    assert_eq!((&found["problems"][0]["kind"], &found["problems"][1]), (&json!("content"), &Value::Null));
    let wrong = names(&world, world.packs(2).iter().chain([&world.manifest(2)]));
    assert_eq!(remembered(&world), wrong);
    for arguments in [&["--read-data"][..], &["2", "--read-data"], &["1", "-i", &key]] {
        check(arguments).exits(0);
        assert_eq!(remembered(&world), wrong, "{arguments:?}");
    }
    // With the snapshot it is gone.
    world.sealift(&["backup"]).exits(3);
    fs::remove_file(world.record(2)).unwrap();
    check(&["-i", &key]);
    assert_eq!(remembered(&world), BTreeSet::new());
}

/// All that `bad-objects.json` of the host names.
fn remembered(world: &World) -> BTreeSet<String> {
    let text = fs::read(world.state_of_repository().join("bad-objects.json")).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let names = ["bad", "contents"].into_iter().flat_map(|member| json[member].as_array().unwrap().clone());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_next_backup_takes_nothing_from_a_pack_in_which_a_block_is_wrong() {
    for finder in ["host", "operator"] {
        let world = wrongly_encrypted();
        let key = world.text("operator.key");
        let found = world.other_host(finder).sealift(&["check", "-i", &key, "--json"]).exits(13).json();
        let replace: Vec<String> = serde_json::from_value(found["replace"].clone()).unwrap();
        assert_eq!(replace.is_empty(), finder == "host");
        let flags = replace.iter().flat_map(|name| ["--replace", name]);
        let now = world.sources();
        let backup: Vec<&str> = ["backup", "--json"].into_iter().chain(flags).collect();
        let output = world.sealift(&backup).exits(3);
        assert!(output.warnings().contains(&"objects-missing".to_owned()), "{output:?}");
        world.assert_restores(3, &now);
        operator(&world, &["check", "3"]).exits(0);
        let wrong: BTreeSet<_> = world.packs(2).into_iter().collect();
        assert!(world.packs(3).iter().all(|pack| !wrong.contains(pack)));
        assert_eq!(world.backup(), 4);
        world.assert_restores(4, &now);
    }
}

/// All but `confirm` receipts of an epoch that a record needs, whoever signed them.
#[test]
fn receipts_about_snapshots_that_are_gone_go_after_the_grace_period() {
    let world = World::ready();
    let drilled = |name: &str| {
        let key = world.text("operator.key");
        let drilled = world.other_host(name).sealift(&["drill", "-i", &key, "--json"]).exits(0).json();
        let path = world.path("repository").join(drilled["receipt"].as_str().unwrap());
        set_time(&path, days_ago(30));
        path
    };
    let again = |from: &Path, name: &str, change: &dyn Fn(&mut Receipt), days: i64| {
        let text = fs::read_to_string(from).unwrap();
        let mut receipt: Receipt = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        change(&mut receipt);
        let path = world.path("repository/receipts").join(name);
        fs::write(&path, receipt.sign(&Signer::generate().unwrap()).unwrap().bytes()).unwrap();
        set_time(&path, days_ago(days));
        path
    };
    world.backup();
    let gone = ["one", "another"].map(drilled);
    let confirms =
        |epoch: u32| move |receipt: &mut Receipt| (receipt.kind, receipt.epochs) = (ReceiptKind::Confirm, vec![epoch]);
    let confirm = again(&gone[0], "0000000001-20260101T000000Z.receipt", &confirms(1), 30);
    let of_no_epoch = again(&gone[0], "0000000001-20260101T000001Z.receipt", &confirms(7), 30);
    let young = again(&gone[0], "0000000001-20260101T000002Z.receipt", &|_| {}, 6);
    world.add_rows(3);
    world.backup();
    let kept = drilled("one");
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(0);
    assert!(!world.record(1).exists());
    assert_eq!(gone.map(|path| path.exists()), [false, false]);
    assert_eq!([confirm, kept, young].map(|path| path.exists()), [true, true, true]);
    assert!(!of_no_epoch.exists());
}
