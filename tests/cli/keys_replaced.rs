//! Key files that others put into the repository, replaced or deleted: a host restores what no receipt explains.

use std::fs;
use std::path::PathBuf;

use age::secrecy::ExposeSecret;

use crate::keys::{keys, names, opens, operator, person, ready, secret, versions};
use crate::support::world::{Output, World};

/// A data identity of another person's, encrypted to that person, in exactly as many bytes.
fn foreign(bytes: usize) -> Vec<u8> {
    let other = age::x25519::Identity::generate();
    let text = other.to_string().expose_secret().to_owned();
    // How much age strews into the header is left to chance.
    (0..)
        .map(|_| age::encrypt(&other.to_public(), text.as_bytes()).unwrap())
        .find_map(|short| {
            let comment = "#".repeat(bytes.checked_sub(short.len())?.checked_sub(1)?);
            let padded = age::encrypt(&other.to_public(), format!("{comment}\n{text}").as_bytes()).unwrap();
            (padded.len() == bytes).then_some(padded)
        })
        .unwrap()
}

fn file(world: &World, version: u32) -> PathBuf {
    world.path(&format!("repository/keys/1/{version}.age"))
}

/// A backup that lists the whole repository.
fn backup(world: &World) -> Output {
    world.an_hour_later();
    world.sealift(&["backup", "--json"])
}

/// The codes of what it finds.
#[track_caller]
fn backs_up(world: &World, code: i32) -> Vec<String> {
    backup(world).exits(code).warnings()
}

fn named(warnings: &[String], name: &str) -> bool {
    warnings.iter().any(|warning| warning == name)
}

/// Puts version `number` of epoch 1 there as a person who knows its data identity can: with these lines of comments.
pub fn forge(world: &World, number: u32, known: &str, encrypted_to: &[&str], comments: &str) {
    let plain = age::decrypt(&secret(world, known), &fs::read(file(world, 1)).unwrap()).unwrap();
    let key = String::from_utf8(plain).unwrap().lines().find(|line| line.starts_with("AGE-")).unwrap().to_owned();
    let people: Vec<age::x25519::Recipient> = encrypted_to.iter().map(|one| secret(world, one).to_public()).collect();
    let recipients = people.iter().map(|person| person as &dyn age::Recipient);
    let mut sealed = Vec::new();
    let mut writer = age::Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut sealed).unwrap();
    std::io::Write::write_all(&mut writer, format!("{comments}{key}\n").as_bytes()).unwrap();
    writer.finish().unwrap();
    fs::write(file(world, number), sealed).unwrap();
}

#[test]
fn a_key_file_that_is_replaced_is_restored_under_the_next_version_and_the_other_bytes_stay() {
    for longer in [0, 7] {
        let world = ready();
        let real = fs::read(file(&world, 1)).unwrap();
        let other = foreign(real.len() + longer);
        fs::write(file(&world, 1), &other).unwrap();
        world.sealift(&["check"]).exits(13).says("keys/1/1.age");
        let output = backup(&world).exits(3).says("keys/1/2.age");
        assert!(named(&output.warnings(), "key-files-restored"), "{output:?}");
        assert!(fs::read(file(&world, 1)).unwrap() == other && fs::read(file(&world, 2)).unwrap() == real);
        assert!(opens(&world, "operator", 1));
        let warnings = backs_up(&world, 0);
        assert!(named(&warnings, "key-files-new") && !named(&warnings, "key-files-restored"), "{warnings:?}");
        assert_eq!(versions(&world, 1), ["1.age", "2.age"]);
        world.sealift(&["check"]).exits(0);
    }
}

#[test]
fn a_key_file_that_is_gone_is_restored_under_its_name_and_an_epoch_is_never_left_without() {
    let world = ready();
    let real = fs::read(file(&world, 1)).unwrap();
    for planted in [None, Some(foreign(900))] {
        fs::remove_file(file(&world, 1)).unwrap();
        if let Some(bytes) = planted {
            fs::write(file(&world, 2), bytes).unwrap();
        }
        assert!(named(&backs_up(&world, 3), "key-files-restored"));
        assert!(fs::read(file(&world, 1)).unwrap() == real);
    }
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    assert!(named(&backs_up(&world, 3), "key-files-restored"));
    assert_eq!(versions(&world, 1), ["1.age", "2.age"], "the host keeps what it saw, whatever made it");
    assert!(opens(&world, "operator", 5));
    backs_up(&world, 0);
}

