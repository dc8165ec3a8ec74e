//! What the host keeps between runs: signer, fingerprint key, catalog, parent, unsent record, pins, the writer's lock.
//!
//! Nothing here opens a backup, and nothing here is needed to restore one. The catalog is a cache: losing it costs
//! one full upload. All files are 0600 and replaced atomically.

mod bad_objects;
mod catalog;
mod keys;
mod lock;
mod rounds;
mod state;

pub use bad_objects::BadObjects;
pub use catalog::{Catalog, CatalogPack, Loaded, Location};
pub use keys::{KeptKey, KeptKeys, NamedKey};
pub use lock::{LockFile, WriterLock};
pub use rounds::Rounds;
pub use state::{
    HostState, Last, Look, SealedTo, ServerProfile, SourceLook, driller, is_writer, known_driller, load_signer,
    save_signer,
};

use std::io;
use std::path::{Path, PathBuf};

/// The state directory cannot be used, or what lies in it is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: {why}")]
    Damaged { path: PathBuf, why: String },
    /// Another sealift is writing, with this process id where it is known.
    #[error("another sealift is already running on this repository{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked { pid: Option<u32> },
}

impl StateError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Io { path: path.to_owned(), error }
    }

    fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }
}
