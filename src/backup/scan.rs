//! Looking at pieces of a source: what each block's fingerprint is, whether it is stored already, what the piece's
//! digest is. Done on all cores, with one reader and a fixed number of buffers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crossbeam_channel::{Receiver, bounded};

use crate::buffers::Buffers;
use crate::crypto::{Digest, Fingerprint, FingerprintKey, PIECE_BYTES, sha256};
use crate::format::{Link, LinkTable, put_links_back, take_links_out};
use crate::host::{Catalog, Location};

/// What a piece of a source holds and where its blocks lie.
#[derive(Clone, Debug)]
pub(super) struct PieceMap {
    pub digest: Digest,
    /// [`Location::UNKNOWN`] for a block that is not stored yet.
    pub locations: Box<[Location]>,
    pub links: Box<[Link]>,
    /// Bytes of the file in this piece.
    pub bytes: usize,
}

/// A block that is stored nowhere yet.
pub(super) struct NewBlock {
    /// Its position in the piece.
    pub at: usize,
    pub fingerprint: Fingerprint,
}

pub(super) struct Scanned {
    pub piece: usize,
    /// Bytes of the file in this piece.
    pub bytes: usize,
    /// `None`: exactly what the earlier scan found.
    pub map: Option<PieceMap>,
    pub new: Vec<NewBlock>,
    /// The bytes of all of `new`, one behind the other.
    pub blocks: Vec<u8>,
}

impl Scanned {
    /// Each new block with its bytes.
    pub fn new_blocks(&self) -> impl Iterator<Item = (&NewBlock, &[u8])> {
        let size = self.blocks.len().checked_div(self.new.len()).unwrap_or(1);
        self.new.iter().zip(self.blocks.chunks_exact(size))
    }
}

/// Bytes as they were read: whole blocks, the last one perhaps reaching beyond the end of the file.
pub(super) struct RawPiece {
    pub piece: usize,
    pub blocks: Vec<u8>,
    /// How many of them are the file's.
    pub bytes: usize,
}

/// How a source is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub block_size: usize,
    /// Whether links are taken out.
    pub database: bool,
    pub blocks: u32,
    pub bytes: u64,
}

impl Shape {
    pub fn blocks_per_piece(self) -> usize {
        PIECE_BYTES / self.block_size
    }

    pub fn pieces(self) -> usize {
        (self.blocks as usize).div_ceil(self.blocks_per_piece())
    }

    /// The number of the first block of `piece`; blocks are numbered from 1.
    pub fn first_block(self, piece: usize) -> u32 {
        (piece * self.blocks_per_piece()) as u32 + 1
    }

    /// How many blocks `piece` has.
    pub fn blocks_in(self, piece: usize) -> usize {
        self.blocks_per_piece().min(self.blocks as usize - piece * self.blocks_per_piece())
    }

    /// How many bytes of the file `piece` has.
    pub fn bytes_in(self, piece: usize) -> usize {
        let before = (piece * PIECE_BYTES) as u64;
        self.bytes.saturating_sub(before).min((self.blocks_in(piece) * self.block_size) as u64) as usize
    }
}

/// Buffers of a piece's size: those of a batch and of the one before it.
pub(super) fn piece_buffers() -> Arc<Buffers> {
    Buffers::new(PIECE_BYTES, 8 * PIECE_BYTES)
}

/// Looks at pieces with the host's key and catalog.
pub(super) struct Scanner<'a> {
    pub key: &'a FingerprintKey,
    pub catalog: &'a RwLock<Catalog>,
    threads: usize,
    /// Of a piece's size.
    pub buffers: Arc<Buffers>,
}

impl<'a> Scanner<'a> {
    /// `buffers` are those of [`piece_buffers`], one set for all sources of a run.
    pub fn new(key: &'a FingerprintKey, catalog: &'a RwLock<Catalog>, threads: usize, buffers: &Arc<Buffers>) -> Self {
        Self { key, catalog, threads, buffers: Arc::clone(buffers) }
    }

    /// Scans one piece on the thread that read it, in whose cache it still is. `earlier` is what an earlier scan found: a
    /// piece whose blocks are all where they were is not hashed again.
    pub fn scan_one(&self, shape: Shape, earlier: &[PieceMap], mut raw: RawPiece) -> Scanned {
        let scanned = self.scan(shape, earlier.get(raw.piece), &mut raw);
        if !raw.blocks.is_empty() {
            self.buffers.give_back(raw.blocks);
        }
        scanned
    }

