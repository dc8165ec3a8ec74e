//! Reading all sources of a host as one state.
//!
//! Small files are read just before and just after the instants of the databases and must be equal, otherwise all is
//! taken again. A missing source does not stop the others; one that cannot be read does.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jiff::Timestamp;

use super::assemble::Content;
use super::capture::{Capture, Captured, Fixed, PagedSource};
use super::compaction::retire;
use super::health::check_health;
use super::packing::Packer;
use super::scan::Scanner;
use super::{BackupRequest, Finding, Monitor, OperationError};
use crate::crypto::FingerprintKey;
use crate::format::Health;
use crate::host::{Catalog, Look};
use crate::source::{self, Database, Journal, LargeFile, ReadLimits, SmallFile, SourceError};

/// How often the whole set is taken again because a small file changed meanwhile.
const TRIES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Database,
    File,
    /// sealift's own configuration: a small file that alone is not worth a snapshot.
    Configuration,
}

/// What to back up, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    pub name: String,
    pub path: PathBuf,
    pub kind: SourceKind,
}

impl SourceSpec {
    /// Both passes over this source, not begun.
    pub(super) fn capture<'a>(
        &self,
        request: &BackupRequest,
        scanner: Scanner<'a>,
        monitor: &'a dyn Monitor,
    ) -> Capture<'a> {
        let paged = PagedSource {
            name: self.name.clone(),
            path: self.path.clone(),
            database: self.kind == SourceKind::Database,
            limits: ReadLimits { busy: request.gentleness.busy },
            writer_hold: request.gentleness.writer_hold,
            clock: Arc::clone(&request.clock),
        };
        Capture::new(paged, scanner, monitor)
    }

    /// What an unchanged source is recognised by, read under its lock where it has one.
    pub(super) fn look(&self, gentleness: Gentleness, key: &FingerprintKey) -> Result<Look, OperationError> {
        if self.kind == SourceKind::Database {
            let limits = ReadLimits { busy: gentleness.busy };
            let look = || Database::open(&self.path, &limits)?.begin()?.finish();
            return Ok(Look::Print(source::as_owner_of(&self.path, look)??));
        }
        let look = || match source::read_small(&self.path)? {
            Some(small) => Ok(look_of(&small, key)),
            None => LargeFile::open(&self.path)?.view()?.finish().map(Look::Print),
        };
        Ok(source::as_owner_of(&self.path, look)??)
    }
}

fn look_of(small: &SmallFile, key: &FingerprintKey) -> Look {
    Look::Small { meta: small.meta, content: key.print(&small.bytes) }
}

/// How gently to read.
#[derive(Clone, Copy, Debug)]
pub struct Gentleness {
    /// How long a writer in rollback mode may be held up at most.
    pub writer_hold: Duration,
    /// How long to wait for writers.
    pub busy: Duration,
}

impl Default for Gentleness {
    fn default() -> Self {
        Self { writer_hold: Duration::from_secs(3), busy: ReadLimits::default().busy }
    }
}

/// All sources at one state.
pub(super) struct SourceSet {
    /// Those that are there, in the order of the configuration.
    pub contents: Vec<(String, Content)>,
    /// One word for each configured source, those that are missing last.
    pub health: Vec<Health>,
    /// One a configured source; `None` for a missing one.
    pub looks: Vec<Option<Look>>,
    pub hold: Duration,
    /// The instant that the snapshot shows; `None` where only small files were read.
    pub time: Option<Timestamp>,
    pub warnings: Vec<Finding>,
}

/// A configured source on its way through both passes.
enum Reading<'a> {
    Paged(Box<Capture<'a>>),
    Small(PathBuf),
    Missing,
}

impl Reading<'_> {
    fn finish(self, fixed: Fixed) -> Option<Captured> {
        match self {
            Reading::Paged(capture) => Some(capture.finish(fixed)),
            Reading::Small(_) | Reading::Missing => None,
        }
    }
}

/// Reads everything; new blocks go to `packer`. Runs on a blocking thread.
pub(super) fn read_all<'a>(
    request: &BackupRequest,
    scanner: impl Fn() -> Scanner<'a>,
    packer: &mut Packer,
    monitor: &'a dyn Monitor,
) -> Result<SourceSet, OperationError> {
    let mut warnings = Vec::new();
    let mut readings = Vec::new();
    let (specs, known_packs) = (&request.sources, packer.packs());
    for spec in specs {
        let reading = begin(spec, request, &scanner, packer, monitor);
        readings.push(or_missing(reading, spec, &mut warnings)?.unwrap_or(Reading::Missing));
    }
    let worth_it = |(spec, reading): (&SourceSpec, &Reading<'_>)| {
        spec.kind != SourceKind::Configuration && !matches!(reading, Reading::Missing)
    };
    if !specs.iter().zip(&readings).any(worth_it) {
        return Err(nothing_to_back_up(specs));
    }
    store_retired(&mut readings, known_packs, request.max_compact_bytes, scanner().catalog, packer)?;
    for _ in 0..TRIES {
        let before = read_small_files(&readings)?;
        let mut fixed = Vec::new();
        for reading in &mut readings {
            fixed.push(match reading {
                Reading::Paged(capture) => Some(capture.take(packer)?),
                Reading::Small(_) | Reading::Missing => None,
            });
        }
        let after = read_small_files(&readings)?;
        if same(&before, &after) {
            // The last pack goes out while the databases' health is checked.
            packer.close()?;
            let captured = readings.into_iter().zip(fixed).map(|(reading, fixed)| reading.finish(fixed?)).collect();
            return Ok(finish(specs, captured, after, request.gentleness, scanner().key, warnings));
        }
        tracing::info!("a small file changed while the databases were read: once more");
    }
    Err(OperationError::Source(SourceError::Changing { path: first_small(&readings) }))
}

