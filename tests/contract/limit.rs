//! A limit holds over time, alone and with many transfers at once. The clock is tokio's, paused, which moves only when
//! everything waits; against servers it is the one on the wall.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use sealift::store::{
    Creation, Key, Limit, Listing, ObjectInfo, Rates, S3Settings, Store, StoreError, Stored, open_limited,
};
use tokio::time::{Instant, sleep};

use crate::suite::{key, text};
use crate::support::canned::{Canned, answer, error};
use crate::support::minio::Minio;
use crate::support::s3s::S3s;
use crate::support::{Server, credentials};

const BODY_BYTES: usize = 1000;

/// A store whose transfers of [`BODY_BYTES`] take a fixed time.
#[derive(Debug)]
struct Line(Duration);

#[async_trait]
impl Store for Line {
    async fn create(&self, _: &Key, _: Stored) -> Result<Creation, StoreError> {
        sleep(self.0).await;
        Ok(Creation::Created)
    }

    async fn put(&self, _: &Key, _: Stored) -> Result<(), StoreError> {
        sleep(self.0).await;
        Ok(())
    }

    async fn get(&self, _: &Key, _: u64) -> Result<Bytes, StoreError> {
        sleep(self.0).await;
        Ok(Bytes::from(vec![0; BODY_BYTES]))
    }

    async fn head(&self, _: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(None)
    }

    async fn list_from(&self, _: &str, _: Option<&Key>) -> Result<Listing, StoreError> {
        Ok(Listing { objects: Vec::new(), server_time: None, pages: 1 })
    }

