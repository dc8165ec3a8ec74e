//! The checks. Each has a repository of its own, so none sees what another left.

use std::sync::Arc;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use sealift::store::{Creation, Key, Listing, Store, StoreError, Stored};

const MIB: u64 = 1024 * 1024;

/// A kind of store, with as many empty repositories as one asks for.
#[async_trait::async_trait]
pub trait Backend: Send + Sync {
    async fn repository(&self, name: &str) -> Arc<dyn Store>;
}

/// What holds for each store, also for one whose server cannot decide races.
pub async fn every_store(backend: &dyn Backend) {
    // The line before a failure names the check.
    macro_rules! check {
        ($($check:ident),* $(,)?) => {$(
            println!("{}", stringify!($check));
            $check(&*backend.repository(stringify!($check)).await).await;
        )*};
    }
    check!(
        an_empty_repository_lists_nothing,
        a_second_create_leaves_the_first_bytes,
        a_create_that_is_sent_again_is_created,
        put_replaces,
        a_missing_object_is_not_found,
        get_refuses_more_than_the_caller_expects,
        an_empty_object_comes_back,
        a_pack_comes_back,
        odd_names_come_back,
        head_tells_size_and_time,
        a_listing_has_sizes_order_and_times,
        a_prefix_need_not_end_at_a_slash,
        a_long_listing_is_complete,
        a_listing_begins_after_a_name,
        a_long_listing_after_a_name_is_complete,
        an_etag_is_of_these_bytes,
        one_attempt_creates_and_replaces_as_many_do,
        delete_is_done_once_or_twice,
        many_are_deleted_and_no_other,
        more_than_one_batch_is_deleted,
    );
}

/// Of creates at the same time, one wins.
pub async fn create_races(backend: &dyn Backend) {
    println!("create_races");
    let store = backend.repository("create_races").await;
    for round in 0..5 {
        let key = key(&format!("snapshots/{round}.record"));
        let creates = (0..16).map(|writer| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { (writer, store.create(&key, text(&format!("writer {writer}"))).await) })
        });
        let done = join_all(creates).await.into_iter().map(|task| task.expect("a create"));
        let winners: Vec<u32> = done
            .filter_map(|(writer, created)| (created.expect("an answer") == Creation::Created).then_some(writer))
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?} won");
        assert_eq!(read(&*store, &key).await, format!("writer {}", winners[0]));
    }
}

/// A name as long as a file's may be. s3s-fs stores such an object, and then fails to write its own notes about it.
pub async fn long_names(backend: &dyn Backend) {
    println!("long_names");
    let (store, key) = (backend.repository("long_names").await, key(&format!("packs/{}", "x".repeat(255))));
    assert_eq!(store.create(&key, text("long")).await.expect("a create"), Creation::Created);
    assert_eq!(read(&*store, &key).await, "long");
    assert_eq!(listed(&*store, "packs/").await, [key.to_string()]);
}

async fn an_empty_repository_lists_nothing(store: &dyn Store) {
    for prefix in ["", "packs/", "packs/a"] {
        assert!(store.list(prefix).await.expect("a listing").objects.is_empty(), "{prefix:?}");
    }
}

async fn a_second_create_leaves_the_first_bytes(store: &dyn Store) {
    let key = key("repository.json");
    assert_eq!(store.create(&key, text("first")).await.expect("a create"), Creation::Created);
    for other in ["secnd", "longer than the first", ""] {
        assert_eq!(store.create(&key, text(other)).await.expect("a create"), Creation::AlreadyThere);
    }
    assert_eq!(read(store, &key).await, "first");
}

async fn a_create_that_is_sent_again_is_created(store: &dyn Store) {
    let key = key("snapshots/0000000001.record");
    for _ in 0..2 {
        assert_eq!(store.create(&key, text("a record")).await.expect("a create"), Creation::Created);
    }
}

