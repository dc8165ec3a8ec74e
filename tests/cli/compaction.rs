//! Compaction: what a restore must download stays near to what it needs, and no snapshot suffers.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::s3s::{S3s, Side};
use crate::support::world::World;

/// Long rows, so that their pages outlive a VACUUM.
fn add_long_rows(world: &World) {
    let insert = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)
                  insert into t (body) select randomblob(20000) from n";
    Connection::open(world.database()).unwrap().execute(insert, []).unwrap();
}

/// Four of five long rows go, and the file shrinks.
fn delete_most(world: &World) {
    let delete = "delete from t where id % 5 > 0; vacuum;";
    Connection::open(world.database()).unwrap().execute_batch(delete).unwrap();
}

fn limit(world: &World, bytes: u64) {
    let config = fs::read_to_string(world.config()).unwrap();
    let (before, after) = config.split_once("[[database]]").expect("the sources");
    let limits = format!("{before}[limits]\nmax_compact_bytes = {bytes}\n\n[[database]]{after}");
    fs::write(world.config(), limits).unwrap();
}

fn back_up(world: &World) -> Value {
    world.sealift(&["backup", "--json"]).exits(0).json()
}

fn ratio(report: &Value) -> f64 {
    report["restore_ratio"].as_f64().expect("a ratio")
}

#[test]
fn a_restore_of_what_is_left_does_not_download_what_is_gone() {
    let world = World::ready();
    add_long_rows(&world);
    assert!((ratio(&back_up(&world)) - 1.0).abs() < 0.01);
    let before = world.sources();
    delete_most(&world);
    let report = back_up(&world);
    assert!(ratio(&report) < 1.4 && report["restore_bytes"].as_u64().unwrap() < 1_000_000, "{report}");
    let size = |pack: &PathBuf| fs::metadata(pack).unwrap().len();
    let largest = world.packs(1).into_iter().max_by_key(size).unwrap();
    assert!(!world.packs(2).contains(&largest), "the old pack is not needed any more");
    world.assert_restores(1, &before);
    world.assert_restores(2, &world.sources());
    assert_eq!(back_up(&world)["restore_ratio"], report["restore_ratio"], "nothing has changed since");
}

#[test]
fn nothing_is_uploaded_afresh_where_the_limit_is_nothing() {
    let world = World::ready();
    add_long_rows(&world);
    limit(&world, 0);
    back_up(&world);
    delete_most(&world);
    let report = back_up(&world);
    assert!(ratio(&report) > 2.0 && report["stored_bytes"].as_u64().unwrap() < 300_000, "{report}");
    assert_eq!(back_up(&world)["restore_ratio"], report["restore_ratio"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_compacted_is_not_uploaded_again() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    add_long_rows(&world);
    back_up(&world);
    delete_most(&world);
    let held = server.hold("PUT", "/manifests/", Side::Before);
    let running = world.start(&["backup", "--json"]);
    held.reached();
    running.kill();
    drop(held);
    let report = back_up(&world);
    assert!(ratio(&report) < 1.4 && report["stored_bytes"].as_u64().unwrap() < 100_000, "{report}");
    world.assert_restores(2, &world.sources());
}

#[test]
fn b_tree_pages_that_change_leave_the_packs_of_overflow_pages_alone() {
    let world = World::ready();
    add_long_rows(&world);
    back_up(&world);
    let bulk: u64 = world.packs(1).iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    let change = "update t set id = -id";
    Connection::open(world.database()).unwrap().execute(change, []).unwrap();
    back_up(&world);
    let (before, after) = (world.packs(1), world.packs(2));
    let kept = after.iter().filter(|pack| before.contains(pack)).map(|pack| fs::metadata(pack).unwrap().len());
    assert!(kept.sum::<u64>() > bulk * 6 / 10, "the packs of overflow pages are needed as before");
    let replaced: u64 =
        before.iter().filter(|pack| !after.contains(pack)).map(|pack| fs::metadata(pack).unwrap().len()).sum();
    assert!(replaced > 0, "that of b-tree pages is not");
}
