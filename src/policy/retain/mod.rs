//! Which snapshots stay, and why each stays or goes.
//!
//! What this promises, whatever the rules say: the newest snapshot stays, and the newest good one, the newest with a
//! passed drill, the newest good one of every epoch that counts (see [`Proof`]), and each on which
//! what is known of another one's time rests. A plan that is carried out and made again removes nothing more. More of a rule never keeps less.
//!
//! A rule that counts (so many days) walks from the newest snapshot back and keeps the last one of each day that has
//! one. A snapshot that cannot be restored in full any more is neither counted nor put in the place of a whole one, and
//! is kept beside it where the rule would have kept it: some of its files may still be wanted. Likewise one that came
//! late: who holds the host's key could plant it. Of one whose time is behind nobody knows which day it is of: it stays,
//! beside as many like it as there are, until younger ones have all places of the rule.

mod protect;
mod reason;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::mem::discriminant;

use jiff::Timestamp;
use jiff::civil::Date;

pub use reason::{Cause, Reason, Rule};

use super::effective::Effective;
use crate::format::{Retention, UnknownZone};

/// What retention has to know of a listed and verified snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub sequence: u64,
    pub effective: Effective,
    pub tags: Vec<String>,
    /// No source was damaged or missing.
    pub healthy: bool,
    /// Nothing that it needs is known to be missing or bad, and the last drill of it by a known driller did not fail.
    pub whole: bool,
    /// The last drill of it by a known driller passed.
    pub drilled: bool,
    /// The epochs whose data identities open it.
    pub epochs: BTreeSet<u32>,
}

impl Snapshot {
    /// Whether it may stand for the hour, day and so on that it is of, if one knows which.
    fn counts(&self) -> bool {
        self.whole && self.effective.late_after.is_none()
    }

    /// The epoch that it was sealed to: what it takes from older ones does not make it older.
    fn epoch(&self) -> Option<u32> {
        self.epochs.last().copied()
    }
}

/// The epochs whose data identity a known driller is known to have opened. The newest good snapshot of the last of them
/// that has one stays; where none has, of every epoch, because then nobody knows which of them can be opened at all.
pub type Proof = BTreeSet<u32>;

/// A line for each snapshot, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub sequence: u64,
    /// The effective time.
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

/// The plan by `rules` for `snapshots`, which are all that are listed and verified, in the order of their numbers.
pub fn retain(snapshots: &[Snapshot], rules: &Retention, proof: &Proof) -> Result<Plan, RetainError> {
    let ruled = rules::apply(snapshots, rules)?;
    if !snapshots.is_empty() && ruled.iter().all(|ruled| ruled.reasons.is_empty()) {
        return Err(RetainError::KeepsNothing);
    }
    let mut reasons = protect::reasons(snapshots, proof);
    for (all, ruled) in reasons.iter_mut().zip(&ruled) {
        all.extend(ruled.reasons.iter().cloned());
    }
    hold(snapshots, &mut reasons);
    let verdicts = reasons.into_iter().zip(ruled).map(|(reasons, ruled)| match reasons.is_empty() {
        true => Verdict::Remove(ruled.instead.unwrap_or(Cause::Unreached)),
        false => Verdict::Keep(reasons),
    });
    plan(snapshots, rules, verdicts)
}

/// The plan that removes the snapshots `named` and no other. The rules only say why others stay. One that others
/// are behind may go, too: that is how to be rid of one that does not belong there.
pub fn remove(
    snapshots: &[Snapshot],
    rules: &Retention,
    proof: &Proof,
    named: &BTreeSet<u64>,
) -> Result<Plan, RetainError> {
    if let Some(unknown) = named.iter().find(|named| !snapshots.iter().any(|snapshot| snapshot.sequence == **named)) {
        return Err(RetainError::Unknown(*unknown));
    }
    let mut reasons = protect::reasons(snapshots, proof);
    for ((snapshot, reasons), ruled) in snapshots.iter().zip(&mut reasons).zip(rules::apply(snapshots, rules)?) {
        if !named.contains(&snapshot.sequence) {
            reasons.extend(ruled.reasons);
            if reasons.is_empty() {
                reasons.push(Reason::NotNamed);
            }
        }
    }
    let named = |sequence: u64| named.contains(&sequence);
    for (snapshot, reasons) in snapshots.iter().zip(&reasons).filter(|(snapshot, _)| named(snapshot.sequence)) {
        if let Some(reason) = reasons.first() {
            return Err(RetainError::Protected { sequence: snapshot.sequence, reason: reason.clone() });
        }
    }
    let verdicts = snapshots.iter().zip(reasons).map(|(snapshot, reasons)| match named(snapshot.sequence) {
        true => Verdict::Remove(Cause::ByHand),
        false => Verdict::Keep(reasons),
    });
    plan(snapshots, rules, verdicts)
}

fn plan(
    snapshots: &[Snapshot],
    rules: &Retention,
    verdicts: impl Iterator<Item = Verdict>,
) -> Result<Plan, RetainError> {
    let zone = rules.zone()?;
    let line = |(snapshot, verdict): (&Snapshot, Verdict)| Line {
        sequence: snapshot.sequence,
        time: snapshot.effective.time,
        day: snapshot.effective.time.to_zoned(zone.clone()).date(),
        verdict,
    };
    Ok(Plan { lines: snapshots.iter().zip(verdicts).map(line).collect() })
}

/// Keeps each snapshot on which what is known of the time of one that stays rests, and those on which it rests in turn.
fn hold(snapshots: &[Snapshot], reasons: &mut [Vec<Reason>]) {
    let mut staying: VecDeque<usize> = (0..snapshots.len()).rev().filter(|at| !reasons[*at].is_empty()).collect();
    while let Some(snapshot) = staying.pop_front().map(|at| &snapshots[at]) {
        let behind = snapshot.effective.behind.map(|than| (than, Reason::ShowsBehind(snapshot.sequence)));
        let late = snapshot.effective.late_after.map(|after| (after, Reason::ShowsLate(snapshot.sequence)));
        for (sequence, reason) in behind.into_iter().chain(late) {
            let Ok(at) = snapshots.binary_search_by_key(&sequence, |snapshot| snapshot.sequence) else { continue };
            if reasons[at].is_empty() {
                staying.push_back(at);
            }
            // One of a kind says enough, though many may rest on it.
            if !reasons[at].iter().any(|held| discriminant(held) == discriminant(&reason)) {
                reasons[at].push(reason);
            }
        }
    }
}
