//! Cases, each with the reasons that the plan gives.

use super::super::super::times::{Stated, snapshot_times};
use super::super::*;
use super::kept;

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Complete, healthy, of epoch 1, numbered from 1. The server's clock never goes back, whatever was signed.
fn snapshots(times: &[&str]) -> Vec<Snapshot> {
    let mut modified = Timestamp::MIN;
    let stated = (1..).zip(times).map(|(sequence, text)| {
        modified = modified.max(time(text));
        Stated { sequence, signed: time(text), modified }
    });
    let snapshot =
        |(sequence, time)| Snapshot { sequence, time, tags: Vec::new(), healthy: true, complete: true, epoch: 1 };
    (1..).zip(snapshot_times(stated)).map(snapshot).collect()
}

/// A line for each snapshot that the rules, and not only its being the newest, have to do with: `1: daily 2026-03-28`.
#[track_caller]
fn assert_plan(rules: &Retention, snapshots: &[Snapshot], expected: &[&str]) {
    let plan = retain(snapshots, rules, None).expect("a plan");
    let say = |line: &Line| match &line.verdict {
        Verdict::Keep(reasons) => {
            let newest = [Reason::Newest, Reason::NewestGood];
            let words = reasons.iter().filter(|reason| !newest.contains(reason)).map(Reason::to_string);
            format!("{}: {}", line.sequence, words.collect::<Vec<_>>().join(", "))
        }
        Verdict::Remove(cause) => format!("{} goes: {cause}", line.sequence),
    };
    assert_eq!(plan.lines.iter().map(say).collect::<Vec<_>>(), expected);
}

fn rules(text: &str) -> Retention {
    let (name, value) = text.split_once(' ').expect("a rule and a number");
    serde_json::from_value(serde_json::json!({ name: value.parse::<u64>().expect("a number") })).expect("a rule")
}

fn in_zone(zone: &str, text: &str) -> Retention {
    Retention { time_zone: Some(zone.to_owned()), ..rules(text) }
}

#[test]
fn many_a_day_the_last_of_each_day_stays() {
    let history = snapshots(&[
        "2026-11-01T03:00:00Z",
        "2026-11-02T03:00:00Z",
        "2026-11-02T15:00:00Z",
        "2026-11-02T23:59:59Z",
        "2026-11-03T00:00:00Z",
    ]);
    assert_plan(
        &rules("keep_daily 2"),
        &history,
        &[
            "1 goes: no rule reaches it",
            "2 goes: 4 is kept for daily 2026-11-02",
            "3 goes: 4 is kept for daily 2026-11-02",
            "4: daily 2026-11-02",
            "5: daily 2026-11-03",
        ],
    );
}

/// An hour each, of which a day keeps the last: that is what the rules are for, and no loss.
#[test]
fn what_goes_for_a_newer_one_in_its_place_is_not_lost() {
    let days = (1..=8).map(|day| format!("2026-11-0{day}T23:00:00Z"));
    let hours = (0..24).map(|hour| format!("2026-11-09T{hour:02}:30:00Z"));
    let times: Vec<String> = days.chain(hours).collect();
    let history = snapshots(&times.iter().map(String::as_str).collect::<Vec<_>>());
    let plan = retain(&history, &rules("keep_daily 8"), None).expect("a plan");
    assert_eq!((plan.removed().count(), plan.lost().len(), plan.days().len()), (24, 1, 9));
    assert!(plan.loses_more_than(11) && !plan.loses_more_than(12));
    let plan = retain(&history[..8], &rules("keep_daily 3"), None).expect("a plan");
    assert_eq!((plan.lost().len(), plan.days().len()), (5, 8));
    assert!(plan.loses_more_than(50));
    let plan = remove(&history, Some(&rules("keep_daily 8")), None, &[3].into()).expect("a plan");
    assert_eq!(plan.lost().len(), 1);
}

