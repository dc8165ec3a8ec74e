//! Every kind of object × every damage × every machine that may check: what is found, which snapshots need it, and what heals
//! it.

use std::fs;
use std::path::{Path, PathBuf};

use sealift::crypto::Signer;
use serde_json::{Value, json};

use crate::damage::{Harm, harm};
use crate::support::s3s::S3s;
use crate::support::world::{Output, World, copy_tree};

/// The first byte is in a record's line, the last one in its signature.
const HARMS: [Harm; 4] = [Harm::Flip(0), Harm::Flip(1000), Harm::Truncate, Harm::Delete];

/// Who checks, each with `--read-data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// With no key at all, and never here before.
    Watcher,
    Operator,
    Host,
}

/// One kind of object, and what is to be found of each harm to it.
struct Kind {
    name: &'static str,
    path: PathBuf,
    /// Object and kind of the problem; `None`: such a machine cannot tell.
    found: fn(Harm, Who) -> Option<(Object, &'static str)>,
    /// The snapshots that need it.
    snapshots: Vec<u64>,
    /// The files that an identity shows.
    files: &'static [&'static str],
    all_files: bool,
    /// What the host's next backup ends with after its check.
    backup: fn(Harm) -> i32,
}

enum Object {
    Itself,
    Other(&'static str),
}
use Object::{Itself, Other};

/// An object whose name is the hash of its bytes, and whose size stands in a record.
fn sealed(harm: Harm, _: Who) -> Option<(Object, &'static str)> {
    Some(match harm {
        Harm::Delete => (Itself, "missing"),
        Harm::Truncate | Harm::Empty => (Itself, "size"),
        Harm::Flip(_) => (Itself, "hash"),
    })
}

/// One that was removed is a note on machines that saw it, and no damage.
fn record(harm: Harm, _: Who) -> Option<(Object, &'static str)> {
    (harm != Harm::Delete).then_some((Itself, "record"))
}

/// Its name is no hash: behind its header, only who has a copy or can open it tells.
fn wrapped(harm: Harm, who: Who) -> Option<(Object, &'static str)> {
    match (harm, who) {
        (Harm::Delete, _) => Some((Other("keys/1/"), "missing")),
        (_, Who::Host) => Some((Itself, "hash")),
        (_, Who::Operator) | (Harm::Flip(0), Who::Watcher) => Some((Itself, "key")),
        _ => None,
    }
}

/// No record names a receipt, so none is missed.
fn receipt(harm: Harm, _: Who) -> Option<(Object, &'static str)> {
    (harm != Harm::Delete).then_some((Itself, "receipt"))
}

fn script(harm: Harm, _: Who) -> Option<(Object, &'static str)> {
    match harm {
        Harm::Delete => Some((Other("recover-*.py"), "missing")),
        _ => Some((Itself, "hash")),
    }
}

/// For people, and the same everywhere but for the version of sealift that wrote it: another one is a warning.
fn text(harm: Harm, _: Who) -> Option<(Object, &'static str)> {
    (harm == Harm::Delete).then_some((Itself, "missing"))
}

fn only_file(folder: &Path, end: &str) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == end)).unwrap()
}

/// Three snapshots, the last of them drilled: the third has another `.env`, and the database of the second.
fn damaged_world() -> (World, Vec<Kind>) {
    let world = World::ready();
    world.backup();
    world.add_rows(20);
    world.backup();
    world.set_environment("TOKEN=second\n");
    world.backup();
    let key = world.text("operator.key");
    world.other_host("driller").sealift(&["drill", "-i", &key]).exits(0);
    let repository = world.path("repository");
    let pack = |sequence, name, snapshots, newer_than: &[PathBuf]| Kind {
        name,
        path: world.packs(sequence).into_iter().find(|pack| !newer_than.contains(pack)).unwrap(),
        found: sealed,
        snapshots,
        files: &["trinity.db"],
        all_files: false,
        backup: |_| 3,
    };
    let mut kinds =
        vec![pack(1, "the first pack", vec![1, 2, 3], &[]), pack(2, "a later pack", vec![2, 3], &world.packs(1))];
    let whole = |name, path, found, snapshots, backup| Kind {
        name,
        path,
        found,
        snapshots,
        files: &[],
        all_files: true,
        backup,
    };
    kinds.push(whole("an old manifest", world.manifest(1), sealed, vec![1], |_| 0));
    kinds.push(whole("the newest manifest", world.manifest(3), sealed, vec![3], |_| 3));
    kinds.push(whole("a wrapped key", repository.join("keys/1/1.age"), wrapped, vec![1, 2, 3], |_| 3));
    let other = |name, path, found, snapshots| Kind {
        name,
        path,
        found,
        snapshots,
        files: &[],
        all_files: false,
        backup: |_| 0,
    };
    kinds.push(other("a record", world.record(2), record, vec![2]));
    kinds.push(other("a receipt", only_file(&repository.join("receipts"), "receipt"), receipt, vec![]));
    kinds.push(other("the recovery text", repository.join("RECOVERY.txt"), text, vec![]));
    kinds.push(other("the recovery script", only_file(&repository, "py"), script, vec![]));
    (world, kinds)
}

