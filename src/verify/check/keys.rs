//! Looking at the wrapped keys in the repository, whose names are no hashes: the host compares them with the copies that
//! it keeps, anybody else sees whether they look like wrapped keys at all, and an identity opens them.

use std::collections::BTreeMap;

use super::objects::Objects;
use super::{Check, OperationError, ProblemKind};
use crate::crypto::{Sealed, sha256};
use crate::format::{MAX_KEY_BYTES, layout};
use crate::host::{KeptKey, KeptKeys};
use crate::repository::kept_keys::unproved;
use crate::repository::{Seen, WITHHELD};
use crate::store::StoreError;

/// Why a generation that is older than others that the host saw is not to be there again.
const SET_BACK: &str = "it is an old one, put back after newer ones had been there: `sealift keys restore` puts the host's \
                        copy of a newer one back";

impl Check<'_> {
    /// Fetches those whose size or time is not what it was when they were last compared; with `all`, every one. A generation
    /// that is gone is no problem while its epoch has another: an operator may have taken it away.
    pub async fn kept_keys(&mut self, kept: &KeptKeys, all: bool) -> Result<(), OperationError> {
        let listed = self.remote.list_keys().await?;
        let exchanged: Vec<&KeptKey> = kept.exchanged().collect();
        let set_back: Vec<&KeptKey> = kept.set_back().collect();
        for key in kept.iter().filter(|key| !key.gone && self.needs.epochs.contains_key(&key.epoch)).collect::<Vec<_>>()
        {
            let Some(seen) = listed.get(&key.place()) else { continue };
            let compared = !all && kept.is_compared(key.place(), seen.bytes, seen.modified);
            let why = if set_back.contains(&key) {
                SET_BACK
            } else if exchanged.contains(&key) {
                "it is not the key that lay there before: `sealift keys restore` puts the host's copy of that one back"
            } else if compared || self.is_copy(key).await? {
                continue;
            } else {
                "what the server hands out is not the key of which this host keeps a copy"
            };
            self.problem(layout::data_key(key.epoch, key.generation).as_str(), ProblemKind::Hash, why);
        }
        self.unseen_keys(kept, &listed).await?;
        let is_told = |key: &KeptKey| exchanged.contains(&key) || set_back.contains(&key);
        let others = kept.of_others().filter(|key| !is_told(key) && listed.contains_key(&key.place()));
        self.warnings.extend(unproved(kept, others.map(KeptKey::place).collect()));
        Ok(())
    }

    /// Those that the host has not seen under their names may be old ones that somebody put back since its last backup.
    async fn unseen_keys(
        &mut self,
        kept: &KeptKeys,
        listed: &BTreeMap<(u32, u32), Seen>,
    ) -> Result<(), OperationError> {
        for place in listed.keys().filter(|place| kept.at(**place).is_none()) {
            if !self.needs.epochs.contains_key(&place.0) {
                continue;
            }
            let key = layout::data_key(place.0, place.1);
            match self.remote.store.get(&key, MAX_KEY_BYTES).await {
                Ok(stored) if kept.sets_back(*place, &sha256(&stored))? => {
                    self.problem(key.as_str(), ProblemKind::Hash, SET_BACK);
                }
                Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether what lies there is what this host keeps, or is gone since it was listed.
    async fn is_copy(&mut self, kept: &KeptKey) -> Result<bool, OperationError> {
        let key = layout::data_key(kept.epoch, kept.generation);
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

    async fn is_listed(&self, (epoch, generation): (u32, u32)) -> Result<bool, OperationError> {
        Ok(self.remote.list_generations(epoch).await?.contains_key(&generation))
    }

    /// For whoever keeps no copies: those that are no wrapped keys of anybody's. What lies behind a key's header only its
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
