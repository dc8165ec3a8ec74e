//! `sealift init`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Global, Init};
use super::context::{Context, machine_name};
use super::failure::Failure;
use super::identities::new_passphrase;
use super::output::{print_json, print_lines, print_warnings};
use super::shell::{Bucket, reader_command};
use crate::admin::{Finished, InitReport, InitRequest};
use crate::config::{Config, FILE_NAME, RetentionSection, S3Section, SourceSection};
use crate::crypto::Recipient;
use crate::finding::Finding;
use crate::fsx;
use crate::keys::NewIdentity;
use crate::store::CreateOnce;

/// What a person may want to limit, as comments in a new configuration.
const LIMITS: &str = "\
# [limits]
# upload      = 5000000   # bytes a second
# download    = 20000000
# threads     = 2         # cores to use
# writer_hold = \"3s\"      # the longest pause of the application's writers

";

/// How many daily snapshots the rules keep that `init` writes.
const KEEP_DAILY: u64 = 14;

/// What stands above the retention rules there.
const ABOVE_RETENTION: &str = "\
# `sealift retain --apply` removes what no rule keeps. `sealift retain` shows it first.
# Other rules: keep_last, keep_hourly, keep_weekly, keep_monthly, keep_yearly, keep_within, keep_tag.
";

pub async fn run(command: Init, global: Global) -> Result<u8, Failure> {
    // Where no source is named, only a finished repository can be meant, perhaps the one in the configuration.
    let bare = command.database.is_empty() && command.file.is_empty();
    let context = if bare { Context::load(global)? } else { Context::unconfigured(global)? };
    if (command.if_missing || command.single_writer)
        && let Some(code) = on_finished(&command, &context).await?
    {
        return Ok(code);
    }
    let recipients = command.recipients.parse()?;
    let config_path = context.new_config_path();
    let mut config = configuration(&command, &context, &recipients)?;
    config.sources(Some(&config_path))?;
    check_config_path(&config_path, &config)?;
    if let Some(folder) = command.new_identity.as_deref().map(fsx::parent).filter(|folder| !folder.is_dir()) {
        return Err(Failure::usage(
            format!("{} is not a directory, so the new identity cannot be written there", folder.display()),
            "make the directory first, or name another place with --new-identity",
        ));
    }
    let new_identity = match &command.new_identity {
        Some(path) if command.no_passphrase => Some(NewIdentity { path: path.clone(), passphrase: None }),
        Some(path) => Some(NewIdentity { path: path.clone(), passphrase: Some(new_passphrase()?) }),
        None => None,
    };
    if recipients.is_empty() && new_identity.is_none() {
        return Err(Failure::usage(
            "no recipient is named, so no identity could open the backups",
            "name one with -r age1…, or create an identity with --new-identity FILE",
        ));
    }
    let (store, _) = context.store().await?;
    let url = context.url()?.to_string();
    let request = InitRequest { recipients, new_identity, single_writer: command.single_writer };
    let (report, findings) = crate::admin::init(&store, &url, &context.state_root()?, request).await?;
    config.recipients.clone_from(&report.recipients);
    write_config(&config_path, &config)?;
    let mut warnings = warnings(&report);
    warnings.extend(findings);
    show(&command, &context, &report, &config_path, &warnings)?;
    Ok(context.exit_code(&warnings))
}

/// The exit code where this host has a finished repository there.
async fn on_finished(command: &Init, context: &Context) -> Result<Option<u8>, Failure> {
    let (store, _) = context.store().await?;
    let url = context.url()?.to_string();
    let Some(mut finished) = crate::admin::finished(&store, &url, &context.state_root()?).await? else {
        return Ok(None);
    };
    if command.single_writer {
        finished.look_where_needed(store.as_ref()).await?;
    }
    let looks = finished.create_once() == CreateOnce::Look;
    let warnings: Vec<Finding> = looks.then_some(Finding::SingleWriter {}).into_iter().collect();
    show_finished(context, &finished, &warnings)?;
    Ok(Some(context.exit_code(&warnings)))
}

fn show_finished(context: &Context, finished: &Finished, warnings: &[Finding]) -> Result<(), Failure> {
    let url = context.absolute_url()?;
    if context.global.json {
        return print_json(
            json!({
                        "repository": finished.repository, "url": url, "signer": finished.signer,
                        "epoch": finished.epoch, "create_once": finished.create_once(), "already": true
            }),
            warnings,
        );
    }
    print_warnings(&context.global, warnings);
    print_lines([
        format!("repository  {url} ({}) is finished; this host writes it", finished.repository),
        format!("signer      {}", finished.signer),
    ])
}

