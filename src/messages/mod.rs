//! The sentence and the hint of each finding, chosen by its kind and its fields. Severities and codes are the finding's own.

mod findings;

pub use findings::{hint, sentence};

use serde_json::{Value, json};

use crate::finding::Finding;

/// A finding as one member of `warnings` in a JSON document: `code`, `severity`, `subject`, `message`, `hint` and its fields.
pub fn document(finding: &Finding) -> Value {
    let mut value = serde_json::to_value(finding).unwrap_or_else(|_| json!({ "code": finding.code() }));
    value["severity"] = json!(finding.severity());
    value["subject"] = json!(finding.subject());
    value["message"] = json!(sentence(finding));
    if let Some(hint) = hint(finding) {
        value["hint"] = json!(hint);
    }
    value
}

#[cfg(test)]
mod tests {
    use crate::finding::{Finding, Severity};
    use crate::guide::TOPICS;

    #[test]
    fn the_guide_lists_every_code_with_its_severity() {
        let page = TOPICS.iter().find(|(name, ..)| *name == "findings").expect("a page").2;
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let listed: Vec<(&str, &str)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`'), cells[2])
            })
            .collect();
        let word = |severity| match severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Problem => "problem",
        };
        let all: Vec<(&str, &str)> = Finding::ALL.iter().map(|(code, severity)| (*code, word(*severity))).collect();
        assert_eq!(listed, all);
    }
}
