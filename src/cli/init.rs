//! `sealift init`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Init;
use super::context::{Context, machine_name};
use super::failure::Failure;
use super::identities::new_passphrase;
use super::output::{print_json, print_lines, print_warnings};
use super::shell::{Bucket, reader_command};
use crate::admin::{InitReport, InitRequest};
use crate::config::{Config, FILE_NAME, S3Section, SourceSection};
use crate::crypto::Recipient;
use crate::finding::Warning;
use crate::fsx;
use crate::keys::NewIdentity;

pub async fn run(command: Init, context: Context) -> Result<u8, Failure> {
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
            "nobody could read the backups: no recipient is named",
            "name one with -r age1…, or make an identity with --new-identity FILE",
        ));
    }
    let (store, _) = context.store().await?;
    let url = context.url()?.to_string();
    let request = InitRequest { recipients, new_identity };
    let report = crate::admin::init(&store, &url, &context.state_root()?, request).await?;
    config.recipients.clone_from(&report.recipients);
    write_config(&config_path, &config)?;
    let warnings = warnings(&report);
    show(&command, &context, &report, &config_path, &warnings)?;
    Ok(context.exit_code(&warnings))
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
        drill_signers: Vec::new(),
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
        retention: None,
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
    // Before anything is made: a repository whose configuration cannot be written helps nobody.
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
    let text = config.to_toml().map_err(|error| failed(error.to_string()))?;
    fsx::create_private_dir(fsx::parent(path)).map_err(|error| failed(error.to_string()))?;
    fsx::write_atomic(path, text.as_bytes()).map_err(|error| failed(error.to_string()))
}

pub fn warnings(report: &InitReport) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if report.recipients.len() == 1 {
        warnings.push(Warning::single_recipient());
    }
    if report.recipients.iter().any(|recipient| recipient.starts_with("ssh-")) {
        let text = "age writes a 4-byte tag of an SSH key beside what it seals: whoever knows the public key can tell \
                    that it is a recipient";
        warnings.push(Warning::standing("ssh-tag", text));
    }
    warnings
}

fn show(
    command: &Init,
    context: &Context,
    report: &InitReport,
    config_path: &Path,
    warnings: &[Warning],
) -> Result<(), Failure> {
    let url = context.absolute_url()?;
    let identity = command.new_identity.as_ref().map_or("IDENTITY".to_owned(), |path| path.display().to_string());
    let restore =
        reader_command("restore", &url, Bucket::of(context, &url).as_ref(), &identity, &report.signer) + " --to DIR";
    if context.global.json {
        return print_json(&json!({
            "repository": report.repository, "url": url, "signer": report.signer, "epoch": report.epoch,
            "recipients": report.recipients, "config": config_path, "identity": command.new_identity,
            "restore": restore, "resumed": report.resumed, "warnings": warnings,
        }));
    }
    let mut lines = vec![
        format!("repository  {url} ({})", report.repository),
        format!("signer      {}", report.signer),
        format!("recipients  {}", report.recipients.join("\n            ")),
        format!("config      {}", config_path.display()),
    ];
    if let Some(path) = &command.new_identity {
        lines.push(format!("identity    {}: take it away from this host, and keep it safe", path.display()));
    }
    lines.push(String::new());
    lines.push("Keep this line. On the worst day it brings everything back:".to_owned());
    lines.push(format!("  {restore}"));
    lines.push(String::new());
    lines.push(format!("Next: {}", next_command(config_path)));
    lines.push("Then:  sealift recovery-kit DIR, and keep what it writes off this host".to_owned());
    print_warnings(&context.global, warnings);
    print_lines(lines)
}

pub fn next_command(config_path: &Path) -> String {
    if config_path == Path::new(FILE_NAME) || config_path.starts_with("/etc/sealift") {
        return "sealift backup".to_owned();
    }
    format!("sealift backup --config {}", config_path.display())
}
