//! Which stored blocks the next snapshot may refer to, and what is missing of what earlier ones need.
//!
//! Rule 1 of why no lock is needed: only packs that the parent record refers to, or that an interrupted run of this
//! host left and that are no older than the parent record by the server's clock; and all of them seen in the listing
//! with their sizes. What retention may delete is strictly older than the newest record, so it is none of these.

use std::collections::HashSet;

use super::{BadObjects, Finding, Listing, OperationError, Remote, Seen};
use crate::crypto::Digest;
use crate::format::ranges::ranges;
use crate::format::{Epoch, SignedRecord};
use crate::host::{Catalog, CatalogPack, HostState, Loaded};
pub(super) use crate::repository::missing_of;

/// The part of the host's catalog that this run may use.
pub(super) fn usable_catalog(
    host: &HostState,
    loaded: Loaded,
    listing: &Listing,
    parent: Option<&(SignedRecord, Seen)>,
    warnings: &mut Vec<Finding>,
) -> Catalog {
    // Packs of another epoch are of no use to this one, whatever the catalog said.
    let used = |epoch: &Epoch| epoch.epoch == host.sealed_to.epoch && !epoch.packs.is_empty();
    let has_packs = match parent {
        Some((parent, _)) => parent.record.epochs.iter().any(used),
        None => !listing.packs.is_empty(),
    };
    if !loaded.whole && has_packs {
        warnings.push(Finding::CatalogLost {});
    }
    let needed: HashSet<Digest> =
        parent.iter().flat_map(|(parent, _)| parent.record.packs()).map(|pack| pack.0).collect();
    let usable = |pack: &CatalogPack| {
        let Some(seen) = listing.packs.get(&pack.name).filter(|seen| seen.bytes == pack.bytes) else { return false };
        let fresh = parent.is_none_or(|(_, record)| seen.modified >= record.modified);
        pack.epoch == host.sealed_to.epoch && (fresh || needed.contains(&pack.name))
    };
    Catalog::of_log(loaded, usable)
}

/// The problem of objects that others deleted or cut, or that a check found damaged, with every listed snapshot that needs
/// them.
pub(super) async fn missing_objects(
    remote: &Remote,
    listing: &Listing,
    bad: &BadObjects,
    missing: Vec<String>,
) -> Result<Finding, OperationError> {
    let sequences: Vec<u64> = listing.records.keys().copied().collect();
    let is_incomplete =
        |record: &SignedRecord| missing_of(&record.record, listing).iter().any(|name| !bad.is_only_doubted(name));
    let records = remote.records(&sequences).await?.into_iter();
    let incomplete = records.filter(|(_, record)| record.as_ref().is_ok_and(is_incomplete));
    Ok(Finding::ObjectsMissing { objects: missing, snapshots: ranges(incomplete.map(|(sequence, _)| sequence)) })
}
