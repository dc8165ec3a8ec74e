//! Which stored blocks the next snapshot may refer to, and what is missing of what earlier ones need.
//!
//! Rule 1 of why no lock is needed: only packs that the parent record refers to, or that an interrupted run of this
//! host left and that are no older than the parent record by the server's clock; and all of them seen in the listing
//! with their sizes. What retention may delete is strictly older than the newest record, so it is none of these.

use std::collections::HashSet;

use super::{BadObjects, Listing, OperationError, Remote, Seen, Warning};
use crate::crypto::Digest;
use crate::format::{Epoch, SignedRecord};
use crate::host::{Catalog, CatalogPack, HostState, Loaded};
pub(super) use crate::repository::missing_of;

/// The part of the host's catalog that this run may use.
pub(super) fn usable_catalog(
    host: &HostState,
    loaded: Loaded,
    listing: &Listing,
    parent: Option<&(SignedRecord, Seen)>,
    warnings: &mut Vec<Warning>,
) -> Catalog {
    // Packs of another epoch are of no use to this one, whatever the catalog said.
    let used = |epoch: &Epoch| epoch.epoch == host.sealed_to.epoch && !epoch.packs.is_empty();
    let told_of_packs = match parent {
        Some((parent, _)) => parent.record.epochs.iter().any(used),
        None => !listing.packs.is_empty(),
    };
    if !loaded.whole && told_of_packs {
        let text = "the catalog of stored blocks is missing or damaged: what it no longer tells is uploaded again";
        warnings.push(Warning::standing("catalog-lost", text));
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

/// The warning of objects that somebody else deleted or cut, or that a check found damaged, with every listed snapshot
/// that they hurt.
pub(super) async fn warn_of_missing(
    remote: &Remote,
    listing: &Listing,
    bad: &BadObjects,
    missing: &[String],
) -> Result<Warning, OperationError> {
    let sequences: Vec<u64> = listing.records.keys().copied().collect();
    let hurts =
        |record: &SignedRecord| missing_of(&record.record, listing).iter().any(|name| !bad.is_only_doubted(name));
    let records = remote.records(&sequences).await?.into_iter();
    let hurt = records.filter(|(_, record)| record.as_ref().is_ok_and(hurts)).map(|(sequence, _)| sequence.to_string());
    let hurt: Vec<String> = hurt.collect();
    let (objects, again) =
        (missing.join(", "), "What still exists here is uploaded again, so that the new snapshot is whole");
    let text = match hurt.is_empty() {
        false => format!(
            "{objects} missing from the repository, of another size or found damaged: snapshot {} cannot be restored in \
             full. {again}",
            hurt.join(", ")
        ),
        true => {
            format!("{objects} perhaps hold something wrong, by a check of a snapshot that is gone or hurt. {again}")
        }
    };
    Ok(Warning::doubt("objects-missing", text))
}
