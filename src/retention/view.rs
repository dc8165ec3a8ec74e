//! What there is to plan with: one listing, its records, and the receipts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::ranges::ranges;
use crate::format::{CreateOnce, Health, Ignored, ReceiptKind, Retention, SignedReceipt, layout};
use crate::history::{History, Listed, Reader};
use crate::policy::ignore::{self, ListedRecord, NotIgnored, RecordVerdict};
use crate::policy::prune::{self, Missed, Needed, PruneInputs};
use crate::policy::retain::{Plan, Snapshot, retain};
use crate::repository::receipts::receipts_of_anybody;
use crate::repository::{Listing, Remote, Seen, is_complete};
use crate::store::{Key, ObjectInfo};

pub(super) struct View {
    pub listing: Listing,
    pub history: History,
    /// All whose signature holds, by any signer.
    receipts: Vec<(ObjectInfo, SignedReceipt)>,
    /// Records that this run ignores, in addition to those that were ignored before.
    ignored: BTreeSet<u64>,
}

impl View {
    pub async fn read(remote: &Remote, reader: &Reader) -> Result<Self, OperationError> {
        let listing = remote.list().await?;
        let history = History::of(remote, reader, &listing.records, listing.server_time).await?;
        let receipts = receipts_of_anybody(remote).await?;
        Ok(Self { listing, history, receipts, ignored: BTreeSet::new() })
    }

    /// Every object that is there now.
    pub async fn names(remote: &Remote) -> Result<HashSet<Key>, OperationError> {
        let listing = remote.list().await?;
        let receipts = remote.store.list(layout::RECEIPTS).await?;
        Ok(objects(&listing).chain(receipts.objects).map(|object| object.key).collect())
    }

    /// Ignores the records `named`: what is to be remembered.
    pub fn ignore(&mut self, named: &BTreeSet<u64>) -> Result<Vec<Ignored>, NotIgnored> {
        let listed: Vec<ListedRecord> = self.history.listed.iter().map(Listed::judged).collect();
        let ignored = ignore::ignore(&listed, named)?;
        self.ignored.extend(named);
        Ok(ignored)
    }

    /// Whether a listed record does not count.
    pub fn is_other(&self, sequence: u64) -> bool {
        self.others().any(|other| other.sequence == sequence)
    }

    /// Listed records that do not count.
    fn others(&self) -> impl Iterator<Item = &Listed> {
        self.history.listed.iter().filter(|listed| listed.record.is_err())
    }

    fn is_ignored(&self, other: &Listed) -> bool {
        other.ignored || self.ignored.contains(&other.sequence)
    }

    /// The numbers of the records that do not count and are ignored.
    pub fn ignored(&self) -> impl Iterator<Item = u64> {
        self.others().filter(|other| self.is_ignored(other)).map(|other| other.sequence)
    }

    /// What the history reports, but for what it says of records that this run ignores.
    pub fn warnings(&self) -> Vec<Finding> {
        let is_open = |finding: &&Finding| match finding {
            Finding::RecordDamaged { snapshot, .. } | Finding::RecordUntrusted { snapshot, .. } => {
                !self.ignored.contains(snapshot)
            }
            Finding::SignerClaim { snapshots, .. } => {
                !snapshots.iter().all(|(first, last)| (*first..=*last).all(|sequence| self.ignored.contains(&sequence)))
            }
            Finding::RecordIgnored { .. } => false,
            _ => true,
        };
        let mut warnings: Vec<Finding> = self.history.warnings.iter().filter(is_open).cloned().collect();
        let snapshots = ranges(self.ignored());
        if !snapshots.is_empty() {
            warnings.push(Finding::RecordIgnored { snapshots });
        }
        warnings
    }

    pub fn lists(&self, record: &Key) -> bool {
        layout::record_sequence(record).is_some_and(|sequence| self.listing.records.contains_key(&sequence))
    }

    pub fn sizes(&self) -> HashMap<Key, u64> {
        self.objects().map(|object| (object.key, object.bytes)).collect()
    }

    pub fn snapshots(&self) -> Vec<Snapshot> {
        snapshots(&self.history, &self.listing)
    }

    /// When each listed record was stored, by the server's clock.
    pub fn stored(&self) -> BTreeMap<u64, Timestamp> {
        self.listing.records.iter().map(|(sequence, seen)| (*sequence, seen.modified)).collect()
    }

    /// How the newest record was created.
    pub fn create_once(&self) -> CreateOnce {
        self.history.create_once()
    }

    /// The rules that the newest record names.
    pub fn recorded_rules(&self) -> Option<&Retention> {
        self.history.verified().next_back()?.record.retention.as_ref()
    }

    /// What is there although the listing lacks it: not every server lists all that it holds. Those `removed` by this
    /// run are not looked for.
    pub async fn unlisted(&self, remote: &Remote, removed: &[u64]) -> Result<Vec<u64>, OperationError> {
        let Some(newest) = self.history.verified().next_back() else { return Ok(self.history.unlisted.clone()) };
        let removed: HashSet<u64> = removed.iter().copied().collect();
        let mut unlisted = remote.unlisted(&newest.record.earlier, &self.listing.records, &removed).await?;
        unlisted.extend(&self.history.unlisted);
        unlisted.sort_unstable();
        unlisted.dedup();
        Ok(unlisted)
    }

