//! What there is to plan with: one listing, its records, and the receipts.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::rules::Rules;
use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::ranges::{ranges, without, written};
use crate::format::{Health, ReceiptKind, Retention, SignedReceipt, SignedRecord, layout};
use crate::history::{BadObjects, History, Reader, Unusable};
use crate::host::{Pins, known_driller};
use crate::policy::effective::effective_times;
use crate::policy::prune::{self, Ground, Needed};
use crate::policy::retain::{Plan, Proof, Snapshot, retain};
use crate::repository::Remote;
use crate::repository::receipts::{last_drill, receipts, receipts_of_anybody};
use crate::repository::{Listing, Seen};
use crate::store::{Key, ObjectInfo};

pub(super) struct View {
    pub listing: Listing,
    pub history: History,
    /// By those who are believed.
    receipts: Vec<(ObjectInfo, SignedReceipt)>,
    /// By anybody else.
    noise: Vec<(ObjectInfo, SignedReceipt)>,
    bad: BadObjects,
    own: Option<Unbelieved>,
    state_dir: PathBuf,
}

/// Records of which nobody knows what they need.
pub(super) struct Doubts {
    pub unverifiable: Vec<u64>,
    pub newer: Vec<u64>,
    pub unlisted: Vec<u64>,
}

/// This machine's own key, which the configuration does not name, and what its receipts hold bad.
struct Unbelieved {
    signer: PublicSigner,
    bad: BadObjects,
}

impl View {
    pub async fn read(remote: &Remote, reader: &Reader, believed: &[PublicSigner]) -> Result<Self, OperationError> {
        let listing = remote.list().await?;
        let history = History::of(remote, reader, &listing.records).await?;
        let own = known_driller(&reader.state_root)?.map(|own| own.public()).filter(|own| !believed.contains(own));
        let is_believed = |(_, receipt): &(_, SignedReceipt)| believed.contains(receipt.signed.signer());
        let (receipts, noise): (Vec<_>, Vec<_>) = receipts_of_anybody(remote).await?.into_iter().partition(is_believed);
        let bad = BadObjects::known(&signed(&receipts), &reader.state_dir(remote))?;
        let own = own.map(|signer| {
            let mut own = signed(&noise);
            own.retain(|receipt| *receipt.signed.signer() == signer);
            Unbelieved { signer, bad: BadObjects::of(&own) }
        });
        Ok(Self { listing, history, receipts, noise, bad, own, state_dir: reader.state_dir(remote) })
    }

    /// Snapshots that this machine itself found hurt, and that count as whole because nobody here believes it.
    pub fn unheard(&self) -> Option<Warning> {
        let own = self.own.as_ref()?;
        let counts = |bad: &BadObjects, record: &SignedRecord| bad.is_sound(record, &self.listing);
        let unheard = |record: &&Arc<SignedRecord>| counts(&self.bad, record) && !counts(&own.bad, record);
        let hurt = ranges(self.history.verified().filter(unheard).map(|record| record.record.sequence));
        (!hurt.is_empty()).then(|| {
            let text = format!(
                "a check or drill on this machine found snapshot {} hurt, and here it counts as whole: this machine's own \
                 receipts are believed with the line drill_signers = [\"{}\"] in sealift.toml",
                written(&hurt),
                own.signer
            );
            Warning::doubt("own-findings-unheard", text)
        })
    }

    /// Every object that is there now.
    pub async fn names(remote: &Remote) -> Result<HashSet<Key>, OperationError> {
        let listing = remote.list().await?;
        let receipts = remote.store.list(layout::RECEIPTS).await?;
        Ok(objects(&listing).chain(receipts.objects).map(|object| object.key).collect())
    }

    pub fn lists(&self, record: &Key) -> bool {
        layout::record_sequence(record).is_some_and(|sequence| self.listing.records.contains_key(&sequence))
    }

    pub fn sizes(&self) -> HashMap<Key, u64> {
        self.objects().map(|object| (object.key, object.bytes)).collect()
    }

    pub fn snapshots(&self) -> Vec<Snapshot> {
        snapshots(&self.history, &self.listing, self.signed_receipts(), &self.bad)
    }

    pub fn proof(&self) -> Proof {
        proof(self.signed_receipts())
    }