#[test]
fn a_key_file_that_is_as_it_was_is_fetched_once_and_then_no_more() {
    let world = ready();
    let gets = |output: Output| output.exits(0).json()["requests"]["get"].as_u64().unwrap();
    let before = gets(backup(&world));
    // As a copied bucket has it: other times, the same bytes.
    let real = fs::read(file(&world, 1)).unwrap();
    fs::write(file(&world, 1), real).unwrap();
    let output = backup(&world);
    assert!(!named(&output.warnings(), "key-files-restored"), "{output:?}");
    assert_eq!(gets(output), before + 1);
    assert_eq!(gets(backup(&world)), before);
}

#[test]
fn a_key_file_that_was_made_elsewhere_is_a_note_for_the_grace_period() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    for _ in 0..2 {
        assert!(named(&backs_up(&world, 0), "key-files-new"));
    }
    let index = world.state_of_repository().join("keys/index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let long_ago = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(7 * 24 + 1)).unwrap();
    for copy in json["copies"].as_array_mut().unwrap() {
        copy["first_seen"] = serde_json::json!(long_ago);
    }
    fs::write(&index, json.to_string()).unwrap();
    assert!(!named(&backs_up(&world, 0), "key-files-new"));
}

#[test]
fn a_drill_that_passed_or_a_confirmation_explains_what_is_gone_and_nothing_else_does() {
    for (explained_by, brought_back) in [(None, true), (Some("drill"), false), (Some("confirm"), false)] {
        let world = ready();
        let bob = person(&world, "bob");
        keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
        backs_up(&world, 0);
        fs::remove_file(file(&world, 1)).unwrap();
        let key = world.text("bob.key");
        match explained_by {
            Some("drill") => drop(operator(&world).sealift(&["drill", "-i", &key, "--json"]).exits(0)),
            Some(_) => drop(keys(&world, &["confirm"], &["bob"]).exits(0)),
            None => {}
        }
        assert_eq!(named(&backs_up(&world, if brought_back { 3 } else { 0 }), "key-files-restored"), brought_back);
        assert_eq!(file(&world, 1).exists(), brought_back, "{explained_by:?}");
        assert!(opens(&world, "bob", 1));
        assert_eq!(opens(&world, "operator", 1), brought_back);
    }
}

#[test]
fn what_was_explained_once_is_not_put_back_and_keys_restore_can() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    backs_up(&world, 0);
    // Neither when the receipt is gone, nor when the key file that it named is.
    fs::remove_dir_all(world.path("repository/receipts")).unwrap();
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    assert!(named(&backs_up(&world, 3), "key-files-restored"));
    assert_eq!(versions(&world, 1), ["2.age"]);
    let output = world.sealift(&["keys", "restore", "-i", &world.text("operator.key"), "--json"]).exits(0);
    assert!(named(&output.warnings(), "key-files-unopened"), "{output:?}");
    assert_eq!(output.json()["restored"][0]["key_version"], 1);
    assert!(opens(&world, "operator", 1));
    // It is back, and new again.
    assert!(named(&backs_up(&world, 0), "key-files-new"));
    fs::remove_file(file(&world, 1)).unwrap();
    backs_up(&world, 0);
    assert_eq!(versions(&world, 1), ["2.age"]);
}

#[test]
fn a_bucket_full_of_key_files_stops_no_backup_and_no_restore_and_keys_changes_nothing() {
    let world = ready();
    let bob = person(&world, "bob");
    for version in 100..400 {
        fs::write(file(&world, version), b"noise").unwrap();
    }
    let warnings = backs_up(&world, 3);
    assert!(named(&warnings, "key-files-not-kept") && named(&warnings, "too-many-key-files"), "{warnings:?}");
    assert!(opens(&world, "operator", 1));
    let before = crate::support::world::tree(&world.path("repository"));
    for change in [&["rotate", "-r", &bob][..], &["add", "-r", &bob], &["confirm"]] {
        keys(&world, change, &["operator"]).exits(15);
    }
    assert!(crate::support::world::tree(&world.path("repository")) == before);
    assert!(named(&keys(&world, &["list"], &["operator"]).exits(3).warnings(), "too-many-key-files"));
    // What is no age file is nothing that the host would put back.
    for version in 100..400 {
        fs::remove_file(file(&world, version)).unwrap();
    }
    let warnings = backs_up(&world, 0);
    assert!(!named(&warnings, "key-files-not-kept") && !named(&warnings, "too-many-key-files"), "{warnings:?}");
    assert_eq!(versions(&world, 1), ["1.age"]);
    keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
}

