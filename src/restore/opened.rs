//! A snapshot opened with an identity: its verified record, its manifest, and the data identities of its epochs.
//! All that reads what a snapshot holds (restore, check, drill) begins here.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::crypto::{DataIdentity, Digest};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{Manifest, PackRef, Record, SignedRecord, layout};
use crate::history::{History, Reader, Selector};
use crate::repository::Remote;
use crate::repository::unlock::{OpenedVersion, open_epoch};
use crate::store::Key;

/// A verified record with its manifest open.
pub struct OpenedSnapshot {
    pub signed: Arc<SignedRecord>,
    pub manifest: Manifest,
    /// By epoch.
    pub(crate) identities: Vec<(u32, DataIdentity)>,
    /// SHA-256s of the key files through which they were opened.
    pub(crate) keys: Vec<Digest>,
    pub warnings: Vec<Finding>,
}

/// A pack to fetch, and which of the placements it serves.
pub(crate) struct PackPlan {
    pub pack: PackRef,
    pub epoch: u32,
    pub placements: Range<usize>,
}

/// Finds, verifies and opens a snapshot.
pub async fn open_with(
    remote: &Remote,
    snapshot: &Selector,
    reader: &Reader,
) -> Result<OpenedSnapshot, OperationError> {
    let history = History::load_for(remote, reader, snapshot).await?;
    let signed = Arc::clone(history.find(snapshot)?);
    open(remote, history, signed, reader).await
}

/// Opens a verified snapshot of `history`.
pub(crate) async fn open(
    remote: &Remote,
    history: History,
    signed: Arc<SignedRecord>,
    reader: &Reader,
) -> Result<OpenedSnapshot, OperationError> {
    let (mut opened, mut keys) = (Vec::new(), Vec::new());
    for epoch in &signed.record.epochs {
        let OpenedVersion { identity, digest, .. } = open_epoch(remote, epoch, &reader.identities).await?;
        opened.push((epoch.epoch, identity));
        keys.push(digest);
    }
    let manifest = &signed.record.manifest;
    let sealed = remote.sealed(&layout::manifest(&manifest.name), &manifest.name, manifest.bytes).await?;
    let manifest = open_manifest(&sealed, &signed.record, &opened)?;
    Ok(OpenedSnapshot { signed, manifest, identities: opened, keys, warnings: history.warnings })
}

/// Opens the stored manifest of a record.
pub(crate) fn open_manifest(
    sealed: &[u8],
    record: &Record,
    identities: &[(u32, DataIdentity)],
) -> Result<Manifest, OperationError> {
    let key = layout::manifest(&record.manifest.name);
    let identity = identity_of(identities, record.manifest.epoch, &key)?;
    Manifest::open(sealed, identity).map_err(|error| match OperationError::object(&key, error) {
        OperationError::Verification { why, .. } => OperationError::contents(&key, why),
        other => other,
    })
}

/// The data identity of `epoch`, for opening the object `key`.
pub(crate) fn identity_of<'a>(
    identities: &'a [(u32, DataIdentity)],
    epoch: u32,
    key: &Key,
) -> Result<&'a DataIdentity, OperationError> {
    let found = identities.iter().find(|(number, _)| *number == epoch);
    found.map(|(_, identity)| identity).ok_or_else(|| {
        let why = format!("the record does not name its epoch {epoch}");
        OperationError::contents(key, why)
    })
}

impl OpenedSnapshot {
    pub fn record(&self) -> &Record {
        &self.signed.record
    }

    /// Lets go of what is not wanted; an unknown name is an error.
    pub(crate) fn keep_only(&mut self, only: &[String]) -> Result<(), OperationError> {
        if let Some(name) = only.iter().find(|name| !self.manifest.entries.iter().any(|entry| entry.name == **name)) {
            let names: Vec<&str> = self.manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
            let text = format!("snapshot {} has no {name}; it has {}", self.record().sequence, names.join(", "));
            return Err(OperationError::Usage(text));
        }
        self.manifest.entries.retain(|entry| only.is_empty() || only.contains(&entry.name));
        Ok(())
    }

    /// What the record says of each pack that is needed: a pack that it does not name is refused.
    pub(crate) fn packs(&self, groups: &[(usize, Range<usize>)]) -> Result<Vec<PackPlan>, OperationError> {
        let record = self.record();
        let known: HashMap<Digest, (PackRef, u32)> = record
            .epochs
            .iter()
            .flat_map(|epoch| epoch.packs.iter().map(|pack| (pack.0, (*pack, epoch.epoch))))
            .collect();
        let plan = |(index, placements): &(usize, Range<usize>)| {
            let name = self.manifest.packs[*index];
            let (pack, epoch) = *known.get(&name).ok_or_else(|| {
                let why = format!("it needs the pack {name}, which the signed record does not name");
                OperationError::contents(&layout::manifest(&record.manifest.name), why)
            })?;
            Ok(PackPlan { pack, epoch, placements: placements.clone() })
        };
        groups.iter().map(plan).collect()
    }
}
