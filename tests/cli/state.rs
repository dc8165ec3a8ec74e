//! What the host keeps may be damaged or cut. A backup then fails, or makes a whole snapshot; never a hollow one.

use std::fs;

use crate::support::world::{World, copy_tree, tree};

/// What harm does to a file: its new bytes, or `None` for no file.
type Harm = fn(&[u8]) -> Option<Vec<u8>>;

const HARMS: [(&str, Harm); 5] = [
    ("flipped at the beginning", |bytes| Some(flipped(bytes, 0))),
    ("flipped in the middle", |bytes| Some(flipped(bytes, bytes.len() / 2))),
    ("truncated", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
    ("emptied", |_| Some(Vec::new())),
    ("deleted", |_| None),
];

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn with_any_state_file_damaged_a_backup_fails_plainly_or_makes_a_whole_snapshot() {
    let world = World::ready();
    world.backup();
    world.add_rows(3);
    world.backup();
    for folder in ["host-state", "repository"] {
        copy_tree(&world.path(folder), &world.path(&format!("kept {folder}")));
    }
    let now = world.sources();
    for file in ["host.json", "signer", "fingerprint.key", "parent.record", "last.json", "catalog"] {
        for (what, harm) in HARMS {
            for folder in ["host-state", "repository"] {
                fs::remove_dir_all(world.path(folder)).unwrap();
                copy_tree(&world.path(&format!("kept {folder}")), &world.path(folder));
            }
            let path = world.state_of_repository().join(file);
            match harm(&fs::read(&path).unwrap()) {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let before = tree(&world.path("repository"));
            let output = world.sealift(&["backup", "--json"]);
            if output.code == 0 {
                world.assert_restores(output.json()["sequence"].as_u64().unwrap(), &now);
            } else {
                assert!([1, 13, 16].contains(&output.code), "{file} {what}: {output:?}");
                let listed = |tree: &std::collections::BTreeMap<_, _>| {
                    let paths = tree
                        .keys()
                        .filter(|path: &&std::path::PathBuf| path.extension().is_some_and(|end| end == "record"));
                    paths.count()
                };
                assert_eq!(listed(&tree(&world.path("repository"))), listed(&before), "{file} {what}");
            }
            let cache = ["last.json", "catalog"].contains(&file);
            assert!(!cache || output.code == 0, "{file} {what}: losing a cache costs time alone: {output:?}");
        }
    }
}

#[test]
fn an_unsent_record_of_garbage_is_dropped() {
    let world = World::ready();
    world.backup();
    let now = world.sources();
    let unsent = world.state_of_repository().join("unsent.record");
    for garbage in [&b""[..], b"garbage", &fs::read(world.record(1)).unwrap()[..200]] {
        fs::write(&unsent, garbage).unwrap();
        let sequence = world.backup();
        assert!(!unsent.exists());
        world.assert_restores(sequence, &now);
    }
}

#[test]
fn an_init_that_was_cut_short_says_so_and_is_finished_by_the_next() {
    let world = World::ready();
    fs::remove_file(world.state_of_repository().join("host.json")).unwrap();
    world.sealift(&["backup"]).exits(16).says("init");
    assert_eq!(world.init().exits(0).json()["resumed"], true);
    let now = world.sources();
    let sequence = world.backup();
    world.assert_restores(sequence, &now);
}

#[test]
fn killed_at_any_moment_the_next_backup_is_whole() {
    let world = World::ready();
    world.backup();
    for moment in 1..=12 {
        world.add_rows(20);
        let entries = || tree(&world.state()).len() + tree(&world.path("repository")).len();
        let before = entries();
        let mut running = world.start(&["backup"]);
        // The lock is there already, so what grows is work that is being done; a run that is over is a moment, too.
        while running.is_running() && entries() < before + moment {
            std::thread::yield_now();
        }
        running.kill();
        let now = world.sources();
        let sequence = world.sealift(&["backup", "--json"]).exits(0).json()["sequence"].as_u64().unwrap();
        world.assert_restores(sequence, &now);
    }
    let list = world.sealift(&["snapshots", "--json"]).exits(0).rows();
    assert!(list.as_array().unwrap().len() >= 13);
    assert!(list.as_array().unwrap().iter().all(|row| row.get("problem").is_none()), "{list}");
}
