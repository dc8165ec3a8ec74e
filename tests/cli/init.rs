//! `init` on servers that do and do not obey conditional puts, a second time, and what it leaves; `doctor` afterwards.

use std::fs;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::s3s::{Conditions, Date, S3s};
use crate::support::world::{Output, World};

/// A host that has a bucket and no repository yet.
fn bare(server: &dyn Server) -> World {
    let mut world = World::new();
    world.repository = server.url("trinity").to_string();
    world.set_variable("AWS_ENDPOINT_URL", server.endpoint());
    world.set_variable("AWS_REGION", "us-east-1");
    world.set_variable("AWS_ACCESS_KEY_ID", server.access_key_id());
    world.set_variable("AWS_SECRET_ACCESS_KEY", server.secret_access_key());
    world
}

fn init(world: &World, more: &[&str]) -> Output {
    let (database, identity) = (world.database().display().to_string(), world.text("operator.key"));
    let usual = ["init", "--database", &database, "--new-identity", &identity, "--no-passphrase", "--json"];
    world.sealift(&[&usual, more].concat())
}

fn host_json(world: &World) -> Value {
    serde_json::from_slice(&fs::read(world.state_of_repository().join("host.json")).unwrap()).unwrap()
}

fn objects(server: &S3s) -> usize {
    let folder = server.bucket_folder().join("trinity");
    fs::read_dir(folder).map(Iterator::count).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_conditional_puts_is_refused_unless_a_single_writer_is_chosen() {
    for conditions in [Conditions::Ignored, Conditions::Refused] {
        let server = S3s::start().await;
        server.treat_conditions(conditions);
        is_refused_unless_a_single_writer_is_chosen(&server);
    }
}

fn is_refused_unless_a_single_writer_is_chosen(server: &S3s) {
    let world = bare(server);
    let refused = init(&world, &[]).exits(15).json();
    assert!(refused["error"]["hint"].as_str().unwrap().contains("--single-writer"), "{refused}");
    assert_eq!(objects(server), 0, "something was made");
    assert!(!world.identity().exists() && !world.config().exists());

    let made = init(&world, &["--single-writer"]).exits(0);
    assert!(made.warnings().contains(&"single-writer".to_owned()), "{made:?}");
    assert_eq!(host_json(&world)["create_once"], "look");
    let doctor = world.sealift(&["doctor", "--json"]).exits(0);
    assert_eq!((&doctor.json()["create_once"], &doctor.json()["conditional_put"]), (&json!("look"), &json!(false)));
    assert!(doctor.warnings().contains(&"single-writer".to_owned()), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_init_finds_the_mode_again() {
    let server = S3s::start().await;
    server.treat_conditions(Conditions::Ignored);
    let world = bare(&server);
    init(&world, &["--single-writer"]).exits(0);
    fs::remove_file(world.state_of_repository().join("host.json")).unwrap();
    fs::remove_file(server.bucket_folder().join("trinity/RECOVERY.txt")).unwrap();
    init(&world, &[]).exits(15);
    // It looks before it puts: what lies there is kept.
    let text = server.bucket_folder().join("trinity/RECOVERY.txt");
    fs::write(&text, "another text").unwrap();
    init(&world, &["--single-writer"]).exits(15);
    assert_eq!(fs::read_to_string(&text).unwrap(), "another text");
    fs::remove_file(&text).unwrap();
    let resumed = init(&world, &["--single-writer"]).exits(0).json();
    assert_eq!(resumed["resumed"], true);
    assert_eq!(host_json(&world)["create_once"], "look");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_conditional_puts_is_warned_when_the_server_stops_obeying_them() {
    let server = S3s::start().await;
    let world = bare(&server);
    init(&world, &[]).exits(0);
    assert!(host_json(&world).get("create_once").is_none());
    world.sealift(&["doctor", "--json"]).exits(0);
    server.treat_conditions(Conditions::Ignored);
    let doctor = world.sealift(&["doctor", "--json"]).exits(3);
    assert!(doctor.warnings().contains(&"conditional-puts-ignored".to_owned()), "{doctor:?}");
    let switched = world.sealift(&["init", "--single-writer", "--json"]).exits(0);
    assert_eq!(switched.warnings(), ["single-writer"]);
    world.sealift(&["doctor", "--json"]).exits(0);
    world.backup();
}

#[test]
fn a_finished_repository_is_refused_and_with_if_missing_left_as_it_is() {
    let world = World::new();
    let made = init(&world, &["--if-missing"]).exits(0).json();
    let (config, host) = (fs::read(world.config()).unwrap(), host_json(&world));
    init(&world, &[]).exits(15);
    let again = init(&world, &["--if-missing"]).exits(0).json();
    assert_eq!(again["already"], true);
    for member in ["repository", "signer", "epoch"] {
        assert_eq!(again[member], made[member], "{member}");
    }
    assert_eq!((fs::read(world.config()).unwrap(), host_json(&world)), (config, host));
    // On another machine it is another host's.
    let other = world.other_host("other");
    let identity = world.text("other.key");
    let database = world.database().display().to_string();
    let arguments = ["init", "--database", &database, "--new-identity", &identity, "--no-passphrase", "--if-missing"];
    other.sealift(&arguments).exits(15);
}

#[test]
fn the_configuration_that_init_writes_names_its_rules_and_shows_its_limits() {
    let world = World::new();
    init(&world, &[]).exits(0);
    let text = fs::read_to_string(world.config()).unwrap();
    let config: toml::Table = text.parse().unwrap();
    assert_eq!(config["retention"], toml::Value::Table([("keep_daily".to_owned(), 14.into())].into_iter().collect()));
    assert!(!config.contains_key("limits") && text.contains("\n# [limits]\n"), "{text}");
    // As it stands there, every limit can be switched on.
    let limits = text.split_once("# [limits]\n").unwrap().1.split("\n\n").next().unwrap().replace("# ", "");
    let upload = limits.lines().find(|line| line.starts_with("upload")).unwrap();
    let on: String = text
        .replace("# [limits]\n", "[limits]\n")
        .lines()
        .map(|line| {
            let limit = line.strip_prefix("# ").filter(|line| limits.contains(&line.replace("# ", ""))).unwrap_or(line);
            limit.to_owned() + "\n"
        })
        .collect();
    let table: toml::Table = on.parse().unwrap();
    assert!(table["limits"].get("upload").is_some() && table["limits"].get("writer_hold").is_some(), "{upload}: {on}");
    fs::write(world.config(), on).unwrap();
    world.backup();
}

#[test]
fn init_prints_the_lines_that_identity_files_carry() {
    let world = World::new();
    let made = init(&world, &[]).exits(0).json();
    let comments: Vec<String> = serde_json::from_value(made["comments"].clone()).unwrap();
    assert_eq!(comments[0], format!("repository: {}", made["repository"].as_str().unwrap()));
    assert_eq!(comments[1], format!("signer: {}", made["signer"].as_str().unwrap()));
    let identity = fs::read_to_string(world.identity()).unwrap();
    for comment in comments {
        assert!(identity.contains(&format!("\n# {comment}\n")), "{comment}: {identity}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_delete_are_named_unless_the_bucket_keeps_versions() {
    let code = "writer-can-delete".to_owned();
    let server = S3s::start().await;
    let world = bare(&server);
    assert!(init(&world, &[]).exits(0).warnings().contains(&code));
    assert_eq!(host_json(&world)["may_delete"], true);
    world.backup();
    for command in ["doctor", "status"] {
        assert!(world.sealift(&[command, "--json"]).exits(0).warnings().contains(&code), "{command}");
        let watcher = world.other_host("watcher").sealift(&[command, "--json"]).exits(0);
        assert!(!watcher.warnings().contains(&code), "{command}: {watcher:?}");
    }
    let Some(server) = Minio::start_versioned().await else { return };
    let versioned = bare(&server);
    assert!(!init(&versioned, &[]).exits(0).warnings().contains(&code));
    assert_eq!(host_json(&versioned)["may_delete"], false);
    let doctor = versioned.sealift(&["doctor", "--json"]).exits(0);
    let document = doctor.json();
    assert_eq!([&document["delete"], &document["versions"], &document["conditional_put"]], [&json!(true); 3]);
    assert!(!doctor.warnings().contains(&code));
}

#[test]
fn in_a_directory_there_are_no_credentials_to_warn_of() {
    let world = World::new();
    assert_eq!(init(&world, &[]).exits(0).warnings(), ["single-recipient"]);
    assert_eq!(host_json(&world).get("may_delete"), None);
    world.backup();
    for command in ["doctor", "status"] {
        assert!(world.sealift(&[command, "--json"]).exits(0).warnings().is_empty(), "{command}");
    }
    assert_eq!(host_json(&world).get("may_delete"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_shown_by_the_newest_record() {
    let Some(server) = Minio::start_locked().await else { return };
    let world = bare(&server);
    init(&world, &[]).exits(0);
    world.backup();
    let document = world.sealift(&["doctor", "--json"]).exits(0).json();
    let until: jiff::Timestamp = document["locked_until"].as_str().unwrap().parse().unwrap();
    assert!(until > jiff::Timestamp::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_more_than_five_minutes_off_is_a_warning() {
    let server = S3s::start().await;
    let world = bare(&server);
    init(&world, &[]).exits(0);
    for (minutes, off) in [(4, false), (7, true), (-7, true)] {
        server.tell_time(Date::Off(SignedDuration::from_mins(minutes)));
        let doctor = world.sealift(&["doctor", "--json"]).exits(0);
        assert_eq!(doctor.warnings().contains(&"clock-off".to_owned()), off, "{minutes}: {doctor:?}");
    }
    world.sealift(&["doctor", "--strict"]).exits(3);
}

#[test]
fn a_doctor_without_a_repository_says_so() {
    World::new().sealift(&["doctor"]).exits(10);
}
