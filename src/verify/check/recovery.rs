//! What brings the files back without sealift, and lies in every repository. Whether the script is the one of its name is
//! seen when it is read, like a pack.

use std::collections::BTreeSet;

use super::objects::Objects;
use super::{Check, OperationError, ProblemKind};
use crate::crypto::Digest;
use crate::finding::Finding;
use crate::format::{layout, recovery_script_digest, recovery_text};
use crate::repository::MAX_TEXT_BYTES;
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
        let stored = match self.remote.store.get(&text, MAX_TEXT_BYTES).await {
            Ok(stored) => stored,
            Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => bytes::Bytes::new(),
            Err(error) => return Err(error.into()),
        };
        if stored != recovery_text().as_bytes() {
            self.warnings.push(Finding::RecoveryTextDiffers {});
        }
        self.warnings.extend(self.foreign_scripts(&String::from_utf8_lossy(&stored)));
        Ok(())
    }

    /// A foreign script has the hash of its name, too: only those that this version or the text, perhaps of an older version,
    /// names are known.
    fn foreign_scripts(&self, text: &str) -> Option<Finding> {
        let known: BTreeSet<Digest> = named_scripts(text).chain([recovery_script_digest()]).collect();
        let foreign = self.scripts.iter().filter(|(_, script)| !known.contains(&script.name));
        let objects: Vec<String> = foreign.map(|(key, _)| key.to_string()).collect();
        (!objects.is_empty()).then_some(Finding::RecoveryScriptForeign { objects })
    }
}

/// The hashes in the names of scripts that stand in a text.
fn named_scripts(text: &str) -> impl Iterator<Item = Digest> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words.filter_map(|word| word.strip_prefix("recover-")?.parse().ok())
}
