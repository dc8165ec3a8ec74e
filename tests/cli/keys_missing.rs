//! All key files are gone from the repository: what each command says, and the ways back.

use std::fs;

use serde_json::json;

use crate::keys::person;
use crate::support::world::World;

/// Three snapshots of one day, a recovery kit, and no key file any more.
fn without_key_files() -> World {
    let world = World::ready();
    for _ in 0..3 {
        world.add_rows(5);
        world.backup();
    }
    world.sealift(&["recovery-kit", &world.text("kit")]).exits(0);
    fs::rename(world.path("repository/keys"), world.path("away")).unwrap();
    world
}

#[test]
fn retention_deletes_nothing_while_key_files_are_missing() {
    let world = without_key_files();
    let plan = world.sealift(&["retain", "--keep-daily", "14", "--json"]).exits(3);
    assert_eq!(plan.json()["refused"], true);
    world.sealift(&["retain", "--keep-daily", "14", "--apply"]).exits(15).says("epoch 1").says("sealift backup");
    assert!((1..=3).all(|sequence| world.record(sequence).exists()));
    // The way out that it names.
    world.add_rows(1);
    world.sealift(&["backup", "--json"]).exits(3);
    world.sealift(&["retain", "--keep-daily", "14", "--apply", "--json"]).exits(0);
}

#[test]
fn keys_are_listed_as_missing_and_not_changed() {
    let world = without_key_files();
    let (bob, identity) = (person(&world, "bob"), world.text("operator.key"));
    let list = world.sealift(&["keys", "list", "--json"]).exits(3);
    assert_eq!(list.warnings(), ["keys-missing"]);
    world.sealift(&["keys", "add", "-r", &bob, "--identity", &identity]).exits(13).says("there is no key file");
    world.sealift(&["keys", "confirm", "--identity", &identity]).exits(13).says("there is no key file");
    assert!(!world.path("repository/keys").exists());
}

#[test]
fn a_recovery_kit_restores_them_by_the_name_of_its_folder() {
    let world = without_key_files();
    let (identity, kit) = (world.text("operator.key"), world.text("kit"));
    let operator = world.other_host("operator");
    let signer = world.signer().public().to_string();
    let restore = ["keys", "restore", "--identity", &identity, "--from", &kit, "--signer", &signer, "--json"];
    let restored = operator.sealift(&restore).exits(0);
    assert_eq!((&restored.json()["restored"][0]["epoch"], restored.warnings()), (&json!(1), Vec::<String>::new()));
    operator.sealift(&["restore", "--identity", &identity, "--to", &world.text("out"), "--json"]).exits(0);
}
