//! From errors to sentences, hints and exit codes. The only place that knows exit codes.

use crate::config::ConfigError;
use crate::crypto::CryptoError;
use crate::error::OperationError;
use crate::format::layout;
use crate::host::StateError;
use crate::policy::parent::ParentConflict;
use crate::source::SourceError;
use crate::store::{StoreError, UrlError};

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
/// Done, with a problem.
pub const PROBLEM: u8 = 3;
/// Nothing to restore yet.
pub const NOTHING_YET: u8 = 4;
const NO_REPOSITORY: u8 = 10;
/// Another sealift runs, or another operator is changing keys.
const BUSY: u8 = 11;
const NO_IDENTITY: u8 = 12;
pub const VERIFICATION: u8 = 13;
pub const STALE: u8 = 14;
const REFUSED: u8 = 15;
/// Not the writer, or conflicting history: a person decides.
const CONFLICT: u8 = 16;
const INTERRUPTED: u8 = 130;

/// What ends a command: what happened to which thing and why, what to do next, and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(USAGE, message).hint(hint)
    }

    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(REFUSED, message).hint(hint)
    }

    pub fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted").hint("run it again: a backup continues where it was")
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        use OperationError as E;
        let message = error.to_string();
        match error {
            E::Store(error) => error.into(),
            E::Source(error) => error.into(),
            E::State(error) => error.into(),
            E::Crypto(error) => error.into(),
            E::NoRepository { .. } => Self::new(NO_REPOSITORY, message)
                .hint("check --repository. Where there is a folder snapshots/, restore repository.json from a recovery kit. In an \
                       empty place, `sealift init` creates a repository"),
            E::AlreadyThere { .. } => Self::refused(message, "if this host writes it, `sealift backup` takes a snapshot. To continue the repository of a lost host, run `sealift init \
                 --take-over --identity FILE`"),
            E::NoSnapshot(None) => Self::new(FAILED, message).hint("`sealift backup` takes the first one"),
            E::NoSnapshot(Some(_)) => Self::new(FAILED, message).hint("`sealift snapshots` lists what is there"),
            E::Parent(conflict) => Self::new(CONFLICT, message).hint(conflict_hint(&conflict)),
            E::NotTheWriter { way_out, .. } => Self::new(CONFLICT, message).hint(way_out),
            E::Disappeared { .. } => Self::new(FAILED, message).hint(
                "no snapshot was listed. Run it again: it continues from what is still there. If it happens again, find out \
                 what deletes objects there",
            ),
            E::OtherRotation { .. } => Self::new(BUSY, message)
                .hint("`sealift keys list --identity FILE` shows what the other command did; then run it again"),
            E::KeyDeleted { .. } => Self::new(BUSY, message).hint(
                "another operator is changing the keys: agree with them, look at `sealift keys list --identity FILE`, and run it \
                 again",
            ),
            E::NoKeyLeft { .. } => Self::new(VERIFICATION, message).hint(
                "`sealift keys restore --identity FILE` restores a copy that the host kept or, with --from DIR, one of a \
                 recovery kit",
            ),
            E::NoIdentityOpens { .. } => {
                Self::new(NO_IDENTITY, message).hint("give the private key of one of the recipients with -i")
            }
            E::Verification { ref object, .. } | E::NewerFormat { ref object, .. }
                if *object == layout::descriptor().as_str() =>
            {
                Self::new(VERIFICATION, message)
                    .hint("restore repository.json from a recovery kit, which holds a copy. A newer format needs a newer sealift")
            }
            E::Verification { .. } | E::Contents { .. } => Self::new(VERIFICATION, message)
                .hint("nothing was written. Another snapshot may be complete: `sealift snapshots` lists them"),
            E::SignerClaim(_) => Self::new(VERIFICATION, message).hint(
                "compare the fingerprint with what `sealift init --take-over` printed on the new host. If it is the same, add \
                 --accept-signer FINGERPRINT. If it is false, `sealift retain --ignore NUMBER --apply` on the host. Snapshots \
                 that the trusted key signed can be restored by number",
            ),
            E::SignerConflict { .. } => Self::new(VERIFICATION, message)
                .hint("compare both with what `sealift init` printed, then name the right key with --signer"),
            E::OtherRepository { .. } => Self::new(VERIFICATION, message)
                .hint("name the signing key of this repository with --signer, as `sealift init` printed it"),
            E::RepositoryReplaced { ref fingerprint, .. } => {
                let hint = format!(
                    "if you put another repository there, compare the fingerprint of its signing key with what its `sealift \
                     init` printed, and add --accept-signer FINGERPRINT (it says {fingerprint})"
                );
                Self::new(VERIFICATION, message).hint(hint)
            }
            E::NothingToAccept { .. } => Self::new(VERIFICATION, message)
                .hint("`sealift snapshots` shows which keys claim a takeover, with their fingerprints"),
            E::NewerFormat { .. } => Self::new(VERIFICATION, message).hint("upgrade sealift on this machine"),
            E::Refused { way_out, .. } => Self::refused(message, way_out),
            E::NoInstant { .. } => Self::new(FAILED, message).hint(
                "switch the database to WAL mode, choose a quieter hour, or raise [limits] writer_hold",
            ),
            E::NothingToBackUp { .. } => {
                Self::new(FAILED, message).hint("check the paths in sealift.toml: [[database]] and [[file]]")
            }
            E::Usage(_) => Self::new(USAGE, message),
            E::Io { error, .. } if error.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(FAILED, message).hint("make room on that disk, then run it again")
            }
            E::NoNumberLeft | E::NoListingInTime | E::TooManyPacks | E::Packing(_) | E::Io { .. } | E::Stopped => Self::new(FAILED, message),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let hint = match &error {
            E::AccessDenied { code, .. } if code == "RequestTimeTooSkewed" => "set this machine's clock",
            E::AccessDenied { code, .. } if code == "ExpiredToken" => "renew the session's credentials",
            E::AccessDenied { code, .. } if code == "PermissionDenied" => "run it as a user who may write there",
            E::AccessDenied { .. } => "check the access key and what its policy allows on this bucket",
            E::NoCredentials { .. } => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --s3-profile"
            }
            E::NoSuchBucket { .. } => "create the bucket first: sealift does not create buckets",
            E::WrongRegion { .. } => "set the region with --s3-region or [s3] region",
            E::Unreachable { .. } | E::Timeout { .. } => {
                "check the endpoint (--s3-endpoint, AWS_ENDPOINT_URL) and the network, then run it again"
            }
            E::NotSupported { .. } => {
                "use a server with conditional puts, such as AWS S3 or MinIO, or `sealift init --single-writer`"
            }
            E::Settings(_) => return Self::new(USAGE, error.to_string()),
            E::NotFound { .. } | E::TooLarge { .. } | E::Io { .. } | E::Other { .. } => {
                return Self::new(FAILED, error.to_string());
            }
        };
        Self::new(FAILED, error.to_string()).hint(hint)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        use SourceError as E;
        let hint = match &error {
            E::Missing { .. } => "check the path in sealift.toml",
            E::NoPermission { .. } | E::OwnerCannotRead { .. } => "run sealift as root or as the file's owner",
            E::NotRegular { .. } => "name a regular file, or a link to one",
            E::MountPoint { .. } => "mount its directory, not the file alone",
            E::NotADatabase { .. } => "if it is an ordinary file, name it under [[file]] instead",
            E::Busy { .. } | E::Changing { .. } | E::Replaced { .. } => "try again at a quieter hour",
            E::HotJournal { .. } => "start the application once, so that it recovers its database",
            E::WalNotOwner { .. } => "run sealift as root or as the database's owner, or start the application first",
            _ => return Self::new(FAILED, error.to_string()),
        };
        Self::new(FAILED, chain(&error)).hint(hint)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let message = error.to_string();
        match error {
            StateError::Locked { .. } => Self::new(BUSY, message).hint("wait for it with --wait 10m"),
            StateError::Damaged { .. } => Self::new(FAILED, message)
                .hint("restore the file from a backup of the state directory. If there is none, `sealift init --take-over --identity FILE` \
                       continues the repository with a new signing key"),
            StateError::Io { .. } => {
                Self::new(FAILED, message).hint("check --state-dir and that this user may write there")
            }
        }
    }
}

