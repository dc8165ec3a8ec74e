//! What the demo says as it goes, and the JSON document at its end.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::args::Global;
use super::super::failure::Failure;
use super::super::output::print_lines;
use super::child::{Done, Host};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
const WIDTH: usize = 78;

pub struct Telling {
    silent: bool,
    steps: Vec<Step>,
    figures: Map<String, Value>,
    proofs: Vec<Proof>,
}

struct Step {
    title: String,
    commands: Vec<Value>,
}

struct Proof {
    name: &'static str,
    text: String,
    holds: bool,
}

impl Telling {
    pub fn new(global: &Global) -> Self {
        Self { silent: global.quiet || global.json, steps: Vec::new(), figures: Map::new(), proofs: Vec::new() }
    }

    pub fn lines(&self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        if self.silent { Ok(()) } else { print_lines(lines) }
    }

    pub fn step(&mut self, title: &str) -> Result<(), Failure> {
        self.steps.push(Step { title: title.to_owned(), commands: Vec::new() });
        self.lines([String::new(), format!("{BOLD}{:2}  {title}{PLAIN}", self.steps.len())])
    }

    /// The command that is about to run, as a person would type it.
    pub fn command(&self, host: &Host, arguments: &[String]) -> Result<(), Failure> {
        let prompt = format!("    {DIM}{}${PLAIN} ", host.name);
        let mut lines = Vec::new();
        for (number, line) in fold(arguments, WIDTH - 8 - host.name.len()).into_iter().enumerate() {
            let lead = if number == 0 { prompt.clone() } else { " ".repeat(10 + host.name.len()) };
            lines.push(format!("{lead}{CYAN}{line}{PLAIN}"));
        }
        self.lines(lines)
    }

    /// How it ended.
    pub fn done(&mut self, host: &Host, arguments: &[String], done: &Done) {
        if let Some(step) = self.steps.last_mut() {
            step.commands.push(json!({
                "host": host.name, "command": fold(arguments, usize::MAX).concat(), "exit_code": done.code,
                "seconds": seconds(done.took), "result": done.document,
            }));
        }
    }

    /// A line with one figure, aligned with the others.
    pub fn fact(&self, label: &str, value: &str, note: &str) -> Result<(), Failure> {
        let note = if note.is_empty() { String::new() } else { format!("   {DIM}{note}{PLAIN}") };
        self.lines([format!("      {label:<14}{value:>9}{note}")])
    }

    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    pub fn proof(&mut self, name: &'static str, holds: bool, text: impl Into<String>) {
        self.proofs.push(Proof { name, text: text.into(), holds });
    }

    pub fn show_proofs(&self) -> Result<(), Failure> {
        let mut lines = vec![String::new(), format!("{BOLD}Proved{PLAIN}")];
        for proof in &self.proofs {
            let word = if proof.holds { format!("{GREEN}ok{PLAIN}") } else { format!("{RED}NO{PLAIN}") };
            lines.push(format!("  {word}  {}", proof.text));
        }
        self.lines(lines)
    }

    /// The first one that does not hold.
    pub fn refuted(&self) -> Option<&str> {
        self.proofs.iter().find(|proof| !proof.holds).map(|proof| proof.text.as_str())
    }

    pub fn document(&self) -> Map<String, Value> {
        let steps = self.steps.iter().map(|step| json!({ "title": step.title, "commands": step.commands }));
        let proofs =
            self.proofs.iter().map(|proof| json!({ "name": proof.name, "ok": proof.holds, "text": proof.text }));
        let mut document = Map::new();
        document.insert("ok".to_owned(), self.refuted().is_none().into());
        document.insert("figures".to_owned(), self.figures.clone().into());
        document.insert("proofs".to_owned(), proofs.collect());
        document.insert("steps".to_owned(), steps.collect());
        document
    }
}

/// Seconds with milliseconds.
pub fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

/// `3.1 s`, or `28 ms`.
pub fn human_time(time: Duration) -> String {
    match time.as_millis() {
        0 => "under 1 ms".to_owned(),
        millis @ ..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// `14,321`
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A command in lines that a shell takes as one. A flag stays with its value.
fn fold(arguments: &[String], width: usize) -> Vec<String> {
    let mut units: Vec<String> = vec!["sealift".to_owned()];
    for argument in arguments {
        match units.last_mut() {
            Some(last) if units_with_value(last) && !argument.starts_with('-') => {
                last.push(' ');
                last.push_str(argument);
            }
            _ => units.push(argument.clone()),
        }
    }
    let mut lines = vec![String::new()];
    for unit in units {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(&unit),
            Some(line) if line.len().saturating_add(unit.len() + 3) <= width => {
                line.push(' ');
                line.push_str(&unit);
            }
            last => {
                if let Some(line) = last {
                    line.push_str(" \\");
                }
                lines.push(unit);
            }
        }
    }
    lines
}

fn units_with_value(unit: &str) -> bool {
    unit == "sealift" || (unit.starts_with('-') && !unit.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_folds_between_flags() {
        let arguments: Vec<String> =
            "restore --repository ../repository -i key.txt --to out".split(' ').map(str::to_owned).collect();
        assert_eq!(
            fold(&arguments, 40),
            ["sealift restore \\", "--repository ../repository -i key.txt \\", "--to out"]
        );
        assert_eq!(fold(&arguments, usize::MAX).len(), 1);
    }

    #[test]
    fn one_proof_that_does_not_hold_is_enough() {
        let mut telling = Telling { silent: true, steps: Vec::new(), figures: Map::new(), proofs: Vec::new() };
        telling.proof("first", true, "this is so");
        assert_eq!((telling.refuted(), &telling.document()["ok"]), (None, &json!(true)));
        telling.proof("second", false, "this is not");
        telling.proof("third", true, "this is so");
        assert_eq!((telling.refuted(), &telling.document()["ok"]), (Some("this is not"), &json!(false)));
    }

    #[test]
    fn counts_have_commas() {
        for (count, text) in [(7, "7"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(human_count(count), text);
        }
    }
}
