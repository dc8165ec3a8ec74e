//! The host's side of keys: it rebases without an identity, keeps what it saw, and never brings back what a receipt
//! explains.

use std::fs;
use std::path::PathBuf;

use age::secrecy::ExposeSecret;

use crate::keys::{keys, opens, person, ready, secret, versions};
use crate::support::s3s::{S3s, Side};
use crate::support::world::{World, copy_tree, tree};

fn own_recipient(world: &World) -> String {
    let config = fs::read_to_string(world.config()).unwrap();
    config.split('"').find(|word| word.starts_with("age1")).unwrap().to_owned()
}

fn operators_key(world: &World) -> age::x25519::Identity {
    secret(world, "operator")
}

/// Every object below `keys/` that the operator of `init` can open.
fn opened_by_operator(world: &World) -> Vec<PathBuf> {
    let key = operators_key(world);
    let objects = tree(&world.path("repository/keys")).into_iter().filter(|(path, _)| path.is_file());
    objects.filter(|(_, (_, _, bytes))| age::decrypt(&key, bytes).is_ok()).map(|(path, _)| path).collect()
}

fn rotated_to_bob() -> (World, String) {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    (world, bob)
}

#[test]
fn after_a_rebase_the_new_recipient_alone_restores_the_new_snapshot() {
    let world = ready();
    let bob = person(&world, "bob");
    // A removed recipient may have kept the data identity.
    let wrapped = fs::read(world.path("repository/keys/1/1.age")).unwrap();
    fs::write(world.path("kept.key"), age::decrypt(&operators_key(&world), &wrapped).unwrap()).unwrap();
    let now = world.sources();
    let json = world.sealift(&["keys", "rebase", "-r", &bob, "--json"]).exits(0).json();
    assert_eq!((&json["epoch"], &json["sequence"], &json["resumed"]), (&2.into(), &3.into(), &false.into()));
    let data_identity = fs::read_to_string(world.path("kept.key")).unwrap();
    let data_identity: age::x25519::Identity = data_identity.lines().last().unwrap().parse().unwrap();
    let of_first: Vec<PathBuf> = [1, 2].into_iter().flat_map(|snapshot| world.packs(snapshot)).collect();
    assert!(age::decrypt(&data_identity, &fs::read(&of_first[0]).unwrap()).is_ok(), "it opens old packs");
    for object in world.packs(3).into_iter().chain([world.manifest(3), world.path("repository/keys/2/1.age")]) {
        assert!(!of_first.contains(&object));
        let bytes = fs::read(&object).unwrap();
        assert!(age::decrypt(&data_identity, &bytes).is_err() && age::decrypt(&operators_key(&world), &bytes).is_err());
    }
    assert!(opens(&world, "bob", 3) && !opens(&world, "operator", 3) && opens(&world, "operator", 2));
    world.backup();
    assert!(opens(&world, "bob", 4) && !opens(&world, "operator", 4));
    let restore = ["restore", "3", "-i", &world.text("bob.key"), "--to", &world.text("by-bob")];
    world.other_host("reader").sealift(&restore).exits(0);
    assert!(fs::read(world.path("by-bob/trinity.db")).unwrap() == now.database);
}

#[test]
fn a_rebase_writes_the_recipients_that_are_named_into_the_configuration_and_leaves_the_rest() {
    let world = ready();
    let bob = person(&world, "bob");
    let config = fs::read_to_string(world.config()).unwrap();
    let mine = config.replace("recipients = ", "# who may read\nrecipients = ");
    fs::write(world.config(), &mine).unwrap();
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0).says("epoch 2");
    let own = config.split('"').find(|word| word.starts_with("age1")).unwrap();
    assert_eq!(fs::read_to_string(world.config()).unwrap(), mine.replace(own, &bob));
    let output = world.sealift(&["backup", "--json"]).exits(0);
    assert!(!output.warnings().contains(&"recipients-changed".to_owned()), "{output:?}");
}

#[test]
fn other_recipients_in_the_configuration_are_a_warning_that_names_the_rebase_and_no_more() {
    let world = ready();
    let bob = person(&world, "bob");
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config.replace(&own_recipient(&world), &bob)).unwrap();
    let output = world.sealift(&["backup", "--json"]).exits(0);
    assert!(output.warnings().contains(&"recipients-changed".to_owned()), "{output:?}");
    assert!(opens(&world, "operator", 3) && !opens(&world, "bob", 3));
    world.sealift(&["keys", "rebase"]).exits(0);
    let output = world.sealift(&["backup", "--json"]).exits(0);
    assert!(!output.warnings().contains(&"recipients-changed".to_owned()), "{output:?}");
    assert!(opens(&world, "bob", 5) && !opens(&world, "operator", 5));
}

