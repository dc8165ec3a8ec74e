//! What `init`, `doctor` and `help` take.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Recipients;

#[derive(clap::Args)]
pub struct Init {
    /// SQLite database to back up
    #[arg(long, value_name = "FILE")]
    pub database: Vec<PathBuf>,
    /// Other file to back up
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub recipients: Recipients,
    /// Create an identity for an operator who has none, and write it here; move it off this host afterwards
    #[arg(long, value_name = "FILE")]
    pub new_identity: Option<PathBuf>,
    /// Do not protect the new identity with a passphrase
    #[arg(long, requires = "new_identity")]
    pub no_passphrase: bool,
    /// Exit with 0 where this host has a finished repository there, and change nothing
    #[arg(long)]
    pub if_missing: bool,
    /// For servers without conditional puts: one host, and no clone of it, ever writes there. On a finished repository of
    /// this host it switches to this mode. See `sealift help storage`
    #[arg(long)]
    pub single_writer: bool,
    /// The host's label in the list of snapshots [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Continue the repository of a lost host: this machine becomes its writer, with a signing key of its own
    #[arg(long, conflicts_with_all = ["new_identity", "if_missing"])]
    pub take_over: bool,
    /// An operator's private key, to open the repository to take over; no part of it stays here
    #[arg(short, long, value_name = "FILE", requires = "take_over")]
    pub identity: Vec<PathBuf>,
    /// Trusted signing key of the repository to take over: ssh-ed25519 AAAA…, as its init printed it
    #[arg(long, value_name = "KEY", requires = "take_over")]
    pub signer: Option<String>,
    /// Accept an earlier takeover by this signing key
    #[arg(long, value_name = "KEY", requires = "take_over")]
    pub accept_signer: Option<String>,
    /// Take over without asking
    #[arg(long, requires = "take_over")]
    pub yes: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Without --policy it stores one tiny object under a random name and deletes it again. Where these \
                  credentials may not delete, the object stays."
)]
pub struct Doctor {
    /// Print the least rights of this role as an IAM policy for AWS or MinIO, and try nothing
    #[arg(long, value_name = "ROLE")]
    pub policy: Option<Role>,
}

/// A set of credentials with a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The host: backup, init
    Writer,
    /// Where retention runs: retain --apply
    Pruner,
    /// Where a person restores: restore, snapshots, status, check, drill
    Reader,
    /// Where a person changes recipients: keys
    Operator,
}

#[derive(clap::Args)]
pub struct Help {
    /// A command such as `keys add`, or a topic: findings, storage, trust
    #[arg(value_name = "COMMAND or TOPIC")]
    pub words: Vec<String>,
}
