//! All snapshots of a repository as a reader sees them: whose signature counts, what cannot be verified, what is gone.
//!
//! Every command that reads goes through [`History::load`], so that all of them trust the same.

mod bad_objects;
mod chain;
mod clock_skew;
mod memory;
mod reader;
mod trust;
mod verdicts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

pub use self::bad_objects::BadObjects;
pub(crate) use self::clock_skew::time_to_come;
pub use self::memory::told;
pub(super) use self::memory::{DESCRIPTOR_CHANGED, TOLD_ONCE, expect_gone, missing, remember_own, take_overs_of};
pub(super) use self::reader::Pin;
pub use self::reader::Reader;
pub(super) use self::trust::Trust;
pub use self::trust::{Claim, Proof};
pub use self::verdicts::{Bill, Drill, Driller, Verdicts};
use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::ranges::{ranges, written};
use crate::format::{SignedRecord, layout};
use crate::host::Pins;
use crate::policy::effective::{Stated, effective_times};
use crate::repository::Remote;
use crate::repository::Seen;

/// The name of the warning that the signer's own records contradict each other.
pub(super) const CONTRADICTION: &str = "take-overs-differ";

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Latest,
    Sequence(u64),
    /// The last at or before this time, by the effective times: those that `status` and retention go by.
    At(Timestamp),
}

/// Why a listed record cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// A newer sealift made it: it may be as good as any.
    #[error("{0}")]
    NewerFormat(String),
    #[error("{0}")]
    Unverifiable(String),
}

/// A listed record, or why it cannot be used.
pub struct Listed {
    pub sequence: u64,
    pub record: Result<Arc<SignedRecord>, Unusable>,
    /// As the listing shows it.
    pub seen: Seen,
    /// When it was stored, as this machine first saw it: a server that dates its objects anew makes none younger.
    pub stored: Timestamp,
}

/// Every listed record, oldest first.
pub struct History {
    pub listed: Vec<Listed>,
    pub warnings: Vec<Warning>,
    /// Whose signature counts from the last take-over on.
    pub signer: PublicSigner,
    /// With whose did before.
    trust: Trust,
    /// Who says to have taken over from that signer.
    claims: Vec<Claim>,
    /// Whoever signed one of the records, or is named there as a writer before.
    signers: Vec<PublicSigner>,
    exchanged: bool,
    /// This machine remembers no snapshot from before.
    is_new_here: bool,
    /// How long what nobody needs is left alone: nothing signs `repository.json`, so no less than was ever seen there.
    pub(super) grace_seconds: u64,
}

impl History {
    /// Lists and reads all records, judges them by whom the reader trusts, and remembers what was seen.
    pub async fn load(remote: &Remote, reader: &Reader) -> Result<Self, OperationError> {
        let listing = remote.list_records().await?;
        Self::of(remote, reader, &listing).await
    }

