//! What this host knows of the wrapped keys, brought up to date with a listing: it keeps every generation that it sees,
//! and puts back what was there at its last look when an epoch has lost all of its keys.
//!
//! It never brings back a generation that another one replaced, nor one that is older than such a one or than one that a
//! believed receipt says was opened: whom an operator removed stays removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Listing, OperationError, Remote, Seen, Warning};
use crate::clock;
use crate::crypto::{Digest, PublicSigner, Recipient};
use crate::format::{Epoch, KeyHolders, SignedReceipt, layout};
use crate::host::{HostState, KeptKey, KeptKeys};
use crate::repository::kept_keys::{
    News, accept_opened, keep_listed, managed_by_rotation, names, opens_keys, standing_warnings,
};
use crate::repository::receipts::receipts;
use crate::store::{Creation, Stored};

/// Compares what is kept with `listing`; what is put back is added to it. `receipts` are those that are believed, as far as
/// they were read already, by the signers `believed`.
pub(super) async fn look_after_keys(
    remote: &Remote,
    host: &HostState,
    listing: &mut Listing,
    receipts: &[SignedReceipt],
    believed: &[PublicSigner],
) -> Result<Vec<Warning>, OperationError> {
    let mut kept = KeptKeys::load(host.dir())?;
    // What is gone first: it makes room.
    let mut there: BTreeMap<u32, BTreeSet<u32>> = kept.iter().map(|key| (key.epoch, BTreeSet::new())).collect();
    for (epoch, generation) in listing.keys.keys() {
        there.entry(*epoch).or_default().insert(*generation);
    }
    let mut lost = Vec::new();
    for (epoch, generations) in there {
        if !generations.is_empty() {
            kept.mark_gone(epoch, |generation| generations.contains(&generation))?;
        } else if kept.iter().any(|key| key.epoch == epoch && !key.gone) {
            lost.push(epoch);
        }
    }
    accept_opened(&mut kept, receipts)?;
    let mut warnings = Vec::new();
    for epoch in lost {
        if epoch == host.sealed_to.epoch || is_needed(remote, listing, epoch).await? {
            warnings.extend(put_back(remote, &mut kept, listing, epoch, believed).await?);
        } else {
            kept.mark_gone(epoch, |_| false)?;
        }
    }
    let News { found, left } = keep_listed(remote, &mut kept, &listing.keys).await?;
    accept_opened(&mut kept, receipts)?;
    warnings.extend(standing_warnings(&kept, &found, !believed.is_empty()));
    if !left.is_empty() {
        let text =
            format!("{} was made elsewhere and could not be kept here: too large, too many or denied", names(left));
        warnings.push(Warning::standing("keys-not-kept", text));
    }
    Ok(warnings)
}

async fn is_needed(remote: &Remote, listing: &Listing, epoch: u32) -> Result<bool, OperationError> {
    let sequences: Vec<u64> = listing.records.keys().copied().collect();
    let records = remote.records(&sequences).await?;
    let needs = |record: &crate::format::SignedRecord| record.record.epochs.iter().any(|entry| entry.epoch == epoch);
    Ok(records.iter().any(|(_, record)| record.as_ref().is_ok_and(needs)))
}

/// Puts back what was there at the last look, or before somebody exchanged it: that is no rotation.
async fn put_back(
    remote: &Remote,
    kept: &mut KeptKeys,
    listing: &mut Listing,
    epoch: u32,
    believed: &[PublicSigner],
) -> Result<Option<Warning>, OperationError> {
    // A listing is no instant, and this one is not from now: a rotation may have shown neither its old key nor its new one.
    let there = remote.list_generations(epoch).await?;
    if !there.is_empty() {
        kept.mark_gone(epoch, |generation| there.contains_key(&generation))?;
        listing.keys.extend(there.into_iter().map(|(generation, seen)| ((epoch, generation), seen)));
        return Ok(None);
    }
    // Whoever confirms a generation says so before he deletes the ones that it replaces.
    let receipts = receipts(remote, believed).await?;
    accept_opened(kept, &receipts)?;
    if is_of_unknown(kept, &receipts, epoch) {
        return Ok(Some(not_put_back(epoch)));
    }
    let mut names = Vec::new();
    for key in last_seen(kept, epoch) {
        let Some(sealed) = kept.sealed(key)? else { continue };
        let bytes = sealed.len();
        let name = layout::data_key(epoch, key.generation);
        if remote.store.create(&name, Stored::from(sealed)).await? == Creation::Created {
            listing.keys.insert((epoch, key.generation), Seen { bytes, modified: clock::now() });
            names.push(name.to_string());
        }
    }
    Ok((!names.is_empty()).then(|| {
        let text = format!(
            "somebody deleted every key of epoch {epoch}; put back from this host's copies: {}",
            names.join(", ")
        );
        Warning::doubt("keys-put-back", text)
    }))
}

