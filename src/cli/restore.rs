//! `sealift restore`

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::json;

use super::args::Restore;
use super::context::Context;
use super::failure::{FAILED, Failure, NOTHING_YET};
use super::identities;
use super::output::{human_bytes, print_json, print_lines, print_warnings, table};
use crate::error::OperationError;
use crate::history::Selector;
use crate::restore::{RestoreReport, RestoreRequest, is_there};

pub async fn run(command: Restore, context: Context) -> Result<u8, Failure> {
    let to_stdout = command.to.as_deref() == Some(Path::new("-"));
    if to_stdout && (command.only.len() != 1 || context.global.json || command.if_missing) {
        return Err(Failure::usage(
            "`--to -` writes the bytes of one source to standard output",
            "name the source with --only NAME, and leave out --json and --if-missing",
        ));
    }
    let snapshot = selector(&command.snapshot)?;
    if let Some(dir) = command.to.as_deref().filter(|_| command.if_missing)
        && is_there(dir, &command.only)?
    {
        return nothing_done(&context, &format!("{} has files already", dir.display()), 0);
    }
    let reader = context.reader(identities::load(&command.reader.identity)?)?;
    let scratch = if to_stdout {
        let (scratch, left) = crate::restore::scratch_dir::scratch_dir(&std::env::temp_dir(), "sealift-restore")?;
        print_warnings(&context.global, &left);
        Some(scratch)
    } else {
        None
    };
    let target = match &scratch {
        Some(scratch) => scratch.path().to_owned(),
        None => command.to.clone().unwrap_or_else(|| PathBuf::from(".")),
    };
    let (remote, meter) = context.remote().await?;
    let request = RestoreRequest {
        snapshot,
        reader,
        target,
        only: command.only.clone(),
        // A dry run changes nothing, so nothing is in its way.
        force: command.force || command.dry_run,
        dry_run: command.dry_run,
        threads: context.threads(),
    };
    let report = match crate::restore::restore(&remote, request, context.monitor()).await {
        Err(OperationError::NoSnapshot(None)) if command.if_missing => {
            return nothing_done(&context, "the repository has no snapshot yet", NOTHING_YET);
        }
        report => report?,
    };
    print_warnings(&context.global, &report.warnings);
    if to_stdout && !command.dry_run {
        copy_to_stdout(&report)?;
    } else {
        let downloaded = if command.dry_run { report.downloaded_bytes } else { meter.usage().downloaded_bytes };
        show(&context, &command, &report, downloaded)?;
    }
    Ok(context.exit_code(&report.warnings))
}

/// With `--if-missing`: why nothing was restored.
fn nothing_done(context: &Context, why: &str, code: u8) -> Result<u8, Failure> {
    match context.global.json {
        true => print_json(json!({ "sequence": null, "files": [], "nothing_done": why }), &[])?,
        false => print_lines([format!("nothing restored: {why}")])?,
    }
    Ok(code)
}

fn copy_to_stdout(report: &RestoreReport) -> Result<(), Failure> {
    for file in &report.files {
        let copied =
            File::open(&file.path).and_then(|mut from| std::io::copy(&mut from, &mut std::io::stdout().lock()));
        match copied {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(Failure::new(FAILED, format!("standard output: {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn show(context: &Context, command: &Restore, report: &RestoreReport, downloaded: u64) -> Result<(), Failure> {
    if context.global.json {
        let files = report
            .files
            .iter()
            .map(|file| json!({ "name": file.name, "path": file.path, "bytes": file.bytes, "digest": file.digest }));
        let moved = report.moved.iter().map(|(from, to)| json!({ "from": from, "to": to }));
        return print_json(
            json!({
                        "sequence": report.sequence, "time": report.time, "dry_run": command.dry_run,
                        "files": files.collect::<Vec<_>>(), "downloaded_bytes": downloaded,
                        "moved": moved.collect::<Vec<_>>()
            }),
            &report.warnings,
        );
    }
    let verb = if command.dry_run { "would restore" } else { "restored and verified" };
    let mut lines = vec![format!(
        "{verb} snapshot {} of {}, {} downloaded:",
        report.sequence,
        report.time,
        human_bytes(downloaded)
    )];
    let rows: Vec<Vec<String>> =
        report.files.iter().map(|file| vec![format!("  {}", file.path.display()), human_bytes(file.bytes)]).collect();
    lines.extend(table(&rows, &[1]));
    lines
        .extend(report.moved.iter().map(|(from, to)| format!("  moved aside: {} to {}", from.display(), to.display())));
    print_lines(lines)
}

/// `latest`, a sequence number, or a time; a bare date means its end, UTC.
pub fn selector(text: &str) -> Result<Selector, Failure> {
    if text == "latest" {
        return Ok(Selector::Latest);
    }
    if let Ok(sequence) = text.parse() {
        return Ok(Selector::Sequence(sequence));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Selector::At(time));
    }
    let end_of_day = |date: Date| date.at(23, 59, 59, 999_999_999).to_zoned(TimeZone::UTC);
    let bare = text.parse::<Date>().ok().filter(|_| !text.contains(['T', ' ', ':']));
    let zoned = match bare {
        Some(date) => end_of_day(date).ok(),
        None => text.parse::<DateTime>().ok().and_then(|time| time.to_zoned(TimeZone::UTC).ok()),
    };
    zoned.map(|zoned| Selector::At(zoned.timestamp())).ok_or_else(|| {
        Failure::usage(
            format!("{text:?} names no snapshot"),
            "latest, a number, a date such as 2026-11-23, or a time such as 2026-11-23T03:00:00Z",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_named_by_a_word_a_number_or_a_time() {
        let at = |text: &str| Selector::At(text.parse().expect("a time"));
        let cases = [
            ("latest", Selector::Latest),
            ("17", Selector::Sequence(17)),
            ("2026-11-23", at("2026-11-23T23:59:59.999999999Z")),
            ("2026-11-23T03:00:00Z", at("2026-11-23T03:00:00Z")),
            ("2026-11-23T03:00:00+02:00", at("2026-11-23T01:00:00Z")),
            ("2026-11-23 03:00", at("2026-11-23T03:00:00Z")),
        ];
        for (text, expected) in cases {
            assert_eq!(selector(text).expect(text), expected);
        }
        for nonsense in ["", "yesterday", "-1", "2026-13-01"] {
            assert_eq!(selector(nonsense).expect_err("refused").code, super::super::failure::USAGE);
        }
    }
}
