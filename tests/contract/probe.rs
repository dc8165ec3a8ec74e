//! What a probe finds out about servers, and that it leaves nothing behind.

use sealift::store::{Probe, S3Settings, Store, StoreError, open, probe, probe_conditional_put, probe_delete};

use crate::suite::text;
use crate::support::Server;
use crate::support::canned::{Answer, Canned, answer, error};
use crate::support::memory::{MemoryStore, VirtualClock};
use crate::support::minio::Minio;
use crate::support::s3s::{Conditions, S3s};

const GOOD: Probe = Probe { conditional_put: true, delete: true, versions: None, credentials: true };

/// What all probes say of a store, which is as it was afterwards.
async fn probed(store: &dyn Store) -> Probe {
    store.put(&crate::suite::key("probe"), text("not the probe's")).await.expect("a put");
    let probe = probe(store).await.expect("a probe");
    assert_eq!(probe_conditional_put(store).await.expect("a probe"), probe.conditional_put);
    assert_eq!(probe_delete(store).await.expect("a probe"), probe.delete);
    let left = store.list("").await.expect("a listing").objects;
    assert_eq!(left.len(), 1, "{left:?}");
    probe
}

async fn probed_server(server: &impl Server) -> Probe {
    probed(&*open(&server.url("probe"), &server.settings()).await.expect("a store")).await
}

#[tokio::test]
async fn a_directory_and_a_map_can_do_all() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let url = sealift::store::RepositoryUrl::Directory(folder.path().to_owned());
    let directory = probed(&*open(&url, &S3Settings::default()).await.expect("a store")).await;
    assert_eq!(directory, Probe { credentials: false, ..GOOD });
    assert_eq!((directory.may_delete(), GOOD.may_delete()), (None, Some(true)));
    assert_eq!(probed(&*MemoryStore::new(VirtualClock::at(jiff::Timestamp::UNIX_EPOCH))).await, GOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_or_refuses_conditions_is_found() {
    let server = S3s::start().await;
    assert_eq!(probed_server(&server).await, GOOD);
    for conditions in [Conditions::Ignored, Conditions::Refused] {
        server.treat_conditions(conditions);
        assert_eq!(probed_server(&server).await, Probe { conditional_put: false, ..GOOD }, "{conditions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_says_that_it_deletes_is_found() {
    let server = S3s::start().await;
    server.only_say_that_it_deletes(true);
    let store = open(&server.url("probe"), &server.settings()).await.expect("a store");
    assert_eq!(probe(&*store).await.expect("a probe"), Probe { delete: false, ..GOOD });
    assert!(!probe_delete(&*store).await.expect("a probe"));
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_with_versions_and_with_locks_is_found() {
    let Some(server) = Minio::start().await else { return };
    assert_eq!(probed_server(&server).await, GOOD);
    let server = Minio::start_versioned().await.expect("MinIO again");
    assert_eq!(probed_server(&server).await, Probe { versions: Some(true), ..GOOD });
    // A lock keeps the version, not the name.
    let server = Minio::start_locked().await.expect("MinIO again");
    assert_eq!(probed_server(&server).await, Probe { versions: Some(true), ..GOOD });
}

/// A probe of a server that answers so.
async fn told(answers: impl IntoIterator<Item = Answer>) -> (Canned, Result<Probe, StoreError>) {
    let server = Canned::start(answers).await;
    let store = open(&server.url("x"), &server.settings()).await.expect("a store");
    let probed = probe(&*store).await;
    (server, probed)
}

/// The answers to two creates on a server with conditions: the second is refused, and read back.
fn creates() -> [Answer; 3] {
    [answer(200, ""), error(412, "PreconditionFailed"), answer(200, "sealift probe 1\n")]
}

#[tokio::test]
async fn credentials_that_may_not_delete_are_no_error() {
    let (server, probed) = told(creates().into_iter().chain([error(403, "AccessDenied")])).await;
    assert_eq!(probed.expect("a probe"), Probe { delete: false, ..GOOD });
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn one_object_under_a_random_name_is_all_that_it_touches() {
    let ask = || async { told(creates().into_iter().chain([error(403, "AccessDenied")])).await.0.asked() };
    let name = |asked: &str| asked.split_once("/bucket/x/").expect("a name").1[..38].to_owned();
    let (one, other) = (ask().await, ask().await);
    assert!(one[..3].iter().all(|asked| name(asked) == name(&one[0])), "{one:?}");
    assert!(name(&one[0]).starts_with("probe-") && name(&one[0]) != name(&other[0]));
}

#[tokio::test]
async fn a_server_that_fails_is_an_error_and_no_finding() {
    let (_server, probed) = told([error(403, "AccessDenied")]).await;
    assert!(matches!(probed, Err(StoreError::AccessDenied { .. })), "{probed:?}");
    let (_server, probed) = told([answer(200, ""), error(400, "InvalidRequest")]).await;
    assert!(matches!(probed, Err(StoreError::Other { .. })), "{probed:?}");
    let (_server, probed) = told(creates().into_iter().chain([error(404, "NoSuchBucket")])).await;
    assert!(matches!(probed, Err(StoreError::NoSuchBucket { .. })), "{probed:?}");
}
