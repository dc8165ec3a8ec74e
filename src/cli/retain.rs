//! `sealift retain`

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Keep, Retain};
use super::context::Context;
use super::failure::Failure;
use super::identities;
use super::output::{human_bytes, print_json, print_lines, print_warnings, table};
use crate::format::{Retention, layout};
use crate::policy::prune::Due;
use crate::policy::retain::{Line, Verdict};
use crate::retention::{Deleted, RetainReport, RetainRequest};

pub async fn run(command: &Retain, context: Context) -> Result<u8, Failure> {
    let request = request(command, &context)?;
    let reader = context.reader(identities::load_any(&command.reader.identity)?)?;
    let (remote, meter) = context.remote().await?;
    let report = crate::retention::retain(&remote, &reader, &request).await?;
    if context.global.json {
        let mut document = document(&report);
        document["requests"] = json!(meter.usage().requests);
        print_json(document, &report.warnings)?;
    } else {
        print_warnings(&context.global, &report.warnings);
        print_lines(lines(&report))?;
    }
    Ok(context.exit_code(&report.warnings))
}

fn request(command: &Retain, context: &Context) -> Result<RetainRequest, Failure> {
    let wait = Duration::try_from(command.wait)
        .map_err(|_| Failure::usage("--wait is a time, such as 10m", "it cannot be negative"))?;
    Ok(RetainRequest {
        rules: rules(&command.keep, context.config.written_retention()),
        remove: command.remove.iter().copied().collect(),
        ignore: command.ignore.iter().copied().collect(),
        apply: command.apply,
        max_remove_percent: command.unattended.then(|| context.config.max_remove_percent()),
        grace: context.config.retention_grace(),
        wait,
    })
}

/// The rules that the configuration sets, each replaced by the flag of its name; `None` where neither sets any.
fn rules(flags: &Keep, configured: Option<Retention>) -> Option<Retention> {
    let base = configured.unwrap_or_default();
    let rules = Retention {
        keep_last: flags.keep_last.or(base.keep_last),
        keep_hourly: flags.keep_hourly.or(base.keep_hourly),
        keep_daily: flags.keep_daily.or(base.keep_daily),
        keep_weekly: flags.keep_weekly.or(base.keep_weekly),
        keep_monthly: flags.keep_monthly.or(base.keep_monthly),
        keep_yearly: flags.keep_yearly.or(base.keep_yearly),
        keep_within: flags.keep_within.or(base.keep_within),
        keep_tag: if flags.keep_tag.is_empty() { base.keep_tag } else { flags.keep_tag.clone() },
        time_zone: base.time_zone,
    };
    (!rules.is_unset()).then_some(rules)
}

fn document(report: &RetainReport) -> Value {
    let snapshot = |line: &Line| {
        let (keep, reasons) = match &line.verdict {
            Verdict::Keep(reasons) => (true, json!(reasons)),
            Verdict::Remove(cause) => (false, json!([cause])),
        };
        json!({ "sequence": line.sequence, "time": line.time, "keep": keep, "reasons": reasons })
    };
    let object = |line: &crate::policy::prune::Line| {
        let due = match line.due {
            Due::Now => "now".to_owned(),
            Due::At(time) => time.to_string(),
            Due::AfterNextSnapshot => "after the next snapshot".to_owned(),
        };
        json!({ "object": line.object.key.as_str(), "bytes": line.object.bytes, "due": due })
    };
    json!({
        "applied": report.deleted.is_some(),
        "refused": report.refused,
        "rules": report.rules,
        "recorded_rules": report.recorded_rules,
        "snapshots": report.plan.lines.iter().map(snapshot).collect::<Vec<_>>(),
        "ignored": report.ignored,
        "records": report.records,
        "waiting": report.waiting,
        "unneeded": report.prune.lines.iter().map(object).collect::<Vec<_>>(),
        "stopped_by": report.prune.blocker.as_ref().map(ToString::to_string),
        "deleted": report.deleted,
    })
}

