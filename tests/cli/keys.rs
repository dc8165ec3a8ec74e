//! The operator's side: who can open the backups is changed without touching a pack, and an identity that opens them is always left.

use std::fs;
use std::path::Path;

use age::secrecy::ExposeSecret;
use serde_json::Value;

use crate::support::world::{Output, World, tree};

/// Makes an identity `NAME.key`; its public half.
pub fn person(world: &World, name: &str) -> String {
    let key = age::x25519::Identity::generate();
    fs::write(world.path(&format!("{name}.key")), format!("{}\n", key.to_string().expose_secret())).unwrap();
    key.to_public().to_string()
}

/// The X25519 identity in `NAME.key`.
pub fn secret(world: &World, name: &str) -> age::x25519::Identity {
    let text = fs::read_to_string(world.path(&format!("{name}.key"))).unwrap();
    text.lines().find(|line| line.starts_with("AGE-")).unwrap().parse().unwrap()
}

/// A machine of an operator's, which never was the host.
pub fn operator(world: &World) -> World {
    world.other_host("operator")
}

/// `sealift keys …` there; the identity files are named without their ending.
pub fn keys(world: &World, arguments: &[&str], identities: &[&str]) -> Output {
    let files: Vec<String> = identities.iter().map(|name| world.text(&format!("{name}.key"))).collect();
    let flags = files.iter().flat_map(|file| ["-i", file]);
    let all: Vec<&str> = ["keys"].into_iter().chain(arguments.iter().copied()).chain(flags).chain(["--json"]).collect();
    operator(world).sealift(&all)
}

/// Restores `.env` with one identity: its exit code.
pub fn opens(world: &World, identity: &str, snapshot: u64) -> bool {
    let key = world.text(&format!("{identity}.key"));
    let reader = world.other_host(&format!("reader with {identity}"));
    let restore = ["restore", &snapshot.to_string(), "--only", ".env", "--to", "-", "-i", &key];
    let output = reader.sealift(&restore);
    assert!([0, 3, 12].contains(&output.code), "{output:?}");
    assert_eq!(output.stdout.is_empty(), output.code == 12, "{output:?}");
    output.code != 12
}

/// A repository with two snapshots, whose only recipient has `operator.key`.
pub fn ready() -> World {
    let world = World::ready();
    world.backup();
    world.add_rows(5);
    world.backup();
    world
}

pub fn versions(world: &World, epoch: u32) -> Vec<String> {
    names(&world.path(&format!("repository/keys/{epoch}")))
}

/// The files in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text")).collect()
}

#[test]
fn with_a_proof_the_new_identity_opens_old_and_new_snapshots_and_the_old_one_none() {
    let world = ready();
    let bob = person(&world, "bob");
    let before = tree(&world.path("repository/packs"));
    let proof = world.text("bob.key");
    let json = keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0).json();
    assert_eq!(strings(&json["recipients"]), [&bob]);
    assert_eq!(
        (&json["recipients_from"], &json["epochs"][0]["recipients_from"]),
        (&"command".into(), &"command".into())
    );
    assert_eq!(json["epochs"][0]["former_from"], "comments");
    assert_eq!(json["config"], format!("recipients = [\"{bob}\"]"));
    assert_eq!(json["epochs"][0]["deleted"], serde_json::json!([1]));
    assert_eq!(tree(&world.path("repository/packs")), before, "no pack is touched");
    assert_eq!(versions(&world, 1), ["2.age"]);
    let third = world.backup();
    for snapshot in [1, 2, third] {
        assert!(opens(&world, "bob", snapshot) && !opens(&world, "operator", snapshot), "{snapshot}");
    }
}

