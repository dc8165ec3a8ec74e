//! What is damaged × where × how. A restore says 13 or 12, names the object, and leaves nothing at the target.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sealift::crypto::{DataIdentity, IdentityFile, Recipient, Sealed, Signer, Unprompted, seal, sha256};
use serde_json::json;

use crate::keys::person;
use crate::support::world::{Output, World, tree};

/// One way to harm a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A byte flipped at so many thousandths of the length.
    Flip(u64),
    Truncate,
    Empty,
    Delete,
}

const EVERY_HARM: [Harm; 6] =
    [Harm::Flip(0), Harm::Flip(500), Harm::Flip(1000), Harm::Truncate, Harm::Empty, Harm::Delete];

pub fn harm(path: &Path, harm: Harm) {
    let bytes = fs::metadata(path).unwrap().len();
    let cut = |bytes| File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
    match harm {
        Harm::Flip(thousandths) => {
            let mut all = fs::read(path).unwrap();
            all[((bytes - 1) * thousandths / 1000) as usize] ^= 4;
            fs::write(path, all).unwrap();
        }
        Harm::Truncate => cut(bytes * 2 / 3),
        Harm::Empty => cut(0),
        Harm::Delete => fs::remove_file(path).unwrap(),
    }
}

/// Restores `snapshot` after each harm to `object`; the exit code of each, once it is clear that nothing came of it.
fn codes(world: &World, object: &Path, snapshot: &str, named: &str) -> Vec<(Harm, i32)> {
    let good = fs::read(object).unwrap();
    let mut codes = Vec::new();
    for way in EVERY_HARM {
        harm(object, way);
        let before = tree(&world.path("app"));
        let output = world.restore(snapshot, "app/deep/target");
        assert!(output.all().contains(named), "{way:?}: {named} is not in {}", output.all());
        assert!(tree(&world.path("app")) == before, "{way:?} left something at the target");
        codes.push((way, output.code));
        fs::write(object, &good).unwrap();
    }
    codes
}

fn all(code: i32) -> Vec<(Harm, i32)> {
    EVERY_HARM.map(|harm| (harm, code)).to_vec()
}

