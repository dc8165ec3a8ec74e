//! What this host's own checks found bad: its next backup treats these objects as missing.
//!
//! Only the host keeps this, in `bad-objects.json`. On any other machine a check remembers nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::state::{read_json, write_json};

/// Names of packs and manifests. The file is absent until a check on the host finds something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadObjects {
    /// Missing, or not what the record says: snapshots that need them cannot be restored in full.
    pub bad: BTreeSet<String>,
    /// They have the bytes of their names, and what is in them is wrong or may be. Reading them whole says nothing about
    /// that. Those that are not in `bad` as well are not known to make a snapshot incomplete.
    #[serde(default)]
    pub contents: BTreeSet<String>,
}

impl BadObjects {
    /// Of the host with its state in `dir`; empty on any other machine.
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        Ok(read_json(&path(dir))?.unwrap_or_default())
    }

    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        write_json(&path(dir), self)
    }

    /// All of them, each once.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.bad.union(&self.contents)
    }

    /// Whether nothing is known against the object but that something in it may be wrong.
    pub fn is_only_doubted(&self, name: &str) -> bool {
        self.contents.contains(name) && !self.bad.contains(name)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("bad-objects.json")
}
