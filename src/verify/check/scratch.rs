//! Opened packs on a disk, so that each is fetched once and its blocks are read in whatever order files need them.
//!
//! Nothing lies there in the clear: the file has no name and is veiled with a key that exists in memory only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::buffers::Buffers;
use crate::crypto::{DataIdentity, Veil};
use crate::format::{MAX_PACK_BYTES, PackReader};
use crate::fsx;

pub(super) struct Scratch {
    file: File,
    veil: Veil,
    /// For the frame that is being opened.
    buffers: Arc<Buffers>,
    /// How many bytes each pack turned out to hold.
    lengths: Vec<AtomicU64>,
}

/// Why a pack could not be kept.
pub(super) enum ScratchError {
    /// The pack is not what it should be.
    Pack(String),
    Disk(io::Error),
}

impl Scratch {
    /// Room for so many packs, in a file without a name in `dir`.
    pub fn new(dir: &Path, packs: usize) -> io::Result<Self> {
        let path = fsx::temporary_next_to(&dir.join("sealift-check"));
        let file = fsx::create_private(&path)?;
        fs::remove_file(&path)?;
        let (veil, buffers) = (Veil::generate(), PackReader::buffers());
        Ok(Self { file, veil, buffers, lengths: (0..packs).map(|_| AtomicU64::new(0)).collect() })
    }

    /// Opens the pack `number` and keeps its blocks; each number once.
    pub fn keep(&self, number: usize, sealed: &[u8], identity: &DataIdentity) -> Result<(), ScratchError> {
        let damaged = |error: &dyn std::fmt::Display| ScratchError::Pack(format!("it does not open: {error}"));
        let mut reader = PackReader::new(sealed, identity, &self.buffers).map_err(|error| damaged(&error))?;
        let mut length = 0;
        while let Some(bytes) = reader.blocks(1).map_err(|error| damaged(&error))? {
            self.veil.apply(number as u64, length, bytes);
            self.file.write_all_at(bytes, place(number) + length).map_err(ScratchError::Disk)?;
            length += bytes.len() as u64;
        }
        self.lengths[number].store(length, Ordering::Release);
        Ok(())
    }

    /// Fills `bytes` from `offset` on of the pack `number`. [`io::ErrorKind::UnexpectedEof`]: it does not hold so much.
    pub fn read(&self, number: usize, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.lengths[number].load(Ordering::Acquire) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(bytes, place(number) + offset)?;
        self.veil.apply(number as u64, offset, bytes);
        Ok(())
    }
}

fn place(number: usize) -> u64 {
    number as u64 * MAX_PACK_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FrameCompressor, PackWriter, Texture};

    #[test]
    fn what_was_kept_reads_back_from_anywhere_and_the_folder_stays_empty() {
        let (dir, identity) = (tempfile::tempdir().expect("scratch"), DataIdentity::generate());
        let plain: Vec<u8> = (0..3u32 << 20).map(|n| (n % 249) as u8).collect();
        let frame = FrameCompressor::new(3)
            .and_then(|mut zstd| zstd.compress(&plain, Texture::Text, Vec::new()))
            .expect("a frame");
        let mut writer = PackWriter::new(&identity.recipient(), &Buffers::none()).expect("a pack");
        writer.append(&frame).expect("written");
        let sealed = writer.finish().expect("sealed");
        let scratch = Scratch::new(dir.path(), 2).expect("a file");
        assert!(scratch.keep(1, sealed.bytes(), &identity).is_ok());
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
        let mut part = vec![0; 1 << 20];
        scratch.read(1, 12_345, &mut part).expect("read");
        assert!(part == plain[12_345..][..1 << 20]);
        assert!(scratch.read(1, 3 << 20, &mut [0]).is_err(), "past its end");
        assert!(scratch.read(0, 0, &mut [0]).is_err(), "never kept");
        let cut = &sealed.bytes()[..sealed.bytes().len() - 1];
        assert!(matches!(scratch.keep(0, cut, &identity), Err(ScratchError::Pack(_))));
    }
}
