//! Which objects may go because no snapshot needs them.
//!
//! A snapshot refers only to packs that it uploaded itself, that its parent refers to, or that an interrupted run left
//! and that are newer than its parent. So whatever is strictly older than the newest record and unreferenced will never be
//! referenced again, however long a run that is under way may take; the grace period comes on top. Both are measured by
//! the server's clock alone. Where that cannot be had, or a record cannot be read, nothing goes.

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::effective::lies_ahead;
use crate::crypto::Digest;
use crate::format::{Record, layout};
use crate::store::{Key, ObjectInfo};

/// What the listed records need.
#[derive(Clone, Debug, Default)]
pub struct Needed {
    pub packs: HashSet<Digest>,
    pub manifests: HashSet<Digest>,
    pub epochs: BTreeSet<u32>,
    /// Receipts that say nothing about any listed snapshot or epoch. All others stay: they are needed, or not ours.
    pub spent_receipts: HashSet<Key>,
}

impl Needed {
    pub fn add(&mut self, record: &Record) {
        self.packs.extend(record.packs().map(|pack| pack.0));
        self.manifests.insert(record.manifest.name);
        self.epochs.insert(record.manifest.epoch);
        self.epochs.extend(record.epochs.iter().map(|epoch| epoch.epoch));
    }

    /// Whether `key` is an object of a known kind that nothing needs. What is of no known kind is none of ours.
    fn lacks(&self, key: &Key) -> bool {
        let name = key.as_str();
        let digest = || layout::digest(key);
        if name.starts_with(layout::PACKS) {
            digest().is_some_and(|digest| !self.packs.contains(&digest))
        } else if name.starts_with(layout::MANIFESTS) {
            digest().is_some_and(|digest| !self.manifests.contains(&digest))
        } else if name.starts_with(layout::KEYS) {
            layout::epoch_and_generation(key).is_some_and(|(epoch, _)| !self.epochs.contains(&epoch))
        } else {
            self.spent_receipts.contains(key)
        }
    }
}

/// What one listing and its records say.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The server's `Date`.
    pub server_time: Option<Timestamp>,
    /// When the newest verified record was stored, by the server's clock; `None` where there is no such record.
    pub newest: Option<Timestamp>,
    pub grace: SignedDuration,
    /// Listed records that cannot be verified and that nobody let go of.
    pub unverifiable: Vec<u64>,
    /// Listed records that a newer sealift made.
    pub newer: Vec<u64>,
    /// Records of the right signer that contradict each other.
    pub disputed: Vec<u64>,
    /// Records that vanished unexplained, and until when what they may need is left alone.
    pub vanished: Option<(Vec<u64>, Timestamp)>,
    /// Records that are there although the listing lacks them.
    pub unlisted: Vec<u64>,
}

/// Why nothing may go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    #[error("there is no verified snapshot")]
    NoSnapshot,
    #[error("the server does not tell its time")]
    NoServerTime,
    #[error("{0} is younger than the server's own time: one of its clocks is wrong")]
    AheadOfServer(Key),
    #[error("snapshot {} cannot be verified, so nobody knows what it needs", list(.0))]
    Unverifiable(Vec<u64>),
    #[error("snapshot {} has a format that only a newer sealift reads, so nobody here knows what it needs", list(.0))]
    NewerFormat(Vec<u64>),
    #[error("of snapshot {} some contradict the others, so nobody knows which are the host's", list(.0))]
    Contradiction(Vec<u64>),
    #[error("snapshot {} was seen here and is gone, and no rule explains it; what it may need stays until {until}", list(.0), until = .1)]
    Vanished(Vec<u64>, Timestamp),
    #[error("snapshot {} is there and the listing lacks it, so nobody knows what else it lacks", list(.0))]
    Unlisted(Vec<u64>),
}

fn list(sequences: &[u64]) -> String {
    sequences.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
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
    pub stop: Option<Stop>,
}

impl Plan {
    /// What goes now: manifests before packs, so that no manifest is left that names what is gone, and keys last.
    pub fn due(&self) -> Vec<&ObjectInfo> {
        if self.stop.is_some() {
            return Vec::new();
        }
        let mut due: Vec<&ObjectInfo> =
            self.lines.iter().filter(|line| line.due == Due::Now).map(|line| &line.object).collect();
        let kinds = [layout::RECEIPTS, layout::MANIFESTS, layout::PACKS, layout::KEYS];
        due.sort_by_key(|object| kinds.iter().position(|kind| object.key.as_str().starts_with(kind)));
        due
    }
}

/// The plan for `objects`, which are all that one listing showed.
pub fn prune(objects: &[ObjectInfo], needed: &Needed, ground: &Ground) -> Plan {
    let lines = objects.iter().filter(|object| needed.lacks(&object.key));
    let lines = lines.map(|object| Line { object: object.clone(), due: due(object, ground) }).collect();
    Plan { lines, stop: stop(objects, ground) }
}

fn due(object: &ObjectInfo, ground: &Ground) -> Due {
    if ground.newest.is_none_or(|newest| object.modified >= newest) {
        return Due::AfterNextSnapshot;
    }
    let end = object.modified.saturating_add(ground.grace).unwrap_or(Timestamp::MAX);
    if ground.server_time.is_some_and(|now| now > end) { Due::Now } else { Due::At(end) }
}

