//! Turning new blocks into stored packs: lanes compress and seal on threads of their own, uploads run beside them.
//!
//! Bounded memory: a lane holds two chunks of blocks and one growing sealed pack; finished packs wait in a short queue
//! until an upload takes them, and uploads have a bounded number of bytes in flight. Who adds blocks waits when all of that is full.
//! A block can be found in the catalog from the moment it is added; its pack is named there once it is stored.

use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::mpsc;

use super::OperationError;
use crate::crypto::{DataRecipient, Fingerprint, Sealed};
use crate::repository::{PackWriter, blocks_per_pack};
use crate::state::{Catalog, Location};

/// Blocks travel to a lane in chunks of about this many bytes.
const CHUNK_BYTES: usize = 512 << 10;
/// Lanes at most: each holds a growing pack, which bounds memory on machines with many cores.
const MAX_LANES: usize = 3;
/// Chunks that may wait at a lane.
const CHUNKS_WAITING: usize = 2;

/// A sealed pack on its way to the store.
pub(super) struct FinishedPack {
    pub ordinal: usize,
    pub sealed: Sealed,
    /// The packs that are not stored yet count until this is dropped.
    pub _pending: Pending,
}

/// How many packs are sealed and not yet stored.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<(Mutex<usize>, Condvar)>);

impl InFlight {
    fn begin(&self) -> Pending {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Pending(self.clone())
    }

    fn wait_for_none(&self) {
        let count = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(count, |count| *count > 0));
    }
}

pub(super) struct Pending(InFlight);

impl Drop for Pending {
    fn drop(&mut self) {
        *self.0.0.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.0.1.notify_all();
    }
}

enum Work {
    /// Whole blocks for the open pack.
    Blocks(Vec<u8>),
    /// The pack is full.
    Close { ordinal: usize },
    /// Answer when all before this is done.
    Drain(Sender<()>),
}

struct OpenPack {
    ordinal: usize,
    block_size: usize,
    blocks: usize,
    chunk: Vec<u8>,
}

struct Lane {
    work: Sender<Work>,
    thread: JoinHandle<()>,
    open: Option<OpenPack>,
}

/// Where new blocks go.
pub(super) struct Packer {
    lanes: Vec<Lane>,
    current: usize,
    catalog: Arc<RwLock<Catalog>>,
    in_flight: InFlight,
}

/// How packs are made.
#[derive(Clone)]
pub(super) struct PackSettings {
    pub recipient: DataRecipient,
    pub level: i32,
    pub threads: usize,
}

impl Packer {
    /// Starts the lanes. Finished packs go to `finished`, until [`Packer::finish`].
    pub fn start(settings: &PackSettings, catalog: Arc<RwLock<Catalog>>, finished: &Finished) -> Self {
        let in_flight = InFlight::default();
        let lanes = (0..settings.threads.min(MAX_LANES))
            .map(|_| {
                let (work, chunks) = bounded(CHUNKS_WAITING);
                let (settings, finished, in_flight) = (settings.clone(), finished.clone(), in_flight.clone());
                let thread = std::thread::spawn(move || run_lane(&settings, &chunks, &finished, &in_flight));
                Lane { work, thread, open: None }
            })
            .collect();
        Self { lanes, current: 0, catalog, in_flight }
    }

    /// Stores `block` unless it is known by now, and tells where.
    pub fn add(&mut self, block: &[u8], fingerprint: Fingerprint) -> Result<Location, OperationError> {
        if let Some(known) = self.read_catalog().find(&fingerprint) {
            return Ok(known);
        }
        self.open_for(block.len())?;
        let lane = &mut self.lanes[self.current];
        let Some(open) = &mut lane.open else { return Err(OperationError::Stopped) };
        let location = self.catalog.write().unwrap_or_else(PoisonError::into_inner).add(open.ordinal, fingerprint);
        open.chunk.extend_from_slice(block);
        open.blocks += 1;
        if open.blocks == blocks_per_pack(block.len()) {
            lane.close()?;
        } else if open.chunk.len() + block.len() > CHUNK_BYTES {
            lane.flush()?;
            self.current = self.least_busy();
        }
        Ok(location)
    }

