//! `sealift check`

use serde_json::json;

use super::args::Check;
use super::context::Context;
use super::drill::receipt_line;
use super::failure::{Failure, VERIFICATION};
use super::identities;
use super::output::{human_bytes, print_json, print_lines, print_warnings};
use super::restore::selector;
use crate::crypto::PublicSigner;
use crate::format::layout;
use crate::format::ranges::{ranges, snapshots};
use crate::verify::{CheckReport, CheckRequest, Problem, ProblemKind};

/// How many names of one kind are printed; the JSON document has all.
const MAX_NAMES: usize = 20;

pub async fn run(command: Check, context: Context) -> Result<u8, Failure> {
    let request = CheckRequest {
        snapshot: command.snapshot.as_deref().map(selector).transpose()?,
        reader: context.reader(identities::load_any(&command.reader.identity)?)?,
        read_percent: command.read_data,
        scratch: command.scratch.clone().unwrap_or_else(std::env::temp_dir),
        threads: context.threads(),
    };
    let (remote, _) = context.remote().await?;
    let report = crate::verify::check(&remote, request, context.monitor()).await?;
    print_warnings(&context.global, &report.warnings);
    if context.global.json {
        print_json(document(&report), &report.warnings)?;
    } else {
        print_lines(lines(&report))?;
    }
    Ok(if report.verifies() { context.exit_code(&report.warnings) } else { VERIFICATION })
}

fn document(report: &CheckReport) -> serde_json::Value {
    json!({
        "ok": report.is_ok(), "problems": report.problems, "replace": report.replace,
        "snapshots": report.snapshots, "objects": report.objects,
        "read_objects": report.read_objects, "read_bytes": report.read_bytes, "files": report.files,
        "keys_untried": report.keys_untried,
        "part": report.part.map(|(part, of)| json!({ "number": part, "of": of })),
        "unreferenced": report.unreferenced, "unknown": report.unknown,
        "receipt": report.receipt.as_ref().map(ToString::to_string),
        "signer": report.signer.as_ref().map(PublicSigner::fingerprint),
    })
}

fn lines(report: &CheckReport) -> Vec<String> {
    let mut lines: Vec<String> = report.problems.iter().flat_map(problem).collect();
    lines.extend(names("no snapshot needs", &report.unreferenced));
    lines.extend(names("not part of a repository:", &report.unknown));
    let verdict = match report.problems.len() {
        0 => "no problem".to_owned(),
        1 => "1 problem".to_owned(),
        problems => format!("{problems} problems"),
    };
    lines.push(format!(
        "{verdict}: {} snapshots need {} objects; {} read ({}), {} files compared",
        report.snapshots,
        report.objects,
        report.read_objects,
        human_bytes(report.read_bytes),
        report.files
    ));
    if report.keys_untried {
        lines.push(
            "the key files were not tried: only an identity (-i) or the host, which keeps copies, finds damage inside one"
                .to_owned(),
        );
    }
    lines.extend(report.part.map(|(part, of)| {
        format!("part {part} of {of} of all stored bytes was read: {of} checks with this share read everything")
    }));
    lines.extend(report.receipt.iter().zip(&report.signer).map(|(key, signer)| receipt_line(key, signer)));
    lines.extend(ways_out(report));
    lines
}

fn problem(problem: &Problem) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", problem.object, problem.why)];
    if !problem.snapshots.is_empty() {
        let files: Vec<&str> = problem.files.iter().map(String::as_str).collect();
        let files = match (problem.all_files, files.is_empty()) {
            (true, _) => ": all of it".to_owned(),
            (false, true) => String::new(),
            (false, false) => format!(": {}", files.join(", ")),
        };
        lines.push(format!(
            "  {} cannot be restored in full{files}",
            snapshots(&ranges(problem.snapshots.iter().copied()))
        ));
    }
    lines
}

/// What to do about each kind of object that is not as it should be; last, the line to run on the host.
fn ways_out(report: &CheckReport) -> Vec<String> {
    let is_newer = |problem: &&Problem| problem.kind == ProblemKind::Newer;
    let older = || report.problems.iter().filter(|problem| !is_newer(problem));
    let concerns = |kind: &str| older().any(|problem| problem.object.starts_with(kind));
    let mut ways: Vec<String> = Vec::new();
    let mut add = |way: &str| ways.push(way.to_owned());
    if concerns(layout::PACKS) || concerns(layout::MANIFESTS) {
        add(
            "a backup that uploads them again makes the next snapshot complete. Older snapshots stay as they are: a copy of the \
             bucket restores them, `sealift retain --remove N --apply` removes them",
        );
    }
    if concerns(layout::RECORDS) {
        add(
            "only a copy of the bucket restores a record. `sealift retain --ignore N --apply` ignores one that does not count",
        );
    }
    if concerns(layout::RECEIPTS) {
        add("a receipt that cannot be read proves nothing: delete it");
    }
    if report.problems.iter().any(|problem| is_newer(&problem)) {
        add("upgrade sealift on this machine to read a record of a newer format");
    }
    if report.problems.iter().any(|problem| problem.kind == ProblemKind::Content) {
        add(
            "an object that has the right hash and other content was encrypted like that on the host. If uploading it again \
             does not help, `sealift keys rebase` there uploads everything",
        );
    }
    if concerns(layout::KEYS) {
        add(
            "`sealift backup` on the host restores a key file from its copies; an operator restores one from a recovery kit \
             with `sealift keys restore --identity FILE --from DIR`",
        );
    }
    if !report.replace.is_empty() {
        ways.push(format!("on the host: sealift backup --replace {}", report.replace.join(" ")));
    } else if concerns(layout::PACKS) || concerns(layout::MANIFESTS) {
        ways.push("the next `sealift backup` on this host uploads them again".to_owned());
    }
    ways
}

fn names(what: &str, names: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("{what} {name}")).collect();
    if let Some(more) = names.len().checked_sub(MAX_NAMES).filter(|more| *more > 0) {
        lines.push(format!("{what} {more} more, which --json names"));
    }
    lines
}
