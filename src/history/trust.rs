//! Whose signature counts under which number, for somebody who trusts one signer.
//!
//! What that signer signed counts under whatever number. For his predecessors he vouches by the list of take-overs that all
//! his records carry. One with another list is by somebody else who has his key: where the list is remembered here, that
//! one does not count; where it is not, all do, by the list of the oldest one, and nobody deletes anything.
//! For his successors he cannot vouch: whoever says that he took over makes a claim, which a person accepts or does not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::format::{Epoch, SignedRecord, TakeOver, signer_of};
use crate::host::Pins;
use crate::repository::Remote;
use crate::repository::unlock::open_newest;

use super::Reader;
use super::memory::take_overs_of;

/// One signer who is trusted, and what follows from it.
#[derive(Clone)]
pub(crate) struct Trust {
    pub signer: PublicSigner,
    pub take_overs: Vec<TakeOver>,
    /// The list is more than what the records that lie there now happen to say.
    pub is_known: bool,
}

impl Trust {
    /// With the list that `pins` remember, else that in the oldest of `records` that `signer` signed. They are in the order
    /// of their numbers.
    pub fn of(signer: PublicSigner, records: &[Arc<SignedRecord>], pins: &Pins) -> Self {
        if let Some(take_overs) = take_overs_of(pins, &signer) {
            return Self { take_overs, signer, is_known: true };
        }
        let oldest = records.iter().find(|record| *record.signed.signer() == signer);
        let take_overs = oldest.map(|record| record.record.take_overs.clone()).unwrap_or_default();
        Self { signer, take_overs, is_known: false }
    }

    /// Whether the right one signed it.
    pub fn counts(&self, record: &SignedRecord) -> bool {
        if *record.signed.signer() == self.signer {
            return !(self.is_known && self.is_contradicted_by(record));
        }
        self.expects(record.record.sequence, record.signed.signer())
    }

    /// Whether `sequence` is `signer`'s by the list.
    pub fn expects(&self, sequence: u64, signer: &PublicSigner) -> bool {
        signer_of(&self.take_overs, &self.signer, sequence) == signer
    }

    /// Whether it carries the trusted signature and another list: somebody else who has that key made the one or the other.
    pub fn is_contradicted_by(&self, record: &SignedRecord) -> bool {
        *record.signed.signer() == self.signer && record.record.take_overs != self.take_overs
    }

    /// Why a record does not count.
    pub fn refusal(&self, record: &SignedRecord) -> String {
        let (signer, sequence) = (record.signed.signer(), record.record.sequence);
        if self.is_contradicted_by(record) {
            return format!(
                "it is signed by {signer}, as it should be, and tells of other take-overs than all that this machine saw of \
                 that signer: somebody else has the host's key"
            );
        }
        let right = signer_of(&self.take_overs, &self.signer, sequence);
        if let Some(step) = self.take_overs.iter().rev().find(|step| step.from == *signer) {
            return format!("it is signed by {signer}, whose place was taken after snapshot {}", step.last);
        }
        match self.steps_to(record) {
            Some(_) => format!("it is signed by {signer}, who says to have taken over from the pinned signer {right}"),
            None => format!("it is signed by a stranger, {signer}, and the pinned signer is {right}"),
        }
    }

    /// The take-overs that lead from the trusted signer to whoever signed `record`, as that record has it.
    fn steps_to<'a>(&self, record: &'a SignedRecord) -> Option<&'a [TakeOver]> {
        let steps = &record.record.take_overs;
        let first = steps.iter().position(|step| step.from == self.signer)?;
        Some(&steps[first..])
    }

    /// Everybody who says to have taken over from the trusted signer, by his newest record.
    pub fn claims(&self, records: &[Arc<SignedRecord>]) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::new();
        let others = |record: &&Arc<SignedRecord>| *record.signed.signer() != self.signer && !self.counts(record);
        for record in records.iter().rev().filter(others) {
            let Some(steps) = self.steps_to(record) else { continue };
            let signer = record.signed.signer();
            if claims.iter().any(|claim| claim.signer == *signer) {
                continue;
            }
            let theirs = Self { signer: signer.clone(), take_overs: record.record.take_overs.clone(), is_known: false };
            let claimed: Vec<_> = records.iter().filter(|it| theirs.counts(it) && !self.counts(it)).collect();
            claims.push(Claim {
                from: self.signer.clone(),
                signer: signer.clone(),
                steps: steps.to_vec(),
                since: claimed.iter().map(|it| it.record.time).min().unwrap_or(record.record.time),
                sequences: claimed.iter().map(|it| it.record.sequence).collect(),
                proof: Proof::Untried,
            });
        }
        claims
    }
}

/// Somebody says that he took over from the signer who counts.
#[derive(Clone, Debug)]
pub struct Claim {
    pub from: PublicSigner,
    pub signer: PublicSigner,
    /// From the one to the other; never empty.
    steps: Vec<TakeOver>,
    /// The snapshots that would count if he did, in ascending order.
    pub sequences: Vec<u64>,
    /// The time of the earliest of them.
    pub(super) since: Timestamp,
    pub proof: Proof,
}

