//! Making a repository older than it is: records signed again by the host's own key with other times, and objects with other
//! times by the server's clock, which for a directory is its files' and for `s3s-fs` too.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use sealift::crypto::Signer;
use sealift::format::ranges::ranges;
use sealift::format::{Descriptor, Record, RepositoryId, SignedRecord, layout};
use sealift::history::TrustStore;
use sealift::host::load_signer;

use super::world::World;

/// Noon, UTC, so many days ago: never near the end of a day.
pub fn days_ago(days: i64) -> Timestamp {
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let noon = today.to_datetime(jiff::civil::time(12, 0, 0, 0)).to_zoned(jiff::tz::TimeZone::UTC).expect("a time");
    noon.timestamp() - SignedDuration::from_hours(24 * days)
}

/// A repository as files, and the host that writes it.
pub struct Past<'a> {
    world: &'a World,
    folder: PathBuf,
    id: RepositoryId,
    signer: Signer,
}

impl<'a> Past<'a> {
    /// That of `world`, whose objects lie in `folder`.
    pub fn of(world: &'a World, folder: &Path) -> Self {
        let json = fs::read(folder.join("repository.json")).expect("repository.json");
        let id = Descriptor::parse(&json).expect("a descriptor").repository;
        let signer = load_signer(&world.state_of_repository()).expect("read").expect("a signer");
        Self { world, folder: folder.to_owned(), id, signer }
    }

    /// Takes the snapshots that are there back in time: the first one so many days ago, and so on. Each object is as old as
    /// the first snapshot that needs it.
    pub fn age(&self, days: &[i64]) {
        let records = self.records();
        assert_eq!(records.len(), days.len(), "a number of days for each snapshot");
        let mut aged = HashSet::new();
        let mut previous = None;
        for (old, days) in records.into_iter().zip(days) {
            let mut record = old.record;
            record.time = days_ago(*days);
            record.previous = previous.or(record.previous);
            let packs = record.packs().map(|pack| layout::pack(&pack.0));
            let keys = record.epochs.iter().map(|epoch| layout::data_key(epoch.epoch, 1));
            let objects: Vec<_> = packs.chain(keys).chain([layout::manifest(&record.manifest.name)]).collect();
            for object in objects.iter().filter(|object| aged.insert(object.to_string())) {
                let before = days_ago(*days) - SignedDuration::from_mins(1);
                set_time(&self.folder.join(object.as_str()), before);
            }
            previous = Some(self.store(&record, days_ago(*days)));
        }
    }

    /// Adds snapshots that show what the newest one does, signed and stored at these times; their numbers.
    pub fn repeat(&self, times: impl IntoIterator<Item = (Timestamp, Timestamp)>) -> Vec<u64> {
        let newest = self.records().pop().expect("a snapshot");
        let (mut record, mut previous) = (newest.record, newest.signed.digest());
        let repeat = |(signed, stored)| {
            record.earlier = ranges((1..=record.sequence).filter(|sequence| self.path(*sequence).exists()));
            record.sequence += 1;
            record.previous = Some(previous);
            record.time = signed;
            previous = self.store(&record, stored);
            record.sequence
        };
        times.into_iter().map(repeat).collect()
    }

    /// What a thief of the host's key does: a snapshot under any free number, which names `earlier` ones as it likes.
    pub fn plant(&self, sequence: u64, earlier: &[(u64, u64)], time: Timestamp) {
        let newest = self.records().pop().expect("a snapshot").record;
        let record = Record { sequence, earlier: earlier.to_vec(), previous: None, time, ..newest };
        let path = self.path(sequence);
        assert!(!path.exists(), "the number is free");
        fs::write(&path, record.sign(&self.signer).expect("signed").bytes()).expect("stored");
    }

    /// The newest snapshot as a newer sealift would sign it.
    pub fn newer_format(&self) {
        let newest = self.records().pop().expect("a snapshot").record;
        let path = self.path(newest.sequence);
        let newer = Record { format: Record::FORMAT + 1, ..newest };
        fs::write(path, newer.sign(&self.signer).expect("signed").bytes()).expect("stored");
    }

    /// Signs and stores a record; its hash. The host takes the newest for its own.
    fn store(&self, record: &Record, stored: Timestamp) -> sealift::crypto::Digest {
        let signed = record.sign(&self.signer).expect("signed");
        fs::write(self.path(record.sequence), signed.bytes()).expect("stored");
        set_time(&self.path(record.sequence), stored);
        let state = self.world.state_of_repository();
        fs::write(state.join("parent.record"), signed.bytes()).expect("the parent");
        // What it remembers of the records is no longer so; whose they are is.
        let mut known = TrustStore::load(&state).expect("trust.json");
        known.looks.clear();
        known.save(&state).expect("trust.json");
        signed.digest()
    }

    fn records(&self) -> Vec<SignedRecord> {
        let entries = fs::read_dir(self.folder.join("snapshots")).expect("records");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "record"));
        paths.sort();
        let read = |path| SignedRecord::read_own(fs::read(path).expect("a record").into(), &self.id).expect("a record");
        paths.into_iter().map(read).collect()
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.folder.join(layout::record(sequence).as_str())
    }
}

pub fn set_time(path: &Path, time: Timestamp) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_second().unsigned_abs());
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a time");
}