    /// Scans what `next` reads into one of [`Scanner::buffers`], until it returns `None`, on all threads.
    /// `held` counts the bytes of new blocks that the results hold, so that `next` can stop in time.
    pub fn scan_all<E>(
        &self,
        shape: Shape,
        earlier: &[PieceMap],
        held: &AtomicUsize,
        mut next: impl FnMut() -> Result<Option<RawPiece>, E>,
    ) -> Result<Vec<Scanned>, E> {
        let (raw_in, raw_out) = bounded::<RawPiece>(self.threads);
        let results = Mutex::new(Vec::new());
        let read = std::thread::scope(|scope| {
            for _ in 0..self.threads {
                let (raw_out, results) = (raw_out.clone(), &results);
                scope.spawn(move || self.work(shape, earlier, held, &raw_out, results));
            }
            drop(raw_out);
            while let Some(raw) = next()? {
                if raw_in.send(raw).is_err() {
                    break;
                }
            }
            drop(raw_in);
            Ok(())
        });
        read?;
        let mut scanned = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        scanned.sort_unstable_by_key(|scanned| scanned.piece);
        Ok(scanned)
    }

    fn work(
        &self,
        shape: Shape,
        earlier: &[PieceMap],
        held: &AtomicUsize,
        raw_out: &Receiver<RawPiece>,
        results: &Mutex<Vec<Scanned>>,
    ) {
        for raw in raw_out {
            let scanned = self.scan_one(shape, earlier, raw);
            held.fetch_add(scanned.new.len() * shape.block_size, Ordering::Relaxed);
            results.lock().unwrap_or_else(PoisonError::into_inner).push(scanned);
        }
    }

    fn scan(&self, shape: Shape, earlier: Option<&PieceMap>, raw: &mut RawPiece) -> Scanned {
        let first = shape.first_block(raw.piece);
        let mut links = Vec::new();
        if shape.database {
            take_links_out(first, shape.block_size, &mut raw.blocks, &mut links);
        }
        let fingerprints: Vec<Fingerprint> =
            raw.blocks.chunks_exact(shape.block_size).map(|block| self.key.fingerprint(block)).collect();
        let locations = self.look_up(&fingerprints);
        let new = new_blocks(&fingerprints, &locations);
        let all_new = !new.is_empty() && new.len() == locations.len();
        let mut blocks = Vec::new();
        if !all_new {
            let bytes = |block: &NewBlock| &raw.blocks[block.at * shape.block_size..][..shape.block_size];
            blocks = new.iter().map(bytes).collect::<Vec<_>>().concat();
        }
        let same = |map: &&PieceMap| {
            new.is_empty() && map.locations == locations && *map.links == *links && map.bytes == raw.bytes
        };
        let map = match earlier.filter(same) {
            Some(_) => None,
            None => {
                let digest = digest(shape, first, raw, &links);
                Some(PieceMap { digest, locations, links: links.into(), bytes: raw.bytes })
            }
        };
        if all_new {
            // The buffer itself is what is new: links out once more instead of a copy.
            if shape.database {
                take_links_out(first, shape.block_size, &mut raw.blocks, &mut Vec::new());
            }
            blocks = std::mem::take(&mut raw.blocks);
        }
        Scanned { piece: raw.piece, bytes: raw.bytes, map, new, blocks }
    }

    fn look_up(&self, fingerprints: &[Fingerprint]) -> Box<[Location]> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        fingerprints.iter().map(|fingerprint| catalog.find(fingerprint).unwrap_or(Location::UNKNOWN)).collect()
    }
}

fn new_blocks(fingerprints: &[Fingerprint], locations: &[Location]) -> Vec<NewBlock> {
    let unknown = |at: &usize| locations[*at] == Location::UNKNOWN;
    (0..locations.len()).filter(unknown).map(|at| NewBlock { at, fingerprint: fingerprints[at] }).collect()
}

/// The SHA-256 of the piece as it stands in the file: with its links, without what reaches beyond the end.
fn digest(shape: Shape, first: u32, raw: &mut RawPiece, links: &[Link]) -> Digest {
    if shape.database {
        let table = LinkTable::new(links.to_vec()).unwrap_or_default();
        put_links_back(first, shape.block_size, &mut raw.blocks, &table);
    }
    sha256(&raw.blocks[..raw.bytes])
}
