//! Laws that hold for any history and any rules.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::super::super::effective::{Stated, effective_times};
use super::super::*;
use super::{kept, proved};

/// What the records and the listing say, before effective times are worked out from it.
#[derive(Clone, Debug)]
struct Fact {
    stated: Stated,
    healthy: bool,
    whole: bool,
    drilled: bool,
    epoch: u32,
}

/// Hours off, as signed and as stored, health and wholeness, a die for the drill, the epoch.
type Drawn = (i64, i64, (bool, bool), u8, u32);

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    // One a day; clocks that jump both ways, and records that came at another time.
    let off = || prop_oneof![4 => Just(0i64), 1 => -700..700i64];
    let fact = (off(), off(), any::<(bool, bool)>(), 0..8u8, 1..4u32);
    vec(fact, 1..40).prop_map(|facts| {
        let day = |sequence: u64| i64::try_from(sequence).expect("small") * 24;
        let fact = |(sequence, (signed, modified, (healthy, whole), drilled, epoch)): (u64, Drawn)| Fact {
            stated: Stated {
                sequence,
                signed: hours(day(sequence) + signed),
                modified: hours(day(sequence) + modified),
            },
            healthy,
            whole,
            drilled: drilled == 0,
            epoch,
        };
        (1..).zip(facts).map(fact).collect()
    })
}

fn known(facts: &[Fact]) -> Vec<Snapshot> {
    let times = effective_times(facts.iter().map(|fact| fact.stated));
    let snapshot = |(fact, effective): (&Fact, Effective)| Snapshot {
        sequence: fact.stated.sequence,
        effective,
        tags: Vec::new(),
        healthy: fact.healthy,
        whole: fact.whole,
        drilled: fact.drilled,
        epochs: [fact.epoch].into(),
    };
    facts.iter().zip(times).map(snapshot).collect()
}

