//! Laws that hold for any history and any rules.

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::super::times::{Stated, snapshot_times};
use super::super::*;
use super::kept;

/// What the records and the listing say, before times are worked out from it.
#[derive(Clone, Debug)]
struct Fact {
    stated: Stated,
    healthy: bool,
    complete: bool,
    epoch: u32,
}

/// Hours off, as signed and as stored, health and completeness, whether an epoch begins.
type Drawn = (i64, i64, (bool, bool), bool);

fn facts_off_by(off: impl Strategy<Value = i64> + Clone) -> impl Strategy<Value = Vec<Fact>> {
    let fact = (off.clone(), off, any::<(bool, bool)>(), prop::bool::weighted(0.2));
    vec(fact, 1..40).prop_map(|facts| {
        let day = |sequence: u64| i64::try_from(sequence).expect("small") * 24;
        let mut epoch = 1;
        let fact = |(sequence, (signed, modified, (healthy, complete), begins)): (u64, Drawn)| {
            epoch += u32::from(begins);
            Fact {
                stated: Stated {
                    sequence,
                    signed: hours(day(sequence) + signed),
                    modified: hours(day(sequence) + modified),
                },
                healthy,
                complete,
                epoch,
            }
        };
        (1..).zip(facts).map(fact).collect()
    })
}

/// One a day; clocks that jump both ways, and records that came at another time.
fn facts() -> impl Strategy<Value = Vec<Fact>> {
    facts_off_by(prop_oneof![4 => Just(0i64), 1 => -700..700i64])
}

fn known(facts: &[Fact]) -> Vec<Snapshot> {
    let times = snapshot_times(facts.iter().map(|fact| fact.stated));
    let snapshot = |(fact, time): (&Fact, SnapshotTime)| Snapshot {
        sequence: fact.stated.sequence,
        time,
        tags: Vec::new(),
        healthy: fact.healthy,
        complete: fact.complete,
        epoch: fact.epoch,
    };
    facts.iter().zip(times).map(snapshot).collect()
}

fn any_rules() -> impl Strategy<Value = Retention> {
    let count = || prop_oneof![3 => Just(None), 1 => (0..9u64).prop_map(Some)];
    let counts = (1..9u64, count(), count(), count(), count(), count());
    let within = prop_oneof![3 => Just(None), 1 => (1..60u32).prop_map(Some)];
    (counts, within).prop_map(|((last, hourly, daily, weekly, monthly, yearly), within)| Retention {
        keep_last: Some(last),
        keep_hourly: hourly,
        keep_daily: daily,
        keep_weekly: weekly,
        keep_monthly: monthly,
        keep_yearly: yearly,
        keep_within: within.map(|days| format!("{days}d").parse().expect("a span")),
        keep_tag: Vec::new(),
        time_zone: Some("America/Havana".to_owned()),
    })
}

/// The server's time: hours after the first day.
fn now() -> impl Strategy<Value = Option<Timestamp>> {
    prop_oneof![1 => Just(None), 9 => (0..70 * 24i64).prop_map(|at| Some(hours(at)))]
}

