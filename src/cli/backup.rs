//! `sealift backup`

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::args::{Backup, BackupFlags};
use super::context::Context;
use super::failure::Failure;
use super::output::{human_bytes, print_json, print_lines, print_warnings};
use crate::backup::{BackupRequest, Gentleness, Survey};
use crate::clock::SystemClock;
use crate::format::layout;
use crate::store::Key;

/// What compaction may upload again in a run where nothing else is configured: 1 GiB.
const MAX_COMPACT_BYTES: u64 = 1 << 30;

pub async fn run(command: Backup, context: Context) -> Result<u8, Failure> {
    let replace = command.replace.iter().map(|name| object(name)).collect::<Result<_, _>>()?;
    let request = BackupRequest { replace, ..request(&command.flags, command.adopt, &context)? };
    let (remote, meter) = context.remote().await?;
    let dir = context.state_root()?.join(remote.id().as_str());
    if command.dry_run {
        let survey = crate::backup::survey(&remote, &dir, request, context.monitor()).await?;
        return show_survey(&context, &survey);
    }
    let report = crate::backup::backup(&remote, &dir, request, context.monitor()).await?;
    let usage = meter.usage();
    if context.global.json {
        print_json(
            json!({
                        "sequence": report.sequence, "time": report.time, "manifest": report.manifest,
                        "unchanged": report.unchanged, "stored_bytes": report.stored_bytes,
                        "restore_bytes": report.restore_bytes, "restore_ratio": report.restore_ratio, "requests": usage.requests,
                        "health": report.health, "writer_hold_seconds": report.writer_hold.as_secs_f64()
            }),
            &report.warnings,
        )?;
    } else {
        print_warnings(&context.global, &report.warnings);
        let what = if report.unchanged { "nothing had changed; stored" } else { "stored" };
        print_lines([
            format!("snapshot {} of {}: {what} {}", report.sequence, report.time, human_bytes(report.stored_bytes)),
            format!(
                "  a writer could wait {:.3} s; a restore downloads {}, {:.2} times the least",
                report.writer_hold.as_secs_f64(),
                human_bytes(report.restore_bytes),
                report.restore_ratio
            ),
        ])?;
    }
    Ok(context.exit_code(&report.warnings))
}

pub fn request(flags: &BackupFlags, adopt: bool, context: &Context) -> Result<BackupRequest, Failure> {
    let sources = context.config.sources(context.config_path.as_deref())?;
    if context.config_path.is_none() {
        return Err(Failure::usage(
            "there is no sealift.toml here or in /etc/sealift",
            "`sealift init` writes one; --config FILE names another",
        ));
    }
    let gentle = Gentleness::default();
    let wait = Duration::try_from(flags.wait)
        .map_err(|_| Failure::usage("--wait is a time, such as 10m", "it cannot be negative"))?;
    Ok(BackupRequest {
        sources,
        recipients: context.config.recipients()?,
        host: context.host(),
        tags: flags.tag.clone(),
        compression: flags.compression.or(context.config.compression).unwrap_or(3),
        threads: context.threads(),
        gentleness: Gentleness {
            writer_hold: context.config.limits.writer_hold().unwrap_or(gentle.writer_hold),
            ..gentle
        },
        wait,
        adopt,
        max_compact_bytes: context.config.limits.max_compact_bytes.unwrap_or(MAX_COMPACT_BYTES),
        clock: Arc::new(SystemClock),
        replace: Vec::new(),
        retention: context.config.retention(),
    })
}

/// The pack or manifest that `--replace` names, as `sealift check` writes it.
fn object(name: &str) -> Result<Key, Failure> {
    let key = Key::new(name).ok().filter(|key| layout::digest(key).is_some());
    key.ok_or_else(|| {
        Failure::usage(
            format!("--replace: {name} is no pack or manifest"),
            "`sealift check` prints the names, such as packs/SHA256.age",
        )
    })
}

fn show_survey(context: &Context, survey: &Survey) -> Result<u8, Failure> {
    if context.global.json {
        print_json(
            json!({
                        "dry_run": true, "source_bytes": survey.source_bytes, "new_blocks": survey.new_blocks,
                        "new_bytes": survey.new_bytes
            }),
            &survey.warnings,
        )?;
    } else {
        print_warnings(&context.global, &survey.warnings);
        print_lines([format!(
            "would upload {} in {} blocks, before compression, of {} in all; nothing was uploaded",
            human_bytes(survey.new_bytes),
            survey.new_blocks,
            human_bytes(survey.source_bytes),
        )])?;
    }
    Ok(context.exit_code(&survey.warnings))
}
