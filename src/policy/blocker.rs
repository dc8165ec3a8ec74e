//! What blocks every deletion, and the way out of each.

use jiff::Timestamp;

use crate::format::ranges;
use crate::store::Key;

/// Why nothing may go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PruneBlocker {
    #[error("{} a format that only a newer sealift reads", counted(snapshots, "has", "have"))]
    NewerFormat { snapshots: Vec<u64> },
    #[error("{} signed by a key that claims a takeover", counted(snapshots, "is", "are"))]
    Claim { snapshots: Vec<u64> },
    #[error("{} no record that counts: unreadable, or by an untrusted signer", counted(snapshots, "has", "have"))]
    NotCounting { snapshots: Vec<u64> },
    #[error("a snapshot that this machine verified was replaced by a different, validly signed record")]
    Replaced,
    #[error("the repository was rolled back: the newest snapshot that this machine verified is missing")]
    RolledBack,
    #[error("{} there, but not in the server's listing", counted(snapshots, "is", "are"))]
    IncompleteListing { snapshots: Vec<u64> },
    #[error("there is no verified snapshot")]
    NoSnapshot,
    #[error("no key file of epoch {} is there, so snapshots that were good cannot be opened", epochs.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
    NoKeyFile { epochs: Vec<u32> },
    #[error("the server does not send its time")]
    NoServerTime,
    #[error("{object} was stored at {stored}, which is ahead of the server's own time {server_time}")]
    AheadOfServer { object: Key, stored: Timestamp, server_time: Timestamp },
}

impl PruneBlocker {
    /// What to do about it.
    pub fn way_out(&self) -> String {
        match self {
            Self::NewerFormat { .. } => "upgrade sealift on this machine".to_owned(),
            Self::Claim { snapshots } => format!(
                "compare the fingerprints that `sealift snapshots` shows; then accept the takeover with --accept-signer, or \
                 ignore the claim with `sealift retain{} --apply`",
                flags(snapshots)
            ),
            Self::NotCounting { snapshots } => format!(
                "restore the record from a copy, or ignore it with `sealift retain{} --apply`",
                flags(snapshots)
            ),
            Self::Replaced | Self::RolledBack => {
                "find out why; on the host `sealift backup --adopt` continues from what is there, elsewhere \
                 --accept-rollback accepts it"
                    .to_owned()
            }
            Self::IncompleteListing { .. } => "repair the server's index: it must list all that it holds".to_owned(),
            Self::NoKeyFile { .. } => {
                "`sealift backup` on the host restores it from its copies; without them an operator runs `sealift keys restore`"
                    .to_owned()
            }
            Self::NoSnapshot => "take a snapshot with `sealift backup`".to_owned(),
            Self::NoServerTime => "let the `Date` header of the server's answers through".to_owned(),
            Self::AheadOfServer { .. } => {
                "set the server's clock; `touch` gives a file in a directory a new time, copying an object onto itself \
                 does so in a bucket"
                    .to_owned()
            }
        }
    }
}

/// `snapshot 4 is`, or `snapshots 4 to 5 are`.
fn counted(sequences: &[u64], one: &str, many: &str) -> String {
    let ranges = ranges::ranges(sequences.iter().copied());
    format!("{} {}", ranges::snapshots(&ranges), if ranges::is_one(&ranges) { one } else { many })
}

fn flags(sequences: &[u64]) -> String {
    sequences.iter().map(|sequence| format!(" --ignore {sequence}")).collect()
}
