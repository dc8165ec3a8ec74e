//! Putting a generation back that the bucket lost, from copies that a host or an operator kept: only one that a given
//! identity opens, and that holds the data identity which signed records name.

use std::fs;
use std::path::{Path, PathBuf};

use super::survey::{Survey, SurveyedEpoch};
use crate::crypto::{CryptoError, Sealed};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{KeyHolders, MAX_KEY_BYTES, layout};
use crate::history::Reader;
use crate::repository::Remote;
use crate::repository::key_files::{first_free, put_generation};
use crate::repository::unlock::open_wrapped;

pub struct PutBack {
    pub epoch: u32,
    pub generation: u32,
    pub holders: KeyHolders,
}

pub struct PutBackReport {
    pub put: Vec<PutBack>,
    /// Epochs that the identity opens without this.
    pub open: Vec<u32>,
    pub warnings: Vec<Warning>,
}

/// A kept copy of one generation.
struct Copy {
    epoch: u32,
    generation: u32,
    path: PathBuf,
}

/// Puts back, from the copies in `folder`, the newest generation of each epoch that the operator opens, where the
/// repository has none that he opens.
pub async fn put_back_keys(remote: &Remote, reader: &Reader, folder: &Path) -> Result<PutBackReport, OperationError> {
    let mut copies = copies(folder).map_err(OperationError::io(folder))?;
    copies.sort_by_key(|copy| std::cmp::Reverse((copy.epoch, copy.generation)));
    let epochs: Vec<u32> = copies.iter().map(|copy| copy.epoch).collect();
    let survey = Survey::of(remote, reader, &reader.identities, &epochs).await?;
    let mut report = PutBackReport { put: Vec::new(), open: Vec::new(), warnings: survey.warnings };
    for epoch in &survey.epochs {
        if epoch.open(remote, &reader.identities).await?.is_ok() {
            report.open.push(epoch.epoch);
        } else if let Some(put) = put_back(remote, reader, epoch, &copies).await? {
            report.warnings.extend(beside(epoch, &put));
            report.put.push(put);
        } else {
            let text = format!("no given identity opens epoch {}, nor a kept copy of its keys", epoch.epoch);
            report.warnings.push(Warning::doubt("epoch-not-opened", text));
        }
    }
    if report.put.is_empty() && report.open.is_empty() {
        return Err(OperationError::NoIdentityOpens { object: format!("a copy in {}", folder.display()) });
    }
    Ok(report)
}

/// A doubt where the repository has other generations, which this identity does not open: perhaps somebody rotated the
/// keys for a set in which it has no place any more.
fn beside(epoch: &SurveyedEpoch, put: &PutBack) -> Option<Warning> {
    let others: Vec<String> =
        epoch.generations.iter().map(|number| layout::data_key(epoch.epoch, *number).to_string()).collect();
    (!others.is_empty()).then(|| {
        let text = format!(
            "{} was put back beside {}, which the given identity does not open: if an operator rotated the keys, whoever he \
             removed can open the backups again. Then run `sealift keys confirm --remove-newer` with an identity of his new set",
            layout::data_key(put.epoch, put.generation),
            others.join(", ")
        );
        Warning::doubt("removed-recipient-back", text)
    })
}

async fn put_back(
    remote: &Remote,
    reader: &Reader,
    epoch: &SurveyedEpoch,
    copies: &[Copy],
) -> Result<Option<PutBack>, OperationError> {
    for copy in copies.iter().filter(|copy| copy.epoch == epoch.epoch) {
        let Some(sealed) = read(&copy.path)? else { continue };
        let holders = match open_wrapped(sealed.bytes(), Some(&epoch.recipient), &reader.identities) {
            Ok((_, holders)) => holders,
            Err(error @ CryptoError::IdentityFailed(_)) => return Err(error.into()),
            Err(_) => continue,
        };
        let generation = first_free(copy.generation.saturating_sub(1), |number| epoch.generations.contains(&number))?;
        if !put_generation(remote.store.as_ref(), epoch.epoch, generation, &sealed).await? {
            let object = layout::data_key(epoch.epoch, generation).to_string();
            return Err(OperationError::OtherRotation { object });
        }
        return Ok(Some(PutBack { epoch: epoch.epoch, generation, holders }));
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

/// The copies in a host's folder (`<epoch>-<generation>-….age`), or in one that is laid out as the repository
/// (`<epoch>/<generation>.age`).
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
                if let Some(generation) = name.strip_suffix(".age").and_then(|number| number.parse().ok()) {
                    copies.push(Copy { epoch, generation, path: inner.path() });
                }
            }
        } else if let Some((epoch, generation)) = epoch_and_generation(&name) {
            copies.push(Copy { epoch, generation, path: entry.path() });
        }
    }
    Ok(copies)
}

fn epoch_and_generation(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_suffix(".age")?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
