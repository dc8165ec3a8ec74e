//! A prune beside a backup, and beside another prune, where one of them waits at every single request while the other
//! runs from beginning to end: no listed snapshot ever lacks an object.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use sealift::crypto::sha256;

use crate::support::past::{Past, days_ago, set_time};
use crate::support::s3s::{Held, S3s, Side};
use crate::support::world::{Running, Sources, World, copy_tree};

const KEEP_ONE: [&str; 5] = ["retain", "--keep-last", "1", "--apply", "--json"];
const BACKUP: [&str; 2] = ["backup", "--json"];

/// The packs and manifests that were put within the last hour.
fn young_objects(repository: &Path) -> Vec<PathBuf> {
    let folders = ["packs", "manifests"].map(|folder| fs::read_dir(repository.join(folder)).unwrap());
    let objects = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let age = |object: &PathBuf| fs::metadata(object).unwrap().modified().unwrap().elapsed().unwrap_or_default();
    objects.filter(|object| age(object).as_secs() < 3600).collect()
}

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
        for pack in young_objects(&repository) {
            set_time(&pack, days_ago(5));
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

    fn repository(&self) -> PathBuf {
        self.server.bucket_folder().join("trinity")
    }

    fn record(&self, sequence: u64) -> PathBuf {
        self.repository().join(format!("snapshots/{sequence:010}.record"))
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
        assert!(self.record(newest).exists(), "{case}");
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

/// A backup under way that has put all of its packs and its manifest, a minute ago by the server's clock.
fn about_to_commit(scene: &Scene) -> (Held, Running) {
    let held = scene.server.hold("PUT", "/manifests/", Side::After);
    let running = scene.world.start(&BACKUP);
    held.reached();
    for object in young_objects(&scene.repository()) {
        set_time(&object, Timestamp::now() - SignedDuration::from_mins(1));
    }
    (held, running)
}

/// What protects a backup under way is that its packs are younger than the newest record, and whoever holds the host's key
/// can make that another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_which_somebody_signs_the_newest_record_lists_nothing() {
    let scene = Scene::new().await;
    let (held, running) = about_to_commit(&scene);
    let newest = fs::read(scene.record(3)).unwrap();
    let line = newest.split(|byte| *byte == b'\n').next().unwrap();
    let mut forged: serde_json::Value = serde_json::from_slice(line).unwrap();
    forged["previous"] = sha256(&newest).to_string().into();
    (forged["sequence"], forged["earlier"]) = (5.into(), serde_json::json!([[1, 3]]));
    forged["time"] = Timestamp::now().to_string().into();
    let signed = scene.world.signer().sign(&forged.to_string()).unwrap();
    fs::write(scene.record(5), signed.bytes()).unwrap();
    let keep_two = ["retain", "--keep-last", "2", "--apply", "--json"];
    let deleted = scene.pruner.sealift(&keep_two).json()["deleted"].clone();
    assert!(deleted["packs"].as_u64().unwrap() > 0 && deleted["manifests"].as_u64().unwrap() > 0, "{deleted}");
    held.release();
    running.wait().exits(11).says("snapshot 5 carries this host's signature");
    assert!(!scene.record(4).exists());
    scene.world.other_host("checker").sealift(&["check", "--read-data"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_pack_somebody_deletes_lists_nothing_and_the_next_one_goes_on() {
    let scene = Scene::new().await;
    let (held, running) = about_to_commit(&scene);
    let pack = young_objects(&scene.repository())
        .into_iter()
        .find(|object| object.to_string_lossy().contains("/packs/"))
        .unwrap();
    fs::remove_file(&pack).unwrap();
    held.release();
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    running.wait().exits(11).says(&name).says("goes on from what is still there");
    assert!(!scene.record(4).exists());
    assert_eq!(scene.world.backup(), 4);
    scene.assert_whole("the next one", 4);
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
        let records = fs::read_dir(scene.repository().join("snapshots")).unwrap();
        assert_eq!(records.count(), 1, "{case}");
    };
    let waits = scene.each_request(|| scene.pruner.start(&KEEP_ONE), prune, then);
    assert!(waits >= 10, "{waits}");
}