impl From<CryptoError> for Failure {
    fn from(error: CryptoError) -> Self {
        use CryptoError as E;
        let message = error.to_string();
        match error {
            E::NoIdentityOpens => Self::new(NO_IDENTITY, message),
            E::WrongPassphrase(_) => Self::new(NO_IDENTITY, message).hint("try again"),
            E::NoPassphrase(_) => Self::new(NO_IDENTITY, message).hint("run it at a terminal"),
            E::IdentityFailed(_) => Self::new(NO_IDENTITY, message)
                .hint("nothing was deleted. Repair the identity's plugin or token, and run it again"),
            E::Damaged(_) | E::DoesNotFit(_) => Self::new(VERIFICATION, message),
            E::NotAnIdentity(_) => {
                Self::usage(message, "an identity file holds a line AGE-SECRET-KEY-1…, or is an SSH private key")
            }
            E::NotARecipient { .. } | E::Key(_) => Self::new(USAGE, message),
            E::Plugin(_) => Self::new(USAGE, message).hint("install the plugin, so that it is on the PATH"),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        match error {
            ConfigError::Recipient(error) => error.into(),
            ConfigError::Invalid { suggestion: Some(key), .. } => {
                Self::usage(message, format!("did you mean `{key}`?"))
            }
            ConfigError::SameName(_) => Self::usage(message, "give one of them another name = \"…\""),
            ConfigError::Io { .. } | ConfigError::Invalid { .. } | ConfigError::BadName(_) => Self::new(USAGE, message),
        }
    }
}

impl From<UrlError> for Failure {
    fn from(error: UrlError) -> Self {
        Self::usage(error.to_string(), "a repository is a directory, or s3://bucket/prefix")
    }
}

/// What a person does about a history that conflicts with what this host knows.
fn conflict_hint(conflict: &ParentConflict) -> &'static str {
    use ParentConflict as C;
    match conflict {
        C::TakenOver { .. } => {
            "if the takeover is right, stop the backups of this host. If it is false, run `sealift retain --ignore NUMBER --apply` \
             here"
        }
        C::Newer { .. } => {
            "upgrade sealift on this host. If a copy of this host with a newer version writes there, stop one of them"
        }
        C::NotSent { .. } | C::Raced { .. } => {
            "stop the copy of this host that writes there. If this machine was restored to an older state, `sealift backup \
             --adopt` continues from the newest snapshot"
        }
        C::RolledBack { .. } | C::Replaced { .. } | C::Unreadable { .. } => {
            "restore the newer state of the bucket. If what is there is right, `sealift backup --adopt` continues from it"
        }
    }
}
