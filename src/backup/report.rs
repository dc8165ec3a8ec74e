//! What a backup did, for its caller.

use std::time::Duration;

use jiff::Timestamp;

use super::Finding;
use crate::crypto::Digest;
use crate::format::{Health, SignedRecord};

/// From here on the time that a writer could have been held up is worth a warning.
const LONG_HOLD: Duration = Duration::from_secs(2);

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    pub sequence: u64,
    pub time: Timestamp,
    pub manifest: Digest,
    /// No source differs from the parent snapshot.
    pub unchanged: bool,
    /// Bytes that this run put into the store.
    pub stored_bytes: u64,
    /// What a restore of the snapshot would download.
    pub restore_bytes: u64,
    /// How many times that is what it would be if packs held nothing but what the snapshot needs.
    pub restore_ratio: f64,
    pub writer_hold: Duration,
    pub health: Vec<Health>,
    pub warnings: Vec<Finding>,
}

/// The report of a run that committed `record`, with `uploaded` bytes stored in addition to it.
pub(super) fn report(
    record: &SignedRecord,
    unchanged: bool,
    uploaded: u64,
    ideal_bytes: u64,
    mut warnings: Vec<Finding>,
) -> BackupReport {
    let signed_bytes = record.signed.bytes().len() as u64;
    let record = &record.record;
    let hold = Duration::from_millis(record.writer_hold_ms);
    if hold >= LONG_HOLD {
        warnings.push(Finding::LongHold { milliseconds: record.writer_hold_ms });
    }
    BackupReport {
        sequence: record.sequence,
        time: record.time,
        manifest: record.manifest.name,
        unchanged,
        stored_bytes: uploaded + signed_bytes,
        restore_bytes: record.stored_bytes(),
        restore_ratio: record.stored_bytes() as f64 / ideal_bytes.max(1) as f64,
        writer_hold: hold,
        health: record.health.clone(),
        warnings,
    }
}
