//! The manifest: what every source looked like at one instant, and where its blocks lie.
//!
//! Plain, it is one line of JSON, then binary tails, one a source, in order. `FORMAT.md` has the layout.
//! What [`Manifest::parse`] returns is consistent: names are safe file names and unique, every run lies inside its
//! pack table, and the runs of a source cover it exactly.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{FormatError, parse};
use super::link::{Link, LinkTable};
use super::pack::blocks_per_pack;
use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Digest, MAX_SEALED_BYTES, Sealed, Sealing};

const FORMAT: u64 = 1;

/// Blocks that lie back to back in one pack and come back to back in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index into the manifest's pack table.
    pub pack: u32,
    /// The first block's position in the pack.
    pub slot: u32,
    /// How many blocks.
    pub blocks: u32,
}

/// Where a source's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the manifest itself.
    Inline(Zeroizing<Vec<u8>>),
    /// In packs, untransformed.
    Blocks { block_size: u32, runs: Vec<Run> },
    /// In packs, with the links taken out.
    Database { page_size: u32, runs: Vec<Run>, links: LinkTable },
}

/// One source at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    pub bytes: u64,
    /// By [`crate::crypto::file_digest`].
    pub digest: Digest,
    pub body: Body,
}

impl Entry {
    pub fn is_database(&self) -> bool {
        matches!(self.body, Body::Database { .. })
    }

