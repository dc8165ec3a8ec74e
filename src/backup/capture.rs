//! Reading one source in two passes, so that its writer is held up as briefly as can be.
//!
//! Pass 1 (`prepare`) stores unknown blocks, in short read transactions; what it sees may be torn, which is harmless,
//! because only a fingerprint makes a block used. Pass 2 (`take`) holds one read transaction, fingerprints every page
//! on all cores, and does nothing else: no compression, no network, no disk write. Blocks that pass 1 missed are kept
//! in bounded memory. When that is full, or the hold reaches its limit, pass 2 lets go, and both passes run again;
//! where a reader blocks no writer (WAL mode, ordinary files), the next round stores what is missing while it holds its
//! view.
//!
//! A database without a write during pass 1 needs no pass 2: when change counter and `stat` prove that, all of the
//! short transactions showed the same instant. Nor is it read again when the set is taken once more.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::health::{EarlyCheck, EarlyWord};
use super::packing::Packer;
use super::scan::{PieceMap, RawPiece, Scanned, Scanner, Shape};
use super::{Monitor, OperationError, Phase};
use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::host::Location;
use crate::source::{
    self, CLOCK_STEP, Database, FileMeta, Journal, LargeFile, Print, ReadLimits, Source, SourceError, View,
};

/// A read transaction of pass 1 ends after this long, or when its buffer is full.
const SHORT_HOLD: Duration = Duration::from_millis(100);
/// Pieces that one transaction of pass 1 reads at most.
const PIECES_A_BATCH: usize = 4;
/// Bytes of missed blocks that pass 2 keeps in memory.
const MISSED_BYTES: usize = 16 << 20;
/// Where a reader blocks no writer, it may hold on for as long as this.
const CALM_HOLD: Duration = Duration::from_secs(600);
/// A database that lost all its pages as recently as this is perhaps being copied over: `cp` cuts it before it writes.
const OVERWRITE: Duration = Duration::from_millis(250);
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

/// One instant of a source.
pub(super) struct Fixed {
    pub meta: FileMeta,
    pub shape: Shape,
    pub print: Print,
    /// The end of the read.
    pub time: jiff::Timestamp,
}

/// One instant of a source, with all of its blocks stored or on their way.
pub(super) struct Captured {
    pub fixed: Fixed,
    pub pieces: Vec<PieceMap>,
    /// How long a writer could have been held up at most, over all transactions of both passes, failed ones included.
    pub hold: Duration,
    /// It was found sound at that instant.
    pub sound: bool,
}

/// Both passes over one source.
pub(super) struct Capture<'a> {
    pub source: PagedSource,
    pub scanner: Scanner<'a>,
    pub monitor: &'a dyn Monitor,
    /// What the last pass found, piece by piece.
    pieces: Vec<PieceMap>,
    shape: Option<Shape>,
    /// It had bytes at some moment of this run.
    had_bytes: bool,
    /// What the file is recognised by as long as it is what `pieces` say; `None` where that cannot be proved.
    steady: Option<Print>,
    /// The longest that any transaction kept writers waiting.
    longest_hold: Duration,
    /// Of the last pass 1.
    early_check: Option<EarlyCheck>,
}

/// What pass 1 came to, so far.
#[derive(Clone, Copy)]
struct Looked {
    shape: Shape,
    steady: Option<Print>,
}

/// What one transaction of pass 1 read.
struct Batch {
    shape: Shape,
    pieces: Vec<RawPiece>,
    /// `None`: the file changed meanwhile, or may have.
    print: Option<Print>,
}