#[test]
fn after_a_rotation_elsewhere_a_rebase_wants_the_set_named() {
    let (world, bob) = rotated_to_bob();
    let before = tree(&world.path("repository"));
    // Refused also before any backup has seen the new key file.
    world.sealift(&["keys", "rebase"]).exits(15);
    assert_eq!(tree(&world.path("repository")), before);
    world.backup();
    world.sealift(&["keys", "rebase"]).exits(15);
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    assert!(opens(&world, "bob", 4));
}

#[test]
fn ten_backups_and_a_rebase_after_a_rotation_elsewhere_never_restore_the_old_key_file() {
    let (world, bob) = rotated_to_bob();
    for round in 0..10 {
        if round % 2 == 0 {
            world.add_rows(1);
        } else {
            world.an_hour_later();
        }
        let output = world.sealift(&["backup", "--json"]).exits(0);
        assert!(output.warnings().contains(&"key-files-new".to_owned()), "{output:?}");
    }
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    // As after a restart with an empty cache.
    fs::remove_file(world.state_of_repository().join("catalog")).unwrap();
    world.backup();
    assert_eq!(opened_by_operator(&world), [] as [PathBuf; 0]);
    assert!([1, 12, 13].into_iter().all(|snapshot| opens(&world, "bob", snapshot)));
    // Nor when the new key is lost: the host has a copy of that one, too.
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    world.an_hour_later();
    world.sealift(&["backup", "--json"]).exits(3).says("key-files-restored");
    assert_eq!((versions(&world, 1), versions(&world, 2)), (vec!["2.age".to_owned()], vec!["1.age".to_owned()]));
    assert_eq!(opened_by_operator(&world), [] as [PathBuf; 0]);
    assert!([1, 14].into_iter().all(|snapshot| opens(&world, "bob", snapshot)));
}

#[test]
fn of_a_rotation_that_is_not_proved_both_key_files_come_back() {
    let world = ready();
    let lost = age::x25519::Identity::generate().to_public().to_string();
    keys(&world, &["rotate", "-r", &lost], &["operator"]).exits(3);
    world.an_hour_later();
    world.backup();
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    world.an_hour_later();
    world.sealift(&["backup", "--json"]).exits(3);
    assert_eq!(versions(&world, 1), ["1.age", "2.age"]);
    assert!(opens(&world, "operator", 4));
}

#[test]
fn with_two_epochs_and_an_identity_that_opens_one_the_other_is_left_and_named() {
    let world = ready();
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    let proof = world.text("carol.key");
    let output = keys(&world, &["rotate", "-r", &carol, "--proof", &proof], &["bob"]).exits(3);
    assert_eq!(output.json()["unopened"], serde_json::json!([1]));
    assert!(output.warnings().contains(&"epoch-not-opened".to_owned()));
    assert!(opens(&world, "operator", 1) && !opens(&world, "carol", 1));
    assert!(opens(&world, "carol", 3) && !opens(&world, "bob", 3));
    // Adding keeps the set of each epoch apart.
    let dan = person(&world, "dan");
    keys(&world, &["add", "-r", &dan], &["operator", "carol"]).exits(0);
    assert!(opens(&world, "operator", 1) && !opens(&world, "carol", 1) && opens(&world, "dan", 1));
    assert!(opens(&world, "carol", 3) && opens(&world, "dan", 3));
    keys(&world, &["confirm"], &["carol"]).exits(3);
    keys(&world, &["confirm"], &["dan"]).exits(0);
    let rows = keys_of_snapshots(&world, "dan");
    assert_eq!(rows[0]["recipients"].as_array().unwrap().len(), 2);
    assert_eq!(rows[2]["former"], serde_json::json!([bob]));
}

fn keys_of_snapshots(world: &World, identity: &str) -> serde_json::Value {
    let key = world.text(&format!("{identity}.key"));
    world.other_host("operator").sealift(&["snapshots", "-i", &key, "--json"]).exits(0).rows()
}