fn check(world: &World, who: Who, machine: &str) -> Output {
    let key = world.text("operator.key");
    match who {
        Who::Watcher => world.other_host(machine).sealift(&["check", "--read-data", "--json"]),
        Who::Operator => world.other_host(machine).sealift(&["check", "--read-data", "--json", "-i", &key]),
        Who::Host => world.sealift(&["check", "--read-data", "--json"]),
    }
}

/// What `who` finds is what the table says, and nothing else.
fn assert_found(kind: &Kind, harm: Harm, who: Who, output: &Output) {
    let Kind { name, .. } = kind;
    let case = format!("{name}, {harm:?}, {who:?}: {}", output.all());
    let json = output.json();
    let problems = json["problems"].as_array().unwrap();
    let Some((object, word)) = (kind.found)(harm, who) else {
        assert_eq!((output.code, problems.len()), (0, 0), "{case}");
        let differs = output.warnings().contains(&"recovery-text-differs".to_owned());
        assert_eq!(differs, kind.path.ends_with("RECOVERY.txt"), "{case}");
        let removed = output.warnings().contains(&"snapshots-removed".to_owned());
        assert_eq!(removed, *name == "a record" && who == Who::Host, "{case}");
        return;
    };
    assert_eq!((output.code, problems.len()), (13, 1), "{case}");
    let object = match object {
        Itself => Path::new(&kind.path).components().rev().take_while(|part| part.as_os_str() != "repository"),
        Other(name) => return assert_other(kind, harm, &problems[0], name, word, &case),
    };
    let mut object: Vec<String> = object.map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    object.reverse();
    assert_eq!((&problems[0]["object"], &problems[0]["kind"]), (&json!(object.join("/")), &json!(word)), "{case}");
    assert_eq!(
        (&problems[0]["snapshots"], &problems[0]["all_files"]),
        (&json!(kind.snapshots), &json!(kind.all_files)),
        "{case}"
    );
    let files = if who == Who::Operator && !kind.files.is_empty() { json!(kind.files) } else { Value::Null };
    assert_eq!(problems[0]["files"], files, "{case}");
}

fn assert_other(kind: &Kind, harm: Harm, problem: &Value, object: &str, word: &str, case: &str) {
    assert_eq!((&problem["object"], &problem["kind"]), (&json!(object), &json!(word)), "{case}");
    assert_eq!(harm, Harm::Delete, "{case}");
    assert_eq!(problem["snapshots"], json!(kind.snapshots), "{case}");
}

#[test]
fn every_damage_to_every_kind_of_object_is_found_with_the_snapshots_that_need_it() {
    let (world, kinds) = damaged_world();
    let (state, kept) = (world.state(), world.path("kept-state"));
    copy_tree(&state, &kept);
    let receipts = world.path("repository/receipts");
    let receipts_before = fs::read_dir(&receipts).unwrap().count();
    for (number, kind) in kinds.iter().enumerate() {
        let good = fs::read(&kind.path).unwrap();
        for (way_number, way) in HARMS.into_iter().enumerate() {
            harm(&kind.path, way);
            for who in [Who::Watcher, Who::Operator, Who::Host] {
                let output = check(&world, who, &format!("{who:?}-{number}-{way_number}"));
                assert_found(kind, way, who, &output);
                // Its receipt, so that the next one is counted alone.
                let own = output.json()["receipt"].as_str().map(|receipt| world.path("repository").join(receipt));
                own.into_iter().for_each(|receipt| fs::remove_file(receipt).unwrap());
            }
            fs::write(&kind.path, &good).unwrap();
            fs::remove_dir_all(&state).unwrap();
            copy_tree(&kept, &state);
        }
    }
    assert_eq!(fs::read_dir(&receipts).unwrap().count(), receipts_before);
    for who in [Who::Watcher, Who::Operator, Who::Host] {
        check(&world, who, "last").exits(0);
    }
}

