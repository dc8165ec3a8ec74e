//! Scratch directories, in which restored data is in the clear for a while: 0700, and gone with the run that made them.
//!
//! A run that is killed cannot remove its own, so the next one of its kind does.

use std::path::Path;

use crate::error::OperationError;
use crate::finding::Finding;
use crate::fsx::{LeftBehind, ScratchDir};

/// A new one in `parent`, its name beginning with `kind`, after those that killed runs left there were removed.
pub fn scratch_dir(parent: &Path, kind: &str) -> Result<(ScratchDir, Vec<Finding>), OperationError> {
    let warnings = LeftBehind::find(parent, kind).into_iter().map(remove).collect();
    let scratch = ScratchDir::new(parent, kind).map_err(OperationError::io(parent))?;
    Ok((scratch, warnings))
}

/// Removes one of this run's own. A problem where that cannot be done: what is in it is in the clear.
pub(crate) fn remove_scratch(scratch: ScratchDir) -> Option<Finding> {
    let path = scratch.path().to_owned();
    scratch.remove().err().map(|error| Finding::ScratchLeft { path, why: error.to_string() })
}

fn remove(left: LeftBehind) -> Finding {
    let path = left.path.clone();
    match left.remove() {
        Ok(()) => Finding::ScratchRemoved { path },
        Err(error) => Finding::ScratchLeft { path, why: error.to_string() },
    }
}
