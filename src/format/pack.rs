//! A pack: blocks of one size back to back, `zstd`, then `age`. Block *i* is at byte *i × block size*: no index.
//!
//! The blocks are compressed in frames, each for itself and in one go: that is faster than a stream, and several are
//! compressed at the same time. `zstd -d` reads frames one behind the other as one. Only the encrypted bytes of a pack
//! are held in memory, never its blocks.

use std::io::{self, Read, Write};
use std::sync::Arc;

use age::stream::StreamReader;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, Strategy, compress_bound, find_frame_compressed_size, get_frame_content_size};

use crate::buffers::Buffers;
use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Sealed, Sealing, open_reader};

/// How many bytes of blocks a pack holds at most: 16 MiB.
pub const MAX_PACK_BYTES: usize = 16 << 20;
/// How many bytes of blocks a frame holds at most that is written here: a little more than a fifth of a pack, whole
/// blocks of any size.
const MAX_FRAME_BYTES: usize = 52 << 16;
/// The same where memory is dearer.
const SMALL_FRAME_BYTES: usize = 2 << 20;

/// How many bytes are opened at once: a chunk of an age stream.
const CHUNK_BYTES: u64 = 64 << 10;

/// How many blocks of `block_size` bytes a pack holds at most.
pub const fn blocks_per_pack(block_size: usize) -> usize {
    MAX_PACK_BYTES / block_size
}

/// Compressed blocks, on their way into a pack.
pub struct Frame(Vec<u8>);

impl Frame {
    /// How many bytes it has, compressed.
    pub fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    /// The memory of it.
    pub fn into_buffer(self) -> Vec<u8> {
        self.0
    }
}

/// Compresses blocks. Keeps its working memory, a megabyte or two, from frame to frame.
pub struct FrameCompressor {
    zstd: Compressor<'static>,
    level: i32,
}

/// What the blocks of a frame mostly are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texture {
    /// The middle of long rows.
    Text,
    /// Short rows, keys and pointers.
    Rows,
}

impl Texture {
    /// How many bytes of blocks a frame holds at most at `level`. Each frame begins with nothing to refer back to, and
    /// takes as much memory as it holds; high levels take several times that.
    pub const fn frame_bytes(self, level: i32) -> usize {
        match (level, self) {
            (..=3, Self::Text) => MAX_FRAME_BYTES,
            _ => SMALL_FRAME_BYTES,
        }
    }
}

impl FrameCompressor {
    /// At `level` 1 to 19: zstd's own levels, except where a better choice is known for pages of databases.
    pub fn new(level: i32) -> io::Result<Self> {
        Ok(Self { zstd: Compressor::new(level)?, level })
    }

    /// Whole blocks, no more than [`Texture::frame_bytes`] of them, compressed into the memory of `buffer`.
    pub fn compress(&mut self, blocks: &[u8], texture: Texture, mut buffer: Vec<u8>) -> io::Result<Frame> {
        for parameter in tuning(self.level, texture) {
            self.zstd.set_parameter(*parameter)?;
        }
        buffer.clear();
        buffer.reserve(compress_bound(blocks.len()));
        self.zstd.compress_to_buffer(blocks, &mut buffer)?;
        Ok(Frame(buffer))
    }
}

/// What differs from zstd's own level: hash tables and, for text, a window that stay in a core's cache, and matches of
/// at least 6 bytes. Takes two thirds of the time for the same size. Measured on databases full of JSON logs.
/// For one level the same parameters are set for each texture, since they stay from frame to frame.
fn tuning(level: i32, texture: Texture) -> &'static [CParameter] {
    use CParameter::{ChainLog, HashLog, MinMatch, WindowLog};
    match (level, texture) {
        (2, Texture::Text) => {
            &[CParameter::Strategy(Strategy::ZSTD_fast), WindowLog(18), HashLog(17), ChainLog(16), MinMatch(7)]
        }
        (2, Texture::Rows) => {
            &[CParameter::Strategy(Strategy::ZSTD_dfast), WindowLog(21), HashLog(17), ChainLog(17), MinMatch(6)]
        }
        (3, Texture::Text) => {
            &[CParameter::Strategy(Strategy::ZSTD_dfast), WindowLog(19), HashLog(16), ChainLog(15), MinMatch(6)]
        }
        (3, Texture::Rows) => {
            &[CParameter::Strategy(Strategy::ZSTD_dfast), WindowLog(21), HashLog(16), ChainLog(15), MinMatch(6)]
        }
        _ => &[],
    }
}

