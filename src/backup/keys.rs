//! What this host does about key files before each backup: it keeps a copy of each one that it sees, and restores what
//! is gone or replaced, unless a receipt explains that.
//!
//! It opens none of them. A receipt explains what is gone from an epoch where it names, by digest, a key file that is
//! there in that epoch: an operator opened that one. Commands store the receipt before they delete what it explains. So
//! receipts are read after the listing that showed the loss.

use std::collections::{HashMap, HashSet};

use super::{Listing, OperationError, Remote, Seen};
use crate::clock;
use crate::crypto::{Digest, Recipient, sha256};
use crate::finding::Finding;
use crate::format::{Epoch, KeyHolders, MAX_KEY_BYTES, ReceiptKind, SignedReceipt, layout};
use crate::host::{HostState, KeptKey, KeptKeys, NamedKey};
use crate::policy::key_sets::{Place, lost, recovery};
use crate::repository::kept_keys::{copies, keep_listed, key_findings, names, stored};
use crate::repository::key_files::{create_version, first_free};
use crate::repository::receipts::receipts_of_anybody;
use crate::store::StoreError;

/// Compares what is kept with `listing`, in which the key files are those of the last look afterwards.
pub(super) async fn look_after_keys(
    remote: &Remote,
    host: &HostState,
    listing: &mut Listing,
) -> Result<Vec<Finding>, OperationError> {
    let mut kept = KeptKeys::load(host.dir())?;
    let now = listing.server_time.unwrap_or_else(clock::now);
    let look = (host.sealed_to.epoch, now);
    let mut left = keep_listed(remote, &mut kept, &listing.keys, look).await?;
    let mut findings = Vec::new();
    if !lost(&copies(&kept), &stored(&kept, &listing.keys)).is_empty() {
        // A listing is no instant: a rotation may have shown neither its old key file nor its new one.
        listing.keys = remote.list_keys().await?.into_iter().collect();
        left = keep_listed(remote, &mut kept, &listing.keys, look).await?;
        findings.extend(restore_lost(remote, &mut kept, &mut listing.keys).await?);
    }
    findings.extend(key_findings(&kept, listing.keys.keys().copied(), now));
    if !left.is_empty() {
        findings.push(Finding::KeyFilesNotKept { objects: names(left) });
    }
    Ok(findings.into_iter().collect())
}

/// Restores what no receipt explains, and remembers what one does.
async fn restore_lost(
    remote: &Remote,
    kept: &mut KeptKeys,
    listed: &mut HashMap<Place, Seen>,
) -> Result<Option<Finding>, OperationError> {
    let stored = stored(kept, listed);
    let copies = copies(kept);
    if lost(&copies, &stored).is_empty() {
        return Ok(None);
    }
    let receipts = receipts_of_anybody(remote).await?;
    let opened = receipts.iter().filter(|(_, signed)| opens_keys(signed)).flat_map(|(_, signed)| &signed.receipt.keys);
    let recovery = recovery(&copies, &stored, &opened.copied().collect::<HashSet<Digest>>());
    kept.explain(&recovery.explained)?;
    let (mut gone, mut restored) = (Vec::new(), Vec::new());
    for restoration in recovery.restored {
        let copy = kept.copy_of(restoration.copy.place.0, &restoration.copy.digest).cloned();
        let Some(copy) = copy else { continue };
        if let Some(place) = restore(remote, kept, listed, &copy, restoration.to.1).await? {
            gone.push(copy.place());
            restored.push(place);
        }
    }
    let finding = || Finding::KeyFilesRestored { lost: names(gone), objects: names(restored.iter().copied()) };
    Ok((!restored.is_empty()).then(finding))
}

/// Whether the key files that a receipt names were opened.
fn opens_keys(SignedReceipt { receipt, .. }: &SignedReceipt) -> bool {
    receipt.passed && matches!(receipt.kind, ReceiptKind::Confirm | ReceiptKind::Drill)
}

