//! Wrapped keys that others put into the repository: a host tells what it cannot vouch for until somebody does.

use std::fs;
use std::path::PathBuf;

use age::secrecy::ExposeSecret;

use crate::keys::{generations, keys, opens, operator, person, ready, secret};
use crate::support::world::{Output, World};

/// A data identity of a stranger's, sealed for himself, in exactly as many bytes.
fn of_a_stranger(bytes: usize) -> Vec<u8> {
    let stranger = age::x25519::Identity::generate();
    let text = stranger.to_string().expose_secret().to_owned();
    // How much age strews into the header is left to chance.
    (0..)
        .map(|_| age::encrypt(&stranger.to_public(), text.as_bytes()).unwrap())
        .find_map(|short| {
            let comment = "#".repeat(bytes.checked_sub(short.len())?.checked_sub(1)?);
            let padded = age::encrypt(&stranger.to_public(), format!("{comment}\n{text}").as_bytes()).unwrap();
            (padded.len() == bytes).then_some(padded)
        })
        .unwrap()
}

fn first(world: &World) -> PathBuf {
    world.path("repository/keys/1/1.age")
}

pub fn backs_up(world: &World, code: i32) -> Vec<String> {
    world.sealift(&["backup", "--json"]).exits(code).warnings()
}

pub fn named(warnings: &[String], name: &str) -> bool {
    warnings.iter().any(|warning| warning == name)
}

/// The host believes receipts of the operator's machine from now on.
pub fn believe(world: &World, signer: &str) {
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("drill_signers = [{signer:?}]\n{config}")).unwrap();
}

/// The operator's machine confirms: the signer of its receipt.
pub fn confirms(world: &World, identity: &str) -> String {
    let json = keys(world, &["confirm"], &[identity]).exits(0).json();
    json["receipt_signer"].as_str().unwrap().to_owned()
}

fn restores_keys(world: &World) -> Output {
    world.sealift(&["keys", "restore", "-i", &world.text("operator.key"), "--json"])
}

#[test]
fn a_key_that_is_exchanged_in_its_place_is_in_doubt_until_a_person_acts() {
    for longer in [0, 7] {
        let world = ready();
        let real = fs::read(first(&world)).unwrap();
        fs::write(first(&world), of_a_stranger(real.len() + longer)).unwrap();
        world.sealift(&["check"]).exits(13).says("keys/1/1.age");
        for _ in 0..3 {
            let output = world.sealift(&["backup", "--json"]).exits(3);
            assert!(named(&output.warnings(), "keys-exchanged") && !output.all().contains("  "), "{output:?}");
            world.sealift(&["check"]).exits(13).says("keys/1/1.age");
        }
        let output = restores_keys(&world).exits(3);
        assert!(output.warnings().contains(&"removed-recipient-back".to_owned()), "{output:?}");
        assert_eq!(output.json()["put"][0]["generation"], 2);
        let warnings = backs_up(&world, 0);
        assert!(!named(&warnings, "keys-exchanged") && named(&warnings, "keys-unproved"), "{warnings:?}");
        world.sealift(&["check"]).exits(0);
        confirms(&world, "operator");
        assert_eq!(generations(&world, 1), ["2.age"]);
        let warnings = backs_up(&world, 0);
        assert!(!named(&warnings, "keys-exchanged") && !named(&warnings, "keys-unproved"), "{warnings:?}");
        assert!(opens(&world, "operator", 1));
    }
}

#[test]
fn a_key_that_is_as_it_was_is_fetched_once_and_then_no_more() {
    let world = ready();
    let gets = |output: Output| output.exits(0).json()["requests"]["get"].as_u64().unwrap();
    let before = gets(world.sealift(&["backup", "--json"]));
    // As a copied bucket has it: other times, the same bytes.
    let real = fs::read(first(&world)).unwrap();
    fs::write(first(&world), real).unwrap();
    let output = world.sealift(&["backup", "--json"]);
    assert!(!output.warnings().contains(&"keys-exchanged".to_owned()), "{output:?}");
    assert_eq!(gets(output), before + 1);
    assert_eq!(gets(world.sealift(&["backup", "--json"])), before);
}

#[test]
fn what_was_made_elsewhere_is_told_at_every_backup_until_a_believed_receipt_proves_it() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    assert!(named(&backs_up(&world, 0), "keys-found"));
    assert!(!world.sealift(&["backup"]).exits(0).all().contains("no other key is left"), "the first is still there");
    for _ in 0..2 {
        let warnings = backs_up(&world, 0);
        assert!(named(&warnings, "keys-unproved") && !named(&warnings, "keys-found"), "{warnings:?}");
    }
    world.sealift(&["check"]).exits(0).says("keys-unproved");
    let signer = confirms(&world, "bob");
    assert!(named(&backs_up(&world, 0), "keys-unproved"), "the host does not believe that signer");
    believe(&world, &signer);
    assert!(!named(&backs_up(&world, 0), "keys-unproved"));
    assert!(!world.sealift(&["check"]).exits(0).all().contains("keys-unproved"));
    // What is proved when the host first sees it is no news.
    let carol = person(&world, "carol");
    keys(&world, &["rotate", "-r", &carol, "--proof", &world.text("carol.key")], &["bob"]).exits(0);
    confirms(&world, "carol");
    let warnings = backs_up(&world, 0);
    assert!(!named(&warnings, "keys-unproved") && !named(&warnings, "keys-found"), "{warnings:?}");
    // A receipt about one key says nothing about another.
    let third = world.path("repository/keys/1/3.age");
    fs::write(world.path("repository/keys/1/4.age"), of_a_stranger(900)).unwrap();
    fs::remove_file(&third).unwrap();
    // Nor is any other left that somebody vouched for, though there is somebody who could.
    assert!(named(&backs_up(&world, 3), "keys-found") && named(&backs_up(&world, 3), "keys-unproved"));
    world.sealift(&["status"]).exits(3).says("no other key is left");
}