    /// The same, by a listing that was read before.
    pub async fn of(remote: &Remote, reader: &Reader, listing: &BTreeMap<u64, Seen>) -> Result<Self, OperationError> {
        let state_dir = reader.state_dir(remote);
        let mut pins = Pins::load(&state_dir)?;
        let pin = reader.pin(remote, &pins);
        let read = read(remote, listing).await?;
        let valid: Vec<Arc<SignedRecord>> = read.iter().filter_map(|(_, record)| record.clone().ok()).collect();
        let (trust, claims) = trusted(remote, reader, (pin.signer, &pins), &valid).await?;
        let known = memory::first_stored(&pins);
        let listed = read.into_iter().map(|(sequence, record)| {
            let seen = listing[&sequence];
            let known = record.as_ref().ok().and_then(|record| known.get(&record.signed.digest()));
            let stored = known.map_or(seen.modified, |known| seen.modified.min(*known));
            Listed { sequence, record: record.and_then(|record| judge(&trust, record)), seen, stored }
        });
        let mut history = Self {
            listed: listed.collect(),
            warnings: pin.warning.into_iter().collect(),
            signer: trust.signer.clone(),
            trust,
            claims,
            signers: signers(&valid),
            exchanged: pin.exchanged,
            is_new_here: false,
            grace_seconds: remote.descriptor.grace_seconds,
        };
        history.warn_of_unverifiable();
        history.warnings.extend(history.warn_of_contradiction());
        history.warnings.extend(chain::check(&history));
        let known = memory::descriptor(&mut pins, &remote.descriptor);
        history.grace_seconds = known.grace_seconds;
        history.warnings.extend(known.warning);
        history.is_new_here = pins.newest.is_none();
        history.warnings.extend(memory::compare(&mut pins, &history));
        // A signer is remembered once something it signed was seen, and never on the repository's word alone.
        if history.verified().next().is_some() && history.is_pinned() {
            pins.signer = Some(history.signer.clone());
            if history.disputed().is_empty() && history.own().next().is_some() {
                memory::remember_take_overs(&mut pins, &history.signer, &history.trust.take_overs);
            }
        }
        history.warnings.extend(pins.save(&state_dir).err().map(|error| memory::not_remembered(&error)));
        Ok(history)
    }

    /// Whether more than the repository itself says whose signature counts.
    pub fn is_pinned(&self) -> bool {
        !self.warnings.iter().any(|warning| warning.name == reader::UNPINNED)
    }

    /// For whoever says that all is well: nothing of what vanished or was exchanged before shows at the first look.
    pub(super) fn first_look(&self) -> Option<Warning> {
        let is_first = self.is_new_here && self.verified().next().is_some();
        is_first.then(memory::first_look)
    }

    /// What the verified records and the listing say about their times.
    pub(super) fn stated(&self) -> impl Iterator<Item = Stated> {
        let verified = self.listed.iter().filter_map(|listed| Some((listed.record.as_ref().ok()?, listed.stored)));
        verified.map(|(signed, stored)| Stated {
            sequence: signed.record.sequence,
            signed: signed.record.time,
            modified: stored,
        })
    }

    /// When each verified snapshot was taken, by its number, as far as its signed time can be believed.
    pub fn times(&self) -> HashMap<u64, Timestamp> {
        let sequences = self.verified().map(|record| record.record.sequence);
        sequences.zip(effective_times(self.stated()).into_iter().map(|effective| effective.time)).collect()
    }

    pub fn verified(&self) -> impl DoubleEndedIterator<Item = &Arc<SignedRecord>> {
        self.listed.iter().filter_map(|listed| listed.record.as_ref().ok())
    }

    /// The snapshot that is meant. Naming one that cannot be verified is an error; passing one over is a warning, unless
    /// it may be the work of a host that took over: then nobody knows yet what is the latest.
    pub fn find(&self, selector: &Selector) -> Result<&Arc<SignedRecord>, OperationError> {
        let claimed = |covers: &dyn Fn(&Claim) -> bool| match self.best_claim(covers) {
            Some(claim) => Err(signer_changed(claim)),
            None => Ok(()),
        };
        match selector {
            Selector::Latest => {
                claimed(&|_| true)?;
                self.verified().next_back().ok_or_else(|| self.nothing_found(None))
            }
            Selector::At(time) => {
                claimed(&|claim| claim.since <= *time)?;
                let times = self.times();
                let found = self.verified().rfind(|record| times[&record.record.sequence] <= *time);
                found.ok_or_else(|| self.nothing_found(Some(format!("at or before {time}"))))
            }
            Selector::Sequence(sequence) => {
                let listed = self.listed.iter().find(|listed| listed.sequence == *sequence);
                let listed = listed.ok_or_else(|| OperationError::NoSnapshot(Some(sequence.to_string())))?;
                if listed.record.is_err() {
                    claimed(&|claim| claim.sequences.contains(sequence))?;
                }
                listed.record.as_ref().map_err(|why| unusable(*sequence, why))
            }
        }
    }

