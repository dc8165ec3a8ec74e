//! `sealift keys`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{self, Global, Keys, Rebase, Rotation};
use super::backup::request;
use super::context::Context;
use super::failure::{FAILED, Failure};
use super::identities;
use super::output::{human_bytes, print_json, print_lines, print_warnings};
use crate::config::with_recipients;
use crate::crypto::Recipient;
use crate::finding::Finding;
use crate::format::KeyHolders;
use crate::format::ranges::snapshots as named;
use crate::fsx;
use crate::history::{History, Reader};
use crate::keys::{Change, KeyList, ListedEpoch, ListedVersion, NewIdentity, RotateReport, RotateRequest};

pub async fn run(command: Keys, global: Global) -> Result<u8, Failure> {
    match command {
        Keys::List { reader } => list(&reader, &Context::load(global)?).await,
        Keys::Add(rotation) => rotate(&rotation, Change::Add, &Context::load(global)?).await,
        Keys::Remove(rotation) => rotate(&rotation, Change::Remove, &Context::load(global)?).await,
        Keys::Rotate(rotation) => rotate(&rotation, Change::Set, &Context::load(global)?).await,
        Keys::Confirm { reader } => confirm(&reader, &Context::load(global)?).await,
        Keys::Restore { reader, from } => restore(&reader, from, &Context::load(global)?).await,
        Keys::Rebase(command) => Box::pin(rebase(&command, &Context::load(global)?)).await,
        Keys::New { file, no_passphrase } => new(file, no_passphrase, &Context::load(global)?).await,
    }
}

/// Where recipients were not named but read from a key file.
pub const COMMENTS_PROVE_NOTHING: &str =
    "Check these names: those that were there before come from comments in the key file, which prove nothing.";

/// Once this host saw a key file that it did not make.
pub const MADE_ELSEWHERE: &str = "recipients managed by rotation: sealift.toml does not say who opens these backups";

/// Where names come from, in JSON: what this host encrypted to itself, what was typed, or what a key file says of itself.
const BY_HOST: &str = "host";
pub const BY_COMMAND: &str = "command";
pub const BY_COMMENTS: &str = "comments";

/// An operator with at least one identity.
fn operator(flags: &args::Reader, context: &Context) -> Result<Reader, Failure> {
    context.reader(identities::load(&flags.identity)?)
}

async fn list(flags: &args::Reader, context: &Context) -> Result<u8, Failure> {
    let reader = context.reader(identities::load_any(&flags.identity)?)?;
    let (remote, _) = context.remote().await?;
    let list = crate::keys::list_keys(&remote, &reader).await?;
    print_warnings(&context.global, &list.warnings);
    if context.global.json {
        let epochs: Vec<Value> = list.epochs.iter().map(epoch_json).collect();
        print_json(
            json!({
                        "epochs": epochs, "made_elsewhere": list.made_elsewhere
            }),
            &list.warnings,
        )?;
    } else {
        print_lines(list_lines(&list))?;
    }
    Ok(context.exit_code(&list.warnings))
}

fn names(recipients: &[Recipient]) -> Vec<&str> {
    recipients.iter().map(Recipient::as_str).collect()
}

fn epoch_json(epoch: &ListedEpoch) -> Value {
    let versions = epoch.versions.iter().map(|version| {
        json!({
            "key_version": version.version, "bytes": version.bytes, "time": version.time, "own": version.own,
            "recipients": version.holders.as_ref().map(|holders| names(&holders.recipients)),
            "recipients_from": version.holders.as_ref().map(|_| if version.claimed { BY_COMMENTS } else { BY_HOST }),
            "opens": version.opens.as_ref().map(Result::is_ok),
            "problem": version.opens.as_ref().and_then(|opens| opens.as_ref().err()),
        })
    });
    json!({
        "epoch": epoch.epoch, "recipient": epoch.recipient, "snapshots": epoch.snapshots,
        "former": names(&epoch.holders().former), "former_from": BY_COMMENTS, "versions": versions.collect::<Vec<_>>(),
    })
}

fn list_lines(list: &KeyList) -> Vec<String> {
    let mut lines = Vec::new();
    for epoch in &list.epochs {
        let snapshots = match &epoch.snapshots[..] {
            [] => "needed by no snapshot".to_owned(),
            ranges => format!("needed by {}", named(ranges)),
        };
        lines.push(format!("epoch {}: {snapshots}", epoch.epoch));
        if epoch.versions.is_empty() {
            lines.push("  NO KEY FILE IS LEFT: `sealift keys restore` restores a copy".to_owned());
        }
        lines.extend(epoch.versions.iter().flat_map(version_lines));
        let former = epoch.holders().former;
        if !former.is_empty() {
            lines.push("  removed, its comments say, and may have kept the key:".to_owned());
            lines.extend(former.iter().map(|recipient| format!("    {}", recipient.as_str())));
        }
    }
    if list.made_elsewhere {
        lines.push(MADE_ELSEWHERE.to_owned());
    }
    lines
}