    /// What the newest record names, or this machine saw, and the listing lacks although it is there: not every server lists
    /// all that it holds. Those `removed` by this run are not looked for.
    pub async fn unlisted(&self, remote: &Remote, removed: &[Key]) -> Result<Vec<u64>, OperationError> {
        let Some(newest) = self.history.verified().next_back() else { return Ok(Vec::new()) };
        let removed: HashSet<u64> = removed.iter().filter_map(layout::record_sequence).collect();
        let seen = ranges(Pins::load(&self.state_dir)?.vanished.into_keys());
        let mut named = [without(&seen, &newest.record.earlier), newest.record.earlier.clone()].concat();
        named.sort_unstable();
        remote.unlisted(&named, &self.listing.records, &removed).await
    }

    /// What may go when only the verified snapshots that `stay` says are left.
    pub fn prune(&self, stay: impl Fn(u64) -> bool, doubts: Doubts) -> Result<prune::Plan, OperationError> {
        let mut needed = Needed::default();
        let left = self.history.verified().filter(|record| stay(record.record.sequence));
        left.for_each(|record| needed.add(&record.record));
        needed.spent_receipts = self.spent_receipts(&needed, stay);
        let newest = self.history.verified().next_back();
        let grace = SignedDuration::from_secs(i64::try_from(self.history.grace_seconds).unwrap_or(i64::MAX));
        let ground = Ground {
            vanished: self.vanished(grace)?,
            server_time: self.listing.server_time,
            newest: newest.map(|newest| self.listing.records[&newest.record.sequence].modified),
            grace,
            unverifiable: doubts.unverifiable,
            newer: doubts.newer,
            disputed: self.history.disputed(),
            unlisted: doubts.unlisted,
        };
        Ok(prune::prune(&self.objects().collect::<Vec<_>>(), &needed, &ground))
    }

    /// What vanished unexplained, and when the grace period since retention first heard of the last of it ends.
    fn vanished(&self, grace: SignedDuration) -> Result<Option<(Vec<u64>, Timestamp)>, OperationError> {
        let mut pins = Pins::load(&self.state_dir)?;
        let Some(now) = self.listing.server_time else { return Ok(None) };
        if pins.vanished.values().any(Option::is_none) {
            pins.vanished.values_mut().for_each(|since| *since = since.or(Some(now)));
            pins.save(&self.state_dir)?;
        }
        let until = |since: Timestamp| since.saturating_add(grace).unwrap_or(Timestamp::MAX);
        let known = pins.vanished.into_iter().map(|(sequence, since)| (sequence, until(since.unwrap_or(now))));
        let waiting: Vec<(u64, Timestamp)> = known.filter(|(_, until)| now <= *until).collect();
        let last = waiting.iter().map(|(_, until)| *until).max();
        Ok(last.map(|last| (waiting.into_iter().map(|(sequence, _)| sequence).collect(), last)))
    }

    fn all_receipts(&self) -> impl Iterator<Item = &(ObjectInfo, SignedReceipt)> {
        self.receipts.iter().chain(&self.noise)
    }

    fn signed_receipts(&self) -> impl Iterator<Item = &SignedReceipt> + Clone {
        self.receipts.iter().map(|(_, receipt)| receipt)
    }

    /// Receipts about snapshots that are gone, whoever signed them, but for what still says something, be it to their
    /// signer alone: his newest check, what names a bad object that is still there, and of those who are believed the newest
    /// proof of each epoch that is needed.
    fn spent_receipts(&self, needed: &Needed, stay: impl Fn(u64) -> bool) -> HashSet<Key> {
        let listed = |sequence: &u64| self.listing.records.contains_key(sequence) && stay(*sequence);
        let there: HashSet<Key> = objects(&self.listing).map(|object| object.key).collect();
        let names_bad = |receipt: &SignedReceipt| {
            let named = receipt.receipt.bad.iter().chain(&receipt.receipt.contents);
            named.into_iter().any(|name| Key::new(name.as_str()).is_ok_and(|name| there.contains(&name)))
        };
        let proof = |epoch: &u32| {
            let proofs = self.receipts.iter().filter(|(_, it)| proves(it) && it.receipt.epochs.contains(epoch));
            proofs.max_by_key(|(_, receipt)| receipt.order()).map(|(object, _)| &object.key)
        };
        let mut checks: HashMap<String, (&ObjectInfo, &SignedReceipt)> = HashMap::new();
        for (object, check) in self.all_receipts().filter(|(_, it)| it.receipt.kind == ReceiptKind::Check) {
            let newest = checks.entry(check.signed.signer().to_string()).or_insert((object, check));
            if check.order() > newest.1.order() {
                *newest = (object, check);
            }
        }
        let checks = checks.values().map(|(object, _)| &object.key);
        let says: HashSet<&Key> = needed.epochs.iter().filter_map(proof).chain(checks).collect();
        let spent = |(object, receipt): &&(ObjectInfo, SignedReceipt)| {
            !listed(&receipt.receipt.sequence) && !says.contains(&object.key) && !names_bad(receipt)
        };
        self.all_receipts().filter(spent).map(|(object, _)| object.key.clone()).collect()
    }

