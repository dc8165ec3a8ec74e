//! The catalog: which blocks are stored, and where. A cache of what this host put into the repository itself.
//!
//! In memory: 16 bytes a block for its fingerprint and about 6 bytes for the open-addressed table over them, so
//! 2.6 million pages (10 GB) take about 57 MB. On disk: a log with one checksummed entry a pack, appended and synced
//! while the pack is sent, so that an interrupted run's packs are found again; only a listing shows which of them
//! arrived. What does not verify, and all behind it, is cut off; the caller says aloud that something was lost.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::StateError;
use crate::crypto::{Digest, Fingerprint, sha256};
use crate::fsx;

const MAGIC: &[u8; 18] = b"sealift catalog 1\n";
const HEAD_BYTES: usize = 32 + 8 + 4 + 4 + 4;
const SLOT_BITS: u32 = 15;
const EMPTY: u32 = u32::MAX;

/// Where a block lies: the pack's ordinal in this catalog, and its position there. 4 bytes, because there is one
/// for each page of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location(u32);

impl Location {
    /// Stands for "nowhere yet" in a page map.
    pub const UNKNOWN: Self = Self(EMPTY);

    fn new(ordinal: usize, slot: usize) -> Self {
        Self(((ordinal as u32) << SLOT_BITS) | slot as u32)
    }

    pub fn ordinal(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }

    pub fn slot(self) -> u32 {
        self.0 & ((1 << SLOT_BITS) - 1)
    }
}

/// A pack that the catalog knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogPack {
    pub name: Digest,
    /// Stored size.
    pub bytes: u64,
    pub epoch: u32,
    pub block_size: u32,
    pub fingerprints: Vec<Fingerprint>,
}

/// What a log on disk holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub packs: Vec<CatalogPack>,
    /// `false`: there is no log, or some of it does not verify, which costs an upload.
    pub whole: bool,
    /// Up to here the log verifies; 0 where it is none.
    good_bytes: u64,
}

/// A pack with its name, or one that is still being written.
struct Slot {
    stored: Option<(Digest, u64, u32)>,
    block_size: u32,
    fingerprints: Vec<Fingerprint>,
}

#[derive(Default)]
pub struct Catalog {
    packs: Vec<Slot>,
    table: Vec<u32>,
    blocks: usize,
    /// The log holds entries that are not of these packs, or not as they are by now.
    surplus: bool,
}

impl Catalog {
    /// The most packs that one catalog can number: 131,071, or 2 TB of blocks.
    pub const MAX_PACKS: usize = (1 << (32 - SLOT_BITS)) - 1;

    /// A catalog of stored packs, up to [`Catalog::MAX_PACKS`] of them.
    pub fn of(packs: impl IntoIterator<Item = CatalogPack>) -> Self {
        let slot = |pack: CatalogPack| Slot {
            stored: Some((pack.name, pack.bytes, pack.epoch)),
            block_size: pack.block_size,
            fingerprints: pack.fingerprints,
        };
        let packs: Vec<Slot> = packs.into_iter().take(Self::MAX_PACKS).map(slot).collect();
        let blocks = packs.iter().map(|pack| pack.fingerprints.len()).sum();
        let mut catalog = Self { packs, table: Vec::new(), blocks, surplus: false };
        catalog.rebuild();
        catalog
    }

