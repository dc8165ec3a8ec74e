//! The retention rules: which snapshots to keep. They stand in the configuration, and in each record as
//! those that were in force. What they mean is said in `plan::retain`.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, SpanFieldwise};
use serde::{Deserialize, Serialize};

use super::FormatError;

/// The rules. A snapshot that any of them keeps is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The newest ones, so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u64>,
    /// The last one of each of the newest hours that have one, so many hours; the others likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u64>,
    /// All that are no older than this when the newest one is taken for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Within>,
    /// All that have one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_tag: Vec<String>,
    /// Where a day begins: a name of the IANA database; UTC where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl Retention {
    /// Whether no `keep_…` is set; one that is set to 0 is.
    pub fn is_unset(&self) -> bool {
        Self { time_zone: self.time_zone.clone(), ..Self::default() } == *self
    }

    pub fn zone(&self) -> Result<TimeZone, UnknownZone> {
        let Some(name) = &self.time_zone else { return Ok(TimeZone::UTC) };
        TimeZone::get(name).map_err(|_| UnknownZone(name.clone()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no time zone {0:?}; one is called Europe/Berlin or UTC")]
pub struct UnknownZone(String);

/// A span of the calendar, longer than nothing: written `30d` or `1y 6mo`, stored as ISO 8601 has it (`P30D`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Within(SpanFieldwise);

impl Within {
    pub fn span(self) -> Span {
        self.0.0
    }
}

impl FromStr for Within {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text.parse::<Span>() {
            Ok(span) if span.is_positive() => Ok(Self(span.fieldwise())),
            _ => Err(FormatError::invalid("a span is written as 30d, 12w or 1y 6mo")),
        }
    }
}

impl TryFrom<String> for Within {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<Within> for String {
    fn from(within: Within) -> Self {
        within.span().to_string()
    }
}

/// As a person writes it.
impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.span())
    }
}

/// The rules as they are written in the configuration: `keep_daily = 14, time_zone = "Europe/Berlin"`.
impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("keep_last", self.keep_last),
            ("keep_hourly", self.keep_hourly),
            ("keep_daily", self.keep_daily),
            ("keep_weekly", self.keep_weekly),
            ("keep_monthly", self.keep_monthly),
            ("keep_yearly", self.keep_yearly),
        ];
        let mut words: Vec<String> =
            counts.iter().filter_map(|(name, count)| Some(format!("{name} = {}", (*count)?))).collect();
        words.extend(self.keep_within.map(|within| format!("keep_within = \"{within}\"")));
        if !self.keep_tag.is_empty() {
            words.push(format!("keep_tag = {:?}", self.keep_tag));
        }
        words.extend(self.time_zone.as_ref().map(|zone| format!("time_zone = {zone:?}")));
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back_from_json_as_they_were() {
        let rules = Retention {
            keep_last: Some(0),
            keep_within: Some("1y 6mo".parse().expect("a span")),
            keep_tag: vec!["before-upgrade".to_owned()],
            time_zone: Some("Europe/Berlin".to_owned()),
            ..Retention::default()
        };
        let json = serde_json::to_string(&rules).expect("JSON");
        assert_eq!(
            json,
            r#"{"keep_last":0,"keep_within":"P1Y6M","keep_tag":["before-upgrade"],"time_zone":"Europe/Berlin"}"#
        );
        assert_eq!(serde_json::from_str::<Retention>(&json).expect("rules"), rules);
        let text =
            r#"keep_last = 0, keep_within = "1y 6mo", keep_tag = ["before-upgrade"], time_zone = "Europe/Berlin""#;
        assert_eq!(rules.to_string(), text);
    }

    #[test]
    fn a_span_is_longer_than_nothing() {
        for text in ["", "0d", "-3d", "3", "soon"] {
            assert!(text.parse::<Within>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_zone_alone_is_no_rule_and_a_zero_is_one() {
        let zone = Retention { time_zone: Some("UTC".to_owned()), ..Retention::default() };
        assert!(zone.is_unset());
        assert!(!Retention { keep_last: Some(0), ..zone }.is_unset());
    }

    #[test]
    fn zones_are_known_without_the_systems_help_and_strange_ones_are_not() {
        let zone = |name: &str| Retention { time_zone: Some(name.to_owned()), ..Retention::default() }.zone();
        zone("Europe/Berlin").expect("a zone");
        assert!(zone("Europe/Atlantis").is_err());
    }
}
