//! What servers do at the edges, told by a server that says what it is told to.

use std::sync::Arc;

use sealift::store::{Creation, Key, S3Settings, Store, StoreError, open};

use crate::suite::{key, text};
use crate::support::Server;
use crate::support::canned::{Answer, Canned, answer, error};

const DATE: &str = "Fri, 13 Nov 2026 12:34:56 GMT";
const ONE_OBJECT: &str = "<Contents><Key>x/a</Key><Size>3</Size><LastModified>2026-11-13T12:00:00.5Z</LastModified>\
    </Contents>";

async fn told(answers: impl IntoIterator<Item = Answer>) -> (Canned, Arc<dyn Store>) {
    let server = Canned::start(answers).await;
    let store = open(&server.url("x"), &server.settings()).await.expect("a store");
    (server, store)
}

fn listing(rest: &str) -> Answer {
    answer(200, format!("<ListBucketResult>{rest}</ListBucketResult>"))
}

#[tokio::test]
async fn a_create_says_what_servers_need_to_hear() {
    let (server, _) = told([answer(200, "")]).await;
    let settings =
        S3Settings { storage_class: Some("STANDARD_IA".into()), sse: Some("AES256".into()), ..server.settings() };
    let store = open(&server.url("x"), &settings).await.expect("a store");
    assert_eq!(store.create(&key("a"), text("abc")).await.expect("a create"), Creation::Created);
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("put /bucket/x/a"), "{asked}");
    for header in [
        "if-none-match: *",
        "content-length: 3",
        // The SHA-256 of "abc", in lower case as all of it is here.
        "x-amz-checksum-sha256: ungwv48bz+pbqudexa4ii7adyaowf3qctbd/yfiafa0=",
        "x-amz-storage-class: standard_ia",
        "x-amz-server-side-encryption: aes256",
    ] {
        assert!(asked.contains(header), "{header} is not in {asked}");
    }
    for breaks_servers in ["aws-chunked", "x-amz-trailer", "crc32", "crc64"] {
        assert!(!asked.contains(breaks_servers), "{breaks_servers} is in {asked}");
    }
}

/// "abc" goes up three times, and the server answers so; which of the requests sign its digest besides.
async fn signed(answers: impl IntoIterator<Item = Answer>) -> Vec<bool> {
    let (server, store) = told(answers).await;
    for _ in 0..3 {
        store.put(&key("a"), text("abc")).await.expect("a put");
    }
    let signed = |asked: &String| {
        let unsigned = asked.contains("x-amz-content-sha256: unsigned-payload");
        let digest = "x-amz-content-sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(unsigned || asked.contains(digest), "{asked}");
        assert!(asked.contains("x-amz-checksum-sha256;"), "the signature covers it: {asked}");
        !unsigned
    };
    server.asked().iter().map(signed).collect()
}