fn any_rules() -> impl Strategy<Value = Retention> {
    let count = || prop_oneof![3 => Just(None), 1 => (0..9u64).prop_map(Some)];
    // The newest always stays by a rule; the others, where they reach far, keep whatever is behind.
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

proptest! {
    /// From the facts alone: of each kind the newest stays, and the newest that did not come late.
    #[test]
    fn what_is_protected_stays(facts in facts(), rules in any_rules(), proof in btree_set(1..4u32, 0..3)) {
        let kept = kept(&retain(&known(&facts), &rules, &proof).expect("a plan"));
        let came_late = |fact: &Fact| facts.iter().any(|other| {
            let before = fact.stated.modified.duration_since(other.stated.modified);
            other.stated.sequence > fact.stated.sequence && before > jiff::SignedDuration::from_hours(24)
        });
        for late_too in [true, false] {
            let there: Vec<&Fact> = facts.iter().filter(|fact| late_too || !came_late(fact)).collect();
            let good = |fact: &&&Fact| fact.healthy && fact.whole;
            let mut protected: Vec<Option<&&Fact>> = vec![
                there.last(),
                there.iter().rfind(good),
                there.iter().rfind(|fact| fact.drilled && fact.whole),
            ];
            let good_of = |epoch: u32| there.iter().filter(good).rfind(|fact| fact.epoch == epoch);
            match proof.iter().rev().find_map(|epoch| good_of(*epoch)) {
                Some(proved) => protected.push(Some(proved)),
                None => protected.extend((1..4).map(good_of)),
            }
            for fact in protected.into_iter().flatten() {
                prop_assert!(kept.contains(&fact.stated.sequence), "{fact:?} is not in {kept:?}");
            }
        }
    }

    #[test]
    fn a_plan_that_was_carried_out_removes_nothing_more(facts in facts(), rules in any_rules()) {
        let first = kept(&retain(&known(&facts), &rules, &proved()).expect("a plan"));
        let left: Vec<Fact> = facts.into_iter().filter(|fact| first.contains(&fact.stated.sequence)).collect();
        let second = kept(&retain(&known(&left), &rules, &proved()).expect("a plan"));
        prop_assert_eq!(first, second);
    }

    #[test]
    fn times_stay_what_they_were(facts in facts(), rules in any_rules()) {
        let plan = retain(&known(&facts), &rules, &proved()).expect("a plan");
        let kept = kept(&plan);
        let times: Vec<_> = plan.lines.iter().filter(|line| kept.contains(&line.sequence)).map(|l| l.time).collect();
        let left: Vec<Fact> = facts.into_iter().filter(|fact| kept.contains(&fact.stated.sequence)).collect();
        prop_assert_eq!(times, known(&left).iter().map(|snapshot| snapshot.effective.time).collect::<Vec<_>>());
    }

    #[test]
    fn more_of_a_rule_keeps_no_less(facts in facts(), rules in any_rules(), more in 1..9u64, which in 0..6usize) {
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
        let less = kept(&retain(&snapshots, &rules, &proved()).expect("a plan"));
        let more = kept(&retain(&snapshots, &wider, &proved()).expect("a plan"));
        prop_assert!(more.is_superset(&less), "{less:?} and then {more:?}");
    }

    /// Whoever holds the host's key can sign what he likes, under any free number; the server says when it came. What the
    /// rules kept of the days before it came, they keep still, but for the last two, whose places the forgeries may take.
    /// A copy of the bucket, whose objects came within a day in any order, says nothing of that: there a forgery that fits
    /// between two others may have the place of the one before it, in that one's own day, and takes nothing from another.
    #[test]
    fn forged_times_reach_no_day_before_the_last_honest_one(
        days in 3..40usize, forged in vec((-4000..4000i64, 0..80usize), 1..100), keep in 2..30u64,
        copied in vec(0..9i64, 139),
    ) {
        let end = i64::try_from(days).expect("small") * 24;
        let facts = with_forged(end, &forged);
        let honest: Vec<Fact> = facts.iter().filter(|(honest, _)| *honest).map(|(_, fact)| fact.clone()).collect();
        let mut facts: Vec<Fact> = facts.into_iter().map(|(_, fact)| fact).collect();
        let rules = Retention { keep_daily: Some(keep), ..Retention::default() };
        let kept_with = kept(&retain(&known(&facts), &rules, &proved()).expect("a plan"));
        let last: Vec<u64> = honest[days - 2..].iter().map(|fact| fact.stated.sequence).collect();
        let honest = kept(&retain(&known(&honest), &rules, &proved()).expect("a plan"));
        let lost: Vec<_> = honest.difference(&kept_with).filter(|sequence| !last.contains(sequence)).collect();
        prop_assert!(lost.is_empty(), "{lost:?}");

        for (fact, after) in facts.iter_mut().zip(copied) {
            fact.stated.modified = hours(end - 24 + after);
        }
        let day = |time: Timestamp| time.to_zoned(jiff::tz::TimeZone::UTC).date();
        let plan = retain(&known(&facts), &rules, &proved()).expect("a plan");
        for line in plan.lines.iter().filter(|line| honest.contains(&line.sequence)) {
            let taken = |by: u64| by > line.sequence && plan.lines.iter().any(|other| {
                other.sequence == by && day(other.time) == day(line.time) && other.time >= line.time
            });
            let stands = match &line.verdict {
                Verdict::Keep(_) => true,
                Verdict::Remove(Cause::Instead { by, .. }) => taken(*by),
                Verdict::Remove(_) => false,
            };
            prop_assert!(stands, "{line:?}");
        }
    }
}

fn hours(hours: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + hours * 3600).expect("a time")
}

/// A snapshot each day until hour `end`, and beside them the `forged` ones: how far off each is signed, and under which
/// number. Whether each is honest.
fn with_forged(end: i64, forged: &[(i64, usize)]) -> Vec<(bool, Fact)> {
    let fact = |stored: i64, signed: i64| Fact {
        stated: Stated { sequence: 0, signed: hours(signed), modified: hours(stored) },
        healthy: true,
        whole: true,
        drilled: false,
        epoch: 1,
    };
    let mut facts: Vec<(bool, Fact)> = (0..end).step_by(24).map(|hours| (true, fact(hours, hours))).collect();
    for (off, place) in forged {
        facts.insert(*place.min(&facts.len()), (false, fact(end - 24, end - 24 + off)));
    }
    for (sequence, (_, fact)) in (1..).zip(&mut facts) {
        fact.stated.sequence = sequence;
    }
    facts
}