/// Stores a copy under the first free name from `version` on: that name. `None`: it is there after all, although no
/// listing shows it, or the copy is damaged.
async fn restore(
    remote: &Remote,
    kept: &mut KeptKeys,
    listed: &mut HashMap<Place, Seen>,
    copy: &KeptKey,
    mut version: u32,
) -> Result<Option<Place>, OperationError> {
    let Some(sealed) = kept.sealed(copy)? else { return Ok(None) };
    let (epoch, now) = (copy.epoch, clock::now());
    loop {
        let created = create_version(remote.store.as_ref(), epoch, version, &sealed).await?;
        let is_there = created || holds(remote, (epoch, version), &copy.digest).await?;
        if is_there {
            listed.insert((epoch, version), Seen { bytes: copy.bytes, modified: now, etag: None });
            kept.set_name(NamedKey { epoch, version, digest: copy.digest, bytes: copy.bytes, modified: None }, now);
            kept.save()?;
            tracing::info!(epoch, version, "key file restored");
            return Ok(created.then_some((epoch, version)));
        }
        version = first_free(version, |number| listed.contains_key(&(epoch, number)))?;
    }
}

async fn holds(remote: &Remote, (epoch, version): Place, digest: &Digest) -> Result<bool, OperationError> {
    match remote.store.get(&layout::data_key(epoch, version), MAX_KEY_BYTES).await {
        Ok(bytes) => Ok(sha256(&bytes) == *digest),
        Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. } | StoreError::AccessDenied { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A warning where the configuration names others than those that this host encrypts to. Once another machine made a
/// key file of that epoch, the configuration says nothing about that. Without a `listing`, by what was seen last.
pub(super) fn recipients_changed(
    host: &HostState,
    listing: Option<&Listing>,
    configured: &[Recipient],
) -> Result<Option<Finding>, OperationError> {
    let kept = KeptKeys::load(host.dir())?;
    let epoch = host.sealed_to.epoch;
    let is_own = |place: &Place| kept.at(*place).is_some_and(|key| key.own);
    let places: Vec<Place> = match listing {
        Some(listing) => listing.keys.keys().copied().collect(),
        None => kept.names().map(NamedKey::place).collect(),
    };
    if configured.is_empty() || !places.iter().filter(|place| place.0 == epoch).all(is_own) {
        return Ok(None);
    }
    let newest = kept.names().filter(|name| name.epoch == epoch).max_by_key(|name| name.version);
    let newest = newest.and_then(|name| kept.at(name.place()));
    let differs = newest.is_some_and(|key| !KeyHolders::of(&key.recipients).are(configured));
    Ok(differs.then_some(Finding::RecipientsChanged {}))
}

/// A warning where one person alone opens what is encrypted now, whatever the configuration says: the newest key file
/// of the epoch shows how many there are.
pub(super) fn single_recipient(host: &HostState) -> Result<Option<Finding>, OperationError> {
    let kept = KeptKeys::load(host.dir())?;
    let of_epoch = kept.names().filter(|name| name.epoch == host.sealed_to.epoch);
    let copies = of_epoch.filter_map(|name| Some((name.version, kept.at(name.place())?)));
    let newest = copies.max_by_key(|(version, _)| *version).map(|(_, key)| kept.sealed(key)).transpose()?.flatten();
    Ok(newest.filter(|sealed| sealed.recipients() == 1).map(|_| Finding::SingleRecipient {}))
}

/// To open a snapshot takes a key file of each of its epochs: one that this host knows, whole as far as its size shows.
/// A file that was put there since may open nothing.
///
/// Where this host could keep no more copies, one that it has none of must do: whatever fills the bucket with key files
/// stops no backup.
pub(super) fn check_keys(host: &HostState, epochs: &[Epoch], listing: &Listing) -> Result<(), OperationError> {
    let kept = KeptKeys::load(host.dir())?;
    for Epoch { epoch, .. } in epochs {
        let is_whole = |name: &&NamedKey| {
            name.epoch == *epoch && listing.keys.get(&name.place()).is_some_and(|seen| seen.bytes == name.bytes)
        };
        let known = kept.names().filter(is_whole).any(|name| kept.at(name.place()).is_some());
        let copies = kept.iter().filter(|key| key.epoch == *epoch && !key.own).count();
        let has_no_copy = |place: &Place| place.0 == *epoch && kept.at(*place).is_none();
        let may_be_without = copies >= KeptKeys::MAX && listing.keys.keys().any(has_no_copy);
        if !known && !may_be_without {
            return Err(OperationError::Verification {
                object: format!("{}{epoch}/", layout::KEYS),
                why: format!(
                    "no key file of this epoch that this host knows is there, so the snapshot could not be opened. An \
                     operator puts one back with `sealift keys restore --identity FILE`, from the copies in {}",
                    kept.folder().display()
                ),
            });
        }
    }
    Ok(())
}
