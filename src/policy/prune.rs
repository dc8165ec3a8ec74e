//! Which objects may go because no record needs them, and what blocks every deletion.
//!
//! A snapshot refers only to packs that it uploaded itself, that its parent refers to, or that an interrupted run left
//! and that are newer than its parent. So what is strictly older than the newest record and unreferenced will never be
//! referenced again, however long a run that is under way may take; the grace period comes on top. Both are measured by
//! the server's clock alone. Nothing under `keys/` is ever deleted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

pub use super::blocker::PruneBlocker;
use crate::crypto::Digest;
use crate::format::{CreateOnce, Record, layout};
use crate::store::{Key, ObjectInfo};

/// How long an object that nothing needs is left alone: 7 days. A configuration may make it longer, never shorter.
pub const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// By how much an object may be ahead of the server's clock.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// Without conditional puts, for how long the successor of a record must have been stored before the record goes: a
/// writer that looked before may still overwrite.
const LOOK_SETTLES: SignedDuration = SignedDuration::from_hours(2);

/// What records need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    pub packs: HashSet<Digest>,
    pub manifests: HashSet<Digest>,
    pub epochs: BTreeSet<u32>,
}

/// What a record needed that this machine saw, did not remove, and now misses.
#[derive(Clone, Debug)]
pub struct Missed {
    pub needs: Needed,
    /// When this machine first missed it, by the server's clock.
    pub first_missed: Timestamp,
}

impl Needed {
    pub fn add(&mut self, record: &Record) {
        self.packs.extend(record.packs().map(|pack| pack.0));
        self.manifests.insert(record.manifest.name);
        self.epochs.insert(record.manifest.epoch);
        self.epochs.extend(record.epochs.iter().map(|epoch| epoch.epoch));
    }

    /// Adds what is missed for no longer than the grace period. Without a time `now` all of it is added.
    pub fn add_missed(&mut self, missed: &[Missed], now: Option<Timestamp>, grace: SignedDuration) {
        let is_over = |missed: &Missed| now.is_some_and(|now| now > end_of(missed.first_missed, grace.max(GRACE)));
        for missed in missed.iter().filter(|missed| !is_over(missed)) {
            self.packs.extend(&missed.needs.packs);
            self.manifests.extend(&missed.needs.manifests);
            self.epochs.extend(&missed.needs.epochs);
        }
    }

    /// Whether `key` is a pack or a manifest that no record needs. Objects of other kinds and with other names stay.
    fn lacks(&self, key: &Key) -> bool {
        let name = key.as_str();
        let digest = || layout::digest(key);
        if name.starts_with(layout::PACKS) {
            digest().is_some_and(|digest| !self.packs.contains(&digest))
        } else if name.starts_with(layout::MANIFESTS) {
            digest().is_some_and(|digest| !self.manifests.contains(&digest))
        } else {
            false
        }
    }
}

/// What one listing and its records say.
#[derive(Clone, Debug)]
pub struct PruneInputs {
    /// The server's `Date`.
    pub server_time: Option<Timestamp>,
    /// When the newest verified record was stored, by the server's clock; `None` where there is no such record.
    pub newest: Option<Timestamp>,
    pub grace: SignedDuration,
    /// Records that cannot be read, or whose signer neither counts nor claims; without those that are ignored.
    pub not_counting: Vec<u64>,
    /// Records whose signer claims a takeover; without those that are ignored.
    pub claimed: Vec<u64>,
    /// Records of a newer format.
    pub newer: Vec<u64>,
    /// Records that are there although the listing lacks them.
    pub unlisted: Vec<u64>,
    /// The newest record that this machine verified is gone, and only older ones are there.
    pub rolled_back: bool,
    /// Other validly signed bytes lie under a number that this machine verified before.
    pub replaced: bool,
    /// Epochs that a record needs and of which no key file is listed.
    pub keyless: Vec<u32>,
    /// Receipts about snapshots that are gone.
    pub receipts: HashSet<Key>,
}

