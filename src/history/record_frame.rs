//! Some records stored together: the unit of the record cache's file.
//!
//! Layout, all integers little-endian: `u32` length of the index, `u32` length of the body, the index, the body, SHA-256
//! of all before. The index has an entry a record: `u64` number, `i64` and `i32` seconds and nanoseconds of its time,
//! `u32` length, SHA-256, `u16` length of the ETag (`0xffff`: none is known), the ETag. The body is the records, one
//! after the other, as `zstd`.
//!
//! A frame that parses is what was built, byte for byte.

use bytes::Bytes;
use jiff::Timestamp;

use crate::crypto::{Digest, sha256};

/// Plain bytes that a frame holds at most: what a file can make this process allocate.
pub(super) const MAX_FRAME_BYTES: usize = 64 << 20;

const LENGTHS_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;
const NO_ETAG: u16 = u16::MAX;

/// Fast, and small on records that repeat one another.
const LEVEL: i32 = 3;

/// One record, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub sequence: u64,
    pub modified: Timestamp,
    /// Shorter than 65,535 bytes.
    pub etag: Option<String>,
    pub digest: Digest,
    /// Where its bytes are in the plain body.
    pub at: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub entries: Vec<Entry>,
    /// As it is in the file.
    pub stored: Bytes,
    pub plain_bytes: usize,
    body: Bytes,
}

impl Frame {
    /// `plain`: the records of the entries, one after the other. `None`: they are too many or too long to be stored.
    pub fn build(entries: Vec<Entry>, plain: &[u8]) -> Option<Self> {
        if plain.len() > MAX_FRAME_BYTES {
            return None;
        }
        let index = entries.iter().map(index_of).collect::<Option<Vec<_>>>()?.concat();
        let body = zstd::bulk::compress(plain, LEVEL).ok()?;
        let [Ok(index_bytes), Ok(body_bytes)] = [index.len(), body.len()].map(u32::try_from) else { return None };
        let mut stored = [&index_bytes.to_le_bytes()[..], &body_bytes.to_le_bytes(), &index, &body].concat();
        let digest = sha256(&stored);
        stored.extend(digest.as_bytes());
        let stored = Bytes::from(stored);
        let body = stored.slice(LENGTHS_BYTES + index.len()..stored.len() - DIGEST_BYTES);
        Some(Self { entries, stored, plain_bytes: plain.len(), body })
    }

    /// The frame that `file` begins with; `None` where it does not hold.
    pub fn parse(file: &Bytes) -> Option<Self> {
        let mut lengths = file.get(..LENGTHS_BYTES)?;
        let mut length = || usize::try_from(u32::from_le_bytes(take(&mut lengths)?)).ok();
        let body_at = LENGTHS_BYTES.checked_add(length()?)?;
        let body_end = body_at.checked_add(length()?)?;
        let digest = file.get(body_end..body_end.checked_add(DIGEST_BYTES)?)?;
        if sha256(&file[..body_end]).as_bytes() != digest {
            return None;
        }
        let entries = parse_index(&file[LENGTHS_BYTES..body_at])?;
        let plain_bytes = entries.last().map_or(0, |entry| entry.at + entry.bytes);
        let stored = file.slice(..body_end + DIGEST_BYTES);
        (plain_bytes <= MAX_FRAME_BYTES).then(|| Self {
            entries,
            plain_bytes,
            body: stored.slice(body_at..body_end),
            stored,
        })
    }

    /// The plain bytes of its records.
    pub fn open(&self) -> Option<Bytes> {
        let plain = zstd::bulk::decompress(&self.body, self.plain_bytes).ok()?;
        (plain.len() == self.plain_bytes).then(|| plain.into())
    }
}