async fn put_replaces(store: &dyn Store) {
    let key = key("keys/1/1.age");
    for body in ["old and long", "new", ""] {
        store.put(&key, text(body)).await.expect("a put");
        assert_eq!(read(store, &key).await, body);
    }
}

async fn a_missing_object_is_not_found(store: &dyn Store) {
    for name in ["missing", "packs/missing.age"] {
        let error = store.get(&key(name), MIB).await.expect_err("nothing is there");
        assert!(matches!(&error, StoreError::NotFound { object } if object.ends_with(name)), "{error:?}");
        assert_eq!(store.head(&key(name)).await.expect("an answer"), None);
    }
}

async fn get_refuses_more_than_the_caller_expects(store: &dyn Store) {
    let key = key("manifest");
    store.put(&key, text("12345")).await.expect("a put");
    assert_eq!(store.get(&key, 5).await.expect("exactly as large"), "12345");
    for max_bytes in [4, 0] {
        let error = store.get(&key, max_bytes).await.expect_err("too large");
        assert!(matches!(error, StoreError::TooLarge { max_bytes: max, .. } if max == max_bytes), "{error:?}");
    }
}

async fn an_empty_object_comes_back(store: &dyn Store) {
    let key = key("empty");
    assert_eq!(store.create(&key, text("")).await.expect("a create"), Creation::Created);
    assert!(store.get(&key, 0).await.expect("a get").is_empty());
    assert_eq!(store.list("").await.expect("a listing").objects[0].bytes, 0);
}

async fn a_pack_comes_back(store: &dyn Store) {
    let key = key("packs/large.age");
    let body: String = (0..16 * MIB / 16).map(|line| format!("{line:015}\n")).collect();
    assert_eq!(body.len() as u64, 16 * MIB);
    assert_eq!(store.create(&key, text(&body)).await.expect("a create"), Creation::Created);
    assert!(store.get(&key, 16 * MIB).await.expect("a get") == body.as_bytes(), "the bytes differ");
    assert_eq!(store.create(&key, text(&body)).await.expect("a create"), Creation::Created);
}

async fn odd_names_come_back(store: &dyn Store) {
    let mut names = vec!["-".to_owned(), "_/_/_".into(), "a..b".into(), "A/b-C_d.E".into(), "x".repeat(100)];
    names.push("d/".repeat(20) + "deep");
    for name in &names {
        store.create(&key(name), text(name)).await.expect(name);
    }
    for name in &names {
        assert_eq!(read(store, &key(name)).await, *name);
    }
    names.sort();
    assert_eq!(listed(store, "").await, names);
}

async fn head_tells_size_and_time(store: &dyn Store) {
    let key = key("packs/a.age");
    store.put(&key, text("12345")).await.expect("a put");
    let info = store.head(&key).await.expect("an answer").expect("an object");
    assert_eq!((info.key, info.bytes), (key, 5));
    assert_recent(info.modified);
}

async fn a_listing_has_sizes_order_and_times(store: &dyn Store) {
    for (name, body) in [("packs/b", "22"), ("packs/a", "1"), ("keys/1/1.age", "333"), ("packs-", ""), ("packs0", "")] {
        store.create(&key(name), text(body)).await.expect("a create");
    }
    let listing = store.list("").await.expect("a listing");
    let seen: Vec<_> = listing.objects.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
    assert_eq!(seen, [("keys/1/1.age", 3), ("packs-", 0), ("packs/a", 1), ("packs/b", 2), ("packs0", 0)]);
    listing.objects.iter().for_each(|object| assert_recent(object.modified));
    assert_recent(listing.server_time.expect("the server's time"));
    assert_eq!(listed(store, "packs/").await, ["packs/a", "packs/b"]);
}

async fn a_prefix_need_not_end_at_a_slash(store: &dyn Store) {
    for name in ["snapshots/10", "snapshots/11", "snapshots/20", "snap"] {
        store.create(&key(name), text(name)).await.expect("a create");
    }
    assert_eq!(listed(store, "snapshots/1").await, ["snapshots/10", "snapshots/11"]);
    assert_eq!(listed(store, "snap").await, ["snap", "snapshots/10", "snapshots/11", "snapshots/20"]);
    assert!(listed(store, "snapshots/3").await.is_empty());
}

