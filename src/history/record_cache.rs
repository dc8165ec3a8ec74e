//! The records that a reader has verified, kept so that it fetches each of them once.
//!
//! What is in here had a valid signature and exact bytes when it was inserted. It comes back only for an object of the
//! same size and the same ETag (the same time, where an ETag is unknown), and only with the SHA-256 that it went in with.
//! Who can change the file can change the trust store in the same folder, so nothing more is checked.
//!
//! It is a cache: losing any part of it costs fetching again, never more. Two processes may use it at a time; what one of
//! them adds may be lost.
//!
//! The file `records.cache`, mode 0600: a line that names the format, then frames (`record_frame`), appended as records
//! come. It is read up to the first frame that does not hold; the rest is cut off by the next save. Of two entries for one
//! number the later one counts.
//!
//! In memory are the file's bytes, an index, and two frames as plain bytes, however many records there are.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

use super::record_frame::{Entry, Frame, MAX_FRAME_BYTES};
use crate::crypto::{Digest, sha256};
use crate::fsx;
use crate::host::StateError;

const FILE: &str = "records.cache";
const FORMAT: &[u8] = b"sealift records 1\n";

/// A frame is closed when its records reach this many plain bytes. Records are alike: a long frame compresses well, a
/// short one opens fast.
const FRAME_BYTES: usize = 256 << 10;

/// A larger record is not kept. Records have a limit of their own, far below.
const MAX_RECORD_BYTES: usize = MAX_FRAME_BYTES - FRAME_BYTES;

/// Longer ETags are not kept.
const MAX_ETAG_BYTES: usize = 1024;

/// How many short frames the file may have: each run that meets a few new records adds one.
const MAX_SHORT_FRAMES: usize = 64;

/// Verified records by number.
#[derive(Debug)]
pub struct RecordCache {
    path: PathBuf,
    frames: Vec<Frame>,
    /// What will be the next of `frames`.
    open: OpenFrame,
    /// Where the entry that counts is.
    live: BTreeMap<u64, Place>,
    /// Plain bytes of all entries, and of those that count.
    total_bytes: usize,
    live_bytes: usize,
    /// So many of `frames` are in the file.
    saved: usize,
    /// The file is missing, of another format, or damaged at its end.
    unsound: bool,
    /// The last frame opened: records are asked for in order.
    opened: Mutex<Option<(usize, Bytes)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    frame: usize,
    entry: usize,
}

/// New records that are not in a frame yet.
#[derive(Debug, Default)]
struct OpenFrame {
    entries: Vec<Entry>,
    plain: Vec<u8>,
}

