//! A crash around the commit: the record is on the host's disk, and perhaps in the repository. Processes are killed while
//! the server delays their put.

use std::fs::{self, FileTimes};
use std::path::PathBuf;

use crate::support::s3s::{S3s, Side};
use crate::support::world::{Sources, World, tree};

/// A second backup that was killed at its commit. What it had read; the sources have not changed since.
async fn crashed(side: Side) -> (S3s, World, Sources) {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    world.add_rows(50);
    world.set_environment("TOKEN=second\n");
    let held = server.hold("PUT", "/snapshots/", side);
    let running = world.start(&["backup"]);
    held.reached();
    running.kill();
    assert!(world.state_of_repository().join("unsent.record").exists());
    assert_eq!(record(&server, 2).exists(), side == Side::After);
    let sources = world.sources();
    (server, world, sources)
}

fn record(server: &S3s, sequence: u64) -> PathBuf {
    server.bucket_folder().join(format!("trinity/snapshots/{sequence:010}.record"))
}

fn listed(world: &World) -> Vec<u64> {
    let json = world.sealift(&["snapshots", "--json"]).exits(0).rows();
    json.as_array().unwrap().iter().map(|row| row["sequence"].as_u64().unwrap()).collect()
}

/// The objects that only the newest of two listings has.
fn new_packs(server: &S3s, known: &[PathBuf]) -> Vec<PathBuf> {
    packs(server).into_iter().filter(|pack| !known.contains(pack)).collect()
}

fn packs(server: &S3s) -> Vec<PathBuf> {
    let folder = fs::read_dir(server.bucket_folder().join("trinity/packs")).unwrap();
    folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "age")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_put_the_next_run_sends_the_record_and_goes_on_above_it() {
    let (server, world, then) = crashed(Side::Before).await;
    let bytes = fs::read(world.state_of_repository().join("unsent.record")).unwrap();
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(world.backup(), 3);
    assert!(fs::read(record(&server, 2)).unwrap() == bytes);
    assert_eq!(listed(&world), [1, 2, 3]);
    assert!(!world.state_of_repository().join("unsent.record").exists());
    world.assert_restores(2, &then);
    world.assert_restores(3, &now);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_put_the_next_run_knows_its_own_record_and_goes_on() {
    let (_server, world, then) = crashed(Side::After).await;
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(world.backup(), 3);
    assert_eq!(listed(&world), [1, 2, 3]);
    world.assert_restores(2, &then);
    world.assert_restores(3, &now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_after_a_crash_that_finds_nothing_new_uploads_no_pack_again() {
    for side in [Side::Before, Side::After] {
        let (server, world, then) = crashed(side).await;
        let before = packs(&server);
        assert_eq!(world.backup(), 3);
        assert_eq!(packs(&server).len(), before.len(), "{side:?}");
        world.assert_restores(3, &then);
    }
}

/// The host still remembers what it saw before the snapshot that crashed; a source that went back to that is not what the
/// newest record shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_returns_to_its_older_state_after_a_crash_is_read_again() {
    for side in [Side::Before, Side::After] {
        let server = S3s::start().await;
        let world = World::in_bucket(&server);
        let first = world.sources();
        let metadata = fs::metadata(world.environment()).unwrap();
        world.backup();
        world.set_environment("TOKEN=other\n");
        let held = server.hold("PUT", "/snapshots/", side);
        let running = world.start(&["backup"]);
        held.reached();
        running.kill();

        fs::write(world.environment(), &first.environment).unwrap();
        let times = FileTimes::new().set_modified(metadata.modified().unwrap());
        fs::File::options().write(true).open(world.environment()).unwrap().set_times(times).unwrap();
        let sequence = world.backup();
        world.assert_restores(sequence, &first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsent_record_whose_packs_have_gone_is_never_sent_and_the_next_snapshot_is_whole() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let known = packs(&server);
    world.add_rows(50);
    let held = server.hold("PUT", "/snapshots/", Side::Before);
    let running = world.start(&["backup"]);
    held.reached();
    running.kill();
    let unsent = fs::read(world.state_of_repository().join("unsent.record")).unwrap();
    for pack in new_packs(&server, &known) {
        fs::remove_file(pack).unwrap();
    }
    let now = world.sources();
    let sequence = world.backup();
    for (path, (_, _, bytes)) in tree(&server.bucket_folder()) {
        assert!(bytes != unsent, "{} was sent", path.display());
    }
    world.assert_restores(sequence, &now);
    assert_eq!(world.backup(), sequence + 1);
    world.assert_restores(sequence + 1, &now);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsent_record_whose_key_has_gone_is_never_sent() {
    let (server, world, _) = crashed(Side::Before).await;
    fs::remove_dir_all(server.bucket_folder().join("trinity/keys")).unwrap();
    fs::remove_dir_all(world.state_of_repository().join("keys")).unwrap();
    world.sealift(&["backup"]).exits(13).says("keys/1/");
    assert!(!record(&server, 2).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_packs_are_put_the_next_run_lists_only_whole_snapshots() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    for (part, side) in [
        ("/packs/", Side::Before),
        ("/packs/", Side::After),
        ("/manifests/", Side::Before),
        ("/manifests/", Side::After),
    ] {
        world.add_rows(20);
        let held = server.hold("PUT", part, side);
        let running = world.start(&["backup"]);
        held.reached();
        let before = listed(&world);
        running.kill();
        assert_eq!(listed(&world), before, "{part} {side:?}");
        let now = world.sources();
        let sequence = world.backup();
        world.assert_restores(sequence, &now);
    }
}
