//! The copies of key files that a host keeps. They are ciphertext: the host cannot open one, but an operator can, should the
//! bucket lose them.
//!
//! `keys/index.json` says what is known of each copy, and what lay under each name at this host's last look. The bytes of a
//! copy are stored next to it as `<epoch>-<version>-<hash>.age`, written first. There is one copy of each content an epoch, whatever
//! names it has. The host never deletes a copy that it made itself.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StateError;
use super::state::{read, read_json, remove, write, write_json};
use crate::crypto::{Digest, Recipient, Sealed};
use crate::fsx;

/// A copy of one key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKey {
    pub epoch: u32,
    /// The key version under which it was seen first.
    pub version: u32,
    pub digest: Digest,
    /// Size in bytes.
    pub bytes: u64,
    /// This host made it, for `recipients`. The host cannot know the recipients of other key files.
    pub own: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// It was in the repository: one that this host made may not have come so far.
    pub stored: bool,
    /// Since when it is there as far as this host knows, by the server's clock where that is known.
    pub first_seen: Timestamp,
    /// It was gone, and a receipt explained that. It is not restored.
    #[serde(default)]
    pub explained: bool,
}

impl KeptKey {
    /// One that this host is about to store.
    pub fn own(epoch: u32, version: u32, sealed: &Sealed, recipients: &[Recipient], now: Timestamp) -> Self {
        let recipients = recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect();
        Self {
            own: true,
            recipients,
            stored: false,
            ..Self::found(epoch, version, sealed.bytes(), sealed.digest(), now)
        }
    }

    /// One that lay in the repository.
    pub fn found(epoch: u32, version: u32, bytes: &Bytes, digest: Digest, now: Timestamp) -> Self {
        Self {
            epoch,
            version,
            digest,
            bytes: bytes.len() as u64,
            own: false,
            recipients: Vec::new(),
            stored: true,
            first_seen: now,
            explained: false,
        }
    }

    pub fn place(&self) -> (u32, u32) {
        (self.epoch, self.version)
    }

    fn is(&self, epoch: u32, digest: &Digest) -> bool {
        self.epoch == epoch && self.digest == *digest
    }

    fn file_name(&self) -> String {
        format!("{}-{}-{:.16}.age", self.epoch, self.version, self.digest.to_string())
    }
}

/// What lay under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedKey {
    pub epoch: u32,
    pub version: u32,
    pub digest: Digest,
    /// Size in bytes.
    pub bytes: u64,
    /// When the repository got it, by its clock. While this and the size stay, it need not be fetched again. `None`: this
    /// host put it there, and has not seen it in a listing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
}

impl NamedKey {
    pub fn place(&self) -> (u32, u32) {
        (self.epoch, self.version)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Index {
    copies: Vec<KeptKey>,
    names: Vec<NamedKey>,
    /// This host saw a key file that it did not make.
    saw_others: bool,
}

/// What a host keeps of key files.
pub struct KeptKeys {
    folder: PathBuf,
    index: Index,
}

impl KeptKeys {
    /// Of one epoch, no more copies of key files of others are kept: what fills the bucket must not fill this disk.
    pub const MAX: usize = 256;

    /// Those in the state directory `dir` of a repository.
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        let folder = dir.join("keys");
        let index = read_json(&folder.join("index.json"))?.unwrap_or_default();
        Ok(Self { folder, index })
    }

    /// The copies, in the order in which they were kept.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &KeptKey> {
        self.index.copies.iter()
    }

    /// What lay in the repository at the last look, where its bytes are known.
    pub fn names(&self) -> impl Iterator<Item = &NamedKey> {
        self.index.names.iter()
    }

    /// Where the copies lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether this host ever saw a key file that it did not make, of whatever epoch.
    pub fn saw_others(&self) -> bool {
        self.index.saw_others
    }

    /// Remembers that. Saved with the next change, or by [`KeptKeys::save`].
    pub fn set_saw_others(&mut self) {
        self.index.saw_others = true;
    }

    /// The copy of what lay under this name at the last look.
    pub fn at(&self, place: (u32, u32)) -> Option<&KeptKey> {
        let named = self.index.names.iter().find(|name| name.place() == place)?;
        self.copy_of(named.epoch, &named.digest)
    }

    /// The copy of these bytes.
    pub fn copy_of(&self, epoch: u32, digest: &Digest) -> Option<&KeptKey> {
        self.index.copies.iter().find(|key| key.is(epoch, digest))
    }