proptest! {
    /// From the facts alone.
    #[test]
    fn what_is_always_kept_stays(facts in facts(), rules in any_rules(), now in now()) {
        let kept = kept(&retain(&known(&facts), &rules, now).expect("a plan"));
        let good = |fact: &&Fact| fact.healthy && fact.complete;
        let mut protected: Vec<Option<&Fact>> = vec![facts.last(), facts.iter().rfind(good)];
        for first in facts.iter().filter(|fact| fact.epoch > 1) {
            let begins = facts.iter().find(|fact| fact.epoch == first.epoch).expect("itself");
            let is_new = |now: Timestamp| {
                now.duration_since(begins.stated.modified) < SignedDuration::from_hours(30 * 24)
            };
            // Where a later epoch was stored earlier, that one says when this one began.
            let in_order = facts.iter().all(|fact| fact.epoch < first.epoch || fact.stated.modified >= begins.stated.modified);
            if now.is_none_or(is_new) && in_order {
                protected.push(facts.iter().rfind(|fact| fact.epoch == first.epoch - 1 && good(fact)));
            }
        }
        for fact in protected.into_iter().flatten() {
            prop_assert!(kept.contains(&fact.stated.sequence), "{fact:?} is not in {kept:?}");
        }
    }

    #[test]
    fn rules_remove_nothing_that_is_out_of_order(facts in facts(), rules in any_rules(), now in now()) {
        let snapshots = known(&facts);
        let kept = kept(&retain(&snapshots, &rules, now).expect("a plan"));
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.time.out_of_order) {
            prop_assert!(kept.contains(&snapshot.sequence), "{snapshot:?} is not in {kept:?}");
        }
    }

    /// What is always kept is decided without the others' times, so only the rules could count it.
    #[test]
    fn rules_count_nothing_that_is_out_of_order(facts in facts(), rules in any_rules(), now in now()) {
        let all = known(&facts);
        let mut in_order = all.clone();
        in_order.retain(|snapshot| !snapshot.time.out_of_order);
        let ruled = |snapshots: &[Snapshot]| {
            let plan = retain(snapshots, &rules, now).expect("a plan");
            let by_rule = |line: &&Line| match &line.verdict {
                Verdict::Keep(reasons) => reasons.iter().any(|reason| matches!(reason, Reason::Ruled { .. })),
                Verdict::Remove(_) => false,
            };
            plan.lines.iter().filter(by_rule).map(|line| line.sequence).collect::<Vec<_>>()
        };
        prop_assert_eq!(ruled(&all), ruled(&in_order));
    }

    /// With the times as they were: what was out of order stays so.
    #[test]
    fn a_plan_that_was_carried_out_removes_nothing_more(facts in facts(), rules in any_rules(), now in now()) {
        let all = known(&facts);
        let first = kept(&retain(&all, &rules, now).expect("a plan"));
        let left: Vec<Snapshot> = all.into_iter().filter(|snapshot| first.contains(&snapshot.sequence)).collect();
        let second = kept(&retain(&left, &rules, now).expect("a plan"));
        prop_assert_eq!(first, second);
    }

    /// The same with times that are worked out again, where clocks are off by no more than a few minutes or hours.
    #[test]
    fn in_order_a_plan_that_was_carried_out_removes_nothing_more(
        facts in facts_off_by(0..12i64), rules in any_rules(), now in now(),
    ) {
        prop_assert!(known(&facts).iter().all(|snapshot| !snapshot.time.out_of_order));
        let first = kept(&retain(&known(&facts), &rules, now).expect("a plan"));
        let left: Vec<Fact> = facts.into_iter().filter(|fact| first.contains(&fact.stated.sequence)).collect();
        let second = kept(&retain(&known(&left), &rules, now).expect("a plan"));
        prop_assert_eq!(first, second);
    }

    #[test]
    fn more_of_a_rule_keeps_no_less(
        facts in facts(), rules in any_rules(), more in 1..9u64, which in 0..6usize, now in now(),
    ) {
        let mut wider = rules.clone();
        let count = match which {
            0 => &mut wider.keep_last,
            1 => &mut wider.keep_hourly,
            2 => &mut wider.keep_daily,
            3 => &mut wider.keep_weekly,
            4 => &mut wider.keep_monthly,
            _ => &mut wider.keep_yearly,
        };
        *count = Some(count.unwrap_or(0) + more);
        let snapshots = known(&facts);
        let less = kept(&retain(&snapshots, &rules, now).expect("a plan"));
        let more = kept(&retain(&snapshots, &wider, now).expect("a plan"));
        prop_assert!(more.is_superset(&less), "{less:?} and then {more:?}");
    }

    /// By hand goes what is named, out of order or not, and nothing else; what is always kept is refused.
    #[test]
    fn by_hand_what_is_named_goes_and_nothing_else(facts in facts(), which in 0..40usize, now in now()) {
        let snapshots = known(&facts);
        let named = snapshots[which % snapshots.len()].sequence;
        match remove(&snapshots, None, now, &[named].into()) {
            Ok(plan) => prop_assert_eq!(plan.removed().collect::<Vec<_>>(), [named]),
            Err(RetainError::Protected { sequence, .. }) => prop_assert_eq!(sequence, named),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}

fn hours(hours: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + hours * 3600).expect("a time")
}
