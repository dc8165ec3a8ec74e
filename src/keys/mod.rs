//! The operators' side of keys: who opens which epoch, and how that is changed without touching a pack.
//!
//! What may never happen: that an epoch which an operator could open can no longer be opened. So a key file is read back
//! before anything relies on it, and an old one is deleted only after an identity of the new set has opened a manifest
//! through the new one and the receipt of that is stored. Whatever is interrupted, at least one of them opens.

mod confirm;
mod delete;
mod list;
mod new;
mod restore;
mod rotate;
mod survey;

pub use confirm::{ConfirmReport, ConfirmedEpoch, confirm_keys};
pub use list::{KeyList, ListedEpoch, ListedVersion, keys_of, list_keys};
pub(super) use new::identity_made_for;
pub use new::{NewIdentity, new_identity};
pub use restore::{RestoreReport, RestoredKey, restore_keys};
pub use rotate::{Change, RotateReport, RotateRequest, RotatedEpoch, rotate_keys};
