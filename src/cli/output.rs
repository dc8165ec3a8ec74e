//! Results go to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use super::args::{Color, Global};
use super::failure::Failure;
use super::lines::{self, Lines};
use crate::finding::{Finding, Severity};
use crate::messages;

/// Logs go to standard error: one structured line a step, only when asked for. `SEALIFT_LOG` refines.
pub fn start_logging(global: &Global) {
    match global.color {
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
        Color::Auto => anstream::ColorChoice::Auto.write_global(),
    }
    let level = match global.verbose {
        0 => "off",
        1 => "sealift=info",
        _ => "sealift=debug",
    };
    let filter = EnvFilter::try_from_env("SEALIFT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines);
    if global.json {
        log.json().init();
    } else {
        log.with_ansi(ansi).init();
    }
}

/// The one JSON document of a command: `body` with what all documents have.
pub fn print_json(body: Value, findings: &[Finding]) -> Result<(), Failure> {
    print_lines([document(body, findings).to_string()])
}

/// Lines of a result. A reader that went away is no error.
pub fn print_lines(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    for line in lines {
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::new(super::failure::FAILED, format!("standard output: {error}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The version of all JSON documents: it rises when a member changes its meaning or goes.
pub const JSON_VERSION: u64 = 1;

/// A JSON document with what all of them have: `version` and `warnings`.
fn document(mut body: Value, findings: &[Finding]) -> Value {
    body["version"] = json!(JSON_VERSION);
    body["warnings"] = findings.iter().map(messages::document).collect();
    body
}

/// Notes, warnings and problems, each with what to do about it, to standard error. Notes are left out with `--quiet`.
pub fn print_warnings(global: &Global, findings: &[Finding]) {
    if global.json {
        return;
    }
    lines::settle();
    let mut err = anstream::stderr().lock();
    for finding in findings {
        let word = match finding.severity() {
            Severity::Note if global.quiet => continue,
            Severity::Note => "\x1b[36mnote:\x1b[0m",
            Severity::Warning => "\x1b[33mwarning:\x1b[0m",
            Severity::Problem => "\x1b[31mproblem:\x1b[0m",
        };
        let _ = writeln!(err, "{word} {} [{}]", messages::sentence(finding), finding.code());
        if let Some(hint) = messages::hint(finding) {
            let _ = writeln!(err, "  {hint}");
        }
    }
}

/// An error as it stands in a JSON document.
pub fn failure_json(failure: &Failure) -> Value {
    json!({ "code": failure.code, "message": failure.message, "hint": failure.hint })
}

pub fn print_failure(failure: &Failure, json: bool) {
    if json {
        let _ = writeln!(std::io::stdout(), "{}", document(json!({ "error": failure_json(failure) }), &[]));
        return;
    }
    lines::settle();
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "\x1b[31merror:\x1b[0m {}", failure.message);
    if let Some(hint) = &failure.hint {
        let _ = writeln!(err, "\x1b[36mhint:\x1b[0m {hint}");
    }
}

/// Whether a person sits there and can be asked.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Bytes as a person reads them: `168.0 MB`, in powers of ten.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span as a person reads it: `45 s`, `12 min`, `3 h`, `8 days`; `8 days ahead` where a clock is wrong.
pub fn human_age(seconds: i64) -> String {
    match seconds {
        ..-60 => format!("{} ahead", human_age(seconds.saturating_neg())),
        -60..120 => format!("{} s", seconds.max(0)),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The same with a `word` such as `old` behind it.
pub fn human_since(seconds: i64, word: &str) -> String {
    let age = human_age(seconds);
    if seconds < -60 { age } else { format!("{age} {word}") }
}

/// Rows as columns: the first row is the heading; columns named in `right` are aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            if right.contains(&column) { padding + cell } else { cell.clone() + &padding }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_to_the_next_unit_and_never_to_a_thousand() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (168_000_000, "168.0 MB")];
        for (bytes, text) in cases {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn a_time_in_the_future_is_shown_as_such() {
        let cases = [(-60, "0 s old"), (-61, "61 s ahead"), (30, "30 s old"), (-30 * 86_400, "30 days ahead")];
        for (seconds, text) in cases {
            assert_eq!(human_since(seconds, "old"), text);
        }
    }

    #[test]
    fn a_table_lines_up() {
        let rows = vec![vec!["A".into(), "SIZE".into()], vec!["long".into(), "1 B".into()]];
        assert_eq!(table(&rows, &[1]), ["A     SIZE", "long   1 B"]);
    }
}
