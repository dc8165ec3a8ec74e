//! Which part of the stored bytes comes next where a check reads one part of so many at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::state::{read_json, write_json};

/// Rounds under way, each by the number of its parts: the part to read next, the first of which is 0. Absent until a
/// check reads a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    /// Of checks of every snapshot.
    #[serde(default)]
    pub all: BTreeMap<u64, u64>,
    /// Of checks of a single one, by its sequence number: each reads something else.
    #[serde(default)]
    pub each: BTreeMap<u64, BTreeMap<u64, u64>>,
}

impl Rounds {
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        Ok(read_json(&path(dir))?.unwrap_or_default())
    }

    /// Those of checks of every snapshot, or of the only one that is looked at.
    pub fn of(&mut self, only: Option<u64>) -> &mut BTreeMap<u64, u64> {
        match only {
            None => &mut self.all,
            Some(sequence) => self.each.entry(sequence).or_default(),
        }
    }

    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        crate::fsx::create_private_dir(dir).map_err(StateError::io(dir))?;
        write_json(&path(dir), self)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("rounds.json")
}
