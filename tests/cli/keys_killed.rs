//! A rotation that is killed at each of its requests, and two at once: at least one identity always opens.

use std::fs;

use crate::keys::{keys, opens, operator, person, secret};
use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::s3s::{S3s, Side};
use crate::support::world::{World, copy_tree, tree};

/// Two snapshots in a bucket.
pub fn two_snapshots(server: &dyn Server) -> World {
    let world = World::in_bucket(server);
    world.backup();
    world.add_rows(5);
    world.backup();
    world
}

/// How many requests a rotation of one epoch takes: a machine that has not read the two records before fetches them, too.
const ROTATION: std::ops::RangeInclusive<usize> = 10..=12;

/// Kills a command of the operator's at each of its requests in turn; looks at what is left, and puts the keys back as they
/// were. How many requests there are.
fn kill_at_each_request(server: &S3s, world: &World, command: &[&str], sides: &[Side], look: impl Fn(&str)) -> usize {
    let folder = server.bucket_folder().join("trinity/keys");
    copy_tree(&folder, &world.path("keys-before"));
    let put_back = || {
        fs::remove_dir_all(&folder).unwrap();
        copy_tree(&world.path("keys-before"), &folder);
        let _ = fs::remove_dir_all(server.bucket_folder().join("trinity/receipts"));
    };
    let mut requests = 0;
    for side in sides.iter().copied() {
        for request in 0.. {
            let held = server.hold_nth(request, side);
            let mut running = operator(world).start(command);
            if !held.reached_by(&mut running) {
                running.wait().exits(0);
                put_back();
                requests = request;
                break;
            }
            running.kill();
            drop(held);
            server.let_all_pass();
            look(&format!("{side:?} request {request}"));
            put_back();
        }
        server.let_all_pass();
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_request_in_turn_one_of_the_two_always_opens_and_the_next_run_ends_it() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    let (key, proof) = (world.text("operator.key"), world.text("bob.key"));
    let rotate = ["keys", "rotate", "-r", &bob, "-i", &key, "--proof", &proof, "--json"];
    let requests = kill_at_each_request(&server, &world, &rotate, &[Side::Before, Side::After], |at| {
        let by = [opens(&world, "operator", 1), opens(&world, "bob", 1)];
        assert!(by.contains(&true), "{at}");
        // An identity that still opens can finish it.
        let identity = if by[0] { "operator" } else { "bob" };
        keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &[identity]).exits(0);
        assert!(opens(&world, "bob", 2) && !opens(&world, "operator", 2), "{at}");
    });
    assert!(ROTATION.contains(&requests), "{requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_killed_is_ended_by_the_next_one_wherever_that_was() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
    let remove = ["keys", "remove", "-r", &bob, "-i", &world.text("operator.key"), "--json"];
    let ended = std::cell::Cell::new(0);
    let requests = kill_at_each_request(&server, &world, &remove, &[Side::Before, Side::After], |at| {
        assert!(opens(&world, "operator", 1), "{at}");
        let bob_opens = opens(&world, "bob", 1);
        let again = keys(&world, &["remove", "-r", &bob], &["operator"]);
        assert_eq!(again.code, if bob_opens { 0 } else { 2 }, "{at}: {again:?}");
        ended.set(ended.get() + u32::from(!bob_opens));
        assert!(opens(&world, "operator", 2) && !opens(&world, "bob", 2), "{at}");
    });
    assert!(ROTATION.contains(&requests), "{requests}");
    assert_eq!(ended.get(), 3, "only after the deletion it is ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_is_killed_is_ended_by_the_next_one_wherever_that_was() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    let add = ["keys", "add", "-r", &bob, "-i", &world.text("operator.key"), "--json"];
    let requests = kill_at_each_request(&server, &world, &add, &[Side::Before, Side::After], |at| {
        assert!(opens(&world, "operator", 1), "{at}");
        keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
        assert!(opens(&world, "operator", 2) && opens(&world, "bob", 2), "{at}");
        assert_eq!(crate::keys::names(&server.bucket_folder().join("trinity/keys/1")).len(), 1, "{at}");
    });
    assert!(ROTATION.contains(&requests), "{requests}");
}

/// Two snapshots of one epoch, and a third of another.
fn two_epochs(server: &S3s) -> World {
    let world = two_snapshots(server);
    let config = fs::read_to_string(world.config()).unwrap();
    let own = config.split('"').find(|word| word.starts_with("age1")).unwrap();
    world.sealift(&["keys", "rebase", "-r", own]).exits(0);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_two_epochs_one_of_the_two_always_opens_each_and_the_next_run_ends_it() {
    let server = S3s::start().await;
    let world = two_epochs(&server);
    let bob = person(&world, "bob");
    let (key, proof) = (world.text("operator.key"), world.text("bob.key"));
    let rotate = ["keys", "rotate", "-r", &bob, "-i", &key, "--proof", &proof, "--json"];
    let requests = kill_at_each_request(&server, &world, &rotate, &[Side::After], |at| {
        for snapshot in [2, 3] {
            assert!(opens(&world, "operator", snapshot) || opens(&world, "bob", snapshot), "{at}");
        }
        keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0);
        for snapshot in [2, 3] {
            assert!(opens(&world, "bob", snapshot) && !opens(&world, "operator", snapshot), "{at}");
        }
    });
    assert!((14..=14 + 3).contains(&requests), "{requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_is_killed_leaves_what_the_new_identity_opens_and_the_next_one_ends_it() {
    let server = S3s::start().await;
    let world = two_epochs(&server);
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let confirm = ["keys", "confirm", "-i", &world.text("bob.key"), "-i", &world.text("operator.key"), "--json"];
    let requests = kill_at_each_request(&server, &world, &confirm, &[Side::After], |at| {
        assert!([1, 3].into_iter().all(|snapshot| opens(&world, "bob", snapshot)), "{at}");
        keys(&world, &["confirm"], &["bob", "operator"]).exits(0);
        for snapshot in [1, 3] {
            assert!(opens(&world, "bob", snapshot) && !opens(&world, "operator", snapshot), "{at}");
        }
    });
    assert!(requests > 8, "{requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_at_once_one_wins_and_the_other_ends_with_11() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let (key, proof) = (world.text("operator.key"), world.text("bob.key"));
    let held = server.hold("PUT", "/keys/1/2.age", Side::Before);
    let slow = operator(&world).start(&["keys", "rotate", "-r", &bob, "-i", &key, "--proof", &proof, "--json"]);
    held.reached();
    let proof = world.text("carol.key");
    keys(&world, &["rotate", "-r", &carol, "--proof", &proof], &["operator"]).exits(0);
    held.release();
    slow.wait().exits(11).says("another rotation");
    assert!(opens(&world, "carol", 2) && !opens(&world, "bob", 2) && !opens(&world, "operator", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_under_different_numbers_neither_deletes_what_the_other_made() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let (key, proof) = (world.text("operator.key"), world.text("bob.key"));
    let held = server.hold("PUT", "/keys/1/2.age", Side::After);
    let slow = operator(&world).start(&["keys", "rotate", "-r", &bob, "-i", &key, "--proof", &proof, "--json"]);
    held.reached();
    let proof = world.text("carol.key");
    keys(&world, &["rotate", "-r", &carol, "--proof", &proof], &["operator"]).exits(0).says("keys/1/2.age");
    held.release();
    slow.wait().exits(11).says("another rotation");
    assert!(opens(&world, "carol", 2) && opens(&world, "bob", 2) && !opens(&world, "operator", 2));
}

/// The operator leaves the set while epoch 2 has no snapshot yet: it gets a new key file, too, which nothing proves yet.
fn assert_reaches_what_is_begun(world: &World, bob: &str) {
    let proof = world.text("bob.key");
    let json = keys(world, &["list"], &["operator"]).exits(0).json();
    assert_eq!(json["epochs"][1]["versions"][0]["opens"], true, "{json}");
    let output = keys(world, &["rotate", "-r", bob, "--proof", &proof], &["operator"]).exits(3);
    assert!(output.warnings().contains(&"rotation-not-proved".to_owned()), "{output:?}");
    let json = output.json();
    for field in ["needed", "proved"] {
        let of: Vec<_> = json["epochs"].as_array().unwrap().iter().map(|epoch| &epoch[field]).collect();
        assert_eq!(of, [&serde_json::json!(true), &serde_json::json!(false)], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_removed_while_a_rebase_uploads_is_removed_from_its_epoch_once_it_has_a_snapshot() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    let held = server.hold("PUT", "/packs/", Side::Before);
    let rebase = world.start(&["keys", "rebase", "--json"]);
    held.reached();
    assert_reaches_what_is_begun(&world, &bob);
    held.release();
    rebase.wait().exits(0);
    let next = world.backup();
    keys(&world, &["confirm"], &["bob", "operator"]).exits(0);
    world.backup();
    assert!(
        [3, next].into_iter().all(|snapshot| opens(&world, "bob", snapshot) && !opens(&world, "operator", snapshot))
    );
    // What no identity here opens is named.
    let carol = person(&world, "carol");
    let held = server.hold("PUT", "/packs/", Side::Before);
    let rebase = world.start(&["keys", "rebase", "-r", &carol, "--json"]);
    held.reached();
    keys(&world, &["rotate", "-r", &bob], &["bob"]).exits(0).says("keys/3/1.age");
    held.release();
    rebase.wait().exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_while_a_backup_uploads_is_not_undone_by_it_nor_by_the_next_three() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    world.add_rows(20);
    let held = server.hold("PUT", "/packs/", Side::Before);
    let backup = world.start(&["backup", "--json"]);
    held.reached();
    keys(&world, &["rotate", "-r", &bob, "--proof", &world.text("bob.key")], &["operator"]).exits(0);
    held.release();
    let mut snapshots = vec![1, 2, backup.wait().exits(0).json()["sequence"].as_u64().unwrap()];
    for _ in 0..3 {
        world.add_rows(1);
        snapshots.push(world.backup());
        let keys = tree(&server.bucket_folder().join("trinity/keys/1"));
        assert_eq!(keys.keys().map(|path| path.file_name().unwrap()).collect::<Vec<_>>(), ["2.age"]);
    }
    assert!(snapshots.into_iter().all(|number| opens(&world, "bob", number) && !opens(&world, "operator", number)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_removed_between_a_takeover_and_its_first_backup_opens_nothing_once_that_is_confirmed() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    let fresh = world.other_host("fresh");
    let (database, file) = (world.database().display().to_string(), world.environment().display().to_string());
    let key = world.text("operator.key");
    let own = secret(&world, "operator").to_public().to_string();
    let init = ["init", "--take-over", "--yes", "-r", &own, "-i", &key, "--database", &database, "--file", &file];
    fresh.sealift(&init).exits(0);
    assert_reaches_what_is_begun(&world, &bob);
    let sequence = fresh.backup().to_string();
    let accept = fresh.signer().public().fingerprint();
    keys(&world, &["confirm", "--accept-signer", &accept], &["bob", "operator"]).exits(0);
    let by = |name: &str| {
        let (file, to) = (world.text(&format!("{name}.key")), world.text(&format!("by-{name}")));
        let restore = ["restore", &sequence, "-i", &file, "--to", &to, "--accept-signer", &accept];
        world.other_host(&format!("{name}'s")).sealift(&restore)
    };
    by("bob").exits(0);
    by("operator").exits(12);
}

/// At most ten requests and kilobytes, whatever the size of the repository, but for the records that this machine has not
/// read before.
fn assert_cheap(world: &World) {
    let bob = person(world, "bob");
    let carol = person(world, "carol");
    let sum = |json: &serde_json::Value| {
        let requests = json["requests"].as_object().unwrap().values();
        requests.map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    let proof = world.text("bob.key");
    let json = keys(world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0).json();
    assert!(sum(&json) <= 10 + 2, "{json}");
    assert!(json["uploaded_bytes"].as_u64().unwrap() < 5_000, "{json}");
    assert!(opens(world, "bob", 1) && !opens(world, "operator", 1));
    let json = keys(world, &["rotate", "-r", &carol], &["bob"]).exits(3).json();
    assert!(sum(&json) <= 10, "{json}");
    assert!(opens(world, "bob", 1) && opens(world, "carol", 2));
    // One more where the name of its receipt, which has the second in it, is taken.
    let json = keys(world, &["confirm"], &["carol", "bob"]).exits(0).json();
    assert!(sum(&json) <= 10 + 2 + 1, "{json}");
    assert!(!opens(world, "bob", 2) && opens(world, "carol", 1));
    // Three more epochs cost four requests each.
    for _ in 0..3 {
        world.sealift(&["keys", "rebase", "-r", &carol]).exits(0);
    }
    let json = keys(world, &["rotate", "-r", &bob, "--proof", &proof], &["carol"]).exits(0).json();
    assert_eq!(json["epochs"].as_array().unwrap().len(), 4);
    assert!(sum(&json) <= 10 + 4 * 3 + 5, "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_costs_a_handful_of_requests_on_s3s() {
    let server = S3s::start().await;
    assert_cheap(&two_snapshots(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_costs_a_handful_of_requests_on_minio() {
    let Some(server) = Minio::start().await else { return };
    assert_cheap(&two_snapshots(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bucket_that_keeps_versions_a_rotation_says_that_the_old_key_can_be_fetched_for_ever() {
    let Some(server) = Minio::start_versioned().await else { return };
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let proof = world.text("bob.key");
    let says = |output: crate::support::world::Output| {
        assert!(output.warnings().contains(&"old-key-kept".to_owned()), "{output:?}");
        output.json()
    };
    let json = says(keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0));
    assert_eq!(json["epochs"][0]["deleted"], serde_json::json!([1]));
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
    // Where nothing was deleted, nothing can be fetched.
    let output = keys(&world, &["rotate", "-r", &carol], &["bob"]).exits(3);
    assert!(!output.warnings().contains(&"old-key-kept".to_owned()), "{output:?}");
    says(keys(&world, &["confirm"], &["carol", "bob"]).exits(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bucket_that_locks_its_objects_a_rotation_says_until_when_the_old_key_can_be_fetched() {
    let Some(server) = Minio::start_locked().await else { return };
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let proof = world.text("bob.key");
    let says = |json: &serde_json::Value| {
        let warnings = json["warnings"].as_array().unwrap().iter();
        let locked: Vec<_> = warnings.filter(|warning| warning["code"] == "old-key-locked").collect();
        assert_eq!(locked.len(), 1, "{json}");
        let until: jiff::Timestamp = locked[0]["until"].as_str().unwrap().parse().unwrap();
        let hours = until.duration_since(jiff::Timestamp::now()).as_hours();
        assert!((22..=24).contains(&hours), "{json}");
    };
    says(&keys(&world, &["rotate", "-r", &bob, "--proof", &proof], &["operator"]).exits(0).json());
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
    keys(&world, &["rotate", "-r", &carol], &["bob"]).exits(3);
    says(&keys(&world, &["confirm"], &["carol", "bob"]).exits(0).json());
    assert!(opens(&world, "carol", 2) && !opens(&world, "bob", 2));
}