fn version_lines(version: &ListedVersion) -> Vec<String> {
    let opens = match &version.opens {
        None => String::new(),
        Some(Ok(())) => ", opened by the given identity".to_owned(),
        Some(Err(why)) => format!(", not opened: {why}"),
    };
    let made = match version.own {
        None => "",
        Some(true) => ", made by this host",
        Some(false) => ", made elsewhere",
    };
    let size = human_bytes(version.bytes);
    let mut lines = vec![format!("  version {} of {}, {size}{made}{opens}", version.version, version.time)];
    match &version.holders {
        Some(holders) => {
            lines.extend(version.claimed.then(|| "    recipients, by its comments, which prove nothing:".to_owned()));
            lines.extend(holders.recipients.iter().map(|recipient| format!("    {}", recipient.as_str())));
        }
        None => lines.push("    (recipients: give an identity that opens it)".to_owned()),
    }
    lines
}

async fn rotate(
    command: &Rotation,
    change: impl FnOnce(Vec<Recipient>) -> Change,
    context: &Context,
) -> Result<u8, Failure> {
    let change = change(command.recipients.parse_some()?);
    let from = if matches!(change, Change::Set(_)) { BY_COMMAND } else { BY_COMMENTS };
    let operator = operator(&command.reader, context)?;
    let proof = identities::load_files(&command.proof)?;
    let (remote, meter) = context.remote().await?;
    let mut report = crate::keys::rotate_keys(&remote, &operator, RotateRequest { change, proof }).await?;
    let newest = report.epochs.iter().rfind(|epoch| epoch.needed).or(report.epochs.last());
    let newest = newest.map(|epoch| epoch.holders.clone()).unwrap_or_default();
    if newest.recipients.len() == 1 {
        report.warnings.push(Finding::SingleRecipient {});
    }
    print_warnings(&context.global, &report.warnings);
    if context.global.json {
        let epochs = report.epochs.iter().map(|epoch| {
            json!({
                "epoch": epoch.epoch, "needed": epoch.needed, "key_version": epoch.version,
                "proved": epoch.proved, "recipients": names(&epoch.holders.recipients), "recipients_from": from,
                "former": names(&epoch.holders.former), "former_from": BY_COMMENTS, "deleted": epoch.deleted,
            })
        });
        print_json(
            json!({
                "epochs": epochs.collect::<Vec<_>>(), "unopened": report.unopened,
                "receipt_signer": report.receipt_signer,
                "recipients": names(&newest.recipients), "recipients_from": from,
                "config": config_line(&newest.recipients), "requests": meter.usage().requests,
                "uploaded_bytes": meter.usage().uploaded_bytes,
                "caution": honest_json(&removed(report.epochs.iter().flat_map(|epoch| &epoch.holders.former))),
            }),
            &report.warnings,
        )?;
    } else {
        print_lines(rotation_lines(&report, &newest, from == BY_COMMENTS))?;
    }
    Ok(context.exit_code(&report.warnings))
}

fn rotation_lines(report: &RotateReport, newest: &KeyHolders, from_comments: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for epoch in &report.epochs {
        let state = if epoch.proved { "proved" } else { "not proved yet" };
        let begun = if epoch.needed { "" } else { " (needed by no snapshot yet)" };
        let deleted = deleted_text(&epoch.deleted);
        let (number, version) = (epoch.epoch, epoch.version);
        lines.push(format!("epoch {number}{begun}: version {version}, {state}{deleted}, is for"));
        lines.extend(epoch.holders.recipients.iter().map(|recipient| format!("  {}", recipient.as_str())));
    }
    if from_comments {
        lines.push(COMMENTS_PROVE_NOTHING.to_owned());
    }
    lines.push(String::new());
    lines.push("For the host's sealift.toml:".to_owned());
    lines.push(format!("  {}", config_line(&newest.recipients)));
    lines.extend(receipt_lines(report.receipt_signer.as_deref()));
    lines.extend(honest_words(&removed(report.epochs.iter().flat_map(|epoch| &epoch.holders.former))));
    lines
}

