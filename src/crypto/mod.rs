//! Encrypting (age), signing (SSH) and hashing. Nothing here touches a disk or a network.
//!
//! Two types carry a promise upwards: [`Sealed`] bytes came out of the encryptor and [`Signed`] text carries a
//! valid signature, and neither can be made outside this room. The store accepts little else.
//!
//! Secrets live in types that wipe themselves and have no `Display`; errors never quote what they could not parse.

mod digest;
mod fingerprint;
mod identity;
mod recipient;
mod seal;
mod sign;
mod veil;

pub use digest::{Digest, NotADigest, PIECE_BYTES, file_digest, sha256};
pub use fingerprint::{Fingerprint, FingerprintKey};
pub use identity::{DataIdentity, IdentityFile, Prompt, Unprompted, new_identity_file};
pub use recipient::{DataRecipient, Recipient, parse_recipients};
pub use seal::{MAX_SEALED_BYTES, Opened, Sealed, Sealing, open, open_reader, seal};
pub use sign::{NAMESPACE, PublicSigner, Signed, Signer};
pub use veil::Veil;

/// What can go wrong with keys and encrypted bytes. No variant holds a secret or the text that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// None of the given identities opens it.
    #[error("no identity opens it")]
    NoIdentityOpens,
    /// An identity could not be asked, because its plugin or its token failed: nothing is known of what it was to open.
    #[error("{0}")]
    IdentityFailed(String),
    /// An identity gave a key that does not fit the rest: either may be at fault.
    #[error("{0}")]
    DoesNotFit(String),
    /// A protected identity needs a passphrase and there is no person to ask.
    #[error("{0} is protected by a passphrase, and there is no terminal to ask for it")]
    NoPassphrase(String),
    #[error("the passphrase for {0} is wrong")]
    WrongPassphrase(String),
    /// Not what it should be: forged, truncated or changed.
    #[error("{0}")]
    Damaged(String),
    #[error("{0} is not an age identity file, a passphrase-protected one, or an SSH private key")]
    NotAnIdentity(String),
    /// The text of a recipient is public, so it is quoted.
    #[error("`{text}` is not a recipient: {reason}")]
    NotARecipient { text: String, reason: String },
    #[error("{0}")]
    Plugin(String),
    #[error("{0}")]
    Key(String),
}
