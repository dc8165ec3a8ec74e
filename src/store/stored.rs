//! What a store accepts.

use bytes::Bytes;

use crate::crypto::{Digest, Sealed, Signed, sha256};

/// Bytes that may leave this host: encrypted, signed, or fixed public text, with their SHA-256. Cheap to clone.
///
/// There is no way from arbitrary bytes to this type. So plaintext of a source cannot reach a store by mistake.
#[derive(Clone)]
pub struct Stored {
    bytes: Bytes,
    digest: Digest,
}

impl Stored {
    /// Fixed public text, such as `repository.json` or the recovery instructions.
    ///
    /// Never anything that was read from a source, nor a name, digest or count of it.
    pub fn public_text(text: impl Into<String>) -> Self {
        let bytes = Bytes::from(text.into());
        Self { digest: sha256(&bytes), bytes }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl From<Sealed> for Stored {
    fn from(sealed: Sealed) -> Self {
        Self { bytes: sealed.bytes().clone(), digest: sealed.digest() }
    }
}

impl From<Signed> for Stored {
    fn from(signed: Signed) -> Self {
        Self { bytes: signed.bytes().clone(), digest: signed.digest() }
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} bytes)", self.bytes.len())
    }
}
