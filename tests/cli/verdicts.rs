//! What checks and drills found counts: in `status`, in retention and for the next backup, until what can refute it does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sealift::crypto::sha256;
use sealift::format::Receipt;
use serde_json::{Value, json};

use crate::check::believe;
use crate::damage::{Harm, harm};
use crate::support::past::{days_ago, set_time};
use crate::support::world::{Output, World};

/// The second of two snapshots is wrong though every hash is right: the host mistook two blocks of the first one's pack.
fn wrongly_sealed() -> World {
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

/// Retention of the pruner that is told to keep a single snapshot; those that are left.
fn left_by_retention(world: &World) -> Vec<u64> {
    world.sealift(&["retain", "--keep-last", "1", "--apply"]);
    (1..=9).filter(|sequence| world.record(*sequence).exists()).collect()
}

#[test]
fn a_snapshot_whose_file_has_another_digest_fails_its_drill_and_is_not_good_any_more() {
    let world = wrongly_sealed();
    let drilled = operator(&world, &["drill"]).exits(13).json();
    let receipt = receipt(&world, &drilled);
    let blamed = names(&world, world.packs(2).iter().chain([&world.manifest(2)]));
    assert_eq!((receipt.passed, set(&receipt.bad), set(&receipt.contents)), (false, blamed.clone(), blamed));
    status(&world).exits(0);
    believe(&world, &[drilled["signer"].as_str().unwrap()]);
    // The pack of the first one is in doubt, too, until somebody compares that one.
    let json = status(&world).exits(14).json();
    assert_eq!((sequence(&json["newest_failed_drill"]), &json["newest_drilled"]), (Some(2), &Value::Null));
    world.sealift(&["status"]).exits(14).says("drill FAILED    snapshot 2");
    assert_eq!(left_by_retention(&world), [1, 2]);
    // Whoever compares all of it finds the first one sound.
    operator(&world, &["check"]).exits(13);
    assert_eq!(sequence(&status(&world).exits(3).json()["newest_good"]), Some(1));
    assert_eq!(left_by_retention(&world), [1, 2]);
}

#[test]
fn whatever_made_the_last_drill_fail_its_snapshot_is_not_good_until_another_drill_of_it_passes() {
    let world = World::ready();
    world.backup();
    world.add_rows(20);
    world.backup();
    let failed = operator(&world, &["drill", "--command", "exit 7"]).exits(13).json();
    assert!(receipt(&world, &failed).bad.is_empty());
    believe(&world, &[failed["signer"].as_str().unwrap()]);
    let json = status(&world).exits(3).json();
    assert_eq!((sequence(&json["newest_good"]), sequence(&json["newest_failed_drill"])), (Some(1), Some(2)));
    assert_eq!(left_by_retention(&world), [1, 2]);
    // One of another snapshot says nothing about it.
    operator(&world, &["drill", "1"]).exits(0);
    assert_eq!(sequence(&status(&world).exits(3).json()["newest_failed_drill"]), Some(2));
    operator(&world, &["drill", "2"]).exits(0);
    let json = status(&world).exits(0).json();
    assert_eq!((sequence(&json["newest_drilled"]), &json["newest_failed_drill"]), (Some(2), &Value::Null));
    assert_eq!(left_by_retention(&world), [2]);
}

#[test]
fn a_drill_that_finds_the_only_wrapped_key_damaged_or_gone_fails_with_a_receipt() {
    for (way, named) in [(Harm::Flip(1000), vec!["keys/1/1.age".to_owned()]), (Harm::Delete, Vec::new())] {
        let world = World::ready();
        world.backup();
        let passed = operator(&world, &["drill"]).exits(0).json();
        believe(&world, &[passed["signer"].as_str().unwrap()]);
        assert_eq!(sequence(&status(&world).exits(0).json()["newest_drilled"]), Some(1));
        let key = world.path("repository/keys/1/1.age");
        let good = fs::read(&key).unwrap();
        harm(&key, way);
        let failed = operator(&world, &["drill"]).exits(13).json();
        let receipt = receipt(&world, &failed);
        assert_eq!((receipt.passed, receipt.bad), (false, named));
        let json = status(&world).exits(14).json();
        assert_eq!((&json["newest_drilled"], sequence(&json["newest_failed_drill"])), (&Value::Null, Some(1)));
        fs::write(&key, &good).unwrap();
        // A hash does not take back what only an identity can tell.
        assert_eq!(world.other_host("operator").sealift(&["check", "--read-data"]).code == 13, way != Harm::Delete);
        status(&world).exits(14);
        operator(&world, &["check"]).exits(0);
        operator(&world, &["drill"]).exits(0);
        assert_eq!(sequence(&status(&world).exits(0).json()["newest_drilled"]), Some(1));
    }
}

#[test]
fn a_right_hash_takes_nothing_back_of_what_an_identity_found() {
    let world = wrongly_sealed();
    for machine in [world.other_host("operator"), world.other_host("host")] {
        let key = world.text("operator.key");
        let check = |arguments: &[&str]| machine.sealift(&[&["check", "--json"], arguments].concat());
        let found = check(&["-i", &key]).exits(13).json();
        assert_eq!((&found["problems"][0]["kind"], &found["problems"][1]), (&json!("content"), &Value::Null));
        for arguments in [&["--read-data"][..], &["2", "--read-data"], &["1", "-i", &key]] {
            let again = check(arguments).json();
            assert_eq!(again["receipt"], Value::Null, "{arguments:?}: nothing new");
        }
        assert_eq!(check(&["--read-data"]).exits(13).json()["problems"][0]["kind"], "held");
        check(&["1", "-i", &key]).exits(0);
    }
    // With the snapshot it is gone.
    world.sealift(&["retain", "--remove", "2", "--apply"]).exits(15);
    world.sealift(&["backup"]).exits(3);
    world.sealift(&["retain", "--remove", "2", "--apply"]).exits(0);
    world.sealift(&["check", "--read-data"]).exits(0);
}

/// Its pack stays in doubt until all that is made of it was compared.
#[test]
fn what_a_drill_found_in_a_pack_is_taken_back_by_whoever_compares_all_that_needs_it() {
    let world = wrongly_sealed();
    operator(&world, &["drill", "2"]).exits(13);
    let held = |output: Output| output.exits(13).json()["problems"][0]["kind"].clone();
    assert_eq!(held(world.other_host("operator").sealift(&["check", "--read-data", "--json"])), "held");
    assert_eq!(held(operator(&world, &["check", "1"])), "held", "snapshot 2 may use what 1 does not");
    let found = operator(&world, &["check"]).exits(13).json();
    let receipt = receipt(&world, &found);
    let manifest = names(&world, [&world.manifest(2)]);
    assert_eq!(set(&receipt.bad), manifest);
    assert_eq!(set(&receipt.contents), &manifest | &names(&world, &world.packs(2)));
    operator(&world, &["check", "1"]).exits(0);
}

#[test]
fn the_next_backup_takes_nothing_from_a_pack_in_which_a_block_is_wrong() {
    for finder in ["host", "operator"] {
        let world = wrongly_sealed();
        let key = world.text("operator.key");
        let found = world.other_host(finder).sealift(&["check", "-i", &key, "--json"]).exits(13).json();
        found["signer"].as_str().into_iter().for_each(|signer| believe(&world, &[signer]));
        let now = world.sources();
        let output = world.sealift(&["backup", "--json"]).exits(3).says("objects-missing");
        output.says("snapshot 2 cannot be restored");
        world.assert_restores(3, &now);
        operator(&world, &["check", "3"]).exits(0);
        let wrong: BTreeSet<_> = world.packs(2).into_iter().collect();
        assert!(world.packs(3).iter().all(|pack| !wrong.contains(pack)));
        assert_eq!(world.backup(), 4);
        world.assert_restores(4, &now);
        assert_eq!(sequence(&status(&world).exits(3).says("snapshots-hurt").json()["newest_good"]), Some(4));
        world.sealift(&["retain", "--remove", "2", "--apply"]);
        status(&world).exits(0);
    }
}

/// Nobody reads them any more; those of known drillers go likewise.
#[test]
fn receipts_about_snapshots_that_are_long_gone_fall_away_whoever_signed_them() {
    let world = World::ready();
    let drilled = |name: &str| {
        let key = world.text("operator.key");
        let drilled = world.other_host(name).sealift(&["drill", "-i", &key, "--json"]).exits(0).json();
        let path = world.path("repository").join(drilled["receipt"].as_str().unwrap());
        set_time(&path, days_ago(30));
        path
    };
    world.backup();
    let gone = ["stranger", "another"].map(drilled);
    // What somebody holds bad is his memory, though nobody here believes him.
    let missing = world.manifest(1);
    let good = fs::read(&missing).unwrap();
    harm(&missing, Harm::Delete);
    let found = world.other_host("checker").sealift(&["check", "--json"]).exits(13).json();
    let held = world.path("repository").join(found["receipt"].as_str().unwrap());
    set_time(&held, days_ago(30));
    fs::write(&missing, good).unwrap();
    world.add_rows(3);
    world.backup();
    let kept = drilled("stranger");
    let young = world.path("repository/receipts").join("0000000001-20260101T000000Z.receipt");
    fs::copy(&gone[0], &young).unwrap();
    world.sealift(&["retain", "--keep-last", "1", "--apply"]).exits(0);
    assert!(!world.record(1).exists());
    assert_eq!(gone.map(|path| path.exists()), [false, false]);
    assert_eq!([held, kept, young].map(|path| path.exists()), [true, true, true]);
}