/// Why pass 2 ended early.
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
        let (pieces, shape, steady, early_check) = (Vec::new(), None, None, None);
        let (had_bytes, longest_hold) = (false, Duration::ZERO);
        Self { source, scanner, monitor, pieces, shape, had_bytes, steady, longest_hold, early_check }
    }

    /// Pass 1: what is not stored yet goes to `packer`. Begins again on a file that took the path meanwhile.
    pub fn prepare(&mut self, packer: &mut Packer) -> Result<(), OperationError> {
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

    /// Pass 2, and both again where it ended early. What it found stays here, for another try and for
    /// [`Capture::finish`].
    pub fn take(&mut self, packer: &mut Packer) -> Result<Fixed, OperationError> {
        if let Some(fixed) = self.take_steady()? {
            return Ok(fixed);
        }
        let mut reason = "";
        for round in 1..=ROUNDS {
            packer.drain()?;
            let path = self.source.path.clone();
            match source::as_owner_of(&path, || self.pass_two(round, packer))? {
                Ok(fixed) => return Ok(fixed),
                Err(LetGo::Failed(error)) => return Err(error),
                Err(LetGo::Again(why)) => {
                    let longest_hold_ms = self.longest_hold.as_millis() as u64;
                    tracing::info!(source = %self.source.name, round, why, longest_hold_ms, "pass 2 ended early");
                    reason = why;
                }
            }
            if round < ROUNDS {
                std::thread::sleep(SHORT_HOLD);
                self.prepare(packer)?;
            }
        }
        let (path, longest_hold) = (self.source.path.clone(), self.longest_hold);
        Err(OperationError::NoInstant { path, rounds: ROUNDS, reason, longest_hold })
    }

    /// What was taken last, with all that belongs to it.
    pub fn finish(mut self, fixed: Fixed) -> Captured {
        let sound = self.end_early_check().is_some_and(|word| word.is_sound(&fixed.print));
        Captured { fixed, pieces: self.pieces, hold: self.longest_hold, sound }
    }

    /// What the last pass saw, if there was no write since it began, and if no transaction broke the limit.
    fn take_steady(&mut self) -> Result<Option<Fixed>, OperationError> {
        let Some(steady) = self.steady.take() else { return Ok(None) };
        // One without a page may have been cut to nothing by a `cp` that is about to write.
        if self.longest_hold > self.source.writer_hold || steady.blocks == 0 {
            return Ok(None);
        }
        let path = self.source.path.clone();
        let fixed = match source::as_owner_of(&path, || self.look_again())? {
            Ok(fixed) => fixed,
            Err(SourceError::Replaced { .. } | SourceError::Changing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !fixed.print.proves_unchanged(&steady) {
            return Ok(None);
        }
        self.monitor.begin(Phase::Fixing, Some(fixed.shape.bytes));
        self.monitor.end(Phase::Fixing);
        tracing::info!(source = %self.source.name, bytes = fixed.shape.bytes, "unchanged since it was read");
        self.steady = Some(steady);
        Ok(Some(fixed))
    }

    fn look_again(&mut self) -> Result<Fixed, SourceError> {
        let mut source = self.open()?;
        let view = source.view()?;
        let (shape, meta) = (shape_of(&view, self.source.database), view.meta());
        let print = view.finish()?;
        self.note(source.longest_hold());
        Ok(Fixed { meta, shape, print, time: self.source.clock.now() })
    }

    fn note(&mut self, hold: Duration) {
        self.longest_hold = self.longest_hold.max(hold);
    }

    fn open(&self) -> Result<Source, SourceError> {
        if self.source.database {
            Database::open(&self.source.path, &self.source.limits).map(Source::Database)
        } else {
            LargeFile::open(&self.source.path).map(Source::File)
        }
    }

    fn pass_one(&mut self, packer: &mut Packer) -> Result<(), OperationError> {
        self.end_early_check();
        let mut pieces = std::mem::take(&mut self.pieces);
        let mut earlier_shape = self.shape.take();
        self.steady = None;
        let (mut kept, mut had_bytes, mut early_check) = (0, false, None);
        let mut source = self.open()?;
        let looked =
            self.scan_in_short_holds(&mut source, &mut pieces, &mut earlier_shape, |scanned, pieces, looked| {
                (kept, had_bytes) = (scanned.piece + 1, true);
                early_check = early_check.take().or_else(|| self.check_early(scanned.piece, looked));
                merge(scanned, pieces, packer, &self.scanner.buffers)
            });
        self.note(source.longest_hold());
        let looked = looked?;
        pieces.truncate(kept);
        (self.pieces, self.shape, self.steady) = (pieces, Some(looked.shape), looked.steady);
        self.early_check = early_check;
        self.had_bytes |= had_bytes;
        Ok(())
    }

    fn end_early_check(&mut self) -> Option<EarlyWord> {
        let word = self.early_check.take()?.end();
        self.note(word.longest_hold);
        Some(word)
    }

    /// Once three quarters are read and there was no write meanwhile: the rest takes about as long as the check.
    fn check_early(&self, piece: usize, looked: Looked) -> Option<EarlyCheck> {
        let print = looked.steady.filter(|print| print.proves_unchanged(print))?;
        let is_time = self.source.database && piece >= looked.shape.pieces() / 4 * 3;
        is_time.then(|| EarlyCheck::begin(self.source.path.clone(), self.source.writer_hold, print))
    }

    /// Pass 1 without storing anything: every piece goes to `count`.
    pub fn count(&self, mut count: impl FnMut(&Scanned) + Send) -> Result<(), OperationError> {
        let path = self.source.path.clone();
        source::as_owner_of(&path, || {
            self.scan_in_short_holds(&mut self.open()?, &mut Vec::new(), &mut None, |scanned, _, _| {
                count(&scanned);
                Ok(())
            })
        })??;
        Ok(())
    }

    /// Looks at the whole source in short read transactions, and hands on each piece in order. `pieces` is what an
    /// earlier look found; it is forgotten when the block size changed meanwhile, and then all begins again.
    fn scan_in_short_holds(
        &self,
        source: &mut Source,
        pieces: &mut Vec<PieceMap>,
        earlier_shape: &mut Option<Shape>,
        mut found: impl FnMut(Scanned, &mut Vec<PieceMap>, Looked) -> Result<(), OperationError>,
    ) -> Result<Looked, OperationError> {
        let (mut next, mut batch_pieces) = (0, PIECES_A_BATCH);
        let mut steady = None;
        loop {
            let Batch { shape, pieces: batch, print } = self.read_batch(source, next, batch_pieces)?;
            if earlier_shape.replace(shape).is_some_and(|earlier| !alike(earlier, shape)) {
                pieces.clear();
                next = 0;
                continue;
            }
            steady = if next == 0 { print } else { steady.filter(|steady| Some(*steady) == print) };
            if next == 0 {
                self.monitor.begin(Phase::Reading, Some(shape.bytes));
            }
            if batch.is_empty() {
                self.monitor.end(Phase::Reading);
                tracing::info!(source = %self.source.name, bytes = shape.bytes, "pass 1 done");
                return Ok(Looked { shape, steady });
            }
            next += batch.len();
            let bytes: usize = batch.iter().map(|raw| raw.bytes).sum();
            let scanned = self.scan_batch(shape, pieces, batch);
            let new_bytes: usize = scanned.iter().map(|scanned| scanned.blocks.len()).sum();
            scanned.into_iter().try_for_each(|scanned| found(scanned, pieces, Looked { shape, steady }))?;
            self.monitor.advance(Phase::Reading, bytes as u64);
            // What is new keeps the other cores busy, with compressing it; then a piece is read, hashed and packed
            // while it is in the cache of this one. Many transactions are no good next to a writer, for which each may
            // have to wait.
            batch_pieces = if steady.is_some() && new_bytes > bytes / 2 { 1 } else { PIECES_A_BATCH };
        }
    }

    fn scan_batch(&self, shape: Shape, earlier: &[PieceMap], batch: Vec<RawPiece>) -> Vec<Scanned> {
        let mut batch = batch.into_iter();
        if batch.len() == 1 {
            return batch.map(|raw| self.scanner.scan_one(shape, earlier, raw)).collect();
        }
        let scanned = self.scanner.scan_all(shape, earlier, &AtomicUsize::new(0), || Ok::<_, Infallible>(batch.next()));
        scanned.unwrap_or_else(|never| match never {})
    }

    /// Reads at most `most` pieces from `first` on in one short transaction.
    fn read_batch(&self, source: &mut Source, first: usize, most: usize) -> Result<Batch, SourceError> {
        // Half of what is allowed: the piece that is being read then is still read to its end.
        let enough = SHORT_HOLD.min(self.source.writer_hold / 2);
        let view = source.view()?;
        let begun = Instant::now();
        let shape = shape_of(&view, self.source.database);
        let mut pieces = Vec::new();
        for piece in (first..shape.pieces()).take(most) {
            pieces.push(self.read_piece(&view, shape, piece)?);
            if view.held_for() > enough {
                break;
            }
        }
        // A file that took the path meanwhile shows at the next transaction.
        let print = view.finish().ok().filter(|print| is_past(print, begun));
        Ok(Batch { shape, pieces, print })
    }

    /// Whether pass 1 found a database without a page.
    fn was_empty(&self) -> bool {
        self.shape.is_some_and(|shape| shape.database && shape.bytes == 0)
    }

    fn pass_two(&mut self, round: usize, packer: &mut Packer) -> Result<Fixed, LetGo> {
        let mut source = self.open()?;
        let read = self.read_held(&mut source, round, packer);
        let hold = source.longest_hold();
        self.note(hold);
        let (fixed, scanned, steady) = read?;
        self.monitor.end(Phase::Fixing);
        self.pieces.truncate(fixed.shape.pieces());
        for scanned in scanned {
            merge(scanned, &mut self.pieces, packer, &self.scanner.buffers).map_err(LetGo::Failed)?;
        }
        (self.shape, self.steady) = (Some(fixed.shape), steady);
        let (bytes, hold_ms) = (fixed.shape.bytes, hold.as_millis() as u64);
        tracing::info!(source = %self.source.name, bytes, hold_ms, "instant fixed");
        Ok(fixed)
    }

    /// One transaction over the whole source: the instant, the scans that are still to be merged, and what the file is
    /// recognised by from then on.
    fn read_held(
        &mut self,
        source: &mut Source,
        round: usize,
        packer: &mut Packer,
    ) -> Result<(Fixed, Vec<Scanned>, Option<Print>), LetGo> {
        if self.was_empty() && source.view()?.finish()?.stamp.age() < OVERWRITE {
            return Err(LetGo::Again("it may be being overwritten"));
        }
        let view = source.view()?;
        let begun = Instant::now();
        let (calm, meta) = (view.journal() != Some(Journal::Rollback), view.meta());
        let shape = shape_of(&view, self.source.database);
        if !self.shape.is_some_and(|earlier| alike(earlier, shape)) {
            self.pieces.clear();
        }
        if shape.database && shape.bytes == 0 && self.had_bytes {
            // SQLite never makes a database empty: `cp` does, before it writes.
            return Err(LetGo::Again("it is being overwritten"));
        }
        self.monitor.begin(Phase::Fixing, Some(shape.bytes));
        let scanned = if calm && round > 1 {
            self.store_held(&view, shape, packer)?;
            Vec::new()
        } else {
            let limit = if calm { CALM_HOLD } else { self.source.writer_hold };
            self.scan_held(&view, shape, limit)?
        };
        let print = view.finish()?;
        let fixed = Fixed { meta, shape, print, time: self.source.clock.now() };
        Ok((fixed, scanned, Some(print).filter(|print| is_past(print, begun))))
    }

    /// The whole source in one view, its blocks stored while that is held: slower, and sure to come to an end, however
    /// much is written meanwhile. Only where a reader blocks no writer.
    fn store_held(&mut self, view: &View<'_>, shape: Shape, packer: &mut Packer) -> Result<(), LetGo> {
        let mut next = 0;
        while next < shape.pieces() {
            if view.held_for() > CALM_HOLD {
                return Err(LetGo::Again("it took longer than the log should be held back"));
            }
            let last = (next + PIECES_A_BATCH).min(shape.pieces());
            let mut batch = next..last;
            let scanned = self.scanner.scan_all(shape, &self.pieces, &AtomicUsize::new(0), || {
                batch.next().map(|piece| self.read_piece(view, shape, piece)).transpose()
            })?;
            for scanned in scanned {
                self.monitor.advance(Phase::Fixing, scanned.bytes as u64);
                merge(scanned, &mut self.pieces, packer, &self.scanner.buffers).map_err(LetGo::Failed)?;
            }
            next = last;
        }
        Ok(())
    }

    /// The whole source under the lock.
    fn scan_held(&self, view: &View<'_>, shape: Shape, limit: Duration) -> Result<Vec<Scanned>, LetGo> {
        let missed = AtomicUsize::new(0);
        let mut pieces = 0..shape.pieces();
        self.scanner.scan_all(shape, &self.pieces, &missed, || {
            if missed.load(Ordering::Relaxed) > MISSED_BYTES {
                return Err(LetGo::Again("too much changed since pass 1"));
            }
            if view.held_for() > limit {
                return Err(LetGo::Again("it would hold up writers for longer than the limit"));
            }
            let Some(piece) = pieces.next() else { return Ok(None) };
            self.monitor.advance(Phase::Fixing, shape.bytes_in(piece) as u64);
            Ok(Some(self.read_piece(view, shape, piece)?))
        })
    }

    fn read_piece(&self, view: &View<'_>, shape: Shape, piece: usize) -> Result<RawPiece, SourceError> {
        let mut buffer = self.scanner.buffers.take();
        buffer.resize(shape.blocks_in(piece) * shape.block_size, 0);
        view.read(shape.first_block(piece), &mut buffer)?;
        Ok(RawPiece { piece, blocks: buffer, bytes: shape.bytes_in(piece) })
    }
}

/// Whether the last change was long over when a transaction began: a write in the same step of the file system's clock
/// might not show in the print.
fn is_past(print: &Print, begun: Instant) -> bool {
    print.stamp.age() > CLOCK_STEP + begun.elapsed()
}

/// Whether pieces of one shape can be compared with pieces of the other.
fn alike(a: Shape, b: Shape) -> bool {
    a.block_size == b.block_size && a.database == b.database
}

fn shape_of(view: &View<'_>, database: bool) -> Shape {
    Shape { block_size: view.block_size(), database, blocks: view.block_count(), bytes: view.bytes() }
}

/// Gives each new block of a piece to `packer`, and puts what the scan found in its place among `pieces`, which come in
/// order. The memory of the blocks goes back to `buffers`.
fn merge(
    mut scanned: Scanned,
    pieces: &mut Vec<PieceMap>,
    packer: &mut Packer,
    buffers: &Buffers,
) -> Result<(), OperationError> {
    let Some(mut map) = scanned.map.take() else { return Ok(()) };
    for (block, bytes) in scanned.new_blocks() {
        map.locations[block.at] = packer.add(bytes, block.fingerprint)?;
    }
    if !scanned.blocks.is_empty() {
        buffers.give_back(scanned.blocks);
    }
    debug_assert!(!map.locations.contains(&Location::UNKNOWN));
    match pieces.get_mut(scanned.piece) {
        Some(place) => *place = map,
        None => pieces.push(map),
    }
    Ok(())
}
