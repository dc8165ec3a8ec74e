//! What every store must do, checked on each of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod crash;
mod environment;
mod limit;
mod look;
mod meter;
mod probe;
mod s3_errors;
mod s3_protocol;
mod suite;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use sealift::store::{Look, RepositoryUrl, S3Settings, Store, open};
use suite::Backend;
use support::Server;
use support::memory::{MemoryStore, VirtualClock};
use support::minio::Minio;
use support::s3s::{Conditions, S3s};

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_the_contract() {
    struct Directory(tempfile::TempDir);
    #[async_trait::async_trait]
    impl Backend for Directory {
        async fn repository(&self, name: &str) -> Arc<dyn Store> {
            let url = RepositoryUrl::Directory(self.0.path().join("missing").join(name));
            open(&url, &S3Settings::default()).await.expect("a directory")
        }
    }
    let directory = Directory(tempfile::tempdir().expect("a scratch folder"));
    suite::every_store(&directory).await;
    suite::create_races(&directory).await;
    suite::long_names(&directory).await;
}

struct Bucket<S>(S);

#[async_trait::async_trait]
impl<S: Server> Backend for Bucket<S> {
    async fn repository(&self, name: &str) -> Arc<dyn Store> {
        open(&self.0.url(&format!("contract/{name}")), &self.0.settings()).await.expect("a bucket")
    }
}

/// The bucket that the simulated year lives in.
#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    struct Memory(std::sync::Mutex<std::collections::HashMap<String, Arc<MemoryStore>>>);
    #[async_trait::async_trait]
    impl Backend for Memory {
        async fn repository(&self, name: &str) -> Arc<dyn Store> {
            let clock = || VirtualClock::at(jiff::Timestamp::now());
            let mut stores = self.0.lock().unwrap();
            stores.entry(name.to_owned()).or_insert_with(|| MemoryStore::new(clock())).clone()
        }
    }
    let memory = Memory(Default::default());
    suite::every_store(&memory).await;
    suite::create_races(&memory).await;
    suite::long_names(&memory).await;
}

/// A server that ignores conditions, looked at first. Without the races, which looking does not decide.
#[tokio::test(flavor = "multi_thread")]
async fn looking_keeps_the_contract_for_one_writer() {
    struct Looking(Bucket<S3s>);
    #[async_trait::async_trait]
    impl Backend for Looking {
        async fn repository(&self, name: &str) -> Arc<dyn Store> {
            Arc::new(Look::new(self.0.repository(name).await))
        }
    }
    let looking = Looking(Bucket(S3s::start().await));
    looking.0.0.treat_conditions(Conditions::Ignored);
    suite::every_store(&looking).await;
}

/// Without the races: this server looks whether an object is there and renames later, so two creates can both win.
#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_keeps_the_contract() {
    let bucket = Bucket(S3s::start().await);
    suite::every_store(&bucket).await;
    s3_errors::every_server(&bucket.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_keeps_the_contract() {
    let Some(server) = Minio::start().await else { return };
    let bucket = Bucket(server);
    suite::every_store(&bucket).await;
    suite::create_races(&bucket).await;
    suite::long_names(&bucket).await;
    s3_errors::every_server(&bucket.0).await;
    s3_errors::writes_to_a_missing_bucket(&bucket.0).await;
    s3_errors::another_region(&bucket.0).await;
}
