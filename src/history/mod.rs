//! All snapshots of a repository as this machine sees them: which records count, what does not, what is gone.
//!
//! Every command that reads goes through [`History::load`], so that all of them trust the same. Records that were
//! verified before come from a cache. What is seen is remembered, so that a rollback is noticed.

mod bad_objects;
mod fetch;
mod listed;
mod open;
mod reader;
mod record_cache;
mod record_frame;
mod select;
mod trust_store;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

pub(crate) use self::bad_objects::treat_as_missing;
pub(crate) use self::fetch::read_above;
use self::fetch::{Fetched, Fetcher};
pub use self::listed::{Listed, MissedRecord, Unusable};
use self::listed::{ignored, judge};
pub use self::open::open_remote;
pub use self::reader::Reader;
use self::record_cache::RecordCache;
pub use self::select::Selector;
pub use self::trust_store::{Locations, TrustStore};
pub use self::verdicts::{Drill, StorageUse, Verdicts, is_good};
use crate::clock;
use crate::crypto::{Digest, PublicSigner};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::ranges::{Range, contains, ranges};
use crate::format::{CreateOnce, SignedRecord, layout};
use crate::host::StateError;
pub(crate) use crate::policy::parent::Above;
use crate::policy::prune::GRACE;
use crate::policy::seen::{Present, Remembered, judge_newest};
use crate::policy::times::{SnapshotTime, Stated, snapshot_times};
use crate::policy::trust::{Choice, Claim, Standing, Trust};
use crate::repository::{DescriptorState, Remote, Seen};

/// How many records that are gone are asked for by name.
const MAX_ASKED: usize = 4;

/// Every listed record, oldest first.
pub struct History {
    pub listed: Vec<Listed>,
    pub warnings: Vec<Finding>,
    /// The key that counts, and the takeovers that led to it.
    pub trust: Trust,
    /// Takeovers that no person accepted or ignored.
    pub claims: Vec<Claim>,
    /// The repository was rolled back, or a record replaced, and no person has accepted that.
    pub is_rolled_back: bool,
    /// Records that are there although the listing lacks them.
    pub unlisted: Vec<u64>,
    /// Records that were removed elsewhere within the grace period.
    pub missed: Vec<MissedRecord>,
    /// Nothing but the repository itself says who signs it.
    pub is_unpinned: bool,
    /// The server's clock, where it sends it; else this machine's.
    pub now: Timestamp,
    /// Some records were not read.
    is_partial: bool,
}

/// Which listed records are read.
enum Wanted<'a> {
    /// All; those that were read here before come from the cache.
    All,
    /// All, and none from the cache.
    Uncached,
    /// These, and what the cache has.
    Only(&'a BTreeSet<u64>),
}

impl History {
    /// Lists and reads all records, judges them by the key that the reader trusts, and remembers what was seen.
    pub async fn load(remote: &Remote, reader: &Reader) -> Result<Self, OperationError> {
        let (listing, server_time) = remote.list_records_timed().await?;
        Self::of(remote, reader, &listing, server_time).await
    }

    /// The same, by a listing that was read before.
    pub async fn of(
        remote: &Remote,
        reader: &Reader,
        listing: &BTreeMap<u64, Seen>,
        server_time: Option<Timestamp>,
    ) -> Result<Self, OperationError> {
        Self::read(remote, reader, listing, server_time, Wanted::All).await
    }

    /// Fetches every record, also those that were read here before: what the server has now is looked at.
    pub async fn load_uncached(remote: &Remote, reader: &Reader) -> Result<Self, OperationError> {
        let (listing, server_time) = remote.list_records_timed().await?;
        Self::read(remote, reader, &listing, server_time, Wanted::Uncached).await
    }

    /// For a command that needs one snapshot: apart from records that were read here before, only those that decide
    /// which one it is are fetched.
    pub async fn load_for(remote: &Remote, reader: &Reader, selector: &Selector) -> Result<Self, OperationError> {
        let (listing, server_time) = remote.list_records_timed().await?;
        // Which record leads to a key that is to be accepted only all of them show.
        if let Some(wanted) = select::deciding(&listing, selector).filter(|_| reader.accept.is_none()) {
            let history = Self::read(remote, reader, &listing, server_time, Wanted::Only(&wanted)).await?;
            if history.decides(selector) {
                return Ok(history);
            }
        }
        Self::of(remote, reader, &listing, server_time).await
    }

