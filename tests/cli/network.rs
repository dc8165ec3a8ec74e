//! A network that fails in the middle, one that is slow, and what a backup may take of the machine.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Server;
use crate::support::link::Link;
use crate::support::minio::Minio;
use crate::support::s3s::{S3s, Side};
use crate::support::world::{World, wait_until};

/// Rows of 600 random bytes: five packs or so.
const ROWS: u32 = 120_000;

/// Bytes under a prefix of the bucket.
fn stored_under(server: &dyn Server, prefix: &str) -> u64 {
    let listing = async {
        let store = sealift::store::open(&server.url(prefix), &server.settings()).await.expect("the bucket");
        store.list("").await.expect("a listing")
    };
    let listing = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(listing));
    listing.objects.iter().map(|object| object.bytes).sum()
}

fn uploaded(report: &Value) -> u64 {
    report["stored_bytes"].as_u64().expect("a number")
}

/// The line breaks for good in the middle of a first backup.
fn a_first_backup_goes_on_after_the_network_failed(server: &dyn Server) {
    let link = Link::to(server);
    let world = World::in_bucket(&link);
    world.add_rows(ROWS);
    let whole = std::fs::metadata(world.database()).unwrap().len();
    link.break_after(whole / 2);
    world.sealift(&["backup", "--json"]).exits(1);
    assert!(link.is_cut(), "the line held");
    link.mend();
    assert_eq!(world.sealift(&["snapshots", "--json"]).exits(0).rows(), serde_json::json!([]));
    let before = stored_under(server, "trinity/packs/");
    assert!(before > 0, "no pack arrived before the line broke");
    let report = world.sealift(&["backup", "--json"]).exits(0).json();
    let ideal = report["restore_bytes"].as_u64().unwrap_or_else(|| stored_under(server, "trinity/packs/"));
    let all = before + uploaded(&report);
    assert!(all as f64 <= ideal as f64 * 1.2, "{all} bytes in both runs, {ideal} in an undisturbed one");
    println!("{before} bytes before the failure, {} after it, {} over the line", uploaded(&report), link.uploaded());
    world.assert_restores(1, &world.sources());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_goes_on_after_the_network_failed_with_s3s() {
    a_first_backup_goes_on_after_the_network_failed(&S3s::start().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_goes_on_after_the_network_failed_with_minio() {
    let Some(server) = Minio::start().await else { return };
    a_first_backup_goes_on_after_the_network_failed(&server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_and_is_mended_at_once_is_not_noticed() {
    let server = S3s::start().await;
    let link = Link::to(&server);
    let world = World::in_bucket(&link);
    world.add_rows(ROWS / 4);
    link.break_after(4 << 20);
    let running = world.start(&["backup", "--json"]);
    wait_until("the line breaks", || link.is_cut());
    link.mend();
    running.wait().exits(0);
    world.assert_restores(1, &world.sources());
}

fn limit(world: &World, lines: &str) {
    let config = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), config.replacen("[[database]]", &format!("[limits]\n{lines}\n\n[[database]]"), 1))
        .unwrap();
}

/// Up and down, through the program: the whole run's time counts, so what else it takes is part of the tolerance.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_upload_and_download_hold_over_a_transfer() {
    const RATE: u64 = 6_000_000;
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.add_rows(ROWS / 4);
    limit(&world, &format!("upload = {RATE}\ndownload = {RATE}"));
    let begun = Instant::now();
    let report = world.sealift(&["backup", "--json"]).exits(0).json();
    assert_rate("up", uploaded(&report), begun.elapsed(), RATE);
    let begun = Instant::now();
    let (key, out) = (world.text("operator.key"), world.text("out"));
    let report = world.sealift(&["restore", "-i", &key, "--to", &out, "--json"]).exits(0).json();
    assert_rate("down", report["downloaded_bytes"].as_u64().expect("a number"), begun.elapsed(), RATE);
}

fn assert_rate(way: &str, bytes: u64, elapsed: Duration, rate: u64) {
    let measured = bytes as f64 / elapsed.as_secs_f64();
    println!("{way}: {bytes} bytes in {elapsed:?}, {:.3} of the limit", measured / rate as f64);
    assert!(measured <= rate as f64 * 1.1, "{way}: {measured} bytes a second, {rate} allowed");
    // A busy machine may be slower than any limit, but not by this much.
    assert!(measured >= rate as f64 * 0.5, "{way}: {measured} bytes a second of the {rate} allowed");
}

/// Threads of a process that do the work of this name.
fn threads_that(work: &str, pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.trim_end() == work).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_compresses_on_as_many_threads_as_it_may() {
    for (threads, level, expected) in [(1, "3", 1), (64, "3", 3), (64, "10", 2), (64, "16", 1)] {
        let server = S3s::start().await;
        let world = World::in_bucket(&server);
        world.add_rows(ROWS);
        limit(&world, &format!("threads = {threads}"));
        // All packs behind the first one wait, and so does the work on them.
        let held = server.hold("PUT", "/packs/", Side::Before);
        let backup = world.start(&["backup", "--compression", level]);
        held.reached();
        assert_eq!(threads_that("compress", backup.pid()), expected, "{threads} threads, level {level}");
        backup.kill();
    }
}

#[test]
fn a_higher_level_stores_less() {
    let stored = |level: &str| {
        let world = World::ready();
        let text = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
                    insert into t (body) select printf('%d agents said %x at %d', i * 7919 % 1000, i * i, i) from n";
        rusqlite::Connection::open(world.database()).unwrap().execute_batch(text).unwrap();
        uploaded(&world.sealift(&["backup", "--json", "--compression", level]).exits(0).json())
    };
    let sizes: Vec<u64> = ["1", "9", "19"].map(stored).into();
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}
