//! What a person reads of a finding: what is the case, and what to do.

use crate::finding::Finding;
use crate::format::ranges::{is_one, snapshots as named, written};

/// One sentence: the object and its state.
pub fn sentence(finding: &Finding) -> String {
    use Finding as F;
    match finding {
        F::UnpinnedSigner { fingerprint, .. } => {
            format!(
                "only the repository itself says who signs it: {fingerprint}. This machine trusts that key from now on"
            )
        }
        F::SignerClaim { trusted, signer, host, since, snapshots } => format!(
            "{} signed by {signer}, which claims to have taken over from the trusted key {trusted} (host {host}, {since})",
            snapshots_are(snapshots)
        ),
        F::RecordDamaged { snapshot, why } => format!("the record of snapshot {snapshot} does not count: {why}"),
        F::RecordUntrusted { snapshot, fingerprint } => {
            format!(
                "the record of snapshot {snapshot} does not count: it is signed by {fingerprint}, which is not trusted"
            )
        }
        F::RecordNewer { snapshot } => {
            format!("snapshot {snapshot} has a format that only a newer sealift reads")
        }
        F::RecordIgnored { snapshots } => format!("{} ignored, as a person decided", records_are(snapshots)),
        F::RecordReplaced { snapshot } => {
            format!("snapshot {snapshot} was replaced by a different, validly signed record")
        }
        F::RolledBack { snapshot, newest } => match newest {
            Some(newest) => format!(
                "the repository was rolled back: this machine verified snapshot {snapshot}, and the newest one there is {newest}"
            ),
            None => format!(
                "the repository was rolled back: this machine verified snapshot {snapshot}, and no snapshot is there"
            ),
        },
        F::RecordUnlisted { snapshots } => {
            format!("{} there, but the server's listing lacks {}", snapshots_are(snapshots), it(snapshots))
        }
        F::SnapshotsRemoved { snapshots } => {
            format!("{} removed since this machine first saw {}", snapshots_were(snapshots), it(snapshots))
        }
        F::ManyRemoved { days_before, days_left } => format!(
            "of {days_before} days with a snapshot that this machine saw at its last look, {days_left} {} left",
            plural(*days_left, "is", "are")
        ),
        F::OutOfOrder { snapshots } => format!(
            "{} out of order: stored more than a day after a higher number, or dated before a lower one",
            snapshots_are(snapshots)
        ),
        F::SnapshotsIncomplete { snapshots } => {
            format!("{} cannot be restored in full: objects are missing", named(snapshots))
        }
        F::DescriptorChanged { restored: true } => {
            "repository.json was changed or missing, and is restored from this host's copy".to_owned()
        }
        F::DescriptorChanged { restored: false } => {
            "repository.json is missing or is not the one that this machine remembers, which counts here".to_owned()
        }
        F::NotRemembered { path, why } => {
            format!("what this machine saw cannot be remembered in {}: {why}", path.display())
        }
        F::ClockOff { host_time, server_time } => {
            format!("this machine's clock says {host_time}, and the server's says {server_time}")
        }
        F::SingleWriter {} => "the server ignores conditional puts, so this host must be the only writer".to_owned(),
        F::ConditionalPutsIgnored {} => {
            "this host relies on conditional puts, and the server ignores or refuses them".to_owned()
        }
        F::WriterCanDelete {} => {
            "this host's credentials may delete objects, so root on this host can destroy the backups".to_owned()
        }
        F::ObjectsMissing { objects, snapshots } if snapshots.is_empty() => {
            format!(
                "{} missing, of another size or to be replaced: uploaded again as far as it exists here",
                few(objects)
            )
        }
        F::ObjectsMissing { objects, snapshots } => format!(
            "{} missing, of another size or to be replaced, so {} cannot be restored in full. What exists here is uploaded again",
            few(objects),
            named(snapshots)
        ),
        F::CatalogLost {} => {
            "the catalog of stored blocks is missing or damaged: blocks that it does not name are uploaded again"
                .to_owned()
        }
        F::KeyFilesNew { objects } => format!("{} new, and not made by this host", few_are(objects)),
        F::KeyFilesRestored { lost, objects } => format!(
            "{} missing or replaced without a receipt that explains it: restored from this host's copies as {}",
            few(lost),
            few(objects)
        ),
        F::KeyFilesNotKept { objects } => {
            format!("this host keeps no copy of {}: no age file, too large, too many, or access denied", few(objects))
        }
        F::TooManyKeyFiles { epoch, count } => format!("epoch {epoch} has {count} key files; readers try 64"),
        F::KeyFilesUnopened { objects } => {
            format!("no given identity opens {}: unchanged, and its recipients can still decrypt", few(objects))
        }
        F::EpochNotOpened { epoch, snapshots } if snapshots.is_empty() => {
            format!("no given identity opens epoch {epoch}: unchanged")
        }
        F::EpochNotOpened { epoch, snapshots } => {
            let verb = if is_one(snapshots) { "needs" } else { "need" };
            format!("no given identity opens epoch {epoch}, which {} {verb}", named(snapshots))
        }
        F::RotationNotProved { epochs } => format!(
            "no identity of the new set has opened {} yet: the old key files stay, and removed recipients can still decrypt",
            numbers(epochs)
        ),
        F::KeysMissing { epochs } => {
            format!("there is no key file of {}: what is encrypted to it cannot be opened", numbers(epochs))
        }
        F::SingleRecipient {} => "there is one recipient: if that key is lost, every backup is lost".to_owned(),
        F::RecipientsChanged {} => {
            "the recipients in sealift.toml are not those that the backups are encrypted to".to_owned()
        }
        F::OldKeyLocked { until } => {
            format!(
                "the bucket locks its objects: deleted key files can be fetched as old versions until {until} at least"
            )
        }
        F::OldKeyKept {} => "the bucket keeps old versions: deleted key files can still be fetched".to_owned(),
        F::SshTag { recipient } => format!(
            "age writes a 4-byte tag of the SSH key {recipient} into what it encrypts: anyone with the public key can see that \
             it is a recipient"
        ),
        F::ReceiptNotStored { why } => format!("the receipt could not be stored: {why}"),
        F::ApplyRefused { why, .. } => format!("--apply would be refused: {why}"),
        F::NotDeleted { objects, why } => format!("{} still there: {why}", few_are(objects)),
        F::StillLocked { objects, until } => format!("{} locked by the bucket until {until} at most", few_are(objects)),
        F::VersionedBucket {} => {
            "the bucket keeps old versions: what is deleted is hidden and still takes space".to_owned()
        }
        F::SourceMissing { source, path } => {
            format!("{} does not exist, so this snapshot lacks {source}", path.display())
        }
        F::SourceDamaged { path, why } => format!("{} is damaged, and was backed up as it is: {why}", path.display()),
        F::SourceEmptied { path } => {
            format!("{} is empty, and had content in the snapshot before", path.display())
        }
        F::HealthUnchecked { path, why } => format!("{} was not checked in time: {why}", path.display()),
        F::LongHold { milliseconds } => {
            format!("writers of the application paused up to {:.1} s", *milliseconds as f64 / 1000.0)
        }
        F::SnapshotHealth { snapshot, health } => format!("when snapshot {snapshot} was taken, a source was {health}"),
        F::IntegrityCheck { source, why } => {
            format!("{source} was restored byte for byte, and SQLite finds it damaged: {why}")
        }
        F::OwnerNotRestored { sources } => format!("the owner of {} could not be restored by this user", few(sources)),
        F::ForeignKeys { source, rows } => {
            let least = if *rows >= 1000 { "at least " } else { "" };
            format!("{source}: {least}{rows} {} to rows that are not there", plural(*rows, "row refers", "rows refer"))
        }
        F::CredentialKeyMissing { credentials } => format!(
            "{credentials} stored {} encrypted, and no restored file holds the key",
            plural(*credentials, "credential is", "credentials are")
        ),
        F::CredentialKeyMismatch { credentials, opened } => {
            format!("{opened} of {credentials} stored credentials open with the keys in the restored .env")
        }
        F::ScratchLeft { path, why } => {
            format!("restored data in {} could not be removed: {why}", path.display())
        }
        F::ScratchRemoved { path } => {
            format!("a run that was killed had left restored data in {}: removed", path.display())
        }
        F::StagingLeft { paths } => {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("a restore that was killed left unencrypted data in {}", paths.join(", "))
        }
        F::HostUnknown { path, why } => format!(
            "{} cannot be read ({why}), so whether this machine is the host that writes the repository is not known",
            path.display()
        ),
        F::RecoveryTextDiffers {} => "RECOVERY.txt is not the one that this version of sealift writes".to_owned(),
        F::RecoveryScriptForeign { objects } => {
            format!(
                "{}, and RECOVERY.txt does not name {}",
                match objects.len() {
                    1 => format!("{} is not a script of this version", few(objects)),
                    _ => format!("{} are not scripts of this version", few(objects)),
                },
                if objects.len() == 1 { "it" } else { "them" }
            )
        }
        F::ReadingRestarted { why } => {
            format!("the share of the data to read next could not be read, so reading starts over: {why}")
        }
        F::ReadingNotRemembered { why } => {
            format!("the share of the data to read next cannot be remembered, so it follows from the date: {why}")
        }
    }
}

