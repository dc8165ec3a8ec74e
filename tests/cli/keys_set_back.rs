//! Old wrapped keys that somebody puts back into the repository, perhaps for himself: a host that saw newer ones tells.

use std::fs;

use serde_json::json;

use crate::keys::{generations, keys, opens, operator, person, ready};
use crate::keys_exchanged::{backs_up, believe, confirms, named};
use crate::support::world::{Output, World};

fn key(world: &World, generation: u32) -> std::path::PathBuf {
    world.path(&format!("repository/keys/1/{generation}.age"))
}

fn rotate(world: &World, from: &str, to: &str) {
    let recipient = person(world, to);
    let proof = world.text(&format!("{to}.key"));
    keys(world, &["rotate", "-r", &recipient, "--proof", &proof], &[from]).exits(0);
    world.backup();
}

/// What a backup says of the keys; of none: that all is well.
#[track_caller]
fn backup_says(world: &World, name: Option<&str>) -> Output {
    let output = world.sealift(&["backup", "--json"]).exits(if name.is_some() { 3 } else { 0 });
    let warnings = output.warnings();
    let told: Vec<&str> = ["keys-set-back", "keys-exchanged"]
        .into_iter()
        .filter(|name| warnings.iter().any(|warning| warning == name))
        .collect();
    assert_eq!(told, Vec::from_iter(name), "{output:?}");
    output
}

fn kit(world: &World, name: &str) -> Vec<(String, Vec<u8>)> {
    let json = world.sealift(&["recovery-kit", &world.text(name), "--json"]).exits(3).json();
    let names = json["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
    names.map(|key| (key.clone(), fs::read(world.path(name).join(&key)).unwrap())).collect()
}

/// A removed recipient puts his old generation back in the place of the one that replaced it.
fn set_back(world: &World) -> [Vec<u8>; 2] {
    let old = fs::read(key(world, 1)).unwrap();
    rotate(world, "operator", "bob");
    let new = fs::read(key(world, 2)).unwrap();
    fs::remove_file(key(world, 2)).unwrap();
    fs::write(key(world, 1), &old).unwrap();
    [old, new]
}

#[test]
fn a_replaced_generation_that_is_back_is_in_doubt_until_the_newer_one_is() {
    let world = ready();
    let [old, new] = set_back(&world);
    for round in ["first", "second"] {
        // Before a backup has seen it, and after.
        world.sealift(&["check"]).exits(13).says("keys/1/1.age").says("keys restore");
        let kit = kit(&world, round);
        assert!(kit == [("keys/1/1.age".to_owned(), old.clone()), ("keys/1/2.age".to_owned(), new.clone())]);
        backup_says(&world, Some("keys-set-back")).says("keys/1/1.age").says("keys restore");
    }
    let list = world.sealift(&["keys", "list", "--json"]).exits(0).json();
    assert_eq!(
        (&list["epochs"][0]["generations"][0]["set_back"], &list["managed_by_rotation"]),
        (&json!(true), &json!(true))
    );
    world.sealift(&["keys", "rebase"]).exits(15).says("-r");
    assert_eq!(
        world.sealift(&["keys", "restore", "-i", &world.text("bob.key"), "--json"]).exits(3).json()["put"][0]["generation"],
        2
    );
    backup_says(&world, Some("keys-set-back"));
    keys(&world, &["confirm"], &["bob"]).exits(0);
    assert_eq!(generations(&world, 1), ["2.age"]);
    backup_says(&world, None);
    world.sealift(&["check"]).exits(0);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}

#[test]
fn an_old_generation_over_the_newest_is_in_doubt_and_the_newest_is_kept() {
    let world = ready();
    let old = fs::read(key(&world, 1)).unwrap();
    rotate(&world, "operator", "bob");
    rotate(&world, "bob", "carol");
    let newest = fs::read(key(&world, 3)).unwrap();
    fs::write(key(&world, 3), &old).unwrap();
    for round in ["first", "second"] {
        world.sealift(&["check"]).exits(13).says("keys/1/3.age");
        assert!(kit(&world, round) == [("keys/1/3.age".to_owned(), newest.clone())]);
        backup_says(&world, Some("keys-set-back"));
    }
    world.sealift(&["keys", "restore", "-i", &world.text("carol.key")]).exits(3);
    keys(&world, &["confirm"], &["carol"]).exits(0);
    assert_eq!(generations(&world, 1), ["4.age"]);
    backup_says(&world, None);
    assert!(opens(&world, "carol", 1) && !opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}

#[test]
fn an_operator_who_wanted_the_old_generation_says_so_or_rotates() {
    for rotates in [false, true] {
        let world = ready();
        set_back(&world);
        backup_says(&world, Some("keys-set-back"));
        world.sealift(&["status"]).exits(3).says("keys/1/1.age");
        if rotates {
            rotate(&world, "operator", "carol");
        } else {
            let json = keys(&world, &["confirm"], &["operator"]).exits(0).json();
            backup_says(&world, Some("keys-set-back"));
            believe(&world, json["receipt_signer"].as_str().unwrap());
        }
        backup_says(&world, None);
    }
    // Elsewhere nobody knows.
    let world = ready();
    set_back(&world);
    operator(&world).sealift(&["check"]).exits(0);
}

fn delete_all(world: &World) {
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
}

#[test]
fn whom_a_believed_receipt_put_out_the_host_does_not_put_back() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    world.backup();
    let signer = confirms(&world, "bob");
    believe(&world, &signer);
    assert_eq!(generations(&world, 1), ["2.age"]);
    delete_all(&world);
    assert!(named(&backs_up(&world, 3), "keys-put-back"));
    assert_eq!(generations(&world, 1), ["2.age"]);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
    backs_up(&world, 0);
}

#[test]
fn nothing_is_put_back_where_a_believed_receipt_is_of_a_key_that_the_host_never_saw() {
    let world = ready();
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let signer = confirms(&world, "bob");
    believe(&world, &signer);
    let newest = fs::read(key(&world, 2)).unwrap();
    delete_all(&world);
    world.sealift(&["backup"]).exits(13).says("keys restore");
    assert_eq!(generations(&world, 1), [] as [String; 0]);
    // Of an epoch that only older snapshots need, too.
    fs::create_dir_all(world.path("repository/keys/1")).unwrap();
    fs::write(key(&world, 2), &newest).unwrap();
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    fs::remove_dir_all(world.path("repository/keys/1")).unwrap();
    // By now the host has a copy.
    assert!(named(&backs_up(&world, 3), "keys-put-back"));
    assert_eq!(generations(&world, 1), ["2.age"]);
}

#[test]
fn an_old_epoch_whose_newest_key_the_host_never_saw_is_told_and_left() {
    let world = ready();
    let bob = person(&world, "bob");
    world.sealift(&["keys", "rebase"]).exits(0);
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let signer = confirms(&world, "bob");
    believe(&world, &signer);
    fs::remove_dir_all(world.path("repository/keys/1")).unwrap();
    for _ in 0..2 {
        assert!(named(&backs_up(&world, 3), "keys-not-put-back"));
        assert_eq!(generations(&world, 1), [] as [String; 0]);
    }
    assert_eq!(generations(&world, 2), ["2.age"]);
}
