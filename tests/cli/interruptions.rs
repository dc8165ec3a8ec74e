//! Ctrl-C and SIGKILL in the middle: nothing half-written, and soon over.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::s3s::{S3s, Side};
use crate::support::world::{Output, Running, World, wait_until};

/// What "soon" means, on the slowest machine.
const SOON: Duration = Duration::from_secs(20);

fn names(world: &World, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(world.path(folder)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A restore that waits for a pack.
fn restoring(server: &S3s, world: &World) -> (crate::support::s3s::Held, Running) {
    world.backup();
    let held = server.hold("GET", "/packs/", Side::After);
    let identity = world.text("operator.key");
    let running =
        world.other_host("reader").start(&["restore", "-i", &identity, "--to", &world.text("target"), "--json"]);
    held.reached();
    (held, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_restore_leaves_no_file_under_its_name_and_the_next_one_does_it() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    let (_held, running) = restoring(&server, &world);
    running.kill();
    let left = names(&world, "target");
    assert!(left.iter().all(|name| name.starts_with(".sealift-restore-")), "{left:?}");
    let named = |output: Output| output.says(&world.path("target").join(&left[0]).display().to_string());
    named(world.restore("latest", "target").exits(15).says("--force"));
    let reader = world.other_host("reader");
    let output =
        reader.sealift(&["restore", "-i", &world.text("operator.key"), "--to", &world.text("target"), "--force"]);
    named(output.exits(0).says("staging-left"));
    assert!(fs::read(world.path("target/trinity.db")).unwrap() == world.sources().database);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_to_standard_output_left_goes_with_the_next_one() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let identity = world.text("operator.key");
    let restore = ["restore", "-i", &identity, "--only", "trinity.db", "--to", "-"];
    let held = server.hold("GET", "/packs/", Side::After);
    let running = world.other_host("reader").start(&restore);
    held.reached();
    running.kill();
    assert_eq!(names(&world, "tmp").len(), 1);
    let output = world.other_host("reader").sealift(&restore).exits(0);
    assert!(
        output.stderr.contains("scratch-removed") && output.stdout == world.sources().database,
        "{}",
        output.stderr
    );
    assert_eq!(names(&world, "tmp"), Vec::<String>::new());
}

/// In a container the number of the process is the same each time.
#[test]
fn what_a_killed_restore_with_the_same_pid_left_is_not_in_the_way() {
    let world = World::ready();
    world.backup();
    fs::create_dir(world.path("target")).unwrap();
    let restore = world.other_host("reader");
    let restore =
        restore.command(&["restore", "-i", &world.text("operator.key"), "--to", &world.text("target"), "--force"]);
    let mut command = std::process::Command::new("/bin/sh");
    let leave = "mkdir \"$0/.sealift-restore-$$\" && echo left > \"$0/.sealift-restore-$$/.env\" && exec \"$@\"";
    command.args(["-c", leave]).arg(world.path("target")).arg(restore.get_program()).args(restore.get_args());
    command.env_clear().envs(restore.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Output::of(command.current_dir(world.path("empty"))).exits(0);
    assert!(fs::read(world.path("target/trinity.db")).unwrap() == world.sources().database);
    let left =
        names(&world, "target").into_iter().find(|name| name.starts_with(".sealift-restore-")).expect("left alone");
    assert_eq!(fs::read_to_string(world.path("target").join(left).join(".env")).unwrap(), "left\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_leaves_nothing() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    let (_held, running) = restoring(&server, &world);
    let output = running.interrupt().exits(130);
    assert_eq!(output.json()["error"]["code"], 130);
    assert!(!world.path("target").exists(), "{:?}", names(&world, "target"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_lists_nothing_and_the_next_one_goes_on() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    for part in ["/packs/", "/manifests/", "/snapshots/"] {
        let held = server.hold("PUT", part, Side::Before);
        let running = world.start(&["backup", "--json"]);
        held.reached();
        let began = Instant::now();
        running.interrupt().exits(130);
        assert!(began.elapsed() < SOON, "{part}: it took {:?}", began.elapsed());
        assert_eq!(world.sealift(&["snapshots", "--json"]).exits(0).rows(), serde_json::json!([]), "{part}");
    }
    let now = world.sources();
    let sequence = world.backup();
    world.assert_restores(sequence, &now);
}

#[test]
fn a_backup_that_waits_for_a_busy_database_can_be_interrupted() {
    let world = World::ready();
    let connection = Connection::open(world.database()).unwrap();
    connection.execute_batch("begin exclusive").unwrap();
    let running = world.start(&["backup", "--json"]);
    let database = world.database().canonicalize().unwrap();
    wait_until("the backup stands at the database", || has_open(running.pid(), &database));
    let began = Instant::now();
    running.interrupt().exits(130);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_waits_for_another_can_be_interrupted() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    let held = server.hold("PUT", "/snapshots/", Side::Before);
    let first = world.start(&["backup", "--json"]);
    held.reached();
    let second = world.start(&["backup", "--json", "--wait", "50s"]);
    let lock = world.state_of_repository().join("lock").canonicalize().unwrap();
    wait_until("the second backup stands at the lock", || has_open(second.pid(), &lock));
    let began = Instant::now();
    second.interrupt().exits(130);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    held.release();
    first.wait().exits(0);
}

fn has_open(pid: u32, path: &std::path::Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path))
}
