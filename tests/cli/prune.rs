//! Pruning during backups, other prunes, crashes and wrong clocks: no listed snapshot ever loses an object.

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use sealift::store::{Key, Stored, open};

use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::past::{Past, days_ago, set_time};
use crate::support::s3s::{Date, Place, S3s, Side};
use crate::support::world::{Sources, World};

const KEEP_ONE: [&str; 5] = ["retain", "--keep-last", "1", "--apply", "--json"];

/// Three snapshots in a bucket, 30, 20 and 10 days old, each of a new database; and what the sources held.
async fn old_snapshots() -> (S3s, World, Vec<Sources>) {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("{config}\n[retention]\nkeep_last = 1\n")).unwrap();
    let mut sources = Vec::new();
    for _ in 0..3 {
        replace_database(&world);
        sources.push(world.sources());
        world.backup();
    }
    Past::of(&world, &repository(&server)).age(&[30, 20, 10]);
    (server, world, sources)
}

/// Not a page of the old one is in the new one.
fn replace_database(world: &World) {
    fs::remove_file(world.database()).unwrap();
    let connection = rusqlite::Connection::open(world.database()).unwrap();
    connection.execute_batch("create table t (id integer primary key, body blob)").unwrap();
    drop(connection);
    world.add_rows(60);
}

fn repository(server: &S3s) -> PathBuf {
    server.bucket_folder().join("trinity")
}

fn objects(server: &S3s, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository(server).join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| !name(path).starts_with('.')).collect()
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Another machine with the right to delete, which knows the signer.
fn pruner(server: &S3s, world: &World, host: &str) -> World {
    let json = fs::read(repository(server).join("repository.json")).unwrap();
    let signer = serde_json::from_slice::<serde_json::Value>(&json).unwrap()["signer"].as_str().unwrap().to_owned();
    let pruner = world.other_host(host);
    pruner.sealift(&["snapshots", "--signer", &signer]).exits(0);
    pruner
}

