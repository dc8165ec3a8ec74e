//! What retention does where times are wrong: a host clock that is off, a bucket that was copied.

use jiff::{SignedDuration, Timestamp};

use crate::retain::{history, history_of, listed, plan, signer};
use crate::support::past::{Past, days_ago, set_time};
use crate::support::world::{World, copy_tree, tree};

/// A copy of the repository whose objects are all new.
fn copied(world: &World) -> String {
    let copy = world.path("copy");
    copy_tree(&world.path("repository"), &copy);
    for path in tree(&copy).into_keys().filter(|path| copy.join(path).is_file()) {
        set_time(&copy.join(path), Timestamp::now());
    }
    copy.display().to_string()
}

/// What it signs meanwhile is out of order: it takes no place from another, and a person removes it.
#[test]
fn a_host_clock_that_is_a_year_behind_costs_no_day() {
    let world = World::ready();
    world.backup();
    let past = Past::of(&world, &world.path("repository"));
    past.age(&[30]);
    past.repeat((20..30).rev().map(|days| (days_ago(days), days_ago(days))));
    let rules = ["retain", "--keep-daily", "5", "--apply", "--json"];
    for days in (10..20).rev() {
        past.repeat([(days_ago(365 + days), days_ago(days))]);
        assert!(world.sealift(&rules).exits(0).warnings().contains(&"out-of-order".to_owned()));
    }
    assert_eq!(listed(&world), (7..=21).collect::<Vec<_>>());
    past.repeat((5..10).rev().map(|days| (days_ago(days), days_ago(days))));
    let plan = plan(&world.sealift(&["retain", "--keep-daily", "5", "--json"]).exits(0));
    assert!(plan[..5].iter().all(|line| line.contains("go: ")), "{plan:?}");
    assert!(plan[5..15].iter().all(|line| line.ends_with("keep: out of order")), "{plan:?}");
    let named: Vec<String> = (12..=21).map(|number: u64| number.to_string()).collect();
    let remove: Vec<&str> = named.iter().flat_map(|number| ["--remove", number.as_str()]).collect();
    world.sealift(&[&["retain", "--apply"], &remove[..]].concat()).exits(0);
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
    // 5 to 10 are dated before 4, so they take no place from 1 to 3.
    assert_eq!((output.warnings(), listed(&other).len()), (vec!["out-of-order".to_owned()], 10));
    world.sealift(&apply).exits(0);
    assert_eq!(listed(&world), [4, 5, 6, 7, 8, 9, 10]);
}

/// The copying began 20 days ago, with the newest snapshot; every 12 hours one more was copied. Most are out of
/// order: they stay until a person removes them.
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
    let output = other.sealift(&["retain", "--signer", &signer, "--keep-daily", "7", "--apply", "--json"]).exits(0);
    assert_eq!((output.warnings(), listed(&other).len()), (vec!["out-of-order".to_owned()], 10));
    for sequence in [1, 7, 10] {
        other.assert_restores(sequence, &sources[usize::try_from(sequence - 1).unwrap()]);
    }
}