pub fn configuration(command: &Init, context: &Context, recipients: &[Recipient]) -> Result<Config, Failure> {
    if command.database.is_empty() && command.file.is_empty() {
        return Err(Failure::usage(
            "nothing to back up is named",
            "name it with --database FILE and --file FILE, as often as needed",
        ));
    }
    let s3 = context.s3_settings();
    let section = |path: &PathBuf| -> Result<SourceSection, Failure> {
        Ok(SourceSection { path: fsx::absolute(path).map_err(unusable(path))?, name: None })
    };
    Ok(Config {
        repository: Some(context.absolute_url()?),
        host: Some(command.host.clone().unwrap_or_else(machine_name)),
        recipients: recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
        state_dir: context.global.state_dir.as_deref().and_then(|dir| fsx::absolute(dir).ok()),
        compression: None,
        s3: S3Section {
            endpoint: s3.endpoint,
            region: s3.region,
            path_style: s3.path_style,
            profile: s3.profile,
            storage_class: s3.storage_class,
            sse: s3.sse,
            ca_file: s3.ca_file,
        },
        limits: Default::default(),
        retention: Some(RetentionSection { keep_daily: Some(KEEP_DAILY), ..RetentionSection::default() }),
        database: command.database.iter().map(section).collect::<Result<_, _>>()?,
        file: command.file.iter().map(section).collect::<Result<_, _>>()?,
    })
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |error| Failure::usage(format!("{}: {error}", path.display()), "name an existing place")
}

/// A configuration of another repository is not overwritten.
pub fn check_config_path(path: &Path, new: &Config) -> Result<(), Failure> {
    if path.exists() {
        let old = Config::load(path)?;
        let same = old.repository == new.repository && old.database == new.database && old.file == new.file;
        let named = new.recipients.iter().all(|recipient| old.recipients.contains(recipient));
        if !same || !named || old.state_dir != new.state_dir {
            return Err(Failure::refused(
                format!("{} exists, and says something else", path.display()),
                "name another file with --config, or move that one away",
            ));
        }
        return Ok(());
    }
    // Before anything is made: a repository without its configuration is of no use.
    let folder = fsx::parent(path);
    let probe = fsx::create_private_dir(folder).and_then(|()| fsx::new_private_dir(folder, ".sealift-init"));
    let probe =
        probe.map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "name another with --config"))?;
    let _ = std::fs::remove_dir(probe);
    Ok(())
}

pub fn write_config(path: &Path, config: &Config) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let failed = |error: String| Failure::new(super::failure::FAILED, format!("{}: {error}", path.display()));
    let text = commented(&config.to_toml().map_err(|error| failed(error.to_string()))?);
    fsx::create_private_dir(fsx::parent(path)).map_err(|error| failed(error.to_string()))?;
    fsx::write_atomic(path, text.as_bytes()).map_err(|error| failed(error.to_string()))
}

/// With what a person may want to know or set.
fn commented(toml: &str) -> String {
    toml.replacen("[retention]\n", &format!("{LIMITS}{ABOVE_RETENTION}[retention]\n"), 1)
}

pub fn warnings(report: &InitReport) -> Vec<Finding> {
    let mut warnings = Vec::new();
    if report.recipients.len() == 1 {
        warnings.push(Finding::SingleRecipient {});
    }
    let ssh = report.recipients.iter().filter(|recipient| recipient.starts_with("ssh-"));
    warnings.extend(ssh.map(|recipient| Finding::SshTag { recipient: recipient.clone() }));
    warnings
}

fn show(
    command: &Init,
    context: &Context,
    report: &InitReport,
    config_path: &Path,
    warnings: &[Finding],
) -> Result<(), Failure> {
    let url = context.absolute_url()?;
    let identity = command.new_identity.as_ref().map_or("IDENTITY".to_owned(), |path| path.display().to_string());
    let restore =
        reader_command("restore", &url, Bucket::of(context, &url).as_ref(), &identity, &report.signer) + " --to DIR";
    if context.global.json {
        return print_json(
            json!({
                        "repository": report.repository, "url": url, "signer": report.signer, "fingerprint": report.signer.fingerprint(), "epoch": report.epoch,
                        "recipients": report.recipients, "config": config_path, "identity": command.new_identity,
                        "comments": comments(report), "restore": restore, "resumed": report.resumed
            }),
            warnings,
        );
    }
    let mut lines = vec![
        format!("repository  {url} ({})", report.repository),
        format!("signer      {}", report.signer),
        format!("recipients  {}", report.recipients.join("\n            ")),
        format!("config      {}", config_path.display()),
    ];
    if let Some(path) = &command.new_identity {
        lines.push(format!("identity    {}: move it off this host, and keep it safe", path.display()));
    }
    lines.push(String::new());
    lines.push("Keep this line. It restores everything on a fresh machine:".to_owned());
    lines.push(format!("  {restore}"));
    lines.push(String::new());
    lines.push(
        "Add these lines to the other identity files that open the backups, so that a restore knows the signer:"
            .to_owned(),
    );
    lines.extend(comments(report).map(|comment| format!("  # {comment}")));
    lines.push(String::new());
    lines.push(format!("Next: {}", next_command(config_path)));
    lines
        .push(format!("Then: {}, and keep what it writes off this host", command_for("recovery-kit DIR", config_path)));
    print_warnings(&context.global, warnings);
    print_lines(lines)
}

/// What an identity file says of the repository, line by line.
fn comments(report: &InitReport) -> [String; 2] {
    [format!("repository: {}", report.repository), format!("signer: {}", report.signer)]
}

pub fn next_command(config_path: &Path) -> String {
    command_for("backup", config_path)
}

/// A command on this host, with the configuration named where it does not lie in a usual place.
pub fn command_for(command: &str, config_path: &Path) -> String {
    if config_path == Path::new(FILE_NAME) || config_path.starts_with("/etc/sealift") {
        return format!("sealift {command}");
    }
    format!("sealift {command} --config {}", config_path.display())
}
