//! What retention does where times are wrong: by a thief who signs what he likes, a host clock that is off, a bucket that was
//! copied.

use jiff::{SignedDuration, Timestamp};

use crate::retain::{history, history_of, listed, plan, signer};
use crate::support::past::{Past, days_ago, set_time};
use crate::support::world::{World, copy_tree, tree};

/// Ten honest snapshots, the last nine `step` apart and the last of all a step ago; then a hundred that a thief signs for
/// times a step apart, before, between and after those. What another machine keeps of the nine by `rules`, applied three
/// times, and how many in all.
fn kept_after_a_theft(step: SignedDuration, rules: &[&str]) -> (Vec<bool>, usize) {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[100]);
    let now = Timestamp::now();
    let honest = past.repeat((1..10).rev().map(|steps| (now - step * steps, now - step * steps)));
    past.repeat((0..100).map(|number| (now + step * (number - 50), now)));
    let (other, signer) = (world.other_host("pruner"), signer(&world));
    for _ in 0..3 {
        other.sealift(&[&["retain", "--signer", &signer, "--apply", "--json"], rules].concat()).exits(0);
    }
    let kept = listed(&other);
    (honest.iter().map(|sequence| kept.contains(sequence)).collect(), kept.len())
}

/// Eight places: that of now, which is the thief's, and the seven before it, but for the place of the last honest one, which
/// the forgeries with earlier times share.
#[test]
fn a_thief_who_signs_a_hundred_snapshots_with_chosen_times_drops_nothing_that_the_rules_keep_by_time() {
    let day = SignedDuration::from_hours(24);
    for (step, rules) in [
        (day, &["--keep-daily", "8"][..]),
        (SignedDuration::from_hours(1), &["--keep-hourly", "8"]),
        (day * 7, &["--keep-weekly", "8"]),
        // It is full of the thief's, and takes nothing from the days.
        (day, &["--keep-daily", "8", "--keep-last", "3"]),
    ] {
        let (honest, all) = kept_after_a_theft(step, rules);
        assert!(honest[2..8].iter().all(|kept| *kept), "{rules:?}: {honest:?}");
        // Beside them stay those that he signed for times before the last honest one, and no more.
        assert!(all <= 13 + 49, "{rules:?}: {all}");
    }
    // Of a span he pushes nothing out at all, and what he adds counts as taken within it.
    let (honest, all) = kept_after_a_theft(day, &["--keep-within", "7d"]);
    assert_eq!((honest, all), ([vec![false; 2], vec![true; 7]].concat(), 107));
}

/// Ten days of which retention left the last seven, in the eyes of another machine.
fn seven_days() -> (World, World) {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[10]);
    past.repeat((1..10).rev().map(|days| (days_ago(days), days_ago(days))));
    let pruner = world.other_host("pruner");
    pruner.sealift(&["retain", "--signer", &signer(&world), "--keep-daily", "7", "--apply"]).exits(0);
    assert_eq!(listed(&pruner), SEVEN);
    (world, pruner)
}

const SEVEN: [u64; 7] = [4, 5, 6, 7, 8, 9, 10];
const KEEP_SEVEN: [&str; 4] = ["retain", "--keep-daily", "7", "--json"];
const APPLY_SEVEN: [&str; 4] = ["retain", "--keep-daily", "7", "--apply"];

#[test]
fn a_thief_who_plants_a_snapshot_under_a_free_low_number_drops_no_day() {
    let (world, pruner) = seven_days();
    let past = Past::of(&world, &world.path("repository"));
    past.plant(3, &[], days_ago(8));
    let plan = plan(&pruner.sealift(&KEEP_SEVEN).exits(3));
    assert!(plan[0].starts_with("3 go") && plan[1..].iter().all(|line| line.contains("keep: ")), "{plan:?}");
    pruner.sealift(&APPLY_SEVEN).exits(15).says("broken-chain").says("--remove N");
    pruner.sealift(&["retain", "--remove", "3", "--apply"]).exits(3);
    assert_eq!(listed(&pruner), SEVEN);
    // One that names just those that its successors name.
    past.plant(2, &[(1, 1)], Timestamp::now());
    pruner.sealift(&APPLY_SEVEN).exits(0).says("stored-late").says("time-behind").says("--remove 2");
    assert_eq!(listed(&pruner), [&[2], &SEVEN[..]].concat());
    pruner.sealift(&["retain", "--remove", "2", "--apply"]).exits(0);
    // And he makes no old snapshot fresh.
    for sequence in SEVEN {
        set_time(&world.record(sequence), days_ago(4));
    }
    past.plant(2, &[(1, 1)], Timestamp::now());
    assert_eq!(pruner.sealift(&["status", "--json"]).exits(14).json()["status"], "stale");
}

