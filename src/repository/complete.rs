//! Whether a snapshot can be restored as far as a listing shows.

use super::{Listing, missing_of};
use crate::format::Record;

/// Whether all objects that `record` names are in `listing` with their sizes, and a key file of each of its epochs. What
/// receipts and checks say does not enter.
pub fn is_complete(record: &Record, listing: &Listing) -> bool {
    let has_key = |epoch: u32| listing.keys.keys().any(|(of, _)| *of == epoch);
    let mut epochs = record.epochs.iter().map(|epoch| epoch.epoch).chain([record.manifest.epoch]);
    missing_of(record, listing).is_empty() && epochs.all(has_key)
}
