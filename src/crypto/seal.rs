//! Encrypting to age recipients and opening with age identities (format: age-encryption.org/v1).
//!
//! Everything stored is encrypted in memory and named by the SHA-256 of the encrypted bytes, so nothing is stored under
//! a name that its bytes do not have.

use std::io::{self, Read, Write};
use std::sync::Arc;

use age::stream::StreamReader;
use age::{Decryptor, Encryptor};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{CryptoError, DataIdentity, DataRecipient, Digest, Recipient};
use crate::buffers::Buffers;

/// The largest encrypted object that sealift writes or reads, in bytes: a pack of incompressible blocks fits well.
/// Manifests of databases of some 100 GB fit, too.
pub const MAX_SEALED_BYTES: u64 = 256 << 20;

/// Bytes that came out of the age encryptor, with the SHA-256 that names them.
#[derive(Clone)]
pub struct Sealed {
    bytes: Bytes,
    digest: Digest,
}

impl Sealed {
    /// Bytes that were encrypted before, by any program: the header of an age file for keys, not for a passphrase, is
    /// whole.
    pub fn reread(bytes: Bytes) -> Result<Self, CryptoError> {
        if parse(&bytes)?.is_scrypt() {
            return Err(CryptoError::Damaged("it is encrypted for a passphrase, not for keys".to_owned()));
        }
        let digest = super::sha256(&bytes);
        Ok(Self { bytes, digest })
    }

    /// For how many recipients it is, as the header shows: one stanza each. What age strews in, so that
    /// readers learn to pass over what they do not know, is for none.
    pub fn recipients(&self) -> usize {
        let lines = self.bytes.split(|byte| *byte == b'\n').take_while(|line| !line.starts_with(b"---"));
        let kinds = lines.filter_map(|line| line.strip_prefix(b"-> ")?.split(|byte| *byte == b' ').next());
        kinds.filter(|kind| !kind.ends_with(b"-grease")).count()
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A growing encrypted object: what is written goes out encrypted into memory.
pub struct Sealing(age::stream::StreamWriter<HashingBuffer>);

impl Sealing {
    pub fn to(recipient: &DataRecipient) -> io::Result<Self> {
        Self::wrap(std::iter::once(recipient.as_age()?), Buffers::none())
    }

    /// One of many, which share `buffers`.
    pub fn in_turn(recipient: &DataRecipient, buffers: &Arc<Buffers>) -> io::Result<Self> {
        Self::wrap(std::iter::once(recipient.as_age()?), Arc::clone(buffers))
    }

    fn wrap<'a>(recipients: impl Iterator<Item = &'a dyn age::Recipient>, buffers: Arc<Buffers>) -> io::Result<Self> {
        let mut bytes = buffers.take();
        bytes.clear();
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        Ok(Self(encryptor.wrap_output(HashingBuffer { bytes, hasher: Sha256::new(), buffers })?))
    }

    pub fn finish(self) -> io::Result<Sealed> {
        let HashingBuffer { bytes, hasher, buffers } = self.0.finish()?;
        Ok(Sealed { bytes: buffers.share(bytes), digest: Digest::from_bytes(hasher.finalize().into()) })
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct HashingBuffer {
    bytes: Vec<u8>,
    hasher: Sha256,
    buffers: Arc<Buffers>,
}

impl Write for HashingBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encrypts `plain` to all of `recipients`: any one of their identities opens it.
pub fn seal(plain: &[u8], recipients: &[Recipient]) -> Result<Sealed, CryptoError> {
    let keys = recipients.iter().map(Recipient::as_age).collect::<Result<Vec<_>, _>>()?;
    let write = || {
        let mut sealing = Sealing::wrap(keys.iter().map(AsRef::as_ref), Buffers::none())?;
        sealing.write_all(plain)?;
        sealing.finish()
    };
    write().map_err(|error: io::Error| CryptoError::Key(format!("cannot seal to the recipients: {error}")))
}

/// Plain bytes out of an encrypted object, wiped when dropped.
pub type Opened = Zeroizing<Vec<u8>>;

/// Opens `sealed` with whichever of `identities` fits. At most [`MAX_SEALED_BYTES`] come out.
pub fn open<'a>(sealed: &[u8], identities: impl Iterator<Item = &'a dyn age::Identity>) -> Result<Opened, CryptoError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    decrypting(sealed, identities)?
        .take(MAX_SEALED_BYTES)
        .read_to_end(&mut plain)
        .map_err(|error| CryptoError::Damaged(format!("damaged: {error}")))?;
    Ok(plain)
}

/// The plain bytes of `sealed` as a stream. A read error means that the object is damaged.
pub fn open_reader<'a>(sealed: &'a [u8], identity: &DataIdentity) -> Result<StreamReader<&'a [u8]>, CryptoError> {
    decrypting(sealed, std::iter::once(identity.as_age()))
}

fn decrypting<'s, 'i>(
    sealed: &'s [u8],
    identities: impl Iterator<Item = &'i dyn age::Identity>,
) -> Result<StreamReader<&'s [u8]>, CryptoError> {
    let mut failure = CryptoError::NoIdentityOpens;
    for identity in identities {
        // One by one: an identity that fails hides none that opens.
        match parse(sealed)?.decrypt(std::iter::once(identity)) {
            Ok(reader) => return Ok(reader),
            Err(error) => failure = more_telling(failure, explain(error)),
        }
    }
    Err(failure)
}

/// Reads the header. What fails here, fails for every identity.
fn parse(sealed: &[u8]) -> Result<Decryptor<&[u8]>, CryptoError> {
    Decryptor::new_buffered(sealed).map_err(|error| CryptoError::Damaged(format!("not an intact age file: {error}")))
}

/// Why an identity does not open what has a whole header.
fn explain(error: age::DecryptError) -> CryptoError {
    use age::DecryptError as E;
    match error {
        E::NoMatchingKeys => CryptoError::NoIdentityOpens,
        // The bytes are in memory, so whatever was to be read is a plugin's answer.
        E::KeyDecryptionFailed | E::Plugin(_) | E::PluginResolve(_) | E::Io(_) => {
            CryptoError::IdentityFailed(error.to_string())
        }
        other => CryptoError::DoesNotFit(format!("not an intact age file: {other}")),
    }
}

fn more_telling(one: CryptoError, other: CryptoError) -> CryptoError {
    let weight = |error: &CryptoError| match error {
        CryptoError::IdentityFailed(_) => 2,
        CryptoError::DoesNotFit(_) => 1,
        _ => 0,
    };
    if weight(&other) > weight(&one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_a_stanza_for_each_recipient_and_grease_counts_as_none() {
        let people: Vec<Recipient> = (0..3)
            .map(|_| Recipient::parse(&DataIdentity::generate().recipient().to_string()).expect("a recipient"))
            .collect();
        let mut greased = false;
        // Whether age strews any in is left to chance.
        for _ in 0..200 {
            for count in 1..=3 {
                let sealed = seal(b"text", &people[..count]).expect("sealed");
                assert_eq!(sealed.recipients(), count);
                greased |= sealed.bytes().windows(7).any(|part| part == b"-grease");
            }
        }
        assert!(greased);
    }
}