impl RecordCache {
    /// The cache in the folder `dir`; an empty one where there is none, or one of another format.
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        let file = match fs::read(&path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
            Err(error) => return Err(StateError::Io { path, error }),
        };
        let mut cache = Self::empty(path);
        if file.starts_with(FORMAT) {
            let mut rest = file.slice(FORMAT.len()..);
            while let Some(frame) = Frame::parse(&rest) {
                rest = rest.slice(frame.stored.len()..);
                cache.add(frame);
            }
            cache.saved = cache.frames.len();
            cache.unsound = !rest.is_empty();
        }
        Ok(cache)
    }

    fn empty(path: PathBuf) -> Self {
        Self {
            path,
            frames: Vec::new(),
            open: OpenFrame::default(),
            live: BTreeMap::new(),
            total_bytes: 0,
            live_bytes: 0,
            saved: 0,
            unsound: true,
            opened: Mutex::new(None),
        }
    }

    /// The bytes of a record, if the object listed under its number, of so many `bytes`, is the one that was inserted.
    pub fn get(&self, sequence: u64, bytes: u64, etag: Option<&str>, modified: Timestamp) -> Option<Bytes> {
        let place = *self.live.get(&sequence)?;
        let entry = self.entry(place)?;
        let is_same = match (entry.etag.as_deref(), etag) {
            (Some(kept), Some(listed)) => kept == listed,
            _ => entry.modified == modified,
        };
        if entry.bytes as u64 != bytes || !is_same {
            return None;
        }
        self.last(sequence)
    }

    /// The record that was inserted last under this number, whether it is still listed or not.
    pub fn last(&self, sequence: u64) -> Option<Bytes> {
        let place = *self.live.get(&sequence)?;
        let entry = self.entry(place)?;
        let record = self.record(place.frame, entry)?;
        (sha256(&record) == entry.digest).then_some(record)
    }

    /// The SHA-256 of the record that was inserted last under this number.
    pub fn digest(&self, sequence: u64) -> Option<Digest> {
        self.entry(*self.live.get(&sequence)?).map(|entry| entry.digest)
    }

    /// Keeps a record that was just verified, in place of any other under its number.
    pub fn insert(&mut self, sequence: u64, modified: Timestamp, etag: Option<&str>, record: &[u8]) {
        let etag = etag.filter(|etag| etag.len() <= MAX_ETAG_BYTES).map(str::to_owned);
        let (digest, at, bytes) = (sha256(record), self.open.plain.len(), record.len());
        let entry = Entry { sequence, modified, etag, digest, at, bytes };
        let is_there = |there: &Entry| *there == Entry { at: there.at, ..entry.clone() };
        if self.live.get(&sequence).and_then(|place| self.entry(*place)).is_some_and(is_there) {
            return;
        }
        self.remove(sequence);
        if bytes > MAX_RECORD_BYTES {
            return;
        }
        self.live.insert(sequence, Place { frame: self.frames.len(), entry: self.open.entries.len() });
        self.total_bytes += bytes;
        self.live_bytes += bytes;
        self.open.entries.push(entry);
        self.open.plain.extend_from_slice(record);
        if self.open.plain.len() >= FRAME_BYTES {
            self.close();
        }
    }

    /// Forgets the records whose numbers `keep` does not want. Until the file is written again they return with the next
    /// [`Self::load`].
    pub fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        let unwanted: Vec<u64> = self.live.keys().copied().filter(|sequence| !keep(*sequence)).collect();
        for sequence in unwanted {
            self.remove(sequence);
        }
    }

    /// Makes what is new durable. It is appended; where more than half of the file no longer counts, or it is in too many
    /// pieces, the file is written again.
    pub fn save(&mut self) -> Result<(), StateError> {
        self.close();
        let short = self.frames.iter().filter(|frame| is_short(frame)).count();
        let rewrites = self.unsound || self.live_bytes < self.total_bytes / 2 || short > MAX_SHORT_FRAMES;
        let saved = if rewrites { self.rewrite() } else { self.append() };
        saved.map_err(|error| StateError::Io { path: self.path.clone(), error })
    }

    fn append(&mut self) -> io::Result<()> {
        let new: Vec<u8> = self.frames[self.saved..].iter().flat_map(|frame| &frame.stored).copied().collect();
        if !new.is_empty() {
            // In one piece, so that what another process appends comes before it or after it.
            match OpenOptions::new().append(true).open(&self.path) {
                Ok(mut file) => file.write_all(&new).and_then(|()| file.sync_data())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return self.rewrite(),
                Err(error) => return Err(error),
            }
            self.saved = self.frames.len();
        }
        Ok(())
    }

    /// Replaces the file by one with only what counts.
    fn rewrite(&mut self) -> io::Result<()> {
        if self.frames.is_empty() {
            return Ok(());
        }
        self.compact();
        fsx::create_private_dir(fsx::parent(&self.path))?;
        fsx::write_atomic_with(&self.path, |file| {
            file.write_all(FORMAT)?;
            self.frames.iter().try_for_each(|frame| file.write_all(&frame.stored))
        })?;
        self.saved = self.frames.len();
        self.unsound = false;
        Ok(())
    }

    /// Drops what does not count. Long frames of which all counts stay as they are.
    fn compact(&mut self) {
        let mut old = std::mem::replace(self, Self::empty(self.path.clone()));
        let mut pieces = Vec::new();
        for (index, frame) in std::mem::take(&mut old.frames).into_iter().enumerate() {
            let counts =
                |entry: usize| old.live.get(&frame.entries[entry].sequence) == Some(&Place { frame: index, entry });
            let live: Vec<usize> = (0..frame.entries.len()).filter(|entry| counts(*entry)).collect();
            if live.len() == frame.entries.len() && !is_short(&frame) {
                self.add(frame);
            } else if !live.is_empty() {
                pieces.push((frame, live));
            }
        }
        for (frame, live) in pieces {
            let Some(plain) = frame.open() else { continue };
            for Entry { sequence, modified, etag, digest, at, bytes } in live.iter().map(|entry| &frame.entries[*entry])
            {
                let record = &plain[*at..at + bytes];
                if sha256(record) == *digest {
                    self.insert(*sequence, *modified, etag.as_deref(), record);
                }
            }
        }
        self.close();
    }

    /// Takes a frame behind the others. None may be open.
    fn add(&mut self, frame: Frame) {
        for (entry, of) in frame.entries.iter().enumerate() {
            self.remove(of.sequence);
            self.live.insert(of.sequence, Place { frame: self.frames.len(), entry });
            self.live_bytes += of.bytes;
        }
        self.total_bytes += frame.plain_bytes;
        self.frames.push(frame);
    }

    /// Makes a frame of what is open and counts.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.total_bytes -= open.plain.len();
        let (mut entries, mut plain) = (Vec::new(), Vec::new());
        for (entry, of) in open.entries.into_iter().enumerate() {
            if self.live.get(&of.sequence) == Some(&Place { frame: self.frames.len(), entry }) {
                self.live.remove(&of.sequence);
                self.live_bytes -= of.bytes;
                let at = plain.len();
                plain.extend_from_slice(&open.plain[of.at..of.at + of.bytes]);
                entries.push(Entry { at, ..of });
            }
        }
        if !entries.is_empty()
            && let Some(frame) = Frame::build(entries, &plain)
        {
            self.add(frame);
        }
    }

    fn remove(&mut self, sequence: u64) {
        let removed = self.live.remove(&sequence);
        let bytes = removed.and_then(|place| self.entry(place)).map_or(0, |entry| entry.bytes);
        self.live_bytes -= bytes;
    }

    fn entry(&self, place: Place) -> Option<&Entry> {
        let entries = self.frames.get(place.frame).map_or(&self.open.entries, |frame| &frame.entries);
        entries.get(place.entry)
    }

    fn record(&self, index: usize, entry: &Entry) -> Option<Bytes> {
        let range = entry.at..entry.at + entry.bytes;
        let Some(frame) = self.frames.get(index) else {
            return self.open.plain.get(range).map(Bytes::copy_from_slice);
        };
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = match opened.take().filter(|(of, _)| *of == index) {
            Some((_, plain)) => plain,
            None => frame.open()?,
        };
        let record = plain.get(range).map(Bytes::copy_from_slice);
        *opened = Some((index, plain));
        record
    }
}

fn is_short(frame: &Frame) -> bool {
    frame.plain_bytes < FRAME_BYTES / 2
}

#[cfg(test)]
mod tests;
