//! What somebody's checks and drills of a repository hold bad; on the host, its own checks remember it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::host::{read_json, write_json};

/// Absent until a check on the host finds something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Names of stored objects that are missing or are not what they should be.
    pub bad: BTreeSet<String>,
    /// Names of those that have the right hash, and in which something is wrong or may be: a hash takes nothing back of
    /// that. What is not in `bad`, too, hurts no snapshot as far as one knows.
    #[serde(default)]
    pub contents: BTreeSet<String>,
}

impl Findings {
    /// These and those.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.bad.extend(others.bad);
        self.contents.extend(others.contents);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.bad.is_empty() && self.contents.is_empty()
    }

    pub fn load(dir: &Path) -> Result<Self, StateError> {
        Ok(read_json(&path(dir))?.unwrap_or_default())
    }

    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        write_json(&path(dir), self)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("findings.json")
}