/// Its objects are all new, so only the chain tells.
#[test]
fn a_snapshot_that_was_planted_before_the_bucket_was_copied_stops_retention_until_it_is_taken_out() {
    let (world, mut pruner) = seven_days();
    Past::of(&world, &world.path("repository")).plant(3, &[], days_ago(8));
    pruner.repository = copied(&world);
    pruner.sealift(&APPLY_SEVEN).exits(15).says("broken-chain");
    assert_eq!(listed(&pruner), [3, 4, 5, 6, 7, 8, 9, 10]);
    pruner.sealift(&["retain", "--remove", "3", "--apply"]).exits(3);
    pruner.sealift(&APPLY_SEVEN).exits(0);
    assert_eq!(listed(&pruner), SEVEN);
}

/// Not even the chain tells, and the days that the rules keep stay. Nor does it make an old snapshot fresh.
#[test]
fn a_snapshot_that_was_planted_for_now_before_the_bucket_was_copied_drops_no_day() {
    let (world, mut pruner) = seven_days();
    Past::of(&world, &world.path("repository")).plant(2, &[(1, 1)], Timestamp::now());
    pruner.repository = copied(&world);
    pruner.sealift(&APPLY_SEVEN).exits(0).says("time-behind").says("--remove 2");
    assert_eq!(listed(&pruner), [&[2], &SEVEN[..]].concat());
    assert_eq!(pruner.sealift(&["status", "--max-age", "1h", "--json"]).exits(14).json()["status"], "stale");
    pruner.sealift(&["retain", "--remove", "2", "--apply"]).exits(0);
    pruner.sealift(&["retain", "--keep-daily", "6", "--apply"]).exits(0);
    assert_eq!(listed(&pruner), SEVEN[1..]);
}

/// While he was at it, all that he signed counted as of the day of the theft. Whoever saw it then goes on counting like that.
#[test]
fn a_thief_who_signed_for_days_to_come_drops_no_day_when_the_server_dates_everything_anew() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[20]);
    past.repeat((14..20).rev().map(|days| (days_ago(days), days_ago(days))));
    past.repeat((7..14).rev().map(|days| (days_ago(days), days_ago(14))));
    let pruner = world.other_host("pruner");
    pruner.sealift(&["retain", "--signer", &signer(&world), "--keep-daily", "7"]).exits(0);
    for round in 0..2 {
        for sequence in listed(&world) {
            set_time(&world.record(sequence), Timestamp::now());
        }
        pruner.sealift(&APPLY_SEVEN).exits(0);
        let left = listed(&world);
        assert!((1..7).all(|honest| left.contains(&honest)), "round {round}: {left:?}");
    }
}

/// A copy of the repository whose objects are all new.
fn copied(world: &World) -> String {
    let copy = world.path("copy");
    copy_tree(&world.path("repository"), &copy);
    for path in tree(&copy).into_keys().filter(|path| copy.join(path).is_file()) {
        set_time(&copy.join(path), Timestamp::now());
    }
    copy.display().to_string()
}

/// Nobody can tell of which days its snapshots are, so they stay, and none of them may push a day out, however often
/// retention runs. Once as many right ones have come as the rules keep, they go.
#[test]
fn a_host_clock_that_was_set_back_a_year_eats_no_day() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[30]);
    past.repeat((20..30).rev().map(|days| (days_ago(days), days_ago(days))));
    let rules = ["retain", "--keep-daily", "5", "--apply"];
    for days in (10..20).rev() {
        past.repeat([(days_ago(365 + days), days_ago(days))]);
        world.sealift(&rules).exits(0).says("time-behind").says("--remove 11");
    }
    assert_eq!(listed(&world), (7..=21).collect::<Vec<_>>());
    past.repeat((5..10).rev().map(|days| (days_ago(days), days_ago(days))));
    world.sealift(&rules).exits(0);
    assert_eq!(listed(&world), [22, 23, 24, 25, 26]);
}