/// The listing is as good as ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lists_and_does_not_hand_out_is_found_on_every_machine_that_reads() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    world.add_rows(20);
    world.backup();
    let drilled = ["drill", "-i", &world.text("operator.key")];
    world.other_host("driller").sealift(&drilled).exits(0);
    let repository = server.bucket_folder().join("trinity");
    let only = |folder: &str, end: &str| {
        let path = only_file(&repository.join(folder), end);
        path.strip_prefix(&repository).unwrap().display().to_string()
    };
    let objects = [
        "snapshots/0000000001.record".to_owned(),
        only("packs", "age"),
        only("manifests", "age"),
        only("keys/1", "age"),
        only("", "py"),
        only("receipts", "receipt"),
    ];
    for (number, object) in objects.iter().enumerate() {
        server.withhold(Some(&format!("/{object}")));
        for who in [Who::Watcher, Who::Operator, Who::Host] {
            let output = check(&world, who, &format!("{who:?}-{number}"));
            let found = match (object.as_str(), who) {
                // None that could be tried is there.
                ("keys/1/1.age", Who::Operator) => "keys/1/",
                (object, _) => object,
            };
            let json = output.json();
            let named = |problem: &Value| problem["object"] == found;
            assert!(json["problems"].as_array().unwrap().iter().any(named), "{object}, {who:?}: {}", output.all());
            assert_eq!(output.code, 13, "{object}, {who:?}");
            json["receipt"].as_str().into_iter().for_each(|own| fs::remove_file(repository.join(own)).unwrap());
        }
    }
}

#[test]
fn after_every_damage_that_the_host_finds_its_next_backup_is_whole() {
    let (world, kinds) = damaged_world();
    let (repository, state) = (world.path("repository"), world.state());
    let [kept, kept_state] = [world.path("kept"), world.path("kept-state")];
    copy_tree(&repository, &kept);
    copy_tree(&state, &kept_state);
    let (now, key) = (world.sources(), world.text("operator.key"));
    for kind in &kinds {
        for way in HARMS {
            harm(&kind.path, way);
            check(&world, Who::Host, "");
            world.an_hour_later();
            let output = world.sealift(&["backup", "--json"]).exits((kind.backup)(way));
            let restored = output.warnings().contains(&"key-files-restored".to_owned());
            assert_eq!(restored, kind.name == "a wrapped key", "{}, {way:?}: {output:?}", kind.name);
            let newest = u64::try_from(fs::read_dir(repository.join("snapshots")).unwrap().count()).unwrap();
            let newest = if world.record(2).exists() { newest } else { newest + 1 };
            world.assert_restores(newest, &now);
            let checker = world.other_host("checker");
            let left = checker.sealift(&["check", &newest.to_string(), "-i", &key, "--json"]).json();
            let needs = |problem: &Value| problem["snapshots"].as_array().unwrap().contains(&json!(newest));
            assert!(!left["problems"].as_array().unwrap().iter().any(needs), "{}, {way:?}: {left}", kind.name);
            assert_eq!(left["files"], 3, "{left}");
            for (folder, copy) in
                [(&repository, &kept), (&state, &kept_state), (&world.path("checker-state"), &kept_state)]
            {
                let _ = fs::remove_dir_all(folder);
                copy_tree(copy, folder);
            }
            fs::remove_dir_all(world.path("checker-state")).unwrap();
        }
    }
}

/// It has the hash of its name, and would be given a key.
#[test]
fn a_script_that_neither_this_version_nor_the_recovery_text_names_is_foreign() {
    let world = World::ready();
    world.backup();
    let repository = world.path("repository");
    let (own, text) = (only_file(&repository, "py"), repository.join("RECOVERY.txt"));
    let name = format!("recover-{}.py", sealift::crypto::sha256(b"steal"));
    let planted = repository.join(&name);
    let warnings = || world.sealift(&["check", "--read-data", "--json"]).exits(3).says(&name).warnings();
    fs::write(&planted, "steal").unwrap();
    assert_eq!(warnings(), ["recovery-script-foreign"], "next to the own one");
    fs::remove_file(&own).unwrap();
    assert_eq!(warnings(), ["recovery-script-foreign"], "in its place");
    // As an older version's would be named.
    let own = own.file_name().unwrap().to_str().unwrap();
    fs::write(&text, fs::read_to_string(&text).unwrap().replace(own, &name)).unwrap();
    assert_eq!(world.sealift(&["check", "--json"]).exits(0).warnings(), ["recovery-text-differs"]);
}

/// No signature protects it: every machine goes by what it remembers.
#[test]
fn a_changed_descriptor_is_a_problem_on_every_machine_that_remembers_it() {
    let world = World::ready();
    world.backup();
    let watcher = world.other_host("watcher");
    watcher.sealift(&["check"]).exits(0);
    let path = world.path("repository/repository.json");
    let good = fs::read_to_string(&path).unwrap();
    let other = Signer::generate().unwrap().public().to_string();
    fs::write(&path, good.replace(&world.signer().public().to_string(), &other)).unwrap();
    assert_ne!(fs::read_to_string(&path).unwrap(), good);
    for machine in [&world, &watcher] {
        let output = machine.sealift(&["check", "--json"]).exits(3);
        assert_eq!(output.warnings(), ["descriptor-changed"]);
        assert_eq!(output.json()["warnings"][0]["subject"], "repository.json");
    }
    fs::write(&path, &good).unwrap();
    for machine in [&world, &watcher] {
        machine.sealift(&["check"]).exits(0);
    }
}
