//! `drill` proves that a snapshot comes back, or that it does not, and leaves a receipt and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use sealift::crypto::{Signed, sha256};
use sealift::format::{Receipt, ReceiptKind};
use serde_json::{Value, json};

use crate::damage::{Harm, harm};
use crate::keys::{keys, person};
use crate::support::minio::Minio;
use crate::support::s3s::{S3s, Side};
use crate::support::world::{Output, Running, World, copy_tree, tree, wait_until};

/// On a machine of an operator.
fn drill(world: &World, arguments: &[&str]) -> Output {
    let key = world.text("operator.key");
    world.other_host("operator").sealift(&[&["drill", "-i", &key, "--json"], arguments].concat())
}

fn backed_up() -> World {
    let world = World::ready();
    world.backup();
    world
}

/// What a receipt may say: no name of a source, and no count of rows.
const PUBLIC: [&str; 11] =
    ["format", "repository", "sequence", "record", "kind", "time", "passed", "epochs", "keys", "bad", "recovery_ms"];

fn receipt_of(world: &World, report: &Value) -> Receipt {
    let path = world.path("repository").join(report["receipt"].as_str().expect("a receipt"));
    let signed = Signed::verify(fs::read(path).unwrap().into()).unwrap();
    assert_eq!(signed.signer().fingerprint(), report["signer"].as_str().unwrap());
    let text = String::from_utf8_lossy(signed.line()).into_owned();
    assert!(!text.contains("trinity") && !text.contains(".env"), "{text}");
    let members: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    assert!(members.keys().all(|member| PUBLIC.contains(&member.as_str())), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_snapshot_that_comes_back_passes_with_a_signed_receipt_and_leaves_nothing_else() {
    let world = backed_up();
    let report = drill(&world, &[]).exits(0).json();
    assert_eq!((&report["passed"], &report["sequence"], &report["failures"]), (&json!(true), &json!(1), &json!([])));
    assert_eq!(
        report["databases"],
        json!([{ "name": "trinity.db", "tables": { "t": 200 }, "foreign_key_violations": 0 }])
    );
    assert_eq!((&report["credentials"], &report["command"]), (&Value::Null, &Value::Null));
    assert!(report["recovery_seconds"].as_f64().unwrap() > 0.0);
    assert!(report["recovery_point_seconds"].as_i64().unwrap() >= 0);
    let receipt = receipt_of(&world, &report);
    assert_eq!((receipt.kind, receipt.passed, receipt.epochs.as_slice()), (ReceiptKind::Drill, true, &[1][..]));
    assert_eq!(receipt.record, sha256(&fs::read(world.record(1)).unwrap()));
    assert!(receipt.bad.is_empty() && receipt.recovery_ms.is_some());
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    assert_ne!(report["signer"], json!(world.signer().public().fingerprint()));
    assert_eq!(drill(&world, &["1"]).exits(0).json()["signer"], report["signer"], "one key for all its drills");
}

#[test]
fn the_host_refuses_to_drill_without_here_and_never_signs_with_its_own_key() {
    let world = backed_up();
    let key = world.text("operator.key");
    let here = |more: &[&str]| world.sealift(&[&["drill", "-i", &key, "--json"], more].concat());
    here(&[]).exits(15).says("--here");
    let report = here(&["--here"]).exits(0).json();
    assert_ne!(report["signer"], json!(world.signer().public().fingerprint()));
}

/// With a state directory of its own a drill would otherwise not know where it is.
#[test]
fn the_host_is_known_by_the_places_where_its_state_would_usually_lie() {
    let world = backed_up();
    let usual = world.path("empty/.local/state");
    fs::create_dir_all(&usual).unwrap();
    copy_tree(&world.state(), &usual.join("sealift"));
    drill(&world, &[]).exits(15).says("--here").says(".local/state/sealift");
    drill(&world, &["--here"]).exits(0);
    // The signer of another repository makes no host of this one.
    let other = backed_up();
    drill(&other, &[]).exits(0);
    fs::remove_dir_all(usual.join("sealift")).unwrap();
    copy_tree(&other.state(), &usual.join("sealift"));
    drill(&world, &[]).exits(0);
    // As where only root may look.
    fs::remove_dir_all(usual.join("sealift")).unwrap();
    fs::write(usual.join("sealift"), "no folder").unwrap();
    assert_eq!(drill(&world, &[]).exits(0).warnings(), ["host-unknown"]);
}

/// Neither a flag nor the environment makes a host forget where its configuration says that its state lies.
#[test]
fn the_host_is_known_by_the_state_directory_that_a_configuration_names() {
    let world = backed_up();
    let named = |root: &Path| format!("repository = {:?}\nstate_dir = {root:?}\n", world.repository);
    let (key, config) = (world.text("operator.key"), world.text("named.toml"));
    let configured = |more: &[&str]| drill(&world, &[&["--config", &config], more].concat());
    fs::write(&config, named(&world.state())).unwrap();
    configured(&[]).exits(15).says("host-state");
    let flag = ["--state-dir", &world.text("elsewhere")];
    configured(&flag).exits(15).says("host-state");
    configured(&["--here"]).exits(0);
    fs::write(&config, named(&world.path("nothing"))).unwrap();
    configured(&[]).exits(0);
    // The one that lies where the drill runs, though another is named, too.
    fs::write(world.path("empty/sealift.toml"), named(&world.state())).unwrap();
    configured(&[]).exits(15).says("host-state");
    fs::write(world.path("empty/sealift.toml"), "no configuration").unwrap();
    assert_eq!(configured(&[]).exits(0).warnings(), ["host-unknown"]);
    world.other_host("operator").sealift(&["drill", "--here", "-i", &key, "--config", &config]).exits(0);
}

#[test]
fn a_damaged_pack_or_manifest_fails_is_named_and_can_be_replaced_on_the_host() {
    for object in [|world: &World| world.packs(1)[0].clone(), |world: &World| world.manifest(1)] {
        let world = backed_up();
        let path = object(&world);
        harm(&path, Harm::Flip(500));
        let report = drill(&world, &[]).exits(13).json();
        assert_eq!(report["passed"], false);
        let receipt = receipt_of(&world, &report);
        let name = path.strip_prefix(world.path("repository")).unwrap().display().to_string();
        assert_eq!((receipt.passed, &receipt.bad, receipt.recovery_ms), (false, &vec![name.clone()], None));
        assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
        let now = world.sources();
        assert_eq!(world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json()["new_blocks"], 0);
        world.sealift(&["backup", "--json", "--replace", &name]).exits(3).says("objects-missing");
        world.assert_restores(2, &now);
        assert_eq!(drill(&world, &[]).exits(0).json()["sequence"], 2);
    }
}

#[test]
fn a_pack_that_is_larger_than_any_can_be_fails_and_is_named() {
    let world = backed_up();
    let pack = world.packs(1)[0].clone();
    File::options().write(true).open(&pack).unwrap().set_len(sealift::crypto::MAX_SEALED_BYTES + 1).unwrap();
    let report = drill(&world, &[]).exits(13).json();
    let name = pack.strip_prefix(world.path("repository")).unwrap().display().to_string();
    assert_eq!(receipt_of(&world, &report).bad, [name]);
}

#[test]
fn a_command_sees_the_restored_files_and_decides() {
    let world = backed_up();
    let good =
        "echo to standard output; test -f trinity.db && grep -q TOKEN=first .env && test -z \"$SEALIFT_IDENTITY_FILE\"";
    let key = world.text("operator.key");
    let mut command = world.other_host("operator").command(&["drill", "--json", "--command", good]);
    let output = Output::of(command.env("SEALIFT_IDENTITY_FILE", &key)).exits(0);
    assert_eq!(output.json()["command"], json!({ "exit_code": 0 }));
    assert!(output.stderr.contains("to standard output"));
    let report = drill(&world, &["--command", "exit 7"]).exits(13).json();
    assert_eq!(report["command"], json!({ "exit_code": 7 }));
    assert!(!receipt_of(&world, &report).passed);
    assert!(drill(&world, &["--command", "kill -9 $$"]).exits(13).json()["passed"] == false);
}

#[test]
fn an_interrupted_drill_ends_its_command_and_leaves_nothing() {
    let world = backed_up();
    let (key, dir, pids) = (world.text("operator.key"), world.text("empty"), world.text("pids"));
    let command = format!("sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait");
    let operator = world.other_host("operator");
    let running: Running = operator.start(&["drill", "-i", &key, "--dir", &dir, "--command", &command]);
    wait_until("the command runs", || world.path("pids").exists());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "there it is");
    running.interrupt().exits(130);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    wait_until("all that it started is over", || all_are_over(&world.path("pids")));
    assert!(!world.path("repository/receipts").exists(), "no verdict");
}

fn all_are_over(pids: &Path) -> bool {
    let is_over = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"));
    fs::read_to_string(pids).unwrap().split_whitespace().all(is_over)
}

#[test]
fn what_the_command_leaves_running_is_ended_with_it_and_nothing_is_left() {
    let world = backed_up();
    let (dir, pids) = (world.text("empty"), world.text("pids"));
    let command = format!("mkdir cache && touch cache/x && chmod 500 cache; sleep 600 & echo $! > {pids}");
    drill(&world, &["--dir", &dir, "--command", &command]).exits(0);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    wait_until("what it left running is over", || all_are_over(&world.path("pids")));
}

#[test]
fn restored_files_that_cannot_be_removed_are_a_problem_that_names_where_they_were() {
    let world = backed_up();
    let dir = world.text("empty");
    let output = drill(&world, &["--dir", &dir, "--command", "mv \"$PWD\" \"$PWD.moved\""]).exits(3);
    let report = output.json();
    assert_eq!((&report["passed"], output.warnings()), (&json!(true), vec!["scratch-left".to_owned()]));
    output.says(&format!("{dir}/sealift-drill-"));
}

/// The file in the clear that a held drill has restored already.
fn restored_env(dir: &Path) -> Vec<PathBuf> {
    tree(dir).into_keys().filter(|path| path.ends_with(".env")).collect()
}

/// What SIGKILL leaves in the clear goes with the next drill, and what a running one uses does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_scratch_of_a_killed_drill_is_removed_by_the_next_one() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let (operator, key, dir) = (world.other_host("operator"), world.text("operator.key"), world.path("tmp"));
    let held = server.hold("GET", "/packs/", Side::After);
    let running = operator.start(&["drill", "-i", &key, "--json"]);
    held.reached();
    let left = restored_env(&dir);
    assert_eq!(left.len(), 1);
    assert_eq!(
        fs::metadata(left[0].ancestors().find(|path| path.parent() == Some(&dir)).unwrap()).unwrap().mode() & 0o777,
        0o700
    );
    assert_eq!(drill(&world, &[]).exits(0).warnings(), Vec::<String>::new());
    assert_eq!(restored_env(&dir), left, "a second drill leaves it alone");
    running.kill();
    assert_eq!(restored_env(&dir), left);
    let output = drill(&world, &[]).exits(0);
    assert_eq!(output.warnings(), ["scratch-removed"]);
    output.says(&dir.join("sealift-drill-").display().to_string());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

/// A credential as Trinity stores it.
fn envelope(key: &str) -> String {
    let cipher = Aes256Gcm::new_from_slice(&hex::decode(key).unwrap()).unwrap();
    let nonce = [9u8; 12];
    let sealed = cipher.encrypt(nonce.as_slice().into(), &b"{\"token\": \"ghp\"}"[..]).unwrap();
    let (nonce, ciphertext) = (STANDARD.encode(nonce), STANDARD.encode(sealed));
    json!({ "version": 1, "algorithm": "AES-256-GCM", "nonce": nonce, "ciphertext": ciphertext }).to_string()
}

#[test]
fn stored_credentials_must_open_with_the_restored_env() {
    let (own, other) = ("5a".repeat(32), "a5".repeat(32));
    let cases = [
        (vec![&own, &own], &own, 0, 2, vec![]),
        (vec![&own, &other], &own, 3, 1, vec!["credential-key-mismatch"]),
        (vec![&own, &own], &other, 13, 0, vec![]),
    ];
    for (stored, key, code, opened, names) in cases {
        let world = World::ready();
        let connection = Connection::open(world.database()).unwrap();
        connection.execute_batch("create table users (id integer primary key, github_pat_encrypted text)").unwrap();
        for key in &stored {
            connection.execute("insert into users (github_pat_encrypted) values (?1)", [envelope(key)]).unwrap();
        }
        connection.execute("insert into users (github_pat_encrypted) values ('ghp_plain_of_old')", []).unwrap();
        world.set_environment(&format!("A=b\nCREDENTIAL_ENCRYPTION_KEY={key}\n"));
        world.backup();
        let output = drill(&world, &[]).exits(code);
        assert_eq!(output.json()["credentials"], json!({ "stored": 2, "opened": opened }));
        assert_eq!(
            (output.json()["passed"].clone(), output.warnings()),
            (json!(code != 13), names.into_iter().map(str::to_owned).collect())
        );
        assert!(!output.all().contains(key.as_str()), "the key is in no output");
    }
}

#[test]
fn encrypted_credentials_without_any_key_are_a_problem() {
    let world = World::ready();
    let connection = Connection::open(world.database()).unwrap();
    connection.execute_batch("create table users (id integer primary key, github_pat_encrypted text)").unwrap();
    connection.execute("insert into users (github_pat_encrypted) values (?1)", [envelope(&"5a".repeat(32))]).unwrap();
    world.backup();
    let output = drill(&world, &[]).exits(3);
    assert_eq!(
        (&output.json()["passed"], output.warnings()),
        (&json!(true), vec!["credential-key-missing".to_owned()])
    );
}

#[test]
fn broken_references_are_a_note() {
    let world = World::ready();
    let connection = Connection::open(world.database()).unwrap();
    connection
        .execute_batch(
            "pragma foreign_keys = off; create table parent (id integer primary key); create table child (p references parent (id));
                        insert into child values (7)",
        )
        .unwrap();
    world.backup();
    let output = drill(&world, &[]).exits(0);
    let report = output.json();
    assert_eq!((&report["passed"], output.warnings()), (&json!(true), vec!["foreign-keys".to_owned()]));
    assert_eq!(report["databases"][0]["foreign_key_violations"], 1);
}

#[test]
fn a_database_that_was_damaged_when_it_was_saved_comes_back_and_fails() {
    let world = World::ready();
    // The second page is the table's root.
    let file = File::options().write(true).open(world.database()).unwrap();
    file.write_all_at(&[0xee; 4096], 4096).unwrap();
    drop(file);
    world.sealift(&["backup", "--json"]).exits(3);
    let report = drill(&world, &[]).exits(13).json();
    let receipt = receipt_of(&world, &report);
    assert!(!receipt.passed && receipt.bad.is_empty(), "the stored objects are what they should be");
}

#[test]
fn what_says_nothing_about_the_snapshot_is_an_error_without_a_receipt() {
    let world = backed_up();
    person(&world, "other");
    let key = world.text("other.key");
    world.other_host("operator").sealift(&["drill", "-i", &key, "--json"]).exits(12);
    drill(&world, &["7"]).exits(1);
    drill(&world, &["--dir", &world.text("no/such/place")]).exits(1);
    assert!(!world.path("repository/receipts").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_bucket_a_drill_passes() {
    let Some(server) = Minio::start().await else { return };
    let world = World::in_bucket(&server);
    world.backup();
    let report = drill(&world, &["--command", "test -s trinity.db"]).exits(0).json();
    assert_eq!(report["passed"], true);
    assert!(report["receipt"].as_str().unwrap().starts_with("receipts/0000000001-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_between_the_look_and_the_fetch_of_a_key_fails_no_drill() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let bob = person(&world, "bob");
    let key = world.text("bob.key");
    let held = server.hold("GET", "/keys/1/1.age", Side::Before);
    let running = world.other_host("driller").start(&["drill", "-i", &key, "--json"]);
    held.reached();
    keys(&world, &["rotate", "-r", &bob, "--proof", &key], &["operator"]).exits(0);
    assert!(!server.bucket_folder().join("trinity/keys/1/1.age").exists());
    held.release();
    assert_eq!(running.wait().exits(0).json()["passed"], true);
}
