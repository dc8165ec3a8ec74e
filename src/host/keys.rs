//! The wrapped data identities that a host keeps: every generation that it ever saw. They are ciphertext: the host cannot
//! open one, but an operator can, should the bucket lose them.
//!
//! `keys/index.json` says what is known of each; the bytes lie beside it as `<epoch>-<generation>-<hash>.age`, written
//! first. A generation that another one has replaced stays, marked as gone: the host never puts it back by itself.
//!
//! What others put there may be an operator's work or a stranger's, and the host cannot tell by itself. So it remembers
//! who vouched for which bytes, and which bytes took the place of others under the same name: no sealift overwrites one.
//! Nor does any write the bytes of an old generation again: where they are back after a newer one was seen, the keys were
//! set back, perhaps for somebody whom that one removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StateError;
use super::host::{read, read_json, remove, write, write_json};
use crate::crypto::{Digest, Recipient, Sealed};
use crate::{clock, fsx};

/// What the host knows of one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKey {
    pub epoch: u32,
    pub generation: u32,
    pub digest: Digest,
    /// Stored size.
    pub bytes: u64,
    /// This host made it, for `recipients`; of others' generations the host cannot know whom they are for.
    pub own: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Another generation of its epoch was there when this one no longer was.
    #[serde(default)]
    pub gone: bool,
    /// Somebody vouched for these bytes: the signer of a believed receipt, or whoever made this host the writer.
    #[serde(default)]
    pub accepted: bool,
    /// Since when this host has seen that it is back, though newer ones had been there: whoever vouched for it, or made it,
    /// did so before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_back: Option<Timestamp>,
    /// What lay under its name before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Digest>,
    /// When the repository got the object, by its clock, once its bytes were compared: while that and the size stay, they
    /// need not be fetched again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
}

impl KeptKey {
    /// One that this host makes.
    pub fn own(epoch: u32, generation: u32, sealed: &Sealed, recipients: &[Recipient]) -> Self {
        let recipients = recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect();
        Self { own: true, recipients, ..Self::found(epoch, generation, sealed.bytes(), sealed.digest()) }
    }

    /// One that lay in the repository.
    pub fn found(epoch: u32, generation: u32, bytes: &Bytes, digest: Digest) -> Self {
        Self {
            epoch,
            generation,
            digest,
            bytes: bytes.len() as u64,
            own: false,
            recipients: Vec::new(),
            gone: false,
            accepted: false,
            set_back: None,
            replaces: None,
            modified: None,
        }
    }

    pub fn place(&self) -> (u32, u32) {
        (self.epoch, self.generation)
    }

    /// Whether it is known to hold the data identity, and to be where it belongs.
    pub fn is_trusted(&self) -> bool {
        (self.own || self.accepted) && self.set_back.is_none()
    }

    fn file_name(&self) -> String {
        format!("{}-{}-{:.16}.age", self.epoch, self.generation, self.digest.to_string())
    }
}

/// What a host keeps of them.
pub struct KeptKeys {
    folder: PathBuf,
    keys: Vec<KeptKey>,
}

impl KeptKeys {
    /// More are not kept: whoever fills the bucket must not fill this disk, too.
    pub const MAX: usize = 256;
    /// So many of each epoch are never dropped for others.
    const SPARED: usize = 8;

