//! Which snapshot is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{History, Listed, Unusable, unusable};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{SignedRecord, layout};
use crate::repository::Seen;

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Latest,
    Sequence(u64),
    /// The last at or before this time, by the times that `status` and retention go by.
    At(Timestamp),
}

/// The records that decide which snapshot is meant, by a listing alone; `None`: all of them may.
pub(super) fn deciding(listing: &BTreeMap<u64, Seen>, selector: &Selector) -> Option<BTreeSet<u64>> {
    let newest = *listing.keys().next_back()?;
    match selector {
        Selector::Latest => Some([newest].into()),
        Selector::Sequence(sequence) => Some([*sequence, newest].into()),
        // No snapshot is younger than the server's time of it, and usually it is hardly older.
        Selector::At(time) => {
            let (at, _) = listing.iter().rfind(|(_, seen)| seen.modified <= *time)?;
            let next = listing.range(at + 1..).map(|(sequence, _)| *sequence).take(2);
            Some(next.chain([*at, newest]).collect())
        }
    }
}

impl History {
    /// Whether what was read is enough to tell which snapshot is meant.
    pub(super) fn decides(&self, selector: &Selector) -> bool {
        if !self.is_partial {
            return true;
        }
        let newest_counts = self.listed.last().is_some_and(|listed| listed.record.is_ok());
        match selector {
            Selector::Sequence(_) | Selector::Latest => newest_counts,
            // The one after it was read, too, and is younger.
            Selector::At(time) => {
                let after = self.verified().find(|record| record.record.time > *time);
                let found = self.find(selector).ok().map(|record| record.record.sequence);
                let next = self.listed.iter().find(|listed| found.is_some_and(|found| listed.sequence > found));
                newest_counts
                    && found.is_some()
                    && next.is_none_or(|next| after.is_some_and(|after| after.record.sequence == next.sequence))
            }
        }
    }

    /// The snapshot that is meant. By number, what counts is found whatever else is there. `latest` and a time stop at a claim
    /// of a takeover, and at a newer record in a format that is not read here: then what is the latest is not known.
    pub fn find(&self, selector: &Selector) -> Result<&Arc<SignedRecord>, OperationError> {
        let (found, wanted) = match selector {
            Selector::Sequence(sequence) => return self.find_number(*sequence),
            Selector::Latest => (self.verified().next_back(), None),
            Selector::At(time) => {
                let times = self.times();
                let found = self.verified().rfind(|record| times[&record.record.sequence] <= *time);
                (found, Some(format!("at or before {time}")))
            }
        };
        self.refuse_claims()?;
        let above = found.map_or(0, |record| record.record.sequence);
        let is_newer =
            |listed: &&Listed| listed.sequence > above && matches!(listed.record, Err(Unusable::Newer { .. }));
        if let Some(Listed { sequence, record: Err(why), .. }) = self.listed.iter().find(is_newer) {
            return Err(unusable(*sequence, why));
        }
        found.ok_or_else(|| self.nothing_found(wanted))
    }

    /// An error where a takeover is claimed that no person has accepted or ignored.
    pub fn refuse_claims(&self) -> Result<(), OperationError> {
        match self.claims.last() {
            Some(claim) => Err(OperationError::SignerClaim(Box::new(claim.clone()))),
            None => Ok(()),
        }
    }

    fn find_number(&self, sequence: u64) -> Result<&Arc<SignedRecord>, OperationError> {
        let listed = self.listed.iter().find(|listed| listed.sequence == sequence);
        let listed = listed.ok_or_else(|| OperationError::NoSnapshot(Some(sequence.to_string())))?;
        match &listed.record {
            Ok(record) => Ok(record),
            Err(Unusable::Claim { .. }) if !listed.ignored => {
                self.refuse_claims()?;
                Err(OperationError::NoSnapshot(Some(sequence.to_string())))
            }
            Err(why) => Err(unusable(sequence, why)),
        }
    }

    /// Snapshots that are there and do not count, every one of them, are not the same as no snapshot; nor are those that this
    /// machine verified and that are all gone.
    fn nothing_found(&self, wanted: Option<String>) -> OperationError {
        let all_gone = |finding: &Finding| match finding {
            Finding::RolledBack { snapshot, newest: None } => Some(*snapshot),
            _ => None,
        };
        if let Some(newest) = self.warnings.iter().find_map(all_gone) {
            let why = "this machine verified it before, and now the repository holds no snapshot".to_owned();
            return OperationError::Verification { object: layout::record(newest).to_string(), why };
        }
        match self.listed.last() {
            Some(Listed { sequence, record: Err(why), .. }) if self.verified().next().is_none() => {
                unusable(*sequence, why)
            }
            _ => OperationError::NoSnapshot(wanted),
        }
    }
}
