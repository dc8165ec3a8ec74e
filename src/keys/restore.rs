//! Restoring a key file that the bucket lost, from copies that a host or an operator kept: only one that a given identity
//! opens, and that holds the data identity which signed records name.

use std::fs;
use std::path::{Path, PathBuf};

use super::survey::{ClosedEpoch, Survey};
use crate::crypto::{CryptoError, Sealed};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{KeyHolders, MAX_KEY_BYTES, layout};
use crate::history::Reader;
use crate::repository::Remote;
use crate::repository::kept_keys::names;
use crate::repository::key_files::{first_free, put_version};
use crate::repository::unlock::open_wrapped;

pub struct RestoredKey {
    pub epoch: u32,
    pub version: u32,
    pub holders: KeyHolders,
}

pub struct RestoreReport {
    pub restored: Vec<RestoredKey>,
    /// Epochs that the identity opens without this.
    pub open: Vec<u32>,
    pub warnings: Vec<Finding>,
}

/// A kept copy of one key file.
struct Copy {
    epoch: u32,
    version: u32,
    path: PathBuf,
}

/// Restores, from the copies in `folder`, the newest key file of each epoch that the operator opens, where the repository
/// has none that opens.
pub async fn restore_keys(remote: &Remote, reader: &Reader, folder: &Path) -> Result<RestoreReport, OperationError> {
    // A recovery kit holds them in a folder of their own.
    let inner = folder.join("keys");
    let folder = if inner.is_dir() { inner.as_path() } else { folder };
    let mut copies = copies(folder).map_err(OperationError::io(folder))?;
    copies.sort_by_key(|copy| std::cmp::Reverse((copy.epoch, copy.version)));
    let epochs: Vec<u32> = copies.iter().map(|copy| copy.epoch).collect();
    let survey = Survey::of(remote, reader, &reader.identities, &epochs).await?;
    let remote = &survey.remote.clone();
    let open = survey.epochs.iter().map(|epoch| epoch.epoch).collect();
    let mut report = RestoreReport { restored: Vec::new(), open, warnings: survey.warnings };
    for epoch in &survey.closed {
        match restore(remote, reader, epoch, &copies).await? {
            Some(restored) => {
                report.warnings.extend(unopened(epoch));
                report.restored.push(restored);
            }
            None => report.warnings.push(epoch.finding()),
        }
    }
    let restored: Vec<u32> = report.restored.iter().map(|restored| restored.epoch).collect();
    report.warnings.iter_mut().for_each(|finding| {
        if let Finding::KeysMissing { epochs } = finding {
            epochs.retain(|epoch| !restored.contains(epoch));
        }
    });
    report.warnings.retain(|finding| !matches!(finding, Finding::KeysMissing { epochs } if epochs.is_empty()));
    if report.restored.is_empty() && report.open.is_empty() {
        return Err(OperationError::NoIdentityOpens { object: format!("a copy in {}", folder.display()) });
    }
    Ok(report)
}

/// Names the other key files, which this identity does not open: an operator may have rotated the keys for a set that it
/// does not belong to.
fn unopened(epoch: &ClosedEpoch) -> Option<Finding> {
    let objects = names(epoch.versions.iter().map(|version| (epoch.epoch, *version)));
    (!objects.is_empty()).then_some(Finding::KeyFilesUnopened { objects })
}

async fn restore(
    remote: &Remote,
    reader: &Reader,
    epoch: &ClosedEpoch,
    copies: &[Copy],
) -> Result<Option<RestoredKey>, OperationError> {
    for copy in copies.iter().filter(|copy| copy.epoch == epoch.epoch) {
        let Some(sealed) = read(&copy.path)? else { continue };
        let holders = match open_wrapped(sealed.bytes(), Some(&epoch.recipient), &reader.identities) {
            Ok((_, holders)) => holders,
            Err(error @ CryptoError::IdentityFailed(_)) => return Err(error.into()),
            Err(_) => continue,
        };
        let version = first_free(copy.version.saturating_sub(1), |version| epoch.versions.contains(&version))?;
        if !put_version(remote.store.as_ref(), epoch.epoch, version, &sealed).await? {
            let object = layout::data_key(epoch.epoch, version).to_string();
            return Err(OperationError::OtherRotation { object });
        }
        return Ok(Some(RestoredKey { epoch: epoch.epoch, version, holders }));
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Sealed>, OperationError> {
    let size = fs::metadata(path).map_err(OperationError::io(path))?.len();
    if size > MAX_KEY_BYTES {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(OperationError::io(path))?;
    Ok(Sealed::reread(bytes.into()).ok())
}

/// The copies in a host's folder (`<epoch>-<version>-….age`), or in one that is laid out as the repository
/// (`<epoch>/<version>.age`).
fn copies(folder: &Path) -> std::io::Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let Ok(epoch) = name.parse() else { continue };
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                let name = inner.file_name().to_string_lossy().into_owned();
                if let Some(version) = name.strip_suffix(".age").and_then(|number| number.parse().ok()) {
                    copies.push(Copy { epoch, version, path: inner.path() });
                }
            }
        } else if let Some((epoch, version)) = epoch_and_version(&name) {
            copies.push(Copy { epoch, version, path: entry.path() });
        }
    }
    Ok(copies)
}

fn epoch_and_version(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_suffix(".age")?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
