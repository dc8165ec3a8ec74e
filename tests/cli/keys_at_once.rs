//! Two commands of operators at once, each relying on what the other deletes: whoever is last sees it and puts his back.

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

fn generations(server: &S3s) -> Vec<String> {
    crate::keys::names(&server.bucket_folder().join("trinity/keys/1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_whose_new_key_is_deleted_while_it_deletes_the_old_one_puts_it_back() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    let proof = world.text("bob.key");
    let held = server.hold(DELETE.0, DELETE.1, Side::Before);
    let rotation = start(&world, &["rotate", "-r", &bob, "--proof", &proof], "operator");
    held.reached();
    keys(&world, &["confirm", "--remove-newer"], &["operator"]).exits(0);
    assert_eq!(generations(&server), ["1.age"]);
    held.release();
    rotation.wait().exits(11).says("keys/1/2.age").says("is put back");
    assert_eq!(generations(&server), ["2.age"]);
    assert!(opens(&world, "bob", 1) && !opens(&world, "operator", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_whose_key_is_deleted_while_it_deletes_the_newer_one_puts_it_back() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let held = server.hold(DELETE.0, DELETE.1, Side::Before);
    let confirmation = start(&world, &["confirm", "--remove-newer"], "operator");
    held.reached();
    keys(&world, &["confirm"], &["bob"]).exits(0);
    assert_eq!(generations(&server), ["2.age"]);
    held.release();
    confirmation.wait().exits(11).says("keys/1/1.age").says("is put back");
    assert_eq!(generations(&server), ["1.age"]);
    assert!(opens(&world, "operator", 1));
}

/// What a person is asked between the first look and the deletion may take minutes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_a_rotation_or_a_confirmation_proves_ends_it_before_it_deletes_anything() {
    let server = S3s::start().await;
    let world = two_snapshots(&server);
    let bob = person(&world, "bob");
    let proof = world.text("bob.key");
    let held = server.hold("GET", "/manifests/", Side::Before);
    let rotation = start(&world, &["rotate", "-r", &bob, "--proof", &proof], "operator");
    held.reached();
    keys(&world, &["confirm", "--remove-newer"], &["operator"]).exits(0);
    held.release();
    rotation.wait().exits(11).says("keys/1/2.age");
    assert_eq!(generations(&server), ["1.age"]);

    keys(&world, &["rotate", "-r", &bob], &["operator"]).exits(3);
    let held = server.hold("GET", "/manifests/", Side::Before);
    let confirmation = start(&world, &["confirm", "--remove-newer"], "operator");
    held.reached();
    keys(&world, &["confirm"], &["bob"]).exits(0);
    held.release();
    confirmation.wait().exits(11).says("keys/1/1.age");
    assert_eq!(generations(&server), ["2.age"]);
    assert!(opens(&world, "bob", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_another_one_went_on_from_does_not_undo_it() {
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
    assert_eq!(generations(&server), ["4.age"]);
    assert!(opens(&world, "operator", 1) && opens(&world, "carol", 1) && !opens(&world, "bob", 1));
}

/// A reader of an epoch that lost all its keys is told what puts one back.
#[test]
fn where_no_key_is_left_a_reader_is_told_of_the_copies() {
    let world = crate::keys::ready();
    std::fs::remove_dir_all(world.path("repository/keys")).unwrap();
    world.restore("2", "nowhere").exits(13).says("keys/1/").says("keys restore");
    world.sealift(&["keys", "restore", "-i", &world.text("operator.key")]).exits(0);
    world.restore("2", "somewhere").exits(0);
}
