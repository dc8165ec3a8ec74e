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
    /// The newest good one of the epoch `before`, while `epoch` is new.
    EpochBefore {
        before: u32,
        epoch: u32,
    },
    /// Its time is out of order: only a person who names it removes it.
    OutOfOrder,
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
            Self::EpochBefore { before, epoch } => {
                write!(f, "newest good of epoch {before}, while epoch {epoch} is new")
            }
            Self::OutOfOrder => f.write_str("out of order"),
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
