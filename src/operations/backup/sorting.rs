//! Packing apart what will last and what will not.
//!
//! Overflow pages hold the bulk of long rows: they are written once, and stay until their row goes. B-tree pages change
//! all the time. In one pack, the few that last would keep all the others in the repository, and compaction would have to
//! upload them again and again. Apart, the packs of b-tree pages soon fall away as a whole.

use std::sync::{Arc, RwLock};

use tokio::sync::mpsc;

use super::OperationError;
use super::packing::{FinishedPack, PackSettings, Packer};
use crate::crypto::Fingerprint;
use crate::state::{Catalog, Location};

/// Where new blocks go.
pub(super) struct Sorter {
    lasting: Packer,
    changing: Packer,
}

impl Sorter {
    /// Starts packing. Finished packs come out of the receiver, which ends after [`Sorter::finish`].
    pub fn start(
        settings: &PackSettings,
        catalog: &Arc<RwLock<Catalog>>,
    ) -> (Self, mpsc::Receiver<Result<FinishedPack, std::io::Error>>) {
        let (finished, receiver) = mpsc::channel(1);
        let start = |settings: &PackSettings| Packer::start(settings, Arc::clone(catalog), &finished);
        // B-tree pages are few: a thread more would only cost memory.
        let single = PackSettings { threads: 1, ..settings.clone() };
        (Self { lasting: start(settings), changing: start(&single) }, receiver)
    }

    /// Stores `block` unless it is known by now, and tells where. An overflow page begins with its link, which is taken
    /// out by now; b-tree pages begin with their kind, which is never 0.
    pub fn add(&mut self, block: &[u8], fingerprint: Fingerprint) -> Result<Location, OperationError> {
        let packer = if block.first() == Some(&0) { &mut self.lasting } else { &mut self.changing };
        packer.add(block, fingerprint)
    }

    /// How many packs the catalog numbers.
    pub fn packs(&self) -> usize {
        self.lasting.packs()
    }

    /// Waits until nothing is compressed or uploaded any more. Open packs stay open.
    pub fn drain(&mut self) -> Result<(), OperationError> {
        self.lasting.drain()?;
        self.changing.drain()
    }

    /// Closes all packs; uploads may still be under way.
    pub fn finish(self) -> Result<(), OperationError> {
        self.lasting.finish()?;
        self.changing.finish()
    }
}
