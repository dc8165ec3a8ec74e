//! What stands in the comments of a wrapped data identity (`keys/<epoch>/<version>.age`).
//!
//! A person who has the data identity can write anything there: it informs, and proves nothing.

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

/// The largest key file that is read or kept, in bytes: room for some hundred recipients.
pub const MAX_KEY_BYTES: u64 = 128 << 10;

/// The recipients that the comments name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyHolders {
    /// Recipients whose identities open this version.
    pub recipients: Vec<Recipient>,
    /// Recipients of an earlier version of the epoch. They may have kept the data identity.
    pub former: Vec<Recipient>,
}

impl KeyHolders {
    /// Reads comment lines; what is no recipient is passed over.
    pub fn read(comments: &[String]) -> Self {
        let named = |name: &str| {
            let values = comments.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.filter_map(|value| Recipient::parse(value).ok()).collect()
        };
        Self { recipients: named("recipient"), former: named("former recipient") }
    }

    /// Recipients as they were written, and none before them.
    pub fn of(recipients: &[String]) -> Self {
        let recipients = recipients.iter().filter_map(|text| Recipient::parse(text).ok()).collect();
        Self { recipients, former: Vec::new() }
    }

    /// Whether these are the recipients, in whatever order.
    pub fn are(&self, recipients: &[Recipient]) -> bool {
        self.recipients.iter().all(|own| recipients.contains(own))
            && recipients.iter().all(|other| self.recipients.contains(other))
    }

    /// Those of a next version for `recipients`. A former recipient stays listed.
    pub fn followed_by(&self, recipients: &[Recipient]) -> Self {
        let mut former: Vec<Recipient> = Vec::new();
        for known in self.former.iter().chain(&self.recipients) {
            if !recipients.contains(known) && !former.contains(known) {
                former.push(known.clone());
            }
        }
        Self { recipients: recipients.to_vec(), former }
    }
}

/// The comment lines that name former recipients.
pub fn former_comments(former: &[Recipient]) -> impl Iterator<Item = String> {
    former.iter().map(|recipient| format!("former recipient: {}", recipient.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{DataIdentity, Signer};

    fn recipient() -> Recipient {
        Recipient::parse(&DataIdentity::generate().recipient().to_string()).expect("a recipient")
    }

    #[test]
    fn holders_read_back_and_former_ones_stay_listed() {
        let (alice, bob, carol) = (recipient(), recipient(), recipient());
        let first = KeyHolders { recipients: vec![alice.clone(), bob.clone()], former: Vec::new() };
        let second = first.followed_by(&[bob.clone(), carol.clone()]);
        assert_eq!(second, KeyHolders { recipients: vec![bob.clone(), carol.clone()], former: vec![alice.clone()] });
        let signer = Signer::generate().expect("a key").public();
        let id = RepositoryId::generate();
        let mut comments = key_file_comments(&id, 1, &signer, &second.recipients, Timestamp::UNIX_EPOCH);
        comments.extend(former_comments(&second.former));
        assert_eq!(KeyHolders::read(&comments), second);
        let back = second.followed_by(std::slice::from_ref(&alice));
        assert_eq!(back, KeyHolders { recipients: vec![alice], former: vec![bob, carol] });
    }
}
