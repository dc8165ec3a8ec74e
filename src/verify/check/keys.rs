//! Looking at the key files in the repository, whose names are no hashes: the host compares them with the copies that
//! it keeps, anybody else sees whether they look like key files at all, and an identity opens them.

use super::objects::Objects;
use super::{Check, OperationError, ProblemKind};
use crate::crypto::{Sealed, sha256};
use crate::format::{MAX_KEY_BYTES, layout};
use crate::host::{KeptKeys, NamedKey};
use crate::repository::WITHHELD;
use crate::store::StoreError;

impl Check<'_> {
    /// Fetches those whose size or time is not what it was when they were last compared; with `all`, every one. What is
    /// gone or new the next backup deals with.
    pub async fn kept_keys(&mut self, kept: &KeptKeys, all: bool) -> Result<(), OperationError> {
        let listed = self.remote.list_keys().await?;
        for name in kept.names().filter(|name| self.needs.epochs.contains_key(&name.epoch)).collect::<Vec<_>>() {
            let Some(seen) = listed.get(&name.place()) else { continue };
            if !all && kept.is_compared(name.place(), seen.bytes, seen.modified) || self.is_copy(name).await? {
                continue;
            }
            let why = "what the server hands out is not the key file of which this host keeps a copy";
            self.problem(layout::data_key(name.epoch, name.version).as_str(), ProblemKind::Hash, why);
        }
        Ok(())
    }

    /// Whether what lies there is what this host keeps, or is gone since it was listed.
    async fn is_copy(&mut self, kept: &NamedKey) -> Result<bool, OperationError> {
        let key = layout::data_key(kept.epoch, kept.version);
        match self.remote.store.get(&key, MAX_KEY_BYTES).await {
            Ok(stored) if sha256(&stored) == kept.digest => {
                self.good.insert(key.to_string());
                Ok(true)
            }
            Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(false),
            Err(StoreError::NotFound { .. }) => Ok(!self.is_listed(kept.place()).await?),
            Err(error) => Err(error.into()),
        }
    }

    async fn is_listed(&self, (epoch, version): (u32, u32)) -> Result<bool, OperationError> {
        Ok(self.remote.list_versions(epoch).await?.contains_key(&version))
    }

    /// For a machine that keeps no copies: those that are no key files at all. What lies behind a key's header only its
    /// recipients can tell.
    pub async fn unlike_keys(&mut self, objects: &Objects) -> Result<(), OperationError> {
        for (key, place, _) in objects.wrapped_keys() {
            if !self.needs.epochs.contains_key(&place.0) {
                continue;
            }
            let why = match self.remote.store.get(&key, MAX_KEY_BYTES).await {
                Ok(stored) => Sealed::reread(stored).err().map(|error| format!("it is no wrapped key: {error}")),
                Err(StoreError::NotFound { .. }) => self.is_listed(place).await?.then(|| WITHHELD.to_owned()),
                Err(error @ StoreError::TooLarge { .. }) => Some(format!("it is no wrapped key: {error}")),
                Err(error) => return Err(error.into()),
            };
            if let Some(why) = why {
                self.problem(key.as_str(), ProblemKind::Key, why);
            }
        }
        Ok(())
    }
}
