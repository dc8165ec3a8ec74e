//! What stays whatever the rules say.

use std::collections::BTreeSet;

use super::{Proof, Reason, Snapshot};

/// For each snapshot the reasons that no rule can change; most have none.
pub(super) fn reasons(snapshots: &[Snapshot], proof: &Proof) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); snapshots.len()];
    let mut keep_newest = |reason: Reason, is: &dyn Fn(&Snapshot) -> bool| {
        if let Some(newest) = snapshots.iter().rposition(is) {
            reasons[newest].push(reason);
        }
    };
    keep_newest(Reason::Newest, &|_| true);
    keep_newest(Reason::NewestGood, &Snapshot::is_good);
    keep_newest(Reason::NewestDrilled, &|snapshot| snapshot.drilled && snapshot.counts());
    let good_of = |epoch: u32| move |snapshot: &Snapshot| snapshot.is_good() && snapshot.epoch() == Some(epoch);
    let has_good = |epoch: &&u32| snapshots.iter().any(good_of(**epoch));
    match proof.iter().rev().find(has_good) {
        Some(last) => keep_newest(Reason::LastProvedEpoch(*last), &good_of(*last)),
        // Of a proved epoch that left nothing good behind nothing follows for the others.
        None => {
            let epochs: BTreeSet<u32> = snapshots.iter().filter_map(Snapshot::epoch).collect();
            for epoch in epochs {
                keep_newest(Reason::UnprovedEpoch(epoch), &good_of(epoch));
            }
        }
    }
    reasons
}
