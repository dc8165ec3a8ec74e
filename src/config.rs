//! `sealift.toml`, read strictly: an unknown key is an error with a suggestion, because a setting that is silently
//! ignored is a backup that silently does less.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, SpanRelativeTo};
use serde::{Deserialize, Serialize};

use crate::backup::{SourceKind, SourceSpec};
use crate::crypto::{CryptoError, Recipient};
use crate::format::{Retention, Within, is_safe_name};
use crate::policy::prune::GRACE;

/// The name under which the configuration itself is backed up.
pub const FILE_NAME: &str = "sealift.toml";

/// How many of the snapshots, in percent, an unattended run of retention may lose at once.
const MAX_REMOVE_PERCENT: u8 = 50;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    /// `suggestion` is the known key that the unknown one resembles.
    #[error("{path}: {why}")]
    Invalid { path: PathBuf, why: String, suggestion: Option<String> },
    #[error("two sources are called {0}")]
    SameName(String),
    #[error("{0:?} cannot be a source's name")]
    BadName(String),
    #[error(transparent)]
    Recipient(#[from] CryptoError),
}

/// The whole file. Everything may also come from a flag or the environment, so everything is optional here.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The host's label in records; by default the machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// zstd level, 1 to 19; 3 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<i32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub s3: S3Section,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSection>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub database: Vec<SourceSection>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<SourceSection>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct S3Section {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes a second, of all transfers together. To and from a bucket the pace holds inside each body, in pieces of at
    /// most 64 KiB; with a directory it holds on average over whole packs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<std::num::NonZeroU64>,
    /// The same for what comes back; what the system buffers for a connection comes faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<std::num::NonZeroU64>,
    /// Cores to use; more than 8 are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// How long a writer in rollback mode may be held up at most, such as `3s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_hold: Option<jiff::SignedDuration>,
    /// How many stored bytes compaction may upload again in one backup; 0 turns it off. One pack (up to
    /// 16 MiB) always may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_compact_bytes: Option<u64>,
}

impl Limits {
    pub fn writer_hold(&self) -> Option<Duration> {
        self.writer_hold.and_then(|hold| Duration::try_from(hold).ok())
    }
}

/// What to keep, see [`Retention`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Within>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_tag: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How long an object that no snapshot needs stays: 7 days, or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Within>,
    /// How many of the days with a snapshot an unattended run may remove at once, in percent [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_remove_percent: Option<u8>,
}

impl RetentionSection {
    /// The rules as they stand there.
    fn written(&self) -> Retention {
        let section = self.clone();
        Retention {
            keep_last: section.keep_last,
            keep_hourly: section.keep_hourly,
            keep_daily: section.keep_daily,
            keep_weekly: section.keep_weekly,
            keep_monthly: section.keep_monthly,
            keep_yearly: section.keep_yearly,
            keep_within: section.keep_within,
            keep_tag: section.keep_tag,
            time_zone: section.time_zone,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    pub path: PathBuf,
    /// By default the file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl SourceSection {
    fn called(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.called() == name
    }

    fn spec(&self, kind: SourceKind) -> Result<SourceSpec, ConfigError> {
        let name = self.called();
        if !is_safe_name(&name) {
            return Err(ConfigError::BadName(name));
        }
        Ok(SourceSpec { name, path: self.path.clone(), kind })
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            suggestion: suggestion(error.message()),
            why: explanation(text, &error),
        })?;
        if config.limits.writer_hold.is_some() && config.limits.writer_hold().is_none() {
            let why = "limits.writer_hold is a time such as 3s, and not negative".to_owned();
            return Err(ConfigError::Invalid { path: path.to_owned(), why, suggestion: None });
        }
        if let Some(section) = config.database.iter().chain(&config.file).find(|section| section.path.is_relative()) {
            let why = format!("{} is a relative path: what it means would depend on who calls", section.path.display());
            return Err(ConfigError::Invalid { path: path.to_owned(), why, suggestion: None });
        }
        if config.compression.is_some_and(|level| !(1..=19).contains(&level)) {
            let why = "compression is a zstd level from 1 to 19".to_owned();
            return Err(ConfigError::Invalid { path: path.to_owned(), why, suggestion: None });
        }
        if let Some(Err(error)) = config.written_retention().map(|rules| rules.zone()) {
            return Err(ConfigError::Invalid { path: path.to_owned(), why: error.to_string(), suggestion: None });
        }
        if config.grace().is_none_or(|grace| grace < GRACE) {
            let why = "retention.grace is a time of 7d or longer, in days or weeks".to_owned();
            return Err(ConfigError::Invalid { path: path.to_owned(), why, suggestion: None });
        }
        if config.max_remove_percent() > 100 {
            let why = "retention.max_remove_percent is a number from 0 to 100".to_owned();
            return Err(ConfigError::Invalid { path: path.to_owned(), why, suggestion: None });
        }
        Ok(config)
    }

