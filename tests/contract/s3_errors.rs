//! Each thing that goes wrong with a bucket has its own error.

use std::sync::Arc;

use sealift::store::{RepositoryUrl, S3Settings, Store, StoreError, open};

use crate::suite::{key, text};
use crate::support::{Server, credentials, free_port};

pub async fn every_server(server: &dyn Server) {
    a_missing_bucket(server).await;
    wrong_credentials(server).await;
    a_refused_port(server).await;
}

async fn a_missing_bucket(server: &dyn Server) {
    println!("a_missing_bucket");
    let error = elsewhere(server).await.list("").await.expect_err("no bucket");
    assert_no_bucket(server, &error);
}

/// Not on s3s-fs: it makes the bucket.
pub async fn writes_to_a_missing_bucket(server: &dyn Server) {
    println!("writes_to_a_missing_bucket");
    let store = elsewhere(server).await;
    assert_no_bucket(server, &store.create(&key("a"), text("a")).await.expect_err("no bucket"));
    assert_no_bucket(server, &store.put(&key("a"), text("a")).await.expect_err("no bucket"));
    assert_no_bucket(server, &store.get(&key("a"), 1).await.expect_err("no bucket"));
    assert_no_bucket(server, &store.delete(&key("a")).await.expect_err("no bucket"));
}

async fn elsewhere(server: &dyn Server) -> Arc<dyn Store> {
    let url: RepositoryUrl = "s3://no-such-bucket/x".parse().expect("a URL");
    open(&url, &server.settings()).await.expect("a store")
}

fn assert_no_bucket(server: &dyn Server, error: &StoreError) {
    let right = matches!(error, StoreError::NoSuchBucket { bucket, endpoint }
        if bucket == "no-such-bucket" && endpoint == server.endpoint());
    assert!(right, "{error:?}");
}

async fn wrong_credentials(server: &dyn Server) {
    println!("wrong_credentials");
    let wrong = [(server.access_key_id(), "hunter2hunter2"), ("nobody", "hunter2hunter2")];
    for (access_key_id, secret) in wrong {
        let settings = S3Settings { credentials: Some(credentials(access_key_id, secret)), ..server.settings() };
        let store = open(&server.url("x"), &settings).await.expect("a store");
        let error = store.list("").await.expect_err("not us");
        assert!(matches!(&error, StoreError::AccessDenied { code, .. } if !code.is_empty()), "{error:?}");
        let error = store.create(&key("a"), text("a")).await.expect_err("not us");
        assert!(matches!(error, StoreError::AccessDenied { .. }), "{error:?}");
        assert!(!format!("{error} {error:?} {store:?} {settings:?}").contains(secret), "a secret is shown");
    }
}

async fn a_refused_port(server: &dyn Server) {
    println!("a_refused_port");
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let settings = S3Settings { endpoint: Some(endpoint.clone()), ..server.settings() };
    let store = open(&server.url("x"), &settings).await.expect("a store");
    let error = store.list("").await.expect_err("nobody listens");
    assert!(matches!(&error, StoreError::Unreachable { endpoint: at, .. } if *at == endpoint), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// MinIO checks the region of a signature and names its own.
pub async fn another_region(server: &dyn Server) {
    println!("another_region");
    let settings = S3Settings { region: Some("eu-west-7".into()), ..server.settings() };
    let store = open(&server.url("x"), &settings).await.expect("a store");
    let error = store.list("").await.expect_err("another region");
    let right = matches!(&error, StoreError::WrongRegion { used, expected, .. }
        if used == "eu-west-7" && expected.as_deref() == Some("us-east-1"));
    assert!(right, "{error:?}");
}