#[test]
fn garbage_in_the_place_of_the_good_key_file_is_answered_with_the_copy_of_the_host() {
    for well_formed in [false, true] {
        let world = ready();
        let other = age::x25519::Identity::generate();
        let garbage = match well_formed {
            true => age::encrypt(&other.to_public(), other.to_string().expose_secret().as_bytes()).unwrap(),
            false => b"garbage".to_vec(),
        };
        fs::write(world.path("repository/keys/1/2.age"), garbage).unwrap();
        fs::remove_file(world.path("repository/keys/1/1.age")).unwrap();
        assert!(!opens_or_damaged(&world));
        world.an_hour_later();
        let output = world.sealift(&["backup", "--json"]).exits(3);
        assert!(output.warnings().contains(&"key-files-restored".to_owned()), "{output:?}");
        assert_eq!(versions(&world, 1), ["1.age", "2.age"]);
        assert!([1, 3].into_iter().all(|snapshot| opens(&world, "operator", snapshot)));
        let key = world.text("operator.key");
        let json = world.sealift(&["keys", "restore", "-i", &key, "--json"]).exits(0).json();
        assert_eq!((&json["open"], &json["restored"]), (&serde_json::json!([1]), &serde_json::json!([])));
    }
}

fn opens_or_damaged(world: &World) -> bool {
    let restore = ["restore", "--to", &world.text("nowhere"), "-i", &world.text("operator.key")];
    let output = world.other_host("reader").sealift(&restore);
    assert!([0, 12, 13].contains(&output.code), "{output:?}");
    output.code == 0
}

#[test]
fn an_operator_restores_a_key_file_from_copies_of_the_host() {
    let world = ready();
    copy_tree(&world.state_of_repository().join("keys"), &world.path("copies"));
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    person(&world, "other");
    let from = ["restore", "--from", &world.text("copies")];
    keys(&world, &from, &["other"]).exits(12);
    keys(&world, &["restore"], &["operator"]).exits(2).says("--from");
    keys(&world, &from, &["operator"]).exits(0);
    assert!(opens(&world, "operator", 2));
}

#[test]
fn a_host_restored_to_before_a_rebase_does_not_encrypt_to_the_removed_recipient_again() {
    let world = ready();
    let bob = person(&world, "bob");
    copy_tree(&world.state(), &world.path("image"));
    let config = fs::read(world.config()).unwrap();
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    set_back(&world, "image", &config);
    world.sealift(&["backup"]).exits(16).says("--adopt");
    world.sealift(&["keys", "rebase"]).exits(16);
    world.add_rows(3);
    world.sealift(&["backup", "--adopt", "--json"]).exits(0);
    world.sealift(&["keys", "rebase"]).exits(15);
    world.backup();
    for snapshot in [4, 5] {
        assert!(opens(&world, "bob", snapshot) && !opens(&world, "operator", snapshot), "{snapshot}");
    }
}