/// A missing source is a warning, whatever else is wrong with one an error.
pub(super) fn or_missing<T>(
    result: Result<T, OperationError>,
    spec: &SourceSpec,
    warnings: &mut Vec<Finding>,
) -> Result<Option<T>, OperationError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(OperationError::Source(SourceError::Missing { path })) => {
            warnings.push(Finding::SourceMissing { source: spec.name.clone(), path });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn begin<'a>(
    spec: &SourceSpec,
    request: &BackupRequest,
    scanner: &impl Fn() -> Scanner<'a>,
    packer: &mut Packer,
    monitor: &'a dyn Monitor,
) -> Result<Reading<'a>, OperationError> {
    if spec.kind != SourceKind::Database
        && source::as_owner_of(&spec.path, || source::read_small(&spec.path))??.is_some()
    {
        return Ok(Reading::Small(spec.path.clone()));
    }
    let mut capture = spec.capture(request, scanner(), monitor);
    capture.prepare(packer)?;
    Ok(Reading::Paged(Box::new(capture)))
}

/// Compaction: what pass 1 saw decides which of the first `known_packs` packs to retire; their blocks are then read
/// again.
fn store_retired(
    readings: &mut [Reading<'_>],
    known_packs: usize,
    max_bytes: u64,
    catalog: &RwLock<Catalog>,
    packer: &mut Packer,
) -> Result<(), OperationError> {
    let mut captures: Vec<_> = readings
        .iter_mut()
        .filter_map(|reading| match reading {
            Reading::Paged(capture) => Some(capture),
            Reading::Small(_) | Reading::Missing => None,
        })
        .collect();
    if retire(captures.iter().flat_map(|capture| capture.locations()), known_packs, max_bytes, catalog) {
        captures.iter_mut().try_for_each(|capture| capture.prepare(packer))?;
    }
    Ok(())
}

fn read_small_files(readings: &[Reading<'_>]) -> Result<Vec<Option<SmallFile>>, OperationError> {
    let read = |reading: &Reading<'_>| match reading {
        Reading::Small(path) => {
            let file = source::as_owner_of(path, || source::read_small(path))??;
            // It grew past the limit a moment ago: the next run takes it as a large one.
            file.ok_or_else(|| SourceError::Changing { path: path.clone() }.into()).map(Some)
        }
        Reading::Paged(_) | Reading::Missing => Ok(None),
    };
    readings.iter().map(read).collect()
}

fn same(before: &[Option<SmallFile>], after: &[Option<SmallFile>]) -> bool {
    let key = |file: &Option<SmallFile>| file.as_ref().map(|file| (file.bytes.clone(), file.meta));
    before.iter().zip(after).all(|(before, after)| key(before) == key(after))
}

fn first_small(readings: &[Reading<'_>]) -> PathBuf {
    let path = |reading: &Reading<'_>| match reading {
        Reading::Small(path) => Some(path.clone()),
        Reading::Paged(_) | Reading::Missing => None,
    };
    readings.iter().find_map(path).unwrap_or_default()
}

fn finish(
    specs: &[SourceSpec],
    captured: Vec<Option<Captured>>,
    small: Vec<Option<SmallFile>>,
    gentleness: Gentleness,
    key: &FingerprintKey,
    warnings: Vec<Finding>,
) -> SourceSet {
    let mut set =
        SourceSet { contents: vec![], health: vec![], looks: vec![], hold: Duration::ZERO, time: None, warnings };
    for ((spec, captured), small) in specs.iter().zip(captured).zip(small) {
        if let Some(captured) = captured {
            let fixed = &captured.fixed;
            set.time = set.time.max(Some(fixed.time));
            set.looks.push(Some(Look::Print(fixed.print)));
            let held = fixed.print.journal == Some(Journal::Rollback);
            let (health, hold) = if captured.sound {
                (Health::Ok, Duration::ZERO)
            } else {
                let busy = held && is_written(spec, gentleness, key, fixed);
                check_health(spec, gentleness, busy, &mut set.warnings)
            };
            set.health.push(health);
            set.hold = set.hold.max(captured.hold).max(if held { hold } else { Duration::ZERO });
            set.contents.push((spec.name.clone(), Content::Paged(captured)));
        } else if let Some(small) = small {
            set.looks.push(Some(look_of(&small, key)));
            set.health.push(Health::Ok);
            set.contents.push((spec.name.clone(), Content::Small(small)));
        } else {
            set.looks.push(None);
        }
    }
    set.health.resize(specs.len(), Health::Missing);
    set
}

/// Whether there was a write since the instant, so that the application is at work right now.
fn is_written(spec: &SourceSpec, gentleness: Gentleness, key: &FingerprintKey, fixed: &Fixed) -> bool {
    let before = Look::Print(fixed.print);
    !spec.look(gentleness, key).is_ok_and(|now| now.proves_unchanged(&before))
}

/// The error where every source but the configuration is missing.
pub(super) fn nothing_to_back_up(specs: &[SourceSpec]) -> OperationError {
    let sources = specs.iter().filter(|spec| spec.kind != SourceKind::Configuration);
    OperationError::NothingToBackUp { missing: sources.map(|spec| spec.path.display().to_string()).collect() }
}
