//! Turning new blocks into stored packs: frames of blocks are compressed on threads of their own, encrypted in their
//! order into the open pack by one more, and finished packs are uploaded meanwhile.
//!
//! Bounded memory: for each of the two lifetimes of blocks one frame is being filled and one encrypted pack grows; each
//! compressing thread holds another frame, a few wait for a thread or, compressed, for their turn, and finished packs
//! that are not stored yet have a bounded number of bytes, also together with the growing ones, as have the buffers
//! that lie idle. Who adds blocks waits when all of that is full. A block can be found in the catalog from the moment
//! it is added; its pack is named there once it is encrypted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::mpsc;

use super::OperationError;
use super::lifetime::Lifetime;
use crate::buffers::Buffers;
use crate::crypto::{DataRecipient, Fingerprint, Sealed};
use crate::format::{Frame, FrameCompressor, PackWriter, Texture, blocks_per_pack};
use crate::host::{Catalog, Location};

/// Compressing threads at most. Each takes memory, with its frames: 6 MiB at level 3, 15 at 9, 24 at 12 and 35 at 19,
/// as measured; and the catalog and page map of a database of 10 GB take some 70 of the 128 MiB that there are, by
/// calculation.
const fn max_compressors(level: i32) -> usize {
    match level {
        ..10 => 3,
        10..16 => 2,
        _ => 1,
    }
}

/// Full frames that wait for a compressing thread, so that none has to wait for the reading of the next batch.
const FRAMES_WAITING: usize = 1;
/// Packs on their way to the store have no more bytes than this in all, unless a single one does: three packs or so.
const BYTES_IN_FLIGHT: u64 = 16 << 20;
/// While any is on its way, these and the growing ones have no more: of incompressible blocks, one and half of the
/// next.
const SEALED_BYTES: u64 = 24 << 20;
/// Buffers of packs that lie idle: of three usual packs, as many as can come back while one grows. Those of
/// incompressible blocks are larger, and go at once.
const IDLE_PACK_BYTES: usize = 24 << 20;
/// Buffers of plain frames that lie idle, of each lifetime.
const IDLE_FRAMES: usize = 4;
/// Buffers of compressed frames that lie idle: four of the largest. Much less of one is ever written where blocks
/// compress.
const IDLE_COMPRESSED_BYTES: usize = 16 << 20;

/// A encrypted pack on its way to the store.
pub(super) struct FinishedPack {
    pub ordinal: usize,
    pub sealed: Sealed,
    /// The packs that are not stored yet count until this is dropped.
    pub _pending: Pending,
}

/// How many bytes are encrypted and not yet stored.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<(Mutex<Room>, Condvar)>);

#[derive(Default)]
struct Room {
    bytes: u64,
    /// How many of the [`Step::Drain`]s are done.
    drained: usize,
    /// Packs are no longer taken.
    closed: bool,
}

impl InFlight {
    /// Waits until there is room for a pack of `bytes`; `None` once packs are no longer taken.
    fn begin(&self, bytes: u64) -> Option<Pending> {
        let mut room = self.wait_while(|room| room.bytes > 0 && room.bytes + bytes > BYTES_IN_FLIGHT)?;
        room.bytes += bytes;
        Some(Pending { in_flight: self.clone(), bytes })
    }

    /// Waits until packs may grow to `bytes` in all; `None` once packs are no longer taken.
    fn wait_to_grow(&self, bytes: u64) -> Option<()> {
        self.wait_while(|room| room.bytes > 0 && room.bytes + bytes > SEALED_BYTES).map(drop)
    }

    /// Waits until so many drains are done and all is stored. A step that waits for a encrypter that is gone is never
    /// done, so this ends, too, once packs are no longer taken.
    fn wait_for_none(&self, drains: usize) -> Result<(), OperationError> {
        self.wait_while(|room| room.drained < drains || room.bytes > 0).map(drop).ok_or(OperationError::Stopped)
    }

    fn wait_while(&self, full: impl Fn(&Room) -> bool) -> Option<MutexGuard<'_, Room>> {
        let room = self.room();
        let room = self.0.1.wait_while(room, |room| !room.closed && full(room));
        Some(room.unwrap_or_else(PoisonError::into_inner)).filter(|room| !room.closed)
    }

    fn change(&self, change: impl FnOnce(&mut Room)) {
        change(&mut self.room());
        self.0.1.notify_all();
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Packs as they get ready. Once this is dropped nothing waits for room any more: a pack may lie in the channel for
/// good, sent just when its other end went away.
pub(super) struct FinishedPacks {
    packs: mpsc::Receiver<Result<FinishedPack, std::io::Error>>,
    in_flight: InFlight,
}

impl FinishedPacks {
    /// The next one; `None` after the last. Nothing is lost where it is not waited for to the end.
    pub async fn next(&mut self) -> Option<Result<FinishedPack, std::io::Error>> {
        self.packs.recv().await
    }
}

impl Drop for FinishedPacks {
    fn drop(&mut self) {
        self.in_flight.change(|room| room.closed = true);
    }
}

pub(super) struct Pending {
    in_flight: InFlight,
    bytes: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.in_flight.change(|room| room.bytes -= self.bytes);
    }
}

