//! Reading one source in two passes, so that its writer is held up as briefly as can be.
//!
//! Pass 1 (`prepare`) stores unknown blocks, in short read transactions; what it sees may be torn, which is harmless,
//! because only a fingerprint makes a block used. Pass 2 (`take`) holds one read transaction, fingerprints every page
//! on all cores, and does nothing else: no compression, no network, no disk write. Blocks that pass 1 missed are kept
//! in bounded memory. When that is full, or the hold reaches its limit, pass 2 lets go, and both passes run again; where a
//! reader holds up nobody (WAL mode, ordinary files), the next round stores what is missing while it holds its view.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::scan::{PieceMap, RawPiece, Scanned, Scanner, Shape};
use super::sorting::Sorter;
use super::{Monitor, OperationError, Phase};
use crate::clock::Clock;
use crate::source::{self, Database, FileMeta, Journal, LargeFile, Print, ReadLimits, Source, SourceError, View};
use crate::state::Location;

/// A read transaction of pass 1 ends after this long, or when its buffer is full.
const SHORT_HOLD: Duration = Duration::from_millis(100);
/// Pieces that one transaction of pass 1 reads at most.
const PIECES_A_BATCH: usize = 6;
/// Bytes of missed blocks that pass 2 keeps in memory.
const MISSED_BYTES: usize = 16 << 20;
/// Where a reader holds up nobody, it may hold on for as long as this.
const CALM_HOLD: Duration = Duration::from_secs(600);
/// How often both passes are tried.
const ROUNDS: usize = 5;

/// What is read block by block, and how.
#[derive(Clone, Debug)]
pub(super) struct PagedSource {
    pub name: String,
    pub path: PathBuf,
    pub database: bool,
    pub limits: ReadLimits,
    pub writer_hold: Duration,
    pub clock: Arc<dyn Clock>,
}

/// One instant of a source, with all of its blocks stored or on their way.
pub(super) struct Captured {
    pub meta: FileMeta,
    pub shape: Shape,
    pub pieces: Vec<PieceMap>,
    pub print: Print,
    /// How long a writer could have been held up.
    pub hold: Duration,
    /// The end of the read.
    pub time: jiff::Timestamp,
}

/// Both passes over one source.
pub(super) struct Capture<'a> {
    pub source: PagedSource,
    pub scanner: Scanner<'a>,
    pub monitor: &'a dyn Monitor,
    /// What pass 1 found, piece by piece.
    pieces: Vec<PieceMap>,
    shape: Option<Shape>,
    /// It had bytes at some moment of this run.
    had_bytes: bool,
}

/// Why pass 2 let go.
enum LetGo {
    /// Another round may do it.
    Again(&'static str),
    Failed(OperationError),
}

impl From<SourceError> for LetGo {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Replaced { .. } => Self::Again("the file was replaced"),
            SourceError::Changing { .. } => Self::Again("the file kept changing"),
            other => Self::Failed(other.into()),
        }
    }
}

impl<'a> Capture<'a> {
    pub fn new(source: PagedSource, scanner: Scanner<'a>, monitor: &'a dyn Monitor) -> Self {
        Self { source, scanner, monitor, pieces: Vec::new(), shape: None, had_bytes: false }
    }

    /// Pass 1: what is not stored yet goes to `packer`. Begins anew on a file that took the path meanwhile.
    pub fn prepare(&mut self, packer: &mut Sorter) -> Result<(), OperationError> {
        let path = self.source.path.clone();
        let mut round = 1;
        loop {
            match source::as_owner_of(&path, || self.pass_one(packer))? {
                Err(OperationError::Source(SourceError::Replaced { .. } | SourceError::Changing { .. }))
                    if round < ROUNDS =>
                {
                    tracing::info!(source = %self.source.name, round, "the file was replaced or changed during pass 1");
                    std::thread::sleep(SHORT_HOLD);
                    round += 1;
                }
                done => return done,
            }
        }
    }

    /// Where the blocks lie that pass 1 saw.
    pub fn locations(&self) -> impl Iterator<Item = Location> {
        self.pieces.iter().flat_map(|piece| piece.locations.iter().copied())
    }

