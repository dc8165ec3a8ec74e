//! Signatures in OpenSSH's format (PROTOCOL.sshsig), made and checked with Ed25519 keys, namespace `sealift`.
//!
//! age does not say who encrypted; the signature does. `head -n 1` of a signed text is what was signed (newline
//! included), `tail -n +2` is the armoured signature: `ssh-keygen -Y verify` checks it.
//!
//! [`Signed`] guarantees exact bytes: for one line and one signature there is one text that verifies, the one that
//! [`Signer::sign`] writes. So a person without the key cannot make a second text, with another digest, out of a first.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, Signature, SshSig};
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

impl PublicSigner {
    /// As `ssh-keygen -l` shows it: `SHA256:` and 43 characters of base64.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

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

/// The one armour that sealift writes for a key and a signature: version 1, namespace `sealift`, nothing reserved,
/// SHA-512, lines of 70 characters that end with a line feed.
fn armour_of(key: KeyData, signature: Signature) -> Option<String> {
    SshSig::new(key, NAMESPACE, HashAlg::Sha512, signature).and_then(|it| it.to_pem(LineEnding::LF)).ok()
}

/// One line of text with a valid signature under it, and whose it is. Whether that signer is the right one is for
/// the caller to judge.
#[derive(Clone)]
pub struct Signed {
    bytes: Bytes,
    signer: PublicSigner,
}

impl Signed {
    /// Checks the signature in `bytes` by the public key that it carries, and that these are the bytes that
    /// [`Signer::sign`] writes for this line and this signature.
    pub fn verify(bytes: Bytes) -> Result<Self, CryptoError> {
        let invalid = |why: &str| CryptoError::Damaged(format!("no valid signature: {why}"));
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| invalid("it has one line only"))? + 1;
        let armour = std::str::from_utf8(&bytes[end..]).map_err(|_| invalid("it is not text"))?;
        let signature: SshSig = armour.parse().map_err(|_| invalid("there is no SSH signature under the line"))?;
        let key = signature.public_key().clone();
        let public = key.ed25519().ok_or_else(|| invalid("the key is not Ed25519"))?.0;
        if armour_of(key.clone(), signature.signature().clone()).as_deref() != Some(armour) {
            return Err(invalid("its armour is not written as sealift writes it"));
        }
        let changed = |_| invalid("the text was changed");
        let message = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, &bytes[..end]).map_err(key_error)?;
        // Refuses an S that is not below the order of the group: a second signature that needs no key to make.
        let signature = ed25519_dalek::Signature::from_slice(signature.signature_bytes()).map_err(changed)?;
        // Strict: refuses keys of small order, too, under which one signature fits many texts.
        let verified = VerifyingKey::from_bytes(&public).and_then(|key| key.verify_strict(&message, &signature));
        verified.map_err(changed)?;
        Ok(Self { signer: PublicSigner(PublicKey::new(key, "")), bytes })
    }

    /// Reads what [`Signed::verify`] accepted before and this machine kept: the signature is not checked again.
    pub fn reread(bytes: Bytes) -> Result<Self, CryptoError> {
        let damaged = || CryptoError::Damaged("what was kept of a signed text is damaged".to_owned());
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)? + 1;
        let armour = std::str::from_utf8(&bytes[end..]).map_err(|_| damaged())?;
        let signature: SshSig = armour.parse().map_err(|_| damaged())?;
        Ok(Self { signer: PublicSigner(PublicKey::new(signature.public_key().clone(), "")), bytes })
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
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    /// The order of the group, little-endian (RFC 8032, section 5.1).
    const GROUP_ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
    const END: &str = "-----END SSH SIGNATURE-----\n";
    /// Where S begins in the decoded signature, which has 177 bytes.
    const S: usize = 145;

    fn signed() -> Signed {
        Signer::generate().expect("a key").sign("{\"sequence\":1}").expect("signed")
    }

    fn text(signed: &Signed) -> String {
        String::from_utf8(signed.bytes().to_vec()).expect("text")
    }

    fn verifies(text: impl Into<Bytes>) -> bool {
        Signed::verify(text.into()).is_ok()
    }

    /// The text with the decoded signature changed, armoured in lines of `width` characters.
    fn with_signature(text: &str, width: usize, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let (line, armour) = text.split_once('\n').expect("a line");
        let body = armour.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).expect("an armour");
        let mut blob = STANDARD.decode(body.replace('\n', "")).expect("base64");
        change(&mut blob);
        let body = STANDARD.encode(blob);
        let lines: Vec<&str> = body.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("{line}\n{BEGIN}{}\n{END}", lines.join("\n"))
    }

    /// Adds the order of the group to S: the sum fits the same equation.
    fn add_group_order(blob: &mut [u8]) {
        let mut carry = 0;
        for (byte, order) in blob[S..].iter_mut().zip(GROUP_ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
    }

    #[test]
    fn a_signed_line_verifies_and_names_its_signer() {
        let signer = Signer::generate().expect("a key");
        let signed = signer.sign("{\"sequence\":1}").expect("signed");
        let read = Signed::verify(signed.bytes().clone()).expect("verifies");
        assert_eq!(read.line(), b"{\"sequence\":1}");
        assert_eq!(read.signer(), &signer.public());
        assert_eq!(read.digest(), signed.digest());
    }

    #[test]
    fn the_same_signature_written_otherwise_is_refused() {
        let text = text(&signed());
        assert_eq!(with_signature(&text, 70, |_| ()), text, "this is how it is written");
        for width in [1, 64, 69, 71, 76, 1000] {
            assert!(!verifies(with_signature(&text, width, |_| ())), "lines of {width}");
        }
        let (line, armour) = text.split_once('\n').expect("a line");
        for other in [
            text.replace('\n', "\r\n"),
            format!("{line}\n{}", armour.replace('\n', "\r\n")),
            format!("{line}\n{}", armour.replace('\n', "\r")),
            format!("{text}\n"),
            format!("{text} "),
            format!("{text}{armour}"),
            format!("{line}\n\n{armour}"),
            format!("{line}\n {armour}"),
            format!("{line}\nComment: x\n{armour}"),
            text.trim_end().to_owned(),
            format!("\u{feff}{text}"),
        ] {
            assert!(!verifies(other.clone()), "{other:?}");
        }
    }

    /// OpenSSH accepts this one.
    #[test]
    fn an_s_above_the_group_order_is_refused() {
        for _ in 0..16 {
            let text = text(&signed());
            assert!(!verifies(with_signature(&text, 70, |blob| add_group_order(blob))));
        }
    }

    #[test]
    fn another_namespace_another_hash_and_reserved_bytes_are_refused() {
        let key = PrivateKey::random(&mut ssh_key::rand_core::OsRng, Algorithm::Ed25519).expect("a key");
        let sign = |namespace: &str, hash| {
            let signature = key.sign(namespace, hash, b"line\n").expect("signed");
            format!("line\n{}", signature.to_pem(LineEnding::LF).expect("an armour"))
        };
        assert!(verifies(sign(NAMESPACE, HashAlg::Sha512)));
        assert!(!verifies(sign(NAMESPACE, HashAlg::Sha256)));
        assert!(!verifies(sign("file", HashAlg::Sha512)));
        let mut blob = b"SSHSIG".to_vec();
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        let hash = HashAlg::Sha512.digest(b"line\n");
        for part in [&b"sealift"[..], b"reserved", b"sha512", &hash] {
            blob.extend(string(part));
        }
        let raw: Signature = ed25519_dalek::ed25519::signature::Signer::try_sign(&key, &blob).expect("signed");
        let public = key.public_key().key_data().ed25519().expect("Ed25519").0;
        let mut whole = [&b"SSHSIG"[..], &1_u32.to_be_bytes()].concat();
        let typed = |bytes: &[u8]| string(&[string(b"ssh-ed25519"), string(bytes)].concat());
        for part in [typed(&public), string(b"sealift"), string(b"reserved"), string(b"sha512"), typed(raw.as_bytes())]
        {
            whole.extend(part);
        }
        assert!(!verifies(with_signature(&sign(NAMESPACE, HashAlg::Sha512), 70, |blob| *blob = whole)));
    }

    /// Under the point of order 1, R = S·B fits every text.
    #[test]
    fn a_key_of_small_order_is_refused() {
        let forged = with_signature(&text(&signed()), 70, |blob| {
            for part in [33..65, 113..145] {
                blob[part.clone()].fill(0);
                blob[part.start] = 1;
            }
            blob[S..].fill(0);
        });
        assert!(!verifies(forged));
    }

    proptest! {
        #[test]
        fn any_byte_changed_inserted_appended_or_removed_is_refused(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            flip in 1_u8..,
        ) {
            let signed = signed();
            let at = at.index(signed.bytes().len());
            let change = |edit: &dyn Fn(&mut Vec<u8>)| {
                let mut bytes = signed.bytes().to_vec();
                edit(&mut bytes);
                bytes
            };
            prop_assert!(verifies(signed.bytes().clone()));
            prop_assert!(!verifies(change(&|bytes| bytes[at] ^= flip)));
            prop_assert!(!verifies(change(&|bytes| bytes.insert(at, byte))));
            prop_assert!(!verifies(change(&|bytes| bytes.push(byte))));
            prop_assert!(!verifies(change(&|bytes| _ = bytes.remove(at))));
            prop_assert!(!verifies(change(&|bytes| bytes.truncate(at))));
        }

        #[test]
        fn any_bit_of_the_decoded_signature_changed_is_refused(at in 0_usize..177, bit in 0_u32..8) {
            let text = text(&signed());
            prop_assert!(!verifies(with_signature(&text, 70, |blob| blob[at] ^= 1_u8 << bit)));
        }
    }

    #[test]
    fn a_signer_reads_back_from_its_own_file() {
        let signer = Signer::generate().expect("a key");
        let again = Signer::from_openssh(&signer.to_openssh().expect("text")).expect("read back");
        assert_eq!(signer.public(), again.public());
        assert_eq!(signer.public().to_string().parse::<PublicSigner>().expect("public text"), signer.public());
    }
}
