//! Comparing the wrapped keys in the repository with the copies that the host keeps: they have no hash for a name.

use super::{Check, OperationError, ProblemKind};
use crate::crypto::sha256;
use crate::repository::{MAX_KEY_BYTES, layout};
use crate::state::KeptKeys;
use crate::store::StoreError;

impl Check<'_> {
    /// A generation that is gone is no problem while its epoch has another: an operator may have taken it away.
    pub async fn kept_keys(&mut self, kept: &KeptKeys) -> Result<(), OperationError> {
        for (epoch, snapshots) in &self.needs.epochs {
            for kept in kept.iter().filter(|kept| kept.epoch == *epoch && !kept.gone) {
                let key = layout::data_key(*epoch, kept.generation);
                let stored = match self.remote.store.get(&key, MAX_KEY_BYTES).await {
                    Ok(stored) => Some(stored),
                    Err(StoreError::NotFound { .. }) => continue,
                    Err(StoreError::TooLarge { .. }) => None,
                    Err(error) => return Err(error.into()),
                };
                if stored.is_some_and(|stored| sha256(&stored) == kept.digest) {
                    self.good.insert(key.to_string());
                } else {
                    let why = "it is not the key of which this host keeps a copy";
                    self.problems.add(key.to_string(), ProblemKind::Hash, why, snapshots.clone());
                }
            }
        }
        Ok(())
    }
}
