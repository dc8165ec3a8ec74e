//! The wrapped data identities that a host keeps: every generation that it ever saw. They are ciphertext: the host cannot
//! open one, but an operator can, should the bucket lose them.
//!
//! `keys/index.json` says what is known of each; the bytes lie beside it as `<epoch>-<generation>-<hash>.age`, written
//! first. A generation that another one has replaced stays, marked as gone: the host never puts it back by itself.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::StateError;
use super::host::{read, read_json, write, write_json};
use crate::crypto::{Digest, Recipient, Sealed};
use crate::fsx;

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
}

impl KeptKey {
    /// One that this host makes.
    pub fn own(epoch: u32, generation: u32, sealed: &Sealed, recipients: &[Recipient]) -> Self {
        let recipients = recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect();
        Self { own: true, recipients, ..Self::found(epoch, generation, sealed.bytes(), sealed.digest()) }
    }

    /// One that lay in the repository.
    pub fn found(epoch: u32, generation: u32, bytes: &Bytes, digest: Digest) -> Self {
        let bytes = bytes.len() as u64;
        Self { epoch, generation, digest, bytes, own: false, recipients: Vec::new(), gone: false }
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

    /// The one that lies in the repository under this name with this size.
    pub fn find(&self, epoch: u32, generation: u32, bytes: u64) -> Option<&KeptKey> {
        self.keys
            .iter()
            .find(|key| (key.epoch, key.generation, key.bytes, key.gone) == (epoch, generation, bytes, false))
    }

    /// Keeps one more. One of the same name and other bytes is gone from then on.
    pub fn keep(&mut self, key: KeptKey, bytes: &[u8]) -> Result<(), StateError> {
        fsx::create_private_dir(&self.folder).map_err(StateError::io(&self.folder))?;
        write(&self.folder.join(key.file_name()), bytes)?;
        let same_name = |kept: &KeptKey| (kept.epoch, kept.generation) == (key.epoch, key.generation);
        // Seen again, perhaps under another number: it may have been our own.
        let same = |kept: &&KeptKey| kept.epoch == key.epoch && kept.digest == key.digest && kept.own;
        let own = self.keys.iter().find(same).map(|own| own.recipients.clone());
        self.keys.retain(|kept| !same_name(kept) || kept.digest != key.digest);
        self.keys.iter_mut().filter(|kept| same_name(kept)).for_each(|kept| kept.gone = true);
        self.keys.push(match own {
            Some(recipients) => KeptKey { own: true, recipients, ..key },
            None => key,
        });
        self.save()
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

    fn save(&self) -> Result<(), StateError> {
        write_json(&self.folder.join("index.json"), &self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{DataIdentity, Recipient};

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
        assert!(kept.find(1, 1, own.len()).is_none() && kept.find(1, 2, other.len()).is_some());
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
}