    /// The copy of what lies under this name in this size and, once its bytes were compared, of this time.
    pub fn find(&self, place: (u32, u32), bytes: u64, modified: Timestamp) -> Option<&KeptKey> {
        let same = |name: &NamedKey| name.bytes == bytes && name.modified.is_none_or(|compared| compared == modified);
        let named = self.index.names.iter().find(|name| name.place() == place)?;
        if same(named) { self.copy_of(named.epoch, &named.digest) } else { None }
    }

    /// Whether the bytes under this name were compared since they were put there, by size and time.
    pub fn is_compared(&self, (epoch, version): (u32, u32), bytes: u64, modified: Timestamp) -> bool {
        let is = |name: &NamedKey| (name.epoch, name.version, name.bytes) == (epoch, version, bytes);
        self.index.names.iter().any(|name| is(name) && name.modified == Some(modified))
    }

    /// Remembers what lies under a name. A copy that was explained as gone and is back counts as seen `now`. Saved with the
    /// next change, or by [`KeptKeys::save`].
    pub fn set_name(&mut self, named: NamedKey, now: Timestamp) {
        let (epoch, digest) = (named.epoch, named.digest);
        let was_there = self.index.names.iter().any(|name| name.epoch == epoch && name.digest == digest);
        if let Some(copy) = self.index.copies.iter_mut().find(|key| key.is(epoch, &digest)) {
            copy.stored = true;
            if copy.explained && !was_there {
                copy.first_seen = now;
            }
        }
        self.index.names.retain(|name| name.place() != named.place());
        self.index.names.push(named);
    }

    /// Forgets the names that are no longer there. Saved with the next change, or by [`KeptKeys::save`].
    pub fn retain_names(&mut self, is_there: impl Fn((u32, u32)) -> bool) {
        self.index.names.retain(|name| is_there(name.place()));
    }

    /// Whether a further copy of a key file that this host did not make can be kept of this epoch. Where there are too many,
    /// one whose loss is explained makes room.
    pub fn make_room(&mut self, epoch: u32) -> Result<bool, StateError> {
        let others = |key: &KeptKey| key.epoch == epoch && !key.own;
        if self.index.copies.iter().filter(|key| others(key)).count() < Self::MAX {
            return Ok(true);
        }
        let is_there = |key: &KeptKey| self.index.names.iter().any(|name| key.is(name.epoch, &name.digest));
        match self.index.copies.iter().position(|key| others(key) && key.explained && !is_there(key)) {
            Some(index) => self.drop_copy(index).map(|()| true),
            None => Ok(false),
        }
    }

    /// Keeps a copy, unless one of these bytes is kept already.
    pub fn keep(&mut self, key: KeptKey, bytes: &[u8]) -> Result<(), StateError> {
        self.index.saw_others |= !key.own && self.copy_of(key.epoch, &key.digest).is_none_or(|known| !known.own);
        if self.copy_of(key.epoch, &key.digest).is_none() {
            fsx::create_private_dir(&self.folder).map_err(StateError::io(&self.folder))?;
            write(&self.folder.join(key.file_name()), bytes)?;
            self.index.copies.push(key);
        }
        self.save()
    }

    /// Forgets a copy of what did not come to be.
    pub fn forget(&mut self, epoch: u32, digest: &Digest) -> Result<(), StateError> {
        match self.index.copies.iter().position(|key| key.is(epoch, digest)) {
            Some(index) => self.drop_copy(index),
            None => Ok(()),
        }
    }

    fn drop_copy(&mut self, index: usize) -> Result<(), StateError> {
        let dropped = self.index.copies.remove(index);
        self.save()?;
        remove(&self.folder.join(dropped.file_name()))
    }

    /// Remembers that a receipt explains why these are gone.
    pub fn explain(&mut self, explained: &[(u32, Digest)]) -> Result<(), StateError> {
        for key in self.index.copies.iter_mut().filter(|key| explained.contains(&(key.epoch, key.digest))) {
            key.explained = true;
        }
        self.save()
    }

    /// The bytes of a copy; `None` where its file is not what was kept, or is no age file.
    pub fn sealed(&self, key: &KeptKey) -> Result<Option<Sealed>, StateError> {
        Ok(self.bytes(key)?.and_then(|bytes| Sealed::reread(bytes).ok()))
    }

    /// The bytes of a copy, whatever they are; `None` where its file is not what was kept.
    pub fn bytes(&self, key: &KeptKey) -> Result<Option<Bytes>, StateError> {
        let bytes = Bytes::from(read(&self.folder.join(key.file_name()))?.unwrap_or_default());
        Ok((crate::crypto::sha256(&bytes) == key.digest).then_some(bytes))
    }