#[test]
fn a_drill_that_passed_proves_the_key_that_it_was_opened_with() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    backs_up(&world, 0);
    let drill = operator(&world).sealift(&["drill", "-i", &world.text("bob.key"), "--json"]).exits(0).json();
    believe(&world, drill["signer"].as_str().unwrap());
    assert!(!named(&backs_up(&world, 0), "keys-unproved"));
}

#[test]
fn whoever_fills_the_bucket_with_keys_stops_no_backup() {
    let world = ready();
    let bob = person(&world, "bob");
    let planted = world.path("repository/keys/9");
    fs::create_dir(&planted).unwrap();
    for generation in 1..=300 {
        fs::write(planted.join(format!("{generation}.age")), b"noise").unwrap();
    }
    assert!(named(&backs_up(&world, 3), "keys-not-kept"));
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(3);
    assert!(named(&backs_up(&world, 3), "keys-not-kept"));
    // Once the noise is gone it makes room.
    fs::remove_dir_all(&planted).unwrap();
    backs_up(&world, 0);
    assert!(!named(&backs_up(&world, 0), "keys-not-kept"));
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    assert!(named(&backs_up(&world, 3), "keys-put-back"));
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}

#[test]
fn one_recipient_alone_is_what_the_keys_say_and_not_the_configuration() {
    let world = ready();
    let alone = |world: &World| named(&backs_up(world, 0), "single-recipient");
    assert!(alone(&world));
    let bob = person(&world, "bob");
    keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
    assert!(!alone(&world));
    keys(&world, &["remove", "-r", &bob], &["operator"]).exits(0);
    assert!(alone(&world));
    // A stranger's key for many beside it changes nothing.
    let signer = confirms(&world, "operator");
    believe(&world, &signer);
    assert!(alone(&world));
    let people: Vec<age::x25519::Recipient> = (0..3).map(|_| age::x25519::Identity::generate().to_public()).collect();
    let recipients = people.iter().map(|person| person as &dyn age::Recipient);
    let mut sealed = Vec::new();
    let mut writer = age::Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut sealed).unwrap();
    std::io::Write::write_all(&mut writer, b"noise").unwrap();
    writer.finish().unwrap();
    fs::write(world.path("repository/keys/1/9.age"), sealed).unwrap();
    assert!(alone(&world));
}

#[test]
fn a_recovery_kit_of_the_host_holds_what_lay_there_before_an_exchange() {
    let world = ready();
    let real = fs::read(first(&world)).unwrap();
    fs::write(first(&world), of_a_stranger(real.len())).unwrap();
    // Before a backup has seen it, and after.
    for kit in ["first-kit", "second-kit"] {
        let output = world.sealift(&["recovery-kit", &world.text(kit), "--json"]).exits(3);
        assert!(named(&output.warnings(), "keys-exchanged"), "{output:?}");
        assert!(fs::read(world.path(kit).join("keys/1/1.age")).unwrap() == real);
        backs_up(&world, 3);
    }
}

#[test]
fn a_key_that_is_exchanged_and_then_deleted_is_put_back_as_it_was_before() {
    let world = ready();
    let real = fs::read(first(&world)).unwrap();
    for _ in 0..2 {
        fs::write(first(&world), of_a_stranger(real.len())).unwrap();
        assert!(named(&backs_up(&world, 3), "keys-exchanged"));
    }
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    assert!(named(&backs_up(&world, 3), "keys-put-back"));
    assert!(fs::read(first(&world)).unwrap() == real && opens(&world, "operator", 1));
    let warnings = backs_up(&world, 0);
    assert!(!named(&warnings, "keys-exchanged") && !named(&warnings, "keys-unproved"), "{warnings:?}");
}