/// Blocks that some thread is to compress, and where the result goes.
struct Job {
    blocks: Vec<u8>,
    texture: Texture,
    /// Where the memory of the blocks goes back to.
    buffers: Arc<Buffers>,
    compressed: Sender<std::io::Result<Frame>>,
}

/// What the encrypting thread is to do, in this order.
enum Step {
    /// Append this to the open pack.
    Append(Lifetime, Receiver<std::io::Result<Frame>>),
    /// The pack is complete.
    Close(Lifetime, usize),
    /// Count this one as done.
    Drain,
}

struct OpenPack {
    ordinal: usize,
    block_size: usize,
    blocks: usize,
}

/// The pack of one lifetime that is being filled.
struct Filling {
    open: Option<OpenPack>,
    /// Blocks of the open pack that are not yet on their way.
    frame: Vec<u8>,
    /// How many bytes a frame holds at most.
    frame_bytes: usize,
    /// For frames.
    buffers: Arc<Buffers>,
}

impl Filling {
    fn new(frame_bytes: usize) -> Self {
        let buffers = Buffers::new(frame_bytes, IDLE_FRAMES * frame_bytes);
        Self { open: None, frame: Vec::new(), frame_bytes, buffers }
    }

    /// The blocks that are waiting, if there are any, and where their memory goes back to.
    fn take_frame(&mut self) -> Option<(Vec<u8>, Arc<Buffers>)> {
        if self.frame.is_empty() {
            return None;
        }
        let mut next = self.buffers.take();
        next.clear();
        next.reserve(self.frame_bytes);
        Some((std::mem::replace(&mut self.frame, next), Arc::clone(&self.buffers)))
    }
}

/// Where new blocks go.
pub(super) struct Packer {
    /// By lifetime.
    filling: [Filling; 2],
    jobs: Sender<Job>,
    steps: Sender<Step>,
    threads: Vec<JoinHandle<()>>,
    catalog: Arc<RwLock<Catalog>>,
    in_flight: InFlight,
    /// How many drains were asked for.
    drains: usize,
}

/// How packs are made.
#[derive(Clone)]
pub(super) struct PackSettings {
    pub recipient: DataRecipient,
    pub level: i32,
    pub threads: usize,
}

impl Packer {
    /// Starts the threads. The packs end after [`Packer::finish`].
    pub fn start(settings: &PackSettings, catalog: Arc<RwLock<Catalog>>) -> std::io::Result<(Self, FinishedPacks)> {
        let compressors = settings.threads.clamp(1, max_compressors(settings.level));
        let (jobs, jobs_out) = bounded::<Job>(FRAMES_WAITING);
        // With the one that is being encrypted, as many as are compressed or wait for that.
        let (steps, steps_out) = bounded(compressors + FRAMES_WAITING - 1);
        let (finished, packs) = mpsc::channel(1);
        let in_flight = InFlight::default();
        let filling = Lifetime::ALL.map(|lifetime| Filling::new(lifetime.texture().frame_bytes(settings.level)));
        let compressed = Buffers::new(0, IDLE_COMPRESSED_BYTES);
        let mut threads = Vec::new();
        for _ in 0..compressors {
            let (level, compressed) = (settings.level, Arc::clone(&compressed));
            let compressor = Compressor { level, jobs: jobs_out.clone(), compressed };
            threads.push(named("compress").spawn(move || compressor.run())?);
        }
        let recipient = settings.recipient.clone();
        let sealer = Sealer { recipient, finished, in_flight: in_flight.clone(), compressed };
        threads.push(named("seal").spawn(move || sealer.run(&steps_out))?);
        let packs = FinishedPacks { packs, in_flight: in_flight.clone() };
        Ok((Self { filling, jobs, steps, threads, catalog, in_flight, drains: 0 }, packs))
    }

    /// Stores `block` unless it is known by now, and returns where.
    pub fn add(&mut self, block: &[u8], fingerprint: Fingerprint) -> Result<Location, OperationError> {
        let lifetime = Lifetime::of(block);
        if self.filling[lifetime as usize].open.as_ref().is_some_and(|open| open.block_size != block.len()) {
            self.close_pack(lifetime)?;
        }
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = catalog.find(&fingerprint) {
            return Ok(known);
        }
        let Filling { open, frame, frame_bytes, .. } = &mut self.filling[lifetime as usize];
        let open = match open {
            Some(open) => open,
            none => {
                let ordinal = catalog.open_pack(block.len() as u32).ok_or(OperationError::TooManyPacks)?;
                none.insert(OpenPack { ordinal, block_size: block.len(), blocks: 0 })
            }
        };
        let location = catalog.add(open.ordinal, fingerprint);
        drop(catalog);
        open.blocks += 1;
        frame.extend_from_slice(block);
        if open.blocks == blocks_per_pack(block.len()) {
            self.close_pack(lifetime)?;
        } else if frame.len() + block.len() > *frame_bytes {
            self.send_frame(lifetime)?;
        }
        Ok(location)
    }