/// A pack being made.
pub struct PackWriter {
    sealing: Sealing,
    /// Appended so far.
    bytes: u64,
}

impl PackWriter {
    /// A new pack, encrypted to `recipient`; `buffers` are shared with the packs before and after it.
    pub fn new(recipient: &DataRecipient, buffers: &Arc<Buffers>) -> io::Result<Self> {
        Ok(Self { sealing: Sealing::in_turn(recipient, buffers)?, bytes: 0 })
    }

    /// How many bytes of compressed frames it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn append(&mut self, frame: &Frame) -> io::Result<()> {
        self.bytes += frame.bytes();
        self.sealing.write_all(&frame.0)
    }

    pub fn finish(self) -> io::Result<Sealed> {
        self.sealing.finish()
    }
}

/// A pack being read, from its first block on. One frame of it is in memory.
pub struct PackReader<'a> {
    opened: StreamReader<&'a [u8]>,
    zstd: Decompressor<'static>,
    /// Opened, and decompressed up to `begin`.
    compressed: Vec<u8>,
    begin: usize,
    /// Decompressed, and not yet handed out but for the first `given` bytes.
    plain: Vec<u8>,
    given: usize,
    /// How many bytes more may come out. A decompression bomb ends there.
    room: usize,
    buffers: Arc<Buffers>,
}

impl<'a> PackReader<'a> {
    /// For the frames of several packs that are read at the same time.
    pub fn buffers() -> Arc<Buffers> {
        Buffers::new(SMALL_FRAME_BYTES, 4 * MAX_FRAME_BYTES)
    }

    /// `buffers` are shared with the packs before and after it.
    pub fn new(sealed: &'a [u8], identity: &DataIdentity, buffers: &Arc<Buffers>) -> Result<Self, CryptoError> {
        let opened = open_reader(sealed, identity)?;
        let zstd = Decompressor::new().map_err(|error| CryptoError::Damaged(error.to_string()))?;
        let (mut plain, buffers) = (buffers.take(), Arc::clone(buffers));
        plain.clear();
        let (compressed, begin, given, room) = (Vec::new(), 0, 0, MAX_PACK_BYTES);
        Ok(Self { opened, zstd, compressed, begin, plain, given, room, buffers })
    }

    /// The next blocks of `block_size` bytes, as many as there are without reading on; at the end `None`. Errors: the
    /// pack is cut or damaged, does not end with a block, or holds more than [`MAX_PACK_BYTES`].
    pub fn blocks(&mut self, block_size: usize) -> io::Result<Option<&mut [u8]>> {
        self.plain.drain(..self.given);
        self.given = 0;
        while self.plain.len() < block_size {
            if !self.read_frame()? {
                return if self.plain.is_empty() { Ok(None) } else { Err(damaged("it ends within a block")) };
            }
        }
        self.given = self.plain.len() / block_size * block_size;
        Ok(Some(&mut self.plain[..self.given]))
    }

