//! What this machine remembers of repositories: whose signature counts, what was ignored, what was seen where. In the way of
//! `known_hosts`. Lost, it costs this knowledge alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::crypto::Digest;
use crate::format::{Ignored, RepositoryId};
use crate::fsx;
use crate::host::StateError;
use crate::policy::seen::LastLook;
use crate::policy::trust::Accepted;

/// Of one repository: `trust.json` in its folder of the state directory. Absent until something is worth remembering.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustStore {
    pub accepted: Option<Accepted>,
    /// `repository.json` as it was first seen here, byte for byte.
    #[serde(default)]
    pub descriptor: Option<String>,
    /// Records that a person ignored here.
    #[serde(default)]
    pub ignored: BTreeSet<Ignored>,
    /// By location.
    #[serde(default)]
    pub looks: BTreeMap<String, LastLook>,
}

impl TrustStore {
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        Ok(read(&path(dir))?.unwrap_or_default())
    }

    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        write(&path(dir), self)
    }

    /// A person says that this record, by the SHA-256 of its bytes, stops nothing any more.
    pub fn ignore(&mut self, sequence: u64, digest: Digest) {
        self.ignored.insert(Ignored(sequence, digest));
    }

    /// What was seen at a location.
    pub fn look(&mut self, location: &str) -> &mut LastLook {
        self.looks.entry(location.to_owned()).or_default()
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("trust.json")
}

/// Which repository this machine saw at which location: `locations.json` in the state directory itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locations(BTreeMap<String, RepositoryId>);

impl Locations {
    pub fn load(state_root: &Path) -> Result<Self, StateError> {
        Ok(read(&locations(state_root))?.unwrap_or_default())
    }

    pub fn get(&self, location: &str) -> Option<&RepositoryId> {
        self.0.get(location)
    }

    /// Remembers that `id` is at `location`.
    pub fn set(state_root: &Path, location: &str, id: &RepositoryId) -> Result<(), StateError> {
        // Read again: another command may have added one.
        let mut all = Self::load(state_root)?;
        if all.0.insert(location.to_owned(), id.clone()).as_ref() == Some(id) {
            return Ok(());
        }
        write(&locations(state_root), &all)
    }
}

fn locations(state_root: &Path) -> PathBuf {
    state_root.join("locations.json")
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let damaged = |error: serde_json::Error| StateError::Damaged { path: path.to_owned(), why: error.to_string() };
    match fs::read(path) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(damaged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::Io { path: path.to_owned(), error }),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let save = || {
        fsx::create_private_dir(fsx::parent(path))?;
        let json = serde_json::to_vec(value)?;
        // What is there already costs no write.
        if fs::read(path).is_ok_and(|there| there == json) { Ok(()) } else { fsx::write_atomic(path, &json) }
    };
    save().map_err(|error| StateError::Io { path: path.to_owned(), error })
}
