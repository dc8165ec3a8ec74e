//! Objects that a backup treats as missing, so that it uploads again what still exists on the host: those that the host's own
//! checks found bad, and those that a person names with `--replace`.

use crate::error::OperationError;
use crate::format::layout;
use crate::host::BadObjects;
use crate::repository::{Listing, Remote};
use crate::store::Key;

/// Takes what is `bad`, and what a person wants to `replace`, out of `listing`. Fails where a name to replace is that of no
/// pack or manifest which is there or which a record needs.
pub(crate) async fn treat_as_missing(
    remote: &Remote,
    listing: &mut Listing,
    bad: &BadObjects,
    replace: &[Key],
) -> Result<(), OperationError> {
    let unlisted: Vec<&Key> = replace.iter().filter(|key| !strike(listing, key)).collect();
    for key in bad.names().filter_map(|name| Key::new(name.as_str()).ok()) {
        strike(listing, &key);
    }
    match unlisted.as_slice() {
        [] => Ok(()),
        unlisted => refuse_unknown(remote, listing, unlisted).await,
    }
}

/// Whether the object was listed.
fn strike(listing: &mut Listing, key: &Key) -> bool {
    let Some(name) = layout::digest(key) else { return false };
    let objects = match key.as_str().starts_with(layout::PACKS) {
        true => &mut listing.packs,
        false => &mut listing.manifests,
    };
    objects.remove(&name).is_some()
}

/// An object that is gone may be named, too: records say that it belongs to the repository.
async fn refuse_unknown(remote: &Remote, listing: &Listing, unlisted: &[&Key]) -> Result<(), OperationError> {
    let sequences: Vec<u64> = listing.records.keys().copied().collect();
    let records = remote.records(&sequences).await?;
    let is_needed = |key: &Key| {
        records.iter().filter_map(|(_, record)| record.as_ref().ok()).any(|signed| {
            let record = &signed.record;
            layout::manifest(&record.manifest.name) == *key || record.packs().any(|pack| layout::pack(&pack.0) == *key)
        })
    };
    match unlisted.iter().find(|key| !is_needed(key)) {
        None => Ok(()),
        Some(unknown) => {
            Err(OperationError::Usage(format!("--replace: {unknown} is no pack or manifest of this repository")))
        }
    }
}
