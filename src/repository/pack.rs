//! A pack: blocks of one size back to back, `zstd`, then `age`. Block *i* is at byte *i × block size*: no index.
//!
//! The blocks are compressed in frames, each for itself and in one go: that is faster than a stream, and several are
//! compressed at the same time. `zstd -d` reads frames one behind the other as one. Only the sealed bytes of a pack are
//! held in memory, never its blocks.

use std::io::{self, Read, Write};

use age::stream::StreamReader;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};

use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Sealed, Sealing, open_reader};

/// How many bytes of blocks a pack holds at most: 16 MiB.
pub const MAX_PACK_BYTES: usize = 16 << 20;
/// How many bytes of blocks a frame holds at most. Smaller ones find less to refer back to.
pub const FRAME_BYTES: usize = 2 << 20;

/// How many blocks of `block_size` bytes a pack holds at most.
pub const fn blocks_per_pack(block_size: usize) -> usize {
    MAX_PACK_BYTES / block_size
}

/// Compressed blocks, on their way into a pack.
pub struct Frame(Vec<u8>);

/// Compresses blocks. Keeps its working memory, a megabyte or so, from frame to frame.
pub struct FrameCompressor(Compressor<'static>);

impl FrameCompressor {
    /// At `level` 1 to 19: zstd's own levels, except where a better choice is known for pages of text.
    pub fn new(level: i32) -> io::Result<Self> {
        let mut compressor = Compressor::new(level)?;
        for parameter in tuning(level) {
            compressor.set_parameter(*parameter)?;
        }
        Ok(Self(compressor))
    }

    /// Whole blocks, no more than [`FRAME_BYTES`] of them.
    pub fn compress(&mut self, blocks: &[u8]) -> io::Result<Frame> {
        self.0.compress(blocks).map(Frame)
    }
}

/// What differs from zstd's own level. The window is the whole frame; hash tables that stay in a core's cache and matches
/// of at least 6 bytes take two thirds of the time for the same size. Measured on databases full of JSON logs.
fn tuning(level: i32) -> &'static [CParameter] {
    use CParameter::{ChainLog, HashLog, MinMatch, WindowLog};
    match level {
        2 => &[CParameter::Strategy(Strategy::ZSTD_fast), WindowLog(21), HashLog(17), MinMatch(7)],
        3 => &[CParameter::Strategy(Strategy::ZSTD_dfast), WindowLog(21), HashLog(16), ChainLog(15), MinMatch(6)],
        _ => &[],
    }
}

/// A pack being made.
pub struct PackWriter(Sealing);

impl PackWriter {
    /// A new pack, sealed to `recipient`.
    pub fn new(recipient: &DataRecipient) -> io::Result<Self> {
        Sealing::to(recipient).map(Self)
    }

    pub fn append(&mut self, frame: &Frame) -> io::Result<()> {
        self.0.write_all(&frame.0)
    }

    pub fn finish(self) -> io::Result<Sealed> {
        self.0.finish()
    }
}

/// A pack being read, from its first block on.
pub struct PackReader<'a>(io::Take<zstd::Decoder<'static, io::BufReader<StreamReader<&'a [u8]>>>>);

impl<'a> PackReader<'a> {
    pub fn new(sealed: &'a [u8], identity: &DataIdentity) -> Result<Self, CryptoError> {
        let damaged = |error: io::Error| CryptoError::Damaged(error.to_string());
        let decoder = zstd::Decoder::new(open_reader(sealed, identity)?).map_err(damaged)?;
        // A bomb ends here, whoever made it.
        Ok(Self(decoder.take(MAX_PACK_BYTES as u64)))
    }
}

impl Read for PackReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}
