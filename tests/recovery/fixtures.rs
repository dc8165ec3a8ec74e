//! Repositories of each format, kept as they were written: what this sealift and its script read out of them is what went
//! in. One that cannot be read any more is a break of the format, whatever the round trips of today's writer say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use sealift::crypto::sha256;
use serde_json::{Value, json};

use crate::live::have;
use crate::script::{self, TOOLS};
use crate::support::world::{World, copy_tree};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Today's script, which reads what older releases wrote.
fn restore_with_script(world: &World, snapshot: &str, key: &str, signer: &str, to: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/recover.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("restore").arg(world.path("repository")).arg(snapshot);
    command.args(["-i", key, "--signer", signer, "--to", to]);
    script::run_command(&mut command).exits(0);
}

/// Every file that a snapshot holds, by the hash of its bytes.
fn digests(folder: &Path) -> Value {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let pairs = files.map(|file| {
        let digest = json!(sha256(&fs::read(file.path()).unwrap()));
        (file.file_name().into_string().unwrap(), digest)
    });
    Value::Object(pairs.collect())
}

#[test]
fn a_repository_of_each_format_reads_as_it_was_written() {
    if !have(&TOOLS) {
        return;
    }
    let entries = fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().path());
    let is_repository = |path: &PathBuf| path.join("repository").is_dir();
    let folders: Vec<PathBuf> = entries.filter(is_repository).collect();
    assert!(folders.contains(&fixture("format-1")), "{folders:?}");
    for folder in folders {
        reads_as_it_was_written(&folder);
    }
}

/// Every snapshot, with each of the private keys that lie next to the repository.
fn reads_as_it_was_written(folder: &Path) {
    let world = World::new();
    copy_tree(&folder.join("repository"), &world.path("repository"));
    let descriptor: Value =
        serde_json::from_slice(&fs::read(folder.join("repository/repository.json")).unwrap()).unwrap();
    assert_eq!(folder.file_name().unwrap().to_str().unwrap(), format!("format-{}", descriptor["format"]));
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let (signer, snapshots) = (expected["signer"].as_str().unwrap(), expected["snapshots"].as_object().unwrap());
    assert!(snapshots.len() >= 5, "{snapshots:?}");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let keys: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "key")).collect();
    assert!(keys.len() >= 2, "{keys:?}");
    for (key, (snapshot, files)) in keys.iter().flat_map(|key| snapshots.iter().map(move |snapshot| (key, snapshot))) {
        let (whose, key) = (key.file_stem().unwrap().to_str().unwrap(), key.display().to_string());
        let to = |how: &str| world.text(&format!("{whose}-{how}-{snapshot}"));
        let reader = world.other_host(&format!("{whose} reading {snapshot}"));
        reader.sealift(&["restore", snapshot, "-i", &key, "--signer", signer, "--to", &to("with")]).exits(0);
        restore_with_script(&world, snapshot, &key, signer, &to("without"));
        for folder in [to("with"), to("without")] {
            assert_eq!(digests(Path::new(&folder)), *files, "snapshot {snapshot} in {folder}");
        }
    }
}

/// Makes the fixture: `cargo test --test recovery make_the_fixture -- --ignored`. After a release only when the
/// format's number changes, and then next to the old one.
#[test]
#[ignore = "writes into the source tree"]
fn make_the_fixture_of_format_1() {
    let world = World::new();
    let rows = |sql: &str| Connection::open(world.database()).unwrap().execute_batch(sql).unwrap();
    rows("delete from t where id > 12; insert into t (body) select zeroblob(9000 + id) from t; vacuum");
    fs::write(world.path("app/large.bin"), vec![7; 300_000]).unwrap();
    let (database, env, large) = (world.text("app/trinity.db"), world.text("app/.env"), world.text("app/large.bin"));
    let (key, bob) = (world.text("operator.key"), world.text("bob.key"));
    let sources = ["--database", &database, "--file", &env, "--file", &large];
    world.sealift(&[&["init", "--new-identity", &key, "--no-passphrase"], &sources[..]].concat()).exits(0);
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config + "\n[retention]\nkeep_daily = 14\nkeep_tag = [\"release\"]\n").unwrap();
    world.sealift(&["backup", "--tag", "release"]).exits(0);
    rows("update t set body = randomblob(700) where id % 3 = 0; delete from t where id % 5 = 0");
    world.backup();
    let operator = fs::read_to_string(&key).unwrap();
    let alice = operator.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    let identity = age::x25519::Identity::generate();
    let text = format!("{}\n", age::secrecy::ExposeSecret::expose_secret(&identity.to_string()));
    fs::write(&bob, text).unwrap();
    let bobs = identity.to_public().to_string();
    let set = ["-r", &alice, "-r", &bobs];
    let operators = world.other_host("operators");
    operators.sealift(&[&["keys", "rotate", "-i", &key, "--proof", &key], &set[..]].concat()).exits(0);
    // It leaves a receipt.
    operators.sealift(&["keys", "confirm", "-i", &key]).exits(0);
    rows("vacuum");
    world.backup();
    world.sealift(&[&["keys", "rebase"], &set[..]].concat()).exits(0);
    let fresh = world.other_host("fresh");
    let take_over = ["init", "--take-over", "--yes", "--identity", &key, "--json"];
    let signer = fresh.sealift(&[&take_over[..], &sources[..]].concat()).exits(0).json()["signer"].clone();
    rows("insert into t (body) values ('after the takeover')");
    fresh.sealift(&["backup"]).exits(0);
    let mut snapshots = serde_json::Map::new();
    for snapshot in ["1", "2", "3", "4", "5"] {
        let to = world.text(&format!("expected-{snapshot}"));
        let restore = ["restore", snapshot, "-i", &key, "--signer", signer.as_str().unwrap(), "--to", &to];
        world.other_host(&format!("reader of {snapshot}")).sealift(&restore).exits(0);
        snapshots.insert(snapshot.to_owned(), digests(Path::new(&to)));
    }
    assert_eq!(snapshots["5"]["trinity.db"], json!(sha256(&world.sources().database)));
    keep(&world, &json!({ "signer": signer, "snapshots": snapshots }));
}

/// Replaces what lies in the source tree.
fn keep(world: &World, expected: &Value) {
    let folder = fixture("format-1");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    copy_tree(&world.path("repository"), &folder);
    // They are of their release and no part of the format.
    fs::remove_file(script::in_repository(&folder.join("repository"))).unwrap();
    fs::remove_file(folder.join("repository/RECOVERY.txt")).unwrap();
    for key in ["operator.key", "bob.key"] {
        fs::copy(world.path(key), folder.join(key)).unwrap();
    }
    fs::write(folder.join("expected.json"), serde_json::to_string_pretty(expected).unwrap() + "\n").unwrap();
}