fn stop(objects: &[ObjectInfo], ground: &Ground) -> Option<Stop> {
    if !ground.newer.is_empty() {
        return Some(Stop::NewerFormat(ground.newer.clone()));
    }
    if !ground.unverifiable.is_empty() {
        return Some(Stop::Unverifiable(ground.unverifiable.clone()));
    }
    if !ground.disputed.is_empty() {
        return Some(Stop::Contradiction(ground.disputed.clone()));
    }
    if !ground.unlisted.is_empty() {
        return Some(Stop::Unlisted(ground.unlisted.clone()));
    }
    if ground.newest.is_none() {
        return Some(Stop::NoSnapshot);
    }
    let Some(server_time) = ground.server_time else { return Some(Stop::NoServerTime) };
    if let Some((sequences, until)) = ground.vanished.as_ref().filter(|(_, until)| server_time <= *until) {
        return Some(Stop::Vanished(sequences.clone(), *until));
    }
    let ahead = objects.iter().find(|object| lies_ahead(object.modified, server_time));
    ahead.map(|object| Stop::AheadOfServer(object.key.clone()))
}

#[cfg(test)]
mod tests {
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
        ObjectInfo { key, bytes: 1, modified: time(NOW - age_days * DAY) }
    }

    /// The newest record is a day old, the grace period a week.
    fn ground() -> Ground {
        Ground {
            server_time: Some(time(NOW)),
            newest: Some(time(NOW - DAY)),
            grace: SignedDuration::from_hours(7 * 24),
            unverifiable: Vec::new(),
            newer: Vec::new(),
            disputed: Vec::new(),
            vanished: None,
            unlisted: Vec::new(),
        }
    }

    fn needed() -> Needed {
        Needed {
            packs: [digest(1)].into(),
            manifests: [digest(2)].into(),
            epochs: [3].into(),
            spent_receipts: [layout::receipt(9, time(NOW))].into(),
        }
    }

    fn due(key: Key, age_days: i64) -> Option<Due> {
        prune(&[object(key, age_days)], &needed(), &ground()).lines.first().map(|line| line.due)
    }

    #[test]
    fn what_a_record_needs_and_what_is_not_ours_stays_however_old() {
        let strange = |name: &str| Key::new(name).expect("a key");
        for key in [
            layout::pack(&digest(1)),
            layout::manifest(&digest(2)),
            layout::data_key(3, 7),
            layout::receipt(8, time(NOW)),
            layout::record(1),
            layout::descriptor(),
            strange("packs/strange"),
            strange("keys/4/old.age"),
            strange("RECOVERY.txt"),
        ] {
            assert_eq!(due(key.clone(), 1000), None, "{key}");
        }
    }

    #[test]
    fn what_nothing_needs_goes_of_each_kind() {
        for key in [
            layout::pack(&digest(2)),
            layout::manifest(&digest(1)),
            layout::data_key(4, 1),
            layout::receipt(9, time(NOW)),
        ] {
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
        let ground = Ground { newest: Some(time(NOW - 30 * DAY)), ..ground() };
        let plan = prune(&[object(pack(), 29), object(pack(), 30), object(pack(), 31)], &needed(), &ground);
        let due: Vec<Due> = plan.lines.iter().map(|line| line.due).collect();
        assert_eq!(due, [Due::AfterNextSnapshot, Due::AfterNextSnapshot, Due::Now]);
    }

    #[test]
    fn nothing_goes_where_the_servers_time_or_a_record_is_in_doubt() {
        let old = [object(layout::pack(&digest(9)), 100)];
        let stops = |ground: Ground, objects: &[ObjectInfo]| {
            let plan = prune(objects, &needed(), &ground);
            assert!(plan.stop.is_none() || plan.due().is_empty());
            plan.stop
        };
        assert_eq!(stops(ground(), &old), None);
        assert_eq!(stops(Ground { server_time: None, ..ground() }, &old), Some(Stop::NoServerTime));
        assert_eq!(stops(Ground { newest: None, ..ground() }, &old), Some(Stop::NoSnapshot));
        let unverifiable = Ground { unverifiable: vec![5], ..ground() };
        assert_eq!(stops(unverifiable, &old), Some(Stop::Unverifiable(vec![5])));
        // Whoever let go of the one would still not know what the other needs.
        let newer = Ground { unverifiable: vec![5], newer: vec![6], ..ground() };
        assert_eq!(stops(newer, &old), Some(Stop::NewerFormat(vec![6])));
        assert_eq!(stops(Ground { disputed: vec![6], ..ground() }, &old), Some(Stop::Contradiction(vec![6])));
        assert_eq!(stops(Ground { unlisted: vec![6], ..ground() }, &old), Some(Stop::Unlisted(vec![6])));
        let vanished = |until| Ground { vanished: Some((vec![6], time(until))), ..ground() };
        assert_eq!(stops(vanished(NOW), &old), Some(Stop::Vanished(vec![6], time(NOW))));
        assert_eq!(stops(vanished(NOW - 1), &old), None);
        let at = |seconds: i64| {
            let young = ObjectInfo { key: layout::record(7), bytes: 1, modified: time(NOW + seconds) };
            [old[0].clone(), young]
        };
        assert_eq!(stops(ground(), &at(60)), None);
        assert_eq!(stops(ground(), &at(61)), Some(Stop::AheadOfServer(layout::record(7))));
    }

    #[test]
    fn manifests_go_before_packs_and_keys_last() {
        let keys = [layout::data_key(4, 1), layout::manifest(&digest(1)), layout::pack(&digest(2))];
        let objects: Vec<_> = keys.iter().map(|key| object(key.clone(), 100)).collect();
        let plan = prune(&objects, &needed(), &ground());
        let order: Vec<&Key> = plan.due().iter().map(|object| &object.key).collect();
        assert_eq!(order, [&keys[1], &keys[2], &keys[0]]);
    }
}