    /// The packs of a log that `usable` names.
    pub fn of_log(log: Loaded, usable: impl FnMut(&CatalogPack) -> bool) -> Self {
        let logged = log.packs.len();
        let mut catalog = Self::of(log.packs.into_iter().filter(usable));
        catalog.surplus = catalog.packs.len() < logged;
        catalog
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// How many packs are numbered.
    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// How many blocks a pack has so far, and their size; 0 blocks for a retired one.
    pub fn shape(&self, ordinal: usize) -> (usize, u32) {
        let pack = &self.packs[ordinal];
        (pack.fingerprints.len(), pack.block_size)
    }

    /// Where the block with this fingerprint lies.
    pub fn find(&self, fingerprint: &Fingerprint) -> Option<Location> {
        if self.table.is_empty() {
            return None;
        }
        let mut at = start(fingerprint, self.table.len());
        loop {
            match self.table[at] {
                EMPTY => return None,
                found if self.fingerprint(Location(found)) == fingerprint => return Some(Location(found)),
                _ => at = after(at, self.table.len()),
            }
        }
    }

    fn fingerprint(&self, location: Location) -> &Fingerprint {
        &self.packs[location.ordinal()].fingerprints[location.slot() as usize]
    }

    /// Begins a pack; its blocks can be found from the moment they are added. `None` past [`Catalog::MAX_PACKS`].
    pub fn open_pack(&mut self, block_size: u32) -> Option<usize> {
        let ordinal = self.packs.len();
        if ordinal >= Self::MAX_PACKS {
            return None;
        }
        self.packs.push(Slot { stored: None, block_size, fingerprints: Vec::new() });
        Some(ordinal)
    }

    /// Adds the next block of an open pack.
    pub fn add(&mut self, ordinal: usize, fingerprint: Fingerprint) -> Location {
        let location = Location::new(ordinal, self.packs[ordinal].fingerprints.len());
        self.packs[ordinal].fingerprints.push(fingerprint);
        self.blocks += 1;
        if self.blocks * 4 > self.table.len() * 3 {
            self.rebuild();
        } else {
            insert(&mut self.table, &fingerprint, location);
        }
        location
    }

    fn rebuild(&mut self) {
        // The old one goes first: both at once would be the peak of a large catalog.
        self.table = Vec::new();
        let mut table = vec![EMPTY; (self.blocks * 3 / 2).max(1024)];
        // The newest first: of a block that lies in two packs, that one is found, as an interrupted compaction needs
        // it.
        for (ordinal, pack) in self.packs.iter().enumerate().rev() {
            for (slot, fingerprint) in pack.fingerprints.iter().enumerate() {
                insert(&mut table, fingerprint, Location::new(ordinal, slot));
            }
        }
        self.table = table;
    }

    /// Forgets the blocks of these packs, so that they are stored again where they are still needed. The log keeps them
    /// until the next [`Catalog::save`]: an interrupted run has retired nothing.
    pub fn retire(&mut self, ordinals: &[usize]) {
        for ordinal in ordinals {
            self.blocks -= std::mem::take(&mut self.packs[*ordinal].fingerprints).len();
            self.surplus = true;
        }
        self.rebuild();
    }

    /// Gives a written pack its name.
    pub fn close_pack(&mut self, ordinal: usize, name: Digest, bytes: u64, epoch: u32) {
        self.packs[ordinal].stored = Some((name, bytes, epoch));
        self.packs[ordinal].fingerprints.shrink_to_fit();
    }

    /// Name and stored size of a closed pack.
    pub fn pack(&self, ordinal: usize) -> Option<(Digest, u64)> {
        self.packs.get(ordinal)?.stored.map(|(name, bytes, _)| (name, bytes))
    }

    /// The log entry of a closed pack.
    pub fn entry(&self, ordinal: usize) -> Option<Vec<u8>> {
        let pack = &self.packs[ordinal];
        let (name, bytes, epoch) = pack.stored?;
        let mut entry = Vec::with_capacity(HEAD_BYTES + pack.fingerprints.len() * 16 + 8);
        entry.extend_from_slice(name.as_bytes());
        entry.extend_from_slice(&bytes.to_le_bytes());
        entry.extend_from_slice(&epoch.to_le_bytes());
        entry.extend_from_slice(&pack.block_size.to_le_bytes());
        entry.extend_from_slice(&(pack.fingerprints.len() as u32).to_le_bytes());
        entry.extend_from_slice(pack.fingerprints.as_flattened());
        let check = sha256(&entry);
        entry.extend_from_slice(&check.as_bytes()[..8]);
        Some(entry)
    }

    /// Adds an entry to the log in `dir`, durably. One at a time.
    pub fn append(dir: &Path, entry: &[u8]) -> Result<(), StateError> {
        let path = path(dir);
        let append = || -> io::Result<()> {
            if !path.exists() {
                fsx::write_atomic(&path, MAGIC)?;
            }
            let mut file = File::options().append(true).open(&path)?;
            file.write_all(entry)?;
            file.sync_data()
        };
        append().map_err(StateError::io(&path))
    }

    /// Leaves exactly the packs that `keep` names in the log in `dir`, to which all that are closed were appended. It
    /// is replaced only where it holds anything else: at 10 GB of database that is 42 MB.
    pub fn save(&self, dir: &Path, keep: impl Fn(&Digest) -> bool) -> Result<(), StateError> {
        let path = path(dir);
        let kept = |ordinal: &usize| self.pack(*ordinal).is_some_and(|(name, _)| keep(&name));
        if !self.surplus && (0..self.packs.len()).all(|ordinal| kept(&ordinal)) && path.exists() {
            return Ok(());
        }
        let entries = (0..self.packs.len()).filter(kept).filter_map(|ordinal| self.entry(ordinal));
        fsx::write_atomic_with(&path, |file| {
            file.write_all(MAGIC)?;
            entries.into_iter().try_for_each(|entry| file.write_all(&entry))
        })
        .map_err(StateError::io(&path))
    }

    /// Reads the packs in the log of `dir`, and changes nothing.
    pub fn load(dir: &Path) -> Result<Loaded, StateError> {
        let path = path(dir);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
            Err(error) => return Err(StateError::Io { path, error }),
        };
        let bytes = file.metadata().map_err(StateError::io(&path))?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; MAGIC.len()];
        if reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Ok(Loaded::default());
        }
        let mut loaded = Loaded { whole: false, good_bytes: MAGIC.len() as u64, packs: Vec::new() };
        while let Some((pack, length)) = read_entry(&mut reader) {
            loaded.packs.push(pack);
            loaded.good_bytes += length;
        }
        loaded.whole = loaded.good_bytes == bytes;
        Ok(loaded)
    }

    /// Makes the log in `dir` ready for more entries: cuts off what did not verify, or drops a log that is none.
    pub fn mend(dir: &Path, loaded: &Loaded) -> Result<(), StateError> {
        if loaded.good_bytes == 0 {
            return Self::drop_log(dir);
        }
        let path = path(dir);
        let cut = || -> io::Result<()> {
            let file = File::options().write(true).open(&path)?;
            file.set_len(loaded.good_bytes)?;
            file.sync_data()
        };
        cut().map_err(StateError::io(&path))
    }

    /// Forgets the log in `dir`.
    pub fn drop_log(dir: &Path) -> Result<(), StateError> {
        let path = path(dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::Io { path, error }),
            _ => Ok(()),
        }
    }
}