/// A rule that is shorter than a day holds of hourly backups, carried out once a day at whatever hour: each run finds what
/// the one before left, and 24 more.
#[test]
fn a_short_rule_over_hourly_backups_loses_the_day_before_and_no_more() {
    for hour in 0..24 {
        let time = |n: usize| format!("2026-11-{:02}T{:02}:30:00Z", 8 + (n + hour) / 24, (n + hour) % 24);
        let times: Vec<String> = (0..31).map(time).collect();
        let history = snapshots(&times.iter().map(String::as_str).collect::<Vec<_>>());
        let plan = retain(&history, &rules("keep_last 7"), None).expect("a plan");
        assert_eq!((plan.kept().count(), plan.removed().count()), (7, 24));
        assert!(plan.lost().len() == 1 && !plan.loses_more_than(50), "{hour}: {plan:?}");
    }
}

/// Written where `keep_daily` was meant, a coarse rule has one place for all of them, and that is a loss of days.
#[test]
fn what_leaves_nothing_of_its_day_is_lost_though_another_one_has_its_place() {
    let times: Vec<String> = (1..=28).map(|day| format!("2026-02-{day:02}T12:00:00Z")).collect();
    let history = snapshots(&times.iter().map(String::as_str).collect::<Vec<_>>());
    let plan = retain(&history, &rules("keep_yearly 1"), None).expect("a plan");
    assert_eq!((plan.removed().count(), plan.lost().len(), plan.days().len()), (27, 27, 28));
    assert!(plan.loses_more_than(50));
    // The day is that of the zone: in Apia, a day ahead, noon and midnight are of one day, in UTC they are not.
    let history = snapshots(&["2026-11-01T12:00:00Z", "2026-11-02T00:00:00Z"]);
    for (zone, lost) in [("UTC", 1), ("Pacific/Apia", 0)] {
        let rules = Retention { time_zone: Some(zone.to_owned()), ..rules("keep_weekly 1") };
        assert_eq!(retain(&history, &rules, None).expect("a plan").lost().len(), lost, "{zone}");
    }
}

#[test]
fn days_without_a_snapshot_are_not_counted() {
    let history = snapshots(&["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"]);
    assert_plan(
        &rules("keep_daily 2"),
        &history,
        &["1 goes: no rule reaches it", "2: daily 2026-01-01", "3: daily 2026-06-01"],
    );
}

#[test]
fn a_single_snapshot_stays() {
    let history = snapshots(&["2026-11-01T03:00:00Z"]);
    assert_plan(&rules("keep_daily 1"), &history, &["1: daily 2026-11-01"]);
    assert_eq!(retain(&[], &rules("keep_daily 1"), None).expect("a plan"), Plan::default());
}

#[test]
fn the_hour_that_comes_twice_when_summer_time_ends_is_two_hours() {
    // In Berlin the clocks went from 03:00 +02:00 to 02:00 +01:00 at 01:00 UTC.
    let history = snapshots(&["2026-10-25T00:30:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:30:00Z"]);
    assert_plan(
        &in_zone("Europe/Berlin", "keep_hourly 9"),
        &history,
        &[
            "1 goes: 2 is kept for hourly 2026-10-25T02+02:00",
            "2: hourly 2026-10-25T02+02:00",
            "3: hourly 2026-10-25T02+01:00",
        ],
    );
}

#[test]
fn a_day_of_25_hours_and_one_of_23_are_a_day_each() {
    let history = snapshots(&[
        "2026-03-28T22:59:59Z", // 23:59:59
        "2026-03-28T23:00:00Z", // 00:00, and the day has 23 hours
        "2026-03-29T21:59:59Z", // 23:59:59
        "2026-03-29T22:00:00Z", // 00:00
        "2026-10-24T22:00:00Z", // 00:00, and the day has 25 hours
        "2026-10-25T22:59:59Z", // 23:59:59
        "2026-10-25T23:00:00Z", // 00:00
    ]);
    assert_plan(
        &in_zone("Europe/Berlin", "keep_daily 9"),
        &history,
        &[
            "1: daily 2026-03-28",
            "2 goes: 3 is kept for daily 2026-03-29",
            "3: daily 2026-03-29",
            "4: daily 2026-03-30",
            "5 goes: 6 is kept for daily 2026-10-25",
            "6: daily 2026-10-25",
            "7: daily 2026-10-26",
        ],
    );
}

