//! The operators' side of keys: who opens which epoch, and how that is changed without touching a pack.
//!
//! What may never happen: that an epoch which an operator could open can be opened by nobody. So a generation is read
//! back before anything relies on it, and an old one is deleted only after an identity of the new set has opened the
//! new one; whatever is interrupted, at least one of them opens.

mod claims;
mod confirm;
mod list;
mod new;
mod put_back;
mod records;
mod replace;
mod rotate;
mod survey;

pub(super) use claims::{back_again, unnamed};
pub use confirm::{ConfirmReport, ConfirmedEpoch, confirm_keys};
pub use list::{KeyList, ListedEpoch, ListedGeneration, keys_of, list_keys};
pub(super) use new::identity_made_for;
pub use new::{NewIdentity, new_identity};
pub use put_back::{PutBackReport, put_back_keys};
pub use rotate::{Change, RotateReport, RotateRequest, RotatedEpoch, rotate_keys};
