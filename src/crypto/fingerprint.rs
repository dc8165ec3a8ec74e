//! The fingerprint of a block: 128 bits of BLAKE3, keyed with a secret of this host.
//!
//! Keyed, so that a person who can write into the database cannot make two blocks that collide, and so that the catalog
//! reveals nothing about content that can only be guessed. Never leaves the host.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// 128 bits that stand for a block's content within one host.
pub type Fingerprint = [u8; 16];

/// The host's secret for fingerprints.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FingerprintKey([u8; 32]);

impl FingerprintKey {
    /// A new random key.
    pub fn generate() -> Self {
        use ssh_key::rand_core::RngCore;
        let mut key = [0; 32];
        ssh_key::rand_core::OsRng.fill_bytes(&mut key);
        Self(key)
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of `block`.
    pub fn fingerprint(&self, block: &[u8]) -> Fingerprint {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&blake3::keyed_hash(&self.0, block).as_bytes()[..16]);
        fingerprint
    }

    /// The whole keyed hash of `bytes`, in hexadecimal: for comparing with an earlier state of something longer.
    pub fn print(&self, bytes: &[u8]) -> String {
        blake3::keyed_hash(&self.0, bytes).to_hex().to_string()
    }
}