    /// Every source, in the order: databases, files, the configuration itself.
    pub fn sources(&self, own_path: Option<&Path>) -> Result<Vec<SourceSpec>, ConfigError> {
        let databases = self.database.iter().map(|section| section.spec(SourceKind::Database));
        let files = self.file.iter().map(|section| section.spec(SourceKind::File));
        let mut specs = databases.chain(files).collect::<Result<Vec<_>, _>>()?;
        if let Some(path) = own_path {
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            specs.push(SourceSpec { name: FILE_NAME.to_owned(), path, kind: SourceKind::Configuration });
        }
        let sidecar = |name: &str| {
            let owner = ["-wal", "-shm", "-journal"].iter().find_map(|suffix| name.strip_suffix(suffix));
            owner.is_some_and(|owner| self.database.iter().any(|section| section.is_called(owner)))
        };
        if let Some(spec) = specs.iter().find(|spec| sidecar(&spec.name)) {
            return Err(ConfigError::BadName(spec.name.clone()));
        }
        let mut names = HashSet::new();
        match specs.iter().find(|spec| !names.insert(spec.name.as_str())) {
            Some(twice) => Err(ConfigError::SameName(twice.name.clone())),
            None => Ok(specs),
        }
    }

    pub fn recipients(&self) -> Result<Vec<Recipient>, ConfigError> {
        self.recipients.iter().map(|text| Ok(Recipient::parse(text)?)).collect()
    }

    /// The rules of the section `[retention]`; `None` where it sets none.
    pub fn retention(&self) -> Option<Retention> {
        self.written_retention().filter(|rules| !rules.is_unset())
    }

    /// What the section `[retention]` says, be it a time zone alone; `None` where there is no section.
    pub fn written_retention(&self) -> Option<Retention> {
        self.retention.as_ref().map(RetentionSection::written)
    }

    /// How long an object that no snapshot needs stays; `None` where what is written there is no number of days or
    /// weeks.
    fn grace(&self) -> Option<SignedDuration> {
        let Some(grace) = self.retention.as_ref().and_then(|section| section.grace) else { return Some(GRACE) };
        grace.span().to_duration(SpanRelativeTo::days_are_24_hours()).ok()
    }

    /// The same; never shorter than 7 days.
    pub fn retention_grace(&self) -> SignedDuration {
        self.grace().unwrap_or(GRACE).max(GRACE)
    }

    pub fn max_remove_percent(&self) -> u8 {
        self.retention.as_ref().and_then(|section| section.max_remove_percent).unwrap_or(MAX_REMOVE_PERCENT)
    }

    /// The file's text, with a line for its reader.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let body = toml::to_string(self)?;
        Ok(format!("# Written by `sealift init`. It holds no secret, and every snapshot includes it.\n{body}"))
    }
}

/// The text of a configuration with other recipients, and all else in it as it was, comments included.
pub fn with_recipients(text: &str, recipients: &[&str], path: &Path) -> Result<String, ConfigError> {
    let invalid = |why: &str| ConfigError::Invalid { path: path.to_owned(), why: why.to_owned(), suggestion: None };
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|_| invalid("it cannot be read as TOML"))?;
    let item = document.entry("recipients").or_insert(toml_edit::value(toml_edit::Array::new()));
    let list = item.as_array_mut().ok_or_else(|| invalid("recipients is a list"))?;
    list.retain(|value| value.as_str().is_some_and(|known| recipients.contains(&known)));
    for recipient in recipients {
        if !list.iter().any(|value| value.as_str() == Some(recipient)) {
            list.push(*recipient);
        }
    }
    Ok(document.to_string())
}