#[test]
fn a_host_clock_that_runs_a_year_ahead_keeps_a_snapshot_a_day_as_the_server_counts_them() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[9]);
    past.repeat((1..9).rev().map(|days| (days_ago(days - 365), days_ago(days))));
    world.sealift(&["retain", "--keep-daily", "5", "--apply"]).exits(0);
    assert_eq!(listed(&world), [5, 6, 7, 8, 9]);
}

#[test]
fn a_bucket_copied_object_by_object_keeps_its_history() {
    let (world, sources) = history(10);
    let mut other = world.other_host("pruner");
    other.repository = copied(&world);
    let signer = signer(&world);
    let output = other.sealift(&["retain", "--signer", &signer, "--keep-daily", "7", "--apply", "--json"]).exits(0);
    assert_eq!(plan(&output).iter().filter(|line| line.contains("keep")).count(), 7);
    assert_eq!(listed(&other), [4, 5, 6, 7, 8, 9, 10]);
    other.assert_restores(4, &sources[3]);
}

/// In the original the server's time says when the fourth was stored; in the copy nothing does.
#[test]
fn a_host_clock_that_was_ahead_for_one_snapshot_of_a_bucket_that_was_copied_eats_no_day() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[10]);
    past.repeat((1..10).rev().map(|days| (days_ago(if days == 7 { days - 365 } else { days }), days_ago(days))));
    let mut other = world.other_host("pruner");
    other.repository = copied(&world);
    let apply = ["retain", "--keep-daily", "7", "--unattended", "--apply", "--json"];
    let output = other.sealift(&[&apply[..], &["--signer", &signer(&world)]].concat()).exits(0);
    assert_eq!((output.warnings(), listed(&other).len()), (vec!["time-behind".to_owned()], 10));
    assert_eq!(world.sealift(&apply).exits(0).warnings(), ["unexplained-removal"]);
    assert_eq!(listed(&world), [4, 5, 6, 7, 8, 9, 10]);
}

/// Twenty days ago the copying began, with the newest snapshot, and every twelve hours one more was copied. Most look as if
/// somebody had put them there later: they stay beside the others until younger ones have all places.
#[test]
fn a_bucket_copied_over_days_keeps_its_history_too() {
    let (world, sources) = history_of(&[30, 29, 28, 27, 26, 25, 24, 23, 22, 21]);
    let copy = world.path("copy");
    copy_tree(&world.path("repository"), &copy);
    let copied = |hours: i64| days_ago(20) + SignedDuration::from_hours(hours);
    for path in tree(&copy).into_keys().filter(|path| path.is_file()) {
        set_time(&path, copied(0));
    }
    for sequence in 1..=10_i64 {
        set_time(&copy.join(format!("snapshots/{sequence:010}.record")), copied(12 * (10 - sequence)));
    }
    let mut other = world.other_host("pruner");
    other.repository = copy.display().to_string();
    let signer = signer(&world);
    let apply = ["retain", "--signer", &signer, "--keep-daily", "7", "--apply", "--json"];
    let output = other.sealift(&apply).exits(0);
    assert_eq!((output.warnings(), listed(&other).len()), (vec!["stored-late".to_owned()], 10));
    for sequence in [1, 7, 10] {
        other.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
    }
    let past = Past::of(&world, &copy);
    past.repeat([10, 9, 8].map(|days| (days_ago(days), days_ago(days))));
    other.sealift(&apply).exits(0);
    assert_eq!(listed(&other).len(), 13);
    past.repeat([(days_ago(7), days_ago(7))]);
    other.sealift(&apply).exits(0);
    assert_eq!(listed(&other), [8, 9, 10, 11, 12, 13, 14]);
    other.assert_restores(8, &sources[7]);
    other.assert_restores(14, &sources[9]);
}