/// What an operator's identity says of a claim. The worst comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The proof is not that of the data identity.
    Forged,
    /// It cannot be checked, for this reason.
    Unknown(String),
    /// No identity was given.
    Untried,
    Holds(Provers),
}

/// Who can have made a proof that holds: whoever opened one of these epochs, ever. A rotation takes that back from nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provers {
    /// The epochs that the steps were proved with.
    epochs: BTreeSet<u32>,
    /// Who was removed from them since, by the comments of their keys.
    former: BTreeSet<String>,
}

impl Claim {
    /// The highest number that the signer who counts signed before.
    pub fn last(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.last)
    }

    /// What to do about it.
    pub fn advice(&self) -> String {
        let (signer, last) = (&self.signer, self.last());
        match self.proof {
            Proof::Forged => format!(
                "do not accept this signer; snapshot {last} and those before can be restored by naming one of them"
            ),
            Proof::Holds(_) | Proof::Unknown(_) | Proof::Untried => format!(
                "compare the signer with what `sealift init --take-over` printed; if it is the same, add \
                 --accept-signer '{signer}'; snapshot {last} and those before can be restored by naming one of them"
            ),
        }
    }

    /// Looks at each step with a data identity that the records trusted so far name.
    pub(super) async fn prove(
        &mut self,
        remote: &Remote,
        reader: &Reader,
        trust: &Trust,
        records: &[Arc<SignedRecord>],
    ) -> Result<(), OperationError> {
        if reader.identities.is_empty() {
            return Ok(());
        }
        let mut trusted: Vec<&SignedRecord> =
            records.iter().map(AsRef::as_ref).filter(|record| trust.counts(record)).collect();
        let mut provers = Provers::default();
        for step in &self.steps {
            let tried = match epoch_of(step, &trusted) {
                Some(epoch) => try_step(remote, reader, step, epoch).await?,
                None => {
                    let why = format!("no snapshot that can be verified here names epoch {} as the newest", step.epoch);
                    Proof::Unknown(why)
                }
            };
            let Proof::Holds(of_step) = tried else {
                self.proof = tried;
                return Ok(());
            };
            provers.epochs.extend(of_step.epochs);
            provers.former.extend(of_step.former);
            self.proof = Proof::Holds(provers.clone());
            trusted.extend(records.iter().map(AsRef::as_ref).filter(|record| *record.signed.signer() == step.to));
        }
        Ok(())
    }
}

/// The epoch that a step was proved with, if it was the newest one: older ones may be known to whoever was removed.
fn epoch_of<'a>(step: &TakeOver, trusted: &[&'a SignedRecord]) -> Option<&'a Epoch> {
    let before = trusted.iter().filter(|record| record.record.sequence <= step.last);
    let newest = &before.max_by_key(|record| record.record.sequence)?.record;
    newest.epochs.iter().find(|epoch| epoch.epoch == step.epoch && epoch.epoch == newest.manifest.epoch)
}

async fn try_step(remote: &Remote, reader: &Reader, step: &TakeOver, epoch: &Epoch) -> Result<Proof, OperationError> {
    use OperationError as E;
    match open_newest(remote, epoch, &reader.identities).await.map(|opening| opening.opened) {
        Ok(opened) if step.is_proved_by(remote.id(), &opened.identity) => Ok(Proof::Holds(Provers {
            epochs: [epoch.epoch].into(),
            former: opened.holders.former.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
        })),
        Ok(_) => Ok(Proof::Forged),
        Err(error @ (E::NoIdentityOpens { .. } | E::NoKeyLeft { .. } | E::Verification { .. })) => {
            Ok(Proof::Unknown(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, signer, .. } = self;
        let which = match self.sequences[..] {
            [] => String::new(),
            [only] => format!("snapshot {only} is"),
            [first, .., last] => format!("snapshots {first} to {last} are"),
        };
        write!(f, "{which} signed by {signer}, who says to have taken over after snapshot {} from ", self.last())?;
        write!(f, "{from}, whose signature counts here: ")?;
        match &self.proof {
            Proof::Forged => f.write_str("the proof is wrong, so this is a forgery"),
            Proof::Holds(provers) => write!(f, "the proof holds, so it was made by {provers}"),
            Proof::Unknown(why) => write!(f, "the proof cannot be checked: {why}"),
            Proof::Untried => f.write_str("the proof was not checked, because no identity was given"),
        }
    }
}

impl fmt::Display for Provers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs: Vec<String> = self.epochs.iter().map(u32::to_string).collect();
        let epochs = epochs.join(" and ");
        write!(f, "somebody who has, or before a removal had, an operator's identity of epoch {epochs}")?;
        if !self.former.is_empty() {
            let former: Vec<&str> = self.former.iter().map(String::as_str).collect();
            write!(f, " (removed from it, say the comments of its key: {})", former.join(", "))?;
        }
        Ok(())
    }
}
