//! What brings the files back without sealift, and lies in every repository. Whether the script is the one of its name is
//! seen when it is read, like a pack.

use super::objects::Objects;
use super::{Check, ProblemKind};
use crate::repository::layout;

impl Check<'_> {
    pub fn recovery(&mut self, objects: &Objects) {
        let why = "it is missing; a recovery kit holds a copy";
        if self.scripts.is_empty() {
            self.problems.add("recover-*.py", ProblemKind::Missing, why, []);
        }
        let text = layout::recovery_text();
        if objects.bytes(&text).is_none() {
            self.problems.add(text.to_string(), ProblemKind::Missing, why, []);
        }
    }
}
