//! A host's copies of the wrapped keys beside those in the repository: brought up to date with a listing, and what of
//! them is in doubt.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::crypto::sha256;
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{MAX_KEY_BYTES, ReceiptKind, SignedReceipt, layout};
use crate::host::{KeptKey, KeptKeys};
use crate::repository::Remote;
use crate::repository::Seen;
use crate::store::StoreError;

/// An epoch and a generation.
type Place = (u32, u32);

/// What was new in a listing.
#[derive(Default)]
pub(crate) struct News {
    /// Kept from now on.
    pub found: Vec<Place>,
    /// Not kept: too large, too many, or denied.
    pub left: Vec<Place>,
}

/// Fetches what this host has not seen under its name in its size and of its time, and keeps what it has no copy of.
pub(crate) async fn keep_listed(
    remote: &Remote,
    kept: &mut KeptKeys,
    listed: &HashMap<Place, Seen>,
) -> Result<News, OperationError> {
    let unseen = |(place, seen): &(&Place, &Seen)| !kept.is_compared(**place, seen.bytes, seen.modified);
    let mut unseen: Vec<(Place, Seen)> = listed.iter().filter(unseen).map(|(place, seen)| (*place, *seen)).collect();
    unseen.sort_unstable_by_key(|(place, _)| *place);
    let (mut news, mut confirmed) = (News::default(), false);
    for (place, seen) in unseen {
        // What takes the place of another is kept in any case: it is to be told about.
        if seen.bytes > MAX_KEY_BYTES || kept.at(place).is_none() && !kept.make_room()? {
            news.left.push(place);
            continue;
        }
        match remote.store.get(&layout::data_key(place.0, place.1), MAX_KEY_BYTES).await {
            Ok(bytes) => {
                let digest = sha256(&bytes);
                if kept.confirm(place, &digest, seen.modified) {
                    confirmed = true;
                    continue;
                }
                let key = KeptKey::found(place.0, place.1, &bytes, digest);
                kept.keep(KeptKey { modified: Some(seen.modified), ..key }, &bytes)?;
                news.found.push(place);
            }
            Err(StoreError::NotFound { .. }) => {}
            Err(StoreError::TooLarge { .. } | StoreError::AccessDenied { .. }) => news.left.push(place),
            Err(error) => return Err(error.into()),
        }
    }
    if confirmed {
        kept.save()?;
    }
    Ok(news)
}

/// Whether a receipt is of somebody who opened wrapped keys.
pub(crate) fn opens_keys(SignedReceipt { receipt, .. }: &SignedReceipt) -> bool {
    receipt.passed && matches!(receipt.kind, ReceiptKind::Confirm | ReceiptKind::Drill)
}

/// Accepts the generations that believed receipts say were opened.
pub(crate) fn accept_opened(kept: &mut KeptKeys, receipts: &[SignedReceipt]) -> Result<(), OperationError> {
    let mut opened = BTreeMap::new();
    for signed in receipts.iter().filter(|signed| opens_keys(signed)) {
        for key in &signed.receipt.keys {
            let last = opened.entry(*key).or_insert_with(|| signed.time());
            *last = signed.time().max(*last);
        }
    }
    Ok(kept.accept(&opened)?)
}

/// What stands until somebody acts; of `just_found` one is told once in other words. An epoch that is left with nothing
/// that anybody vouched for is a doubt where this host is `told`: where it believes the receipts of some signer. Where
/// it does not, it would doubt every rotation for good.
pub(crate) fn standing_warnings(kept: &KeptKeys, just_found: &[Place], told: bool) -> Vec<Warning> {
    let set_back: Vec<Place> = kept.set_back().map(KeptKey::place).collect();
    let exchanged = kept.exchanged().map(KeptKey::place).filter(|place| !set_back.contains(place));
    let exchanged: Vec<Place> = exchanged.collect();
    let others = kept.of_others().map(KeptKey::place);
    let others = others.filter(|place| !exchanged.contains(place) && !set_back.contains(place));
    let (found, known): (Vec<Place>, Vec<Place>) = others.partition(|place| just_found.contains(place));
    let mut warnings = Vec::new();
    if !exchanged.is_empty() {
        let text = format!(
            "{} is not the file that lay there before, and no sealift overwrites a wrapped key: somebody exchanged it. A \
             copy of what was there is in {}: `sealift keys restore --identity FILE` puts it back, and `sealift keys \
             confirm --identity FILE` removes what does not open",
            names(exchanged),
            kept.folder().display()
        );
        warnings.push(Warning::doubt("keys-exchanged", text));
    }
    if !set_back.is_empty() {
        let text = format!(
            "{} is what this host knew before newer keys of that epoch were there, and no sealift writes one again: \
             somebody set the keys back, perhaps for one whom the newer ones removed. Copies of those are in {}: `sealift \
             keys restore --identity FILE` puts one back, and then `sealift keys confirm` removes the older ones. If an \
             operator wanted this one, he says so with `sealift keys confirm` as one of the drill_signers, or rotates",
            names(set_back),
            kept.folder().display()
        );
        warnings.push(Warning::doubt("keys-set-back", text));
    }
    let alone = |places: &[Place]| told && !nothing_beside(kept, places).is_empty();
    if !found.is_empty() {
        let text = format!(
            "{} was made elsewhere and is kept here, too. If no operator rotated the keys, somebody else did: \
             `sealift keys list --identity FILE` tells{}",
            names(found.clone()),
            nothing_beside(kept, &found)
        );
        warnings.push(Warning { doubt: alone(&found), ..Warning::standing("keys-found", text) });
    }
    let doubt = alone(&known);
    warnings.extend(unproved(kept, known).map(|warning| Warning { doubt, ..warning }));
    warnings
}