/// Where a table of `length` places is searched for this fingerprint first.
fn start(fingerprint: &Fingerprint, length: usize) -> usize {
    // The fingerprint is a keyed hash: any part of it is as good as a hash of it, here as a fraction of the length.
    let [a, b, c, d, ..] = *fingerprint;
    let fraction = u64::from(u32::from_le_bytes([a, b, c, d]));
    ((fraction * length as u64) >> 32) as usize
}

fn after(at: usize, length: usize) -> usize {
    if at + 1 == length { 0 } else { at + 1 }
}

fn insert(table: &mut [u32], fingerprint: &Fingerprint, location: Location) {
    let mut at = start(fingerprint, table.len());
    while table[at] != EMPTY {
        at = after(at, table.len());
    }
    table[at] = location.0;
}

/// The next entry and its length in the log; `None` at the end or where it does not verify.
fn read_entry(reader: &mut impl Read) -> Option<(CatalogPack, u64)> {
    let mut head = [0; HEAD_BYTES];
    reader.read_exact(&mut head).ok()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let count = word(48) as usize;
    if count > 1 << SLOT_BITS {
        return None;
    }
    let mut fingerprints = vec![[0; 16]; count];
    reader.read_exact(fingerprints.as_flattened_mut()).ok()?;
    let mut check = [0; 8];
    reader.read_exact(&mut check).ok()?;
    if sha256(&[&head, fingerprints.as_flattened()].concat()).as_bytes()[..8] != check {
        return None;
    }
    let mut name = [0; 32];
    name.copy_from_slice(&head[..32]);
    let bytes = u64::from(word(32)) | u64::from(word(36)) << 32;
    let pack =
        CatalogPack { name: Digest::from_bytes(name), bytes, epoch: word(40), block_size: word(44), fingerprints };
    Some((pack, (HEAD_BYTES + count * 16 + 8) as u64))
}