#[test]
fn without_a_proof_both_open_until_the_new_one_confirms() {
    let world = ready();
    let bob = person(&world, "bob");
    let output = keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    assert!(output.warnings().contains(&"rotation-not-proved".to_owned()), "{output:?}");
    assert!(opens(&world, "bob", 2) && opens(&world, "operator", 1));
    // The old identity proves nothing about the new set.
    let output = keys(&world, &["confirm"], &["operator"]).exits(0);
    assert!(output.warnings().contains(&"key-files-unopened".to_owned()), "{output:?}");
    assert_eq!(versions(&world, 1), ["1.age", "2.age"]);
    // What the new identity does not open stays as well: to end it takes both.
    let output = keys(&world, &["confirm"], &["bob"]).exits(0);
    assert!(output.warnings().contains(&"key-files-unopened".to_owned()), "{output:?}");
    assert_eq!((&output.json()["epochs"][0]["key_version"], versions(&world, 1).len()), (&2.into(), 2));
    let json = keys(&world, &["confirm"], &["bob", "operator"]).exits(0).json();
    assert_eq!((&json["version"], &json["epochs"][0]["deleted"]), (&1.into(), &serde_json::json!([1])));
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
    keys(&world, &["confirm"], &["bob"]).exits(0);
}

#[test]
fn a_recipient_without_an_identity_locks_no_operator_out() {
    let world = ready();
    let lost = age::x25519::Identity::generate().to_public().to_string();
    keys(&world, &["rotate", "-r", &lost], &["operator"]).exits(3);
    world.backup();
    assert!(opens(&world, "operator", 3));
    let bob = person(&world, "bob");
    let proof = world.text("bob.key");
    let output = keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0);
    // Perhaps it opens for another person.
    assert!(output.warnings().contains(&"key-files-unopened".to_owned()), "{output:?}");
    assert_eq!(versions(&world, 1), ["2.age", "3.age"]);
    assert!(opens(&world, "bob", 3) && !opens(&world, "operator", 3));
}

#[test]
fn a_proof_by_an_identity_outside_the_new_set_writes_nothing() {
    let world = ready();
    let bob = person(&world, "bob");
    person(&world, "carol");
    let before = tree(&world.path("repository"));
    let proof = world.text("carol.key");
    keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(12).says("--proof");
    assert_eq!(tree(&world.path("repository")), before);
}

#[test]
fn one_recipient_is_added_and_another_removed_and_the_others_stay() {
    let world = ready();
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let json = keys(&world, &["add", "-r", &bob, "-r", &carol], &["operator"]).exits(0).json();
    assert_eq!(json["recipients"].as_array().unwrap().len(), 3);
    // Only the comments of the key file say who was there before.
    assert_eq!(
        (&json["recipients_from"], &json["epochs"][0]["recipients_from"]),
        (&"comments".into(), &"comments".into())
    );
    assert!(["operator", "bob", "carol"].into_iter().all(|name| opens(&world, name, 1)));
    let json = keys(&world, &["remove", "-r", &bob], &["carol"]).exits(0).json();
    assert_eq!(strings(&json["epochs"][0]["former"]), [&bob]);
    assert!(opens(&world, "operator", 2) && opens(&world, "carol", 2) && !opens(&world, "bob", 2));
    keys(&world, &["remove", "-r", &bob], &["carol"]).exits(2).says("is no recipient");
    assert_eq!(versions(&world, 1), ["3.age"]);
}

#[test]
fn the_last_recipient_is_not_removed() {
    let world = ready();
    let config = fs::read_to_string(world.config()).unwrap();
    let own = config.split('"').find(|word| word.starts_with("age1")).unwrap();
    keys(&world, &["remove", "-r", own], &["operator"]).exits(15);
    assert!(opens(&world, "operator", 2));
}

/// Knowledge of the data identity is enough to wrap it for any recipient, with comments that name the wanted set.
#[test]
fn a_forged_key_file_that_names_the_wanted_set_is_not_taken_for_it() {
    let world = ready();
    let bob = person(&world, "bob");
    let proof = world.text("bob.key");
    let operator = secret(&world, "operator");
    let plain = age::decrypt(&operator, &fs::read(world.path("repository/keys/1/1.age")).unwrap()).unwrap();
    let (own, plain) = (operator.to_public().to_string(), String::from_utf8(plain).unwrap());
    let forged = age::encrypt(&operator.to_public(), plain.replace(&own, &bob).as_bytes()).unwrap();
    fs::write(world.path("repository/keys/1/2.age"), forged).unwrap();
    keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0);
    assert_eq!(versions(&world, 1), ["3.age"]);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
    // Names that come from comments are shown as such.
    let arguments = ["keys", "add", "-r", &person(&world, "carol"), "-i", &proof];
    crate::keys::operator(&world).sealift(&arguments).exits(0).says("comments");
}

