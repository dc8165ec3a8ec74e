//! What others delete or cut in the repository is noticed by the next backup, which makes a whole snapshot again.

use std::fs::{self, File};
use std::path::Path;

use crate::support::world::World;

/// Two snapshots that share a pack, then `harm` done to an object of the first, then a third snapshot.
fn after(object: impl Fn(&World) -> std::path::PathBuf, harm: impl Fn(&Path), incomplete: &[u64], changed: bool) {
    let world = World::ready();
    world.backup();
    world.set_environment("TOKEN=second\n");
    world.backup();
    let object = object(&world);
    harm(&object);
    if changed {
        world.add_rows(3);
    } else {
        world.an_hour_later();
    }
    let now = world.sources();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert_eq!(output.json()["sequence"], 3);
    assert!(output.warnings().contains(&"objects-missing".to_owned()), "{output:?}");
    output.says(object.file_name().unwrap().to_str().unwrap());
    assert_eq!(not_restorable(&world), incomplete);
    world.assert_restores(3, &now);
    world.restore("2", "incomplete").exits(13).says(object.file_name().unwrap().to_str().unwrap());
    world.sealift(&["backup", "--json"]).exits(0);
    world.assert_restores(4, &now);
}

/// As `status` has them.
fn not_restorable(world: &World) -> Vec<u64> {
    let json = world.sealift(&["status", "--json"]).json();
    let snapshots = json["snapshots"].as_array().unwrap().iter();
    let incomplete = snapshots.filter(|snapshot| snapshot["restorable"] == false);
    incomplete.map(|snapshot| snapshot["sequence"].as_u64().unwrap()).collect()
}

fn delete(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn truncate(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(fs::metadata(path).unwrap().len() / 2).unwrap();
}

#[test]
fn a_deleted_pack_is_uploaded_again_and_older_snapshots_stay_incomplete() {
    after(|world| world.packs(2)[0].clone(), delete, &[1, 2], false);
}

#[test]
fn a_deleted_pack_is_uploaded_again_though_the_database_changed_too() {
    after(|world| world.packs(2)[0].clone(), delete, &[1, 2], true);
}

#[test]
fn a_truncated_pack_is_uploaded_again_and_older_snapshots_stay_incomplete() {
    after(|world| world.packs(2)[0].clone(), truncate, &[1, 2], false);
}

#[test]
fn a_deleted_manifest_is_made_again_and_an_older_snapshot_stays_incomplete() {
    after(|world| world.manifest(2), delete, &[2], false);
}

#[test]
fn a_truncated_manifest_is_made_again_and_an_older_snapshot_stays_incomplete() {
    after(|world| world.manifest(2), truncate, &[2], false);
}

#[test]
fn a_deleted_key_file_is_restored_from_the_hosts_copy() {
    let world = World::ready();
    world.backup();
    let key = world.path("repository/keys/1/1.age");
    let bytes = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    world.an_hour_later();
    let now = world.sources();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"key-files-restored".to_owned()), "{output:?}");
    assert!(fs::read(&key).unwrap() == bytes);
    world.assert_restores(1, &now);
    world.assert_restores(2, &now);
    world.sealift(&["backup", "--json"]).exits(0);
}

#[test]
fn without_its_key_file_and_a_copy_of_it_no_snapshot_is_made() {
    let world = World::ready();
    world.backup();
    fs::remove_file(world.path("repository/keys/1/1.age")).unwrap();
    fs::remove_dir_all(world.state_of_repository().join("keys")).unwrap();
    world.an_hour_later();
    world.sealift(&["backup"]).exits(13).says("keys/1/");
    assert!(!world.record(2).exists());
}

#[test]
fn losing_the_catalog_costs_an_upload_and_no_data() {
    let world = World::ready();
    world.backup();
    fs::remove_file(world.state_of_repository().join("catalog")).unwrap();
    world.add_rows(3);
    let now = world.sources();
    let output = world.sealift(&["backup", "--json"]).exits(0);
    assert!(output.warnings().contains(&"catalog-lost".to_owned()), "{output:?}");
    world.assert_restores(2, &now);
}

#[test]
fn a_catalog_of_garbage_costs_an_upload_and_no_data() {
    let world = World::ready();
    world.backup();
    fs::write(world.state_of_repository().join("catalog"), [7; 5000]).unwrap();
    world.add_rows(3);
    let now = world.sources();
    world.sealift(&["backup"]).exits(0).says("catalog-lost");
    world.assert_restores(2, &now);
    world.backup();
    world.assert_restores(3, &now);
}

/// The host opens no key file, so it restores the one that it made.
#[test]
fn a_key_file_in_place_of_the_known_one_does_not_replace_it() {
    let world = World::ready();
    world.backup();
    let keys = world.path("repository/keys/1");
    let bytes = fs::read(keys.join("1.age")).unwrap();
    fs::write(keys.join("2.age"), "junk").unwrap();
    fs::remove_file(keys.join("1.age")).unwrap();
    world.an_hour_later();
    let now = world.sources();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    for code in ["key-files-restored", "key-files-not-kept"] {
        assert!(output.warnings().contains(&code.to_owned()), "{output:?}");
    }
    assert!(fs::read(keys.join("1.age")).unwrap() == bytes);
    world.assert_restores(2, &now);
}

#[test]
fn a_key_file_in_place_of_the_known_one_and_its_copy_makes_no_snapshot() {
    let world = World::ready();
    world.backup();
    let keys = world.path("repository/keys/1");
    fs::write(keys.join("2.age"), "junk").unwrap();
    fs::remove_file(keys.join("1.age")).unwrap();
    fs::remove_dir_all(world.state_of_repository().join("keys")).unwrap();
    world.an_hour_later();
    world.sealift(&["backup"]).exits(13).says("keys/1/");
    assert!(!world.record(2).exists());
}