    /// How many packs the catalog numbers.
    pub fn packs(&self) -> usize {
        self.read_catalog().packs()
    }

    fn read_catalog(&self) -> std::sync::RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the current lane ready for a block of `size` bytes.
    fn open_for(&mut self, size: usize) -> Result<(), OperationError> {
        let lane = &mut self.lanes[self.current];
        if lane.open.as_ref().is_some_and(|open| open.block_size != size) {
            lane.close()?;
        }
        if lane.open.is_none() {
            let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            let ordinal = catalog.open_pack(size as u32).ok_or(OperationError::TooManyPacks)?;
            lane.open = Some(OpenPack { ordinal, block_size: size, blocks: 0, chunk: Vec::new() });
        }
        Ok(())
    }

    /// The first lane that is not full, so that little data makes few packs.
    fn least_busy(&self) -> usize {
        let free = |lane: &Lane| lane.work.len() < CHUNKS_WAITING;
        self.lanes.iter().position(free).unwrap_or((self.current + 1) % self.lanes.len())
    }

    /// Waits until nothing is compressed or uploaded any more. Open packs stay open.
    pub fn drain(&mut self) -> Result<(), OperationError> {
        for lane in &mut self.lanes {
            lane.flush()?;
        }
        for lane in &self.lanes {
            let (done, wait) = bounded(1);
            lane.send(Work::Drain(done))?;
            wait.recv().map_err(|_| OperationError::Stopped)?;
        }
        self.in_flight.wait_for_none();
        Ok(())
    }

    /// Closes all packs and waits for the lanes; uploads may still be under way.
    pub fn finish(mut self) -> Result<(), OperationError> {
        for lane in &mut self.lanes {
            lane.close()?;
        }
        for lane in self.lanes {
            drop(lane.work);
            lane.thread.join().map_err(|_| OperationError::Stopped)?;
        }
        Ok(())
    }
}

impl Lane {
    fn send(&self, work: Work) -> Result<(), OperationError> {
        self.work.send(work).map_err(|_| OperationError::Stopped)
    }

    fn flush(&mut self) -> Result<(), OperationError> {
        match &mut self.open {
            Some(open) if !open.chunk.is_empty() => {
                let chunk = std::mem::take(&mut open.chunk);
                self.send(Work::Blocks(chunk))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), OperationError> {
        self.flush()?;
        match self.open.take() {
            Some(open) => self.send(Work::Close { ordinal: open.ordinal }),
            None => Ok(()),
        }
    }
}

/// Where finished packs go.
pub(super) type Finished = mpsc::Sender<Result<FinishedPack, std::io::Error>>;

fn run_lane(settings: &PackSettings, work: &Receiver<Work>, finished: &Finished, in_flight: &InFlight) {
    if let Err(error) = pack_blocks(settings, work, finished, in_flight) {
        let _ = finished.blocking_send(Err(error));
    }
}

/// Returns early where nobody takes the packs any more.
fn pack_blocks(
    settings: &PackSettings,
    work: &Receiver<Work>,
    finished: &Finished,
    in_flight: &InFlight,
) -> std::io::Result<()> {
    let mut writer = None;
    for item in work {
        match item {
            Work::Blocks(blocks) => {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => none.insert(PackWriter::new(&settings.recipient, settings.level)?),
                };
                writer.write(&blocks)?;
            }
            Work::Close { ordinal } => {
                let Some(writer) = writer.take() else { continue };
                let pending = in_flight.begin();
                let pack = FinishedPack { ordinal, sealed: writer.finish()?, _pending: pending };
                if finished.blocking_send(Ok(pack)).is_err() {
                    return Ok(());
                }
            }
            Work::Drain(done) => {
                let _ = done.send(());
            }
        }
    }
    Ok(())
}