#[test]
fn the_zone_says_where_a_day_begins() {
    let history = snapshots(&["2026-11-01T13:30:00Z", "2026-11-01T14:30:00Z"]);
    assert_plan(
        &in_zone("UTC", "keep_daily 2"),
        &history,
        &["1 goes: 2 is kept for daily 2026-11-01", "2: daily 2026-11-01"],
    );
    assert_plan(
        &in_zone("Australia/Brisbane", "keep_daily 2"),
        &history,
        &["1: daily 2026-11-01", "2: daily 2026-11-02"],
    );
}

#[test]
fn leap_days_are_days_of_their_months() {
    let history =
        snapshots(&["2027-02-28T12:00:00Z", "2028-02-28T12:00:00Z", "2028-02-29T12:00:00Z", "2028-03-01T12:00:00Z"]);
    assert_plan(
        &rules("keep_monthly 3"),
        &history,
        &["1: monthly 2027-02", "2 goes: 3 is kept for monthly 2028-02", "3: monthly 2028-02", "4: monthly 2028-03"],
    );
    assert_plan(
        &rules("keep_daily 3"),
        &history,
        &["1 goes: no rule reaches it", "2: daily 2028-02-28", "3: daily 2028-02-29", "4: daily 2028-03-01"],
    );
}

#[test]
fn months_of_any_length_end_with_their_last_snapshot() {
    let history = snapshots(&[
        "2026-01-31T23:59:59Z",
        "2026-02-01T00:00:00Z",
        "2026-02-28T23:59:59Z",
        "2026-03-01T00:00:00Z",
        "2026-04-30T23:59:59Z",
    ]);
    assert_plan(
        &rules("keep_monthly 12"),
        &history,
        &[
            "1: monthly 2026-01",
            "2 goes: 3 is kept for monthly 2026-02",
            "3: monthly 2026-02",
            "4: monthly 2026-03",
            "5: monthly 2026-04",
        ],
    );
}

#[test]
fn weeks_are_those_of_iso_8601_and_years_those_of_the_calendar() {
    // The last days of 2026 and the first of 2027 are one week, the 53rd.
    let history =
        snapshots(&["2026-12-27T12:00:00Z", "2026-12-28T12:00:00Z", "2026-12-31T12:00:00Z", "2027-01-03T12:00:00Z"]);
    assert_plan(
        &rules("keep_weekly 2"),
        &history,
        &[
            "1: weekly 2026-W52",
            "2 goes: 4 is kept for weekly 2026-W53",
            "3 goes: 4 is kept for weekly 2026-W53",
            "4: weekly 2026-W53",
        ],
    );
    assert_plan(
        &rules("keep_yearly 2"),
        &history,
        &["1 goes: 3 is kept for yearly 2026", "2 goes: 3 is kept for yearly 2026", "3: yearly 2026", "4: yearly 2027"],
    );
}

#[test]
fn a_span_is_counted_in_the_calendar_from_the_newest_snapshot() {
    let history =
        snapshots(&["2026-01-30T12:00:00Z", "2026-01-31T12:00:00Z", "2026-02-28T11:00:00Z", "2026-02-28T12:00:00Z"]);
    let rules = Retention { keep_within: Some("28d".parse().expect("a span")), ..Retention::default() };
    assert_plan(&rules, &history, &["1 goes: no rule reaches it", "2: within 28d", "3: within 28d", "4: within 28d"]);
    let rules = Retention { keep_within: Some("1mo".parse().expect("a span")), ..Retention::default() };
    // A month before 28 February is 28 January.
    assert_plan(&rules, &history, &["1: within 1mo", "2: within 1mo", "3: within 1mo", "4: within 1mo"]);
}