/// What was there of `epoch` at the last look and is to be there again, under its own number.
fn last_seen(kept: &KeptKeys, epoch: u32) -> Vec<&KeptKey> {
    let of_epoch = || kept.iter().filter(|key| key.epoch == epoch);
    let exchanged: Vec<(u32, u32)> = kept.exchanged().map(KeptKey::place).collect();
    let replaced = of_epoch().filter(|key| key.gone && !exchanged.contains(&key.place())).map(|key| key.generation);
    let proved = of_epoch().filter(|key| key.accepted).map(|key| key.generation).max();
    let from = replaced.max().map(|gone| gone.saturating_add(1)).max(proved).unwrap_or_default();
    let rightful = of_epoch().filter(|key| !key.gone && key.generation >= from).map(|key| kept.rightful(key));
    rightful.filter(|key| key.set_back.is_none()).collect()
}

/// Whether the last word on `epoch` is about a generation that this host never saw: then those that it knows may be for
/// people whom that one removed.
fn is_of_unknown(kept: &KeptKeys, receipts: &[SignedReceipt], epoch: u32) -> bool {
    let names = |signed: &&SignedReceipt| opens_keys(signed) && signed.receipt.epochs.contains(&epoch);
    let Some(last) = receipts.iter().filter(names).max_by_key(|signed| signed.order()) else { return false };
    // A receipt of several epochs does not say which key is whose.
    let keys = &last.receipt.keys;
    let is_kept = |digest: &Digest| kept.iter().any(|key| key.digest == *digest);
    let is_known = kept.iter().any(|key| key.epoch == epoch && keys.contains(&key.digest));
    !is_known && !keys.iter().all(is_kept)
}

fn not_put_back(epoch: u32) -> Warning {
    let text = format!(
        "somebody deleted every key of epoch {epoch}, and the last receipt about it is of a key that this host never saw: \
         what it has copies of may be for people who were removed since, and is not put back. An operator does it with \
         `sealift keys restore --identity FILE`, from a recovery kit with --from"
    );
    Warning::doubt("keys-not-put-back", text)
}

/// A warning where the configuration names others than those that this host seals for. After a rotation elsewhere the
/// configuration says nothing about that.
pub(super) fn recipients_changed(
    host: &HostState,
    listing: &Listing,
    configured: &[Recipient],
) -> Result<Option<Warning>, OperationError> {
    let kept = KeptKeys::load(host.dir())?;
    if configured.is_empty() || managed_by_rotation(&kept, host.sealed_to.epoch, &listing.keys) {
        return Ok(None);
    }
    let of_epoch = |key: &&KeptKey| key.epoch == host.sealed_to.epoch && key.own && !key.gone;
    let differs = kept.iter().rfind(of_epoch).is_some_and(|key| !KeyHolders::of(&key.recipients).are(configured));
    Ok(differs.then(|| {
        let text = "the recipients in sealift.toml are others than those that the backups are sealed for: \
                    `sealift keys rebase` seals for them from now on, with a full upload";
        Warning::standing("recipients-changed", text)
    }))
}

/// A warning where one person alone opens what is sealed now, whatever the configuration says: the newest generation of
/// the epoch tells how many there are. One that others put there counts only where none that is trusted is left, so that
/// a planted one silences nothing.
pub(super) fn single_recipient(host: &HostState) -> Result<Option<Warning>, OperationError> {
    let kept = KeptKeys::load(host.dir())?;
    let of_epoch = || kept.iter().filter(|key| key.epoch == host.sealed_to.epoch && !key.gone);
    let newest = of_epoch().max_by_key(|key| (key.is_trusted(), key.generation));
    let sealed = newest.map(|key| kept.sealed(key)).transpose()?.flatten();
    Ok(sealed.filter(|sealed| sealed.recipients() == 1).map(|_| Warning::single_recipient()))
}

/// Whoever is to open a snapshot needs a wrapped key of each of its epochs: one that this host knows, whole as far as its
/// size tells. A file that somebody else put there since may open nothing.
///
/// Where this host could keep no more copies, one that it has none of must do: whoever fills the bucket with keys stops no
/// backup.
pub(super) fn check_keys(host: &HostState, epochs: &[Epoch], listing: &Listing) -> Result<(), OperationError> {
    let kept = KeptKeys::load(host.dir())?;
    for Epoch { epoch, .. } in epochs {
        let is_stored = |key: &&KeptKey| {
            let seen = listing.keys.get(&key.place());
            key.epoch == *epoch && !key.gone && seen.is_some_and(|seen| seen.bytes == key.bytes)
        };
        let has_no_copy = |place: &(u32, u32)| place.0 == *epoch && kept.at(*place).is_none();
        let mut known = kept.is_full() && listing.keys.keys().any(has_no_copy);
        for key in kept.iter().filter(is_stored) {
            known |= key.own || kept.sealed(key)?.is_some();
        }
        if !known {
            return Err(OperationError::Verification {
                object: format!("{}{epoch}/", layout::KEYS),
                why: format!(
                    "no wrapped key of this epoch that this host knows is left there whole, so nobody could open the \
                     snapshot; an operator puts one back with `sealift keys restore --identity FILE`, from the copies \
                     in {}",
                    kept.folder().display()
                ),
            });
        }
    }
    Ok(())
}