#[test]
fn adopting_after_the_bucket_was_rolled_back_does_not_undo_a_rebase() {
    let world = ready();
    let bob = person(&world, "bob");
    copy_tree(&world.path("repository"), &world.path("older"));
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    fs::remove_dir_all(world.path("repository")).unwrap();
    fs::rename(world.path("older"), world.path("repository")).unwrap();
    world.sealift(&["backup"]).exits(16).says("--adopt");
    world.add_rows(3);
    let adopted = world.sealift(&["backup", "--adopt", "--json"]).exits(3);
    assert!(adopted.warnings().contains(&"key-files-restored".to_owned()), "{adopted:?}");
    let snapshot = adopted.json()["sequence"].as_u64().unwrap();
    assert!(opens(&world, "bob", snapshot) && !opens(&world, "operator", snapshot));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rebase_continues_in_the_epoch_that_it_began() {
    for (part, side) in [
        ("/packs/", Side::Before),
        ("/packs/", Side::After),
        ("/manifests/", Side::After),
        ("/snapshots/", Side::Before),
        ("/snapshots/", Side::After),
    ] {
        for by_backup in [false, true] {
            let server = S3s::start().await;
            let world = World::in_bucket(&server);
            world.backup();
            let bob = person(&world, "bob");
            let held = server.hold("PUT", part, side);
            let running = world.start(&["keys", "rebase", "-r", &bob]);
            held.reached();
            running.kill();
            let packs = || tree(&server.bucket_folder().join("trinity/packs")).len();
            if by_backup {
                world.backup();
            } else {
                let json = world.sealift(&["keys", "rebase", "-r", &bob, "--json"]).exits(0).json();
                assert_eq!((&json["epoch"], &json["resumed"]), (&2.into(), &true.into()), "{part} {side:?}");
            }
            let before = packs();
            let sequence = world.backup();
            assert_eq!(packs(), before);
            assert!(opens(&world, "bob", sequence) && !opens(&world, "operator", sequence), "{part} {side:?}");
        }
    }
}

#[test]
fn a_machine_that_is_not_the_host_cannot_rebase() {
    let world = ready();
    let bob = person(&world, "bob");
    let other = world.other_host("other");
    let config = fs::read_to_string(world.config()).unwrap().replace("host-state", "other-state");
    fs::write(other.config(), &config).unwrap();
    other.sealift(&["keys", "rebase", "-r", &bob]).exits(16);
    assert_eq!(fs::read_to_string(other.config()).unwrap(), config);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebase_that_is_killed_at_its_key_continues_without_naming_the_set_again() {
    for (method, side) in [("PUT", Side::Before), ("PUT", Side::After), ("GET", Side::Before)] {
        let server = S3s::start().await;
        let world = World::in_bucket(&server);
        world.backup();
        world.backup();
        let held = server.hold(method, "/keys/2/1.age", side);
        let running = world.start(&["keys", "rebase"]);
        held.reached();
        running.kill();
        world.sealift(&["keys", "rebase"]).exits(0);
        let output = world.sealift(&["backup", "--json"]).exits(0);
        assert!(opens(&world, "operator", 3), "{method} {side:?}");
        for name in ["key-files-new", "key-files-restored"] {
            assert!(!output.warnings().contains(&name.to_owned()), "{output:?}");
        }
    }
}

/// The machine as it was when `image` was copied from it, and its configuration.
fn set_back(world: &World, image: &str, config: &[u8]) {
    fs::remove_dir_all(world.state()).unwrap();
    fs::rename(world.path(image), world.state()).unwrap();
    fs::write(world.config(), config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_restored_to_before_an_unfinished_rebase_shows_its_key_file_as_new_and_rebases_only_for_a_named_set() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let bob = person(&world, "bob");
    copy_tree(&world.state(), &world.path("image"));
    let config = fs::read(world.config()).unwrap();
    let held = server.hold("PUT", "/packs/", Side::Before);
    let running = world.start(&["keys", "rebase", "-r", &bob]);
    held.reached();
    running.kill();
    set_back(&world, "image", &config);
    for _ in 0..2 {
        world.add_rows(3);
        let output = world.sealift(&["backup", "--json"]).exits(0).says("keys/2/1.age");
        assert!(output.warnings().contains(&"key-files-new".to_owned()), "{output:?}");
        world.sealift(&["status", "--json"]).exits(0).says("key-files-new");
    }
    world.sealift(&["keys", "rebase"]).exits(15);
    let json = world.sealift(&["keys", "rebase", "-r", &bob, "--json"]).exits(0).json();
    assert_eq!(json["epoch"], 3);
    let sequence = world.backup();
    assert!(opens(&world, "bob", sequence) && !opens(&world, "operator", sequence));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebase_during_a_rotation_elsewhere_takes_no_snapshot_until_the_set_is_named() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let bob = person(&world, "bob");
    let held = server.hold("PUT", "/keys/2/1.age", Side::Before);
    let rebase = world.start(&["keys", "rebase", "--json"]);
    held.reached();
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    held.release();
    rebase.wait().exits(15);
    world.add_rows(3);
    let sequence = world.backup();
    assert!(opens(&world, "bob", sequence) && !opens(&world, "operator", sequence));
    // A person who names the set decides.
    let held = server.hold("PUT", "/keys/3/1.age", Side::Before);
    let rebase = world.start(&["keys", "rebase", "-r", &bob, "--json"]);
    held.reached();
    keys(&world, &["rotate", "-r", &bob], &["bob"]).exits(0).says("keys/2/1.age");
    held.release();
    let sequence = rebase.wait().exits(0).json()["sequence"].as_u64().unwrap();
    assert!(opens(&world, "bob", sequence) && !opens(&world, "operator", sequence));
}

/// What was listed is not what is there, nor ever was: a listing takes its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_appears_after_the_listing_is_no_reason_to_restore_another() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    let folder = server.bucket_folder().join("trinity/keys/1");
    let second = fs::read(folder.join("2.age")).unwrap();
    fs::remove_file(folder.join("2.age")).unwrap();
    world.add_rows(3);
    let held = server.hold("GET", "/snapshots/", Side::Before);
    let backup = world.start(&["backup", "--json"]);
    held.reached();
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("2.age"), second).unwrap();
    held.release();
    let output = backup.wait().exits(0);
    assert!(output.warnings().contains(&"key-files-new".to_owned()), "{output:?}");
    let names: Vec<_> = tree(&folder).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["2.age"]);
    let sequence = output.json()["sequence"].as_u64().unwrap();
    assert!(opens(&world, "bob", sequence) && !opens(&world, "operator", sequence));
}