#[test]
fn a_tag_keeps_whatever_its_age() {
    let mut history = snapshots(&["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]);
    history[0].tags = vec!["a".to_owned(), "before-upgrade".to_owned()];
    history[1].tags = vec!["upgrade".to_owned()];
    let rules = Retention { keep_tag: vec!["before-upgrade".to_owned()], ..rules("keep_last 1") };
    assert_plan(&rules, &history, &["1: tag before-upgrade", "2 goes: no rule reaches it", "3: last"]);
}

#[test]
fn a_snapshot_has_every_reason_that_keeps_it_and_the_finest_that_does_not() {
    let history = snapshots(&["2026-11-01T03:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T03:00:00Z"]);
    let rules = Retention { keep_last: Some(1), keep_daily: Some(7), keep_weekly: Some(7), ..Retention::default() };
    assert_plan(
        &rules,
        &history,
        &[
            "1 goes: 2 is kept for daily 2026-11-01",
            "2: daily 2026-11-01, weekly 2026-W44",
            "3: last, daily 2026-11-02, weekly 2026-W45",
        ],
    );
}

#[test]
fn rules_that_keep_nothing_are_no_plan() {
    let history = snapshots(&["2026-11-01T03:00:00Z"]);
    let tag = Retention { keep_tag: vec!["none".to_owned()], ..Retention::default() };
    for rules in [Retention::default(), rules("keep_last 0"), tag] {
        assert!(matches!(retain(&history, &rules, None), Err(RetainError::KeepsNothing)), "{rules}");
    }
    let rules = in_zone("Europe/Atlantis", "keep_last 1");
    assert!(matches!(retain(&history, &rules, None), Err(RetainError::Zone(_))));
}

/// Line by line why those that stay do, by a rule that keeps the newest alone.
fn always_kept(history: &[Snapshot], now: &str) -> Vec<String> {
    let plan = retain(history, &rules("keep_last 1"), Some(time(now))).expect("a plan");
    let say = |line: Line| match line.verdict {
        Verdict::Keep(reasons) => {
            let words: Vec<_> = reasons.iter().map(Reason::to_string).collect();
            Some(format!("{}: {}", line.sequence, words.join(", ")))
        }
        Verdict::Remove(_) => None,
    };
    plan.lines.into_iter().filter_map(say).collect()
}

#[test]
fn the_newest_and_the_newest_good_stay_whatever_the_rules_say() {
    let mut history = snapshots(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
    history[2].healthy = false;
    assert_eq!(always_kept(&history, "2027-01-01T00:00:00Z"), ["2: newest good", "3: newest, last"]);
    // One that lacks an object is not good, either. The rule keeps the newest complete one, too.
    history[1].complete = false;
    assert_eq!(always_kept(&history, "2027-01-01T00:00:00Z"), ["1: newest good", "3: newest, last"]);
}

#[test]
fn for_30_days_after_an_epoch_began_the_newest_good_one_of_the_epoch_before_stays() {
    let mut history = snapshots(&[
        "2026-01-01T00:00:00Z",
        "2026-01-02T00:00:00Z",
        "2026-01-03T00:00:00Z",
        "2026-01-04T00:00:00Z",
        "2026-01-05T00:00:00Z",
    ]);
    history[2].healthy = false;
    history[3].epoch = 2;
    history[4].epoch = 2;
    let newest = "5: newest, newest good, last";
    let before = "2: newest good of epoch 1, while epoch 2 is new";
    assert_eq!(always_kept(&history, "2026-02-02T23:59:59Z"), [before, newest]);
    assert_eq!(always_kept(&history, "2026-02-03T00:00:00Z"), [newest]);
    // Without the server's time nothing says that the epoch is old.
    let plan = retain(&history, &rules("keep_last 1"), None).expect("a plan");
    assert_eq!(plan.kept().collect::<Vec<_>>(), [2, 5]);
    // An epoch without a good snapshot leaves the one before it protected.
    history[4].epoch = 3;
    history[3].healthy = false;
    let before = "2: newest good of epoch 1, while epoch 2 is new";
    assert_eq!(always_kept(&history, "2026-01-06T00:00:00Z"), [before, newest]);
    assert_eq!(
        always_kept(&history, "2026-02-03T12:00:00Z"),
        ["2: newest good of epoch 1, while epoch 3 is new", newest]
    );
}

#[test]
fn a_snapshot_that_lacks_an_object_takes_no_place_and_is_not_counted() {
    let mut history = snapshots(&[
        "2026-01-01T01:00:00Z",
        "2026-01-01T02:00:00Z",
        "2026-01-02T01:00:00Z",
        "2026-01-03T01:00:00Z",
        "2026-01-04T01:00:00Z",
    ]);
    history[1].complete = false;
    history[2].complete = false;
    let protected = retain(&history, &rules("keep_daily 3"), None).expect("a plan");
    assert_eq!(protected.removed().count(), 0);
    assert_plan(
        &rules("keep_daily 3"),
        &history,
        &[
            "1: daily 2026-01-01",
            "2: daily 2026-01-01",
            "3: daily 2026-01-02",
            "4: daily 2026-01-03",
            "5: daily 2026-01-04",
        ],
    );
    assert_plan(
        &rules("keep_daily 2"),
        &history,
        &[
            "1 goes: no rule reaches it",
            "2 goes: no rule reaches it",
            "3 goes: no rule reaches it",
            "4: daily 2026-01-03",
            "5: daily 2026-01-04",
        ],
    );
}

/// The host's clock was set back a year for two snapshots. They take no place, and only a person removes them.
#[test]
fn what_is_out_of_order_is_neither_counted_nor_removed() {
    let mut times = vec!["2026-11-01T03:00:00Z", "2026-11-02T03:00:00Z", "2026-11-03T03:00:00Z"];
    times.extend(["2025-11-04T03:00:00Z", "2025-11-04T04:00:00Z", "2026-11-04T03:00:00Z"]);
    let history = snapshots(&times);
    assert_plan(
        &rules("keep_daily 2"),
        &history,
        &[
            "1 goes: no rule reaches it",
            "2 goes: no rule reaches it",
            "3: daily 2026-11-03",
            "4: out of order",
            "5: out of order",
            "6: daily 2026-11-04",
        ],
    );
    let plan = remove(&history, None, None, &[4, 5].into()).expect("a plan");
    assert_eq!(plan.removed().collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_span_is_counted_from_the_newest_that_is_in_order() {
    let rules = Retention { keep_within: Some("2d".parse().expect("a span")), ..Retention::default() };
    let history =
        snapshots(&["2026-11-01T03:00:00Z", "2026-11-03T03:00:00Z", "2026-11-04T04:00:00Z", "2025-11-04T03:00:00Z"]);
    let expected = ["1 goes: no rule reaches it", "2: within 2d", "3: within 2d", "4: out of order"];
    assert_plan(&rules, &history, &expected);
}

#[test]
fn thousands_of_snapshots_are_planned_at_once() {
    let hour = |number: i64| Timestamp::from_second(1_790_000_000 + number * 3600).expect("a time");
    let stated = (0..8760).map(|number| Stated {
        sequence: u64::try_from(number).expect("small") + 1,
        signed: hour(number),
        modified: hour(number),
    });
    let mut history = snapshots(&["2026-01-01T00:00:00Z"]);
    let times: Vec<SnapshotTime> = snapshot_times(stated);
    let first = history.remove(0);
    history.extend((1..).zip(times).map(|(sequence, time)| Snapshot { sequence, time, ..first.clone() }));
    let rules =
        Retention { keep_hourly: Some(48), keep_daily: Some(30), keep_monthly: Some(12), ..Retention::default() };
    let began = std::time::Instant::now();
    let plan = retain(&history, &rules, None).expect("a plan");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    let kept = kept(&plan);
    // The hours lie in three days, and the 30 days in two months.
    assert_eq!(kept.len(), 48 + 27 + 10);
    assert!(kept.contains(&8760) && kept.contains(&8713) && !kept.contains(&8712), "{kept:?}");
}

#[test]
fn by_hand_only_what_is_named_goes() {
    let history = snapshots(&["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "2026-01-02T00:00:00Z"]);
    let plan = remove(&history, Some(&rules("keep_daily 1")), None, &[2].into()).expect("a plan");
    assert_eq!(plan.removed().collect::<Vec<_>>(), [2]);
    assert_eq!(plan.lines[0].verdict, Verdict::Keep(vec![Reason::NotNamed]));
    assert_eq!(plan.lines[1].verdict, Verdict::Remove(Cause::ByHand));
}

#[test]
fn by_hand_nothing_goes_that_is_always_kept() {
    let mut history = snapshots(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-04T00:00:00Z"]);
    history[2].healthy = false;
    let refused = |named: u64| match remove(&history, None, None, &[named].into()) {
        Err(RetainError::Protected { sequence, reason }) => (sequence, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(3), (3, Reason::Newest));
    assert_eq!(refused(2), (2, Reason::NewestGood));
    assert!(matches!(remove(&history, None, None, &[7].into()), Err(RetainError::Unknown(7))));
}
