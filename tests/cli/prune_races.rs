//! A prune beside a backup, and beside another prune, where one of them waits at every single request while the other
//! runs from beginning to end: no listed snapshot ever lacks an object.

use std::fs;
use std::path::PathBuf;

use crate::support::past::{Past, days_ago, set_time};
use crate::support::s3s::{S3s, Side};
use crate::support::world::{Running, Sources, World, copy_tree};

const KEEP_ONE: [&str; 5] = ["retain", "--keep-last", "1", "--apply", "--json"];
const BACKUP: [&str; 2] = ["backup", "--json"];

/// A host with old snapshots, packs that a killed backup left since, and something new to back up; in a repository
/// without any grace period, so that nothing but the order of things protects what is new.
struct Scene {
    server: S3s,
    world: World,
    pruner: World,
    now: Sources,
    /// Copies of the bucket, of the host's state and of the pruner's.
    kept: [(PathBuf, PathBuf); 3],
}

impl Scene {
    async fn new() -> Self {
        let server = S3s::start().await;
        let world = World::in_bucket(&server);
        let repository = server.bucket_folder().join("trinity");
        let config = fs::read_to_string(world.config()).unwrap();
        fs::write(world.config(), format!("{config}\n[retention]\nkeep_last = 1\n")).unwrap();
        for _ in 0..3 {
            world.add_rows(60);
            world.backup();
            rusqlite::Connection::open(world.database()).unwrap().execute("delete from t", []).unwrap();
        }
        let descriptor = repository.join("repository.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&descriptor).unwrap()).unwrap();
        json["grace_seconds"] = 0.into();
        fs::write(&descriptor, json.to_string() + "\n").unwrap();
        Past::of(&world, &repository).age(&[30, 20, 10]);
        world.add_rows(60);
        let held = server.hold("PUT", "/manifests/", Side::Before);
        let running = world.start(&BACKUP);
        held.reached();
        running.kill();
        // What it left is old by any measure but that of the newest record.
        for pack in fs::read_dir(repository.join("packs")).unwrap().map(|entry| entry.unwrap().path()) {
            if fs::metadata(&pack).unwrap().modified().unwrap().elapsed().is_ok_and(|age| age.as_secs() < 3600) {
                set_time(&pack, days_ago(5));
            }
        }
        world.add_rows(30);
        let pruner = world.other_host("pruner");
        pruner.sealift(&["snapshots"]).exits(0);
        let kept = [
            (repository, world.path("kept")),
            (world.state(), world.path("kept-state")),
            (pruner.state(), world.path("kept-pruner")),
        ];
        kept.iter().for_each(|(from, to)| copy_tree(from, to));
        let now = world.sources();
        Self { server, world, pruner, now, kept }
    }

    fn reset(&self) {
        for (to, from) in &self.kept {
            fs::remove_dir_all(to).unwrap();
            copy_tree(from, to);
        }
    }

    /// `first` waits at each of its requests in turn, before and after, while `second` runs; each time the scene is
    /// as it was at the beginning. How often it waited.
    fn each_request(&self, first: impl Fn() -> Running, second: impl Fn(&str), then: impl Fn(&str)) -> usize {
        for number in 0.. {
            for side in [Side::Before, Side::After] {
                self.reset();
                let case = format!("{side:?} request {number}");
                let held = self.server.hold_nth(number, side);
                let mut running = first();
                if !held.reached_by(&mut running) {
                    self.server.let_all_pass();
                    running.wait().exits(0);
                    return number;
                }
                second(&case);
                held.release();
                let output = running.wait();
                assert_eq!(output.code, 0, "{case}: {}", output.all());
                then(&case);
            }
        }
        unreachable!()
    }

    /// Every object that a listed snapshot needs is there, and the newest snapshot is the one of now where one was taken.
    fn assert_whole(&self, case: &str, newest: u64) {
        let output = self.world.other_host("checker").sealift(&["check", "--read-data", "--json"]);
        assert_eq!(output.code, 0, "{case}: {output:?}");
        assert!(self.server.bucket_folder().join(format!("trinity/snapshots/{newest:010}.record")).exists(), "{case}");
        let _ = fs::remove_dir_all(self.world.other_host("checker").state());
        if newest == 4 {
            self.world.assert_restores(4, &self.now);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_waits_at_any_request_while_a_prune_runs_is_whole() {
    let scene = Scene::new().await;
    let prune = |case: &str| {
        let output = scene.pruner.sealift(&KEEP_ONE);
        assert_eq!(output.code, 0, "{case}: {output:?}");
    };
    let waits = scene.each_request(|| scene.world.start(&BACKUP), prune, |case| scene.assert_whole(case, 4));
    assert!(waits >= 10, "{waits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_waits_at_any_request_while_a_backup_runs_hurts_nothing() {
    let scene = Scene::new().await;
    let backup = |_: &str| assert_eq!(scene.world.backup(), 4);
    let waits = scene.each_request(|| scene.pruner.start(&KEEP_ONE), backup, |case| scene.assert_whole(case, 4));
    assert!(waits >= 10, "{waits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_waits_at_any_request_while_another_runs_does_what_one_does() {
    let scene = Scene::new().await;
    let other = scene.world.other_host("other");
    other.sealift(&["snapshots"]).exits(0);
    let prune = |case: &str| {
        let output = other.sealift(&KEEP_ONE);
        assert_eq!(output.code, 0, "{case}: {output:?}");
    };
    let then = |case: &str| {
        scene.assert_whole(case, 3);
        let records = fs::read_dir(scene.server.bucket_folder().join("trinity/snapshots")).unwrap();
        assert_eq!(records.count(), 1, "{case}");
    };
    let waits = scene.each_request(|| scene.pruner.start(&KEEP_ONE), prune, then);
    assert!(waits >= 10, "{waits}");
}
