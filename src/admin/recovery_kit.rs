//! What an operator keeps offline, for the day on which the host is gone, or the bucket has lost its small files.
//!
//! Nothing in it is a secret: the wrapped keys are ciphertext. What it is for is to be told apart from what lies in the
//! bucket, which whoever can write there can exchange: the signer, the repository's id, the script.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::crypto::{PublicSigner, sha256};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{
    FORMAT_DESCRIPTION, MAX_KEY_BYTES, RECOVERY_SCRIPT, Record, RepositoryId, layout, recovery_script_digest,
};
use crate::fsx;
use crate::history::{History, Reader, Selector};
use crate::host::KeptKeys;
use crate::repository::Remote;
use crate::store::{Key, StoreError};

/// What goes into a kit.
pub struct RecoveryKit {
    pub repository: RepositoryId,
    pub signer: PublicSigner,
    /// Something else than the repository itself says that this is the signer.
    pub pinned: bool,
    /// Every wrapped key, under the name that it has in the repository.
    pub keys: BTreeMap<Key, Bytes>,
    /// Number and time of the newest snapshot.
    pub newest: Option<(u64, jiff::Timestamp)>,
    pub warnings: Vec<Warning>,
    descriptor: String,
}

/// A file that goes along as it is, such as the certificates of a private server: its name in the kit, and its bytes.
pub type Enclosure = (&'static str, Vec<u8>);

/// Collects a kit. Whose signature counts is settled first: a kit that names the wrong signer is worse than none.
pub async fn recovery_kit(remote: &Remote, reader: &Reader) -> Result<RecoveryKit, OperationError> {
    let history = History::load(remote, reader).await?;
    let newest = match history.find(&Selector::Latest) {
        Ok(record) => Some(&record.record),
        Err(OperationError::NoSnapshot(_)) => None,
        Err(error) => return Err(error),
    };
    let mut keys = wrapped_keys(remote).await?;
    let mut warnings = history.warnings.clone();
    let kept = KeptKeys::load(&reader.state_dir(remote))?;
    warnings.extend(undo_exchanges(&mut keys, &kept)?);
    warnings.extend(add_newer(&mut keys, &kept)?);
    warnings.extend(add_kept(&mut keys, &kept)?);
    warnings.extend(lacking(&history, &keys));
    Ok(RecoveryKit {
        repository: remote.id().clone(),
        signer: history.signer.clone(),
        pinned: history.is_pinned(),
        newest: newest.map(|record| (record.sequence, record.time)),
        keys,
        warnings,
        descriptor: remote.descriptor.to_json().map_err(|error| OperationError::Usage(error.to_string()))?,
    })
}

/// Every wrapped key in the repository. What is too large to be one is none.
async fn wrapped_keys(remote: &Remote) -> Result<BTreeMap<Key, Bytes>, OperationError> {
    let listing = remote.store.list(layout::KEYS).await?;
    let mut keys = BTreeMap::new();
    for object in listing.objects {
        if layout::epoch_and_generation(&object.key).is_none() {
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

/// Puts the host's copy in the place of a file that is not the one that lay there before.
fn undo_exchanges(keys: &mut BTreeMap<Key, Bytes>, kept: &KeptKeys) -> Result<Option<Warning>, OperationError> {
    let mut undone = Vec::new();
    for key in kept.iter().filter(|key| !key.gone) {
        let (place, rightful) = (layout::data_key(key.epoch, key.generation), kept.rightful(key));
        let Some(stored) = keys.get_mut(&place).filter(|stored| sha256(stored) != rightful.digest) else { continue };
        if let Some(sealed) = kept.sealed(rightful)? {
            stored.clone_from(sealed.bytes());
            undone.push(place.to_string());
        }
    }
    Ok((!undone.is_empty()).then(|| {
        let text = format!(
            "{} is not the file that lay there before: somebody exchanged it. The kit holds this host's copy of what was \
             there, and `sealift keys restore --identity FILE` puts it back",
            undone.join(", ")
        );
        Warning::doubt("keys-exchanged", text)
    }))
}

/// Adds the host's copies of what was there after a generation that somebody put back. That one stays in the kit: an
/// operator may have wanted it.
fn add_newer(keys: &mut BTreeMap<Key, Bytes>, kept: &KeptKeys) -> Result<Option<Warning>, OperationError> {
    let (mut newer, mut set_back) = (BTreeMap::new(), Vec::new());
    for (name, bytes) in keys.iter() {
        let Some(place) = layout::epoch_and_generation(name) else { continue };
        let digest = sha256(bytes);
        if kept.sets_back(place, &digest)? {
            set_back.push(name.to_string());
            for (key, sealed) in kept.set_back_from(place.0, &digest)? {
                newer.insert(layout::data_key(key.epoch, key.generation), sealed.bytes().clone());
            }
        }
    }
    for (name, bytes) in newer {
        keys.entry(name).or_insert(bytes);
    }
    Ok((!set_back.is_empty()).then(|| {
        let text = format!(
            "{} was put back after newer keys of its epoch had been there: somebody set the keys back. The kit holds this \
             host's copies of the newer ones, and `sealift keys restore --identity FILE` puts one back",
            set_back.join(", ")
        );
        Warning::doubt("keys-set-back", text)
    }))
}

/// Adds what the host keeps of epochs of which the repository has lost every key. Where it has another one instead, an
/// operator may have rotated, and whoever was removed by that is not let in again.
fn add_kept(keys: &mut BTreeMap<Key, Bytes>, kept: &KeptKeys) -> Result<Option<Warning>, OperationError> {
    let there: BTreeSet<u32> = epochs_of(keys);
    let mut replaced = Vec::new();
    for key in kept.iter().filter(|key| !key.gone) {
        let place = layout::data_key(key.epoch, key.generation);
        match kept.sealed(kept.rightful(key))? {
            Some(sealed) if !there.contains(&key.epoch) => drop(keys.insert(place, sealed.bytes().clone())),
            Some(_) if !keys.contains_key(&place) => replaced.push(place.to_string()),
            _ => {}
        }
    }
    Ok((!replaced.is_empty()).then(|| {
        let text = format!(
            "{} is no longer in the repository, and another key of its epoch is: the kit holds that one. If no operator \
             rotated the keys, look at `sealift keys list`",
            replaced.join(", ")
        );
        Warning::standing("keys-replaced", text)
    }))
}

fn epochs_of(keys: &BTreeMap<Key, Bytes>) -> BTreeSet<u32> {
    keys.keys().filter_map(layout::epoch_and_generation).map(|(epoch, _)| epoch).collect()
}

/// Epochs that a snapshot needs and that no wrapped key is of.
fn lacking(history: &History, keys: &BTreeMap<Key, Bytes>) -> Option<Warning> {
    let epochs = |record: &Record| record.epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>();
    let needed: BTreeSet<u32> = history.verified().flat_map(|record| epochs(&record.record)).collect();
    let lacking: Vec<String> = needed.difference(&epochs_of(keys)).map(u32::to_string).collect();
    (!lacking.is_empty()).then(|| {
        let text = format!(
            "there is no wrapped key of epoch {}: no identity opens what was stored under it",
            lacking.join(", ")
        );
        Warning::doubt("keys-missing", text)
    })
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
            way_out: "name a new or an empty directory: a kit is made anew, and the old one stays until you remove it"
                .to_owned(),
        }),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OperationError::Io { path: PathBuf::from(dir), error }),
    }
}
