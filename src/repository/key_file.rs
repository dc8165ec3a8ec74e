//! What stands in the comments of a wrapped data identity (`keys/<epoch>/<generation>.age`).

use jiff::Timestamp;

use super::RepositoryId;
use crate::crypto::{PublicSigner, Recipient};

/// The comment lines of the identity file of `epoch`.
pub fn key_file_comments(
    repository: &RepositoryId,
    epoch: u32,
    signer: &PublicSigner,
    recipients: &[Recipient],
    created: Timestamp,
) -> Vec<String> {
    let mut lines = vec![
        "sealift data identity: opens the packs and manifests of one epoch with plain age".to_owned(),
        format!("repository: {repository}"),
        format!("epoch: {epoch}"),
        format!("signer: {signer}"),
        format!("created: {created}"),
    ];
    lines.extend(recipients.iter().map(|recipient| format!("recipient: {}", recipient.as_str())));
    lines
}
