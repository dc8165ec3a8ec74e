//! Two commands of operators at once: each deletes only lower versions than the one that it relies on, so that one stays.

use crate::keys::{keys, opens, operator, person};
use crate::keys_killed::two_snapshots;
use crate::support::s3s::{S3s, Side};
use crate::support::world::{Running, World};

/// Where S3 deletes many objects: the bucket itself.
const DELETE: (&str, &str) = ("POST", "/bucket");

fn start(world: &World, arguments: &[&str], identity: &str) -> Running {
    let key = world.text(&format!("{identity}.key"));
    operator(world).start(&[&["keys"], arguments, &["-i", &key, "--json"]].concat())
}

fn versions(server: &S3s) -> Vec<String> {
    crate::keys::names(&server.bucket_folder().join("trinity/keys/1"))
}

/// What a person is asked between the first look and the deletion may take minutes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_a_rotation_or_a_confirmation_proves_ends_it_before_it_deletes_anything() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let [by_bob, by_carol] = ["bob.key", "carol.key"].map(|name| world.text(name));
    let held = server.hold("GET", "/manifests/", Side::Before);
    let rotation = start(&world, &["rotate", "-r", &bob, "--proof", &by_bob], "operator");
    held.reached();
    keys(&world, &["rotate", "-r", &carol, "--proof", &by_carol], &["operator", "bob"]).exits(0);
    held.release();
    rotation.wait().exits(11).says("keys/1/2.age");
    assert_eq!(versions(&server), ["3.age"]);
    assert!(opens(&world, "carol", 1) && !opens(&world, "bob", 1));

    keys(&world, &["rotate", "-r", &bob], &["carol"]).exits(3);
    let held = server.hold("GET", "/manifests/", Side::Before);
    let confirmation = start(&world, &["confirm", "-i", &by_carol], "bob");
    held.reached();
    keys(&world, &["rotate", "-r", &bob, "--proof", &by_bob], &["carol", "bob"]).exits(0);
    held.release();
    confirmation.wait().exits(11).says("keys/1/4.age");
    assert_eq!(versions(&server), ["5.age"]);
    assert!(opens(&world, "bob", 1));
}

/// A key file that appears meanwhile is that of another command, whatever deletes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_was_not_listed_at_the_start_is_not_deleted_and_ends_the_command() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
    let held = server.hold("GET", "/manifests/", Side::Before);
    let confirmation = start(&world, &["confirm"], "operator");
    held.reached();
    keys(&world, &["rotate", "-r", &carol], &["operator"]).exits(3);
    held.release();
    confirmation.wait().exits(11).says("keys/1/3.age");
    assert_eq!(versions(&server), ["2.age", "3.age"]);
    assert!(["operator", "bob", "carol"].into_iter().all(|name| opens(&world, name, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_another_one_continued_from_does_not_undo_it() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let (bob, carol) = (person(&world, "bob"), person(&world, "carol"));
    let held = server.hold(DELETE.0, DELETE.1, Side::Before);
    let slow = start(&world, &["add", "-r", &bob], "operator");
    held.reached();
    keys(&world, &["add", "-r", &carol], &["operator"]).exits(0);
    keys(&world, &["remove", "-r", &bob], &["operator"]).exits(0);
    held.release();
    slow.wait().exits(11).says("keys/1/2.age");
    assert_eq!(versions(&server), ["4.age"]);
    assert!(opens(&world, "operator", 1) && opens(&world, "carol", 1) && !opens(&world, "bob", 1));
}

/// Where an epoch lost all its key files, the message names the command that restores one.
#[test]
fn where_no_key_file_is_left_keys_restore_brings_back_the_copy_of_the_host() {
    let world = crate::keys::ready();
    std::fs::remove_dir_all(world.path("repository/keys")).unwrap();
    world.restore("2", "nowhere").exits(13).says("keys/1/").says("keys restore");
    world.sealift(&["keys", "restore", "-i", &world.text("operator.key")]).exits(0);
    world.restore("2", "somewhere").exits(0);
}