/// When an object that nothing needs may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    /// When it is older than the grace period, by the server's clock.
    At(Timestamp),
    /// Once a snapshot is listed that is younger than it: a run that is under way may still need it.
    AfterNextSnapshot,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub object: ObjectInfo,
    pub due: Due,
}

/// The objects that nothing needs, in the order of the listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub lines: Vec<Line>,
    /// Why none of them goes, whatever its line says.
    pub blocker: Option<PruneBlocker>,
}

impl Plan {
    /// What goes now: manifests before packs, so that no manifest is left that names what is gone.
    pub fn due(&self) -> Vec<&ObjectInfo> {
        if self.blocker.is_some() {
            return Vec::new();
        }
        let mut due: Vec<&ObjectInfo> =
            self.lines.iter().filter(|line| line.due == Due::Now).map(|line| &line.object).collect();
        let kinds = [layout::RECEIPTS, layout::MANIFESTS, layout::PACKS];
        due.sort_by_key(|object| kinds.iter().position(|kind| object.key.as_str().starts_with(kind)));
        due
    }

    /// What blocks the deletion of these objects. `None` where there is nothing to delete.
    pub fn blocked(&self) -> Option<&PruneBlocker> {
        let blocker = self.blocker.as_ref()?;
        // Without the server's time it is unknown which of them are old enough.
        let no_time = *blocker == PruneBlocker::NoServerTime;
        let has_due =
            self.lines.iter().any(|line| line.due == Due::Now || no_time && line.due != Due::AfterNextSnapshot);
        has_due.then_some(blocker)
    }
}

/// The plan for `objects`, which are all that one listing showed.
pub fn prune(objects: &[ObjectInfo], needed: &Needed, inputs: &PruneInputs) -> Plan {
    let lines = objects.iter().filter(|object| needed.lacks(&object.key) || inputs.receipts.contains(&object.key));
    let lines = lines.map(|object| Line { object: object.clone(), due: due(object, inputs) }).collect();
    Plan { lines, blocker: blocker(objects, inputs) }
}

fn end_of(since: Timestamp, grace: SignedDuration) -> Timestamp {
    since.saturating_add(grace).unwrap_or(Timestamp::MAX)
}

fn due(object: &ObjectInfo, inputs: &PruneInputs) -> Due {
    if inputs.newest.is_none_or(|newest| object.modified >= newest) {
        return Due::AfterNextSnapshot;
    }
    let end = end_of(object.modified, inputs.grace.max(GRACE));
    if inputs.server_time.is_some_and(|now| now > end) { Due::Now } else { Due::At(end) }
}

fn blocker(objects: &[ObjectInfo], inputs: &PruneInputs) -> Option<PruneBlocker> {
    let some = |snapshots: &Vec<u64>| (!snapshots.is_empty()).then(|| snapshots.clone());
    let records = some(&inputs.newer)
        .map(|snapshots| PruneBlocker::NewerFormat { snapshots })
        .or_else(|| some(&inputs.claimed).map(|snapshots| PruneBlocker::Claim { snapshots }))
        .or_else(|| some(&inputs.not_counting).map(|snapshots| PruneBlocker::NotCounting { snapshots }))
        .or_else(|| some(&inputs.unlisted).map(|snapshots| PruneBlocker::IncompleteListing { snapshots }));
    if records.is_some() {
        return records;
    }
    if inputs.replaced {
        return Some(PruneBlocker::Replaced);
    }
    if inputs.rolled_back {
        return Some(PruneBlocker::RolledBack);
    }
    if inputs.newest.is_none() {
        return Some(PruneBlocker::NoSnapshot);
    }
    if !inputs.keyless.is_empty() {
        return Some(PruneBlocker::NoKeyFile { epochs: inputs.keyless.clone() });
    }
    let Some(server_time) = inputs.server_time else { return Some(PruneBlocker::NoServerTime) };
    let ahead = objects.iter().find(|object| object.modified.duration_since(server_time) > AHEAD);
    ahead.map(|object| PruneBlocker::AheadOfServer { object: object.key.clone(), stored: object.modified, server_time })
}

