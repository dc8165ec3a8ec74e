//! What the rules of the configuration keep.

use std::collections::HashMap;

use jiff::Zoned;

use super::{Cause, Reason, RetainError, Rule, Snapshot};
use crate::format::Retention;

/// What the rules say of one snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Ruled {
    /// Why they keep it; empty: they do not.
    pub reasons: Vec<Reason>,
    /// Which other one has its place, in the finest rule that has such a place.
    pub instead: Option<Cause>,
}

/// Applies each rule, from the finest to the coarsest.
pub(super) fn apply(snapshots: &[Snapshot], rules: &Retention) -> Result<Vec<Ruled>, RetainError> {
    let zone = rules.zone()?;
    let times: Vec<Zoned> = snapshots.iter().map(|snapshot| snapshot.time.time.to_zoned(zone.clone())).collect();
    let mut ruled = vec![Ruled::default(); snapshots.len()];
    let counts = [
        (Rule::Last, rules.keep_last),
        (Rule::Hourly, rules.keep_hourly),
        (Rule::Daily, rules.keep_daily),
        (Rule::Weekly, rules.keep_weekly),
        (Rule::Monthly, rules.keep_monthly),
        (Rule::Yearly, rules.keep_yearly),
    ];
    for (rule, count) in counts {
        keep_counted(snapshots, &times, rule, count.unwrap_or(0), &mut ruled);
    }
    let newest = snapshots.iter().rposition(Snapshot::is_in_order).map(|newest| &times[newest]);
    if let (Some(within), Some(newest)) = (rules.keep_within, newest) {
        let oldest = newest.saturating_sub(within.span()).timestamp();
        let is_within = |snapshot: &Snapshot| snapshot.is_in_order() && snapshot.time.time >= oldest;
        for (_, ruled) in snapshots.iter().zip(&mut ruled).filter(|(snapshot, _)| is_within(snapshot)) {
            ruled.reasons.push(Reason::Ruled { rule: Rule::Within, place: within.to_string() });
        }
    }
    for (snapshot, ruled) in snapshots.iter().zip(&mut ruled) {
        if let Some(tag) = snapshot.tags.iter().find(|tag| rules.keep_tag.contains(tag)) {
            ruled.reasons.push(Reason::Ruled { rule: Rule::Tag, place: tag.clone() });
        }
    }
    Ok(ruled)
}

/// The snapshot that is kept for an hour, a day and so on.
struct Place {
    by: u64,
    complete: bool,
}

/// Keeps the last complete snapshot in each of the `count` newest places that have one, and incomplete ones where they
/// come before it. What is out of order is passed over.
fn keep_counted(snapshots: &[Snapshot], times: &[Zoned], rule: Rule, count: u64, ruled: &mut [Ruled]) {
    let mut places: HashMap<String, Place> = HashMap::new();
    let mut counted = 0;
    let in_order = snapshots.iter().zip(times).zip(ruled).rev().filter(|((snapshot, _), _)| snapshot.is_in_order());
    for ((snapshot, time), ruled) in in_order {
        let name = place(rule, snapshot, time);
        match places.get(&name) {
            Some(place) if place.complete || !snapshot.complete => {
                ruled.instead.get_or_insert(Cause::Instead { rule, place: name, by: place.by });
                continue;
            }
            None if counted >= count => continue,
            _ => {}
        }
        counted += u64::from(snapshot.complete);
        places.insert(name.clone(), Place { by: snapshot.sequence, complete: snapshot.complete });
        // The number of a snapshot as its own place says nothing.
        let place = if rule == Rule::Last { String::new() } else { name };
        ruled.reasons.push(Reason::Ruled { rule, place });
    }
}

/// The hour, day and so on that a snapshot belongs to. An hour that comes twice, when summer time ends, is two: the
/// offset tells them apart.
fn place(rule: Rule, snapshot: &Snapshot, time: &Zoned) -> String {
    let format = match rule {
        Rule::Last | Rule::Within | Rule::Tag => return snapshot.sequence.to_string(),
        Rule::Hourly => "%Y-%m-%dT%H%:z",
        Rule::Daily => "%Y-%m-%d",
        Rule::Weekly => "%G-W%V",
        Rule::Monthly => "%Y-%m",
        Rule::Yearly => "%Y",
    };
    time.strftime(format).to_string()
}
