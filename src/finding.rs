//! Findings: what a command reports about the state of things.
//!
//! A finding is data: a code that scripts may rely on, a severity, a subject and fields. Its sentence is made in `messages`.
//! Severity alone decides the exit code, and nothing decides anything by comparing sentences.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

/// What a finding does to the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// 0, also under `--strict`.
    Note,
    /// 0; 3 under `--strict`.
    Warning,
    /// 3.
    Problem,
}

/// Inclusive ranges of snapshot numbers in ascending order.
pub type Numbers = Vec<(u64, u64)>;

/// Declares the enum, its codes and its severities, each in one line, so that none can be forgotten.
macro_rules! findings {
    ($($(#[$doc:meta])* $code:literal $severity:ident $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        /// Something that a command found. `Serialize` gives `code` and the fields.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(tag = "code")]
        pub enum Finding {
            $($(#[$doc])* #[serde(rename = $code)] $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl Finding {
            /// Every code with its severity, in the order of the guide.
            pub const ALL: &[(&'static str, Severity)] = &[$(($code, Severity::$severity)),*];

            /// What scripts know it by.
            pub fn code(&self) -> &'static str {
                match self { $(Self::$name { .. } => $code,)* }
            }

            pub fn severity(&self) -> Severity {
                match self { $(Self::$name { .. } => Severity::$severity,)* }
            }
        }
    };
}

findings! {
    // ---- who signs ----
    /// Nothing but the repository itself says who signs it. Fields: the signing key and its fingerprint.
    "unpinned-signer" Warning UnpinnedSigner { signer: String, fingerprint: String }
    /// Records by `signer`, whose chain of takeovers begins at the trusted key `trusted`: a person decides.
    "signer-claim" Problem SignerClaim { trusted: String, signer: String, host: String, since: Timestamp, snapshots: Numbers }
    // ---- records ----
    /// A record that cannot be read, or whose signature fails.
    "record-damaged" Problem RecordDamaged { snapshot: u64, why: String }
    /// A record with a valid signature by a key that neither counts nor claims a takeover.
    "record-untrusted" Problem RecordUntrusted { snapshot: u64, fingerprint: String }
    /// A record of a newer format, by a key that counts.
    "record-newer" Problem RecordNewer { snapshot: u64 }
    /// Records that a person ignored.
    "record-ignored" Note RecordIgnored { snapshots: Numbers }
    /// Other validly signed bytes under a number that this machine verified before.
    "record-replaced" Problem RecordReplaced { snapshot: u64 }
    /// The newest record that this machine verified is gone, and only older ones are there.
    "rolled-back" Problem RolledBack { snapshot: u64, newest: Option<u64> }
    /// Records that are there although the listing lacks them.
    "record-unlisted" Problem RecordUnlisted { snapshots: Numbers }
    /// Records that this machine saw and that are gone.
    "snapshots-removed" Note SnapshotsRemoved { snapshots: Numbers }
    /// Fewer than half as many days with a snapshot are left as at this machine's last look.
    "many-removed" Warning ManyRemoved { days_before: u64, days_left: u64 }
    /// Stored long after a higher number, or dated before a lower one: no rule counts or removes it.
    "out-of-order" Note OutOfOrder { snapshots: Numbers }
    /// Snapshots that need an object which is missing or has another size.
    "snapshots-incomplete" Problem SnapshotsIncomplete { snapshots: Numbers }
    // ---- the repository ----
    /// `repository.json` is not what this machine remembers. `restored`: this run restored the remembered one.
    "descriptor-changed" Problem DescriptorChanged { restored: bool }
    /// What was seen cannot be remembered.
    "not-remembered" Warning NotRemembered { path: PathBuf, why: String }
    /// The clocks of this host and of the server differ by more than five minutes.
    "clock-off" Warning ClockOff { host_time: Timestamp, server_time: Timestamp }
    /// The server ignores conditional puts, and a person chose to use it.
    "single-writer" Note SingleWriter {}
    /// This host relies on conditional puts, and the server ignores or refuses them.
    "conditional-puts-ignored" Problem ConditionalPutsIgnored {}
    /// The host's credentials may delete, and nothing is known of versions or locks.
    "writer-can-delete" Note WriterCanDelete {}
    /// Objects that the newest snapshot needs, missing or of another size; what exists here is uploaded again.
    "objects-missing" Problem ObjectsMissing { objects: Vec<String>, snapshots: Numbers }
    /// The catalog of stored blocks is missing or damaged.
    "catalog-lost" Warning CatalogLost {}
    // ---- keys ----
    /// Key files that this host did not make, seen for less than the grace period.
    "key-files-new" Note KeyFilesNew { objects: Vec<String> }
    /// Key files that were gone or replaced, restored from this host's copies. `objects`: where they are now.
    "key-files-restored" Problem KeyFilesRestored { lost: Vec<String>, objects: Vec<String> }
    /// Key files of which no copy is kept here: no age file, too large, too many or denied.
    "key-files-not-kept" Warning KeyFilesNotKept { objects: Vec<String> }
    /// More key files in one epoch than readers try.
    "too-many-key-files" Problem TooManyKeyFiles { epoch: u32, count: u64 }
    /// Key files that no given identity opens; they stay as they are.
    "key-files-unopened" Warning KeyFilesUnopened { objects: Vec<String> }
    /// An epoch that no given identity opens.
    "epoch-not-opened" Problem EpochNotOpened { epoch: u32, snapshots: Numbers }
    /// No identity of the new set has opened the new key files yet.
    "rotation-not-proved" Problem RotationNotProved { epochs: Vec<u32> }
    /// There is no key file of an epoch that a snapshot needs.
    "keys-missing" Problem KeysMissing { epochs: Vec<u32> }
    /// One person alone opens the backups.
    "single-recipient" Warning SingleRecipient {}
    /// The recipients in the configuration are not those that the backups are encrypted to.
    "recipients-changed" Warning RecipientsChanged {}
    /// Deleted key files can be fetched as old versions until then at least.
    "old-key-locked" Warning OldKeyLocked { until: Timestamp }
    /// Deleted key files can be fetched as old versions until a lifecycle rule expires them.
    "old-key-kept" Warning OldKeyKept {}
    /// An SSH key type for which age writes a tag that links the files of one recipient.
    "ssh-tag" Note SshTag { recipient: String }
    // ---- receipts ----
    /// A receipt could not be stored: these credentials may only read.
    "receipt-not-stored" Note ReceiptNotStored { why: String }
    // ---- retention ----
    /// What `--apply` would refuse, and why.
    "apply-refused" Problem ApplyRefused { why: String, way_out: String }
    /// Objects that are still there after the server was asked to delete them.
    "not-deleted" Problem NotDeleted { objects: Vec<String>, why: String }
    /// Objects that the bucket locks; a later run deletes them.
    "still-locked" Note StillLocked { objects: Vec<String>, until: Timestamp }
    /// The bucket keeps old versions of what is deleted.
    "versioned-bucket" Note VersionedBucket {}
    // ---- sources ----
    /// A source that does not exist.
    "source-missing" Problem SourceMissing { source: String, path: PathBuf }
    /// A damaged database, backed up as it is.
    "source-damaged" Problem SourceDamaged { path: PathBuf, why: String }
    /// A database that had pages in the snapshot before and has none now.
    "source-emptied" Problem SourceEmptied { path: PathBuf }
    /// A database that was not checked in time.
    "health-unchecked" Note HealthUnchecked { path: PathBuf, why: String }
    /// Writers of the application waited for this long.
    "long-hold" Warning LongHold { milliseconds: u64 }
    // ---- restore, check and drill ----
    /// A source was missing or damaged when the snapshot was taken.
    "snapshot-health" Problem SnapshotHealth { snapshot: u64, health: String }
    /// SQLite finds a database damaged that was restored byte for byte.
    "integrity-check" Problem IntegrityCheck { source: String, why: String }
    /// Files whose owner this user may not set.
    "owner-not-restored" Note OwnerNotRestored { sources: Vec<String> }
    /// Rows that refer to rows that are not there; at most 1000 are counted.
    "foreign-keys" Note ForeignKeys { source: String, rows: u64 }
    /// Stored credentials whose key no restored file holds.
    "credential-key-missing" Problem CredentialKeyMissing { credentials: u64 }
    /// Stored credentials that do not open with the restored key.
    "credential-key-mismatch" Problem CredentialKeyMismatch { credentials: u64, opened: u64 }
    /// Restored data in the clear that could not be removed.
    "scratch-left" Problem ScratchLeft { path: PathBuf, why: String }
    /// Restored data that a run which was killed had left, and that are removed.
    "scratch-removed" Note ScratchRemoved { path: PathBuf }
    /// Data in the clear that a restore which was killed left.
    "staging-left" Warning StagingLeft { paths: Vec<PathBuf> }
    /// Whether this machine is the host that writes the repository is not known.
    "host-unknown" Warning HostUnknown { path: PathBuf, why: String }
    /// `RECOVERY.txt` is not the one that this version writes.
    "recovery-text-differs" Note RecoveryTextDiffers {}
    /// Recovery scripts that neither this version nor `RECOVERY.txt` names.
    "recovery-script-foreign" Problem RecoveryScriptForeign { objects: Vec<String> }
    /// Which share of the data to read next could not be read, so reading starts over.
    "reading-restarted" Note ReadingRestarted { why: String }
    /// Which share of the data to read next cannot be remembered.
    "reading-not-remembered" Note ReadingNotRemembered { why: String }
}

impl Finding {
    /// What it is about: a snapshot, an object, a path or a source; the repository where nothing else is.
    pub fn subject(&self) -> String {
        match self {
            Self::RecordDamaged { snapshot, .. }
            | Self::RecordUntrusted { snapshot, .. }
            | Self::RecordNewer { snapshot }
            | Self::RecordReplaced { snapshot }
            | Self::RolledBack { snapshot, .. }
            | Self::SnapshotHealth { snapshot, .. } => format!("snapshot {snapshot}"),
            Self::SignerClaim { snapshots, .. }
            | Self::RecordIgnored { snapshots }
            | Self::RecordUnlisted { snapshots }
            | Self::SnapshotsRemoved { snapshots }
            | Self::OutOfOrder { snapshots }
            | Self::SnapshotsIncomplete { snapshots } => written(snapshots),
            Self::ObjectsMissing { objects, .. }
            | Self::KeyFilesNew { objects }
            | Self::KeyFilesRestored { lost: objects, .. }
            | Self::KeyFilesNotKept { objects }
            | Self::KeyFilesUnopened { objects }
            | Self::NotDeleted { objects, .. }
            | Self::StillLocked { objects, .. }
            | Self::RecoveryScriptForeign { objects } => objects.join(", "),
            Self::TooManyKeyFiles { epoch, .. } | Self::EpochNotOpened { epoch, .. } => format!("epoch {epoch}"),
            Self::RotationNotProved { epochs } | Self::KeysMissing { epochs } => {
                let noun = if epochs.len() == 1 { "epoch" } else { "epochs" };
                format!("{noun} {}", epochs.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::SourceMissing { path, .. }
            | Self::SourceDamaged { path, .. }
            | Self::SourceEmptied { path }
            | Self::HealthUnchecked { path, .. }
            | Self::ScratchLeft { path, .. }
            | Self::ScratchRemoved { path }
            | Self::HostUnknown { path, .. }
            | Self::NotRemembered { path, .. } => path.display().to_string(),
            Self::StagingLeft { paths } => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            }
            Self::IntegrityCheck { source, .. } | Self::ForeignKeys { source, .. } => source.clone(),
            Self::SshTag { recipient } => recipient.clone(),
            Self::DescriptorChanged { .. } => "repository.json".to_owned(),
            Self::RecoveryTextDiffers {} => "RECOVERY.txt".to_owned(),
            Self::OwnerNotRestored { sources } => sources.join(", "),
            Self::CredentialKeyMissing { .. } | Self::CredentialKeyMismatch { .. } => "credentials".to_owned(),
            Self::RecipientsChanged {} | Self::SingleRecipient {} => "recipients".to_owned(),
            Self::UnpinnedSigner { .. } => "signer".to_owned(),
            Self::ManyRemoved { .. }
            | Self::ClockOff { .. }
            | Self::SingleWriter {}
            | Self::ConditionalPutsIgnored {}
            | Self::WriterCanDelete {}
            | Self::CatalogLost {}
            | Self::OldKeyLocked { .. }
            | Self::OldKeyKept {}
            | Self::ReceiptNotStored { .. }
            | Self::ApplyRefused { .. }
            | Self::VersionedBucket {}
            | Self::LongHold { .. }
            | Self::ReadingRestarted { .. }
            | Self::ReadingNotRemembered { .. } => "repository".to_owned(),
        }
    }
}

/// `snapshot 2`, or `snapshots 2, 5 to 9`.
fn written(numbers: &[(u64, u64)]) -> String {
    let noun = if matches!(numbers, [(first, last)] if first == last) { "snapshot" } else { "snapshots" };
    let word =
        |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    format!("{noun} {}", numbers.iter().map(word).collect::<Vec<_>>().join(", "))
}