    /// Pass 2, and both again where it had to let go.
    pub fn take(&mut self, packer: &mut Sorter) -> Result<Captured, OperationError> {
        let mut reason = "";
        for round in 1..=ROUNDS {
            packer.drain()?;
            let path = self.source.path.clone();
            match source::as_owner_of(&path, || self.pass_two(round, packer))? {
                Ok(captured) => return Ok(captured),
                Err(LetGo::Failed(error)) => return Err(error),
                Err(LetGo::Again(why)) => {
                    tracing::info!(source = %self.source.name, round, why, "pass 2 let go");
                    reason = why;
                }
            }
            if round < ROUNDS {
                self.prepare(packer)?;
            }
        }
        Err(OperationError::NoInstant { path: self.source.path.clone(), rounds: ROUNDS, reason })
    }

    fn open(&self) -> Result<Source, SourceError> {
        if self.source.database {
            Database::open(&self.source.path, &self.source.limits).map(Source::Database)
        } else {
            LargeFile::open(&self.source.path).map(Source::File)
        }
    }

    fn pass_one(&mut self, packer: &mut Sorter) -> Result<(), OperationError> {
        let mut pieces = std::mem::take(&mut self.pieces);
        let mut earlier_shape = self.shape.take();
        let (mut kept, mut had_bytes) = (0, false);
        let shape = self.scan_in_short_holds(&mut pieces, &mut earlier_shape, |scanned, pieces| {
            (kept, had_bytes) = (scanned.piece + 1, true);
            merge(scanned, pieces, packer)
        })?;
        pieces.truncate(kept);
        (self.pieces, self.shape) = (pieces, Some(shape));
        self.had_bytes |= had_bytes;
        Ok(())
    }

    /// Pass 1 without storing anything: every piece goes to `count`.
    pub fn count(&self, mut count: impl FnMut(&Scanned) + Send) -> Result<(), OperationError> {
        let path = self.source.path.clone();
        source::as_owner_of(&path, || {
            self.scan_in_short_holds(&mut Vec::new(), &mut None, |scanned, _| {
                count(&scanned);
                Ok(())
            })
        })??;
        Ok(())
    }

    /// Looks at the whole source in short read transactions, and hands on each piece in order. `pieces` is what an
    /// earlier look found; it is forgotten when the block size changed meanwhile, and then all begins anew.
    fn scan_in_short_holds(
        &self,
        pieces: &mut Vec<PieceMap>,
        earlier_shape: &mut Option<Shape>,
        mut found: impl FnMut(Scanned, &mut Vec<PieceMap>) -> Result<(), OperationError>,
    ) -> Result<Shape, OperationError> {
        let mut source = self.open()?;
        let mut next = 0;
        loop {
            let (shape, batch) = self.read_batch(&mut source, next)?;
            if earlier_shape.replace(shape).is_some_and(|earlier| !alike(earlier, shape)) {
                pieces.clear();
                next = 0;
                continue;
            }
            if next == 0 {
                self.monitor.begin(Phase::Reading, Some(shape.bytes));
            }
            if batch.is_empty() {
                self.monitor.end(Phase::Reading);
                tracing::info!(source = %self.source.name, bytes = shape.bytes, "pass 1 done");
                return Ok(shape);
            }
            next += batch.len();
            let bytes: usize = batch.iter().map(|raw| raw.bytes).sum();
            let mut batch = batch.into_iter();
            let scanned = self
                .scanner
                .scan_all(shape, pieces, &AtomicUsize::new(0), |_| Ok::<_, OperationError>(batch.next()))?;
            scanned.into_iter().try_for_each(|scanned| found(scanned, pieces))?;
            self.monitor.advance(Phase::Reading, bytes as u64);
        }
    }

    /// Reads pieces from `first` on in one short transaction.
    fn read_batch(&self, source: &mut Source, first: usize) -> Result<(Shape, Vec<RawPiece>), SourceError> {
        let view = source.view()?;
        let shape = shape_of(&view, self.source.database);
        let mut batch = Vec::new();
        for piece in (first..shape.pieces()).take(PIECES_A_BATCH) {
            batch.push(read_piece(&view, shape, piece, Vec::new())?);
            if view.held_for() > SHORT_HOLD {
                break;
            }
        }
        Ok((shape, batch))
    }