#[test]
fn what_the_given_identity_does_not_open_is_not_deleted() {
    let world = ready();
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let proof = world.text("carol.key");
    let output =
        keys(&world, &["rotate", "-r", &carol, "--proof", &proof], &["operator"]).exits(0).says("keys/1/2.age");
    assert!(output.warnings().contains(&"key-files-unopened".to_owned()), "{output:?}");
    assert_eq!(versions(&world, 1), ["2.age", "3.age"]);
    assert!(opens(&world, "bob", 1) && opens(&world, "carol", 1) && !opens(&world, "operator", 1));
    keys(&world, &["confirm"], &["carol"]).exits(0).says("keys/1/2.age");
    assert_eq!(versions(&world, 1), ["2.age", "3.age"]);
    keys(&world, &["confirm"], &["carol", "bob"]).exits(0);
    assert_eq!(versions(&world, 1), ["3.age"]);
}

#[test]
fn a_list_names_recipients_only_of_key_files_that_the_identity_opens() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let json = keys(&world, &["list"], &["bob"]).exits(0).json();
    let epoch = &json["epochs"][0];
    assert_eq!((&epoch["epoch"], &epoch["snapshots"]), (&1.into(), &serde_json::json!([[1, 2]])));
    let of = |number: usize| &epoch["versions"][number];
    assert_eq!((&json["version"], &of(0)["key_version"], &of(1)["key_version"]), (&1.into(), &1.into(), &2.into()));
    assert_eq!((&of(0)["opens"], &of(1)["opens"]), (&false.into(), &true.into()));
    assert_eq!(strings(&of(1)["recipients"]), [&bob]);
    assert_eq!((&of(1)["recipients_from"], &epoch["former_from"]), (&"comments".into(), &"comments".into()));
    crate::keys::operator(&world)
        .sealift(&["keys", "list", "-i", &world.text("bob.key")])
        .exits(0)
        .says("prove nothing");
    assert!(of(0)["recipients"].is_null());
    assert_eq!(epoch["former"].as_array().unwrap().len(), 1);
    let json = keys(&world, &["list"], &[]).exits(0).json();
    let listed = json["epochs"][0]["versions"].as_array().unwrap().clone();
    assert!(listed.iter().all(|version| version["recipients"].is_null() && version["opens"].is_null()));
    // The host knows whom it encrypted to itself.
    let json = world.sealift(&["keys", "list", "--json"]).exits(0).json();
    let own = &json["epochs"][0]["versions"][0];
    assert_eq!((strings(&own["recipients"]).len(), &own["recipients_from"]), (1, &"host".into()));
    assert_eq!(json["made_elsewhere"], true);
}

