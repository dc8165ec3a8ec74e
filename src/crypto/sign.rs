//! Signatures in OpenSSH's format (PROTOCOL.sshsig), made and checked with Ed25519 keys, namespace `sealift`.
//!
//! age does not say who encrypted; the signature does. `head -n 1` of a signed text is what was signed (newline
//! included), `tail -n +2` is the armoured signature: `ssh-keygen -Y verify` checks it.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use zeroize::Zeroizing;

use super::{CryptoError, Digest, sha256};

/// What every signature of sealift is bound to, so that none of another tool can be passed off as one.
pub const NAMESPACE: &str = "sealift";

/// A host's private signing key.
pub struct Signer(PrivateKey);

impl Signer {
    pub fn generate() -> Result<Self, CryptoError> {
        PrivateKey::random(&mut ssh_key::rand_core::OsRng, Algorithm::Ed25519).map(Self).map_err(key_error)
    }

    /// Reads an unencrypted OpenSSH Ed25519 private key.
    pub fn from_openssh(text: &str) -> Result<Self, CryptoError> {
        let key = PrivateKey::from_openssh(text).map_err(key_error)?;
        if key.algorithm() != Algorithm::Ed25519 || key.is_encrypted() {
            return Err(CryptoError::Key("the signer is not an unprotected Ed25519 key".to_owned()));
        }
        Ok(Self(key))
    }

    pub fn to_openssh(&self) -> Result<Zeroizing<String>, CryptoError> {
        self.0.to_openssh(LineEnding::LF).map_err(key_error)
    }

    pub fn public(&self) -> PublicSigner {
        PublicSigner(PublicKey::new(self.0.public_key().key_data().clone(), ""))
    }

    /// Signs one line of text; `line` has no newline in it.
    pub fn sign(&self, line: &str) -> Result<Signed, CryptoError> {
        debug_assert!(!line.contains('\n'));
        let message = format!("{line}\n");
        let signature = self.0.sign(NAMESPACE, HashAlg::Sha512, message.as_bytes()).map_err(key_error)?;
        let armour = signature.to_pem(LineEnding::LF).map_err(key_error)?;
        let bytes = Bytes::from(message + &armour);
        Ok(Signed { bytes, signer: self.public() })
    }
}

fn key_error(error: ssh_key::Error) -> CryptoError {
    CryptoError::Key(format!("signing key: {error}"))
}

/// A signer's public half, written as one line `ssh-ed25519 AAAA…`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicSigner(PublicKey);

impl fmt::Display for PublicSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PublicSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicSigner {
    type Err = CryptoError;

    /// Reads `ssh-ed25519 AAAA… [comment]`; the comment is dropped.
    fn from_str(text: &str) -> Result<Self, CryptoError> {
        let key = PublicKey::from_openssh(text.trim())
            .map_err(|_| CryptoError::Key("a signer is one line `ssh-ed25519 AAAA…`".to_owned()))?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(CryptoError::Key("a signer is an ssh-ed25519 key".to_owned()));
        }
        Ok(Self(PublicKey::new(key.key_data().clone(), "")))
    }
}

impl serde::Serialize for PublicSigner {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PublicSigner {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One line of text with a valid signature under it, and whose it is. Whether that signer is the right one is for
/// the caller to judge.
#[derive(Clone)]
pub struct Signed {
    bytes: Bytes,
    signer: PublicSigner,
}

impl Signed {
    /// Checks the signature in `bytes` by the public key that it carries.
    pub fn verify(bytes: Bytes) -> Result<Self, CryptoError> {
        let invalid = |why: &str| CryptoError::Damaged(format!("no valid signature: {why}"));
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| invalid("it has one line only"))? + 1;
        let armour = std::str::from_utf8(&bytes[end..]).map_err(|_| invalid("it is not text"))?;
        let signature: SshSig = armour.parse().map_err(|_| invalid("there is no SSH signature under the line"))?;
        let key = PublicKey::new(signature.public_key().clone(), "");
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(invalid("the key is not Ed25519"));
        }
        key.verify(NAMESPACE, &bytes[..end], &signature).map_err(|_| invalid("the text was changed"))?;
        Ok(Self { signer: PublicSigner(key), bytes })
    }

    /// The line that was signed, without its newline.
    pub fn line(&self) -> &[u8] {
        self.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The SHA-256 of all bytes, which the next record carries.
    pub fn digest(&self) -> Digest {
        sha256(&self.bytes)
    }

    pub fn signer(&self) -> &PublicSigner {
        &self.signer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_line_verifies_and_a_changed_one_does_not() {
        let signer = Signer::generate().expect("a key");
        let signed = signer.sign("{\"sequence\":1}").expect("signed");
        let read = Signed::verify(signed.bytes().clone()).expect("verifies");
        assert_eq!(read.line(), b"{\"sequence\":1}");
        assert_eq!(read.signer(), &signer.public());
        let mut changed = signed.bytes().to_vec();
        changed[12] ^= 1;
        assert!(Signed::verify(changed.into()).is_err());
    }

    #[test]
    fn a_signer_reads_back_from_its_own_file() {
        let signer = Signer::generate().expect("a key");
        let again = Signer::from_openssh(&signer.to_openssh().expect("text")).expect("read back");
        assert_eq!(signer.public(), again.public());
        assert_eq!(signer.public().to_string().parse::<PublicSigner>().expect("public text"), signer.public());
    }
}
