//! Whose signature counts, and what a record that does not count is. Nothing here reads a file or a bucket.
//!
//! A reader trusts one key. What that key signed counts under every number, and for its predecessors the list of
//! takeovers in its newest record says up to which number their signatures count. A record by another key whose list
//! begins at the trusted key is a claim: a person accepts or ignores it. Everything else with a valid signature is
//! untrusted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crypto::PublicSigner;
use crate::finding::Finding;
use crate::format::ranges::ranges;
use crate::format::{Record, SignedRecord, Takeover, signer_of};

/// A trusted key and those before it, as a person accepted them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub signer: PublicSigner,
    /// The keys whose place it took, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<PublicSigner>,
}

impl Accepted {
    pub fn new(signer: PublicSigner) -> Self {
        Self { signer, former: Vec::new() }
    }

    fn follows(&self, other: &Self) -> bool {
        self.signer == other.signer || self.former.contains(&other.signer)
    }
}

/// What an identity file or a recovery kit says: for which repository it was made, and who signs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    pub repository: String,
    pub accepted: Option<Accepted>,
}

/// Where the trusted key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `--signer`: for this run.
    Given(PublicSigner),
    /// The trust store, or the comments of an identity file.
    Known(Accepted),
    /// Nothing says who signs.
    Unpinned,
}

/// Why no key can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// What is remembered and the identity files name different keys, and neither follows on the other. Fingerprints.
    Disagree { stored: String, comment: String },
    /// The identity files were made for other repositories only.
    OtherRepositories,
}

/// Chooses the key to trust in `repository`.
pub fn choose(
    given: Option<&PublicSigner>,
    stored: Option<&Accepted>,
    comments: &[Comment],
    repository: &str,
) -> Result<Choice, Conflict> {
    if let Some(given) = given {
        return Ok(Choice::Given(given.clone()));
    }
    let here = || comments.iter().filter(|comment| comment.repository == repository);
    let mut known = stored.cloned();
    for comment in here().filter_map(|comment| comment.accepted.as_ref()) {
        match &known {
            Some(before) if before.follows(comment) => {}
            Some(before) if !comment.follows(before) => {
                let (stored, comment) = (before.signer.fingerprint(), comment.signer.fingerprint());
                return Err(Conflict::Disagree { stored, comment });
            }
            _ => known = Some(comment.clone()),
        }
    }
    match known {
        Some(known) => Ok(Choice::Known(known)),
        None if !comments.is_empty() && here().next().is_none() => Err(Conflict::OtherRepositories),
        None => Ok(Choice::Unpinned),
    }
}

/// One trusted key, and the takeovers that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    pub signer: PublicSigner,
    pub takeovers: Vec<Takeover>,
}

/// What a record with a valid signature is to a reader with a [`Trust`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Counts,
    /// Its signer says to have taken over from the trusted one.
    Claim,
    Untrusted,
}

impl Trust {
    /// With the list of takeovers in the newest of `records` that `signer` signed.
    pub fn of<'a>(signer: PublicSigner, records: impl IntoIterator<Item = &'a SignedRecord>) -> Self {
        let own = records.into_iter().filter(|record| *record.signed.signer() == signer);
        let newest = own.max_by_key(|record| record.record.sequence);
        let takeovers = newest.map(|record| record.record.takeovers.clone()).unwrap_or_default();
        Self { signer, takeovers }
    }

    /// Whether the signature of `signer` counts under the number `sequence`.
    pub fn counts(&self, sequence: u64, signer: &PublicSigner) -> bool {
        *signer == self.signer || signer_of(&self.takeovers, &self.signer, sequence) == signer
    }

    pub fn judge(&self, record: &SignedRecord) -> Standing {
        if self.counts(record.record.sequence, record.signed.signer()) {
            Standing::Counts
        } else if self.begins_here(&record.record) {
            Standing::Claim
        } else {
            Standing::Untrusted
        }
    }

    fn begins_here(&self, record: &Record) -> bool {
        record.takeovers.iter().any(|step| step.from == self.signer)
    }

    /// The trusted key with its predecessors.
    pub fn accepted(&self) -> Accepted {
        let former = self.takeovers.iter().map(|step| step.from.clone()).collect();
        Accepted { signer: self.signer.clone(), former }
    }

    /// Every key that claims a takeover from the trusted key, by the newest record of each, in the order of their
    /// records.
    pub fn claims<'a>(&self, records: impl IntoIterator<Item = &'a SignedRecord>) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::new();
        for record in records.into_iter().filter(|record| self.judge(record) == Standing::Claim) {
            let (signer, found) = (record.signed.signer(), &record.record);
            match claims.iter_mut().find(|claim| claim.signer == *signer) {
                Some(claim) => {
                    claim.sequences.push(found.sequence);
                    claim.since = claim.since.min(found.time);
                    claim.host.clone_from(&found.host);
                    claim.takeovers.clone_from(&found.takeovers);
                }
                None => claims.push(Claim {
                    trusted: self.signer.clone(),
                    signer: signer.clone(),
                    host: found.host.clone(),
                    since: found.time,
                    sequences: vec![found.sequence],
                    takeovers: found.takeovers.clone(),
                }),
            }
        }
        claims
    }
}

/// A key says that it took over from the trusted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub trusted: PublicSigner,
    pub signer: PublicSigner,
    /// The label of its host.
    pub host: String,
    /// The time of its earliest record.
    pub since: Timestamp,
    /// Its records, in ascending order.
    pub sequences: Vec<u64>,
    pub takeovers: Vec<Takeover>,
}

impl Claim {
    /// What a person who accepts it trusts from then on.
    pub fn trust(&self) -> Trust {
        Trust { signer: self.signer.clone(), takeovers: self.takeovers.clone() }
    }

    pub fn finding(&self) -> Finding {
        Finding::SignerClaim {
            trusted: self.trusted.fingerprint(),
            signer: self.signer.fingerprint(),
            host: self.host.clone(),
            since: self.since,
            snapshots: ranges(self.sequences.iter().copied()),
        }
    }
}

#[cfg(test)]
mod tests;
