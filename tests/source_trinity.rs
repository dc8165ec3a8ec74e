//! The Trinity-shaped database that measurements and scenarios use is what it says it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

#[path = "support/trinity.rs"]
mod trinity;

use std::collections::HashSet;
use std::path::Path;

use rusqlite::Connection;
use sealift::source::{Database, ReadLimits};

const PAGE_BYTES: usize = 4096;

fn pages(path: &Path) -> Vec<u8> {
    let mut database = Database::open(path, &ReadLimits::default()).unwrap();
    let view = database.begin().unwrap();
    let mut pages = vec![0; usize::try_from(view.bytes()).unwrap()];
    view.read(1, &mut pages).unwrap();
    view.finish().unwrap();
    pages
}

#[test]
fn it_has_the_size_asked_for_and_compresses_like_the_real_one() {
    let folder = tempfile::tempdir().unwrap();
    let made = trinity::generate(folder.path(), 20, 1);
    let pages = pages(&made.database);
    assert!((18_000_000..23_000_000).contains(&pages.len()), "{} bytes", pages.len());
    let ratio = pages.len() as f64 / zstd::bulk::compress(&pages, 3).unwrap().len() as f64;
    assert!((2.7..3.1).contains(&ratio), "ratio {ratio}");
}

#[test]
fn a_days_use_changes_seven_to_nine_percent_of_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    let made = trinity::generate(folder.path(), 40, 1);
    let before = pages(&made.database);
    let known: HashSet<&[u8]> = before.chunks(PAGE_BYTES).collect();
    trinity::a_days_use(&Connection::open(&made.database).unwrap(), 2);
    let after = pages(&made.database);
    let new = after.chunks(PAGE_BYTES).filter(|page| !known.contains(page)).count();
    let share = new as f64 * 100.0 / (after.len() / PAGE_BYTES) as f64;
    assert!((6.5..9.7).contains(&share), "{share} %");
}

#[test]
#[ignore = "500 MB: for measuring"]
fn five_hundred_megabytes_and_how_fast_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let made = trinity::generate(folder.path(), 500, 1);
    println!("made in {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let pages = pages(&made.database);
    println!("read {} bytes in {:?}", pages.len(), started.elapsed());
}