    /// Those in the state directory `dir` of a repository.
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        let folder = dir.join("keys");
        let keys = read_json(&folder.join("index.json"))?.unwrap_or_default();
        Ok(Self { folder, keys })
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &KeptKey> {
        self.keys.iter()
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The one that lies in the repository under this name, as far as is known.
    pub fn at(&self, place: (u32, u32)) -> Option<&KeptKey> {
        self.keys.iter().find(|key| key.place() == place && !key.gone)
    }

    /// The one that lies there under this name, in this size and, once it was compared, of this time.
    pub fn find(&self, place: (u32, u32), bytes: u64, modified: Timestamp) -> Option<&KeptKey> {
        self.at(place).filter(|key| key.bytes == bytes && key.modified.is_none_or(|compared| compared == modified))
    }

    /// Whether nobody can have touched it there since its bytes were compared, by its size and its time.
    pub fn is_compared(&self, place: (u32, u32), bytes: u64, modified: Timestamp) -> bool {
        self.at(place).is_some_and(|key| key.bytes == bytes && key.modified == Some(modified))
    }

    /// Those in another one's place, of which nobody has said that it is right: no such receipt is believed, and the bytes
    /// that were there are not back under another name.
    pub fn exchanged(&self) -> impl Iterator<Item = &KeptKey> {
        let is_back = |epoch: u32, digest: &Digest| {
            self.keys.iter().any(|key| key.epoch == epoch && key.digest == *digest && !key.gone)
        };
        let unanswered = move |key: &&KeptKey| key.replaces.is_some_and(|before| !is_back(key.epoch, &before));
        self.of_others().filter(unanswered)
    }

    /// What belongs in the place of `key`: where it was exchanged, what was there before.
    pub fn rightful<'a>(&'a self, key: &'a KeptKey) -> &'a KeptKey {
        let before = key.replaces.filter(|_| self.exchanged().any(|exchanged| exchanged == key));
        let is_before = |kept: &&KeptKey| kept.epoch == key.epoch && Some(kept.digest) == before;
        self.keys.iter().find(is_before).unwrap_or(key)
    }

    /// Those that others put there, of which nobody has said that it opens.
    pub fn of_others(&self) -> impl Iterator<Item = &KeptKey> {
        self.keys.iter().filter(|key| !key.gone && !key.is_trusted())
    }

    /// Says that the object of this name has these bytes since `modified`; `false` where the copy has others. Saved with
    /// the next change, or by [`KeptKeys::save`].
    pub fn confirm(&mut self, place: (u32, u32), digest: &Digest, modified: Timestamp) -> bool {
        let same = |key: &&mut KeptKey| key.place() == place && !key.gone && key.digest == *digest;
        self.keys.iter_mut().find(same).map(|key| key.modified = Some(modified)).is_some()
    }

    /// Those that are back after newer ones were seen, of which nobody has said since that they are right.
    pub fn set_back(&self) -> impl Iterator<Item = &KeptKey> {
        self.of_others().filter(|key| key.set_back.is_some())
    }

    /// Remembers that somebody who is believed opened these, and when last.
    pub fn accept(&mut self, opened: &BTreeMap<Digest, Timestamp>) -> Result<(), StateError> {
        let new = |key: &&mut KeptKey| {
            let when = opened.get(&key.digest);
            !key.is_trusted() && when.is_some_and(|when| key.set_back.is_none_or(|since| *when >= since))
        };
        let mut changed = false;
        for key in self.keys.iter_mut().filter(new) {
            (key.accepted, key.set_back, changed) = (true, None, true);
        }
        if changed { self.save() } else { Ok(()) }
    }

    /// Whether no more copies can be kept, whatever is dropped.
    pub fn is_full(&self) -> bool {
        self.keys.len() >= Self::MAX && self.expendable().is_none()
    }

    /// Lets go of copies until there is room for one more; `false` where all may still be of use.
    pub fn make_room(&mut self) -> Result<bool, StateError> {
        while self.keys.len() >= Self::MAX {
            let Some(index) = self.expendable() else { return Ok(false) };
            self.drop_copy(index)?;
        }
        Ok(true)
    }

    /// The newest copy that nobody vouched for, and that is gone again; never what was there before an exchange, nor the
    /// first few of an epoch, which may be an operator's work from before somebody began to make noise.
    fn expendable(&self) -> Option<usize> {
        let before: Vec<Digest> = self.exchanged().filter_map(|key| key.replaces).collect();
        let is_noise = |key: &&KeptKey| key.gone && !key.own && !key.accepted && !before.contains(&key.digest);
        let is_one_of_many = |index: &usize| {
            let epoch = self.keys[*index].epoch;
            self.keys[..*index].iter().filter(is_noise).filter(|key| key.epoch == epoch).count() >= Self::SPARED
        };
        (0..self.keys.len()).rev().find(|index| is_noise(&&self.keys[*index]) && is_one_of_many(index))
    }

    /// Keeps one more. One of the same name and other bytes is gone from then on.
    pub fn keep(&mut self, key: KeptKey, bytes: &[u8]) -> Result<(), StateError> {
        fsx::create_private_dir(&self.folder).map_err(StateError::io(&self.folder))?;
        write(&self.folder.join(key.file_name()), bytes)?;
        let kept = self.as_known(key)?;
        let same_name = |other: &KeptKey| other.place() == kept.place();
        self.keys.retain(|other| !same_name(other) || other.digest != kept.digest);
        self.keys.iter_mut().filter(|other| same_name(other)).for_each(|other| other.gone = true);
        self.keys.push(kept);
        self.save()
    }

    /// What is known already of the same bytes, perhaps under another number, or of what lay in their place.
    fn as_known(&self, key: KeptKey) -> Result<KeptKey, StateError> {
        if key.is_trusted() {
            return Ok(key);
        }
        let before = self.at(key.place()).map(|before| match before.replaces {
            Some(first) if !before.is_trusted() => first,
            _ => before.digest,
        });
        let alike = || self.alike(key.epoch, key.digest);
        // In its own place again, it is what it was there.
        let undone = before == Some(key.digest);
        let set_back = match alike().find(|kept| undone && kept.place() == key.place()) {
            Some(known) => known.set_back,
            None => self.is_outdated(key.epoch, &key.digest)?.then(clock::now),
        };
        let own = alike().find(|kept| kept.own);
        let recipients = own.map(|own| own.recipients.clone()).unwrap_or_default();
        let (own, accepted) = (own.is_some(), alike().any(|kept| kept.accepted));
        let replaces = before.filter(|before| *before != key.digest);
        let known = KeptKey { own, accepted, recipients, set_back, ..key };
        Ok(KeptKey { replaces: replaces.filter(|_| !known.is_trusted()), ..known })
    }

    fn alike(&self, epoch: u32, digest: Digest) -> impl Iterator<Item = &KeptKey> {
        self.keys.iter().filter(move |kept| kept.epoch == epoch && kept.digest == digest)
    }

    /// The copies of the generations of `epoch` that came after these bytes, as far as they are wrapped keys at all.
    fn newer(&self, epoch: u32, digest: &Digest) -> Result<Vec<(&KeptKey, Sealed)>, StateError> {
        let Some(first) = self.alike(epoch, *digest).map(|kept| kept.generation).min() else { return Ok(Vec::new()) };
        let is_newer = |key: &&KeptKey| key.epoch == epoch && key.generation > first && key.digest != *digest;
        let read = |key| Ok(self.sealed(key)?.map(|sealed| (key, sealed)));
        self.keys.iter().filter(is_newer).filter_map(|key| read(key).transpose()).collect()
    }

    /// Whether newer ones were seen than these bytes were known to be.
    fn is_outdated(&self, epoch: u32, digest: &Digest) -> Result<bool, StateError> {
        Ok(!self.newer(epoch, digest)?.is_empty())
    }

    /// Whether these bytes under this name set the keys back, be it that this host has noticed or not.
    pub fn sets_back(&self, place: (u32, u32), digest: &Digest) -> Result<bool, StateError> {
        match self.at(place).filter(|key| key.digest == *digest) {
            Some(key) => Ok(key.set_back.is_some()),
            None => self.is_outdated(place.0, digest),
        }
    }

    /// What belongs beside bytes that set the keys back: the newest generation that somebody vouched for, and all after it;
    /// where nobody did, all that came after these bytes.
    pub fn set_back_from(&self, epoch: u32, digest: &Digest) -> Result<Vec<(&KeptKey, Sealed)>, StateError> {
        let mut newer = self.newer(epoch, digest)?;
        let proved = newer.iter().filter(|(key, _)| key.accepted).map(|(key, _)| key.generation).max();
        newer.retain(|(key, _)| proved.is_none_or(|proved| key.generation >= proved));
        Ok(newer)
    }

    /// Forgets one that did not come to be.
    pub fn forget(&mut self, place: (u32, u32), digest: &Digest) -> Result<(), StateError> {
        match self.keys.iter().position(|key| key.place() == place && key.digest == *digest) {
            Some(index) => self.drop_copy(index),
            None => Ok(()),
        }
    }

    fn drop_copy(&mut self, index: usize) -> Result<(), StateError> {
        let dropped = self.keys.remove(index);
        self.save()?;
        remove(&self.folder.join(dropped.file_name()))
    }

    /// Marks those of `epoch` that `there` denies as gone; whether there were any.
    pub fn mark_gone(&mut self, epoch: u32, there: impl Fn(u32) -> bool) -> Result<bool, StateError> {
        let lost = |key: &&mut KeptKey| key.epoch == epoch && !key.gone && !there(key.generation);
        let gone = self.keys.iter_mut().filter(lost).map(|key| key.gone = true).count();
        if gone > 0 {
            self.save()?;
        }
        Ok(gone > 0)
    }

    /// The bytes of one; `None` where its file is not what was kept.
    pub fn sealed(&self, key: &KeptKey) -> Result<Option<Sealed>, StateError> {
        let bytes = read(&self.folder.join(key.file_name()))?.unwrap_or_default();
        Ok(Sealed::reread(bytes.into()).ok().filter(|sealed| sealed.digest() == key.digest))
    }

    pub fn save(&self) -> Result<(), StateError> {
        write_json(&self.folder.join("index.json"), &self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{DataIdentity, Recipient, sha256};

    fn sealed() -> (Sealed, Recipient) {
        let identity = DataIdentity::generate();
        let recipient = Recipient::parse(&identity.recipient().to_string()).expect("a recipient");
        (identity.wrap(&[], std::slice::from_ref(&recipient)).expect("wrapped"), recipient)
    }

    #[test]
    fn a_generation_that_others_replaced_is_kept_and_gone() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut kept = KeptKeys::load(dir.path()).expect("none yet");
        let ((own, recipient), (other, _)) = (sealed(), sealed());
        kept.keep(KeptKey::own(1, 1, &own, &[recipient]), own.bytes()).expect("kept");
        kept.keep(KeptKey::found(1, 2, other.bytes(), other.digest()), other.bytes()).expect("kept");
        assert!(kept.mark_gone(1, |generation| generation == 2).expect("saved"));
        let kept = KeptKeys::load(dir.path()).expect("read back");
        let states: Vec<_> = kept.iter().map(|key| (key.generation, key.own, key.gone)).collect();
        assert_eq!(states, [(1, true, true), (2, false, false)]);
        assert!(kept.at((1, 1)).is_none() && kept.at((1, 2)).is_some());
        let first = kept.iter().next().expect("the first");
        assert_eq!(kept.sealed(first).expect("read").expect("whole").bytes(), own.bytes());
    }

    #[test]
    fn one_that_comes_back_is_still_our_own_and_a_strangers_in_its_place_is_not() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut kept = KeptKeys::load(dir.path()).expect("none yet");
        let ((own, recipient), (other, _)) = (sealed(), sealed());
        kept.keep(KeptKey::own(1, 1, &own, &[recipient]), own.bytes()).expect("kept");
        kept.keep(KeptKey::found(1, 1, other.bytes(), other.digest()), other.bytes()).expect("kept");
        let states = |kept: &KeptKeys| kept.iter().map(|key| (key.own, key.gone)).collect::<Vec<_>>();
        assert_eq!(states(&kept), [(true, true), (false, false)]);
        kept.keep(KeptKey::found(1, 1, own.bytes(), own.digest()), own.bytes()).expect("kept");
        assert_eq!(states(&kept), [(false, true), (true, false)]);
        kept.keep(KeptKey::found(1, 3, own.bytes(), own.digest()), own.bytes()).expect("kept");
        assert_eq!(states(&kept), [(false, true), (true, false), (true, false)]);
    }

    #[test]
    fn bytes_in_the_place_of_others_are_in_doubt_until_somebody_vouches_or_the_others_are_back() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut kept = KeptKeys::load(dir.path()).expect("none yet");
        let ((own, recipient), (other, _), (third, _)) = (sealed(), sealed(), sealed());
        let found = |generation, sealed: &Sealed| KeptKey::found(1, generation, sealed.bytes(), sealed.digest());
        let doubted = |kept: &KeptKeys| kept.exchanged().map(|key| key.generation).collect::<Vec<_>>();
        kept.keep(KeptKey::own(1, 1, &own, &[recipient]), own.bytes()).expect("kept");
        kept.keep(found(2, &third), third.bytes()).expect("kept");
        assert!(doubted(&kept).is_empty(), "a generation of its own is no exchange");
        // One after the other in the same place: what counts is what was there first.
        kept.keep(found(1, &other), other.bytes()).expect("kept");
        kept.keep(found(1, &third), third.bytes()).expect("kept");
        assert_eq!(doubted(&kept), [1]);
        kept.keep(found(3, &own), own.bytes()).expect("kept");
        assert!(doubted(&kept).is_empty(), "put back under another number");
        assert_eq!(kept.set_back().map(|key| key.generation).collect::<Vec<_>>(), [3], "though above a newer one");
        kept.accept(&BTreeMap::from([(own.digest(), clock::now())])).expect("saved");
        kept.mark_gone(1, |generation| generation == 1).expect("saved");
        assert_eq!(doubted(&kept), [1]);
        kept.accept(&BTreeMap::from([(third.digest(), Timestamp::UNIX_EPOCH)])).expect("saved");
        assert!(doubted(&kept).is_empty() && kept.of_others().next().is_none());
    }

