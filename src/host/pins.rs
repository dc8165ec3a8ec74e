//! What a reader remembers of a repository: whose signature counts, and the records that it saw.
//!
//! So a bucket that is set back, a record that is exchanged and one that vanishes are noticed by whoever was there
//! before. Lost, it costs this knowledge alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StateError;
use crate::crypto::{Digest, PublicSigner};
use crate::fsx;

/// One file a repository; absent until something is worth remembering.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pins {
    pub signer: Option<PublicSigner>,
    /// What that signer's records say of the signers before; `None`: not known yet.
    #[serde(default)]
    pub lineage: Option<Lineage>,
    /// `repository.json` as it was first seen here.
    #[serde(default)]
    pub descriptor: Option<String>,
    /// The verified record with the highest sequence number ever.
    pub newest: Option<(u64, Digest)>,
    /// The verified records that were listed last time.
    #[serde(default)]
    pub seen: Vec<Remembered>,
    /// Sequence numbers, as inclusive ranges, that the newest record names and that are known to be gone.
    #[serde(default)]
    pub gone: Vec<(u64, u64)>,
    /// What was seen here and vanished unexplained, and when retention first heard of it, by the server's clock.
    #[serde(default)]
    pub vanished: BTreeMap<u64, Option<Timestamp>>,
    /// What a look found that no later look will find again, until somebody was told.
    #[serde(default)]
    pub untold: Vec<Untold>,
}

/// A warning that nobody has seen yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    pub name: String,
    pub text: String,
    pub doubt: bool,
    /// The sequence numbers, as inclusive ranges, that it says are gone: it is no news once all of them are back.
    pub gone: Vec<(u64, u64)>,
}

/// Whose place a signer took. All its records say the same, so that one which does not is by somebody else who has its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub signer: PublicSigner,
    /// As the records have it, in JSON.
    pub take_overs: String,
}

/// What it takes to tell whether retention would have removed a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub sequence: u64,
    /// The hash of the record's bytes.
    pub record: Digest,
    /// Its time as retention counts it.
    pub time: Timestamp,
    /// When the server got it; `None`: this host wrote it just now.
    #[serde(default)]
    pub stored: Option<Timestamp>,
    pub tags: Vec<String>,
    /// No source was missing or damaged.
    pub good: bool,
    /// The epochs whose keys open it.
    pub epochs: Vec<u32>,
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
