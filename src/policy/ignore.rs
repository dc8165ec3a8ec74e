//! Which records a person may ignore.
//!
//! A record that does not count blocks deletion until a person ignores it. What the trusted chain of signers signed cannot
//! be ignored, in a newer format either. Ignoring deletes nothing: what a record with a valid signature names stays
//! protected until the record is removed.

use std::collections::BTreeSet;

use crate::crypto::Digest;
use crate::format::Ignored;

/// What a reader makes of one listed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordVerdict {
    /// Signed by the trusted chain, and readable.
    Counts,
    /// Signed by the trusted chain, in a format that this version does not read.
    NewerFormat,
    /// Signed by a key that claims a takeover from the trusted one.
    Claim,
    /// A valid signature by a key that neither counts nor claims.
    Untrusted,
    /// It cannot be read, or its signature fails.
    Damaged,
}

impl RecordVerdict {
    /// Whether a person may ignore such a record.
    pub fn can_be_ignored(self) -> bool {
        matches!(self, Self::Claim | Self::Untrusted | Self::Damaged)
    }
}

/// One listed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    pub sequence: u64,
    /// SHA-256 of its bytes; `None` where the server lists it and does not hand it out, or it is too large to be a record.
    pub digest: Option<Digest>,
    pub verdict: RecordVerdict,
}

/// Why a record cannot be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotIgnored {
    #[error("there is no record of snapshot {0}")]
    NotListed(u64),
    #[error("snapshot {0} is signed by the trusted key")]
    Counts(u64),
    #[error("snapshot {0} is signed by the trusted key, in a newer format")]
    NewerFormat(u64),
    #[error("the record of snapshot {0} is listed, but its bytes cannot be fetched")]
    NoBytes(u64),
}

/// What is to be remembered where a person ignores the records `named`. All of them, or none.
pub fn ignore(listed: &[ListedRecord], named: &BTreeSet<u64>) -> Result<Vec<Ignored>, NotIgnored> {
    named.iter().map(|sequence| ignore_one(listed, *sequence)).collect()
}

fn ignore_one(listed: &[ListedRecord], sequence: u64) -> Result<Ignored, NotIgnored> {
    let record = listed.iter().find(|record| record.sequence == sequence).ok_or(NotIgnored::NotListed(sequence))?;
    match (record.verdict, record.digest) {
        (RecordVerdict::Counts, _) => Err(NotIgnored::Counts(sequence)),
        (RecordVerdict::NewerFormat, _) => Err(NotIgnored::NewerFormat(sequence)),
        (_, None) => Err(NotIgnored::NoBytes(sequence)),
        (_, Some(digest)) => Ok(Ignored(sequence, digest)),
    }
}

/// Whether a person ignored this record: the bytes that are there, and no others under its number.
pub fn is_ignored(record: &ListedRecord, ignored: &BTreeSet<Ignored>) -> bool {
    let known = record.digest.is_some_and(|digest| ignored.contains(&Ignored(record.sequence, digest)));
    known && record.verdict.can_be_ignored()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, verdict: RecordVerdict) -> ListedRecord {
        ListedRecord { sequence, digest: Some(digest(sequence)), verdict }
    }

    fn digest(sequence: u64) -> Digest {
        Digest::from_bytes([u8::try_from(sequence).expect("small"); 32])
    }

    #[test]
    fn what_does_not_count_can_be_ignored_and_what_the_trusted_chain_signed_cannot() {
        use RecordVerdict::{Claim, Counts, Damaged, NewerFormat, Untrusted};
        let listed = [
            record(1, Counts),
            record(2, NewerFormat),
            record(3, Claim),
            record(4, Untrusted),
            record(5, Damaged),
            ListedRecord { digest: None, ..record(6, Damaged) },
        ];
        let ignore = |sequence: u64| ignore(&listed, &[sequence].into());
        assert_eq!(ignore(1), Err(NotIgnored::Counts(1)));
        assert_eq!(ignore(2), Err(NotIgnored::NewerFormat(2)));
        for sequence in 3..=5 {
            assert_eq!(ignore(sequence), Ok(vec![Ignored(sequence, digest(sequence))]));
        }
        assert_eq!(ignore(6), Err(NotIgnored::NoBytes(6)));
        assert_eq!(ignore(7), Err(NotIgnored::NotListed(7)));
    }

    #[test]
    fn where_one_cannot_be_ignored_none_is() {
        let listed = [record(1, RecordVerdict::Counts), record(5, RecordVerdict::Damaged)];
        assert_eq!(ignore(&listed, &[1, 5].into()), Err(NotIgnored::Counts(1)));
    }

    #[test]
    fn other_bytes_under_an_ignored_number_are_not_ignored() {
        let damaged = record(5, RecordVerdict::Damaged);
        assert!(is_ignored(&damaged, &[Ignored(5, digest(5))].into()));
        assert!(!is_ignored(&damaged, &[Ignored(5, digest(6))].into()));
        assert!(!is_ignored(&damaged, &[Ignored(6, digest(5))].into()));
        assert!(!is_ignored(&ListedRecord { digest: None, ..damaged }, &[Ignored(5, digest(5))].into()));
    }

    /// The host's record may name bytes that count once another signer is trusted.
    #[test]
    fn what_counts_is_never_ignored() {
        for verdict in [RecordVerdict::Counts, RecordVerdict::NewerFormat] {
            assert!(!is_ignored(&record(5, verdict), &[Ignored(5, digest(5))].into()));
        }
    }
}
