//! One listed record: what it is to a reader, and why it does not count.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::TrustStore;
use super::fetch::{self, Fetched};
use crate::crypto::{Digest, PublicSigner};
use crate::format::{Ignored, SignedRecord};
use crate::policy::ignore::{ListedRecord, RecordVerdict, is_ignored};
use crate::policy::trust::{Standing, Trust};
use crate::repository::Seen;

/// Why a listed record does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// By a key that counts, in a format that only a newer sealift reads.
    #[error("it has format {format}, which only a newer sealift reads")]
    Newer { format: u64 },
    /// By a key that says to have taken over from the trusted one.
    #[error("it is signed by {}, which claims a takeover", .signer.fingerprint())]
    Claim { signer: PublicSigner },
    /// The signature holds, and its key neither counts nor claims.
    #[error("it is signed by {}, which is not trusted", .signer.fingerprint())]
    Untrusted { signer: PublicSigner },
    /// It cannot be read, or its signature fails.
    #[error("{0}")]
    Damaged(String),
    /// This command did not need it, so it was not read.
    #[error("it was not read")]
    NotRead,
}

/// A listed record, or why it does not count.
pub struct Listed {
    pub sequence: u64,
    pub record: Result<Arc<SignedRecord>, Unusable>,
    /// One whose signature holds, whether it counts or not: what it names is protected.
    pub valid: Option<Arc<SignedRecord>>,
    /// SHA-256 of its bytes; `None` where they could not be had.
    pub digest: Option<Digest>,
    /// A person ignored it.
    pub ignored: bool,
    /// As the listing shows it.
    pub seen: Seen,
    /// When it was stored, by the server's clock.
    pub stored: Timestamp,
}

impl Listed {
    /// What it is to the rules about ignoring.
    pub fn judged(&self) -> ListedRecord {
        let verdict = match &self.record {
            Ok(_) => RecordVerdict::Counts,
            Err(Unusable::Newer { .. }) => RecordVerdict::NewerFormat,
            Err(Unusable::Claim { .. }) => RecordVerdict::Claim,
            Err(Unusable::Untrusted { .. }) => RecordVerdict::Untrusted,
            Err(Unusable::Damaged(_) | Unusable::NotRead) => RecordVerdict::Damaged,
        };
        ListedRecord { sequence: self.sequence, digest: self.digest, verdict }
    }
}

/// A record that counted and is gone, with what it needs.
pub struct MissedRecord {
    pub record: Arc<SignedRecord>,
    /// When this machine first missed it.
    pub since: Timestamp,
}

/// What a person ignored, here or on the host.
pub(super) fn ignored(store: &TrustStore, trust: &Trust, valid: &[&SignedRecord]) -> BTreeSet<Ignored> {
    let own = valid.iter().filter(|record| *record.signed.signer() == trust.signer);
    let newest = own.max_by_key(|record| record.record.sequence);
    let by_host = newest.map(|record| record.record.ignored.clone()).unwrap_or_default();
    store.ignored.iter().copied().chain(by_host).collect()
}

pub(super) fn judge(trust: &Trust, sequence: u64, found: Fetched, seen: Seen, ignored: &BTreeSet<Ignored>) -> Listed {
    let digest = found.digest();
    let (record, valid) = match found {
        Fetched::Record { record, .. } => match trust.judge(&record) {
            Standing::Counts => (Ok(Arc::clone(&record)), Some(record)),
            Standing::Claim => (Err(Unusable::Claim { signer: record.signed.signer().clone() }), Some(record)),
            Standing::Untrusted => (Err(Unusable::Untrusted { signer: record.signed.signer().clone() }), Some(record)),
        },
        Fetched::Newer { signer, format, .. } if trust.counts(sequence, &signer) => {
            (Err(Unusable::Newer { format }), None)
        }
        Fetched::Newer { signer, .. } => (Err(Unusable::Untrusted { signer }), None),
        Fetched::Damaged { why, .. } => (Err(Unusable::Damaged(why)), None),
        Fetched::Missing => (Err(Unusable::Damaged(fetch::NOT_FETCHED.to_owned())), None),
        Fetched::NotRead => (Err(Unusable::NotRead), None),
    };
    let stored = seen.modified;
    let listed = Listed { sequence, record, valid, digest, ignored: false, seen, stored };
    Listed { ignored: is_ignored(&listed.judged(), ignored), ..listed }
}
