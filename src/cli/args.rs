//! The command line. Its help texts are the reference.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::format::{Within, recovery_script_digest};

mod setup;

pub use setup::{Doctor, Help, Init, Role};

/// Encrypted, deduplicating off-site backups of live SQLite databases and their small files.
#[derive(Parser)]
#[command(version, after_help = after_help(), max_term_width = 100, disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// What this process was called with.
    pub fn of_process() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut args = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))?;
        args.global.repository_is_of_environment =
            matches.value_source("repository") == Some(clap::parser::ValueSource::EnvVariable);
        Ok(args)
    }
}

/// The pages of the guide and the exit codes.
fn after_help() -> String {
    let topics = crate::guide::TOPICS.iter().map(|(name, summary, _)| format!("  {name:12} {summary}\n"));
    format!("Topics of `sealift help`:\n{}\n{EXIT_CODES}", topics.collect::<String>())
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 done, with a problem;
4 nothing to restore yet; 10 no repository there; 11 already running, or another operator changes keys;
12 no identity opens it; 13 verification failed; 14 no fresh and good snapshot; 15 refused to protect data;
16 not the writer, or conflicting history: a person decides; 130 interrupted.";

#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration [default: ./sealift.toml, then /etc/sealift/sealift.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the repository is: a directory, or s3://bucket/prefix
    #[arg(long, global = true, value_name = "URL", env = "SEALIFT_REPOSITORY")]
    pub repository: Vec<String>,
    /// It comes from the environment, not from the command line.
    #[arg(skip)]
    pub repository_is_of_environment: bool,
    /// What this host keeps between runs [default: /var/lib/sealift for root, else $XDG_STATE_HOME/sealift]
    #[arg(long, global = true, value_name = "DIR", env = "SEALIFT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Print one JSON document to standard output, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress and no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log each step; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Draw no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Coloured output
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Color,
    /// Exit with 3 also where there are warnings
    #[arg(long, global = true)]
    pub strict: bool,
    /// Trusted signing key, for this run: ssh-ed25519 AAAA…, as init printed it, or a file that holds it
    #[arg(long, global = true, value_name = "KEY")]
    pub signer: Option<String>,
    /// Accept a takeover: the fingerprint SHA256:… that `init --take-over` printed; remembered on this machine
    #[arg(long, global = true, value_name = "FINGERPRINT")]
    pub accept_signer: Option<String>,
    /// Accept the repository as it is, although this machine saw a newer state of the repository
    #[arg(long, global = true)]
    pub accept_rollback: bool,
    #[command(flatten)]
    pub s3: S3,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(clap::Args)]
#[command(next_help_heading = "S3")]
pub struct S3 {
    /// URL of an S3 server other than AWS; AWS_ENDPOINT_URL works, too
    #[arg(long, global = true, value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// Region of the bucket, such as eu-central-1
    #[arg(long, global = true, value_name = "NAME")]
    pub s3_region: Option<String>,
    /// Bucket in the path instead of in the host name [default: true with an own endpoint]
    #[arg(long, global = true, value_name = "BOOL")]
    pub s3_path_style: Option<bool>,
    /// Profile in the AWS configuration and credentials files
    #[arg(long, global = true, value_name = "NAME")]
    pub s3_profile: Option<String>,
    /// Storage class of what is stored, such as STANDARD_IA
    #[arg(long, global = true, value_name = "CLASS")]
    pub s3_storage_class: Option<String>,
    /// Server-side encryption: AES256 or aws:kms
    #[arg(long, global = true, value_name = "KIND")]
    pub s3_sse: Option<String>,
    /// Certificate authorities to trust in addition to the system's, as PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub s3_ca_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Show the main job in a scratch directory: no network, no configuration
    Demo(Demo),
    /// Create a repository, this host's signing key and sealift.toml
    Init(Init),
    /// Take one snapshot
    Backup(Backup),
    /// List the snapshots, or what one of them holds
    Snapshots(Snapshots),
    /// Restore a snapshot; needs only an identity and the repository's URL
    Restore(Restore),
    /// Compare the repository with its records; with an identity, also what is encrypted in it
    Check(Check),
    /// Manage who can open the backups: list, change and create keys
    #[command(subcommand)]
    Keys(Keys),
    /// Write what an operator keeps offline: signer, key files, recovery script, and one page of commands
    RecoveryKit(RecoveryKit),
    /// Test a restore: into a scratch directory that is checked and removed; signs a receipt
    Drill(Drill),
    /// Say whether there is a fresh and good snapshot, in one repository or many
    Status(Status),
    /// Show which snapshots the rules keep, and why; with --apply, remove the others
    Retain(Box<Retain>),
    /// Try the repository's server, and say what it allows; with --policy, print the rights of a role
    Doctor(Doctor),
    /// Print the help of a command, or a page of the guide: findings, storage, trust
    Help(Help),
    /// Print a completion script
    Completions { shell: clap_complete::Shell },
    /// Print the manual as man(7) source
    Man,
}