    /// Of those that apply, the one with the best proof, and of equals that with the newest snapshot.
    fn best_claim(&self, applies: &dyn Fn(&Claim) -> bool) -> Option<&Claim> {
        let claims = self.claims.iter().filter(|claim| applies(claim));
        claims.max_by_key(|claim| (claim.proof.clone(), claim.sequences.last().copied()))
    }

    /// To be asked once an identity opened something: was it made for this repository at all?
    pub(super) fn refuse_exchanged(&self, remote: &Remote) -> Result<(), OperationError> {
        if self.exchanged { Err(reader::exchanged(remote)) } else { Ok(()) }
    }

    /// Whether `signer` ever signed here, as far as the records tell, whether it counts or not.
    pub(super) fn knows(&self, signer: &PublicSigner) -> bool {
        self.signers.contains(signer)
    }

    /// Whether the signature of `signer` counts under `sequence`, or is that of the signer who counts.
    pub(super) fn is_signer_of(&self, sequence: u64, signer: &PublicSigner) -> bool {
        self.signer == *signer || self.trust.expects(sequence, signer)
    }

    /// See [`Trust::is_contradicted_by`].
    pub(super) fn is_contradicted_by(&self, record: &SignedRecord) -> bool {
        self.trust.is_contradicted_by(record)
    }

    /// Whose signature counts where.
    pub(super) fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// What the signer who counts signed himself.
    fn own(&self) -> impl Iterator<Item = &Arc<SignedRecord>> {
        self.verified().filter(|record| *record.signed.signer() == self.signer)
    }

    /// All that the signer who counts signed, where the records contradict each other and nobody here knows which are right.
    pub(super) fn disputed(&self) -> Vec<u64> {
        let is_disputed = self.own().any(|record| self.trust.is_contradicted_by(record));
        self.own().filter(|_| is_disputed).map(|record| record.record.sequence).collect()
    }

    /// Whether `signer` says to have taken over from the one who counts.
    pub(super) fn claims_of(&self, signer: &PublicSigner) -> bool {
        self.claims.iter().any(|claim| claim.signer == *signer)
    }

    /// Snapshots that are there and cannot be verified, every one of them, are not the same as no snapshot.
    fn nothing_found(&self, wanted: Option<String>) -> OperationError {
        match self.listed.last() {
            Some(Listed { sequence, record: Err(why), .. }) if self.verified().next().is_none() => {
                unusable(*sequence, why)
            }
            _ => OperationError::NoSnapshot(wanted),
        }
    }

    fn warn_of_contradiction(&self) -> Option<Warning> {
        let (others, first): (Vec<_>, Vec<_>) = self.own().partition(|record| self.trust.is_contradicted_by(record));
        let numbers = |of: Vec<&Arc<SignedRecord>>| written(&ranges(of.iter().map(|record| record.record.sequence)));
        (!others.is_empty()).then(|| {
            let text = format!(
                "snapshot {} and snapshot {} are signed by the same host and tell of other take-overs: the ones or the \
                 others are by somebody else who has its key. A machine that saw this repository before knows which; \
                 nothing is deleted until those are let go of that do not belong there: `sealift retain --forget N --apply`",
                numbers(first),
                numbers(others)
            );
            Warning::doubt(CONTRADICTION, text)
        })
    }

    fn warn_of_unverifiable(&mut self) {
        let mut warnings: Vec<Warning> = Vec::new();
        for claim in &self.claims {
            warnings.push(Warning::doubt("signer-changed", format!("{claim}; {}", claim.advice())));
        }
        for listed in &self.listed {
            let claimed = || self.claims.iter().any(|claim| claim.sequences.contains(&listed.sequence));
            if let Err(why) = listed.record.as_ref()
                && !claimed()
            {
                warnings.push(why.warning(listed.sequence));
            }
        }
        self.warnings.append(&mut warnings);
    }
}

