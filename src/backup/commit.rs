//! The commit: a record goes out, once, and only when all that it needs was seen in the store, not long ago.
//!
//! What this run put there is younger than the newest record, so no retention touches it, for as long as this host's parent
//! is the newest. Should somebody else's record be there by then, the grace period protects for a while, and a look that is
//! younger than that finds it.
//!
//! Its bytes are on this host's disk before they are sent, so that a crash in between leaves no doubt whose record it
//! is: found there later, it is ours; not found, it is sent again or dropped.

use std::time::{Duration, Instant};

use super::OperationError;
use super::keys::{check_keys, look_after_keys};
use super::known::missing_of;
use super::{Listing, Remote, parent};
use crate::crypto::PublicSigner;
use crate::format::{Record, SignedRecord, layout};
use crate::history::remember_own;
use crate::host::{Catalog, HostState, Last, Pins};
use crate::store::{Creation, Stored};

/// What was seen or put longer ago than this is looked for again before anything is sent.
const LOOK_VALID: Duration = Duration::from_secs(3600);
/// How many taken numbers are passed over.
const NUMBERS: usize = 100;

/// Signs and sends `record`, which follows `parent`; it comes back as it was stored. `seen` says what is known to be in the
/// store, `put_at` when this very run put something there.
pub(super) async fn commit(
    remote: &Remote,
    host: &HostState,
    parent: Option<&SignedRecord>,
    mut record: Record,
    seen: &Listing,
    believed: &[PublicSigner],
    put_at: impl Fn(&str) -> Option<Instant>,
) -> Result<SignedRecord, OperationError> {
    // Half of what protects is left for the sending.
    let valid = LOOK_VALID.min(Duration::from_secs(remote.descriptor.grace_seconds) / 2);
    let mut relisted = None;
    for _ in 0..NUMBERS {
        let mut listing = relisted.as_ref().unwrap_or(seen);
        if listing.read.elapsed() >= valid {
            // Boxed, because hardly any run comes here.
            listing = relisted.insert(Box::pin(look_again(remote, host, parent, believed)).await?);
        }
        let is_fresh = |name: &String| put_at(name).is_some_and(|put| put.elapsed() < valid);
        let missing: Vec<String> = missing_of(&record, listing).into_iter().filter(|name| !is_fresh(name)).collect();
        if !missing.is_empty() {
            return Err(OperationError::Disappeared { objects: missing });
        }
        check_keys(host, &record.epochs, listing)?;
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

/// Everything that is there by now, if this host still is the one that writes here.
async fn look_again(
    remote: &Remote,
    host: &HostState,
    parent: Option<&SignedRecord>,
    believed: &[PublicSigner],
) -> Result<Listing, OperationError> {
    let mut listing = remote.list().await?;
    parent::confirm(remote, &listing, host, parent).await?;
    // An operator may have rotated the keys meanwhile.
    for warning in look_after_keys(remote, host, &mut listing, &[], believed).await? {
        tracing::warn!(%warning, "keys changed while the backup ran");
    }
    Ok(listing)
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
