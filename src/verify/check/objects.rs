//! The stored objects: what a listing of all of them says, and reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::needs::{Need, Needs};
use super::scratch::ScratchError;
use super::{Contents, Monitor, OperationError, Phase, ProblemKind, Remote};
use crate::format::layout;
use crate::restore::opened::identity_of;
use crate::store::Key;

/// Packs in memory at once at most.
const MAX_PACKS: usize = 3;

/// Everything under the repository's prefix, with its size.
pub(super) struct Objects(BTreeMap<Key, u64>);

impl Objects {
    pub async fn list(remote: &Remote) -> Result<Self, OperationError> {
        let listing = remote.store.list("").await?;
        Ok(Self(listing.objects.into_iter().map(|object| (object.key, object.bytes)).collect()))
    }

    pub fn bytes(&self, key: &Key) -> Option<u64> {
        self.0.get(key).copied()
    }

    /// Whether any key file of `epoch` is there.
    pub fn has_key(&self, epoch: u32) -> bool {
        self.0.keys().filter_map(layout::epoch_and_version).any(|(number, _)| number == epoch)
    }

    /// The key files, each with its epoch, its version and its size.
    pub fn wrapped_keys(&self) -> impl Iterator<Item = (Key, (u32, u32), u64)> {
        self.0.iter().filter_map(|(key, bytes)| Some((key.clone(), layout::epoch_and_version(key)?, *bytes)))
    }

    /// The recovery scripts: no snapshot needs them, and a person who runs one trusts its hash.
    pub fn recovery_scripts(&self) -> BTreeMap<Key, Need> {
        let need = |(key, bytes): (&Key, &u64)| {
            let name = layout::recovery_digest(key)?;
            Some((key.clone(), Need { name, bytes: *bytes, epoch: 0, snapshots: BTreeSet::new() }))
        };
        self.0.iter().filter_map(need).collect()
    }

    /// What no snapshot needs: packs and manifests that no record names, and what is no part of a repository.
    pub fn not_needed(&self, needs: &Needs) -> (Vec<String>, Vec<String>) {
        let (mut unreferenced, mut unknown) = (Vec::new(), Vec::new());
        for key in self.0.keys() {
            if layout::digest(key).is_some() {
                if needs.get(key).is_none() {
                    unreferenced.push(key.to_string());
                }
            } else if !layout::is_known(key) {
                unknown.push(key.to_string());
            }
        }
        (unreferenced, unknown)
    }
}

/// What was found when an object was read: its size, or what is wrong.
pub(super) type Found = Result<u64, (ProblemKind, String)>;

pub(super) struct Reading<'a> {
    pub remote: &'a Remote,
    pub contents: Option<&'a Contents>,
    pub monitor: &'a Arc<dyn Monitor>,
}

impl Reading<'_> {
    /// Reads all of `wanted`, several at once. Errors of the store end it.
    pub async fn read(&self, wanted: Vec<(&Key, &Need)>) -> Result<Vec<(Key, Found)>, OperationError> {
        futures::stream::iter(wanted)
            .map(|(key, need)| async move { Ok((key.clone(), self.read_one(key, need).await?)) })
            .buffer_unordered(MAX_PACKS)
            .try_collect()
            .await
    }

    async fn read_one(&self, key: &Key, need: &Need) -> Result<Found, OperationError> {
        let sealed = match self.remote.sealed(key, &need.name, need.bytes).await {
            Ok(sealed) => sealed,
            Err(OperationError::Verification { why, .. }) => return Ok(Err((ProblemKind::Hash, why))),
            Err(other) => return Err(other),
        };
        let bytes = sealed.len() as u64;
        if let Some((contents, number)) = self.contents.and_then(|all| Some((all, all.number(key)?)))
            && let Some(why) = open_into(contents, number, key, need.epoch, sealed).await?
        {
            return Ok(Err((ProblemKind::Content, why)));
        }
        self.monitor.advance(Phase::Fetching, bytes);
        Ok(Ok(bytes))
    }
}

/// Opens a pack into its place; why it cannot be opened, if it cannot.
async fn open_into(
    contents: &Contents,
    number: usize,
    key: &Key,
    epoch: u32,
    sealed: Bytes,
) -> Result<Option<String>, OperationError> {
    let (identities, scratch, key) = (Arc::clone(&contents.identities), Arc::clone(&contents.scratch), key.clone());
    let open = move || match scratch.keep(number, &sealed, identity_of(&identities, epoch, &key)?) {
        Ok(()) => Ok(None),
        Err(ScratchError::Pack(why)) => Ok(Some(why)),
        Err(ScratchError::Disk(error)) => Err(OperationError::io("the scratch file")(error)),
    };
    spawn_blocking(open).await.map_err(|_| OperationError::Stopped)?
}