/// Wrapped keys of later epochs than the one that this host seals to, which it neither made nor was made the writer
/// beside: perhaps it begins where a rebase that it no longer knows of had left somebody out.
pub(crate) fn later_epochs<'a>(
    kept: &KeptKeys,
    sealed_to: u32,
    listed: impl IntoIterator<Item = &'a Place>,
) -> Option<Warning> {
    let is_known = |place: &Place| kept.at(*place).is_some_and(KeptKey::is_trusted);
    let later = listed.into_iter().filter(|place| place.0 > sealed_to && !is_known(place));
    let later: BTreeSet<Place> = later.copied().collect();
    (!later.is_empty()).then(|| {
        let text = format!(
            "{} belongs to a later epoch than {sealed_to}, which this host seals to, and this host did not make it: it may \
             have been set back to before a rebase, and seal for recipients that were removed by that, or another host \
             takes over. `sealift keys rebase -r …` seals for the set that you name from now on; if nobody knows of it, \
             delete it from the repository",
            names(later.into_iter().collect())
        );
        Warning::doubt("later-epoch", text)
    })
}

/// Until a receipt proves them.
pub(crate) fn unproved(kept: &KeptKeys, places: Vec<Place>) -> Option<Warning> {
    (!places.is_empty()).then(|| {
        let beside = nothing_beside(kept, &places);
        let text = format!(
            "{} was made elsewhere, and no receipt that is believed here says that it opens: an operator proves it with \
             `sealift keys confirm --identity FILE`; the signer of his receipts belongs into drill_signers{beside}",
            names(places)
        );
        Warning::standing("keys-unproved", text)
    })
}

/// What is at stake where an epoch has no key but those in `places`, which nobody vouches for: a rotation leaves it so until
/// a receipt proves it, and so does whoever replaces the only good key by garbage.
fn nothing_beside(kept: &KeptKeys, places: &[Place]) -> String {
    let is_vouched_for = |epoch: u32| kept.iter().any(|key| key.epoch == epoch && !key.gone && key.is_trusted());
    let epochs: BTreeSet<u32> = places.iter().map(|place| place.0).filter(|epoch| !is_vouched_for(*epoch)).collect();
    if epochs.is_empty() {
        return String::new();
    }
    let epochs: Vec<String> = epochs.iter().map(u32::to_string).collect();
    format!(
        ". Of epoch {} no other key is left, so that nobody reads what is stored under it unless this opens",
        epochs.join(", ")
    )
}

/// Whether others ever put a key there of the epoch that this host seals to, or of a later one, so that its configuration
/// does not say who opens the backups. What is gone counts, too: else whoever sets the keys back would have it that
/// nobody ever rotated them. Of earlier epochs nothing does: a person has named the set of this one.
pub(crate) fn managed_by_rotation<'a>(
    kept: &KeptKeys,
    sealed_to: u32,
    listed: impl IntoIterator<Item = (&'a Place, &'a Seen)>,
) -> bool {
    let is_own = |place: &Place, seen: &Seen| kept.find(*place, seen.bytes, seen.modified).is_some_and(|key| key.own);
    kept.iter().any(|key| key.epoch >= sealed_to && !key.own)
        || listed.into_iter().any(|(place, seen)| place.0 >= sealed_to && !is_own(place, seen))
}

/// Names as they stand in the repository; of many, the first.
pub(crate) fn names(places: Vec<Place>) -> String {
    const MOST: usize = 8;
    let name = |(epoch, generation): &Place| layout::data_key(*epoch, *generation).to_string();
    let names = places.iter().take(MOST).map(name).collect::<Vec<_>>().join(", ");
    match places.len().checked_sub(MOST) {
        None | Some(0) => names,
        Some(more) => format!("{names} and {more} more"),
    }
}
