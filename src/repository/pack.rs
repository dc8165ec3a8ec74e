//! A pack: blocks of one size back to back, `zstd`, then `age`. Block *i* is at byte *i × block size*: no index.
//!
//! A pack is made as a stream: only its sealed bytes are held in memory, never its blocks.

use std::io::{self, Read, Write};

use age::stream::StreamReader;

use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Sealed, Sealing, open_reader};

/// How many bytes of blocks a pack holds at most: 16 MiB.
pub const MAX_PACK_BYTES: usize = 16 << 20;

/// How many blocks of `block_size` bytes a pack holds at most.
pub const fn blocks_per_pack(block_size: usize) -> usize {
    MAX_PACK_BYTES / block_size
}

/// A pack being made.
pub struct PackWriter(zstd::Encoder<'static, Sealing>);

impl PackWriter {
    /// A new pack, sealed to `recipient`, at zstd level `level` (1 to 19).
    pub fn new(recipient: &DataRecipient, level: i32) -> io::Result<Self> {
        Ok(Self(zstd::Encoder::new(Sealing::to(recipient)?, level)?))
    }

    /// Appends whole blocks.
    pub fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        self.0.write_all(blocks)
    }

    pub fn finish(self) -> io::Result<Sealed> {
        self.0.finish()?.finish()
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
