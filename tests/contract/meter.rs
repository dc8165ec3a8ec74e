//! A meter counts what passes and changes nothing.

use std::sync::Arc;

use sealift::store::{Meter, RepositoryUrl, Requests, S3Settings, Store, Usage, open};

use crate::suite::{key, text};

#[tokio::test]
async fn a_meter_counts_requests_and_bytes() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let url = RepositoryUrl::Directory(folder.path().to_owned());
    let meter = Meter::new(open(&url, &S3Settings::default()).await.expect("a store"));
    let meter: Arc<Meter> = Arc::new(meter);
    meter.create(&key("a"), text("123")).await.expect("a create");
    meter.create(&key("a"), text("4567")).await.expect("a create");
    meter.put(&key("b"), text("12345")).await.expect("a put");
    meter.get(&key("a"), 10).await.expect("a get");
    meter.get(&key("missing"), 10).await.expect_err("not there");
    meter.head(&key("a")).await.expect("a head");
    meter.list("").await.expect("a listing");
    meter.list_from("", Some(&key("a"))).await.expect("a listing");
    meter.delete(&key("a")).await.expect("a delete");
    meter.delete_many(&[key("a"), key("b")]).await.expect("an answer");
    meter.create_attempt(&key("c"), text("12")).await.expect("a create");
    meter.put_attempt(&key("c"), text("1")).await.expect("a put");
    let requests = Requests { create: 3, put: 2, get: 2, head: 1, list: 2, delete: 3 };
    assert_eq!(meter.usage(), Usage { requests, uploaded_bytes: 15, downloaded_bytes: 3 });
}
