//! Sealing (age), signing (SSH) and hashing. Nothing here touches a disk or a network.
//!
//! Two types carry a promise upwards: [`Sealed`] bytes came out of the encryptor and [`Signed`] text carries a
//! valid signature, and neither can be made outside this room. The store accepts little else.

mod digest;
mod seal;
mod sign;

pub use digest::{Digest, sha256};
pub use seal::Sealed;
pub use sign::Signed;
