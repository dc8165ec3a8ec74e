//! What a reader remembers of a repository: whose signature counts, and the newest record that it saw.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use crate::crypto::PublicSigner;
use crate::fsx;

/// One file a repository; absent until something is worth remembering.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pins {
    pub signer: Option<PublicSigner>,
    /// The highest sequence number of a verified record.
    pub newest: Option<u64>,
}

impl Pins {
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        let path = path(dir);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| StateError::damaged(&path, error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(StateError::Io { path, error }),
        }
    }

    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        let path = path(dir);
        let save = || {
            fsx::create_private_dir(dir)?;
            fsx::write_atomic(&path, &serde_json::to_vec(self)?)
        };
        save().map_err(StateError::io(&path))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("pins.json")
}