    fn objects(&self) -> impl Iterator<Item = ObjectInfo> {
        objects(&self.listing).chain(self.all_receipts().map(|(object, _)| object.clone()))
    }
}

fn signed(receipts: &[(ObjectInfo, SignedReceipt)]) -> Vec<SignedReceipt> {
    receipts.iter().map(|(_, receipt)| receipt.clone()).collect()
}

/// What a listing shows, back as objects.
fn objects(listing: &Listing) -> impl Iterator<Item = ObjectInfo> {
    let object = |(key, seen): (Key, &Seen)| ObjectInfo { key, bytes: seen.bytes, modified: seen.modified };
    let keys = listing.keys.iter().map(|((epoch, generation), seen)| (layout::data_key(*epoch, *generation), seen));
    let manifests = listing.manifests.iter().map(|(name, seen)| (layout::manifest(name), seen));
    let packs = listing.packs.iter().map(|(name, seen)| (layout::pack(name), seen));
    let records = listing.records.iter().map(|(sequence, seen)| (layout::record(*sequence), seen));
    keys.chain(manifests).chain(packs).chain(records).map(object)
}

/// The verified snapshots as the planner takes them.
fn snapshots<'a>(
    history: &History,
    listing: &Listing,
    receipts: impl Iterator<Item = &'a SignedReceipt> + Clone,
    bad: &BadObjects,
) -> Vec<Snapshot> {
    let times = effective_times(history.stated());
    let snapshot = |(signed, effective): (&Arc<SignedRecord>, _)| {
        let record = &signed.record;
        Snapshot {
            sequence: record.sequence,
            effective,
            tags: record.tags.clone(),
            healthy: record.worst_health() <= Health::Unchecked,
            whole: bad.is_sound(signed, listing),
            drilled: last_drill(signed, receipts.clone()).is_some_and(|last| last.receipt.passed),
            epochs: record.epochs.iter().map(|epoch| epoch.epoch).chain([record.manifest.epoch]).collect(),
        }
    };
    history.verified().zip(times).map(snapshot).collect()
}

fn proves(signed: &SignedReceipt) -> bool {
    let receipt = &signed.receipt;
    receipt.passed && matches!(receipt.kind, ReceiptKind::Drill | ReceiptKind::Confirm)
}

fn proof<'a>(receipts: impl Iterator<Item = &'a SignedReceipt>) -> Proof {
    receipts.filter(|receipt| proves(receipt)).flat_map(|signed| signed.receipt.epochs.iter().copied()).collect()
}

/// Why retention keeps each of the snapshots in `history`, or lets it go, by the rules that hold on this machine and what
/// `listing` shows.
pub async fn retention_plan(
    remote: &Remote,
    reader: &Reader,
    history: &History,
    listing: &Listing,
    own_rules: Option<Retention>,
    believed: &[PublicSigner],
) -> Result<Plan, OperationError> {
    let receipts = receipts(remote, believed).await?;
    let rules = Rules::of(own_rules, history).rules;
    let bad = BadObjects::known(&receipts, &reader.state_dir(remote))?;
    let snapshots = snapshots(history, listing, receipts.iter(), &bad);
    let kept = retain(&snapshots, &rules, &proof(receipts.iter()));
    // Rules that keep nothing, or know no zone, are `retain`'s to refuse; here they explain nothing.
    Ok(kept.unwrap_or_default())
}

/// The records that cannot be used, and why.
pub(super) fn unusable(view: &View) -> impl Iterator<Item = (u64, &Unusable)> {
    view.history.listed.iter().filter_map(|listed| Some((listed.sequence, listed.record.as_ref().err()?)))
}
