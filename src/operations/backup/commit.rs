//! The commit: a record goes out, once, and only when all that it needs was seen in the store.
//!
//! Its bytes are on this host's disk before they are sent, so that a crash in between leaves no doubt whose record it
//! is: found there later, it is ours; not found, it is sent again or dropped.

use std::time::Duration;

use super::OperationError;
use super::keys::{check_keys, look_after_keys};
use super::known::missing_of;
use super::{Listing, Remote};
use crate::crypto::PublicSigner;
use crate::operations::history::remember_own;
use crate::repository::{Record, SignedRecord, layout};
use crate::state::{Catalog, HostState, Last, Pins};
use crate::store::{Creation, Stored};

/// A listing older than this is read again before anything is sent.
const LISTING_VALID: Duration = Duration::from_secs(3600);
/// How many taken numbers are passed over.
const NUMBERS: usize = 100;

/// Signs and sends `record`; it comes back as it was stored. `seen` says what is known to be in the store, `put_now` what
/// this very run put there.
pub(super) async fn commit(
    remote: &Remote,
    host: &HostState,
    mut record: Record,
    seen: &Listing,
    believed: &[PublicSigner],
    put_now: impl Fn(&str) -> bool,
) -> Result<SignedRecord, OperationError> {
    let mut relisted = if seen.read.elapsed() < LISTING_VALID { None } else { Some(remote.list().await?) };
    if let Some(listing) = &mut relisted {
        // An operator may have rotated the keys meanwhile.
        for warning in look_after_keys(remote, host, listing, &[], believed).await? {
            tracing::warn!(%warning, "keys changed while the backup ran");
        }
    }
    let listing = relisted.as_ref().unwrap_or(seen);
    let missing: Vec<String> = missing_of(&record, listing).into_iter().filter(|name| !put_now(name)).collect();
    if !missing.is_empty() {
        return Err(OperationError::OtherWriter(format!(
            "{} disappeared from the repository while the backup ran",
            missing.join(", ")
        )));
    }
    check_keys(host, &record.epochs, listing)?;
    for _ in 0..NUMBERS {
        let signed = record.sign(&host.signer).map_err(|error| OperationError::Usage(error.to_string()))?;
        host.set_unsent(signed.bytes())?;
        let own = SignedRecord { record: record.clone(), signed };
        if send(remote, host, &own).await? {
            tracing::info!(sequence = own.record.sequence, bytes = own.signed.bytes().len(), "record stored");
            return Ok(own);
        }
        record.sequence = layout::next_sequence(record.sequence).ok_or(OperationError::NoNumberLeft)?;
    }
    Err(OperationError::OtherWriter("somebody fills the snapshot numbers above the newest snapshot".to_owned()))
}

/// `false`: the number is taken by something that carries no valid signature.
async fn send(remote: &Remote, host: &HostState, own: &SignedRecord) -> Result<bool, OperationError> {
    let sequence = own.record.sequence;
    match remote.store.create(&layout::record(sequence), Stored::from(own.signed.clone())).await? {
        Creation::Created => return Ok(true),
        Creation::AlreadyThere => {}
    }
    match remote.record(sequence).await? {
        Ok(found) if found.signed.bytes() == own.signed.bytes() => Ok(true),
        Ok(found) if *found.signed.signer() == host.signer.public() => Err(OperationError::OtherWriter(format!(
            "snapshot {sequence} was just written with this host's own key by another machine: one of them is a copy"
        ))),
        Ok(found) => Err(OperationError::OtherWriter(format!(
            "snapshot {sequence} was just written by another host ({})",
            found.record.host
        ))),
        Err(OperationError::Verification { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Makes a committed record this host's parent and the newest that this machine saw, and `catalog`, where it changed, that
/// of its packs.
pub(super) fn settle(
    host: &HostState,
    mut pins: Pins,
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
    remember_own(&mut pins, committed);
    pins.save(host.dir())?;
    Ok(host.drop_unsent()?)
}
