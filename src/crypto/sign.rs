//! Signatures in OpenSSH's format (SSHSIG), made and checked with Ed25519 keys.

/// Text that carries a valid signature: one line of JSON, then its armoured SSHSIG.
#[derive(Clone)]
pub struct Signed(bytes::Bytes);

impl Signed {
    pub fn bytes(&self) -> &bytes::Bytes {
        &self.0
    }
}
