//! Records that cannot be verified and that a person let go of: what they may need is no longer kept for them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::host::{read_json, write_json};
use crate::crypto::Digest;

/// By the hash of their bytes, so that other bytes under the same number are not let go of with them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Forgotten {
    records: BTreeSet<Digest>,
}

impl Forgotten {
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        Ok(read_json(&path(dir))?.unwrap_or_default())
    }

    pub fn contains(&self, record: &Digest) -> bool {
        self.records.contains(record)
    }

    /// Lets go of these, too, for good.
    pub fn add(&mut self, dir: &Path, records: impl IntoIterator<Item = Digest>) -> Result<(), StateError> {
        self.records.extend(records);
        write_json(&path(dir), self)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("forgotten.json")
}