    #[test]
    fn bytes_that_are_back_after_newer_ones_are_in_doubt_until_somebody_vouches_anew() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut kept = KeptKeys::load(dir.path()).expect("none yet");
        let ((own, recipient), (bob, _), (carol, _)) = (sealed(), sealed(), sealed());
        let found = |generation, sealed: &Sealed| KeptKey::found(1, generation, sealed.bytes(), sealed.digest());
        let set_back = |kept: &KeptKeys| kept.set_back().map(KeptKey::place).collect::<Vec<_>>();
        kept.keep(KeptKey::own(1, 1, &own, &[recipient]), own.bytes()).expect("kept");
        kept.keep(KeptKey::found(1, 9, &b"noise"[..].into(), sha256(b"noise")), b"noise").expect("kept");
        kept.mark_gone(1, |generation| generation == 9).expect("saved");
        kept.keep(found(1, &own), own.bytes()).expect("kept");
        assert!(set_back(&kept).is_empty(), "what is no key replaced nobody");
        for (generation, sealed) in [(2, &bob), (3, &carol)] {
            kept.keep(found(generation, sealed), sealed.bytes()).expect("kept");
            kept.mark_gone(1, |there| there == generation).expect("saved");
        }
        kept.keep(found(3, &own), own.bytes()).expect("kept");
        assert_eq!(set_back(&kept), [(1, 3)]);
        assert_eq!(kept.rightful(kept.at((1, 3)).expect("there")).digest, carol.digest());
        kept.keep(found(3, &carol), carol.bytes()).expect("kept");
        assert!(set_back(&kept).is_empty() && kept.exchanged().next().is_none(), "undone");
        kept.mark_gone(1, |_| false).expect("saved");
        kept.keep(found(2, &bob), bob.bytes()).expect("kept");
        assert_eq!(set_back(&kept), [(1, 2)]);
        let since = kept.at((1, 2)).and_then(|key| key.set_back).expect("a time");
        let before = since.checked_sub(jiff::SignedDuration::from_secs(1)).expect("a time");
        for (time, doubted) in [(before, 1), (since, 0)] {
            kept.accept(&BTreeMap::from([(bob.digest(), time)])).expect("saved");
            assert_eq!(set_back(&kept).len(), doubted);
        }
    }

    #[test]
    fn whoever_fills_the_bucket_pushes_out_his_own_noise_and_nothing_else() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut kept = KeptKeys::load(dir.path()).expect("none yet");
        let ((own, recipient), (rotated, _), (proved, _), (other, _)) = (sealed(), sealed(), sealed(), sealed());
        let found =
            |place: (u32, u32), sealed: &Sealed| KeptKey::found(place.0, place.1, sealed.bytes(), sealed.digest());
        kept.keep(KeptKey::own(1, 1, &own, &[recipient]), own.bytes()).expect("kept");
        kept.keep(found((1, 2), &rotated), rotated.bytes()).expect("kept");
        for generation in 3..KeptKeys::MAX as u32 {
            kept.keys.push(found((1, generation), &other));
        }
        kept.keep(found((1, 1000), &proved), proved.bytes()).expect("kept");
        assert!(!kept.make_room().expect("looked"), "all of it is still there");
        kept.accept(&BTreeMap::from([(proved.digest(), Timestamp::UNIX_EPOCH)])).expect("saved");
        kept.mark_gone(1, |generation| (7..240).contains(&generation)).expect("saved");
        assert!(kept.make_room().expect("looked"));
        assert!(kept.iter().all(|key| key.generation != 255) && kept.iter().any(|key| key.generation == 254));
        for generation in 2000..2020 {
            assert!(kept.make_room().expect("looked"));
            kept.keys.push(KeptKey { gone: true, ..found((1, generation), &other) });
        }
        // More than that are there at once, in as many epochs.
        for epoch in 2..40 {
            if kept.make_room().expect("looked") {
                kept.keys.push(found((epoch, 1), &other));
            }
        }
        assert!(kept.is_full());
        let is_left = |generation| kept.iter().any(|key| key.place() == (1, generation));
        assert!([1, 2, 7, 1000].into_iter().all(is_left), "our own, the first, what is there, what is proved");
    }
}