    /// The packs that its blocks lie in, as indices into the manifest's table.
    pub fn used_packs(&self) -> BTreeSet<u32> {
        match &self.body {
            Body::Inline(_) => BTreeSet::new(),
            Body::Blocks { runs, .. } | Body::Database { runs, .. } => runs.iter().map(|run| run.pack).collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub entries: Vec<Entry>,
    /// The packs that the runs point into.
    pub packs: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u64,
    packs: Vec<Digest>,
    sources: Vec<EntryHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Inline,
    Blocks,
    Database,
}

#[derive(Serialize, Deserialize)]
struct EntryHead {
    name: String,
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime_ns: i64,
    bytes: u64,
    digest: Digest,
    #[serde(default)]
    block_size: u32,
    #[serde(default)]
    runs: u32,
    #[serde(default)]
    links: u32,
}

impl Manifest {
    /// The plain bytes: equal for equal manifests.
    pub fn to_plain(&self) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        let sources = self.entries.iter().map(EntryHead::of).collect::<Result<_, _>>()?;
        let head = Head { format: FORMAT, packs: self.packs.clone(), sources };
        let json = serde_json::to_vec(&head).map_err(|error| FormatError::invalid(error.to_string()))?;
        let mut plain = Zeroizing::new(Vec::with_capacity(json.len() + 1 + self.tail_bytes()));
        plain.extend_from_slice(&json);
        plain.push(b'\n');
        for entry in &self.entries {
            entry.body.write_tail(&mut plain);
        }
        Ok(plain)
    }

    fn tail_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.body.tail_bytes()).sum()
    }

    /// Compresses and encrypts plain bytes.
    pub fn seal(plain: &[u8], recipient: &DataRecipient) -> std::io::Result<Sealed> {
        let mut encoder = zstd::Encoder::new(Sealing::to(recipient)?, 3)?;
        std::io::Write::write_all(&mut encoder, plain)?;
        encoder.finish()?.finish()
    }

    /// Opens, decompresses and reads a stored manifest.
    pub fn open(sealed: &[u8], identity: &DataIdentity) -> Result<Self, ManifestError> {
        let compressed = identity.open(sealed)?;
        let damaged = |error: std::io::Error| FormatError::invalid(format!("it does not decompress: {error}"));
        let mut plain = Zeroizing::new(Vec::new());
        let decoder = zstd::Decoder::with_buffer(compressed.as_slice()).map_err(damaged)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(decoder, MAX_SEALED_BYTES), &mut plain).map_err(damaged)?;
        Ok(Self::parse(&plain)?)
    }

    pub fn parse(plain: &[u8]) -> Result<Self, FormatError> {
        let end = plain.iter().position(|byte| *byte == b'\n').ok_or_else(|| FormatError::invalid("it has no head"))?;
        let head: Head = parse(&plain[..end], FORMAT)?;
        let mut tail = Tail(&plain[end + 1..]);
        let mut names = HashSet::new();
        let mut entries = Vec::with_capacity(head.sources.len());
        for source in head.sources {
            if !is_safe_name(&source.name) || !names.insert(source.name.clone()) {
                return Err(FormatError::invalid(format!("{:?} is not a name of its own", source.name)));
            }
            entries.push(source.with_tail(&mut tail, head.packs.len())?);
        }
        if !tail.0.is_empty() {
            return Err(FormatError::invalid("there is more in it than its head says"));
        }
        Ok(Self { entries, packs: head.packs })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Sealed(#[from] CryptoError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Whether `name` is a plain file name that can lead nowhere else.
pub fn is_safe_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

impl EntryHead {
    fn of(entry: &Entry) -> Result<Self, FormatError> {
        let (kind, block_size, runs, links) = match &entry.body {
            Body::Inline(_) => (Kind::Inline, 0, 0, 0),
            Body::Blocks { block_size, runs } => (Kind::Blocks, *block_size, runs.len(), 0),
            Body::Database { page_size, runs, links } => {
                (Kind::Database, *page_size, runs.len(), links.as_slice().len())
            }
        };
        let count = |n: usize| u32::try_from(n).map_err(|_| FormatError::invalid("too many runs"));
        Ok(Self {
            name: entry.name.clone(),
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime_ns: entry.mtime_ns,
            bytes: entry.bytes,
            digest: entry.digest,
            block_size,
            runs: count(runs)?,
            links: count(links)?,
        })
    }

    fn with_tail(self, tail: &mut Tail<'_>, packs: usize) -> Result<Entry, FormatError> {
        let body = match self.kind {
            Kind::Inline => Body::Inline(Zeroizing::new(tail.take(self.bytes)?.to_vec())),
            Kind::Blocks => Body::Blocks { block_size: self.checked_block_size()?, runs: self.runs(tail, packs)? },
            Kind::Database => Body::Database {
                page_size: self.checked_block_size()?,
                runs: self.runs(tail, packs)?,
                links: self.links(tail)?,
            },
        };
        Ok(Entry {
            name: self.name,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime_ns: self.mtime_ns,
            bytes: self.bytes,
            digest: self.digest,
            body,
        })
    }

    fn checked_block_size(&self) -> Result<u32, FormatError> {
        let good = self.block_size.is_power_of_two() && (512..=65_536).contains(&self.block_size);
        good.then_some(self.block_size).ok_or_else(|| FormatError::invalid("no such block size"))
    }

    fn runs(&self, tail: &mut Tail<'_>, packs: usize) -> Result<Vec<Run>, FormatError> {
        let per_pack = blocks_per_pack(self.block_size as usize) as u64;
        let mut blocks = 0;
        let words = tail.words::<3>(self.runs)?;
        // Only now is it clear that there are so many.
        let mut runs = Vec::with_capacity(self.runs as usize);
        for [pack, slot, count] in words {
            let end = u64::from(slot) + u64::from(count);
            if pack as usize >= packs || count == 0 || end > per_pack {
                return Err(FormatError::invalid(format!("{:?} points outside its packs", self.name)));
            }
            blocks += u64::from(count);
            runs.push(Run { pack, slot, blocks: count });
        }
        if blocks != self.bytes.div_ceil(u64::from(self.block_size)) || blocks > u64::from(u32::MAX) {
            return Err(FormatError::invalid(format!("the runs of {:?} do not cover it", self.name)));
        }
        Ok(runs)
    }

    fn links(&self, tail: &mut Tail<'_>) -> Result<LinkTable, FormatError> {
        let links: Vec<Link> = tail.words::<2>(self.links)?.map(|[page, link]| Link { page, link }).collect();
        // It was taken out of a page that begins with a byte 0.
        if links.iter().any(|link| link.link >= 1 << 24) {
            return Err(FormatError::invalid("a link is too large"));
        }
        LinkTable::new(links).ok_or_else(|| FormatError::invalid("links are out of order"))
    }
}

impl Body {
    fn runs(&self) -> &[Run] {
        match self {
            Self::Inline(_) => &[],
            Self::Blocks { runs, .. } | Self::Database { runs, .. } => runs,
        }
    }

    fn links(&self) -> &[Link] {
        match self {
            Self::Database { links, .. } => links.as_slice(),
            Self::Inline(_) | Self::Blocks { .. } => &[],
        }
    }

    fn tail_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Blocks { .. } | Self::Database { .. } => self.runs().len() * 12 + self.links().len() * 8,
        }
    }

    fn write_tail(&self, plain: &mut Vec<u8>) {
        if let Self::Inline(bytes) = self {
            plain.extend_from_slice(bytes);
        }
        for run in self.runs() {
            for word in [run.pack, run.slot, run.blocks] {
                plain.extend_from_slice(&word.to_le_bytes());
            }
        }
        for link in self.links() {
            plain.extend_from_slice(&link.page.to_le_bytes());
            plain.extend_from_slice(&link.link.to_le_bytes());
        }
    }
}

/// What is still to be read of the plain bytes.
struct Tail<'a>(&'a [u8]);

