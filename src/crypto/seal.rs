//! Sealing to age recipients and opening with age identities.

/// Bytes that came out of the age encryptor, with the SHA-256 that names them.
#[derive(Clone)]
pub struct Sealed(bytes::Bytes);

impl Sealed {
    pub fn bytes(&self) -> &bytes::Bytes {
        &self.0
    }
}