/// What to do next; `None` where nothing is to be done.
pub fn hint(finding: &Finding) -> Option<String> {
    use Finding as F;
    let hint = match finding {
        F::UnpinnedSigner { .. } => "compare it with what `sealift init` printed".to_owned(),
        F::SignerClaim { snapshots, .. } => format!(
            "compare the fingerprint with what `sealift init --take-over` printed on the new host. If it is the same: \
             --accept-signer FINGERPRINT. If it is false: `sealift retain{} --apply` on the host",
            each(snapshots, "--ignore")
        ),
        F::RecordDamaged { snapshot, .. } | F::RecordUntrusted { snapshot, .. } => format!(
            "restore it from a copy of the bucket, or `sealift retain --ignore {snapshot} --apply` (on the host, it counts for \
             every machine)"
        ),
        F::RecordNewer { .. } => "upgrade sealift on this machine".to_owned(),
        F::RecordReplaced { .. } | F::RolledBack { .. } => {
            "restore the newer state of the bucket; or accept what is there with `sealift backup --adopt` on the host, \
             --accept-rollback elsewhere"
                .to_owned()
        }
        F::RecordUnlisted { .. } => {
            "repair the server's index: while its listing is incomplete, `sealift retain` deletes nothing".to_owned()
        }
        F::ManyRemoved { .. } => "`sealift snapshots` shows what is left; check who runs retention".to_owned(),
        F::OutOfOrder { snapshots } => format!(
            "no rule counts or removes {}; `sealift retain{} --apply` does",
            it(snapshots),
            each(snapshots, "--remove")
        ),
        F::SnapshotsIncomplete { .. } => "`sealift check` names the objects and the way out".to_owned(),
        F::DescriptorChanged { restored: false } => "`sealift backup` on the host restores it".to_owned(),
        F::NotRemembered { .. } => "name a directory that can be written and lasts with --state-dir".to_owned(),
        F::ClockOff { .. } => "set the clock that is wrong".to_owned(),
        F::ConditionalPutsIgnored {} => {
            "use a server that honours them, or `sealift init --single-writer` where one host alone writes".to_owned()
        }
        F::SingleWriter {} => "never run two copies of this host; see `sealift help storage`".to_owned(),
        F::WriterCanDelete {} => {
            "give the host credentials that may not delete, or let the bucket keep versions; see `sealift help storage`"
                .to_owned()
        }
        F::KeyFilesNew { .. } => {
            "expected after `sealift keys add`, `remove` or `rotate`; `sealift keys list --identity FILE` shows its recipients"
                .to_owned()
        }
        F::KeyFilesRestored { .. } => {
            "removed recipients may be able to decrypt again. `sealift keys list --identity FILE` shows the recipients of each key \
             file. To remove one again: `sealift keys rotate`"
                .to_owned()
        }
        F::TooManyKeyFiles { .. } => "delete the key files that no recipient needs with the bucket's own tools".to_owned(),
        F::KeyFilesUnopened { .. } => "run it with an identity that opens what is left".to_owned(),
        F::EpochNotOpened { .. } => "run it with an identity that opens it".to_owned(),
        F::RotationNotProved { .. } => "`sealift keys confirm --identity NEW` proves it".to_owned(),
        F::KeysMissing { .. } => {
            "`sealift keys restore --identity FILE` restores a copy that the host or a recovery kit holds".to_owned()
        }
        F::SingleRecipient {} => {
            "add one that is kept offline: `sealift keys add -r KEY --identity FILE` on an operator's machine".to_owned()
        }
        F::RecipientsChanged {} => "`sealift keys rebase` encrypts to them from now on, with a full upload".to_owned(),
        F::OldKeyLocked { .. } | F::OldKeyKept {} | F::VersionedBucket {} => {
            "add a lifecycle rule to the bucket that expires noncurrent versions".to_owned()
        }
        F::ApplyRefused { way_out, .. } => way_out.clone(),
        F::StillLocked { .. } => "a later run deletes what is no longer locked".to_owned(),
        F::SourceMissing { .. } => "check the path in sealift.toml".to_owned(),
        F::SourceDamaged { .. } => "restore an older snapshot of it, or repair it".to_owned(),
        F::ScratchLeft { .. } | F::StagingLeft { .. } => "delete it".to_owned(),
        F::RecoveryTextDiffers {} => "another version may have written it; a recovery kit holds one that you can trust".to_owned(),
        F::RecoveryScriptForeign { .. } => "do not run it; a recovery kit holds one that you can trust".to_owned(),
        _ => return None,
    };
    Some(hint)
}

