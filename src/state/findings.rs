//! What this machine's own checks of a repository hold bad.

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
}

impl Findings {
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
