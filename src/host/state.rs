//! What makes this host the writer of a repository.
//!
//! ```text
//! signer             OpenSSH private key, Ed25519
//! fingerprint.key    32 random bytes
//! host.json          the epoch that is encrypted to: its number and public half; how records are created once; whether
//! the
//!                    host's credentials may delete
//! parent.record      the bytes of this host's newest committed record
//! take-over.json     the change of the signer that this host's first record is to carry, until it is committed
//! unsent.record      a record on its way: written before the put, removed after it
//! last.json          what the last full look at the sources found (a cache)
//! catalog            see `catalog`
//! bad-objects.json   see `bad_objects`
//! keys/              see `keys`
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::StateError;
use crate::crypto::{DataRecipient, FingerprintKey, Signer};
use crate::fsx;
use crate::source::{FileMeta, Print};
use crate::store::CreateOnce;

/// The epoch that this host encrypts to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTo {
    pub epoch: u32,
    pub recipient: DataRecipient,
}

/// `host.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HostFile {
    #[serde(flatten)]
    sealed_to: SealedTo,
    #[serde(flatten)]
    server: ServerProfile,
}

/// What is known of the server since this host tried it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerProfile {
    /// Where it was tried: another location is another server.
    #[serde(default)]
    pub location: String,
    /// How objects are created once there.
    #[serde(default, skip_serializing_if = "CreateOnce::is_conditional")]
    pub create_once: CreateOnce,
    /// Whether this host's credentials could delete an object for good: no version of it was kept. `None`: never tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_delete: Option<bool>,
}

/// What the last full look at the sources found, so that an unchanged set is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When the sources were last read in full.
    pub read: Timestamp,
    /// When the whole repository was last listed, and had all that the parent needs.
    #[serde(default)]
    pub listed: Option<Timestamp>,
    /// Keyed hash of the plain manifest that the parent record names.
    pub manifest_print: String,
    /// What a restore of the parent would download at best, its manifest included.
    pub ideal_bytes: u64,
    pub sources: Vec<SourceLook>,
}

/// What a source looked like when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLook {
    pub name: String,
    pub path: PathBuf,
    pub look: Look,
}

/// What an unchanged source is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// From outside: `stat` and the change counter.
    Print(Print),
    /// A small file is read whole each time; the keyed hash of its bytes.
    Small { meta: FileMeta, content: String },
}

impl Look {
    pub fn proves_unchanged(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Print(now), Self::Print(earlier)) => now.proves_unchanged(earlier),
            (Self::Small { .. }, Self::Small { .. }) => self == earlier,
            _ => false,
        }
    }
}

/// The folder of one repository in the state directory.
pub struct HostState {
    dir: PathBuf,
    pub signer: Signer,
    pub fingerprint_key: FingerprintKey,
    pub sealed_to: SealedTo,
    server: ServerProfile,
}

impl HostState {
    /// The state in `dir`; `None` where this host never was the writer.
    pub fn load(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join("host.json");
        let Some(HostFile { sealed_to, server }) = read_json(&path)? else { return Ok(None) };
        let Some(signer) = load_signer(dir)? else {
            return Err(StateError::damaged(&dir.join("signer"), "it is missing"));
        };
        let path = dir.join("fingerprint.key");
        let secret = read(&path)?.ok_or_else(|| StateError::damaged(&path, "it is missing"))?;
        let secret = secret.try_into().map_err(|_| StateError::damaged(&path, "it is not 32 bytes"))?;
        let fingerprint_key = FingerprintKey::from_bytes(secret);
        Ok(Some(Self { dir: dir.to_owned(), signer, fingerprint_key, sealed_to, server }))
    }

    /// Makes a host of this machine. `host.json` comes last: while it is missing, nothing counts as made.
    pub fn create(dir: &Path, signer: Signer, sealed_to: SealedTo) -> Result<Self, StateError> {
        Self::create_at(dir, signer, sealed_to, ServerProfile::default())
    }

    /// The same, where something is known of the server.
    pub fn create_at(
        dir: &Path,
        signer: Signer,
        sealed_to: SealedTo,
        server: ServerProfile,
    ) -> Result<Self, StateError> {
        let fingerprint_key = FingerprintKey::generate();
        save_signer(dir, &signer)?;
        write(&dir.join("fingerprint.key"), fingerprint_key.as_bytes())?;
        let host = Self { dir: dir.to_owned(), signer, fingerprint_key, sealed_to, server };
        host.save(&host.sealed_to, &host.server)?;
        Ok(host)
    }

    /// Encrypts to another epoch from now on.
    pub fn seal_to(&mut self, sealed_to: SealedTo) -> Result<(), StateError> {
        self.save(&sealed_to, &self.server)?;
        self.sealed_to = sealed_to;
        Ok(())
    }

    /// What is known of the server.
    pub fn server(&self) -> &ServerProfile {
        &self.server
    }

    /// Whether the server at this location was tried.
    pub fn is_server(&self, location: &str) -> bool {
        self.server.location == location
    }

    /// How this host creates records once.
    pub fn create_once(&self) -> CreateOnce {
        self.server.create_once
    }