    fn pass_two(&mut self, round: usize, packer: &mut Sorter) -> Result<Captured, LetGo> {
        let mut source = self.open()?;
        let view = source.view()?;
        let begun = Instant::now();
        let (journal, meta) = (view.journal(), view.meta());
        let shape = shape_of(&view, self.source.database);
        if !self.shape.is_some_and(|earlier| alike(earlier, shape)) {
            self.pieces.clear();
        }
        if shape.database && shape.bytes == 0 && self.had_bytes {
            // SQLite never makes a database empty: `cp` does, before it writes.
            return Err(LetGo::Again("it is being overwritten"));
        }
        self.monitor.begin(Phase::Fixing, Some(shape.bytes));
        let calm = journal != Some(Journal::Rollback);
        let scanned = if calm && round > 1 {
            self.store_held(&view, shape, begun, packer)?;
            Vec::new()
        } else {
            let limit = if calm { CALM_HOLD } else { self.source.writer_hold };
            self.scan_held(&view, shape, begun, limit)?
        };
        let print = view.finish()?;
        let (hold, time) = (begun.elapsed(), self.source.clock.now());
        self.monitor.end(Phase::Fixing);
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.truncate(shape.pieces());
        for scanned in scanned {
            merge(scanned, &mut pieces, packer).map_err(LetGo::Failed)?;
        }
        tracing::info!(source = %self.source.name, bytes = shape.bytes, hold_ms = hold.as_millis() as u64, "instant fixed");
        let hold = if calm { Duration::ZERO } else { hold };
        Ok(Captured { meta, shape, pieces, print, hold, time })
    }

    /// The whole source in one view, its blocks stored while that is held: slower, and sure to come to an end, however
    /// much is written meanwhile. Only where a reader holds up nobody.
    fn store_held(&mut self, view: &View<'_>, shape: Shape, begun: Instant, packer: &mut Sorter) -> Result<(), LetGo> {
        let mut next = 0;
        while next < shape.pieces() {
            if begun.elapsed() > CALM_HOLD {
                return Err(LetGo::Again("it took longer than the log should be held back"));
            }
            let last = (next + PIECES_A_BATCH).min(shape.pieces());
            let mut batch = next..last;
            let scanned = self.scanner.scan_all(shape, &self.pieces, &AtomicUsize::new(0), |buffer| {
                batch.next().map(|piece| read_piece(view, shape, piece, buffer)).transpose()
            })?;
            for scanned in scanned {
                self.monitor.advance(Phase::Fixing, scanned.bytes as u64);
                merge(scanned, &mut self.pieces, packer).map_err(LetGo::Failed)?;
            }
            next = last;
        }
        Ok(())
    }

    /// The whole source under the lock.
    fn scan_held(&self, view: &View<'_>, shape: Shape, begun: Instant, limit: Duration) -> Result<Vec<Scanned>, LetGo> {
        let missed = AtomicUsize::new(0);
        let mut pieces = 0..shape.pieces();
        self.scanner.scan_all(shape, &self.pieces, &missed, |buffer| {
            if missed.load(Ordering::Relaxed) > MISSED_BYTES {
                return Err(LetGo::Again("too much changed since pass 1"));
            }
            if begun.elapsed() > limit {
                return Err(LetGo::Again("it would hold up writers for longer than the limit"));
            }
            let Some(piece) = pieces.next() else { return Ok(None) };
            self.monitor.advance(Phase::Fixing, shape.bytes_in(piece) as u64);
            Ok(Some(read_piece(view, shape, piece, buffer)?))
        })
    }
}

/// Whether pieces of one shape can be compared with pieces of the other.
fn alike(a: Shape, b: Shape) -> bool {
    a.block_size == b.block_size && a.database == b.database
}

fn shape_of(view: &View<'_>, database: bool) -> Shape {
    Shape { block_size: view.block_size(), database, blocks: view.block_count(), bytes: view.bytes() }
}

fn read_piece(view: &View<'_>, shape: Shape, piece: usize, mut buffer: Vec<u8>) -> Result<RawPiece, SourceError> {
    buffer.resize(shape.blocks_in(piece) * shape.block_size, 0);
    view.read(shape.first_block(piece), &mut buffer)?;
    Ok(RawPiece { piece, blocks: buffer, bytes: shape.bytes_in(piece) })
}

/// Gives each new block of a piece to `packer`, and puts what the scan found in its place among `pieces`, which come in
/// order.
fn merge(scanned: Scanned, pieces: &mut Vec<PieceMap>, packer: &mut Sorter) -> Result<(), OperationError> {
    let Some(mut map) = scanned.map else { return Ok(()) };
    for block in scanned.new {
        map.locations[block.at] = packer.add(&block.bytes, block.fingerprint)?;
    }
    debug_assert!(!map.locations.contains(&Location::UNKNOWN));
    match pieces.get_mut(scanned.piece) {
        Some(place) => *place = map,
        None => pieces.push(map),
    }
    Ok(())
}
