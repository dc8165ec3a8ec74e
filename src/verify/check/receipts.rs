//! Receipts that say nothing any more, because they are damaged. One that is gone is missed by nobody: nothing names it.

use super::{Check, OperationError, ProblemKind};
use crate::repository::receipts::unreadable_receipts;

impl Check<'_> {
    pub async fn receipts(&mut self) -> Result<(), OperationError> {
        for (key, why) in unreadable_receipts(self.remote).await? {
            self.problems.add(key.to_string(), ProblemKind::Receipt, why, []);
        }
        Ok(())
    }
}
