//! Ordinary files: small ones whole, large ones in blocks.
//!
//! A symbolic link is followed to a regular file: what is stored is that file's bytes, under the configured name. Anything
//! that is not a regular file is refused, and a FIFO is never waited for.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::claim::{Claim, open_regular};
use super::print::{CLOCK_STEP, FileMeta, Print, Stamp};
use super::{SourceError, place};

/// Up to this many bytes a file is small: it is read whole and travels inside the manifest.
pub const INLINE_MAX: u64 = 1 << 20;
/// A large file is cut into blocks of this many bytes, the last one filled with zeros.
pub const BLOCK_BYTES: usize = 4096;

const TRIES: u32 = 5;

/// A small file, read whole. Its bytes may be secrets, and are wiped when dropped.
#[derive(Debug)]
pub struct SmallFile {
    pub bytes: Zeroizing<Vec<u8>>,
    pub meta: FileMeta,
    pub print: Print,
}

/// Reads a file of at most [`INLINE_MAX`] bytes at one instant, trying a few times while it changes.
/// A larger one gives `Ok(None)`: open it as a [`LargeFile`].
pub fn read_small(path: &Path) -> Result<Option<SmallFile>, SourceError> {
    for _ in 1..TRIES {
        match try_small(path) {
            Err(SourceError::Changing { .. }) => {}
            result => return result,
        }
    }
    try_small(path)
}

fn try_small(path: &Path) -> Result<Option<SmallFile>, SourceError> {
    let mut file = LargeFile::open(path)?;
    let view = file.view()?;
    if view.bytes() > INLINE_MAX {
        return Ok(None);
    }
    // One buffer that never grows: a growing one would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(view.bytes()).unwrap_or_default()]);
    view.fill(0, &mut bytes)?;
    let meta = view.meta();
    view.finish().map(|print| Some(SmallFile { bytes, meta, print }))
}

/// An open ordinary file. It is closed before the claim is given back: fields are dropped in this order.
#[derive(Debug)]
pub struct LargeFile {
    file: File,
    path: PathBuf,
    _claim: Claim,
}

impl LargeFile {
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let claim = Claim::file(path, &Stamp::of(&place::regular(path)?))?;
        Ok(Self { file: open_regular(path)?, path: path.to_owned(), _claim: claim })
    }

    /// Looks at the file as it is now.
    pub fn view(&mut self) -> Result<FileView<'_>, SourceError> {
        let mut metadata = self.same_file()?;
        let age = Stamp::of(&metadata).age();
        if age < CLOCK_STEP {
            std::thread::sleep(CLOCK_STEP - age);
            metadata = self.same_file()?;
        }
        let blocks = u32::try_from(metadata.len().div_ceil(BLOCK_BYTES as u64))
            .map_err(|_| SourceError::TooLarge { path: self.path.clone() })?;
        let (stamp, meta) = (Stamp::of(&metadata), FileMeta::of(&metadata));
        Ok(FileView { file: self, stamp, meta, blocks, since: Instant::now() })
    }

    /// The open file's `stat`, as long as the path still leads to it.
    fn same_file(&self) -> Result<Metadata, SourceError> {
        let open = self.file.metadata().map_err(|error| SourceError::io(&self.path, error))?;
        if Stamp::of(&open) == Stamp::of(&place::regular(&self.path)?) { Ok(open) } else { Err(self.changing()) }
    }

    fn changing(&self) -> SourceError {
        SourceError::Changing { path: self.path.clone() }
    }
}

/// One look at an ordinary file; [`FileView::finish`] says whether it was one instant.
#[derive(Debug)]
pub struct FileView<'a> {
    file: &'a LargeFile,
    stamp: Stamp,
    meta: FileMeta,
    blocks: u32,
    since: Instant,
}

impl FileView<'_> {
    pub fn block_count(&self) -> u32 {
        self.blocks
    }

    pub fn bytes(&self) -> u64 {
        self.stamp.bytes
    }

    pub fn meta(&self) -> FileMeta {
        self.meta
    }

    pub fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// Fills `out`, a multiple of [`BLOCK_BYTES`], with the blocks from number `first` on, counted from 1.
    pub fn read(&self, first: u32, out: &mut [u8]) -> Result<(), SourceError> {
        debug_assert_eq!(out.len() % BLOCK_BYTES, 0);
        let start = u64::from(first.saturating_sub(1)) * BLOCK_BYTES as u64;
        let there = usize::try_from(self.bytes().saturating_sub(start)).unwrap_or(usize::MAX).min(out.len());
        let (content, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        self.fill(start, content)
    }

    fn fill(&self, start: u64, content: &mut [u8]) -> Result<(), SourceError> {
        self.file.file.read_exact_at(content, start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.file.changing(),
            _ => SourceError::io(&self.file.path, error),
        })
    }

    /// Confirms that the file did not change, and that the path still leads to it.
    pub fn finish(self) -> Result<Print, SourceError> {
        if Stamp::of(&self.file.same_file()?) != self.stamp {
            return Err(self.file.changing());
        }
        Ok(Print { journal: None, change_counter: 0, blocks: self.blocks, stamp: self.stamp })
    }
}
