//! Bringing blocks from packs to their places in files.
//!
//! Pack by pack: each is fetched once, opened frame by frame, and every block that some file needs is written where it
//! belongs. Only the encrypted bytes and one frame are in memory.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::buffers::Buffers;
use crate::crypto::DataIdentity;
use crate::format::{Body, Entry, LinkTable, PackReader, put_links_back, take_links_out};

/// Blocks of a pack that go back to back into one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placement {
    pub pack: u32,
    pub slot: u32,
    pub blocks: u32,
    /// Index into the targets.
    file: u32,
    /// Position in the file, in blocks.
    at: u32,
}

/// A file that is being restored, open under its temporary name.
pub(super) struct Target {
    pub file: File,
    pub path: PathBuf,
    pub entry: Entry,
}

impl Target {
    fn block_size(&self) -> usize {
        match &self.entry.body {
            Body::Inline(_) => 0,
            Body::Blocks { block_size, .. } => *block_size as usize,
            Body::Database { page_size, .. } => *page_size as usize,
        }
    }

    fn links(&self) -> Option<&LinkTable> {
        match &self.entry.body {
            Body::Database { links, .. } => Some(links),
            Body::Inline(_) | Body::Blocks { .. } => None,
        }
    }

    /// Writes blocks from position `at` on, and returns how many bytes of the file that were. In the end the blocks are
    /// what they were: the same ones may go to other places, with other links.
    fn write(&self, at: u32, blocks: &mut [u8]) -> std::io::Result<u64> {
        let block_size = self.block_size();
        if let Some(links) = self.links() {
            put_links_back(at + 1, block_size, blocks, links);
        }
        let offset = u64::from(at) * block_size as u64;
        let length = self.entry.bytes.saturating_sub(offset).min(blocks.len() as u64);
        self.file.write_all_at(&blocks[..length as usize], offset)?;
        if self.links().is_some() {
            take_links_out(at + 1, block_size, blocks, &mut Vec::new());
        }
        Ok(length)
    }
}

/// Every placement of `entries`, in the order of packs and of their slots.
pub(super) fn placements(entries: &[Entry]) -> Vec<Placement> {
    let mut placements = Vec::new();
    for (file, entry) in (0..).zip(entries) {
        let (Body::Blocks { runs, .. } | Body::Database { runs, .. }) = &entry.body else { continue };
        let mut at = 0;
        for run in runs {
            placements.push(Placement { pack: run.pack, slot: run.slot, blocks: run.blocks, file, at });
            at += run.blocks;
        }
    }
    placements.sort_unstable();
    placements
}

/// One pack's part of the work.
pub(super) struct Scatter<'a> {
    pub sealed: &'a [u8],
    pub identity: &'a DataIdentity,
    /// All of this pack, in the order of their slots.
    pub placements: &'a [Placement],
    pub targets: &'a [Target],
    /// Of a frame's size.
    pub buffers: &'a Arc<Buffers>,
}

/// Why a pack could not be scattered.
pub(super) enum ScatterError {
    /// The pack is not what it should be.
    Pack(String),
    /// A target could not be written.
    Target(usize, std::io::Error),
}

impl Scatter<'_> {
    /// Writes all blocks to their places; `written` hears of the bytes.
    pub fn run(&self, written: impl Fn(u64)) -> Result<(), ScatterError> {
        let block_size = self.block_size()?;
        let mut reader = PackReader::new(self.sealed, self.identity, self.buffers)
            .map_err(|error| ScatterError::Pack(error.to_string()))?;
        let cut = |error: std::io::Error| ScatterError::Pack(format!("it is cut or damaged: {error}"));
        let end = self.placements.iter().map(|placement| placement.slot + placement.blocks).max().unwrap_or(0);
        let mut first = 0;
        let mut waiting: &[Placement] = self.placements;
        let mut open: Vec<Placement> = Vec::new();
        while first < end {
            let Some(blocks) = reader.blocks(block_size).map_err(cut)? else {
                return Err(ScatterError::Pack(format!("it has {first} blocks, and {end} are needed")));
            };
            let last = first + (blocks.len() / block_size) as u32;
            let begins = waiting.partition_point(|placement| placement.slot < last);
            open.extend_from_slice(&waiting[..begins]);
            waiting = &waiting[begins..];
            for placement in &open {
                written(self.place(placement, first, last, blocks)?);
            }
            open.retain(|placement| placement.slot + placement.blocks > last);
            first = last;
        }
        reader.finish().map_err(cut)
    }

    /// The part of `placement` that lies in `blocks`, which are those from slot `first` to slot `last`.
    fn place(&self, placement: &Placement, first: u32, last: u32, blocks: &mut [u8]) -> Result<u64, ScatterError> {
        let block_size = blocks.len() / (last - first) as usize;
        let from = placement.slot.max(first);
        let to = (placement.slot + placement.blocks).min(last);
        let bytes = (from - first) as usize * block_size..(to - first) as usize * block_size;
        let file = placement.file as usize;
        let at = placement.at + (from - placement.slot);
        self.targets[file].write(at, &mut blocks[bytes]).map_err(|error| ScatterError::Target(file, error))
    }

    fn block_size(&self) -> Result<usize, ScatterError> {
        let mut sizes = self.placements.iter().map(|placement| self.targets[placement.file as usize].block_size());
        let size = sizes.next().unwrap_or(4096);
        if sizes.any(|other| other != size) {
            return Err(ScatterError::Pack("the manifest reads it in blocks of several sizes".to_owned()));
        }
        Ok(size)
    }
}

/// The packs that `placements` need, as indices into the manifest's table, with their share of the placements.
pub(super) fn by_pack(placements: &[Placement]) -> Vec<(usize, Range<usize>)> {
    let mut begin = 0;
    let mut packs = Vec::new();
    for group in placements.chunk_by(|a, b| a.pack == b.pack) {
        packs.push((group[0].pack as usize, begin..begin + group.len()));
        begin += group.len();
    }
    packs
}