/// Where and why a text is wrong, without its words: a secret may be there.
fn explanation(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    // serde quotes a value of the wrong type.
    let quoted = message.split_once(" string \"").zip(message.rsplit_once("\", expected "));
    let message = match quoted {
        Some(((before, _), (_, expected))) => format!("{before} string, expected {expected}"),
        None if message.to_ascii_uppercase().contains("AGE-SECRET-KEY-") => {
            "a private key does not belong here".to_owned()
        }
        None => message.to_owned(),
    };
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// The known key most like the unknown one that `message` complains of.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    let near = |known: &&str| strsim::damerau_levenshtein(unknown, known) <= 3;
    quoted.filter(near).min_by_key(|known| strsim::damerau_levenshtein(unknown, known)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("sealift.toml"))
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
        let error = parse("recipient = [\"age1x\"]").expect_err("refused");
        assert!(matches!(error, ConfigError::Invalid { suggestion: Some(key), .. } if key == "recipients"));
        assert!(matches!(parse("[s3]\nendpiont = \"x\""), Err(ConfigError::Invalid { suggestion: Some(_), .. })));
    }

    #[test]
    fn two_sources_with_one_name_are_refused() {
        let config = parse("[[file]]\npath = \"/a/.env\"\n[[file]]\npath = \"/b/.env\"").expect("read");
        assert!(matches!(config.sources(None), Err(ConfigError::SameName(name)) if name == ".env"));
    }

    #[test]
    fn what_init_writes_reads_back() {
        let config = parse("repository = \"/r\"\n[limits]\nwriter_hold = \"2s\"\n[[database]]\npath = \"/d/t.db\"")
            .expect("read");
        let again = parse(&config.to_toml().expect("written")).expect("read again");
        assert_eq!(again.limits.writer_hold(), Some(Duration::from_secs(2)));
        assert_eq!(again.database, config.database);
    }

    #[test]
    fn other_recipients_leave_the_rest_of_the_file_as_it_was() {
        let text = "# mine\nrepository = \"/r\" # here\nrecipients = [\n  \"age1a\", # alice\n  \"age1b\", # bob\n]\n\n[limits]\n";
        let changed = with_recipients(text, &["age1b", "age1c"], Path::new("sealift.toml")).expect("changed");
        assert!(
            changed.starts_with("# mine\nrepository = \"/r\" # here\n") && changed.ends_with("\n\n[limits]\n"),
            "{changed}"
        );
        assert_eq!(parse(&changed).expect("read").recipients, ["age1b", "age1c"]);
        let bare = with_recipients("[limits]\nthreads = 2\n", &["age1c"], Path::new("sealift.toml")).expect("changed");
        assert_eq!(parse(&bare).expect("read").recipients, ["age1c"]);
    }

    #[test]
    fn a_retention_section_without_a_rule_sets_none() {
        assert_eq!(parse("").expect("read").retention(), None);
        assert_eq!(parse("[retention]\ntime_zone = \"Asia/Tokyo\"").expect("read").retention(), None);
        let rules = |text: &str| parse(&format!("[retention]\n{text}")).expect("read").retention().expect("rules");
        let text = "keep_last = 3, keep_within = \"30d\", keep_tag = [\"a\"]";
        assert_eq!(rules(&text.replace(", keep", "\nkeep")).to_string(), text);
    }

    #[test]
    fn a_grace_period_may_be_longer_than_7_days() {
        let days = |text: &str| parse(text).expect("read").retention_grace().as_hours() / 24;
        assert_eq!(days(""), 7);
        assert_eq!(days("[retention]\ngrace = \"7d\""), 7);
        assert_eq!(days("[retention]\ngrace = \"14d\""), 14);
        assert_eq!(days("[retention]\ngrace = \"3w\""), 21);
    }

    #[test]
    fn retention_that_makes_no_sense_is_refused() {
        for line in [
            "grace = \"6d\"",
            "grace = \"167h\"",
            "grace = \"1mo\"",
            "grace = 14",
            "time_zone = \"Europe/Atlantis\"",
            "keep_within = \"0d\"",
            "keep_last = -1",
            "max_remove_percent = 101",
            "keep_dialy = 3",
        ] {
            assert!(parse(&format!("[retention]\n{line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn a_level_that_zstd_does_not_have_is_refused() {
        assert!(parse("compression = 0").is_err());
        assert!(parse("compression = 20").is_err());
    }
}
