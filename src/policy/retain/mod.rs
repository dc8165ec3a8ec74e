//! Which snapshots stay, and why each stays or goes.
//!
//! What this promises, whatever the rules say: the newest snapshot stays, the newest good one, and for 30 days after a new
//! key epoch began the newest good one of the epoch before. Rules neither count nor remove a snapshot that is out of order;
//! only a person who names it removes it. With the same times, a plan that is carried out and made again removes nothing
//! more. More of a rule never keeps less.
//!
//! A rule that counts (so many days) walks from the newest snapshot back and keeps the last one of each day that has one. A
//! snapshot that lacks an object is not counted and takes no place from another. It is kept where the rule would have kept
//! it: some of its files may still be wanted.

mod protect;
mod reason;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;

pub use reason::{Cause, Reason, Rule};

use super::times::SnapshotTime;
use crate::format::{Retention, UnknownZone};

/// What retention has to know of a listed and verified snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub sequence: u64,
    pub time: SnapshotTime,
    pub tags: Vec<String>,
    /// Every source is `ok` or `unchecked`.
    pub healthy: bool,
    /// All objects that it needs are listed with their sizes.
    pub complete: bool,
    /// The epoch that its manifest is encrypted to.
    pub epoch: u32,
}

impl Snapshot {
    fn is_good(&self) -> bool {
        self.healthy && self.complete
    }

    fn is_in_order(&self) -> bool {
        !self.time.out_of_order
    }
}

/// A line for each snapshot, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub sequence: u64,
    pub time: Timestamp,
    /// Its day in the zone of the rules.
    pub day: Date,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one reason; what no rule can change stands first.
    Keep(Vec<Reason>),
    Remove(Cause),
}

impl Plan {
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().filter(|line| matches!(line.verdict, Verdict::Remove(_))).map(|line| line.sequence)
    }

    pub fn kept(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().filter(|line| matches!(line.verdict, Verdict::Keep(_))).map(|line| line.sequence)
    }

    /// The days of which none stays, in order. Whatever else goes only makes a day coarser.
    pub fn lost(&self) -> BTreeSet<Date> {
        let kept = self.lines.iter().filter(|line| matches!(line.verdict, Verdict::Keep(_)));
        let kept: BTreeSet<Date> = kept.map(|line| line.day).collect();
        self.days().difference(&kept).copied().collect()
    }

    /// The days that have a snapshot.
    pub fn days(&self) -> BTreeSet<Date> {
        self.lines.iter().map(|line| line.day).collect()
    }

    /// Whether of more than `percent` of the days none stays.
    pub fn loses_more_than(&self, percent: u8) -> bool {
        self.lost().len() * 100 > self.days().len() * usize::from(percent)
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    #[error("these rules keep no snapshot at all")]
    KeepsNothing,
    #[error("there is no snapshot {0} that could be verified and removed")]
    Unknown(u64),
    #[error("snapshot {sequence} cannot be removed, because retention always keeps it: {reason}")]
    Protected { sequence: u64, reason: Reason },
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

/// The plan by `rules` for `snapshots`, which are all that are listed and verified, in the order of their numbers. `now` is
/// the server's time; without it no protection ends.
pub fn retain(snapshots: &[Snapshot], rules: &Retention, now: Option<Timestamp>) -> Result<Plan, RetainError> {
    let ruled = rules::apply(snapshots, rules)?;
    if !snapshots.is_empty() && ruled.iter().all(|ruled| ruled.reasons.is_empty()) {
        return Err(RetainError::KeepsNothing);
    }
    let verdicts =
        snapshots.iter().zip(protect::reasons(snapshots, now)).zip(ruled).map(|((snapshot, mut why), ruled)| {
            why.extend(ruled.reasons);
            if !snapshot.is_in_order() {
                why.push(Reason::OutOfOrder);
            }
            match why.is_empty() {
                true => Verdict::Remove(ruled.instead.unwrap_or(Cause::Unreached)),
                false => Verdict::Keep(why),
            }
        });
    plan(snapshots, rules, verdicts)
}

/// The plan that removes the snapshots `named` and no other, also where they are out of order. `rules`, where there are
/// any, only say why others stay.
pub fn remove(
    snapshots: &[Snapshot],
    rules: Option<&Retention>,
    now: Option<Timestamp>,
    named: &BTreeSet<u64>,
) -> Result<Plan, RetainError> {
    if let Some(unknown) = named.iter().find(|named| !snapshots.iter().any(|snapshot| snapshot.sequence == **named)) {
        return Err(RetainError::Unknown(*unknown));
    }
    let rules = rules.cloned().unwrap_or_default();
    let mut verdicts = Vec::with_capacity(snapshots.len());
    let protected = protect::reasons(snapshots, now);
    for ((snapshot, mut why), ruled) in snapshots.iter().zip(protected).zip(rules::apply(snapshots, &rules)?) {
        if named.contains(&snapshot.sequence) {
            if let Some(reason) = why.into_iter().next() {
                return Err(RetainError::Protected { sequence: snapshot.sequence, reason });
            }
            verdicts.push(Verdict::Remove(Cause::ByHand));
            continue;
        }
        why.extend(ruled.reasons);
        if why.is_empty() {
            why.push(Reason::NotNamed);
        }
        verdicts.push(Verdict::Keep(why));
    }
    plan(snapshots, &rules, verdicts.into_iter())
}

fn plan(
    snapshots: &[Snapshot],
    rules: &Retention,
    verdicts: impl Iterator<Item = Verdict>,
) -> Result<Plan, RetainError> {
    let zone = rules.zone()?;
    let line = |(snapshot, verdict): (&Snapshot, Verdict)| Line {
        sequence: snapshot.sequence,
        time: snapshot.time.time,
        day: snapshot.time.time.to_zoned(zone.clone()).date(),
        verdict,
    };
    Ok(Plan { lines: snapshots.iter().zip(verdicts).map(line).collect() })
}
