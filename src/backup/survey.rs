//! What a backup would upload, without uploading anything.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, RwLock};

use super::known::usable_catalog;
use super::scan::{Scanner, piece_buffers};
use super::sources::{SourceKind, nothing_to_back_up, or_missing};
use super::{
    BackupRequest, BadObjects, Finding, Monitor, OperationError, Remote, not_the_writer, parent, sound_listing,
};
use crate::host::{Catalog, HostState};
use crate::source;

pub struct Survey {
    pub source_bytes: u64,
    pub new_blocks: u64,
    /// Before compression.
    pub new_bytes: u64,
    pub warnings: Vec<Finding>,
}

/// Reads all sources in short transactions and counts the blocks that the repository does not have.
pub async fn survey(
    remote: &Remote,
    dir: &Path,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<Survey, OperationError> {
    source::assert_sqlite()?;
    let host = HostState::load(dir)?.ok_or_else(|| not_the_writer(remote, dir))?;
    let listing = sound_listing(remote, &BadObjects::load(dir)?, &request.replace).await?;
    let parent = parent::find(remote, &listing.of_records(), &host, request.adopt).await?;
    let mut warnings = parent.warnings;
    let catalog =
        RwLock::new(usable_catalog(&host, Catalog::load(dir)?, &listing, parent.record.as_ref(), &mut warnings));
    let counting = move || {
        let mut survey = Survey { source_bytes: 0, new_blocks: 0, new_bytes: 0, warnings };
        let (mut seen, buffers) = (HashSet::new(), piece_buffers());
        let mut found = false;
        for spec in &request.sources {
            let scanner = Scanner::new(&host.fingerprint_key, &catalog, request.threads, &buffers);
            let count = || -> Result<(), OperationError> {
                let small = spec.kind != SourceKind::Database
                    && source::as_owner_of(&spec.path, || source::read_small(&spec.path))??.is_some();
                if small {
                    return Ok(());
                }
                let capture = spec.capture(&request, scanner, monitor.as_ref());
                capture.count(|scanned| {
                    survey.source_bytes += scanned.bytes as u64;
                    for (_, bytes) in scanned.new_blocks().filter(|(block, _)| seen.insert(block.fingerprint)) {
                        survey.new_blocks += 1;
                        survey.new_bytes += bytes.len() as u64;
                    }
                })
            };
            let counted = count();
            let there = or_missing(counted, spec, &mut survey.warnings)?.is_some();
            found |= there && spec.kind != SourceKind::Configuration;
        }
        if !found {
            return Err(nothing_to_back_up(&request.sources));
        }
        Ok(survey)
    };
    tokio::task::spawn_blocking(counting).await.map_err(|_| OperationError::Stopped)?
}