    async fn read(
        remote: &Remote,
        reader: &Reader,
        listing: &BTreeMap<u64, Seen>,
        server_time: Option<Timestamp>,
        wanted: Wanted<'_>,
    ) -> Result<Self, OperationError> {
        let dir = reader.state_dir(remote);
        let mut store = TrustStore::load(&dir)?;
        let mut cache = RecordCache::load(&dir)?;
        let choice = reader.choose(remote, store.accepted.as_ref())?;
        let only = match wanted {
            Wanted::Only(wanted) => Some(wanted),
            Wanted::All => None,
            Wanted::Uncached => {
                cache.retain(|sequence| !listing.contains_key(&sequence));
                None
            }
        };
        let fetched = Fetcher { remote, cache: &mut cache }.all(listing, only).await?;
        let valid: Vec<&SignedRecord> = fetched.iter().filter_map(|(_, found)| found.record()).collect();
        let (mut trust, is_unpinned) = match &choice {
            Choice::Given(signer) => (Trust::of(signer.clone(), valid.iter().copied()), false),
            Choice::Known(known) => (Trust::of(known.signer.clone(), valid.iter().copied()), false),
            Choice::Unpinned => (Trust::of(remote.descriptor.signer.clone(), valid.iter().copied()), true),
        };
        let mut is_accepted = reader.accepts(&trust.signer);
        let mut claims = trust.claims(valid.iter().copied());
        if let Some(claim) = claims.iter().find(|claim| reader.accepts(&claim.signer)) {
            trust = claim.trust();
            claims = trust.claims(valid.iter().copied());
            is_accepted = true;
        }
        if let Some(fingerprint) = reader.accept.as_ref().filter(|_| !is_accepted) {
            return Err(OperationError::NothingToAccept {
                fingerprint: fingerprint.clone(),
                trusted: trust.signer.fingerprint(),
            });
        }
        let ignored = ignored(&store, &trust, &valid);
        let listed = fetched
            .into_iter()
            .map(|(sequence, found)| judge(&trust, sequence, found, listing[&sequence].clone(), &ignored));
        let mut history = Self {
            listed: listed.collect(),
            warnings: Vec::new(),
            trust,
            claims,
            is_rolled_back: false,
            unlisted: Vec::new(),
            missed: Vec::new(),
            is_unpinned,
            now: server_time.unwrap_or_else(clock::now),
            is_partial: false,
        };
        let is_unread = |listed: &Listed| matches!(listed.record, Err(Unusable::NotRead));
        history.is_partial = history.listed.iter().any(is_unread);
        history.drop_ignored_claims();
        history.find_out(remote, reader, &mut store, is_accepted).await?;
        history.remember(remote, reader, &mut store, &mut cache, &choice, is_accepted);
        Ok(history)
    }

    /// Every record that counts.
    pub fn verified(&self) -> impl DoubleEndedIterator<Item = &Arc<SignedRecord>> {
        self.listed.iter().filter_map(|listed| listed.record.as_ref().ok())
    }

    /// Every record whose signature holds, whether it counts or not: what these name is protected.
    pub fn valid(&self) -> impl DoubleEndedIterator<Item = &Arc<SignedRecord>> {
        self.listed.iter().filter_map(|listed| listed.valid.as_ref())
    }

    /// How the writer makes sure that it creates each object once.
    pub fn create_once(&self) -> CreateOnce {
        self.verified().next_back().map(|newest| newest.record.create_once).unwrap_or_default()
    }

    /// The key that counts.
    pub fn signer(&self) -> &PublicSigner {
        &self.trust.signer
    }

    /// What the records that count and the listing say about their times.
    pub fn stated(&self) -> impl Iterator<Item = Stated> {
        let verified = self.listed.iter().filter_map(|listed| Some((listed.record.as_ref().ok()?, listed.stored)));
        verified.map(|(signed, stored)| Stated {
            sequence: signed.record.sequence,
            signed: signed.record.time,
            modified: stored,
        })
    }

    /// The times of the records that count, in their order.
    pub fn ordered_times(&self) -> Vec<SnapshotTime> {
        snapshot_times(self.stated())
    }

    /// When each snapshot was taken, by its number: the earlier of its signed time and the server's.
    pub fn times(&self) -> HashMap<u64, Timestamp> {
        let sequences = self.verified().map(|record| record.record.sequence);
        sequences.zip(self.ordered_times().into_iter().map(|time| time.time)).collect()
    }