#[test]
fn words_about_what_rotation_does_not_do() {
    let world = ready();
    let bob = person(&world, "bob");
    let (key, proof) = (world.text("operator.key"), world.text("bob.key"));
    let rotate = ["keys", "rotate", "-r", &bob, "-i", &key, "--proof", &proof];
    let output = operator(&world).sealift(&rotate).exits(0);
    output
        .says("for good")
        .says("keys rebase")
        .says("retention")
        .says("versions")
        .says("recipients = [")
        .says("new kit");
    world.sealift(&["keys", "rotate", "--help"]).exits(0).says("state directory").says("recovery kits");
    let json = keys(&world, &["confirm"], &["bob"]).exits(0).json();
    assert!(json["receipt_signer"].is_string());
    let rotated = keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["bob"]).exits(0).json();
    for json in [json, rotated] {
        let text = json["caution"]["text"].as_str().unwrap_or_default();
        assert!(
            ["for good", "keys rebase", "retention", "versions", "new kit"].iter().all(|word| text.contains(word)),
            "{json}"
        );
        assert_eq!(json["caution"]["removed"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn an_identity_that_opens_nothing_rotates_nothing() {
    let world = ready();
    let bob = person(&world, "bob");
    let before = tree(&world.path("repository"));
    keys(&world, &["rotate", "-r", &bob], &["bob"]).exits(12);
    keys(&world, &["confirm"], &["bob"]).exits(12);
    keys(&world, &["rotate", "-r", &bob], &[]).exits(2).says("identity");
    keys(&world, &["rotate"], &["operator"]).exits(2).says("-r");
    keys(&world, &["rotate", "-r", "age1nonsense"], &["operator"]).exits(2).says("age1nonsense");
    assert_eq!(tree(&world.path("repository")), before);
}

#[test]
fn before_the_first_snapshot_there_is_nothing_to_rotate() {
    let world = World::ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(1).says("no snapshot");
}

/// Anything can be encrypted to the operator's recipient: another identity, or a list of them.
#[test]
fn a_key_file_with_another_a_second_or_a_plugin_identity_is_refused() {
    let world = ready();
    let own = fs::read_to_string(world.path("operator.key")).unwrap();
    let public: age::x25519::Recipient =
        own.split("public key: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let secret = || age::x25519::Identity::generate().to_string().expose_secret().to_owned();
    let bob = person(&world, "bob");
    let first = world.path("repository/keys/1/1.age");
    let real = fs::read(&first).unwrap();
    let real_identity = {
        let operator = own.lines().find(|line| line.starts_with("AGE-")).unwrap().parse::<age::x25519::Identity>();
        String::from_utf8(age::decrypt(&operator.unwrap(), &real).unwrap()).unwrap()
    };
    for text in [secret(), format!("{real_identity}{}\n", secret()), "AGE-PLUGIN-TEST-1QQQQQQQQ\n".to_owned()] {
        fs::write(&first, age::encrypt(&public, text.as_bytes()).unwrap()).unwrap();
        let key = world.text("operator.key");
        let restore = ["restore", "--to", &world.text("nowhere"), "-i", &key];
        world.other_host("reader").sealift(&restore).exits(13).says("keys/1/1.age");
        keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(13).says("keys/1/1.age");
        keys(&world, &["confirm"], &["operator"]).exits(13).says("keys/1/1.age");
    }
    // Next to the real one it is noise.
    fs::write(world.path("repository/keys/1/7.age"), age::encrypt(&public, secret().as_bytes()).unwrap()).unwrap();
    fs::write(&first, &real).unwrap();
    assert!(opens(&world, "operator", 2));
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    assert_eq!(versions(&world, 1), ["2.age", "7.age"]);
    assert!(opens(&world, "bob", 2));
}

#[test]
fn a_new_identity_names_repository_and_signer_where_they_are_known() {
    let world = ready();
    let file = world.text("carol.key");
    let json = world.sealift(&["keys", "new", &file, "--no-passphrase", "--json"]).exits(0).json();
    let text = fs::read_to_string(world.path("carol.key")).unwrap();
    assert!(text.contains("# signer: ssh-ed25519 ") && text.contains("# repository: "), "{text}");
    let carol = json["recipient"].as_str().unwrap().to_owned();
    assert!(text.contains(&carol));
    keys(&world, &["add", "-r", &carol], &["operator"]).exits(0);
    assert!(opens(&world, "carol", 1));
    world.sealift(&["keys", "new", &file, "--no-passphrase"]).exits(15).says("already exists");
    // Unpinned, nothing is vouched for.
    let output =
        world.other_host("newcomer").sealift(&["keys", "new", &world.text("dan.key"), "--no-passphrase"]).exits(0);
    output.says("unpinned-signer");
    assert!(!fs::read_to_string(world.path("dan.key")).unwrap().contains("signer"));
}

#[test]
fn a_confirmation_leaves_a_receipt_signed_by_the_operators_own_key() {
    let world = ready();
    let json = keys(&world, &["confirm"], &["operator"]).exits(0).json();
    let signer = json["receipt_signer"].as_str().unwrap();
    let folder = fs::read_dir(world.path("repository/receipts")).unwrap();
    let receipts: Vec<_> = folder.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert_eq!(receipts.len(), 1);
    let line: Value = serde_json::from_slice(receipts[0].split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(
        (&line["kind"], &line["sequence"], &line["epochs"]),
        (&"confirm".into(), &2.into(), &serde_json::json!([1]))
    );
    let signed = sealift::crypto::Signed::verify(receipts[0].clone().into()).unwrap();
    assert_eq!(signed.signer().to_string(), signer);
    let config = fs::read(world.record(1)).unwrap();
    let host = sealift::crypto::Signed::verify(config.into()).unwrap();
    assert_ne!(signed.signer(), host.signer());
}
