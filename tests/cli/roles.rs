//! The policies that `sealift doctor --policy` prints, held against a real server: each role can do its part, and is denied
//! what belongs to another.

use std::process::Command;

use sealift::store::{Credentials, Key, RepositoryUrl, Store, StoreError, Stored};
use serde_json::Value;

use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::world::{Output, World};

/// Temporary credentials that may do what a policy allows, and nothing else.
struct Session {
    id: String,
    secret: String,
    token: String,
}

impl Session {
    /// From the server's root user, narrowed to the policy of a role.
    fn of(role: &str, world: &World, server: &dyn Server) -> Self {
        let policy = String::from_utf8(world.sealift(&["doctor", "--policy", role]).exits(0).stdout).unwrap();
        let answer = Output::of(
            Command::new("curl")
                .args(["--silent", "--show-error", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:sts"])
                .args(["--user", &format!("{}:{}", server.access_key_id(), server.secret_access_key())])
                .args(["--data", "Action=AssumeRole", "--data", "Version=2011-06-15", "--data", "DurationSeconds=3600"])
                .args(["--data-urlencode", &format!("Policy={policy}"), server.endpoint()]),
        );
        let answer = String::from_utf8(answer.exits(0).stdout).unwrap();
        let field = |name: &str| {
            let value = answer.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
            value.unwrap_or_else(|| panic!("no {name} in {answer}")).0.to_owned()
        };
        Self { id: field("AccessKeyId"), secret: field("SecretAccessKey"), token: field("SessionToken") }
    }

    fn give_to(&self, world: &mut World) {
        world.set_variable("AWS_ACCESS_KEY_ID", &self.id);
        world.set_variable("AWS_SECRET_ACCESS_KEY", &self.secret);
        world.set_variable("AWS_SESSION_TOKEN", &self.token);
    }

    async fn store(&self, url: &RepositoryUrl, server: &dyn Server) -> std::sync::Arc<dyn Store> {
        let credentials = Credentials::new(&self.id, &self.secret, Some(self.token.clone()), None, "test");
        let settings = sealift::store::S3Settings { credentials: Some(credentials), ..server.settings() };
        sealift::store::open(url, &settings).await.expect("the bucket")
    }
}

/// What a session is denied, each beginning with `get`, `put`, `delete` or `list`.
async fn assert_denied(store: &dyn Store, attempts: &[(&str, &str)]) {
    for (what, name) in attempts {
        let key = Key::new(*name).unwrap();
        let result = match *what {
            "get" => store.get(&key, 1 << 30).await.map(|_| ()),
            "put" => store.put(&key, Stored::public_text("text")).await,
            "delete" => store.delete(&key).await,
            other => panic!("{other}"),
        };
        assert!(matches!(result, Err(StoreError::AccessDenied { .. })), "{what} {name}: {result:?}");
    }
}

fn first(names: &[String], folder: &str) -> String {
    names.iter().find(|name| name.starts_with(folder)).unwrap_or_else(|| panic!("nothing in {folder}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_can_do_its_part_and_is_denied_the_others() {
    let Some(server) = Minio::start().await else { return };
    let url = server.url("trinity");
    let root = sealift::store::open(&url, &server.settings()).await.unwrap();
    let names = || async {
        let objects = root.list("").await.unwrap().objects;
        objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>()
    };
    let mut host = World::new();
    host.repository = url.to_string();
    host.set_variable("AWS_ENDPOINT_URL", server.endpoint());
    host.set_variable("AWS_REGION", "us-east-1");
    let session = |role| Session::of(role, &host, &server);
    let [writer, pruner, reader, operator] = ["writer", "pruner", "reader", "operator"].map(session);
    let machine = |name: &str, session: &Session| {
        let mut world = host.other_host(name);
        session.give_to(&mut world);
        world
    };

    let host = machine("host", &writer);
    host.init().exits(0);
    let config = std::fs::read_to_string(host.config()).unwrap();
    std::fs::write(host.config(), config + "\n[retention]\nkeep_last = 1\n").unwrap();
    host.backup();
    host.add_rows(50);
    host.backup();
    let sources = host.sources();
    let stored = names().await;
    let (pack, key_file) = (first(&stored, "packs/"), first(&stored, "keys/"));
    let (older, newer) = ("snapshots/0000000001.record", "snapshots/0000000002.record");
    let doctor = host.sealift(&["doctor", "--json"]).exits(0).json();
    assert_eq!([&doctor["conditional_put"], &doctor["delete"]], [true, false]);
    let store = writer.store(&url, &server).await;
    assert_denied(store.as_ref(), &[("delete", older), ("delete", &pack), ("delete", &key_file)]).await;

    let machine_of_pruner = machine("pruner", &pruner);
    machine_of_pruner.sealift(&["retain", "--keep-last", "1", "--apply", "--json"]).exits(0);
    let stored = names().await;
    assert!(!stored.contains(&older.to_owned()) && stored.contains(&newer.to_owned()), "{stored:?}");
    let store = pruner.store(&url, &server).await;
    let denied = [("get", &*pack), ("put", "packs/x"), ("put", newer), ("put", &key_file), ("delete", &key_file)];
    assert_denied(store.as_ref(), &denied).await;

    machine("reader", &reader).restore("2", "restored").exits(0);
    assert_eq!(std::fs::read(host.path("restored/trinity.db")).unwrap(), sources.database);
    machine("reader", &reader).sealift(&["drill", "-i", &host.text("operator.key"), "--json"]).exits(0);
    assert!(names().await.iter().any(|name| name.starts_with("receipts/")), "the drill's receipt");
    let doctor = machine("reader", &reader).sealift(&["doctor", "--json"]).exits(0).json();
    assert_eq!([&doctor["conditional_put"], &doctor["delete"]], [&Value::Null; 2]);
    let store = reader.store(&url, &server).await;
    let denied = [("put", newer), ("put", &*key_file), ("delete", newer), ("delete", &key_file), ("delete", &pack)];
    assert_denied(store.as_ref(), &denied).await;

    let bench = machine("operator", &operator);
    let bob = host.text("bob.key");
    bench.sealift(&["keys", "new", &bob, "--no-passphrase"]).exits(0);
    let text = std::fs::read_to_string(&bob).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    bench.sealift(&["keys", "add", "-i", &host.text("operator.key"), "-r", public, "--proof", &bob]).exits(0);
    let stored = names().await;
    assert!(!stored.contains(&key_file) && stored.contains(&"keys/1/2.age".to_owned()), "{stored:?}");
    let store = operator.store(&url, &server).await;
    assert_denied(store.as_ref(), &[("put", newer), ("put", &*pack), ("delete", newer), ("delete", &pack)]).await;

    host.add_rows(50);
    host.sealift(&["backup", "--json"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_reaches_what_lies_outside_of_the_prefix() {
    let Some(server) = Minio::start().await else { return };
    let elsewhere = server.url("elsewhere");
    let root = sealift::store::open(&elsewhere, &server.settings()).await.unwrap();
    root.put(&Key::new("file").unwrap(), Stored::public_text("text")).await.unwrap();
    let mut world = World::new();
    world.repository = server.url("trinity").to_string();
    for role in ["writer", "pruner", "reader", "operator"] {
        let store = Session::of(role, &world, &server).store(&elsewhere, &server).await;
        assert_denied(store.as_ref(), &[("get", "file"), ("put", "file"), ("delete", "file")]).await;
        let listing = store.list("").await;
        assert!(matches!(listing, Err(StoreError::AccessDenied { .. })), "{role}: {listing:?}");
    }
}

#[test]
fn a_directory_has_no_policies() {
    World::ready().sealift(&["doctor", "--policy", "writer"]).exits(2);
}

#[test]
fn a_policy_is_one_json_document_with_and_without_json() {
    let mut world = World::new();
    world.repository = "s3://backups/a/trinity".to_owned();
    for role in ["writer", "pruner", "reader", "operator"] {
        let plain = world.sealift(&["doctor", "--policy", role]).exits(0).json();
        let document = world.sealift(&["doctor", "--policy", role, "--json"]).exits(0).json();
        assert_eq!(document["policy"], plain);
        assert_eq!((&document["version"], &document["warnings"]), (&Value::from(1), &Value::Array(Vec::new())));
        assert_eq!(plain["Version"], "2012-10-17");
    }
    world.sealift(&["doctor", "--policy", "owner"]).exits(2);
}
