//! `sealift check`

use serde_json::json;

use super::args::Check;
use super::context::Context;
use super::failure::{Failure, VERIFICATION};
use super::identities;
use super::output::{human_bytes, print_json, print_lines, print_warnings};
use super::restore::selector;
use crate::format::layout;
use crate::format::ranges::{ranges, written};
use crate::verify::{CheckReport, CheckRequest, Problem, ProblemKind};

/// How many names of one kind are printed; the JSON document has all.
const MAX_NAMES: usize = 20;

pub async fn run(command: Check, context: Context) -> Result<u8, Failure> {
    let request = CheckRequest {
        snapshot: command.snapshot.as_deref().map(selector).transpose()?,
        reader: context.reader(&command.reader, identities::load_any(&command.reader.identity)?)?,
        read_percent: command.read_data,
        scratch: command.scratch.clone().unwrap_or_else(std::env::temp_dir),
        threads: context.threads(),
    };
    let (remote, _) = context.remote().await?;
    let state_dir = request.reader.state_dir(&remote);
    let report = crate::verify::check(&remote, request, context.monitor()).await?;
    print_warnings(&context.global, &report.warnings);
    if context.global.json {
        print_json(&document(&report))?;
    } else {
        print_lines(lines(&report))?;
    }
    let problems = report.problems.iter().map(|problem| problem.why.as_str());
    crate::history::told(&state_dir, problems.chain(report.warnings.iter().map(|warning| warning.text.as_str())));
    Ok(if report.problems.is_empty() { context.exit_code(&report.warnings) } else { VERIFICATION })
}

fn document(report: &CheckReport) -> serde_json::Value {
    json!({
        "ok": report.problems.is_empty(), "problems": report.problems,
        "snapshots": report.snapshots, "objects": report.objects,
        "read_objects": report.read_objects, "read_bytes": report.read_bytes, "files": report.files,
        "keys_untried": report.keys_untried,
        "part": report.part.map(|(part, of)| json!({ "number": part, "of": of })),
        "unreferenced": report.unreferenced, "unknown": report.unknown,
        "receipt": report.receipt.as_ref().map(ToString::to_string), "signer": report.signer,
        "warnings": report.warnings,
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
            "the wrapped keys were not tried: damage inside of one shows only to an identity (-i), and to the host, which \
             keeps copies"
                .to_owned(),
        );
    }
    lines.extend(report.part.map(|(part, of)| {
        format!(
            "part {part} of {of} of all stored bytes was read: {of} checks with this share read everything, on this \
             machine one part after the other, and where nothing is remembered one part a day"
        )
    }));
    lines.extend(report.receipt.iter().map(|key| format!("put the receipt {key}")));
    if let Some(signer) = &report.signer {
        lines.push(format!("a host believes it with this line in sealift.toml: drill_signers = [\"{signer}\"]"));
    }
    lines.extend(ways_out(&report.problems));
    lines
}

fn problem(problem: &Problem) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", problem.object, problem.why)];
    if !problem.snapshots.is_empty() {
        let files: Vec<&str> = problem.files.iter().map(String::as_str).collect();
        let files = match (problem.all_files, files.is_empty()) {
            (true, _) => ", all of it".to_owned(),
            (false, true) => String::new(),
            (false, false) => format!(", in {}", files.join(", ")),
        };
        lines.push(format!("  hurts snapshot {}{files}", written(&ranges(problem.snapshots.iter().copied()))));
    }
    lines
}

/// What to do about each kind of object that is not as it should be.
fn ways_out(problems: &[Problem]) -> impl Iterator<Item = String> {
    let ways = [
        (
            [layout::PACKS, layout::MANIFESTS],
            "the next `sealift backup` that knows of it uploads anew what still exists on the host, where the newest snapshot \
             needs it, so that the new one is whole; a snapshot that is hurt stays so: it comes back from a copy of the bucket \
             only, and goes with `sealift retain --remove N --apply`",
        ),
        (
            [layout::KEYS; 2],
            "an operator puts a wrapped key back with `sealift keys restore --identity FILE`, from the copies that the host keeps",
        ),
        (
            [layout::RECORDS; 2],
            "a record can only come back from a copy of the bucket; `sealift retain --forget N --apply` lets go of one that \
             cannot be verified",
        ),
        ([layout::RECEIPTS; 2], "a receipt that cannot be verified proves nothing: delete it, and drill again"),
    ];
    let is_newer = |problem: &&Problem| problem.kind == ProblemKind::Newer;
    let older = || problems.iter().filter(|problem| !is_newer(problem));
    let concerns = |kinds: &[&str]| older().any(|problem| kinds.iter().any(|kind| problem.object.starts_with(kind)));
    let mut ways: Vec<String> =
        ways.iter().filter(|(kinds, _)| concerns(kinds)).map(|(_, way)| (*way).to_owned()).collect();
    if problems.iter().any(|problem| problem.kind == ProblemKind::Held) {
        let way = "what was found bad before is until `sealift check --read-data` reads it whole, or, where an identity \
                   found it, a check of all with an identity (-i) does; a snapshot that is lost goes with `sealift retain --remove N --apply`";
        ways.push(way.to_owned());
    }
    if problems.iter().any(|problem| problem.kind == ProblemKind::History && problem.object.contains("record-vanished"))
    {
        let way = "was what vanished removed by hand, or by rules that the newest snapshot does not name? Then nothing is wrong; \
                   otherwise look at who can delete there";
        ways.push(way.to_owned());
    }
    if problems.iter().any(|problem| is_newer(&problem)) {
        ways.push("a record of a newer format may be as good as any: upgrade sealift on this machine".to_owned());
    }
    if problems.iter().any(|problem| problem.kind == ProblemKind::Content) {
        let way = "what has the right hash and other contents was sealed like that on the host: where a backup does not mend \
                   it, `sealift keys rebase` there uploads everything from the live data";
        ways.push(way.to_owned());
    }
    ways.into_iter()
}

fn names(what: &str, names: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("{what} {name}")).collect();
    if let Some(more) = names.len().checked_sub(MAX_NAMES).filter(|more| *more > 0) {
        lines.push(format!("{what} {more} more, which --json names"));
    }
    lines
}