/// Of the records to be `removed` those that go now. `stored` says when each listed record was stored, by its number;
/// `newest` how the newest one was created. In look mode a record goes once its successor has been stored for 2 hours.
pub fn records_due(
    removed: impl IntoIterator<Item = u64>,
    stored: &BTreeMap<u64, Timestamp>,
    newest: CreateOnce,
    server_time: Option<Timestamp>,
) -> (Vec<u64>, Vec<u64>) {
    removed.into_iter().partition(|removed| {
        let successor = stored.range(removed.saturating_add(1)..).next().map(|(_, stored)| *stored);
        let has_settled = |(stored, now): (Timestamp, Timestamp)| now.duration_since(stored) >= LOOK_SETTLES;
        newest == CreateOnce::Conditional || successor.zip(server_time).is_some_and(has_settled)
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 1_800_000_000;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; 32])
    }

    fn object(key: Key, age_days: i64) -> ObjectInfo {
        ObjectInfo { key, bytes: 1, modified: time(NOW - age_days * DAY), etag: None }
    }

    /// The newest record is a day old, the grace period a week.
    fn inputs() -> PruneInputs {
        PruneInputs {
            server_time: Some(time(NOW)),
            newest: Some(time(NOW - DAY)),
            grace: GRACE,
            not_counting: Vec::new(),
            claimed: Vec::new(),
            newer: Vec::new(),
            unlisted: Vec::new(),
            rolled_back: false,
            replaced: false,
            keyless: Vec::new(),
            receipts: [layout::receipt(9, time(NOW))].into(),
        }
    }

    fn needed() -> Needed {
        Needed { packs: [digest(1)].into(), manifests: [digest(2)].into(), epochs: [3].into() }
    }

    fn due(key: Key, age_days: i64) -> Option<Due> {
        prune(&[object(key, age_days)], &needed(), &inputs()).lines.first().map(|line| line.due)
    }

    #[test]
    fn what_a_record_needs_and_what_is_of_no_known_kind_stays_however_old() {
        let key = |name: &str| Key::new(name).expect("a key");
        for key in [
            layout::pack(&digest(1)),
            layout::manifest(&digest(2)),
            layout::receipt(8, time(NOW)),
            layout::record(1),
            layout::descriptor(),
            key("packs/unknown"),
            key("RECOVERY.txt"),
        ] {
            assert_eq!(due(key.clone(), 1000), None, "{key}");
        }
    }

    #[test]
    fn nothing_under_keys_goes_not_even_of_an_epoch_that_no_record_needs() {
        for key in [layout::data_key(3, 7), layout::data_key(4, 1), Key::new("keys/4/old.age").expect("a key")] {
            assert_eq!(due(key.clone(), 1000), None, "{key}");
        }
    }

    #[test]
    fn what_nothing_needs_goes_of_each_kind() {
        for key in [layout::pack(&digest(2)), layout::manifest(&digest(1)), layout::receipt(9, time(NOW))] {
            assert_eq!(due(key.clone(), 8), Some(Due::Now), "{key}");
        }
    }

    #[test]
    fn only_what_is_strictly_older_than_the_newest_record_and_than_the_grace_period_goes() {
        let pack = || layout::pack(&digest(9));
        assert_eq!(due(pack(), 7), Some(Due::At(time(NOW))));
        assert_eq!(due(pack(), 2), Some(Due::At(time(NOW + 5 * DAY))));
        assert_eq!(due(pack(), 1), Some(Due::AfterNextSnapshot));
        assert_eq!(due(pack(), 0), Some(Due::AfterNextSnapshot));
        // No snapshot for a month: what the interrupted runs of that month left may be wanted by the next one.
        let inputs = PruneInputs { newest: Some(time(NOW - 30 * DAY)), ..inputs() };
        let plan = prune(&[object(pack(), 29), object(pack(), 30), object(pack(), 31)], &needed(), &inputs);
        let due: Vec<Due> = plan.lines.iter().map(|line| line.due).collect();
        assert_eq!(due, [Due::AfterNextSnapshot, Due::AfterNextSnapshot, Due::Now]);
    }

    #[test]
    fn a_grace_period_may_be_longer_and_never_shorter() {
        let due = |grace_days: i64, age_days: i64| {
            let inputs = PruneInputs { grace: SignedDuration::from_hours(24 * grace_days), ..inputs() };
            prune(&[object(layout::pack(&digest(9)), age_days)], &needed(), &inputs).lines[0].due
        };
        assert_eq!(due(14, 14), Due::At(time(NOW)));
        assert_eq!(due(14, 15), Due::Now);
        assert_eq!(due(0, 7), Due::At(time(NOW)));
    }

    /// What blocks the deletion of an old pack, whatever else is listed.
    fn blocks(inputs: &PruneInputs, others: &[ObjectInfo]) -> Option<PruneBlocker> {
        let objects = [&[object(layout::pack(&digest(9)), 100)], others].concat();
        let plan = prune(&objects, &needed(), inputs);
        assert_eq!(plan.due().is_empty(), plan.blocker.is_some());
        plan.blocker
    }

    #[test]
    fn a_record_that_is_not_understood_blocks() {
        use PruneBlocker::{Claim, IncompleteListing, NewerFormat, NotCounting};
        let snapshots = vec![5];
        assert_eq!(blocks(&inputs(), &[]), None);
        let one = || vec![5];
        for (inputs, blocker) in [
            (PruneInputs { newer: one(), ..inputs() }, NewerFormat { snapshots: one() }),
            (PruneInputs { claimed: one(), ..inputs() }, Claim { snapshots: one() }),
            (PruneInputs { not_counting: one(), ..inputs() }, NotCounting { snapshots: one() }),
            (PruneInputs { unlisted: one(), ..inputs() }, IncompleteListing { snapshots }),
        ] {
            assert_eq!(blocks(&inputs, &[]), Some(blocker));
        }
    }

    #[test]
    fn a_repository_that_was_rolled_back_or_replaced_blocks() {
        assert_eq!(blocks(&PruneInputs { rolled_back: true, ..inputs() }, &[]), Some(PruneBlocker::RolledBack));
        assert_eq!(blocks(&PruneInputs { replaced: true, ..inputs() }, &[]), Some(PruneBlocker::Replaced));
    }

    #[test]
    fn no_snapshot_and_no_time_of_the_servers_block() {
        assert_eq!(blocks(&PruneInputs { newest: None, ..inputs() }, &[]), Some(PruneBlocker::NoSnapshot));
        assert_eq!(blocks(&PruneInputs { server_time: None, ..inputs() }, &[]), Some(PruneBlocker::NoServerTime));
    }

    #[test]
    fn an_object_more_than_ten_minutes_ahead_of_the_server_blocks() {
        let stored = |seconds: i64| {
            let modified = time(NOW + seconds);
            ObjectInfo { key: layout::record(7), bytes: 1, modified, etag: None }
        };
        assert_eq!(blocks(&inputs(), &[stored(600)]), None);
        let ahead =
            PruneBlocker::AheadOfServer { object: layout::record(7), stored: time(NOW + 601), server_time: time(NOW) };
        assert_eq!(blocks(&inputs(), &[stored(601)]), Some(ahead));
    }

    #[test]
    fn where_there_is_nothing_to_delete_nothing_is_blocked() {
        let blocked = |age_days: i64, inputs: &PruneInputs| {
            prune(&[object(layout::pack(&digest(9)), age_days)], &needed(), inputs).blocked().is_some()
        };
        let damaged = PruneInputs { not_counting: vec![5], ..inputs() };
        assert!(blocked(8, &damaged) && !blocked(7, &damaged) && !blocked(0, &damaged));
        let no_time = PruneInputs { server_time: None, ..inputs() };
        assert!(blocked(8, &no_time) && !blocked(0, &no_time));
    }

    #[test]
    fn what_a_missed_record_needed_stays_for_the_grace_period() {
        let missed = |days: i64| Missed {
            needs: Needed { packs: [digest(9)].into(), ..Needed::default() },
            first_missed: time(NOW - days * DAY),
        };
        let protects = |days: i64, now: Option<Timestamp>| {
            let mut needed = needed();
            needed.add_missed(&[missed(days)], now, GRACE);
            needed.packs.contains(&digest(9))
        };
        assert!(protects(0, Some(time(NOW))) && protects(7, Some(time(NOW))));
        assert!(!protects(8, Some(time(NOW))));
        assert!(protects(8, None));
    }

    #[test]
    fn manifests_go_before_packs() {
        let keys = [layout::pack(&digest(2)), layout::manifest(&digest(1)), layout::receipt(9, time(NOW))];
        let objects: Vec<_> = keys.iter().map(|key| object(key.clone(), 100)).collect();
        let plan = prune(&objects, &needed(), &inputs());
        let order: Vec<&Key> = plan.due().iter().map(|object| &object.key).collect();
        assert_eq!(order, [&keys[2], &keys[1], &keys[0]]);
    }

    #[test]
    fn in_look_mode_a_record_goes_two_hours_after_its_successor_was_stored() {
        let stored = [(1, -9 * DAY), (2, -7200), (4, -7199), (5, 0)].map(|(number, ago)| (number, time(NOW + ago)));
        let stored = BTreeMap::from(stored);
        let now = Some(time(NOW));
        assert_eq!(records_due([1, 2, 4], &stored, CreateOnce::Look, now), (vec![1], vec![2, 4]));
        assert_eq!(records_due([1, 2, 4], &stored, CreateOnce::Look, None), (vec![], vec![1, 2, 4]));
        assert_eq!(records_due([1, 2, 4], &stored, CreateOnce::Conditional, now), (vec![1, 2, 4], vec![]));
    }

    proptest! {
        /// Whatever is listed: what goes is needed by no record, and older than the newest record and the grace period.
        #[test]
        fn what_goes_is_old_and_needed_by_nothing(
            packs in btree_map(0_u8..40, 0_i64..30, 0..30),
            needed_packs in btree_set(0_u8..40, 0..20),
            newest_days in 0_i64..20,
            blocked in any::<bool>(),
        ) {
            let objects: Vec<ObjectInfo> =
                packs.iter().map(|(pack, days)| object(layout::pack(&digest(*pack)), *days)).collect();
            let needed = Needed { packs: needed_packs.iter().map(|pack| digest(*pack)).collect(), ..Needed::default() };
            let newest = time(NOW - newest_days * DAY);
            let not_counting = if blocked { vec![7] } else { Vec::new() };
            let plan = prune(&objects, &needed, &PruneInputs { newest: Some(newest), not_counting, ..inputs() });
            let due = plan.due();
            prop_assert!(!blocked || due.is_empty());
            for gone in &due {
                prop_assert!(layout::digest(&gone.key).is_some_and(|name| !needed.packs.contains(&name)));
                prop_assert!(gone.modified < newest && time(NOW).duration_since(gone.modified) > GRACE);
            }
            let may_go = objects.iter().filter(|object| {
                let is_needed = layout::digest(&object.key).is_some_and(|name| needed.packs.contains(&name));
                !is_needed && object.modified < newest && time(NOW).duration_since(object.modified) > GRACE
            });
            prop_assert!(blocked || due.len() == may_go.count());
        }
    }
}
