//! An identity for an operator who has none.

use std::path::{Path, PathBuf};

use age::secrecy::SecretString;

use crate::crypto::{IdentityFile, PublicSigner, Recipient, Unprompted, new_identity_file};
use crate::error::OperationError;
use crate::format::RepositoryId;
use crate::{clock, fsx};

/// An identity to make.
pub struct NewIdentity {
    pub path: PathBuf,
    /// Protects the file; `None` writes it plain.
    pub passphrase: Option<SecretString>,
}

/// Writes a new identity file and gives its public half. Its comments say for which repository it was made and whose
/// signature counts there, so that a restore with it notices a forgery.
pub fn new_identity(
    new: NewIdentity,
    repository: Option<(&RepositoryId, &PublicSigner)>,
) -> Result<Recipient, OperationError> {
    let comments = |public: &str| {
        let mut lines = vec![
            "sealift operator identity: opens the backups. Keep it away from the host that is backed up.".to_owned(),
        ];
        if let Some((id, signer)) = repository {
            lines.extend([format!("repository: {id}"), format!("signer: {signer}")]);
        }
        lines.extend([format!("created: {}", clock::now()), format!("public key: {public}")]);
        lines
    };
    let protected = new.passphrase.is_some();
    let (recipient, bytes) = new_identity_file(comments, new.passphrase)?;
    if new.path.exists() {
        return Err(OperationError::Refused {
            what: format!("{} already exists", new.path.display()),
            way_out: "name another file, or give its public key with -r".to_owned(),
        });
    }
    fsx::write_atomic(&new.path, &bytes).map_err(OperationError::io(&new.path))?;
    tracing::info!(path = %new.path.display(), protected, "new identity written");
    Ok(recipient)
}

/// The public key in a plain identity file that was made for this repository: what an interrupted `init` left.
pub(crate) fn identity_made_for(path: &Path, repository: &RepositoryId) -> Option<Recipient> {
    let bytes = zeroize::Zeroizing::new(std::fs::read(path).ok()?);
    let file = IdentityFile::parse(&bytes, &path.display().to_string(), &Unprompted).ok()?;
    let same = file.comment("repository") == Some(repository.as_str());
    same.then(|| file.comment("public key").and_then(|key| Recipient::parse(key).ok())).flatten()
}