#[test]
fn one_recipient_alone_is_what_the_newest_key_file_says_and_not_the_configuration() {
    let world = ready();
    let alone = |world: &World| named(&backs_up(world, 0), "single-recipient");
    assert!(alone(&world));
    let bob = person(&world, "bob");
    keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
    assert!(!alone(&world));
    keys(&world, &["remove", "-r", &bob], &["operator"]).exits(0);
    assert!(alone(&world));
}

#[test]
fn a_recovery_kit_of_the_host_holds_its_copies_of_an_epoch_that_has_no_key_file() {
    let world = ready();
    let real = fs::read(file(&world, 1)).unwrap();
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    let json = world.sealift(&["recovery-kit", &world.text("kit"), "--json"]).exits(0).json();
    assert_eq!((&json["version"], &json["keys"]), (&1.into(), &serde_json::json!(["keys/1/1.age"])));
    assert!(fs::read(world.path("kit/keys/1/1.age")).unwrap() == real);
    let elsewhere = operator(&world).sealift(&["recovery-kit", &world.text("empty-kit"), "--json"]).exits(3);
    assert!(named(&elsewhere.warnings(), "keys-missing"), "{elsewhere:?}");
    assert_eq!(names(&world.path("empty-kit/keys")), [] as [String; 0]);
}

#[test]
fn a_key_file_that_no_given_identity_opens_stays_and_is_named() {
    for (planted, next) in [(2, "3.age"), (4_000_000, "2.age")] {
        let world = ready();
        let bob = person(&world, "bob");
        fs::write(file(&world, planted), foreign(900)).unwrap();
        let output = keys(&world, &["add", "-r", &bob], &["operator"]).exits(0).says(&format!("keys/1/{planted}.age"));
        assert!(named(&output.warnings(), "key-files-unopened"), "{output:?}");
        assert_eq!(output.json()["epochs"][0]["deleted"], serde_json::json!([1]));
        assert!(file(&world, planted).exists());
        assert_eq!(versions(&world, 1).len(), 2);
        assert!(versions(&world, 1).contains(&next.to_owned()), "{:?}", versions(&world, 1));
        let output = keys(&world, &["confirm"], &["operator"]).exits(0);
        assert!(named(&output.warnings(), "key-files-unopened") && file(&world, planted).exists(), "{output:?}");
        assert!(opens(&world, "operator", 1) && opens(&world, "bob", 1));
    }
}

#[test]
fn a_receipt_that_cannot_be_stored_deletes_nothing() {
    let world = ready();
    let bob = person(&world, "bob");
    // A file in the place of the folder: nothing can be created in it.
    fs::write(world.path("repository/receipts"), b"").unwrap();
    let rotate = ["rotate", "-r", &bob, "--proof", &world.text("bob.key")];
    let output = keys(&world, &rotate, &["operator"]).exits(3);
    let warnings = output.warnings();
    assert!(named(&warnings, "receipt-not-stored") && named(&warnings, "rotation-not-proved"), "{output:?}");
    assert_eq!((&output.json()["epochs"][0]["proved"], versions(&world, 1).len()), (&false.into(), 2));
    let output = keys(&world, &["confirm"], &["operator", "bob"]).exits(3);
    assert!(named(&output.warnings(), "rotation-not-proved"), "{output:?}");
    assert_eq!(versions(&world, 1), ["1.age", "2.age"]);
    fs::remove_file(world.path("repository/receipts")).unwrap();
    keys(&world, &["confirm"], &["operator", "bob"]).exits(0);
    assert_eq!(versions(&world, 1), ["2.age"]);
}