async fn a_long_listing_is_complete(store: &dyn Store) {
    let names: Vec<String> = (0..1100).map(|number| format!("packs/{number:04}")).collect();
    for some in names.chunks(32) {
        let creates = some.iter().map(|name| async { store.create(&key(name), text(name)).await.expect("a create") });
        join_all(creates).await;
    }
    assert_eq!(listed(store, "packs/").await, names);
}

async fn a_listing_begins_after_a_name(store: &dyn Store) {
    let names = ["keys/1/1.age", "snapshots/1", "snapshots/2", "snapshots/2.old", "snapshots/3", "snapshots0"];
    for name in names {
        store.create(&key(name), text(name)).await.expect("a create");
    }
    assert_eq!(listed_after(store, "snapshots/", "snapshots/2").await, ["snapshots/2.old", "snapshots/3"]);
    assert_eq!(
        listed_after(store, "snapshots/", "snapshots/1z").await,
        ["snapshots/2", "snapshots/2.old", "snapshots/3"]
    );
    assert_eq!(listed_after(store, "snapshots/2", "snapshots/2").await, ["snapshots/2.old"]);
    assert_eq!(listed_after(store, "", "snapshots/2.old").await, ["snapshots/3", "snapshots0"]);
    assert_eq!(listed_after(store, "", "a").await, names);
    // Names that lack the prefix, before all that has it and after.
    assert_eq!(listed_after(store, "snapshots/", "keys/1/1.age").await, names[1..5]);
    assert_eq!(listed_after(store, "snapshots/", "snapshots").await, names[1..5]);
    for last in ["snapshots/3", "snapshots0", "z"] {
        assert!(listed_after(store, "snapshots/", last).await.is_empty(), "{last}");
    }
    let listing = store.list_from("snapshots/", Some(&key("snapshots/3"))).await.expect("a listing");
    assert_recent(listing.server_time.expect("the server's time, also with nothing listed"));
}

async fn a_long_listing_after_a_name_is_complete(store: &dyn Store) {
    let names: Vec<String> = (0..2110).map(|number| format!("snapshots/{number:04}")).collect();
    for some in names.chunks(32) {
        join_all(some.iter().map(|name| async { store.create(&key(name), text("x")).await.expect("a create") })).await;
    }
    assert_eq!(listed(store, "snapshots/").await, names);
    // The pages of one before, on and after the border of a page.
    for first in [1, 1109, 1110, 1111, 2109] {
        assert_eq!(listed_after(store, "snapshots/", &names[first - 1]).await, names[first..], "from {first}");
    }
    let counted = |listing: Listing| (listing.objects.len(), listing.pages);
    let (objects, pages) = counted(store.list_from("", Some(&key(&names[1110]))).await.expect("a listing"));
    assert_eq!((objects, pages), (999, 1));
    let (_, pages) = counted(store.list("").await.expect("a listing"));
    assert!(pages == 1 || pages == 3, "{pages} pages");
}

async fn an_etag_is_of_these_bytes(store: &dyn Store) {
    let key = key("snapshots/0000000001.record");
    let mut seen = Vec::new();
    for body in ["one", "two", "one"] {
        store.put(&key, text(body)).await.expect("a put");
        let head = store.head(&key).await.expect("an answer").expect("an object").etag;
        let listed = store.list("").await.expect("a listing").objects.remove(0).etag;
        // s3s-fs lists none.
        assert!(listed.is_none() || listed == head, "{listed:?} {head:?}");
        assert!(head.as_ref().is_none_or(|etag| !etag.is_empty() && !etag.contains('"')), "{head:?}");
        seen.push(head);
    }
    assert!(seen[0] != seen[1] || seen[0].is_none(), "{seen:?}");
    assert_eq!(seen[0], seen[2]);
}