/// Whom the reader trusts, and who says to have taken over from there. What the reader accepts moves the trust.
async fn trusted(
    remote: &Remote,
    reader: &Reader,
    (pinned, pins): (PublicSigner, &Pins),
    valid: &[Arc<SignedRecord>],
) -> Result<(Trust, Vec<Claim>), OperationError> {
    let trust = Trust::of(pinned, valid, pins);
    let claims = proved_claims(remote, reader, &trust, valid).await?;
    let Some(accept) = reader.accept.as_ref().filter(|accept| **accept != trust.signer) else {
        return Ok((trust, claims));
    };
    match claims.into_iter().find(|claim| claim.signer == *accept) {
        Some(claim) if claim.proof == Proof::Forged => Err(signer_changed(&claim)),
        Some(claim) => {
            let trust = Trust::of(claim.signer, valid, pins);
            let claims = proved_claims(remote, reader, &trust, valid).await?;
            Ok((trust, claims))
        }
        None => Err(OperationError::Verification {
            object: layout::RECORDS.to_owned(),
            why: format!(
                "no snapshot shows that {accept} took over from {}, whose signature counts here",
                trust.signer
            ),
        }),
    }
}

async fn proved_claims(
    remote: &Remote,
    reader: &Reader,
    trust: &Trust,
    valid: &[Arc<SignedRecord>],
) -> Result<Vec<Claim>, OperationError> {
    let mut claims = trust.claims(valid);
    for claim in &mut claims {
        claim.prove(remote, reader, trust, valid).await?;
    }
    Ok(claims)
}

/// Every listed record whose signature holds. Errors of the store end everything; a record that is not right is told.
async fn read(
    remote: &Remote,
    listing: &BTreeMap<u64, Seen>,
) -> Result<Vec<(u64, Result<Arc<SignedRecord>, Unusable>)>, OperationError> {
    let sequences: Vec<u64> = listing.keys().copied().collect();
    let told = |record: Result<SignedRecord, OperationError>| match record {
        Ok(record) => Ok(Ok(Arc::new(record))),
        Err(OperationError::Verification { why, .. }) => Ok(Err(Unusable::Unverifiable(why))),
        Err(OperationError::NewerFormat { why, .. }) => Ok(Err(Unusable::NewerFormat(why))),
        Err(other) => Err(other),
    };
    let records = remote.records(&sequences).await?;
    records.into_iter().map(|(sequence, record)| Ok((sequence, told(record)?))).collect()
}

fn signers(records: &[Arc<SignedRecord>]) -> Vec<PublicSigner> {
    let mut signers: Vec<PublicSigner> = Vec::new();
    for record in records {
        let former = record.record.take_overs.iter().map(|step| &step.from);
        for signer in former.chain([record.signed.signer()]) {
            if !signers.contains(signer) {
                signers.push(signer.clone());
            }
        }
    }
    signers
}

fn judge(trust: &Trust, record: Arc<SignedRecord>) -> Result<Arc<SignedRecord>, Unusable> {
    if trust.counts(&record) { Ok(record) } else { Err(Unusable::Unverifiable(trust.refusal(&record))) }
}

impl Unusable {
    fn warning(&self, sequence: u64) -> Warning {
        match self {
            Self::NewerFormat(why) => {
                let text =
                    format!("snapshot {sequence} is passed over, because {why}: upgrade sealift on this machine");
                Warning::doubt("newer-record", text)
            }
            Self::Unverifiable(why) => {
                let text = format!("snapshot {sequence} cannot be verified and is passed over: {why}");
                Warning::doubt("unverifiable-record", text)
            }
        }
    }
}

fn unusable(sequence: u64, why: &Unusable) -> OperationError {
    let object = layout::record(sequence).to_string();
    match why.clone() {
        Unusable::NewerFormat(why) => OperationError::NewerFormat { object, why },
        Unusable::Unverifiable(why) => OperationError::Verification { object, why },
    }
}

fn signer_changed(claim: &Claim) -> OperationError {
    OperationError::SignerChanged { what: claim.to_string(), way_out: claim.advice() }
}