    async fn delete(&self, _: &Key) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Bytes a second, each way.
fn rates(rate: u64) -> Rates {
    Rates { upload: NonZeroU64::new(rate), download: NonZeroU64::new(rate) }
}

/// 1,000 bytes a second each way, over a line that takes `transfer` for each body.
fn limited(transfer: Duration) -> Limit {
    Limit::new(Arc::new(Line(transfer)), rates(1000))
}

fn assert_about(elapsed: Duration, expected_seconds: f64) {
    let off = (elapsed.as_secs_f64() / expected_seconds - 1.0).abs();
    assert!(off < 0.1, "{elapsed:?} instead of {expected_seconds} s");
}

const FAST: Duration = Duration::from_millis(300);
const SLOW: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn uploads_one_after_the_other_take_their_time() {
    let (store, began) = (limited(FAST), Instant::now());
    for _ in 0..3 {
        store.create(&key("a"), text(&"x".repeat(BODY_BYTES))).await.expect("a create");
        store.create_attempt(&key("a"), text(&"x".repeat(BODY_BYTES))).await.expect("a create");
        store.put(&key("a"), text(&"x".repeat(BODY_BYTES))).await.expect("a put");
        store.put_attempt(&key("a"), text(&"x".repeat(BODY_BYTES))).await.expect("a put");
    }
    assert_about(began.elapsed(), 12.0);
}

#[tokio::test(start_paused = true)]
async fn uploads_at_once_share_the_rate() {
    let (store, began) = (limited(FAST), Instant::now());
    join_all((0..6).map(|_| async {
        store.put(&key("a"), text(&"x".repeat(BODY_BYTES))).await.expect("a put");
    }))
    .await;
    assert_about(began.elapsed(), 6.0);
}

#[tokio::test(start_paused = true)]
async fn downloads_one_after_the_other_take_their_time() {
    let (store, began) = (limited(FAST), Instant::now());
    for _ in 0..6 {
        store.get(&key("a"), u64::MAX).await.expect("a get");
    }
    assert_about(began.elapsed(), 6.0);
}

#[tokio::test(start_paused = true)]
async fn downloads_at_once_share_the_rate() {
    let (store, began) = (limited(FAST), Instant::now());
    join_all((0..6).map(|_| async {
        store.get(&key("a"), u64::MAX).await.expect("a get");
    }))
    .await;
    assert_about(began.elapsed(), 6.0);
}

#[tokio::test(start_paused = true)]
async fn a_line_slower_than_the_limit_is_not_slowed() {
    let (store, began) = (limited(SLOW), Instant::now());
    for _ in 0..3 {
        store.put(&key("a"), text(&"x".repeat(BODY_BYTES))).await.expect("a put");
        store.get(&key("a"), u64::MAX).await.expect("a get");
    }
    assert_about(began.elapsed(), 30.0);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits() {
    let (store, began) = (Limit::new(Arc::new(Line(Duration::ZERO)), Rates::default()), Instant::now());
    for _ in 0..100 {
        store.put(&key("a"), text("x")).await.expect("a put");
        store.get(&key("a"), u64::MAX).await.expect("a get");
    }
    // The test's own clock ticks in milliseconds, one for each sleep of the line.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Against a server, with the clock on the wall: many transfers at once share the rate and use it.
async fn a_server_sees_the_rate(server: &dyn Server) {
    // Small bodies over a few seconds: a busy machine is late by one body at the end, and not by a tenth of the time.
    const BODIES: usize = 32;
    const BYTES: usize = 256 << 10;
    let rate = 2 << 20;
    let seconds = (BODIES * BYTES) as f64 / rate as f64;
    let store = open_limited(&server.url("limit"), &server.settings(), rates(rate)).await.expect("a bucket");
    let keys: Vec<Key> = (0..BODIES).map(|n| key(&format!("body-{n}"))).collect();
    let began = std::time::Instant::now();
    join_all(keys.iter().map(|key| async {
        store.create(key, text(&"x".repeat(BYTES))).await.expect("a create");
    }))
    .await;
    assert_about(began.elapsed(), seconds);
    let began = std::time::Instant::now();
    join_all(keys.iter().map(|key| async {
        store.get(key, u64::MAX).await.expect("a get");
    }))
    .await;
    assert_about(began.elapsed(), seconds);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_honest_with_s3s() {
    a_server_sees_the_rate(&S3s::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_honest_with_minio() {
    let Some(server) = Minio::start().await else { return };
    a_server_sees_the_rate(&server).await;
}

/// The clock is the one on the wall, but a machine that is slow only makes it later.
#[tokio::test]
async fn an_upload_takes_its_time_on_the_line_and_goes_whole_with_each_attempt() {
    let server = Canned::start([error(503, "SlowDown"), answer(200, ""), answer(200, "")]).await;
    let store = open_limited(&server.url("x"), &server.settings(), rates(400_000)).await.expect("a store");
    let body = text(&"0123456789".repeat(20_000));
    store.create(&key("a"), body.clone()).await.expect("the second attempt");
    store.create(&key("b"), text("")).await.expect("nothing to wait for");
    let bodies = server.bodies();
    for sent in &bodies[..2] {
        assert!(sent.bytes == *body.bytes(), "{} bytes came", sent.bytes.len());
        assert!(sent.took >= Duration::from_millis(250), "all of it came within {:?}", sent.took);
    }
    assert_eq!(bodies[2].bytes, b"");
    for asked in server.asked() {
        assert!(asked.contains("content-length: ") && !asked.contains("aws-chunked"), "{asked}");
        assert!(!asked.contains("x-amz-trailer") && !asked.contains("transfer-encoding"), "{asked}");
    }
}

/// The body would take nearly three minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_wait_for_the_rest_of_a_body() {
    let Some(server) = Minio::start().await else { return };
    let settings = S3Settings { credentials: Some(credentials("nobody", "knows-him-here")), ..server.settings() };
    let store = open_limited(&server.url("limit"), &settings, rates(100_000)).await.expect("a store");
    let began = std::time::Instant::now();
    let refused = store.put(&key("a"), text(&"x".repeat(16 << 20))).await.expect_err("he may not");
    assert!(matches!(refused, StoreError::AccessDenied { .. }), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
