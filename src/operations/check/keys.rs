//! Comparing the wrapped keys in the repository with the copies that the host keeps: they have no hash for a name.

use super::{Check, OperationError, ProblemKind};
use crate::operations::unlock::MAX_KEY_BYTES;
use crate::repository::layout;
use crate::state::HostState;
use crate::store::StoreError;

impl Check<'_> {
    /// A generation that is gone is no problem while its epoch has another: an operator may have taken it away.
    pub async fn kept_keys(&mut self, host: &HostState) -> Result<(), OperationError> {
        for (epoch, snapshots) in &self.needs.epochs {
            for (generation, _) in host.kept_keys(*epoch)? {
                let key = layout::data_key(*epoch, generation);
                let stored = match self.remote.store.get(&key, MAX_KEY_BYTES).await {
                    Ok(stored) => Some(stored),
                    Err(StoreError::NotFound { .. }) => continue,
                    Err(StoreError::TooLarge { .. }) => None,
                    Err(error) => return Err(error.into()),
                };
                if stored.as_deref() == host.kept_key(*epoch, generation)?.as_deref() {
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
