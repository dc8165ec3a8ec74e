//! What brings the files back without sealift, and lies in every repository. Whether the script is the one of its name is
//! seen when it is read, like a pack.

use super::objects::Objects;
use super::{Check, OperationError, ProblemKind, Warning};
use crate::operations::remote::MAX_TEXT_BYTES;
use crate::repository::{layout, recovery_text};
use crate::store::StoreError;

impl Check<'_> {
    pub async fn recovery(&mut self, objects: &Objects) -> Result<(), OperationError> {
        let why = "it is missing; a recovery kit holds a copy";
        if self.scripts.is_empty() {
            self.problems.add("recover-*.py", ProblemKind::Missing, why, []);
        }
        let text = layout::recovery_text();
        if objects.bytes(&text).is_none() {
            self.problems.add(text.to_string(), ProblemKind::Missing, why, []);
            return Ok(());
        }
        match self.remote.store.get(&text, MAX_TEXT_BYTES).await {
            Ok(stored) if stored == recovery_text().as_bytes() => {}
            Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => {
                let says = "RECOVERY.txt is not the one that this version of sealift writes: unless another version did, \
                            somebody changed it, and it should not be followed; a recovery kit holds a sound one";
                self.warnings.push(Warning::standing("recovery-text-differs", says));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
