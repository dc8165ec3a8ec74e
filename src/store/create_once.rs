//! How it is made sure that an object is created once. Records and the host's state keep it under these names.

use serde::{Deserialize, Serialize};

/// How the writer makes sure that an object is created once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CreateOnce {
    /// By a conditional put.
    #[default]
    Conditional,
    /// By looking before and after: the server ignores conditions.
    Look,
}

impl CreateOnce {
    pub fn is_conditional(&self) -> bool {
        *self == Self::Conditional
    }
}
