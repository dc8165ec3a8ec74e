//! What a reader of a repository brings along, and which key that makes it trust.

use std::path::PathBuf;

use jiff::SignedDuration;

use crate::crypto::{IdentityFile, PublicSigner};
use crate::error::OperationError;
use crate::policy::trust::{Accepted, Choice, Comment, Conflict, choose};
use crate::repository::Remote;

/// What a reader of a repository brings along.
#[derive(Default)]
pub struct Reader {
    pub identities: Vec<IdentityFile>,
    /// The trusted key, for this run; `None`: as remembered on this machine, or as the identity file says.
    pub signer: Option<PublicSigner>,
    /// The fingerprint (`SHA256:…`) of a key to accept from now on.
    pub accept: Option<String>,
    /// What is there is right, although it is older than what this machine saw.
    pub accept_rollback: bool,
    /// How long what was removed is remembered; less than [`crate::policy::prune::GRACE`] counts as that.
    pub grace: SignedDuration,
    /// This machine's state directory.
    pub state_root: PathBuf,
}

impl Reader {
    /// Where this machine keeps what it knows of the repository.
    pub fn state_dir(&self, remote: &Remote) -> PathBuf {
        self.state_root.join(remote.id().as_str())
    }

    /// The key to trust, by what was given, what is `stored` and what the identity files say.
    pub(super) fn choose(&self, remote: &Remote, stored: Option<&Accepted>) -> Result<Choice, OperationError> {
        let comments: Vec<Comment> = self.identities.iter().flat_map(comments).collect();
        choose(self.signer.as_ref(), stored, &comments, remote.id().as_str()).map_err(|conflict| match conflict {
            Conflict::Disagree { stored, comment } => OperationError::SignerConflict { stored, comment },
            Conflict::OtherRepositories => OperationError::OtherRepository { url: remote.url.clone() },
        })
    }

    /// Whether `signer` is the key to accept.
    pub(super) fn accepts(&self, signer: &PublicSigner) -> bool {
        self.accept.as_ref().is_some_and(|accept| *accept == signer.fingerprint())
    }
}

/// What an identity file says in its comments: `repository`, then the `signer` there, then a `former signer` for each that a
/// takeover replaced. One file may serve several repositories; of one repository the last lines count.
fn comments(file: &IdentityFile) -> Vec<Comment> {
    let mut comments: Vec<Comment> = Vec::new();
    for (name, value) in file.comment_lines() {
        let last = comments.last_mut();
        match name {
            "repository" => {
                comments.retain(|comment| comment.repository != value);
                comments.push(Comment { repository: value.to_owned(), accepted: None });
            }
            "signer" => {
                let accepted = value.parse().ok().map(|signer| Accepted { signer, former: Vec::new() });
                last.into_iter().for_each(|comment| comment.accepted.clone_from(&accepted));
            }
            "former signer" => {
                let accepted = last.and_then(|comment| comment.accepted.as_mut());
                accepted.into_iter().for_each(|accepted| accepted.former.extend(value.parse().ok()));
            }
            _ => {}
        }
    }
    comments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Signer, Unprompted, new_identity_file};

    #[test]
    fn of_one_repository_the_last_lines_count_and_one_file_serves_several() {
        let [old, new, other] = [(); 3].map(|()| Signer::generate().expect("a key").public());
        let lines = |_: &str| {
            vec![
                "repository: aa".to_owned(),
                format!("signer: {old}"),
                "repository: bb".to_owned(),
                format!("signer: {other}"),
                "repository: aa".to_owned(),
                format!("signer: {new}"),
                format!("former signer: {old}"),
            ]
        };
        let (_, text) = new_identity_file(lines, None).expect("made");
        let file = IdentityFile::parse(text.as_ref(), "file", &Unprompted).expect("read");
        let found = comments(&file);
        let names: Vec<&str> = found.iter().map(|comment| comment.repository.as_str()).collect();
        assert_eq!(names, ["bb", "aa"]);
        assert_eq!(found[0].accepted, Some(Accepted { signer: other, former: Vec::new() }));
        assert_eq!(found[1].accepted, Some(Accepted { signer: new, former: vec![old] }));
    }
}