async fn one_attempt_creates_and_replaces_as_many_do(store: &dyn Store) {
    let key = key("snapshots/0000000001.record");
    for _ in 0..2 {
        assert_eq!(store.create_attempt(&key, text("first")).await.expect("a create"), Creation::Created);
    }
    for other in ["secnd", "longer than the first", ""] {
        assert_eq!(store.create_attempt(&key, text(other)).await.expect("a create"), Creation::AlreadyThere);
    }
    assert_eq!(read(store, &key).await, "first");
    store.put_attempt(&key, text("other")).await.expect("a put");
    assert_eq!(read(store, &key).await, "other");
}

async fn delete_is_done_once_or_twice(store: &dyn Store) {
    let (kept, gone) = (key("packs/kept"), key("packs/gone"));
    store.put(&kept, text("1")).await.expect("a put");
    store.put(&gone, text("2")).await.expect("a put");
    for _ in 0..2 {
        store.delete(&gone).await.expect("a delete");
        assert_eq!(store.head(&gone).await.expect("an answer"), None);
    }
    store.delete(&key("never/was")).await.expect("a delete");
    assert_eq!(listed(store, "").await, ["packs/kept"]);
    assert_eq!(store.create(&gone, text("3")).await.expect("the name is free again"), Creation::Created);
}

async fn many_are_deleted_and_no_other(store: &dyn Store) {
    for name in ["packs/a", "packs/b", "packs/b.c", "manifests/a"] {
        store.put(&key(name), text(name)).await.expect("a put");
    }
    let keys: Vec<Key> = ["packs/b", "packs/never-was", "manifests/a"].map(key).into();
    for _ in 0..2 {
        let deletion = store.delete_many(&keys).await.expect("an answer");
        assert!(deletion.failed.is_empty(), "{deletion:?}");
        assert_eq!(listed(store, "").await, ["packs/a", "packs/b.c"]);
    }
    assert!(store.delete_many(&[]).await.expect("an answer").failed.is_empty());
    assert_eq!(store.locked_until(&key("packs/a")).await.expect("an answer"), None);
    assert_eq!(store.locked_until(&key("packs/b")).await.expect("an answer"), None);
}

async fn more_than_one_batch_is_deleted(store: &dyn Store) {
    let keys: Vec<Key> = (0..1100).map(|number| key(&format!("packs/{number:04}"))).collect();
    for some in keys.chunks(32) {
        join_all(some.iter().map(|key| async { store.create(key, text("x")).await.expect("a create") })).await;
    }
    store.put(&key("packs/kept"), text("x")).await.expect("a put");
    let deletion = store.delete_many(&keys).await.expect("an answer");
    assert!(deletion.failed.is_empty(), "{deletion:?}");
    assert_eq!(listed(store, "").await, ["packs/kept"]);
}

pub fn key(name: &str) -> Key {
    Key::new(name).expect("a key")
}

pub fn text(text: &str) -> Stored {
    Stored::public_text(text)
}

async fn read(store: &dyn Store, key: &Key) -> String {
    let bytes = store.get(key, MIB).await.expect("a get");
    String::from_utf8(bytes.into()).expect("text")
}

async fn listed(store: &dyn Store, prefix: &str) -> Vec<String> {
    let listing = store.list(prefix).await.expect("a listing");
    listing.objects.iter().map(|object| object.key.to_string()).collect()
}

async fn listed_after(store: &dyn Store, prefix: &str, name: &str) -> Vec<String> {
    let listing = store.list_from(prefix, Some(&key(name))).await.expect("a listing");
    listing.objects.iter().map(|object| object.key.to_string()).collect()
}

fn assert_recent(time: Timestamp) {
    let off = Timestamp::now().duration_since(time).abs();
    assert!(off < SignedDuration::from_mins(1), "{time} is {off} away from now");
}
