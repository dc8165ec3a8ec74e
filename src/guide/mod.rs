//! The guide: one Markdown file a topic, compiled in. `sealift help TOPIC` shows it. It holds text and no code.

/// Name, summary and text of each page.
pub const TOPICS: &[(&str, &str, &str)] = &[
    ("findings", "Codes of findings, their severity, and what to do", include_str!("findings.md")),
    ("storage", "Servers, credentials, versions and locks", include_str!("storage.md")),
    ("trust", "Threat model, and what each machine trusts", include_str!("trust.md")),
];