    /// How many packs the catalog numbers.
    pub fn packs(&self) -> usize {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).packs()
    }

    /// Hands over the blocks that are waiting, if there are any.
    fn send_frame(&mut self, lifetime: Lifetime) -> Result<(), OperationError> {
        let Some((blocks, buffers)) = self.filling[lifetime as usize].take_frame() else { return Ok(()) };
        let (compressed, result) = bounded(1);
        let job = Job { blocks, texture: lifetime.texture(), buffers, compressed };
        self.jobs.send(job).map_err(|_| OperationError::Stopped)?;
        self.step(Step::Append(lifetime, result))
    }

    fn step(&self, step: Step) -> Result<(), OperationError> {
        self.steps.send(step).map_err(|_| OperationError::Stopped)
    }

    fn close_pack(&mut self, lifetime: Lifetime) -> Result<(), OperationError> {
        self.send_frame(lifetime)?;
        match self.filling[lifetime as usize].open.take() {
            Some(open) => self.step(Step::Close(lifetime, open.ordinal)),
            None => Ok(()),
        }
    }

    /// Completes the open packs.
    pub fn close(&mut self) -> Result<(), OperationError> {
        Lifetime::ALL.into_iter().try_for_each(|lifetime| self.close_pack(lifetime))
    }

    /// Waits until nothing is compressed or uploaded any more. Open packs stay open.
    pub fn drain(&mut self) -> Result<(), OperationError> {
        Lifetime::ALL.into_iter().try_for_each(|lifetime| self.send_frame(lifetime))?;
        self.step(Step::Drain)?;
        self.drains += 1;
        self.in_flight.wait_for_none(self.drains)
    }

    /// Closes all packs and waits for the threads; uploads may still be under way.
    pub fn finish(mut self) -> Result<(), OperationError> {
        self.close()?;
        let Self { jobs, steps, threads, .. } = self;
        drop((jobs, steps));
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| OperationError::Stopped))
    }
}

/// A thread that `top -H` shows by its work.
fn named(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}

/// Compresses frames, on several threads at once.
struct Compressor {
    level: i32,
    jobs: Receiver<Job>,
    compressed: Arc<Buffers>,
}

impl Compressor {
    /// Until no more jobs come. Nothing waits for a result any more once encrypting has failed.
    fn run(self) {
        let mut compressor = FrameCompressor::new(self.level);
        for Job { blocks, texture, buffers, compressed } in &self.jobs {
            let frame = match &mut compressor {
                Ok(compressor) => compressor.compress(&blocks, texture, self.compressed.take()),
                Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
            };
            buffers.give_back(blocks);
            let _ = compressed.send(frame);
        }
    }
}

/// Encrypts frames into packs, in their order.
struct Sealer {
    recipient: DataRecipient,
    finished: mpsc::Sender<Result<FinishedPack, std::io::Error>>,
    in_flight: InFlight,
    compressed: Arc<Buffers>,
}

impl Sealer {
    fn run(self, steps: &Receiver<Step>) {
        if let Err(error) = self.seal_packs(steps) {
            let _ = self.finished.blocking_send(Err(error));
        }
    }

    /// Returns early where packs are no longer taken.
    fn seal_packs(&self, steps: &Receiver<Step>) -> std::io::Result<()> {
        let (mut writers, buffers) = ([const { None::<PackWriter> }; 2], Buffers::new(0, IDLE_PACK_BYTES));
        for step in steps {
            match step {
                Step::Append(lifetime, compressed) => {
                    let frame = compressed.recv().map_err(std::io::Error::other)??;
                    let growing: u64 = writers.iter().flatten().map(PackWriter::bytes).sum();
                    if self.in_flight.wait_to_grow(growing + frame.bytes()).is_none() {
                        return Ok(());
                    }
                    let writer = match &mut writers[lifetime as usize] {
                        Some(writer) => writer,
                        none => none.insert(PackWriter::new(&self.recipient, &buffers)?),
                    };
                    writer.append(&frame)?;
                    self.compressed.give_back(frame.into_buffer());
                }
                Step::Close(lifetime, ordinal) => {
                    let Some(writer) = writers[lifetime as usize].take() else { continue };
                    let sealed = writer.finish()?;
                    let Some(pending) = self.in_flight.begin(sealed.len()) else { return Ok(()) };
                    let pack = FinishedPack { ordinal, sealed, _pending: pending };
                    if self.finished.blocking_send(Ok(pack)).is_err() {
                        return Ok(());
                    }
                }
                Step::Drain => self.in_flight.change(|room| room.drained += 1),
            }
        }
        Ok(())
    }
}
