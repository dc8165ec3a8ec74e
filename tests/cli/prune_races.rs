//! A prune during a backup, and during another prune, where one of them waits at every single request while the other
//! runs from beginning to end: no listed snapshot ever lacks an object.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sealift::crypto::{Signer, sha256};
use serde_json::{Value, json};

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

/// A host with old snapshots, packs that a killed backup left since, and something new to back up; all of it older
/// than the grace period, so that nothing but the order of things protects what is new.
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
        Past::of(&world, &repository).age(&[30, 20, 10]);
        world.add_rows(60);
        let held = server.hold("PUT", "/manifests/", Side::Before);
        let running = world.start(&BACKUP);
        held.reached();
        running.kill();
        // What it left is old by any measure but that of the newest record.
        for pack in young_objects(&repository) {
            set_time(&pack, days_ago(9));
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

/// A backup under way that has put all of its packs and its manifest, longer ago than the grace period; those.
fn about_to_commit(scene: &Scene) -> (Held, Running, Vec<PathBuf>) {
    let held = scene.server.hold("PUT", "/manifests/", Side::After);
    let running = scene.world.start(&BACKUP);
    held.reached();
    let objects = young_objects(&scene.repository());
    for object in &objects {
        set_time(object, days_ago(8));
    }
    (held, running, objects)
}

/// A record under this number by `signer`, stored now, that shows what the newest one does.
fn write_newer(scene: &Scene, sequence: u64, signer: &Signer, takeovers: Value) {
    let newest = fs::read(scene.record(3)).unwrap();
    let line = newest.split(|byte| *byte == b'\n').next().unwrap();
    let mut record: Value = serde_json::from_slice(line).unwrap();
    record["previous"] = sha256(&newest).to_string().into();
    (record["sequence"], record["earlier"], record["takeovers"]) = (sequence.into(), json!([[1, 3]]), takeovers);
    record["time"] = Timestamp::now().to_string().into();
    fs::write(scene.record(sequence), signer.sign(&record.to_string()).unwrap().bytes()).unwrap();
}

/// What protects a backup under way is that its packs are younger than the newest record, and a copy of the host makes that
/// another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_objects_a_prune_deletes_because_of_a_newer_record_lists_nothing() {
    let scene = Scene::new().await;
    let (held, running, objects) = about_to_commit(&scene);
    write_newer(&scene, 5, &scene.world.signer(), json!([]));
    let keep_two = ["retain", "--keep-last", "2", "--apply", "--json"];
    let deleted = scene.pruner.sealift(&keep_two).json()["deleted"].clone();
    assert!(deleted["packs"].as_u64().unwrap() > 0 && deleted["manifests"].as_u64().unwrap() > 0, "{deleted}");
    held.release();
    let output = running.wait().exits(1);
    let gone: Vec<&PathBuf> = objects.iter().filter(|object| !object.exists()).collect();
    assert!(
        gone.iter().any(|object| output.all().contains(object.file_name().unwrap().to_str().unwrap())),
        "{output:?}"
    );
    assert!(!scene.record(4).exists());
    scene.world.other_host("checker").sealift(&["check", "--read-data"]).exits(0);
    // The next one finds the record that it never sent.
    scene.world.sealift(&BACKUP).exits(16);
    assert!(!scene.record(4).exists() && !scene.record(6).exists());
}

/// By a copy of this host, and by a host that claims to have taken over: the number of this backup is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_finds_its_number_taken_by_another_host_lists_nothing() {
    let scene = Scene::new().await;
    let other = Signer::generate().unwrap();
    let own = scene.world.signer();
    let step = json!([{"from": own.public(), "last": 3, "to": other.public()}]);
    for (signer, takeovers) in [(&own, json!([])), (&other, step)] {
        scene.reset();
        let (held, running, _) = about_to_commit(&scene);
        write_newer(&scene, 4, signer, takeovers);
        let record = fs::read(scene.record(4)).unwrap();
        held.release();
        running.wait().exits(16).says(&signer.public().fingerprint());
        assert!(fs::read(scene.record(4)).unwrap() == record && !scene.record(5).exists());
        scene.world.sealift(&BACKUP).exits(16);
        assert!(fs::read(scene.record(4)).unwrap() == record && !scene.record(5).exists());
    }
}

/// Its own number holds no record, so it lists again, and finds a newer one by a copy of this host.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_finds_a_newer_record_as_it_lists_again_lists_nothing() {
    let scene = Scene::new().await;
    let (held, running, _) = about_to_commit(&scene);
    fs::write(scene.record(4), "no record\n").unwrap();
    write_newer(&scene, 5, &scene.world.signer(), json!([]));
    held.release();
    running.wait().exits(16).says("snapshot 5");
    assert_eq!(fs::read(scene.record(4)).unwrap(), b"no record\n");
    assert!(!scene.record(6).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_object_is_deleted_meanwhile_lists_nothing_and_the_next_one_is_whole() {
    for folder in ["/packs/", "/manifests/"] {
        let scene = Scene::new().await;
        let (held, running, objects) = about_to_commit(&scene);
        let object = objects.into_iter().find(|object| object.to_string_lossy().contains(folder)).unwrap();
        fs::remove_file(&object).unwrap();
        held.release();
        running.wait().exits(1).says(object.file_name().unwrap().to_str().unwrap());
        assert!(!scene.record(4).exists(), "{folder}");
        assert_eq!(scene.world.backup(), 4);
        scene.assert_whole("the next one", 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_waits_at_any_request_while_a_backup_runs_loses_nothing() {
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
