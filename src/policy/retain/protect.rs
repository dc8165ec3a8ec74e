//! What stays whatever the rules say.
//!
//! Of each kind two stay where they are not the same: the newest, and the newest that did not come late. One that came
//! late may be planted by somebody who holds the host's key, so it takes no protection from another; or it may be the
//! rightful one, put back from a copy, so it loses none.

use std::collections::BTreeSet;

use super::{Proof, Reason, Snapshot};

/// For each snapshot the reasons that no rule can change; most have none.
pub(super) fn reasons(snapshots: &[Snapshot], proof: &Proof) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); snapshots.len()];
    for late_too in [true, false] {
        keep_newest(snapshots, proof, &|snapshot| snapshot.whole && (late_too || snapshot.counts()), &mut reasons);
    }
    if let Some(newest) = reasons.last_mut() {
        newest.insert(0, Reason::Newest);
    }
    reasons
}

/// Of each kind the newest among those that can be `restored` and are believed.
fn keep_newest(
    snapshots: &[Snapshot],
    proof: &Proof,
    restored: &dyn Fn(&Snapshot) -> bool,
    reasons: &mut [Vec<Reason>],
) {
    let mut keep = |reason: Reason, is: &dyn Fn(&Snapshot) -> bool| {
        if let Some(newest) = snapshots.iter().rposition(is)
            && !reasons[newest].contains(&reason)
        {
            reasons[newest].push(reason);
        }
    };
    let good = |snapshot: &Snapshot| snapshot.healthy && restored(snapshot);
    keep(Reason::NewestGood, &good);
    keep(Reason::NewestDrilled, &|snapshot| snapshot.drilled && restored(snapshot));
    let good_of = |epoch: u32| move |snapshot: &Snapshot| good(snapshot) && snapshot.epoch() == Some(epoch);
    let has_good = |epoch: &&u32| snapshots.iter().any(good_of(**epoch));
    match proof.iter().rev().find(has_good) {
        Some(last) => keep(Reason::LastProvedEpoch(*last), &good_of(*last)),
        // Of a proved epoch that left nothing good behind nothing follows for the others.
        None => {
            let epochs: BTreeSet<u32> = snapshots.iter().filter_map(Snapshot::epoch).collect();
            for epoch in epochs {
                keep(Reason::UnprovedEpoch(epoch), &good_of(epoch));
            }
        }
    }
}