fn index_of(entry: &Entry) -> Option<Vec<u8>> {
    let etag_bytes = match &entry.etag {
        Some(etag) => u16::try_from(etag.len()).ok().filter(|bytes| *bytes != NO_ETAG)?,
        None => NO_ETAG,
    };
    let mut index = Vec::new();
    index.extend(entry.sequence.to_le_bytes());
    index.extend(entry.modified.as_second().to_le_bytes());
    index.extend(entry.modified.subsec_nanosecond().to_le_bytes());
    index.extend(u32::try_from(entry.bytes).ok()?.to_le_bytes());
    index.extend(entry.digest.as_bytes());
    index.extend(etag_bytes.to_le_bytes());
    index.extend(entry.etag.as_deref().unwrap_or_default().as_bytes());
    Some(index)
}

fn parse_index(mut index: &[u8]) -> Option<Vec<Entry>> {
    let (mut entries, mut at) = (Vec::new(), 0_usize);
    while !index.is_empty() {
        let sequence = u64::from_le_bytes(take(&mut index)?);
        let seconds = i64::from_le_bytes(take(&mut index)?);
        let modified = Timestamp::new(seconds, i32::from_le_bytes(take(&mut index)?)).ok()?;
        let bytes = usize::try_from(u32::from_le_bytes(take(&mut index)?)).ok()?;
        let digest = Digest::from_bytes(take(&mut index)?);
        let etag = match u16::from_le_bytes(take(&mut index)?) {
            NO_ETAG => None,
            length => {
                let (etag, rest) = index.split_at_checked(length.into())?;
                index = rest;
                Some(std::str::from_utf8(etag).ok()?.to_owned())
            }
        };
        entries.push(Entry { sequence, modified, etag, digest, at, bytes });
        at = at.checked_add(bytes)?;
    }
    Some(entries)
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let entry = |sequence, modified: &str, etag: Option<&str>, at, record: &[u8]| Entry {
            sequence,
            modified: modified.parse().expect("a time"),
            etag: etag.map(str::to_owned),
            digest: sha256(record),
            at,
            bytes: record.len(),
        };
        let entries = vec![
            entry(1, "2026-11-13T12:34:56.789Z", Some("abc"), 0, b"first"),
            entry(u64::MAX, "1969-12-31T23:59:59.5Z", None, 5, b""),
            entry(7, "2026-11-13T12:34:56Z", Some(""), 5, b"second"),
        ];
        Frame::build(entries, b"firstsecond").expect("a frame")
    }

    #[test]
    fn a_frame_comes_back_and_leaves_what_follows() {
        let built = frame();
        let file = Bytes::from([&built.stored[..], b"more"].concat());
        let parsed = Frame::parse(&file).expect("a frame");
        assert_eq!((&parsed.entries, &parsed.stored), (&built.entries, &built.stored));
        assert_eq!(parsed.open().expect("its records"), "firstsecond");
    }

    #[test]
    fn no_bit_and_no_byte_of_a_frame_can_be_missing_or_other() {
        let stored = frame().stored;
        for byte in 0..stored.len() {
            assert!(Frame::parse(&stored.slice(..byte)).is_none(), "cut off at {byte}");
            for bit in 0..8 {
                let mut damaged = stored.to_vec();
                damaged[byte] ^= 1 << bit;
                assert!(Frame::parse(&damaged.into()).is_none(), "bit {bit} of byte {byte}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_not_built_and_not_opened() {
        let entry = |bytes| Entry {
            sequence: 1,
            modified: Timestamp::UNIX_EPOCH,
            etag: None,
            digest: sha256(b""),
            at: 0,
            bytes,
        };
        assert!(Frame::build(vec![entry(MAX_FRAME_BYTES + 1)], &vec![0; MAX_FRAME_BYTES + 1]).is_none());
        // The index of this one says more than its body holds.
        let lies = Frame::build(vec![entry(MAX_FRAME_BYTES + 1)], b"x").expect("a frame");
        assert!(Frame::parse(&lies.stored).is_none());
        let lies = Frame::build(vec![entry(2)], b"x").expect("a frame");
        assert_eq!(Frame::parse(&lies.stored).expect("a frame").open(), None);
    }
}
