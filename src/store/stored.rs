//! What a store accepts.

use bytes::Bytes;

use crate::crypto::{Sealed, Signed};

/// Bytes that may leave this host: sealed, signed, or fixed public text. Cheap to clone.
///
/// There is no way from arbitrary bytes to this type. So plaintext of a source cannot reach a store by mistake.
#[derive(Clone)]
pub struct Stored(Bytes);

impl Stored {
    /// Fixed public text, such as `repository.json` or the recovery instructions.
    ///
    /// Never anything that was read from a source, nor a name, digest or count of it.
    pub fn public_text(text: impl Into<String>) -> Self {
        Self(Bytes::from(text.into()))
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<Sealed> for Stored {
    fn from(sealed: Sealed) -> Self {
        Self(sealed.bytes().clone())
    }
}

impl From<Signed> for Stored {
    fn from(signed: Signed) -> Self {
        Self(signed.bytes().clone())
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} bytes)", self.0.len())
    }
}