    /// Claims whose records are all ignored are false, says a person.
    fn drop_ignored_claims(&mut self) {
        let ignored: BTreeSet<u64> = self.listed.iter().filter(|it| it.ignored).map(|it| it.sequence).collect();
        self.claims.retain(|claim| !claim.sequences.iter().all(|sequence| ignored.contains(sequence)));
    }

    /// What is to be said, by what is there and what this machine remembers.
    async fn find_out(
        &mut self,
        remote: &Remote,
        reader: &Reader,
        store: &mut TrustStore,
        is_accepted: bool,
    ) -> Result<(), OperationError> {
        let mut findings: Vec<Finding> = Vec::new();
        if self.is_unpinned && !is_accepted {
            let (signer, fingerprint) = (self.trust.signer.to_string(), self.trust.signer.fingerprint());
            findings.push(Finding::UnpinnedSigner { signer, fingerprint });
        }
        match remote.descriptor_state {
            DescriptorState::Same => {}
            DescriptorState::Changed | DescriptorState::Missing => {
                findings.push(Finding::DescriptorChanged { restored: false });
            }
        }
        findings.extend(self.claims.iter().map(Claim::finding));
        findings.extend(self.not_counting());
        if reader.accept_rollback {
            store.look(&remote.location).newest = None;
        }
        if let Some((sequence, digest)) = store.look(&remote.location).newest {
            let found = self.remembered(remote, sequence, digest).await?;
            let newest = self.verified().next_back().map(|record| record.record.sequence);
            let conflict = judge_newest(sequence, found, newest);
            self.is_rolled_back = conflict.is_some();
            findings.extend(conflict);
        }
        self.ask_for_gone(remote, store.look(&remote.location).gone(&self.numbers())).await?;
        if !self.unlisted.is_empty() {
            findings.push(Finding::RecordUnlisted { snapshots: ranges(self.unlisted.iter().copied()) });
        }
        if !self.is_partial {
            let (present, there) = (self.present(), self.numbers());
            findings.extend(store.look(&remote.location).update(
                &present,
                &there,
                self.now,
                reader.grace.max(GRACE),
                self.is_rolled_back,
            ));
        } else if let Some(newest) = self.verified().next_back().filter(|_| !self.is_rolled_back) {
            store.look(&remote.location).saw_newest(newest.record.sequence, newest.signed.digest());
        }
        findings.extend(self.out_of_order());
        self.warnings.extend(findings);
        Ok(())
    }

    /// Records that do not count, each named, and those that a person ignored.
    fn not_counting(&self) -> Vec<Finding> {
        let ignored = ranges(self.listed.iter().filter(|listed| listed.ignored).map(|listed| listed.sequence));
        let stop = self.listed.iter().filter(|listed| !listed.ignored);
        let finding = |listed: &Listed| {
            let snapshot = listed.sequence;
            match listed.record.as_ref().err()? {
                Unusable::Newer { .. } => Some(Finding::RecordNewer { snapshot }),
                Unusable::Claim { .. } | Unusable::NotRead => None,
                Unusable::Untrusted { signer } => {
                    Some(Finding::RecordUntrusted { snapshot, fingerprint: signer.fingerprint() })
                }
                Unusable::Damaged(why) => Some(Finding::RecordDamaged { snapshot, why: why.clone() }),
            }
        };
        let ignored = (!ignored.is_empty()).then_some(Finding::RecordIgnored { snapshots: ignored });
        stop.filter_map(finding).chain(ignored).collect()
    }

    /// What is there under the number of the newest record that this machine verified. One that is there and not listed
    /// is noted as such.
    async fn remembered(
        &mut self,
        remote: &Remote,
        sequence: u64,
        digest: Digest,
    ) -> Result<Remembered, OperationError> {
        let judged = |counts: bool, found: Option<Digest>| match found {
            Some(found) if found == digest => Remembered::Same,
            Some(_) if counts => Remembered::Replaced,
            _ => Remembered::Unusable,
        };
        let listed = self.listed.iter().find(|listed| listed.sequence == sequence);
        if let Some(listed) = listed.filter(|listed| !matches!(listed.record, Err(Unusable::NotRead))) {
            return Ok(judged(listed.record.is_ok(), listed.digest));
        }
        let is_listed = listed.is_some();
        match fetch::one(remote, sequence).await? {
            Fetched::Missing => Ok(Remembered::Absent),
            found => {
                if !is_listed {
                    self.unlisted.push(sequence);
                }
                let counts = found.record().is_some_and(|record| self.trust.judge(record) == Standing::Counts);
                Ok(judged(counts, found.digest()))
            }
        }
    }