fn lines(report: &RetainReport) -> Vec<String> {
    let mut cells = vec![["SNAPSHOT", "TIME", "PLAN", "WHY"].map(str::to_owned).to_vec()];
    cells.extend(report.plan.lines.iter().map(|line| {
        let (plan, why) = match &line.verdict {
            Verdict::Keep(reasons) => ("keep", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            Verdict::Remove(cause) => ("remove", cause.to_string()),
        };
        vec![line.sequence.to_string(), line.time.to_string(), plan.to_owned(), why]
    }));
    let mut lines = if report.plan.lines.is_empty() { vec!["no snapshot yet".to_owned()] } else { table(&cells, &[0]) };
    lines.extend(report.ignored.iter().map(|sequence| format!("{sequence}: does not count, and is ignored")));
    lines.push(String::new());
    lines.extend(report.rules.iter().map(|rules| format!("rules: {rules}")));
    let others = report.recorded_rules.as_ref().filter(|recorded| report.rules.as_ref() != Some(recorded));
    lines.extend(others.map(|rules| format!("rules in the newest snapshot, not followed here: {rules}")));
    match &report.deleted {
        Some(deleted) => lines.push(done(deleted)),
        None => {
            lines.push(intended(report));
            let next = if report.refused { ", and --apply would refuse this" } else { "; add --apply" };
            lines.push(format!("nothing deleted{next}"));
        }
    }
    if !report.waiting.is_empty() {
        let waiting = report.waiting.len();
        lines.push(format!("records that wait until their successor has been stored for 2 hours: {waiting}"));
    }
    lines.extend(later(report));
    lines
}

fn intended(report: &RetainReport) -> String {
    let due = report.prune.due();
    let counts = [
        ("record", report.records.len()),
        ("manifest", count(&due, layout::MANIFESTS)),
        ("pack", count(&due, layout::PACKS)),
        ("receipt", count(&due, layout::RECEIPTS)),
    ];
    let bytes = due.iter().map(|object| object.bytes).sum();
    format!(
        "{} of {} snapshots stay; {} would go",
        report.plan.kept().count(),
        report.plan.lines.len(),
        what(counts, bytes)
    )
}

fn count(objects: &[&crate::store::ObjectInfo], kind: &str) -> usize {
    objects.iter().filter(|object| object.key.as_str().starts_with(kind)).count()
}

fn done(deleted: &Deleted) -> String {
    let counts = [
        ("record", deleted.records),
        ("manifest", deleted.manifests),
        ("pack", deleted.packs),
        ("receipt", deleted.receipts),
    ];
    format!("deleted {}", what(counts, deleted.bytes))
}

/// `2 records, 1 pack (1.2 MB)`, or that there is nothing.
fn what<N: Copy + PartialEq<N> + From<u8> + std::fmt::Display>(counts: [(&str, N); 4], bytes: u64) -> String {
    let some = counts.iter().filter(|(_, count)| *count != N::from(0));
    let words: Vec<String> =
        some.map(|(kind, count)| format!("{count} {kind}{}", if *count == N::from(1) { "" } else { "s" })).collect();
    match (words.is_empty(), bytes) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => words.join(", "),
        (false, _) => format!("{} ({})", words.join(", "), human_bytes(bytes)),
    }
}

/// What is left alone for now.
fn later(report: &RetainReport) -> Option<String> {
    let young = report.prune.lines.iter().filter(|line| line.due != Due::Now);
    let (objects, bytes) =
        young.clone().fold((0, 0), |(objects, bytes), line| (objects + 1, bytes + line.object.bytes));
    let dates = young.filter_map(|line| match line.due {
        Due::At(time) => Some(time),
        Due::Now | Due::AfterNextSnapshot => None,
    });
    let first = dates.min();
    let from = match first {
        Some(first) => format!("from {} UTC on", first.strftime("%Y-%m-%d %H:%M")),
        None => "after the next snapshot".to_owned(),
    };
    (objects > 0).then(|| {
        format!("{objects} more that no snapshot needs ({}) are too young, and can go {from}", human_bytes(bytes))
    })
}