fn deleted_text(deleted: &[u32]) -> String {
    let numbers: Vec<String> = deleted.iter().map(u32::to_string).collect();
    if numbers.is_empty() { String::new() } else { format!(", version {} deleted", numbers.join(", ")) }
}

/// The line as it belongs into the configuration.
fn config_line(recipients: &[Recipient]) -> String {
    let list: Vec<String> = recipients.iter().map(|recipient| format!("{:?}", recipient.as_str())).collect();
    format!("recipients = [{}]", list.join(", "))
}

fn receipt_lines(signer: Option<&str>) -> Vec<String> {
    signer.map(|signer| format!("Receipt signed by {signer}")).into_iter().collect()
}

/// What rewrapping does not do.
const HONEST_WORDS: [&str; 6] = [
    "A person who has unwrapped the data key of an epoch can read for good what is stored under it, new snapshots",
    "included. `sealift keys rebase` on the host ends that for new snapshots; retention of the old ones ends the rest.",
    "Where the bucket keeps versions or locks objects, a deleted key file can be fetched until those expire.",
    "The host's state directory and older recovery kits hold the old key files, too: one of them and an old private",
    "key still unwrap the data key. So make a new kit, and destroy the old ones. The host restores a key file that is",
    "missing, unless a receipt explains it: this command stored one before it deleted anything.",
];

/// Who was removed, in order.
fn removed<'a>(former: impl Iterator<Item = &'a Recipient>) -> BTreeSet<&'a str> {
    former.map(Recipient::as_str).collect()
}

fn honest_words(removed: &BTreeSet<&str>) -> Vec<String> {
    if removed.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        String::new(),
        "Removed from the newest key file. That takes back nothing that was read already:".to_owned(),
    ];
    lines.extend(removed.iter().map(|name| format!("  {name}")));
    lines.extend(HONEST_WORDS.map(str::to_owned));
    lines
}

/// The same, in JSON; null where no recipient was removed.
fn honest_json(removed: &BTreeSet<&str>) -> Value {
    if removed.is_empty() { Value::Null } else { json!({ "removed": removed, "text": HONEST_WORDS.join(" ") }) }
}

async fn confirm(reader: &args::Reader, context: &Context) -> Result<u8, Failure> {
    let operator = operator(reader, context)?;
    let (remote, meter) = context.remote().await?;
    let report = crate::keys::confirm_keys(&remote, &operator).await?;
    let removed = removed(report.epochs.iter().flat_map(|epoch| &epoch.holders.former));
    print_warnings(&context.global, &report.warnings);
    if context.global.json {
        let epochs = report.epochs.iter().map(|epoch| {
            json!({
                "epoch": epoch.epoch, "key_version": epoch.version, "proved": epoch.proved,
                "recipients": names(&epoch.holders.recipients), "recipients_from": BY_COMMENTS,
                "former": names(&epoch.holders.former), "former_from": BY_COMMENTS, "deleted": epoch.deleted,
            })
        });
        print_json(
            json!({
                        "epochs": epochs.collect::<Vec<_>>(), "unopened": report.unopened,
                        "receipt_signer": report.receipt_signer, "requests": meter.usage().requests,
                        "caution": honest_json(&removed)
            }),
            &report.warnings,
        )?;
    } else {
        let mut lines: Vec<String> = report
            .epochs
            .iter()
            .map(|epoch| {
                let state = if epoch.proved { "proved" } else { "not proved" };
                let deleted = deleted_text(&epoch.deleted);
                format!("epoch {}: version {}, {state}{deleted}", epoch.epoch, epoch.version)
            })
            .collect();
        lines.extend(receipt_lines(report.receipt_signer.as_deref()));
        lines.extend(honest_words(&removed));
        print_lines(lines)?;
    }
    Ok(context.exit_code(&report.warnings))
}