fn plural<'a>(count: u64, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

fn snapshots_are(ranges: &[(u64, u64)]) -> String {
    format!("{} {}", named(ranges), if is_one(ranges) { "is" } else { "are" })
}

fn snapshots_were(ranges: &[(u64, u64)]) -> String {
    format!("{} {}", named(ranges), if is_one(ranges) { "was" } else { "were" })
}

fn it(ranges: &[(u64, u64)]) -> &'static str {
    if is_one(ranges) { "it" } else { "them" }
}

fn records_are(ranges: &[(u64, u64)]) -> String {
    if is_one(ranges) {
        format!("the record of snapshot {} is", written(ranges))
    } else {
        format!("the records of snapshots {} are", written(ranges))
    }
}

/// ` --ignore 5 --ignore 6`; of many, the first and `…`.
fn each(ranges: &[(u64, u64)], flag: &str) -> String {
    const MOST: usize = 5;
    let all: Vec<u64> = ranges.iter().flat_map(|(first, last)| *first..=*last).take(MOST + 1).collect();
    let mut text: String = all.iter().take(MOST).map(|number| format!(" {flag} {number}")).collect();
    if all.len() > MOST {
        text.push_str(" …");
    }
    text
}

/// `epoch 1`, or `epochs 1, 3`.
fn numbers(epochs: &[u32]) -> String {
    let noun = if epochs.len() == 1 { "epoch" } else { "epochs" };
    format!("{noun} {}", epochs.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
}

/// The first few names, and how many more.
fn few(names: &[String]) -> String {
    const MOST: usize = 4;
    let first = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn few_are(names: &[String]) -> String {
    format!("{} {}", few(names), if names.len() == 1 { "is" } else { "are" })
}
