//! Why a snapshot stays or goes, in words.

use std::fmt;

use serde::{Serialize, Serializer};

/// A rule of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Last,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
    Within,
    Tag,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
            Self::Tag => "tag",
        })
    }
}

/// Why a snapshot stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Newest,
    NewestGood,
    NewestDrilled,
    /// The newest good one of the last epoch that a known driller opened.
    LastProvedEpoch(u32),
    /// The newest good one of an epoch, as long as no epoch is proved.
    UnprovedEpoch(u32),
    /// Without it nothing would show that the time of the later snapshot may be wrong.
    ShowsBehind(u64),
    /// Without it nothing would show that the earlier snapshot came late.
    ShowsLate(u64),
    /// A rule keeps it, in this place: an hour, a day, a tag.
    Ruled {
        rule: Rule,
        place: String,
    },
    /// Only what is named goes.
    NotNamed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::NewestGood => f.write_str("newest good"),
            Self::NewestDrilled => f.write_str("newest drilled"),
            Self::LastProvedEpoch(epoch) => write!(f, "newest good of epoch {epoch}, the last proved"),
            Self::UnprovedEpoch(epoch) => write!(f, "newest good of epoch {epoch}, none proved"),
            Self::ShowsBehind(sequence) => write!(f, "shows that the time of {sequence} is behind"),
            Self::ShowsLate(sequence) => write!(f, "shows that {sequence} came late"),
            Self::Ruled { rule, place } if place.is_empty() => rule.fmt(f),
            Self::Ruled { rule, place } => write!(f, "{rule} {place}"),
            Self::NotNamed => f.write_str("not named"),
        }
    }
}

/// Why a snapshot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Another one has its place.
    Instead { rule: Rule, place: String, by: u64 },
    /// It is older than any rule reaches, or has no tag that is kept.
    Unreached,
    /// A person named it.
    ByHand,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instead { rule, place, by } => write!(f, "{by} is kept for {rule} {place}"),
            Self::Unreached => f.write_str("no rule reaches it"),
            Self::ByHand => f.write_str("named by hand"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
