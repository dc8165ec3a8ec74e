//! The commit: a record goes out, once, under the number after its parent.
//!
//! Each attempt to put it follows a listing, no older than a minute by a clock that counts suspends, that showed the
//! parent as the newest record. So of two writers one finds the other's record, or loses the race for the number.
//!
//! Its bytes are on this host's disk before they are sent, so that a crash in between leaves no doubt whose record it
//! is: found there later, it is ours; not found, it is sent again or dropped.

use std::time::Duration;

use tokio::time::sleep;

use super::OperationError;
use super::parent::{self, ParentSnapshot};
use crate::clock::BootInstant;
use crate::crypto::PublicSigner;
use crate::format::ranges::{contains, joined};
use crate::format::{CreateOnce, Record, SignedRecord, layout};
use crate::history::TrustStore;
use crate::host::{Catalog, HostState, Last};
use crate::policy::parent::ParentConflict;
use crate::repository::{Records, Remote};
use crate::store::{Creation, Stored};

/// A listing that is older than this does not show any more that the parent is the newest record.
const LISTING_VALID: Duration = Duration::from_secs(60);
/// How often a record is put, and how many taken numbers are passed over.
const ATTEMPTS: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

pub(super) struct Commit<'a> {
    pub remote: &'a Remote,
    pub host: &'a HostState,
    pub parent: Option<SignedRecord>,
    /// When the listing began that showed the parent as the newest record.
    pub listed: BootInstant,
}

impl Commit<'_> {
    /// Signs and sends `record`; it comes back as it was stored.
    pub async fn run(mut self, mut record: Record) -> Result<SignedRecord, OperationError> {
        let (mut pause, mut attempt) = (FIRST_PAUSE, 0);
        loop {
            let signed = record.sign(&self.host.signer).map_err(|error| OperationError::Usage(error.to_string()))?;
            self.host.set_unsent(signed.bytes())?;
            let own = SignedRecord { record: record.clone(), signed };
            attempt += 1;
            if self.listed.elapsed() > LISTING_VALID {
                if attempt >= ATTEMPTS {
                    return Err(OperationError::NoListingInTime);
                }
                self.look_again(&mut record).await?;
                continue;
            }
            match self.send(&own).await {
                Ok(Sent::Stored) => {
                    self.look_behind(&own).await?;
                    tracing::info!(sequence = own.record.sequence, bytes = own.signed.bytes().len(), "record stored");
                    return Ok(own);
                }
                Ok(Sent::NumberTaken) if attempt < ATTEMPTS => self.look_again(&mut record).await?,
                Ok(Sent::NumberTaken) => return Err(OperationError::NoNumberLeft),
                Err(OperationError::Store(error)) if error.is_retryable() && attempt < ATTEMPTS => {
                    tracing::info!(%error, attempt, "the record is put again after another listing");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.look_again(&mut record).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn list(&self) -> Result<(BootInstant, Records), OperationError> {
        let listed = BootInstant::now();
        let first = self.parent.as_ref().map_or(1, |parent| parent.record.sequence);
        Ok((listed, self.remote.list_records_from(first).await?))
    }

    /// Whether this host may still continue from its parent; the record gets the next number that is free now.
    async fn look_again(&mut self, record: &mut Record) -> Result<(), OperationError> {
        let (listed, records) = self.list().await?;
        let now = parent::confirm(self.remote, &records, self.host, self.parent.as_ref()).await?;
        let before = self.parent.as_ref().map_or(0, |parent| parent.record.sequence);
        record.sequence = now.next;
        if let Some(newest) = now.signed().filter(|newest| newest.record.sequence > before) {
            if *newest.signed.signer() == self.host.signer.public() {
                // An attempt whose answer was lost stored it.
                record.sequence = newest.record.sequence;
            } else {
                // Before the first record of a takeover, the host before wrote once more.
                self.follow(newest.clone(), &records, record);
                record.takeovers.clone_from(&now.takeovers);
            }
        }
        self.listed = listed;
        Ok(())
    }

    /// Makes `newest` the parent of `record`.
    fn follow(&mut self, newest: SignedRecord, records: &Records, record: &mut Record) {
        let before = self.parent.as_ref().map_or(0, |parent| parent.record.sequence);
        let sequence = newest.record.sequence;
        let counts = |number: &u64| *number == sequence || contains(&newest.record.earlier, *number);
        let since = records.listed.keys().copied().filter(|number| *number > before).filter(counts);
        record.earlier = joined(record.earlier.iter().copied().chain(since.map(|number| (number, number))));
        record.previous = Some(newest.signed.digest());
        self.parent = Some(newest);
    }

    async fn send(&self, own: &SignedRecord) -> Result<Sent, OperationError> {
        let sequence = own.record.sequence;
        let key = layout::record(sequence);
        if self.remote.store.create_attempt(&key, Stored::from(own.signed.clone())).await? == Creation::Created {
            return Ok(Sent::Stored);
        }
        match self.remote.record(sequence).await? {
            Ok(found) if found.signed.bytes() == own.signed.bytes() => Ok(Sent::Stored),
            Ok(found) if counts_for(&found, &self.host.signer.public()) => {
                let (host, fingerprint) = (found.record.host.clone(), found.signed.signer().fingerprint());
                Err(ParentConflict::Raced { snapshot: sequence, host, fingerprint }.into())
            }
            // It does not count, and the number is taken all the same.
            Ok(_) | Err(_) => Ok(Sent::NumberTaken),
        }
    }

    /// On a server without conditional puts: whether another writer put a record at the same time.
    async fn look_behind(&self, own: &SignedRecord) -> Result<(), OperationError> {
        if own.record.create_once == CreateOnce::Conditional {
            return Ok(());
        }
        let (_, records) = self.list().await?;
        parent::confirm(self.remote, &records, self.host, Some(own)).await.map(drop)
    }
}

enum Sent {
    Stored,
    /// Something that does not count is there.
    NumberTaken,
}

/// Whether it is by this host's own key, or by one that claims to have taken over from it.
fn counts_for(found: &SignedRecord, own: &PublicSigner) -> bool {
    found.signed.signer() == own || found.record.takeovers.iter().any(|step| step.from == *own)
}

/// Makes a committed record this host's parent and the newest that this machine saw, and `catalog`, where it changed,
/// that of its packs.
pub(super) fn settle(
    remote: &Remote,
    host: &HostState,
    parent: &ParentSnapshot,
    committed: &SignedRecord,
    catalog: Option<&Catalog>,
    last: &Last,
) -> Result<(), OperationError> {
    host.set_parent(committed.signed.bytes())?;
    if let Some(catalog) = catalog {
        let needed: std::collections::HashSet<_> = committed.record.packs().map(|pack| pack.0).collect();
        catalog.save(host.dir(), |name| needed.contains(name))?;
    }
    host.set_last(last)?;
    host.drop_take_over()?;
    remember(remote, host, parent.store.clone(), committed)?;
    Ok(host.drop_unsent()?)
}

/// This machine's own new record is the newest that it saw.
pub(super) fn remember(
    remote: &Remote,
    host: &HostState,
    mut store: TrustStore,
    own: &SignedRecord,
) -> Result<(), OperationError> {
    let signer = own.signed.signer().clone();
    let former = own.record.takeovers.iter().map(|step| step.from.clone()).collect();
    store.accepted = Some(crate::policy::trust::Accepted { signer, former });
    store.look(&remote.location).add_own(own.record.sequence, own.signed.digest());
    Ok(store.save(host.dir())?)
}