async fn restore(reader: &args::Reader, from: Option<PathBuf>, context: &Context) -> Result<u8, Failure> {
    let operator = operator(reader, context)?;
    let (remote, _) = context.remote().await?;
    let kept = || operator.state_dir(&remote).join("keys");
    let folder = from.unwrap_or_else(kept);
    if !folder.is_dir() {
        return Err(Failure::usage(
            format!("{}: no copies of key files are there", folder.display()),
            "run it on the host, or name a folder with copies (of the host, or of a recovery kit) with --from DIR",
        ));
    }
    let report = crate::keys::restore_keys(&remote, &operator, &folder).await?;
    print_warnings(&context.global, &report.warnings);
    if context.global.json {
        let restored = report.restored.iter().map(|key| {
            json!({
                "epoch": key.epoch, "key_version": key.version,
                "recipients": names(&key.holders.recipients), "recipients_from": BY_COMMENTS,
            })
        });
        print_json(
            json!({
                        "restored": restored.collect::<Vec<_>>(), "open": report.open
            }),
            &report.warnings,
        )?;
    } else {
        let open = report.open.iter().map(|epoch| format!("epoch {epoch}: opens, nothing to restore"));
        let restored = report.restored.iter().flat_map(|key| {
            let head =
                format!("epoch {}: restored as version {}; recipients, by its comments:", key.epoch, key.version);
            let names = key.holders.recipients.iter().map(|recipient| format!("  {}", recipient.as_str()));
            std::iter::once(head).chain(names)
        });
        print_lines(open.chain(restored).collect::<Vec<_>>())?;
    }
    Ok(context.exit_code(&report.warnings))
}

async fn rebase(command: &Rebase, context: &Context) -> Result<u8, Failure> {
    let named = command.recipients.parse()?;
    let request = request(&command.backup, false, context)?;
    let recipients = if named.is_empty() { request.recipients.clone() } else { named.clone() };
    if recipients.is_empty() {
        return Err(Failure::usage("no recipient is named, so the backups could not be read", "name them with -r KEY"));
    }
    let (remote, meter) = context.remote().await?;
    let dir = context.state_root()?.join(remote.id().as_str());
    let rebase =
        crate::backup::Rebase::begin(&remote, &dir, recipients.clone(), !named.is_empty(), request, context.monitor());
    let rebase = rebase.await?;
    if let Some(path) = context.config_path.as_deref().filter(|_| !named.is_empty()) {
        write_recipients(path, &recipients)?;
    }
    let report = Box::pin(rebase.run()).await?;
    show_rebase(context, &report, &recipients, &meter.usage())?;
    Ok(context.exit_code(&report.backup.warnings))
}

fn show_rebase(
    context: &Context,
    report: &crate::backup::RebaseReport,
    recipients: &[Recipient],
    usage: &crate::store::Usage,
) -> Result<(), Failure> {
    let backup = &report.backup;
    print_warnings(&context.global, &backup.warnings);
    if context.global.json {
        return print_json(
            json!({
                        "epoch": report.epoch, "resumed": report.resumed, "recipients": names(recipients),
                        "sequence": backup.sequence, "time": backup.time, "manifest": backup.manifest,
                        "stored_bytes": backup.stored_bytes, "requests": usage.requests
            }),
            &backup.warnings,
        );
    }
    let stored = human_bytes(backup.stored_bytes);
    let mut lines = vec![format!(
        "epoch {}: snapshot {} of {}, {stored} stored, is for",
        report.epoch, backup.sequence, backup.time
    )];
    lines.extend(recipients.iter().map(|recipient| format!("  {}", recipient.as_str())));
    lines.push(
        "It needs no older key. Older snapshots stay readable for those who could read them, until retention"
            .to_owned(),
    );
    lines.push("removes them; and the operators' next `sealift keys confirm` proves the new key.".to_owned());
    print_lines(lines)
}

fn write_recipients(path: &Path, recipients: &[Recipient]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(FAILED, format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let text = with_recipients(&text, &names(recipients), path)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions();
    fsx::write_atomic(path, text.as_bytes()).map_err(failed)?;
    std::fs::set_permissions(path, mode).map_err(failed)
}

async fn new(file: PathBuf, no_passphrase: bool, context: &Context) -> Result<u8, Failure> {
    let passphrase = if no_passphrase { None } else { Some(identities::new_passphrase()?) };
    let new = NewIdentity { path: file.clone(), passphrase };
    let mut warnings = Vec::new();
    let known = match context.names_repository() {
        true => {
            let (remote, _) = context.remote().await?;
            let reader = context.reader(Vec::new())?;
            let history = History::load(&remote, &reader).await?;
            warnings.extend(history.warnings.iter().cloned());
            (!history.is_unpinned).then(|| (remote, history.signer().clone()))
        }
        false => None,
    };
    let recipient = crate::keys::new_identity(new, known.as_ref().map(|(remote, signer)| (remote.id(), signer)))?;
    print_warnings(&context.global, &warnings);
    if context.global.json {
        print_json(
            json!({ "identity": file, "recipient": recipient.as_str()
            }),
            &warnings,
        )?;
    } else {
        print_lines([
            format!("identity   {}: keep it safe, and away from the host", file.display()),
            format!("recipient  {}", recipient.as_str()),
        ])?;
    }
    Ok(context.exit_code(&warnings))
}
