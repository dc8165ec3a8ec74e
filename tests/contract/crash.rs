//! A process that is killed while it stores leaves whole objects only.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sealift::store::{RepositoryUrl, S3Settings, Store, open};

use crate::suite::{key, text};

/// Where the child is to store; set by [`a_killed_writer_leaves_only_whole_objects`].
const ROOT: &str = "SEALIFT_TEST_CRASH_ROOT";
const BODY_BYTES: usize = 2 * 1024 * 1024;

/// Most kills hit nothing delicate: a store that wrote in place was caught by about one round in twenty.
const ROUNDS: usize = 60;

/// While one tells of an object, the others are anywhere in storing theirs, and that is where the kill finds them.
const WRITERS: u64 = 8;

#[tokio::test]
async fn a_killed_writer_leaves_only_whole_objects() {
    for round in 0..ROUNDS {
        let objects_before = 1 + round % 8;
        let folder = tempfile::tempdir().expect("a scratch folder");
        kill_after(objects_before, folder.path());
        let store = directory(folder.path()).await;
        let listing = store.list("").await.expect("a listing");
        assert!(listing.objects.len() >= objects_before);
        for object in listing.objects {
            assert!(object.key.as_str().starts_with("packs/"), "{} is no object of ours", object.key);
            let bytes = store.get(&object.key, u64::MAX).await.expect("a get");
            assert!(bytes == body(object.key.as_str()).as_bytes(), "{} is not whole", object.key);
        }
    }
}

/// Runs the writer below in a process of its own and kills it once it has told of so many objects.
fn kill_after(objects: usize, root: &std::path::Path) {
    let mut writer = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "crash::writer", "--nocapture"])
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a writer");
    let output = BufReader::new(writer.stdout.take().expect("its output"));
    let told = output.lines().map_while(Result::ok).filter(|line| line.contains("stored packs/")).take(objects).count();
    writer.kill().expect("SIGKILL");
    writer.wait().expect("its end");
    assert_eq!(told, objects, "the writer ended by itself");
}

/// Not a test: stores objects until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn writer() {
    let Some(root) = env::var_os(ROOT) else { return };
    let store = directory(root.as_ref()).await;
    let writers = (0..WRITERS).map(|writer| tokio::spawn(store_for_ever(store.clone(), writer)));
    futures::future::join_all(writers).await;
}

async fn store_for_ever(store: Arc<dyn Store>, writer: u64) {
    for number in 0_u64.. {
        let name = format!("packs/{writer}-{number}");
        if writer.is_multiple_of(2) {
            store.create(&key(&name), text(&body(&name))).await.expect("a create");
        } else {
            store.put(&key(&name), text(&body(&name))).await.expect("a put");
        }
        println!("stored {name}");
    }
}

async fn directory(root: &std::path::Path) -> Arc<dyn Store> {
    open(&RepositoryUrl::Directory(root.to_owned()), &S3Settings::default()).await.expect("a directory")
}

fn body(name: &str) -> String {
    name.repeat(BODY_BYTES / name.len())
}