#[test]
fn a_key_that_is_planted_above_all_others_is_removed_when_a_person_says_so() {
    for number in [2, 4_000_000] {
        let world = ready();
        let bob = person(&world, "bob");
        let planted = world.path(&format!("repository/keys/1/{number}.age"));
        fs::write(&planted, of_a_stranger(900)).unwrap();
        for stuck in [&["add", "-r", &bob][..], &["remove", "-r", &bob]] {
            keys(&world, stuck, &["operator"]).exits(15).says("keys confirm --remove-newer");
        }
        let output = keys(&world, &["confirm"], &["operator"]).exits(3).says("--remove-newer");
        assert!(named(&output.warnings(), "newer-generation") && planted.exists(), "{output:?}");
        keys(&world, &["confirm", "--remove-newer"], &["bob"]).exits(12);
        assert!(planted.exists() && first(&world).exists());
        let json = keys(&world, &["confirm", "--remove-newer"], &["operator"]).exits(0).json();
        assert_eq!(json["epochs"][0]["deleted"], serde_json::json!([number]));
        assert_eq!(generations(&world, 1), ["1.age"]);
        keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
        assert!(opens(&world, "operator", 1) && opens(&world, "bob", 1));
    }
}

/// Puts generation `number` of epoch 1 there as whoever knows its data identity can: with these lines of comments.
pub fn forge(world: &World, number: u32, known: &str, sealed_for: &[&str], comments: &str) {
    let plain = age::decrypt(&secret(world, known), &fs::read(first(world)).unwrap()).unwrap();
    let key = String::from_utf8(plain).unwrap().lines().find(|line| line.starts_with("AGE-")).unwrap().to_owned();
    let people: Vec<age::x25519::Recipient> = sealed_for.iter().map(|one| secret(world, one).to_public()).collect();
    let recipients = people.iter().map(|person| person as &dyn age::Recipient);
    let mut sealed = Vec::new();
    let mut writer = age::Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut sealed).unwrap();
    std::io::Write::write_all(&mut writer, format!("{comments}{key}\n").as_bytes()).unwrap();
    writer.finish().unwrap();
    fs::write(world.path(&format!("repository/keys/1/{number}.age")), sealed).unwrap();
}

#[test]
fn a_key_that_is_for_more_than_it_names_is_not_confirmed_and_the_good_one_stays() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    // Named twice, he is still one.
    for comments in [format!("# recipient: {bob}\n"), format!("# recipient: {bob}\n").repeat(2), String::new()] {
        forge(&world, 3, "operator", &["bob", "operator"], &comments);
        let output = keys(&world, &["confirm"], &["bob"]).exits(3).says("keys/1/3.age is sealed for 2");
        assert!(named(&output.warnings(), "recipients-unnamed"), "{output:?}");
        let json = output.json();
        assert_eq!((&json["epochs"][0]["proved"], &json["receipt_signer"]), (&false.into(), &serde_json::Value::Null));
        assert_eq!(generations(&world, 1), ["1.age", "2.age", "3.age"]);
        keys(&world, &["list"], &["bob"]).exits(3).says("keys/1/3.age is sealed for 2");
    }
    // What it says to do ends it.
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["bob"]).exits(0);
    assert_eq!(generations(&world, 1), ["4.age"]);
    keys(&world, &["confirm"], &["bob"]).exits(0);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}

#[test]
fn a_key_for_somebody_whom_an_earlier_one_names_as_removed_is_not_confirmed() {
    let world = ready();
    let (bob, known) = (person(&world, "bob"), fs::read(first(&world)).unwrap());
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    let own = secret(&world, "operator").to_public();
    fs::write(first(&world), known).unwrap();
    forge(&world, 3, "operator", &["bob", "operator"], &format!("# recipient: {bob}\n# recipient: {own}\n"));
    fs::remove_file(first(&world)).unwrap();
    let output = keys(&world, &["confirm"], &["bob"]).exits(3).says("keys/1/2.age names as removed");
    assert!(named(&output.warnings(), "removed-recipient-back"), "{output:?}");
    assert_eq!(generations(&world, 1), ["2.age", "3.age"]);
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["bob"]).exits(0);
    keys(&world, &["confirm"], &["bob"]).exits(0);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}

#[test]
fn a_rotation_beside_a_planted_key_says_how_to_get_rid_of_it() {
    let world = ready();
    let bob = person(&world, "bob");
    fs::write(world.path("repository/keys/1/4000000.age"), of_a_stranger(900)).unwrap();
    let rotate = ["rotate", "-r", &bob, "--proof", &world.text("bob.key")];
    keys(&world, &rotate, &["operator"]).exits(3).says("keys confirm --remove-newer");
    assert_eq!(generations(&world, 1), ["2.age", "4000000.age"]);
    keys(&world, &["confirm", "--remove-newer"], &["bob"]).exits(0);
    assert_eq!(generations(&world, 1), ["2.age"]);
}

#[test]
fn whom_a_restored_key_lets_in_again_the_operators_put_out_as_they_are_told_to() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    // Its old number is taken, so that it gets one above bob's.
    fs::write(first(&world), of_a_stranger(900)).unwrap();
    restores_keys(&world).exits(3).says("keys confirm --remove-newer");
    assert!(opens(&world, "operator", 1));
    keys(&world, &["confirm"], &["bob"]).exits(3);
    keys(&world, &["confirm", "--remove-newer"], &["bob"]).exits(0);
    assert_eq!(generations(&world, 1), ["2.age"]);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}