impl<'a> Tail<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], FormatError> {
        let short = || FormatError::invalid("it ends too early");
        let count = usize::try_from(count).map_err(|_| short())?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// `count` groups of `N` little-endian 32-bit numbers.
    fn words<const N: usize>(
        &mut self,
        count: u32,
    ) -> Result<impl Iterator<Item = [u32; N]> + use<'a, N>, FormatError> {
        let bytes = self.take(u64::from(count) * 4 * N as u64)?;
        let (words, _) = bytes.as_chunks::<4>();
        let (groups, _) = words.as_chunks::<N>();
        Ok(groups.iter().map(|group| group.map(u32::from_le_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    fn entry(name: &str, bytes: u64, body: Body) -> Entry {
        Entry {
            name: name.to_owned(),
            mode: 0o600,
            uid: 1000,
            gid: 1000,
            mtime_ns: 5,
            bytes,
            digest: sha256(b""),
            body,
        }
    }

    fn manifest() -> Manifest {
        let runs = vec![Run { pack: 0, slot: 1, blocks: 2 }, Run { pack: 1, slot: 0, blocks: 1 }];
        let links = LinkTable::new(vec![Link { page: 3, link: 0 }]).expect("in order");
        Manifest {
            entries: vec![
                entry("trinity.db", 3 * 4096, Body::Database { page_size: 4096, runs, links }),
                entry(".env", 3, Body::Inline(Zeroizing::new(b"A=b".to_vec()))),
                entry("empty.db", 0, Body::Database { page_size: 4096, runs: vec![], links: LinkTable::default() }),
            ],
            packs: vec![sha256(b"1"), sha256(b"2")],
        }
    }

    fn refusal(broken: &Manifest) -> String {
        Manifest::parse(&broken.to_plain().expect("plain")).expect_err("refused").to_string()
    }

    #[test]
    fn a_manifest_reads_back_what_it_writes() {
        let identity = DataIdentity::generate();
        let plain = manifest().to_plain().expect("plain");
        let sealed = Manifest::seal(&plain, &identity.recipient()).expect("sealed");
        assert_eq!(Manifest::open(sealed.bytes(), &identity).expect("opened"), manifest());
    }

    #[test]
    fn names_that_lead_elsewhere_or_come_twice_are_refused() {
        for name in ["", "..", "a/b", "/etc/passwd", "trinity.db", "a\nb"] {
            let mut broken = manifest();
            broken.entries[1].name = name.to_owned();
            assert!(refusal(&broken).contains("not a name of its own"), "{name:?}");
        }
    }

    #[test]
    fn runs_outside_the_packs_or_short_of_the_file_are_refused() {
        let mut broken = manifest();
        broken.packs.pop();
        assert!(refusal(&broken).contains("outside its packs"));
        let mut broken = manifest();
        broken.entries[0].bytes += 4096;
        assert!(refusal(&broken).contains("do not cover it"));
    }

    #[test]
    fn a_cut_or_lengthened_manifest_is_refused() {
        let plain = manifest().to_plain().expect("plain");
        assert!(Manifest::parse(&plain[..plain.len() - 1]).is_err());
        assert!(Manifest::parse(&[&plain[..], b"x"].concat()).is_err());
    }

    /// Room for so many runs would end the process.
    #[test]
    fn a_head_that_claims_more_runs_than_there_are_is_refused_before_room_is_made_for_them() {
        let plain = manifest().to_plain().expect("plain");
        let end = plain.iter().position(|byte| *byte == b'\n').expect("a head");
        let mut head: serde_json::Value = serde_json::from_slice(&plain[..end]).expect("JSON");
        head["sources"][0]["runs"] = u32::MAX.into();
        let forged = [head.to_string().as_bytes(), &plain[end..]].concat();
        assert!(Manifest::parse(&forged).expect_err("refused").to_string().contains("too early"));
    }

    #[test]
    fn the_largest_numbers_are_refused_and_overflow_nothing() {
        let plain = manifest().to_plain().expect("plain");
        let end = plain.iter().position(|byte| *byte == b'\n').expect("a head");
        for source in 0..3 {
            for (member, values) in [
                ("bytes", &[u64::MAX, u64::MAX - 4095, u64::from(u32::MAX)][..]),
                ("runs", &[u64::from(u32::MAX), u64::MAX]),
                ("links", &[u64::from(u32::MAX), u64::MAX]),
                ("block_size", &[u64::from(u32::MAX), u64::MAX, 1 << 31]),
            ] {
                // What an inline source does not use is not looked at.
                for value in values.iter().filter(|_| source != 1 || member == "bytes") {
                    let mut head: serde_json::Value = serde_json::from_slice(&plain[..end]).expect("JSON");
                    head["sources"][source][member] = (*value).into();
                    let forged = [head.to_string().as_bytes(), &plain[end..]].concat();
                    assert!(Manifest::parse(&forged).is_err(), "{member} {value} of source {source}");
                }
            }
        }
        for run in [
            Run { pack: u32::MAX, slot: 1, blocks: 2 },
            Run { pack: 0, slot: u32::MAX, blocks: 2 },
            Run { pack: 0, slot: 1, blocks: u32::MAX },
            Run { pack: 0, slot: u32::MAX, blocks: u32::MAX },
        ] {
            let mut broken = manifest();
            let Body::Database { runs, .. } = &mut broken.entries[0].body else { unreachable!() };
            runs[0] = run;
            assert!(refusal(&broken).contains("outside its packs"), "{run:?}");
        }
    }

    #[test]
    fn a_newer_format_is_called_newer() {
        let error = Manifest::parse(b"{\"format\":2,\"new\":[]}\n").expect_err("refused").to_string();
        assert_eq!(error, "it has format 2, and this sealift reads format 1");
    }
}