fn listed(world: &World) -> Vec<u64> {
    let json = world.sealift(&["snapshots", "--json"]).rows();
    json.as_array().unwrap().iter().map(|row| row["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_prunes_in_batches_and_what_is_left_restores() {
    let (server, world, sources) = old_snapshots().await;
    let pruner = pruner(&server, &world, "pruner");
    let output = pruner.sealift(&KEEP_ONE).exits(0).json();
    assert_eq!((&output["deleted"]["records"], &output["deleted"]["manifests"]), (&2.into(), &2.into()));
    assert!(output["deleted"]["packs"].as_u64().unwrap() >= 2, "{output}");
    assert_eq!(output["requests"]["delete"], 2, "records, then all else");
    assert_eq!(listed(&pruner), [3]);
    world.assert_restores(3, &sources[2]);
}

/// The backup has read its last pack for three weeks, longer than the grace period, when the prune comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_way_loses_nothing_however_long_it_takes() {
    for part in ["/manifests/", "/snapshots/"] {
        let (server, world, _) = old_snapshots().await;
        let known = objects(&server, "packs");
        replace_database(&world);
        let now = world.sources();
        let held = server.hold("PUT", part, Side::Before);
        let backup = world.start(&["backup", "--json"]);
        held.reached();
        let new: Vec<PathBuf> = objects(&server, "packs").into_iter().filter(|pack| !known.contains(pack)).collect();
        assert!(!new.is_empty());
        Past::of(&world, &repository(&server)).age(&[50, 40, 30]);
        for path in new.iter().chain(&objects(&server, "manifests")).filter(|path| is_new(path)) {
            set_time(path, days_ago(25));
        }
        let pruner = pruner(&server, &world, "pruner");
        let output = pruner.sealift(&KEEP_ONE).exits(0).json();
        assert_eq!(output["deleted"]["records"], 2, "{output}");
        assert!(new.iter().all(|pack| pack.exists()), "{output}");
        held.release();
        // The host's parent was signed again for this test, so it is the server's copy that counts.
        backup.wait().exits(0);
        world.assert_restores(4, &now);
    }
}

/// Stored within the last hour.
fn is_new(path: &std::path::Path) -> bool {
    fs::metadata(path).unwrap().modified().unwrap().elapsed().is_ok_and(|age| age.as_secs() < 3600)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_at_once_do_what_one_does() {
    for side in [Side::Before, Side::After] {
        let (server, world, sources) = old_snapshots().await;
        let (first, second) = (pruner(&server, &world, "first"), pruner(&server, &world, "second"));
        let held = server.hold("POST", "bucket", side);
        let running = first.start(&KEEP_ONE);
        held.reached();
        second.sealift(&KEEP_ONE).exits(0);
        held.release();
        running.wait().exits(0);
        assert_eq!(listed(&second), [3]);
        world.assert_restores(3, &sources[2]);
        assert_eq!(objects(&server, "manifests").len(), 1);
    }
}

/// How a server deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletes {
    OneByOne,
    Batches,
    /// It breaks down within each batch.
    OneOfEachBatch(Place),
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_delete_the_next_run_finishes() {
    let ways = [
        Deletes::OneByOne,
        Deletes::Batches,
        Deletes::OneOfEachBatch(Place::First),
        Deletes::OneOfEachBatch(Place::Last),
    ];
    for way in ways {
        let (server, world, sources) = old_snapshots().await;
        let (method, part) = if way == Deletes::OneByOne { ("DELETE", "/trinity/") } else { ("POST", "bucket") };
        match way {
            Deletes::OneByOne => server.delete_one_by_one(),
            Deletes::Batches => {}
            Deletes::OneOfEachBatch(place) => server.break_in_each_batch(place),
        }
        let pruner = pruner(&server, &world, "pruner");
        let count = || ["snapshots", "manifests", "packs"].map(|folder| objects(&server, folder).len());
        let in_parts = matches!(way, Deletes::OneOfEachBatch(_));
        let mut kills = 0;
        loop {
            let before = count();
            let side = if in_parts || kills % 2 == 0 { Side::After } else { Side::Before };
            let held = server.hold(method, part, side);
            let mut running = pruner.start(&KEEP_ONE);
            let done = !held.reached_by(&mut running);
            running.kill();
            for sequence in listed(&pruner) {
                world.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
            }
            if done {
                break;
            }
            kills += 1;
            assert!(side == Side::Before || count() != before, "{way:?}");
        }
        assert!(kills >= if in_parts { 6 } else { 3 }, "{way:?}: {kills}");
        assert_eq!(listed(&pruner), [3]);
        assert_eq!(count()[..2], [1, 1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writers_lock_keeps_a_prune_on_the_same_host_waiting() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    world.add_rows(5);
    let held = server.hold("PUT", "/snapshots/", Side::Before);
    let backup = world.start(&["backup"]);
    held.reached();
    world.sealift(&KEEP_ONE).exits(11).says("already running");
    world.sealift(&["retain", "--keep-last", "1"]).exits(0);
    let waiting = world.start(&["retain", "--keep-last", "1", "--apply", "--wait", "50s"]);
    held.release();
    backup.wait().exits(0);
    waiting.wait().exits(0);
}

/// Snapshots and objects older than the grace period less ten minutes by so much, and a server whose clock is twelve
/// minutes off this machine's: more, and the signatures of requests would no longer hold.
async fn off_by(minutes: i64, ages_in_minutes: [i64; 3]) -> (S3s, World, Vec<Sources>) {
    let ages_in_minutes = ages_in_minutes.map(|age| age + 7 * 24 * 60 - 10);
    let (server, world, sources) = old_snapshots().await;
    let records = objects(&server, "snapshots");
    assert_eq!(records.len(), 3);
    for folder in ["keys/1", "manifests", "packs"] {
        for path in objects(&server, folder) {
            set_time(&path, minutes_ago(ages_in_minutes[0]));
        }
    }
    for sequence in 1..=3 {
        let path = repository(&server).join(format!("snapshots/{sequence:010}.record"));
        set_time(&path, minutes_ago(ages_in_minutes[sequence - 1]));
    }
    server.tell_time(Date::Off(SignedDuration::from_mins(minutes)));
    (server, world, sources)
}

fn minutes_ago(minutes: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_mins(minutes)
}

/// By this machine's clock the packs are older than the grace period; by the server's they are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruner_whose_clock_is_ahead_hurries_nothing() {
    let (server, world, _) = off_by(-12, [15, 14, 13]).await;
    let packs = objects(&server, "packs").len();
    let output = pruner(&server, &world, "pruner").sealift(&KEEP_ONE).exits(0).json();
    assert_eq!((&output["deleted"]["records"], &output["deleted"]["packs"]), (&2.into(), &0.into()), "{output}");
    assert_eq!(objects(&server, "packs").len(), packs);
}

/// By this machine's clock the packs are younger than the grace period; by the server's they are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruner_whose_clock_is_behind_delays_nothing() {
    let (server, world, sources) = off_by(12, [3, 2, 1]).await;
    let output = pruner(&server, &world, "pruner").sealift(&KEEP_ONE).exits(0).json();
    assert!(output["deleted"]["packs"].as_u64().unwrap() >= 2, "{output}");
    world.assert_restores(3, &sources[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_time_or_with_one_that_cannot_be_loses_nothing() {
    for date in [Date::Silent, Date::Off(SignedDuration::from_mins(-12))] {
        let (server, world, sources) = old_snapshots().await;
        set_time(&repository(&server).join("snapshots/0000000003.record"), minutes_ago(1));
        let before = [objects(&server, "packs").len(), objects(&server, "manifests").len()];
        server.tell_time(date);
        let records = objects(&server, "snapshots").len();
        pruner(&server, &world, "pruner").sealift(&KEEP_ONE).exits(15);
        assert_eq!(objects(&server, "snapshots").len(), records);
        assert_eq!([objects(&server, "packs").len(), objects(&server, "manifests").len()], before, "{date:?}");
        server.tell_time(Date::Right);
        world.sealift(&KEEP_ONE).exits(0);
        assert_eq!(objects(&server, "manifests").len(), 1);
        world.assert_restores(3, &sources[2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_backup_left_goes_when_it_is_old_and_a_younger_snapshot_is_there() {
    let (server, world, _) = old_snapshots().await;
    let known = objects(&server, "packs");
    world.add_rows(60);
    let held = server.hold("PUT", "/manifests/", Side::Before);
    let backup = world.start(&["backup"]);
    held.reached();
    backup.kill();
    let left: Vec<PathBuf> = objects(&server, "packs").into_iter().filter(|pack| !known.contains(pack)).collect();
    left.iter().for_each(|pack| set_time(pack, days_ago(9)));
    let pruner = pruner(&server, &world, "pruner");
    pruner.sealift(&["retain", "--keep-last", "9", "--apply"]).exits(0).says("after the next snapshot");
    assert!(left.iter().all(|pack| pack.exists()));
    let past = Past::of(&world, &repository(&server));
    past.repeat([(days_ago(8), days_ago(8))]);
    pruner.sealift(&["retain", "--keep-last", "9", "--apply"]).exits(0);
    assert!(left.iter().all(|pack| !pack.exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_says_that_it_deletes_is_found_out() {
    let (server, world, sources) = old_snapshots().await;
    let pruner = pruner(&server, &world, "pruner");
    server.only_say_that_it_deletes(true);
    let output = pruner.sealift(&KEEP_ONE).exits(3);
    assert_eq!(output.warnings(), ["not-deleted"]);
    assert_eq!(output.json()["deleted"]["records"], 0);
    assert_eq!(listed(&pruner), [1, 2, 3]);
    for (sequence, sources) in (1..).zip(&sources) {
        world.assert_restores(sequence, sources);
    }
    server.only_say_that_it_deletes(false);
    pruner.sealift(&KEEP_ONE).exits(0);
    assert_eq!(listed(&pruner), [3]);
}

/// What it needs is unknown on a machine that never read it, and it may come back: like one that is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_listed_and_cannot_be_fetched_blocks_a_prune_where_it_was_never_read() {
    let (server, world, sources) = old_snapshots().await;
    let (pruner, fresh) = (pruner(&server, &world, "pruner"), world.other_host("fresh"));
    let signer = world.signer().public().to_string();
    let stored = || ["snapshots", "packs", "manifests"].map(|folder| objects(&server, folder).len());
    let before = stored();
    server.withhold(Some("/snapshots/0000000002"));
    fresh.sealift(&[&KEEP_ONE[..], &["--signer", &signer]].concat()).exits(15);
    // Its bytes are not known, so other bytes could be ignored with them.
    fresh.sealift(&["retain", "--ignore", "2", "--apply"]).exits(15);
    assert_eq!(stored(), before);
    // This machine has it in its cache, by size and ETag.
    pruner.sealift(&["retain", "--keep-last", "9", "--apply"]).exits(0);
    assert_eq!(stored(), before);
    server.withhold(None);
    world.assert_restores(2, &sources[1]);
    fresh.sealift(&KEEP_ONE).exits(0);
    assert_eq!(listed(&fresh), [3]);
}

/// A server that locks objects keeps their versions, and says that each was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_versioned_bucket_is_noted_and_what_is_hidden_there_is_gone_for_sealift() {
    let Some(server) = Minio::start_locked().await else { return };
    let world = World::in_bucket(&server);
    world.backup();
    world.add_rows(5);
    let now = world.sources();
    world.backup();
    let output = world.sealift(&KEEP_ONE).exits(0);
    assert!(output.warnings().contains(&"versioned-bucket".to_owned()), "{output:?}");
    assert_eq!(output.json()["deleted"]["records"], 1);
    world.assert_restores(2, &now);
    assert!(!world.sealift(&KEEP_ONE).exits(0).warnings().contains(&"versioned-bucket".to_owned()));
}

/// Retention may take a snapshot during a drill of it: that says nothing about the snapshot, and leaves no receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_drill_whose_snapshot_is_removed_meanwhile_gives_no_verdict() {
    for part in ["/snapshots/0000000001", "/manifests/", "/packs/"] {
        let (server, world, _) = old_snapshots().await;
        let pruner = pruner(&server, &world, "pruner");
        let held = server.hold("GET", part, Side::Before);
        let key = world.text("operator.key");
        let drill = world.other_host("operator").start(&["drill", "1", "-i", &key, "--json"]);
        held.reached();
        let deleted = pruner.sealift(&KEEP_ONE).exits(0).json()["deleted"].clone();
        assert!(deleted["records"] == 2 && deleted["packs"].as_u64().unwrap() >= 2, "{deleted}");
        held.release();
        let output = drill.wait().exits(1);
        output.says("the repository holds no snapshot 1");
        assert!(!repository(&server).join("receipts").exists(), "{part}");
        assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0, "{part}");
    }
}

/// More objects than a page of a listing or a batch has room for, on a real server.
#[tokio::test(flavor = "multi_thread")]
async fn minio_lists_pages_and_deletes_batches() {
    let Some(server) = Minio::start().await else { return };
    let store = open(&server.url("trinity"), &server.settings()).await.unwrap();
    let objects: Vec<Key> = (0..1200).map(|number| Key::new(format!("packs/{number:064x}.age")).unwrap()).collect();
    for some in objects.chunks(32) {
        let puts = some.iter().map(|key| store.create(key, Stored::public_text("object")));
        futures::future::try_join_all(puts).await.unwrap();
    }
    assert_eq!(store.list("packs/").await.unwrap().objects.len(), 1200);
    assert!(store.delete_many(&objects).await.unwrap().failed.is_empty());
    assert_eq!(store.list("packs/").await.unwrap().objects.len(), 0);
}