fn two_snapshots() -> World {
    let world = World::ready();
    world.backup();
    world.add_rows(20);
    world.backup();
    world
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn a_damaged_pack_is_13_and_named() {
    let world = two_snapshots();
    for pack in world.packs(2) {
        assert_eq!(codes(&world, &pack, "latest", name(&pack)), all(13));
    }
}

#[test]
fn a_damaged_manifest_is_13_and_named() {
    let world = two_snapshots();
    let manifest = world.manifest(2);
    assert_eq!(codes(&world, &manifest, "latest", name(&manifest)), all(13));
}

#[test]
fn a_damaged_record_that_is_asked_for_is_13_and_named() {
    let world = two_snapshots();
    let codes = codes(&world, &world.record(1), "1", "1");
    for (harm, code) in codes {
        assert_eq!(code, if harm == Harm::Delete { 1 } else { 13 }, "{harm:?}: what is not listed is no snapshot");
    }
}

#[test]
fn a_damaged_newest_record_makes_latest_the_one_before_and_is_a_problem() {
    let world = two_snapshots();
    let good = fs::read(world.record(2)).unwrap();
    for (number, way) in EVERY_HARM.into_iter().enumerate().filter(|(_, way)| *way != Harm::Delete) {
        harm(&world.record(2), way);
        let output = world.restore("latest", &format!("target-{number}")).exits(3);
        assert_eq!(output.json()["sequence"], 1, "{way:?}");
        assert_eq!(output.warnings(), ["record-damaged"], "{way:?}");
        fs::write(world.record(2), &good).unwrap();
    }
}

#[test]
fn where_no_record_can_be_verified_latest_is_13() {
    let world = World::ready();
    world.backup();
    let codes = codes(&world, &world.record(1), "latest", "");
    for (harm, code) in codes {
        assert_eq!(code, if harm == Harm::Delete { 1 } else { 13 }, "{harm:?}");
    }
}

/// A wrapped key whose stanza was hit looks like one for another recipient; any other harm is plain damage.
#[test]
fn a_damaged_key_file_is_13_or_12_and_named() {
    let world = two_snapshots();
    for (harm, code) in codes(&world, &world.path("repository/keys/1/1.age"), "latest", "keys/1/") {
        assert!(code == 13 || (code == 12 && matches!(harm, Harm::Flip(_))), "{harm:?} gave {code}");
    }
}

#[test]
fn a_damaged_descriptor_is_13_and_a_missing_one_is_no_repository() {
    let world = two_snapshots();
    let path = world.path("repository/repository.json");
    let good = fs::read_to_string(&path).unwrap();
    let id = serde_json::from_str::<serde_json::Value>(&good).unwrap()["repository"].as_str().unwrap().to_owned();
    let other_id = id.replace(['0', '1', '2', '3'], "f");
    let cases = [
        ("garbled", good.replacen('{', "[", 1), 13),
        ("truncated", good[..good.len() / 2].to_owned(), 13),
        ("empty", String::new(), 13),
        ("of another repository", good.replace(&id, &other_id), 13),
        ("of a newer format", good.replace("\"format\":1", "\"format\":2"), 13),
    ];
    for (what, text, code) in cases {
        fs::write(&path, text).unwrap();
        let output = world.restore("latest", "target");
        assert_eq!(output.code, code, "{what}: {output:?}");
        assert!(!world.path("target").exists(), "{what}");
    }
    fs::remove_file(&path).unwrap();
    world.restore("latest", "target").exits(10);
}

#[test]
fn a_wrong_identity_is_12_and_nothing_appears() {
    let world = two_snapshots();
    person(&world, "other");
    let (other, target) = (world.text("other.key"), world.text("target"));
    let output = world.other_host("reader").sealift(&["restore", "-i", &other, "--to", &target, "--json"]);
    assert_eq!(output.exits(12).json()["error"]["code"], 12);
    assert!(!world.path("target").exists());
}

/// Its comments name another repository and another signer.
#[test]
fn an_identity_made_for_another_repository_is_13_until_the_signer_is_named() {
    let (world, other) = (two_snapshots(), World::ready());
    let identities = [other.text("operator.key"), world.text("bare.key")];
    fs::write(&identities[1], without_comments(&world)).unwrap();
    let signer = world.signer().public().to_string();
    let target = world.text("target");
    let run = |identity: &str, more: &[&str]| {
        let restore = ["restore", "-i", identity, "--to", &target, "--json"];
        world.other_host("reader").sealift(&[&restore, more].concat())
    };
    run(&identities[0], &[]).exits(13);
    run(&identities[0], &["--signer", &signer]).exits(12);
    assert!(!world.path("target").exists());
    run(&identities[1], &["--signer", &signer]).exits(0);
}

/// The operator's identity as another program would keep it.
fn without_comments(world: &World) -> String {
    let text = fs::read_to_string(world.identity()).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_wrong_signer_is_13_and_nothing_appears() {
    let world = two_snapshots();
    let other = Signer::generate().unwrap().public().to_string();
    for snapshot in ["latest", "1", "2099-01-01"] {
        let output = world.other_host("reader").sealift(&[
            "restore",
            snapshot,
            "-i",
            &world.text("operator.key"),
            "--to",
            &world.text("target"),
            "--signer",
            &other,
            "--json",
        ]);
        // Whose records they are, so that a person can decide.
        output.exits(13).says(&world.signer().public().fingerprint());
        assert!(!world.path("target").exists());
    }
}

#[test]
fn a_signer_once_seen_is_remembered_and_named_once() {
    let world = two_snapshots();
    let signer = world.other_host("reader");
    fs::write(world.path("bare.key"), without_comments(&world)).unwrap();
    let list = |arguments: &[&str]| {
        let mut all = vec!["restore", "-i"];
        let key = world.text("bare.key");
        all.push(&key);
        all.extend(["--dry-run", "--json"]);
        all.extend(arguments);
        signer.sealift(&all)
    };
    assert_eq!(list(&[]).exits(0).warnings(), ["unpinned-signer"]);
    let known =
        serde_json::from_slice::<serde_json::Value>(&fs::read(world.path("repository/repository.json")).unwrap())
            .unwrap();
    assert!(list(&["--signer", known["signer"].as_str().unwrap()]).exits(0).warnings().is_empty());
    assert!(list(&[]).exits(0).warnings().is_empty(), "remembered");
}

#[test]
fn a_record_under_another_number_is_13() {
    let world = two_snapshots();
    fs::copy(world.record(1), world.path("kept")).unwrap();
    fs::rename(world.record(2), world.record(1)).unwrap();
    fs::rename(world.path("kept"), world.record(2)).unwrap();
    for snapshot in ["1", "2"] {
        world.restore(snapshot, "target").exits(13).says(&format!("snapshots/000000000{snapshot}.record"));
        assert!(!world.path("target").exists());
    }
}

#[test]
fn a_pack_under_the_name_of_another_is_13_and_named() {
    let world = two_snapshots();
    let mut packs: Vec<PathBuf> = world.packs(2);
    packs.sort();
    assert!(packs.len() > 1, "two packs to exchange");
    fs::copy(&packs[0], &packs[1]).unwrap();
    world.restore("latest", "target").exits(13).says(name(&packs[1]));
    assert!(!world.path("target").exists());
}

#[test]
fn a_planted_generation_of_the_key_is_noise() {
    let (world, other) = (two_snapshots(), World::ready());
    fs::copy(other.path("repository/keys/1/1.age"), world.path("repository/keys/1/2.age")).unwrap();
    fs::write(world.path("repository/keys/1/3.age"), "garbage").unwrap();
    world.restore("latest", "target").exits(0);
}

/// A restore on a machine that has seen the repository.
fn dry_run(world: &World, reader: &World) -> Output {
    reader.sealift(&["restore", "-i", &world.text("operator.key"), "--dry-run", "--json"])
}

#[test]
fn a_snapshot_that_was_removed_is_a_note_on_machines_that_saw_it() {
    let world = two_snapshots();
    world.backup();
    let reader = world.other_host("reader");
    reader.sealift(&["snapshots"]).exits(0);
    fs::remove_file(world.record(2)).unwrap();
    assert_eq!(dry_run(&world, &reader).exits(0).warnings(), ["snapshots-removed"]);
    assert!(dry_run(&world, &world.other_host("another")).exits(0).warnings().is_empty());
}

#[test]
fn a_repository_that_was_rolled_back_is_a_problem_on_machines_that_saw_it_newer() {
    let world = two_snapshots();
    let reader = world.other_host("reader");
    dry_run(&world, &reader).exits(0);
    fs::remove_file(world.record(2)).unwrap();
    assert_eq!(dry_run(&world, &reader).exits(3).warnings(), ["rolled-back"]);
    assert!(dry_run(&world, &world.other_host("another")).exits(0).warnings().is_empty());
    world.restore("latest", "target").exits(0);
}

/// Who may write to the bucket can seal for the epoch too: its public half stands in every record.
#[test]
fn what_another_person_sealed_for_the_epoch_is_13_under_the_name_of_a_pack_or_a_manifest() {
    let world = two_snapshots();
    let now = world.sources();
    for object in [world.packs(2)[0].clone(), world.manifest(2)] {
        let good = fs::read(&object).unwrap();
        let plain = [opened(&world, &good), vec![0; 4096]].concat();
        fs::write(&object, sealed_for_the_epoch(&world, &plain).bytes()).unwrap();
        world.restore("latest", "target").exits(13).says(name(&object));
        assert!(!world.path("target").exists());
        fs::write(&object, good).unwrap();
    }
    world.assert_restores(2, &now);
}

/// Were the writer itself wrong about a source, its digest in the manifest would tell.
#[test]
fn a_file_whose_digest_is_not_that_of_the_manifest_does_not_appear() {
    let world = two_snapshots();
    let now = world.sources();
    let plain = opened(&world, &fs::read(world.manifest(2)).unwrap());
    let end = plain.iter().position(|byte| *byte == b'\n').unwrap();
    let mut head: serde_json::Value = serde_json::from_slice(&plain[..end]).unwrap();
    commit_manifest(&world, 3, &head, &plain[end..]);
    world.assert_restores(3, &now);
    head["sources"][0]["digest"] = json!(sha256(b"something else"));
    commit_manifest(&world, 3, &head, &plain[end..]);
    world.restore("latest", "target").exits(13).says("trinity.db of snapshot 3").says("digest");
    assert!(!world.path("target").exists());
}

/// The plain bytes of a pack or a manifest.
pub fn opened(world: &World, object: &[u8]) -> Vec<u8> {
    let operator = IdentityFile::parse(&fs::read(world.identity()).unwrap(), "operator", &Unprompted).unwrap();
    let wrapped = fs::read(world.path("repository/keys/1/1.age")).unwrap();
    let data = DataIdentity::unwrap(&wrapped, operator.keys()).unwrap();
    zstd::decode_all(&data.open(object).unwrap()[..]).unwrap()
}

fn sealed_for_the_epoch(world: &World, plain: &[u8]) -> Sealed {
    let recipient = world.record_json(1)["epochs"][0]["recipient"].as_str().unwrap().to_owned();
    seal(&zstd::encode_all(plain, 3).unwrap(), &[Recipient::parse(&recipient).unwrap()]).unwrap()
}

/// A snapshot as the host itself would sign it, with the packs of the second one.
pub fn commit_manifest(world: &World, sequence: u64, head: &serde_json::Value, tail: &[u8]) {
    let sealed = sealed_for_the_epoch(world, &[head.to_string().as_bytes(), tail].concat());
    fs::write(world.path(&format!("repository/manifests/{}.age", sealed.digest())), sealed.bytes()).unwrap();
    let mut record = world.record_json(2);
    record["sequence"] = json!(sequence);
    record["previous"] = json!(sha256(&fs::read(world.record(2)).unwrap()));
    record["earlier"] = json!([[1, sequence - 1]]);
    record["manifest"] = json!({ "name": sealed.digest(), "bytes": sealed.len(), "epoch": 1 });
    world.write_record(sequence, &record, &world.signer());
}

#[test]
fn a_repository_replaced_by_another_that_is_sealed_to_the_operator_is_refused() {
    let world = World::ready();
    world.backup();
    // Another host knows the operator's public key, and its repository takes the place of this one.
    let other = World::new();
    let operator = std::fs::read_to_string(world.identity()).unwrap();
    let recipient = operator.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let database = other.database().display().to_string();
    other.sealift(&["init", "--database", &database, "-r", recipient]).exits(0);
    other.backup();
    std::fs::remove_dir_all(world.path("repository")).unwrap();
    std::fs::rename(other.path("repository"), world.path("repository")).unwrap();
    world.restore("latest", "out").exits(13);
    assert!(!world.path("out").exists());
}
