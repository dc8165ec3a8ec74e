//! What a store accepts.

use bytes::Bytes;

use crate::crypto::{Sealed, Signed};

/// Bytes that may leave this machine: sealed, signed, or fixed public text. There is no other way to make one.
#[derive(Clone)]
pub struct Stored(Bytes);

impl Stored {
    /// For text that is public by design, such as `repository.json`; never for anything out of a source.
    pub fn public_text(text: String) -> Self {
        Self(text.into())
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
