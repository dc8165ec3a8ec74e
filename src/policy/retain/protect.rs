//! What stays whatever the rules say.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Reason, Snapshot};

/// For how long after a new epoch began the newest good snapshot of the epoch before stays: 30 days.
const NEW_EPOCH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// For each snapshot the reasons that no rule can change; most have none. Without a time `now` of the server's no epoch
/// counts as old.
pub(super) fn reasons(snapshots: &[Snapshot], now: Option<Timestamp>) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); snapshots.len()];
    if let Some(newest) = reasons.last_mut() {
        newest.push(Reason::Newest);
    }
    if let Some(newest_good) = snapshots.iter().rposition(Snapshot::is_good) {
        reasons[newest_good].push(Reason::NewestGood);
    }
    let epochs: BTreeSet<u32> = snapshots.iter().map(|snapshot| snapshot.epoch).collect();
    for epoch in epochs.into_iter().filter(|epoch| is_new(snapshots, *epoch, now)) {
        let before = snapshots.iter().filter(|snapshot| snapshot.epoch < epoch && snapshot.is_good());
        let Some(before) = before.map(|snapshot| snapshot.epoch).max() else { continue };
        let is_of_it = |snapshot: &Snapshot| snapshot.epoch == before && snapshot.is_good();
        let reason = Reason::EpochBefore { before, epoch };
        if let Some(at) = snapshots.iter().rposition(is_of_it)
            && !reasons[at].iter().any(|known| matches!(known, Reason::EpochBefore { .. }))
        {
            reasons[at].push(reason);
        }
    }
    reasons
}

/// Whether `epoch` began less than 30 days ago, by the server's clock: with the first stored record of it. Records of later
/// epochs count, too, because no epoch begins after a later one. So removing records never makes an epoch older.
fn is_new(snapshots: &[Snapshot], epoch: u32, now: Option<Timestamp>) -> bool {
    let began = snapshots.iter().filter(|snapshot| snapshot.epoch >= epoch).map(|snapshot| snapshot.time.stored).min();
    let is_old = |(began, now): (Timestamp, Timestamp)| now.duration_since(began) >= NEW_EPOCH;
    !began.zip(now).is_some_and(is_old)
}