    /// All numbers under which a record lies.
    fn numbers(&self) -> Vec<Range> {
        let all: BTreeSet<u64> =
            self.listed.iter().map(|listed| listed.sequence).chain(self.unlisted.clone()).collect();
        ranges(all)
    }

    /// Asks for a few of the newest records by name that the listing lacks since the last look: not every server lists
    /// all that it holds.
    async fn ask_for_gone(&mut self, remote: &Remote, gone: Vec<Range>) -> Result<(), OperationError> {
        let newest_first = gone.into_iter().rev().flat_map(|(first, last)| (first..=last).rev());
        for sequence in newest_first.take(MAX_ASKED) {
            if remote.store.head(&layout::record(sequence)).await?.is_some() {
                self.unlisted.push(sequence);
            }
        }
        self.unlisted.sort_unstable();
        Ok(())
    }

    fn present(&self) -> Vec<Present> {
        let times = self.times();
        let day = |sequence: u64| times.get(&sequence).map_or(0, |time| time.as_second().div_euclid(24 * 3600));
        let present = |record: &Arc<SignedRecord>| {
            let sequence = record.record.sequence;
            Present { sequence, digest: record.signed.digest(), day: day(sequence) }
        };
        self.verified().map(present).collect()
    }

    fn out_of_order(&self) -> Option<Finding> {
        let sequences = self.verified().map(|record| record.record.sequence);
        let odd = sequences.zip(self.ordered_times()).filter(|(_, time)| time.out_of_order);
        let snapshots = ranges(odd.map(|(sequence, _)| sequence));
        (!snapshots.is_empty()).then_some(Finding::OutOfOrder { snapshots })
    }

    /// Remembers what was seen; where that cannot be, says so.
    fn remember(
        &mut self,
        remote: &Remote,
        reader: &Reader,
        store: &mut TrustStore,
        cache: &mut RecordCache,
        choice: &Choice,
        is_accepted: bool,
    ) {
        let known = store.accepted.as_ref();
        if let Choice::Given(signer) = choice
            && !is_accepted
            && known.is_some_and(|known| known.signer != *signer)
        {
            // For this run alone another key decides, so what it makes of the records is not remembered.
            return;
        }
        // Records that led to the key may be gone: what was accepted is not forgotten.
        let is_shorter = known
            .is_some_and(|known| known.signer == self.trust.signer && known.former.len() > self.trust.takeovers.len());
        let is_named = matches!(choice, Choice::Given(_));
        if !is_shorter && (is_accepted || !is_named || self.verified().next().is_some()) {
            store.accepted = Some(self.trust.accepted());
        }
        if store.descriptor.is_none() {
            store.descriptor = remote.descriptor_text.clone();
        }
        let missed: BTreeMap<u64, Timestamp> = store
            .look(&remote.location)
            .missed
            .iter()
            .filter(|(_, missed)| !missed.here)
            .map(|(sequence, missed)| (*sequence, missed.since))
            .collect();
        for (sequence, since) in &missed {
            let record = cache.last(*sequence).and_then(|bytes| SignedRecord::read(bytes, *sequence, remote.id()).ok());
            self.missed.extend(record.map(|record| MissedRecord { record: Arc::new(record), since: *since }));
        }
        let listed = ranges(self.listed.iter().map(|listed| listed.sequence));
        cache.retain(|sequence| contains(&listed, sequence) || missed.contains_key(&sequence));
        let dir = reader.state_dir(remote);
        let mut save = || -> Result<(), StateError> {
            store.save(&dir)?;
            cache.save()?;
            Locations::set(&reader.state_root, &remote.location, remote.id())
        };
        if let Err(error) = save() {
            self.warnings.push(Finding::NotRemembered { path: dir.clone(), why: error.to_string() });
        }
    }
}

/// The error of a record that is asked for and does not count.
pub(super) fn unusable(sequence: u64, why: &Unusable) -> OperationError {
    let object = layout::record(sequence).to_string();
    match why {
        Unusable::Newer { .. } => OperationError::NewerFormat { object, why: why.to_string() },
        _ => OperationError::Verification { object, why: why.to_string() },
    }
}