#[tokio::test]
async fn a_server_that_checks_the_digest_in_the_header_hashes_each_body_once() {
    let checked = || answer(200, "").header("x-amz-checksum-sha256", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    assert_eq!(signed([checked(), checked(), checked()]).await, [true, false, false]);
    // One that does not say so, or says something else, may not know that header.
    let other = answer(200, "").header("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(signed([answer(200, ""), other, checked()]).await, [true, true, true]);
    // A policy may ask for signed digests.
    let answers = [checked(), error(403, "AccessDenied"), checked(), checked()];
    assert_eq!(signed(answers).await, [true, false, true, true]);
}

#[tokio::test]
async fn a_lost_answer_to_a_create_is_no_conflict() {
    let (_server, store) = told([error(412, "PreconditionFailed"), answer(200, "mine")]).await;
    assert_eq!(store.create(&key("a"), text("mine")).await.expect("an answer"), Creation::Created);
    let (_server, store) = told([error(412, "PreconditionFailed"), answer(200, "ours")]).await;
    assert_eq!(store.create(&key("a"), text("mine")).await.expect("an answer"), Creation::AlreadyThere);
}

#[tokio::test]
async fn what_may_not_be_read_back_is_there() {
    let (_server, store) = told([error(412, "PreconditionFailed"), error(403, "AccessDenied")]).await;
    assert_eq!(store.create(&key("a"), text("mine")).await.expect("an answer"), Creation::AlreadyThere);
}

#[tokio::test]
async fn a_create_that_meets_another_in_flight_is_sent_again() {
    let conflict = || error(409, "ConditionalRequestConflict");
    let gone_again = [error(412, "PreconditionFailed"), error(404, "NoSuchKey")];
    let answers = [conflict(), conflict()].into_iter().chain(gone_again).chain([answer(200, "")]);
    let (server, store) = told(answers).await;
    assert_eq!(store.create(&key("a"), text("mine")).await.expect("an answer"), Creation::Created);
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn one_attempt_is_one_request_whatever_comes_of_it() {
    let passing = [error(500, "InternalError"), error(503, "SlowDown"), error(409, "ConditionalRequestConflict")];
    for refusal in passing {
        let (server, store) = told([refusal.clone(), answer(200, "")]).await;
        let error = store.create_attempt(&key("a"), text("mine")).await.expect_err("one attempt");
        assert!(error.is_retryable(), "{refusal:?}: {error:?}");
        assert_eq!(server.asked().len(), 1, "{refusal:?}");
        assert_eq!(store.create_attempt(&key("a"), text("mine")).await.expect("another"), Creation::Created);
        assert!(server.asked().iter().all(|asked| asked.contains("if-none-match: *")));
    }
    for (refusal, code) in [(error(403, "AccessDenied"), "AccessDenied"), (error(400, "ExpiredToken"), "ExpiredToken")]
    {
        let (server, store) = told([refusal]).await;
        let error = store.create_attempt(&key("a"), text("mine")).await.expect_err("denied");
        assert!(matches!(&error, StoreError::AccessDenied { code: said, .. } if said == code), "{error:?}");
        assert!(!error.is_retryable() && server.asked().len() == 1);
    }
    let (server, store) = told([error(503, "SlowDown")]).await;
    assert!(store.put_attempt(&key("a"), text("mine")).await.expect_err("one attempt").is_retryable());
    assert_eq!(server.asked().len(), 1);
    drop(server);
    let error = store.create_attempt(&key("a"), text("mine")).await.expect_err("no server");
    assert!(matches!(&error, StoreError::Unreachable { .. }) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn one_attempt_signs_the_digest_and_needs_no_second() {
    let checked = answer(200, "").header("x-amz-checksum-sha256", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    let (server, store) = told([checked.clone(), error(403, "AccessDenied"), answer(200, "")]).await;
    store.put(&key("a"), text("abc")).await.expect("a put");
    store.create_attempt(&key("a"), text("abc")).await.expect_err("denied");
    assert_eq!(server.asked().len(), 2);
    assert!(!server.asked()[1].contains("unsigned-payload"), "{}", server.asked()[1]);
}

#[tokio::test]
async fn one_attempt_compares_what_is_there() {
    for (body, creation) in [("mine", Creation::Created), ("ours", Creation::AlreadyThere)] {
        let (_server, store) = told([error(412, "PreconditionFailed"), answer(200, body)]).await;
        assert_eq!(store.create_attempt(&key("a"), text("mine")).await.expect("an answer"), creation);
    }
    let (server, store) = told([error(412, "PreconditionFailed"), error(404, "NoSuchKey"), answer(200, "")]).await;
    let error = store.create_attempt(&key("a"), text("mine")).await.expect_err("gone again");
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_server_without_create_once_is_not_supported() {
    let (server, store) = told([error(501, "NotImplemented")]).await;
    let error = store.create(&key("a"), text("a")).await.expect_err("it cannot");
    assert!(matches!(&error, StoreError::NotSupported { object, .. } if object == "s3://bucket/x/a"), "{error:?}");
    assert_eq!(server.asked().len(), 1, "asking again does not help");
}

#[tokio::test]
async fn a_wrong_region_is_named_by_header_or_body() {
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-7</Region></Error>";
    let answers = [
        error(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-west-7"),
        error(307, "TemporaryRedirect").header("x-amz-bucket-region", "eu-west-7"),
        answer(400, malformed),
    ];
    for answer in answers {
        let (_server, store) = told([answer.clone()]).await;
        let error = store.list("").await.expect_err("elsewhere");
        let right = matches!(&error, StoreError::WrongRegion { expected: Some(region), .. } if region == "eu-west-7");
        assert!(right, "{answer:?}: {error:?}");
    }
    let (_server, store) = told([answer(301, "")]).await;
    let error = store.head(&key("a")).await.expect_err("elsewhere");
    assert!(matches!(&error, StoreError::WrongRegion { expected: None, .. }), "{error:?}");
}

#[tokio::test]
async fn expired_credentials_are_denied_access() {
    let (_server, store) = told([error(400, "ExpiredToken")]).await;
    let error = store.list("").await.expect_err("expired");
    assert!(matches!(&error, StoreError::AccessDenied { code, .. } if code == "ExpiredToken"), "{error:?}");
}

#[tokio::test]
async fn a_download_that_breaks_off_begins_again() {
    let (_server, store) = told([answer(200, "whole").broken_off_after(2), answer(200, "whole")]).await;
    assert_eq!(store.get(&key("a"), 5).await.expect("the second try"), "whole");
    let broken = || answer(200, "whole").broken_off_after(2);
    let (server, store) = told([broken(), broken(), broken()]).await;
    let error = store.get(&key("a"), 5).await.expect_err("three tries");
    assert!(error.to_string().contains("broke off 3 times"), "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_listing_tells_the_time_of_its_last_page() {
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>";
    let first = listing(more).header("Date", "Fri, 13 Nov 2026 12:34:50 GMT");
    let (server, store) = told([first, listing(ONE_OBJECT).header("Date", DATE)]).await;
    let listing = store.list("").await.expect("a listing");
    assert_eq!(listing.server_time.expect("a time").to_string(), "2026-11-13T12:34:56Z");
    assert_eq!((listing.pages, listing.objects.len()), (2, 1));
    assert_eq!(listing.objects[0].modified.to_string(), "2026-11-13T12:00:00.5Z");
    assert!(server.asked()[1].contains("continuation-token=next"));
}

#[tokio::test]
async fn a_listing_without_a_date_has_no_time() {
    let (_server, store) = told([listing(ONE_OBJECT)]).await;
    assert_eq!(store.list("").await.expect("a listing").server_time, None);
}

#[tokio::test]
async fn a_name_begins_the_first_page_and_a_token_the_others() {
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>";
    let (server, store) = told([listing(more), listing(ONE_OBJECT)]).await;
    let listed = store.list_from("a", Some(&key("a-0"))).await.expect("a listing");
    assert_eq!((listed.objects.len(), listed.pages), (0, 2), "this server lists what it was not asked for");
    let asked = server.asked();
    assert!(asked[0].contains("start-after=x%2fa-0") && !asked[0].contains("continuation-token"), "{}", asked[0]);
    assert!(asked[1].contains("continuation-token=next") && !asked[1].contains("start-after"), "{}", asked[1]);
    // Not every server knows what to do with a name that lacks the prefix.
    for (prefix, name, found) in [("a", "A", 1), ("a", "b", 0), ("", "A", 1)] {
        let (server, store) = told([listing(ONE_OBJECT)]).await;
        let listed = store.list_from(prefix, Some(&key(name))).await.expect("a listing").objects;
        assert_eq!(listed.len(), found, "{prefix:?} after {name}");
        assert_eq!(server.asked()[0].contains("start-after"), prefix.is_empty(), "{prefix:?} after {name}");
    }
}

#[tokio::test]
async fn an_etag_loses_its_quotes() {
    let object = ONE_OBJECT.replace("</Contents>", "<ETag>&quot;abc-2&quot;</ETag></Contents>");
    let time = "Fri, 13 Nov 2026 12:34:56 GMT";
    let head = |etag: &str| answer(200, "").header("Last-Modified", time).header("ETag", etag);
    let (_server, store) =
        told([listing(&object), listing(ONE_OBJECT), head("\"abc-2\""), head("abc-2"), head("\"\"")]).await;
    for etag in [Some("abc-2"), None] {
        assert_eq!(store.list("").await.expect("a listing").objects[0].etag.as_deref(), etag);
    }
    for etag in [Some("abc-2"), Some("abc-2"), None] {
        let head = store.head(&key("a")).await.expect("an answer").expect("an object");
        assert_eq!(head.etag.as_deref(), etag);
    }
}

#[tokio::test]
async fn a_listing_that_does_not_go_on_is_an_error() {
    let again = "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>";
    for answers in [vec![listing(again), listing(again)], vec![listing("<IsTruncated>true</IsTruncated>")]] {
        let (_server, store) = told(answers).await;
        let error = store.list("").await.expect_err("not complete");
        assert!(error.to_string().contains("does not go on"), "{error}");
    }
}

#[tokio::test]
async fn a_listing_leaves_out_what_is_no_key() {
    let foreign = "<Contents><Key>x/</Key><Size>0</Size></Contents><Contents><Key>x/a b</Key></Contents>";
    let (_server, store) = told([listing(&format!("{foreign}{ONE_OBJECT}"))]).await;
    let objects = store.list("").await.expect("a listing").objects;
    assert_eq!(objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a"]);
}

fn names(keys: &[(Key, StoreError)]) -> Vec<&str> {
    keys.iter().map(|(key, _)| key.as_str()).collect()
}

#[tokio::test]
async fn one_request_deletes_many_and_says_which_stay() {
    let result = "<DeleteResult>\
        <Error><Key>x/a</Key><Code>AccessDenied</Code><Message>protected by object lock</Message></Error>\
        <Error><Key>x/b</Key><Code>InternalError</Code></Error>\
        <Error><Key>x/c</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
    let (server, store) = told([answer(200, result)]).await;
    let deletion = store.delete_many(&["a", "b", "c", "d"].map(key)).await.expect("an answer");
    assert_eq!((names(&deletion.failed), deletion.requests), (vec!["a", "b"], 1));
    let denied = &deletion.failed[0].1;
    assert!(matches!(denied, StoreError::AccessDenied { object, .. } if object == "s3://bucket/x/a"), "{denied:?}");
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("post /bucket/?delete") || asked.starts_with("post /bucket?delete"), "{asked}");
    assert!(asked.contains("x-amz-checksum-sha256: "), "{asked}");
}

#[tokio::test]
async fn a_server_without_batches_deletes_one_by_one() {
    for refusal in [error(501, "NotImplemented"), error(400, "InvalidRequest"), error(405, "MethodNotAllowed")] {
        let denied = error(403, "AccessDenied");
        let (server, store) = told([refusal.clone(), answer(204, ""), denied.clone(), error(404, "NoSuchKey")]).await;
        let deletion = store.delete_many(&["a", "b", "c"].map(key)).await.expect("an answer");
        assert_eq!((deletion.failed.len(), deletion.requests), (1, 4), "{refusal:?}: {deletion:?}");
        assert!(server.asked()[1..].iter().all(|asked| asked.starts_with("delete /bucket/x/")), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_batch_that_nobody_may_delete_is_an_error() {
    let (server, store) = told([error(403, "AccessDenied")]).await;
    let error = store.delete_many(&["a", "b"].map(key)).await.expect_err("denied");
    assert!(matches!(&error, StoreError::AccessDenied { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 1, "one by one would say the same");
}

#[tokio::test]
async fn a_locked_object_says_until_when() {
    let locked = answer(200, "").header("x-amz-object-lock-retain-until-date", "2026-12-24T00:00:00Z");
    let (_server, store) = told([locked, answer(200, "")]).await;
    let until = store.locked_until(&key("a")).await.expect("an answer").expect("a date");
    assert_eq!(until.to_string(), "2026-12-24T00:00:00Z");
    assert_eq!(store.locked_until(&key("a")).await.expect("an answer"), None);
}
