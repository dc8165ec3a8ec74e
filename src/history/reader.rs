//! Who reads, what he brings along, and whose signature counts for him.

use std::path::PathBuf;

use crate::crypto::{IdentityFile, PublicSigner};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::layout;
use crate::host::Pins;
use crate::repository::Remote;

/// The name of the warning that nothing but the repository itself says who signs it.
pub(super) const UNPINNED: &str = "unpinned-signer";

/// What a reader of a repository brings along.
pub struct Reader {
    pub identities: Vec<IdentityFile>,
    /// Whose signature counts; `None`: as accepted or remembered on this machine, or as the identity file says.
    pub signer: Option<PublicSigner>,
    /// Who took over, as far as the reader knows, and whose signature is to count from now on.
    pub accept: Option<PublicSigner>,
    /// This machine's state directory.
    pub state_root: PathBuf,
}

impl Reader {
    /// Where this machine keeps what it knows of the repository.
    pub fn state_dir(&self, remote: &Remote) -> PathBuf {
        self.state_root.join(remote.id().as_str())
    }

    /// The pin: what was given, else what was remembered, else what the identity file says, else what is to be
    /// accepted, else the repository's own word, which proves nothing and is said aloud.
    pub(crate) fn pin(&self, remote: &Remote, pins: &Pins) -> Pin {
        let made_for = |file: &&IdentityFile| file.comment("repository").is_some();
        let named: Vec<&IdentityFile> = self.identities.iter().filter(made_for).collect();
        let of_this_repository = |file: &&&IdentityFile| file.comment("repository") == Some(remote.id().as_str());
        let in_comments = || named.iter().find(of_this_repository)?.comment("signer")?.parse().ok();
        let known = self.signer.clone().or_else(|| pins.signer.clone()).or_else(in_comments);
        match known.or_else(|| self.accept.clone()) {
            Some(signer) => Pin { signer, warning: None, exchanged: false },
            None => Pin {
                signer: remote.descriptor.signer.clone(),
                warning: Some(unpinned(&remote.descriptor.signer)),
                exchanged: !named.is_empty(),
            },
        }
    }
}

fn unpinned(signer: &PublicSigner) -> Warning {
    let text = format!(
        "nothing here says who signs this repository; the repository itself says {signer}. \
         Compare it with what init printed, then give it with --signer"
    );
    Warning::standing(UNPINNED, text)
}

/// Whose signature counts, and how that is known.
pub(crate) struct Pin {
    pub signer: PublicSigner,
    /// Where it is the repository's own word alone.
    pub warning: Option<Warning>,
    /// The identity file was made for another repository, and nothing else says who signs this one.
    pub exchanged: bool,
}

impl Pin {
    /// See [`exchanged`].
    pub(crate) fn refuse_exchanged(&self, remote: &Remote) -> Result<(), OperationError> {
        if self.exchanged { Err(exchanged(remote)) } else { Ok(()) }
    }
}

/// What an identity opens although it was made for another repository: whoever can write to the bucket can put a
/// repository of his own there, sealed to the operator's public key.
pub(super) fn exchanged(remote: &Remote) -> OperationError {
    OperationError::Verification {
        object: layout::descriptor().to_string(),
        why: format!(
            "the identity was made for another repository, and this one is {}: it was exchanged, or the key serves \
             several; then say with --signer whose signature counts here",
            remote.id()
        ),
    }
}