    /// Reads what is left without looking at it: only the last chunk of an age stream shows that none is missing.
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.opened, &mut io::sink()).map(drop)
    }

    /// Decompresses one frame more; `false`: there is none.
    fn read_frame(&mut self) -> io::Result<bool> {
        let Some(length) = self.frame_length()? else { return Ok(false) };
        let frame = &self.compressed[self.begin..][..length];
        let declared = get_frame_content_size(frame).map_err(|_| damaged("its zstd frames are not whole"))?;
        let bytes = declared.map_or(self.room, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if bytes > self.room {
            return Err(damaged(TOO_MUCH));
        }
        let before = self.plain.len();
        if before == 0 {
            self.plain.reserve(bytes);
            self.zstd.decompress_to_buffer(frame, &mut self.plain)?;
        } else {
            self.plain.extend_from_slice(&self.zstd.decompress(frame, bytes)?);
        }
        self.room = self.room.checked_sub(self.plain.len() - before).ok_or_else(|| damaged(TOO_MUCH))?;
        self.begin += length;
        Ok(true)
    }

    /// Opens as much as the next frame needs; its length.
    fn frame_length(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Ok(length) = find_frame_compressed_size(&self.compressed[self.begin..]) {
                return Ok(Some(length));
            }
            self.compressed.drain(..self.begin);
            self.begin = 0;
            if self.compressed.len() > compress_bound(MAX_PACK_BYTES) {
                return Err(damaged(TOO_MUCH));
            }
            if self.opened.by_ref().take(CHUNK_BYTES).read_to_end(&mut self.compressed)? == 0 {
                return if self.compressed.is_empty() { Ok(None) } else { Err(damaged("it ends within a zstd frame")) };
            }
        }
    }
}

impl Drop for PackReader<'_> {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.plain));
    }
}

const TOO_MUCH: &str = "it holds more than a pack may";

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    fn plain(bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|n| (n / 7 % 251) as u8).collect()
    }

    /// What comes out of a pack with any `zstd` in it.
    fn read(zstd: &[u8]) -> io::Result<Vec<u8>> {
        let (identity, buffers) = (DataIdentity::generate(), PackReader::buffers());
        let mut sealing = Sealing::to(&identity.recipient())?;
        sealing.write_all(zstd)?;
        let sealed = sealing.finish()?;
        let mut reader = PackReader::new(sealed.bytes(), &identity, &buffers).expect("it opens");
        let mut read = Vec::new();
        while let Some(blocks) = reader.blocks(BLOCK)? {
            assert_eq!(blocks.len() % BLOCK, 0);
            read.extend_from_slice(blocks);
        }
        Ok(read)
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 1).expect("a frame")
    }

    /// One that does not tell its size.
    fn stream(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).expect("a stream")
    }

    #[test]
    fn blocks_come_out_however_the_frames_are_cut() {
        let plain = plain(700 * BLOCK);
        let cut = |at: &[usize]| at.windows(2).flat_map(|at| frame(&plain[at[0]..at[1]])).collect::<Vec<u8>>();
        let whole = plain.len();
        for zstd in [cut(&[0, whole]), cut(&[0, 5, 10, 3 * BLOCK + 1, 3 * BLOCK + 1, whole]), stream(&plain)] {
            assert!(read(&zstd).expect("read") == plain);
        }
        let mixed = [stream(&plain[..BLOCK - 1]), frame(&plain[BLOCK - 1..9 * BLOCK]), stream(&plain[9 * BLOCK..])];
        assert!(read(&mixed.concat()).expect("read") == plain);
        assert!(read(&[]).expect("an empty one").is_empty());
    }

    #[test]
    fn what_is_cut_strange_or_too_much_is_an_error() {
        let (plain, full) = (plain(9 * BLOCK), vec![7; MAX_PACK_BYTES]);
        let whole = frame(&plain);
        let damage = |zstd: &[u8]| read(zstd).expect_err("an error").to_string();
        assert_eq!(damage(&whole[..whole.len() - 1]), "it ends within a zstd frame");
        assert_eq!(damage(&[&whole[..], b"rest"].concat()), "it ends within a zstd frame");
        assert_eq!(damage(&frame(&plain[1..])), "it ends within a block");
        assert!(read(&frame(&full)).expect("as much as may be") == full);
        let more = vec![7; BLOCK];
        assert_eq!(damage(&[frame(&full), frame(&more)].concat()), TOO_MUCH);
        assert_eq!(damage(&frame(&[full.as_slice(), &more].concat())), TOO_MUCH);
        damage(&[frame(&full), stream(&more)].concat());
        damage(&stream(&[full.as_slice(), &more].concat()));
    }
}
