//! The cache against its promises: what is the same object, what damage costs, and how large the file gets.

use std::os::unix::fs::PermissionsExt;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// Alike, as records are, but for a digest's worth.
fn record(sequence: u64) -> Vec<u8> {
    let line = |n: u64| format!("{{\"sequence\":{sequence},\"pack\":\"{}\"}}\n", sha256(&n.to_le_bytes()));
    (0..40).map(|pack| line(pack + sequence / 10)).collect::<String>().into_bytes()
}

fn insert(cache: &mut RecordCache, sequence: u64) {
    cache.insert(sequence, time(0), Some("etag"), &record(sequence));
}

fn get(cache: &RecordCache, sequence: u64) -> Option<Bytes> {
    cache.get(sequence, record(sequence).len() as u64, Some("etag"), time(0))
}

fn assert_holds(cache: &RecordCache, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        assert!(get(cache, sequence).is_some_and(|kept| kept == record(sequence)), "{sequence}");
        assert_eq!(cache.digest(sequence), Some(sha256(&record(sequence))));
    }
}

fn load(dir: &Path) -> RecordCache {
    RecordCache::load(dir).expect("a cache")
}

/// A saved cache of these numbers.
fn saved(dir: &Path, sequences: impl IntoIterator<Item = u64>) -> RecordCache {
    let mut cache = load(dir);
    sequences.into_iter().for_each(|sequence| insert(&mut cache, sequence));
    cache.save().expect("saved");
    cache
}

fn file_bytes(dir: &Path) -> u64 {
    fs::metadata(dir.join(FILE)).expect("a file").len()
}

#[test]
fn what_was_inserted_is_there_at_once_after_saving_and_after_loading() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cache = load(dir.path());
    (1..=500).for_each(|sequence| insert(&mut cache, sequence));
    assert_holds(&cache, 1..=500);
    cache.save().expect("saved");
    assert_holds(&cache, (1..=500).rev());
    assert_holds(&load(dir.path()), 1..=500);
    assert_eq!(get(&cache, 501), None);
    assert_eq!(cache.digest(501), None);
    let mode = fs::metadata(dir.path().join(FILE)).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn only_an_object_of_the_same_size_and_etag_or_time_is_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cache = load(dir.path());
    cache.insert(1, time(10), Some("a"), b"tagged");
    cache.insert(2, time(10), None, b"without");
    cache.save().expect("saved");
    for cache in [&cache, &load(dir.path())] {
        let hits = |sequence, bytes, etag, second| cache.get(sequence, bytes, etag, time(second)).is_some();
        assert!(hits(1, 6, Some("a"), 10));
        assert!(hits(1, 6, Some("a"), 11), "the same bytes, by the server's word");
        assert!(!hits(1, 6, Some("b"), 10));
        assert!(!hits(1, 7, Some("a"), 10));
        assert!(hits(1, 6, None, 10));
        assert!(!hits(1, 6, None, 11));
        assert!(hits(2, 7, Some("a"), 10));
        assert!(hits(2, 7, None, 10));
        assert!(!hits(2, 7, None, 11));
        assert!(!hits(2, 6, None, 10));
    }
}

#[test]
fn the_last_record_under_a_number_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cache = load(dir.path());
    for text in ["one", "two", "three"] {
        cache.insert(1, time(0), Some(text), text.as_bytes());
        cache.save().expect("saved");
    }
    for cache in [&cache, &load(dir.path())] {
        assert_eq!(cache.get(1, 5, Some("three"), time(0)).expect("the last"), "three");
        assert_eq!(cache.get(1, 3, Some("two"), time(0)), None);
        assert_eq!(cache.digest(1), Some(sha256(b"three")));
    }
}

#[test]
fn the_same_record_again_adds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    saved(dir.path(), 1..=10);
    let bytes = file_bytes(dir.path());
    saved(dir.path(), 1..=10);
    assert_eq!(file_bytes(dir.path()), bytes);
    saved(dir.path(), 11..=11);
    assert!(file_bytes(dir.path()) > bytes);
}

#[test]
fn nothing_is_written_where_nothing_is_known() {
    let dir = tempfile::tempdir().expect("a folder");
    saved(&dir.path().join("missing"), []);
    assert!(!dir.path().join("missing").exists());
    saved(&dir.path().join("missing"), 1..=1);
    assert_holds(&load(&dir.path().join("missing")), 1..=1);
}

#[test]
fn a_damaged_tail_is_cut_off_and_fetched_again() {
    let dir = tempfile::tempdir().expect("a folder");
    saved(dir.path(), 1..=3);
    let whole = fs::read(dir.path().join(FILE)).expect("a file");
    saved(dir.path(), 4..=6);
    let longer = fs::read(dir.path().join(FILE)).expect("a file");
    let mut flipped = longer.clone();
    flipped[whole.len() + 20] ^= 1;
    for damaged in [&longer[..longer.len() - 1], &longer[..whole.len() + 1], &flipped, &[&whole[..], b"junk"].concat()]
    {
        fs::write(dir.path().join(FILE), damaged).expect("damaged");
        let mut cache = load(dir.path());
        assert_holds(&cache, 1..=3);
        assert_eq!(get(&cache, 4), None);
        insert(&mut cache, 7);
        cache.save().expect("saved");
        assert_holds(&load(dir.path()), [1, 2, 3, 7]);
    }
}