#[derive(clap::Args)]
pub struct Demo {
    /// Where to work; must be new or empty, and is kept [default: a temporary directory that is removed]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The recipients to encrypt to.
#[derive(clap::Args)]
pub struct Recipients {
    /// Recipient of the backups: age1…, ssh-ed25519 …, ssh-rsa …
    #[arg(short, long, value_name = "KEY")]
    pub recipient: Vec<String>,
    /// File with one recipient a line
    #[arg(short = 'R', long, value_name = "FILE")]
    pub recipients_file: Vec<PathBuf>,
}

/// On an operator's machine, with a private key: list, add, remove, rotate, confirm, restore. On the host, without one:
/// rebase.
#[derive(Subcommand)]
pub enum Keys {
    /// Show key epochs and versions, their recipients, and which snapshots need them; names need an identity
    List {
        #[command(flatten)]
        reader: Reader,
    },
    /// Let more recipients open the backups, old and new
    Add(Rotation),
    /// Encrypt the data keys without these recipients. A removed recipient may have kept a data key: `keys rebase` ends
    /// that for new snapshots
    ///
    /// The host's state directory and older recovery kits still hold the old key files: one of them and an old private key
    /// open the data key. `keys rebase`, retention of the snapshots before it, and a new kit in the place of the old ones
    /// end that.
    Remove(Rotation),
    /// Encrypt the data keys to exactly these recipients. A removed recipient may have kept a data key: `keys rebase` ends
    /// that for new snapshots
    ///
    /// The host's state directory and older recovery kits still hold the old key files: one of them and an old private key
    /// open the data key. `keys rebase`, retention of the snapshots before it, and a new kit in the place of the old ones
    /// end that.
    Rotate(Rotation),
    /// Prove that an identity of the new set opens the new key files; then the old ones that it opens as well are deleted
    ///
    /// Key files that no given identity opens stay. To end a rotation to other people, give an old identity as well.
    Confirm {
        #[command(flatten)]
        reader: Reader,
    },
    /// Restore a key file that is missing, from a copy that this identity opens
    Restore {
        #[command(flatten)]
        reader: Reader,
        /// Folder with the copies [default: those that this host keeps]
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// On the host: a new key and a full upload, so that new snapshots need no older key; needs no identity
    Rebase(Rebase),
    /// Create an identity for an operator
    New {
        /// Where to write it
        file: PathBuf,
        /// Do not protect it with a passphrase
        #[arg(long)]
        no_passphrase: bool,
    },
}

#[derive(clap::Args)]
pub struct Rotation {
    #[command(flatten)]
    pub recipients: Recipients,
    #[command(flatten)]
    pub reader: Reader,
    /// Private key of the new set that proves it at once; without one, `keys confirm` does it later
    #[arg(long, value_name = "IDENTITY")]
    pub proof: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub struct Rebase {
    /// The whole new set, which is also written into sealift.toml [default: the set in sealift.toml, while this host made all
    /// key files]
    #[command(flatten)]
    pub recipients: Recipients,
    #[command(flatten)]
    pub backup: BackupFlags,
}

#[derive(clap::Args)]
pub struct Backup {
    /// Say what would be uploaded, and upload nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub flags: BackupFlags,
    /// This machine was restored to an older state, or the repository was: continue from the newest snapshot that counts,
    /// with a full upload
    #[arg(long)]
    pub adopt: bool,
    /// Treat these packs and manifests as missing: upload again what still exists here
    #[arg(long, value_name = "OBJECT", num_args = 1..)]
    pub replace: Vec<String>,
}

/// The flags of every run that takes a snapshot.
#[derive(clap::Args)]
pub struct BackupFlags {
    /// Tag, to find the snapshot by
    #[arg(long, value_name = "NAME")]
    pub tag: Vec<String>,
    /// How long to wait for another run of this host, such as 10m
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub wait: jiff::SignedDuration,
    /// zstd level, 1 to 19 [default: 3]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub compression: Option<i32>,
}

#[derive(clap::Args)]
pub struct Snapshots {
    /// Show what this one holds: latest, a number, or a time; needs an identity
    pub snapshot: Option<String>,
    #[command(flatten)]
    pub reader: Reader,
}

#[derive(clap::Args)]
pub struct Restore {
    /// latest, a number, or a time: the last snapshot at or before it
    #[arg(default_value = "latest")]
    pub snapshot: String,
    /// Directory to restore into: new or empty. With --only NAME, `-` writes to standard output
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub to: Option<PathBuf>,
    /// Restore only this source; repeatable
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    #[command(flatten)]
    pub reader: Reader,
    /// Say what would be restored and downloaded, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Move what is in the way aside instead of refusing; nothing is deleted
    #[arg(long)]
    pub force: bool,
    /// For scripts that start a host: exit with 0 where DIR has files (with --only: all of these), and with 4 where the
    /// repository has no snapshot yet. DIR does not change then
    #[arg(long, conflicts_with_all = ["force", "dry_run"])]
    pub if_missing: bool,
}

#[derive(clap::Args)]
pub struct Check {
    /// Only this one: latest, a number, or a time [default: every snapshot]
    pub snapshot: Option<String>,
    /// Read the stored bytes and compare their hashes: all of them, or about this share, the next one at each run of this
    /// machine, so that 100 / PERCENT runs, rounded up, read everything: 5 takes 20 runs, 3 takes 34
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub read_data: Option<u8>,
    #[command(flatten)]
    pub reader: Reader,
    /// With an identity: where opened blocks are kept meanwhile, encrypted [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

#[derive(clap::Args)]
#[command(after_help = recovery_script())]
pub struct RecoveryKit {
    /// New or empty directory
    pub dir: PathBuf,
    #[command(flatten)]
    pub reader: Reader,
}

/// The hash to compare the script in a bucket with.
fn recovery_script() -> String {
    format!("The recovery script of this release has the SHA-256\n{}", recovery_script_digest())
}

#[derive(clap::Args)]
pub struct Drill {
    /// latest, a number, or a time: the last snapshot at or before it
    #[arg(default_value = "latest")]
    pub snapshot: String,
    #[command(flatten)]
    pub reader: Reader,
    /// Where the scratch directory is made; it needs the snapshot's size [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Run this in the directory of the restored files, by `sh -c`; anything but exit code 0 fails the drill. What it left
    /// running is ended with it; only where the drill itself is killed (SIGKILL) it may run on
    #[arg(long, value_name = "CMD")]
    pub command: Option<String>,
    /// Drill on the host that writes the repository, where no identity should be
    #[arg(long)]
    pub here: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Each rule that is given here replaces the one of its name in [retention]; the others there hold. Where \
                  neither sets a rule, nothing is planned: add [retention] with keep_daily = 14 to sealift.toml. \
                  --ignore and --remove need no rule."
)]
pub struct Retain {
    /// Carry the plan out; without it nothing is deleted
    #[arg(long)]
    pub apply: bool,
    /// Remove this snapshot and no other, also one that is ignored; repeatable
    #[arg(long, value_name = "NUMBER", conflicts_with = "Keep")]
    pub remove: Vec<u64>,
    /// Ignore this record, which does not count: it no longer blocks deletion. What it names stays until --remove;
    /// repeatable
    #[arg(long, value_name = "NUMBER", conflicts_with = "Keep")]
    pub ignore: Vec<u64>,
    /// For timers: refuse to remove all snapshots of more than max_remove_percent of the days at once
    #[arg(long)]
    pub unattended: bool,
    /// How long to wait for another run on this machine, such as 10m
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub wait: jiff::SignedDuration,
    #[command(flatten)]
    pub reader: Reader,
    #[command(flatten)]
    pub keep: Keep,
}

/// Each replaces the rule of that name in the configuration.
#[derive(Default, clap::Args)]
#[command(next_help_heading = "Rules")]
pub struct Keep {
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u64>,
    /// Keep the last one of each of the N newest hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u64>,
    /// The same for days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u64>,
    /// The same for weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u64>,
    /// The same for months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u64>,
    /// The same for years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u64>,
    /// Keep all that are no older than this, counted from the newest: 30d, 12w, 1y 6mo
    #[arg(long, value_name = "SPAN")]
    pub keep_within: Option<Within>,
    /// Keep all that have this tag; repeatable
    #[arg(long, value_name = "TAG")]
    pub keep_tag: Vec<String>,
}

#[derive(clap::Args)]
#[command(after_help = "--repository may be given several times. With --repositories, SEALIFT_REPOSITORY is \
                  ignored. The exit code is 14 where no good snapshot is fresh, and 3 where one is fresh and there is a problem, \
                  such as an older snapshot that lacks an object; of several repositories it is that of the worst: an error \
                  (1, 10, 12 or 13) before a stale one (14), and that before one with a problem.")]
pub struct Status {
    /// How old the newest good snapshot may be, such as 26h or 8d
    #[arg(long, value_name = "TIME", default_value = "26h", value_parser = age)]
    pub max_age: jiff::SignedDuration,
    /// One repository a line, its signer (ssh-ed25519 AAAA…) after it where this machine does not know it
    #[arg(long, value_name = "FILE")]
    pub repositories: Option<PathBuf>,
}

/// A span without months: days have 24 hours.
fn age(text: &str) -> Result<jiff::SignedDuration, String> {
    let wanted = || "an age is written as 26h, 90m or 8d".to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wanted())?;
    let age = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wanted())?;
    if age.is_positive() { Ok(age) } else { Err(wanted()) }
}

/// The private keys of a reader.
#[derive(Default, clap::Args)]
pub struct Reader {
    /// Private key: an age identity file, a passphrase-protected one, or an SSH key; `-` reads standard input.
    /// The key itself may also stand in SEALIFT_IDENTITY
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_IDENTITY_FILE", value_delimiter = None)]
    pub identity: Vec<PathBuf>,
}