    /// Whether this host's credentials could delete for good, when that was last tried.
    pub fn may_delete(&self) -> Option<bool> {
        self.server.may_delete
    }

    pub fn set_server(&mut self, server: ServerProfile) -> Result<(), StateError> {
        self.save(&self.sealed_to, &server)?;
        self.server = server;
        Ok(())
    }

    fn save(&self, sealed_to: &SealedTo, server: &ServerProfile) -> Result<(), StateError> {
        write_json(&self.dir.join("host.json"), &HostFile { sealed_to: sealed_to.clone(), server: server.clone() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bytes of this host's newest committed record.
    pub fn parent(&self) -> Result<Option<Vec<u8>>, StateError> {
        read(&self.dir.join("parent.record"))
    }

    pub fn set_parent(&self, record: &[u8]) -> Result<(), StateError> {
        write(&self.dir.join("parent.record"), record)
    }

    /// Before [`HostState::create`]: this host takes a writer's place, as `take_over` has it, and follows on `parent`,
    /// that writer's newest record.
    pub fn prepare_take_over(dir: &Path, take_over: &[u8], parent: &[u8]) -> Result<(), StateError> {
        write(&dir.join("take-over.json"), take_over)?;
        write(&dir.join("parent.record"), parent)
    }

    pub fn take_over(&self) -> Result<Option<Vec<u8>>, StateError> {
        read(&self.dir.join("take-over.json"))
    }

    /// Once a record of this host carries it.
    pub fn drop_take_over(&self) -> Result<(), StateError> {
        remove(&self.dir.join("take-over.json"))
    }

    /// The bytes of a record that was made and perhaps not stored.
    pub fn unsent(&self) -> Result<Option<Vec<u8>>, StateError> {
        read(&self.dir.join("unsent.record"))
    }

    pub fn set_unsent(&self, record: &[u8]) -> Result<(), StateError> {
        write(&self.dir.join("unsent.record"), record)
    }

    pub fn drop_unsent(&self) -> Result<(), StateError> {
        remove(&self.dir.join("unsent.record"))
    }

    /// A cache: what cannot be read is as good as absent.
    pub fn last(&self) -> Option<Last> {
        read_json(&self.dir.join("last.json")).ok().flatten()
    }

    pub fn set_last(&self, last: &Last) -> Result<(), StateError> {
        write_json(&self.dir.join("last.json"), last)
    }

    /// The next backup lists the whole repository, whenever the last one did.
    pub fn look_again(&self) -> Result<(), StateError> {
        match self.last() {
            Some(last) if last.listed.is_some() => self.set_last(&Last { listed: None, ..last }),
            _ => Ok(()),
        }
    }

    pub fn drop_last(&self) -> Result<(), StateError> {
        remove(&self.dir.join("last.json"))
    }
}

/// Whether there is a signer in `dir`, sound or not.
pub fn is_writer(dir: &Path) -> io::Result<bool> {
    dir.join("signer").try_exists()
}

/// The signer in `dir`, if there is one: what an interrupted `init` left is used again.
pub fn load_signer(dir: &Path) -> Result<Option<Signer>, StateError> {
    load_key(&dir.join("signer"))
}

pub fn save_signer(dir: &Path, signer: &Signer) -> Result<(), StateError> {
    save_key(&dir.join("signer"), signer)
}

/// The key that this machine signs receipts with, made at its first use. One for all repositories: `root` is the state
/// directory itself. It is never the host's signer, so that a host that is broken into cannot vouch for its backups.
pub fn driller(root: &Path) -> Result<Signer, StateError> {
    let path = root.join("driller");
    if let Some(signer) = known_driller(root)? {
        return Ok(signer);
    }
    let signer = Signer::generate().map_err(|error| StateError::damaged(&path, error.to_string()))?;
    save_key(&path, &signer)?;
    Ok(signer)
}

/// That key, if this machine ever used it.
pub fn known_driller(root: &Path) -> Result<Option<Signer>, StateError> {
    load_key(&root.join("driller"))
}

fn load_key(path: &Path) -> Result<Option<Signer>, StateError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let text = zeroize::Zeroizing::new(
        String::from_utf8(bytes).map_err(|_| StateError::damaged(path, "it is not an OpenSSH private key"))?,
    );
    Signer::from_openssh(&text).map(Some).map_err(|error| StateError::damaged(path, error.to_string()))
}

fn save_key(path: &Path, key: &Signer) -> Result<(), StateError> {
    let folder = fsx::parent(path);
    fsx::create_private_dir(folder).map_err(StateError::io(folder))?;
    let text = key.to_openssh().map_err(|error| StateError::damaged(path, error.to_string()))?;
    write(path, text.as_bytes())
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::Io { path: path.to_owned(), error }),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| StateError::damaged(path, error.to_string()))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    fsx::write_atomic(path, bytes).map_err(StateError::io(path))
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let json = serde_json::to_vec(value).map_err(|error| StateError::damaged(path, error.to_string()))?;
    write(path, &json)
}

pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::Io { path: path.to_owned(), error }),
        _ => fsx::sync_dir(fsx::parent(path)).map_err(StateError::io(path)),
    }
}