    pub fn save(&self) -> Result<(), StateError> {
        fsx::create_private_dir(&self.folder).map_err(StateError::io(&self.folder))?;
        write_json(&self.folder.join("index.json"), &self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn found(epoch: u32, version: u32, text: &str) -> KeptKey {
        let bytes = Bytes::from(text.to_owned());
        KeptKey::found(epoch, version, &bytes, sha256(&bytes), NOW)
    }

    fn named(key: &KeptKey, version: u32) -> NamedKey {
        NamedKey { epoch: key.epoch, version, digest: key.digest, bytes: key.bytes, modified: Some(NOW) }
    }

    fn kept() -> (tempfile::TempDir, KeptKeys) {
        let dir = tempfile::tempdir().expect("scratch");
        let kept = KeptKeys::load(dir.path()).expect("none yet");
        (dir, kept)
    }

    #[test]
    fn copies_names_and_what_is_explained_are_read_back() {
        let (dir, mut kept) = kept();
        let (first, second) = (found(1, 1, "first"), found(1, 2, "second"));
        kept.keep(first.clone(), b"first").expect("kept");
        kept.keep(second.clone(), b"second").expect("kept");
        kept.set_name(named(&second, 2), NOW);
        kept.explain(&[(1, first.digest)]).expect("saved");
        let kept = KeptKeys::load(dir.path()).expect("read back");
        let states: Vec<_> = kept.iter().map(|key| (key.version, key.explained)).collect();
        assert_eq!(states, [(1, true), (2, false)]);
        assert_eq!(kept.at((1, 2)).map(|key| key.digest), Some(second.digest));
        assert!(kept.at((1, 1)).is_none() && kept.saw_others());
        assert_eq!(kept.bytes(&kept.index.copies[0]).expect("read").expect("whole"), "first");
    }

    #[test]
    fn bytes_that_this_host_made_are_its_own_under_every_name() {
        let (_dir, mut kept) = kept();
        let own = KeptKey { own: true, ..found(1, 1, "own") };
        kept.keep(own.clone(), b"own").expect("kept");
        kept.keep(found(1, 7, "own"), b"own").expect("kept");
        kept.set_name(named(&own, 7), NOW);
        assert!(kept.iter().count() == 1 && kept.at((1, 7)).is_some_and(|key| key.own));
        assert!(!kept.saw_others());
    }

    #[test]
    fn a_name_is_compared_until_its_size_or_time_changes() {
        let (_dir, mut kept) = kept();
        let key = found(1, 1, "key");
        kept.keep(key.clone(), b"key").expect("kept");
        kept.set_name(named(&key, 1), NOW);
        let later = NOW.checked_add(jiff::SignedDuration::from_secs(1)).expect("a time");
        assert!(kept.is_compared((1, 1), 3, NOW));
        assert!(!kept.is_compared((1, 1), 4, NOW) && !kept.is_compared((1, 1), 3, later));
        kept.retain_names(|_| false);
        assert!(!kept.is_compared((1, 1), 3, NOW));
    }

    #[test]
    fn a_file_that_was_explained_and_is_there_again_is_new() {
        let (_dir, mut kept) = kept();
        let key = found(1, 1, "key");
        let later = NOW.checked_add(jiff::SignedDuration::from_hours(1)).expect("a time");
        kept.keep(key.clone(), b"key").expect("kept");
        kept.explain(&[(1, key.digest)]).expect("saved");
        kept.set_name(named(&key, 2), later);
        assert_eq!(kept.at((1, 2)).map(|key| key.first_seen), Some(later));
        kept.set_name(named(&key, 3), later.checked_add(jiff::SignedDuration::from_hours(1)).expect("a time"));
        assert_eq!(kept.at((1, 3)).map(|key| key.first_seen), Some(later), "it was there already");
    }

    #[test]
    fn of_one_epoch_so_many_copies_of_others_are_kept_and_the_hosts_own_do_not_count() {
        let (_dir, mut kept) = kept();
        kept.index.copies.push(KeptKey { own: true, ..found(1, 1, "own") });
        for number in 1..=KeptKeys::MAX {
            assert!(kept.make_room(1).expect("looked"));
            kept.index.copies.push(found(1, 1, &number.to_string()));
        }
        assert!(!kept.make_room(1).expect("looked") && kept.make_room(2).expect("looked"));
        let explained = kept.index.copies[5].digest;
        kept.explain(&[(1, explained)]).expect("saved");
        assert!(kept.make_room(1).expect("looked"));
        assert!(kept.copy_of(1, &explained).is_none() && kept.index.copies[0].own);
    }
}