#[test]
fn a_file_of_another_format_is_an_empty_cache() {
    let dir = tempfile::tempdir().expect("a folder");
    for text in ["", "sealift records 2\nwhatever", "sealift"] {
        fs::write(dir.path().join(FILE), text).expect("written");
        assert_eq!(load(dir.path()).live.len(), 0);
        saved(dir.path(), 1..=2);
        assert_holds(&load(dir.path()), 1..=2);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join(FILE)).expect("a folder in its place");
    assert!(matches!(RecordCache::load(dir.path()), Err(StateError::Io { path, .. }) if path.ends_with(FILE)));
}

#[test]
fn the_file_is_written_again_when_more_than_half_is_dead() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cache = saved(dir.path(), 1..=300);
    let bytes = file_bytes(dir.path());
    cache.retain(|sequence| sequence > 140);
    cache.save().expect("saved");
    assert_eq!(file_bytes(dir.path()), bytes, "less than half");
    assert_eq!(get(&cache, 140), None);
    assert_eq!(cache.digest(140), None);
    cache.retain(|sequence| sequence > 200);
    cache.save().expect("saved");
    assert!(file_bytes(dir.path()) < bytes * 2 / 3);
    for cache in [&cache, &load(dir.path())] {
        assert_holds(cache, 201..=300);
        assert_eq!(cache.live.len(), 100);
    }
}

#[test]
fn what_was_forgotten_before_it_was_saved_stays_forgotten() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cache = load(dir.path());
    (1..=4).for_each(|sequence| insert(&mut cache, sequence));
    cache.retain(|sequence| sequence % 2 == 0);
    cache.save().expect("saved");
    for cache in [&cache, &load(dir.path())] {
        assert_holds(cache, [2, 4]);
        assert_eq!(cache.live.len(), 2);
    }
}

#[test]
fn many_runs_of_one_record_each_leave_few_frames() {
    let dir = tempfile::tempdir().expect("a folder");
    for sequence in 1..=400 {
        saved(dir.path(), [sequence]);
    }
    let cache = load(dir.path());
    assert_holds(&cache, 1..=400);
    assert!(cache.frames.len() <= MAX_SHORT_FRAMES + 400 * 4000 / FRAME_BYTES + 2, "{}", cache.frames.len());
}

#[test]
fn two_processes_keep_what_both_append() {
    let dir = tempfile::tempdir().expect("a folder");
    saved(dir.path(), 1..=1);
    let (mut one, mut other) = (load(dir.path()), load(dir.path()));
    insert(&mut one, 2);
    insert(&mut other, 3);
    one.save().expect("saved");
    other.save().expect("saved");
    assert_holds(&load(dir.path()), 1..=3);
}

#[test]
fn ten_thousand_records_take_little_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cache = load(dir.path());
    (1..=10_000).for_each(|sequence| insert(&mut cache, sequence));
    assert!(cache.open.plain.capacity() <= 2 * FRAME_BYTES);
    cache.save().expect("saved");
    let plain: usize = (1..=10_000).map(|sequence| record(sequence).len()).sum();
    let cache = load(dir.path());
    let kept: usize = cache.frames.iter().map(|frame| frame.stored.len()).sum();
    assert!(plain > 35_000_000 && kept < plain / 4, "{kept} of {plain}");
    assert_holds(&cache, [1, 5_000, 10_000]);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { sequence: u64, text: u8, length: usize },
    Retain { divisor: u64 },
    Save,
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..20_u64, any::<u8>(), prop_oneof![0..100_usize, 60_000..160_000_usize])
            .prop_map(|(sequence, text, length)| Step::Insert { sequence, text, length }),
        1 => (2..4_u64).prop_map(|divisor| Step::Retain { divisor }),
        2 => Just(Step::Save),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order of calls: what comes back is what was inserted last, and all that was not forgotten is there.
    #[test]
    fn the_cache_holds_what_a_map_holds(steps in vec(step(), 1..60)) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut cache = load(dir.path());
        let mut model = BTreeMap::<u64, Vec<u8>>::new();
        for step in steps {
            match step {
                Step::Insert { sequence, text, length } => {
                    model.insert(sequence, vec![text; length]);
                    cache.insert(sequence, time(i64::from(text)), None, &vec![text; length]);
                }
                Step::Retain { divisor } => {
                    model.retain(|sequence, _| sequence % divisor != 0);
                    cache.retain(|sequence| sequence % divisor != 0);
                }
                Step::Save => cache.save().expect("saved"),
                Step::Reload => {
                    cache.save().expect("saved");
                    cache = load(dir.path());
                    // What was forgotten may return with the file, and is forgotten again.
                    cache.retain(|sequence| model.contains_key(&sequence));
                }
            }
            prop_assert_eq!(cache.live.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
            prop_assert_eq!(cache.live_bytes, model.values().map(Vec::len).sum::<usize>());
            prop_assert!(cache.total_bytes >= cache.live_bytes);
            for (sequence, record) in &model {
                let text = record.first().copied();
                let Some(text) = text else { continue };
                let kept = cache.get(*sequence, record.len() as u64, None, time(i64::from(text)));
                prop_assert_eq!(kept.as_deref(), Some(&record[..]));
            }
        }
    }
}
