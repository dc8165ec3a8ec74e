//! Whether what is encrypted in a snapshot is what its manifest says: every file's digest computed from the blocks, without
//! writing the file.

use std::io;

use super::scratch::Scratch;
use crate::crypto::{Digest, PIECE_BYTES, file_digest, sha256};
use crate::format::{Body, Entry, LinkTable, Run, put_links_back};
use crate::restore::pieces::digest_of;

/// The digest of `entry`, whose packs are kept in `scratch` under the numbers that `places` gives for the manifest's
/// pack table. `read` hears of the bytes.
pub(super) fn digest_of_entry(
    entry: &Entry,
    places: &[usize],
    scratch: &Scratch,
    threads: usize,
    read: impl Fn(u64) + Sync,
) -> io::Result<Digest> {
    let (block_size, runs, links) = match &entry.body {
        Body::Inline(bytes) => {
            let pieces: Vec<Digest> = bytes.chunks(PIECE_BYTES).map(sha256).collect();
            return Ok(file_digest(&pieces));
        }
        Body::Blocks { block_size, runs } => (*block_size as usize, runs, None),
        Body::Database { page_size, runs, links } => (*page_size as usize, runs, Some(links)),
    };
    let file = BlockFile { block_size, runs: Positioned::of(runs), links, places, scratch };
    digest_of(entry.bytes, threads, |buffer, offset| file.read(buffer, offset), read)
}

/// A run, and the position in the file, in blocks, at which it begins.
struct Positioned {
    at: u64,
    run: Run,
}

impl Positioned {
    fn of(runs: &[Run]) -> Vec<Self> {
        let mut at = 0;
        let positioned = |run: &Run| {
            let begin = at;
            at += u64::from(run.blocks);
            Self { at: begin, run: *run }
        };
        runs.iter().map(positioned).collect()
    }
}

/// A file as its runs describe it.
struct BlockFile<'a> {
    block_size: usize,
    runs: Vec<Positioned>,
    links: Option<&'a LinkTable>,
    places: &'a [usize],
    scratch: &'a Scratch,
}

impl BlockFile<'_> {
    /// Fills `bytes` from `offset` on, a multiple of the block size; only the file's end may cut a block.
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let whole = bytes.len().next_multiple_of(self.block_size);
        if whole == bytes.len() {
            return self.read_blocks(bytes, offset / self.block_size as u64);
        }
        let mut blocks = vec![0; whole];
        self.read_blocks(&mut blocks, offset / self.block_size as u64)?;
        bytes.copy_from_slice(&blocks[..bytes.len()]);
        Ok(())
    }

    /// Fills whole blocks from number `first` (the first is 0) on.
    fn read_blocks(&self, mut bytes: &mut [u8], first: u64) -> io::Result<()> {
        let mut block = first;
        let mut next = self.runs.partition_point(|positioned| positioned.at <= first).saturating_sub(1);
        while !bytes.is_empty() {
            let Positioned { at, run } = self.runs.get(next).ok_or(io::ErrorKind::UnexpectedEof)?;
            let skipped = block - at;
            let blocks = (u64::from(run.blocks) - skipped).min((bytes.len() / self.block_size) as u64);
            let (part, rest) = bytes.split_at_mut(blocks as usize * self.block_size);
            let offset = (u64::from(run.slot) + skipped) * self.block_size as u64;
            self.scratch.read(self.places[run.pack as usize], offset, part)?;
            if let Some(links) = self.links {
                put_links_back(block as u32 + 1, self.block_size, part, links);
            }
            bytes = rest;
            block += blocks;
            next += 1;
        }
        Ok(())
    }
}
