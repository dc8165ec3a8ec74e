//! What an operator keeps offline, for the day on which the host is gone, or the bucket has lost its small files.
//!
//! Nothing in it is a secret: the key files are ciphertext. What lies in the bucket can be replaced by anybody who may write
//! there. The kit holds what to compare it with: the signer, the repository's id, the script.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{
    FORMAT_DESCRIPTION, MAX_KEY_BYTES, RECOVERY_SCRIPT, Record, RepositoryId, layout, recovery_script_digest,
};
use crate::fsx;
use crate::history::{History, Reader, Selector};
use crate::host::{KeptKey, KeptKeys};
use crate::repository::Remote;
use crate::repository::key_files::first_free;
use crate::store::{Key, StoreError};

/// What goes into a kit.
pub struct RecoveryKit {
    pub repository: RepositoryId,
    pub signer: PublicSigner,
    /// Something else than the repository itself says that this is the signer.
    pub pinned: bool,
    /// Every key file, under the name that it has in the repository.
    pub keys: BTreeMap<Key, Bytes>,
    /// Number and time of the newest snapshot.
    pub newest: Option<(u64, jiff::Timestamp)>,
    pub warnings: Vec<Finding>,
    descriptor: String,
}

/// A file that goes along as it is, such as the certificates of a private server: its name in the kit, and its bytes.
pub type Enclosure = (&'static str, Vec<u8>);

/// Collects a kit. The trusted signer is settled first: a kit that names the wrong signer is worse than none.
pub async fn recovery_kit(remote: &Remote, reader: &Reader) -> Result<RecoveryKit, OperationError> {
    let history = History::load(remote, reader).await?;
    let newest = match history.find(&Selector::Latest) {
        Ok(record) => Some(&record.record),
        Err(OperationError::NoSnapshot(_)) => None,
        Err(error) => return Err(error),
    };
    let mut keys = key_files(remote).await?;
    add_kept(&mut keys, &KeptKeys::load(&reader.state_dir(remote))?)?;
    let mut warnings = history.warnings.clone();
    warnings.extend(missing(&history, &keys));
    Ok(RecoveryKit {
        repository: remote.id().clone(),
        signer: history.signer().clone(),
        pinned: !history.is_unpinned,
        newest: newest.map(|record| (record.sequence, record.time)),
        keys,
        warnings,
        descriptor: remote.descriptor.to_json().map_err(|error| OperationError::Usage(error.to_string()))?,
    })
}

/// Every key file in the repository. What is too large to be one is none.
async fn key_files(remote: &Remote) -> Result<BTreeMap<Key, Bytes>, OperationError> {
    let listing = remote.store.list(layout::KEYS).await?;
    let mut keys = BTreeMap::new();
    for object in listing.objects {
        if layout::epoch_and_version(&object.key).is_none() {
            continue;
        }
        match remote.store.get(&object.key, MAX_KEY_BYTES).await {
            Ok(bytes) => drop(keys.insert(object.key, bytes)),
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(keys)
}

/// Adds the host's copies of epochs that have no key file in the repository. A copy whose loss a receipt explained is left
/// out, unless its epoch has no other.
fn add_kept(keys: &mut BTreeMap<Key, Bytes>, kept: &KeptKeys) -> Result<(), OperationError> {
    for explained in [false, true] {
        let there = epochs_of(keys);
        let was_stored = |key: &&KeptKey| key.stored && key.explained == explained && !there.contains(&key.epoch);
        for key in kept.iter().filter(was_stored) {
            let Some(sealed) = kept.sealed(key)? else { continue };
            let is_taken = |version| keys.contains_key(&layout::data_key(key.epoch, version));
            let version = first_free(key.version.saturating_sub(1), is_taken)?;
            keys.insert(layout::data_key(key.epoch, version), sealed.bytes().clone());
        }
    }
    Ok(())
}

fn epochs_of(keys: &BTreeMap<Key, Bytes>) -> BTreeSet<u32> {
    keys.keys().filter_map(layout::epoch_and_version).map(|(epoch, _)| epoch).collect()
}

/// Epochs that a snapshot needs and that have no key file.
fn missing(history: &History, keys: &BTreeMap<Key, Bytes>) -> Option<Finding> {
    let epochs = |record: &Record| record.epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>();
    let needed: BTreeSet<u32> = history.verified().flat_map(|record| epochs(&record.record)).collect();
    let missing: Vec<u32> = needed.difference(&epochs_of(keys)).copied().collect();
    (!missing.is_empty()).then_some(Finding::KeysMissing { epochs: missing })
}

impl RecoveryKit {
    /// What the script is called in the kit, as in the repository.
    pub fn script_name() -> String {
        layout::recovery_script(&recovery_script_digest()).to_string()
    }

    /// Writes everything into `dir`, which must be new or empty; `page`, as `KIT.md`, last: a kit with its page is whole.
    pub fn write(&self, dir: &Path, page: &str, enclosures: &[Enclosure]) -> Result<(), OperationError> {
        refuse_full(dir)?;
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            let folder = fsx::parent(&path);
            fsx::create_private_dir(folder).map_err(OperationError::io(folder))?;
            fsx::write_atomic(&path, bytes).map_err(OperationError::io(&path))
        };
        put(&Self::script_name(), RECOVERY_SCRIPT.as_bytes())?;
        put("FORMAT.md", FORMAT_DESCRIPTION.as_bytes())?;
        put("signer.pub", format!("{}\n", self.signer).as_bytes())?;
        put(layout::descriptor().as_str(), self.descriptor.as_bytes())?;
        for (key, bytes) in &self.keys {
            put(key.as_str(), bytes)?;
        }
        for (name, bytes) in enclosures {
            put(name, bytes)?;
        }
        put("KIT.md", page.as_bytes())
    }
}

fn refuse_full(dir: &Path) -> Result<(), OperationError> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(OperationError::Refused {
            what: format!("{} is not empty", dir.display()),
            way_out: "name a new or an empty directory. An older kit stays until you remove it".to_owned(),
        }),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OperationError::Io { path: PathBuf::from(dir), error }),
    }
}
