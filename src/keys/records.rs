//! Which data identity belongs to which epoch, in as few requests as can be: the signed records say it, and epochs only
//! grow with their numbers.
//!
//! Where the newest record is signed by whom the reader trusts and is no older than what he saw before, the others are
//! judged by its list of take-overs and only those asked for are read; in all other cases the whole history is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{Epoch, SignedRecord, TakeOver, layout};
use crate::history::{History, Pin, Reader, Selector, Trust, take_overs_of};
use crate::host::Pins;
use crate::repository::Remote;

/// The records that count, fetched one by one as they are asked for.
pub(super) struct Records<'a> {
    remote: &'a Remote,
    trust: Trust,
    /// In ascending order, those left out that turned out not to count.
    sequences: Vec<u64>,
    read: BTreeMap<u64, Arc<SignedRecord>>,
    pub warnings: Vec<Warning>,
}

impl<'a> Records<'a> {
    /// Lists the records and reads the newest.
    pub async fn list(remote: &'a Remote, reader: &Reader) -> Result<Self, OperationError> {
        let listing = remote.list_records().await?;
        let state_dir = reader.state_dir(remote);
        let pins = Pins::load(&state_dir)?;
        let pin = reader.pin(remote, &pins);
        let newest = match listing.keys().next_back() {
            Some(sequence) => remote.record(*sequence).await?.ok().filter(|record| is_as_expected(record, &pin, &pins)),
            None => return Err(OperationError::NoSnapshot(None)),
        };
        let Some(newest) = newest.filter(|_| reader.accept.is_none()) else {
            let history = History::of(remote, reader, &listing).await?;
            history.find(&Selector::Latest)?;
            history.refuse_exchanged(remote)?;
            return Ok(Self::of(remote, &history));
        };
        pin.refuse_exchanged(remote)?;
        let newest = Arc::new(newest);
        // A signer is never remembered on the repository's word alone.
        if pin.warning.is_none() {
            let seen = Some((newest.record.sequence, newest.signed.digest()));
            let pins = Pins { signer: Some(pin.signer.clone()), newest: seen, ..pins.clone() };
            if let Err(error) = pins.save(&state_dir) {
                tracing::debug!(%error, "pins could not be remembered");
            }
        }
        Ok(Self {
            remote,
            trust: Trust::of(pin.signer, std::slice::from_ref(&newest), &pins),
            sequences: listing.into_keys().collect(),
            read: BTreeMap::from([(newest.record.sequence, newest)]),
            warnings: pin.warning.into_iter().collect(),
        })
    }

    fn of(remote: &'a Remote, history: &History) -> Self {
        let records: Vec<Arc<SignedRecord>> = history.verified().cloned().collect();
        Self {
            remote,
            trust: history.trust(),
            sequences: records.iter().map(|record| record.record.sequence).collect(),
            read: records.into_iter().map(|record| (record.record.sequence, record)).collect(),
            warnings: history.warnings.clone(),
        }
    }

    /// Who signs now.
    pub fn signer(&self) -> &PublicSigner {
        &self.trust.signer
    }

    /// A record that counts and names `epoch`, with what it says of it; `None` where no snapshot needs it.
    pub async fn naming(&mut self, epoch: u32) -> Result<Option<(Arc<SignedRecord>, Epoch)>, OperationError> {
        let named = |record: &Arc<SignedRecord>| {
            let entry = record.record.epochs.iter().find(|entry| entry.epoch == epoch)?;
            Some((Arc::clone(record), entry.clone()))
        };
        if let Some(found) = self.read.values().rev().find_map(named) {
            return Ok(Some(found));
        }
        let (mut low, mut high) = (0, self.sequences.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(self.sequences[middle]).await? {
                Some(record) => match named(&record) {
                    Some(found) => return Ok(Some(found)),
                    None if record.record.manifest.epoch < epoch => low = middle + 1,
                    None => high = middle,
                },
                // It is out of the list now.
                None => high -= 1,
            }
        }
        Ok(None)
    }

    /// One record; one that does not count leaves the list, with a warning.
    async fn read(&mut self, sequence: u64) -> Result<Option<Arc<SignedRecord>>, OperationError> {
        if let Some(record) = self.read.get(&sequence) {
            return Ok(Some(Arc::clone(record)));
        }
        let why = match self.remote.record(sequence).await? {
            Ok(record) if self.trust.counts(&record) => {
                let record = Arc::new(record);
                self.read.insert(sequence, Arc::clone(&record));
                return Ok(Some(record));
            }
            Ok(record) => self.trust.refusal(&record),
            Err(error) => error.to_string(),
        };
        self.sequences.retain(|listed| *listed != sequence);
        let text = format!("{} cannot be verified and is passed over: {why}", layout::record(sequence));
        self.warnings.push(Warning::doubt("unverifiable-record", text));
        Ok(None)
    }
}

/// Whether the newest record needs no second look: its signer is the trusted one, and nothing newer was ever seen.
fn is_as_expected(newest: &SignedRecord, pin: &Pin, pins: &Pins) -> bool {
    let (sequence, digest) = (newest.record.sequence, newest.signed.digest());
    let follows = |before: (u64, _)| before.0 < sequence || before == (sequence, digest);
    let tells_the_same = |known: Vec<TakeOver>| newest.record.take_overs == known;
    *newest.signed.signer() == pin.signer
        && pins.newest.is_none_or(follows)
        && take_overs_of(pins, &pin.signer).is_none_or(tells_the_same)
}