    /// What may go when the records `removed` are gone. `unlisted` are there although the listing lacks them.
    pub fn prune(&self, removed: &[u64], unlisted: Vec<u64>, grace: SignedDuration) -> prune::Plan {
        let stays = |sequence: u64| !removed.contains(&sequence);
        let mut needed = Needed::default();
        // What a valid signature names stays, whether the record counts or not.
        let valid = self.history.valid().map(|record| &record.record);
        valid.filter(|record| stays(record.sequence)).for_each(|record| needed.add(record));
        needed.add_missed(&self.missed(), self.listing.server_time, grace);
        let newest = self.history.verified().next_back();
        let inputs = PruneInputs {
            server_time: self.listing.server_time,
            newest: newest.map(|newest| self.listing.records[&newest.record.sequence].modified),
            grace,
            not_counting: self.open(|verdict| matches!(verdict, RecordVerdict::Damaged | RecordVerdict::Untrusted)),
            claimed: self.open(|verdict| verdict == RecordVerdict::Claim),
            newer: self.open(|verdict| verdict == RecordVerdict::NewerFormat),
            unlisted,
            rolled_back: self.reports(|finding| matches!(finding, Finding::RolledBack { .. })),
            replaced: self.reports(|finding| matches!(finding, Finding::RecordReplaced { .. })),
            keyless: self.keyless(),
            receipts: self.superseded_receipts(&needed, stays),
        };
        prune::prune(&self.objects().collect::<Vec<_>>(), &needed, &inputs)
    }

    /// Epochs that a snapshot needs and of which no key file is listed.
    fn keyless(&self) -> Vec<u32> {
        let mut needed = Needed::default();
        self.history.verified().for_each(|record| needed.add(&record.record));
        let is_there = |epoch: &u32| self.listing.keys.keys().any(|place| place.0 == *epoch);
        needed.epochs.into_iter().filter(|epoch| !is_there(epoch)).collect()
    }

    /// What records needed that this machine saw, did not remove, and misses.
    fn missed(&self) -> Vec<Missed> {
        let missed = self.history.missed.iter().map(|missed| {
            let mut needs = Needed::default();
            needs.add(&missed.record.record);
            Missed { needs, first_missed: missed.since }
        });
        missed.collect()
    }

    /// Records of this kind that are not ignored.
    fn open(&self, is_of_kind: impl Fn(RecordVerdict) -> bool) -> Vec<u64> {
        let open = self.others().filter(|other| !self.is_ignored(other) && is_of_kind(other.judged().verdict));
        open.map(|other| other.sequence).collect()
    }

    fn reports(&self, is_it: impl Fn(&Finding) -> bool) -> bool {
        self.history.is_rolled_back && self.history.warnings.iter().any(is_it)
    }

    /// Receipts about snapshots that are gone, by any signer. A `confirm` receipt of an epoch that a record still
    /// needs stays: it explains which key files are gone.
    fn superseded_receipts(&self, needed: &Needed, stays: impl Fn(u64) -> bool) -> HashSet<Key> {
        let is_listed = |sequence: u64| self.listing.records.contains_key(&sequence) && stays(sequence);
        let explains_keys = |receipt: &SignedReceipt| {
            receipt.receipt.kind == ReceiptKind::Confirm
                && receipt.receipt.epochs.iter().any(|epoch| needed.epochs.contains(epoch))
        };
        let is_superseded = |(_, receipt): &&(ObjectInfo, SignedReceipt)| {
            !is_listed(receipt.receipt.sequence) && !explains_keys(receipt)
        };
        self.receipts.iter().filter(is_superseded).map(|(object, _)| object.key.clone()).collect()
    }

    fn objects(&self) -> impl Iterator<Item = ObjectInfo> {
        objects(&self.listing).chain(self.receipts.iter().map(|(object, _)| object.clone()))
    }
}

/// What a listing shows, back as objects.
fn objects(listing: &Listing) -> impl Iterator<Item = ObjectInfo> {
    let object = |(key, seen): (Key, &Seen)| ObjectInfo { key, bytes: seen.bytes, modified: seen.modified, etag: None };
    let keys = listing.keys.iter().map(|((epoch, version), seen)| (layout::data_key(*epoch, *version), seen));
    let manifests = listing.manifests.iter().map(|(name, seen)| (layout::manifest(name), seen));
    let packs = listing.packs.iter().map(|(name, seen)| (layout::pack(name), seen));
    let records = listing.records.iter().map(|(sequence, seen)| (layout::record(*sequence), seen));
    keys.chain(manifests).chain(packs).chain(records).map(object)
}

/// The verified snapshots as the planner takes them.
fn snapshots(history: &History, listing: &Listing) -> Vec<Snapshot> {
    let snapshots = history.verified().zip(history.ordered_times()).map(|(signed, time)| Snapshot {
        sequence: signed.record.sequence,
        time,
        tags: signed.record.tags.clone(),
        healthy: signed.record.worst_health() <= Health::Unchecked,
        complete: is_complete(&signed.record, listing),
        epoch: signed.record.manifest.epoch,
    });
    snapshots.collect()
}

/// Why retention keeps or removes each of the snapshots in `history`, by `rules`. Without rules, or by rules that keep
/// nothing, the plan is empty: refusing those is for `retain` itself.
pub fn retention_plan(history: &History, listing: &Listing, rules: Option<&Retention>) -> Plan {
    let plan = rules.map(|rules| retain(&snapshots(history, listing), rules, listing.server_time));
    plan.and_then(Result::ok).unwrap_or_default()
}
