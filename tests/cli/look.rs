//! Servers without conditional puts: every machine creates objects as the writer does, and the mode is only for such servers.

use serde_json::json;

use crate::keys::person;
use crate::support::s3s::{Conditions, S3s};
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn operators_add_keys_check_and_drill_where_the_server_refuses_conditions() {
    let server = S3s::start().await;
    server.treat_conditions(Conditions::Refused);
    let world = World::in_bucket_of_a_single_writer(&server);
    world.backup();
    let (bob, identity) = (person(&world, "bob"), world.text("operator.key"));
    let operator = world.other_host("operator");
    let add = ["keys", "add", "-r", &bob, "--identity", &identity, "--json"];
    operator.sealift(&add).exits(0);
    for command in [&["drill", "-i", &identity, "--json"][..], &["check", "--read-data", "--json"][..]] {
        let done = operator.sealift(command).exits(0).json();
        assert!(done["receipt"].is_string(), "{command:?}: {done}");
    }
    let restore = ["restore", "-i", &world.text("bob.key"), "--to", &world.text("out"), "--json"];
    operator.sealift(&restore).exits(0);
}

#[test]
fn a_server_that_honours_conditions_is_used_by_them_whatever_the_flag_says() {
    let world = World::new();
    let made = world.init_with(&["--single-writer"]).exits(0);
    assert!(!made.warnings().contains(&"single-writer".to_owned()), "{made:?}");
    world.backup();
    assert_eq!(world.record_json(1)["create_once"], json!(null));
    world.sealift(&["init", "--single-writer", "--json"]).exits(0);
    world.backup();
    assert_eq!(world.record_json(2)["create_once"], json!(null));
}