fn path(dir: &Path) -> PathBuf {
    dir.join("catalog")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(n: u32) -> Fingerprint {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&sha256(&n.to_le_bytes()).as_bytes()[..16]);
        fingerprint
    }

    fn pack(from: u32, to: u32) -> CatalogPack {
        let fingerprints = (from..to).map(fingerprint).collect();
        CatalogPack { name: sha256(&from.to_le_bytes()), bytes: 99, epoch: 1, block_size: 4096, fingerprints }
    }

    #[test]
    fn every_block_added_is_found_and_no_other() {
        let catalog = Catalog::of([pack(0, 4096), pack(5000, 9000)]);
        for n in (0..4096).chain(5000..9000) {
            let location = catalog.find(&fingerprint(n)).expect("known");
            let expected = if n < 5000 { (0, n) } else { (1, n - 5000) };
            assert_eq!((location.ordinal(), location.slot()), expected);
        }
        assert!((4096..5000).all(|n| catalog.find(&fingerprint(n)).is_none()));
    }

    #[test]
    fn blocks_of_a_retired_pack_are_unknown_until_they_are_added_again() {
        let mut catalog = Catalog::of([pack(0, 10), pack(10, 20), pack(20, 30)]);
        catalog.retire(&[1]);
        let known = |catalog: &Catalog, n| catalog.find(&fingerprint(n)).map(Location::ordinal);
        assert!((10..20).all(|n| known(&catalog, n).is_none()));
        assert!((0..10).chain(20..30).all(|n| known(&catalog, n).is_some()));
        assert_eq!((catalog.blocks(), catalog.shape(1)), (20, (0, 4096)));
        let ordinal = catalog.open_pack(4096).expect("room");
        catalog.add(ordinal, fingerprint(12));
        assert_eq!(known(&catalog, 12), Some(3));
    }

    #[test]
    fn of_a_block_in_two_packs_the_newer_is_found_until_that_is_retired() {
        let mut catalog = Catalog::of([pack(0, 10), pack(5, 15)]);
        assert_eq!(catalog.find(&fingerprint(7)).map(Location::ordinal), Some(1));
        catalog.retire(&[1]);
        assert_eq!(catalog.find(&fingerprint(7)).map(Location::ordinal), Some(0));
    }

    #[test]
    fn the_log_reads_back_and_a_half_written_entry_is_cut_off() {
        let dir = tempfile::tempdir().expect("scratch");
        let catalog = Catalog::of([pack(0, 10), pack(10, 20)]);
        for ordinal in [0, 1] {
            Catalog::append(dir.path(), &catalog.entry(ordinal).expect("closed")).expect("appended");
        }
        let whole = fs::read(path(dir.path())).expect("log");
        fs::write(path(dir.path()), &whole[..whole.len() - 3]).expect("cut");
        let loaded = Catalog::load(dir.path()).expect("read");
        assert!(!loaded.whole && loaded.packs == [pack(0, 10)]);
        Catalog::mend(dir.path(), &loaded).expect("cut");
        let entry = Catalog::of([pack(30, 31)]).entry(0).expect("closed");
        Catalog::append(dir.path(), &entry).expect("appended");
        let loaded = Catalog::load(dir.path()).expect("read");
        assert!(loaded.whole && loaded.packs == [pack(0, 10), pack(30, 31)]);
    }

    #[test]
    fn a_flipped_bit_loses_what_follows_and_never_lies() {
        let dir = tempfile::tempdir().expect("scratch");
        Catalog::of([pack(0, 10), pack(10, 20)]).save(dir.path(), |_| true).expect("saved");
        let whole = fs::read(path(dir.path())).expect("log");
        let flip = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(path(dir.path()), bytes).expect("flipped");
            Catalog::load(dir.path()).expect("read")
        };
        for at in MAGIC.len()..whole.len() {
            let loaded = flip(at);
            let before = usize::from(at >= (MAGIC.len() + whole.len()) / 2);
            assert!(!loaded.whole && loaded.packs == [pack(0, 10)][..before], "byte {at}");
        }
    }

    #[test]
    fn a_log_is_replaced_only_where_it_holds_what_is_not_kept() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("scratch");
        Catalog::of([pack(0, 10), pack(10, 20)]).save(dir.path(), |_| true).expect("saved");
        let inode = || fs::metadata(path(dir.path())).expect("log").ino();
        let load = || Catalog::load(dir.path()).expect("read");
        let first = inode();
        Catalog::of_log(load(), |_| true).save(dir.path(), |_| true).expect("saved");
        assert_eq!(inode(), first, "nothing is new");
        let mut retired = Catalog::of_log(load(), |_| true);
        retired.retire(&[1]);
        retired.save(dir.path(), |name| *name == pack(0, 10).name).expect("saved");
        assert_eq!((inode() == first, load().packs), (false, vec![pack(0, 10)]));
        Catalog::of_log(load(), |_| false).save(dir.path(), |_| true).expect("saved");
        assert_eq!(load().packs, []);
    }

    #[test]
    fn saving_keeps_what_is_asked_for_only() {
        let dir = tempfile::tempdir().expect("scratch");
        let kept = pack(10, 20);
        Catalog::of([pack(0, 10), kept.clone()]).save(dir.path(), |name| *name == kept.name).expect("saved");
        assert_eq!(Catalog::load(dir.path()).expect("read").packs, [kept]);
    }
}
