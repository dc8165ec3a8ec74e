//! A veil over plain bytes that have to touch a disk for a while: ChaCha20 (RFC 8439) under a key that is never stored.
//!
//! It hides and does not authenticate: what comes back is compared with a digest anyway.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};

use super::FingerprintKey;

/// A key that ends with this process.
pub struct Veil(FingerprintKey);

impl Veil {
    pub fn generate() -> Self {
        Self(FingerprintKey::generate())
    }

    /// Puts the veil over `bytes` from `offset` on (below 256 GiB) of the stream `stream`, or takes it off. A place is
    /// written once only: two texts under the same part of a stream would give each other away.
    pub fn apply(&self, stream: u64, offset: u64, bytes: &mut [u8]) {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&stream.to_le_bytes());
        let mut cipher = ChaCha20::new(self.0.as_bytes().into(), &nonce.into());
        cipher.seek(offset);
        cipher.apply_keystream(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_comes_back_and_none_lies_open() {
        let veil = Veil::generate();
        let plain: Vec<u8> = (0..1000u32).map(|n| (n % 7) as u8).collect();
        let mut veiled = plain.clone();
        veil.apply(3, 0, &mut veiled[..300]);
        veil.apply(3, 300, &mut veiled[300..]);
        assert!(!veiled.windows(14).any(|window| plain.windows(14).any(|open| open == window)));
        let mut part = veiled[77..533].to_vec();
        veil.apply(3, 77, &mut part);
        assert_eq!(part, plain[77..533]);
        let mut other = veiled[77..533].to_vec();
        veil.apply(4, 77, &mut other);
        assert_ne!(other, plain[77..533]);
    }
}
