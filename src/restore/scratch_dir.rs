//! Scratch directories, in which restored data lies in the clear for a while: 0700, and gone with the run that made them.
//!
//! A run that is killed cannot remove its own, so the next one of its kind does.

use std::path::Path;

use crate::error::OperationError;
use crate::finding::Warning;
use crate::fsx::{LeftBehind, ScratchDir};

/// A new one in `parent`, its name beginning with `kind`, after those that killed runs left there were removed.
pub fn scratch_dir(parent: &Path, kind: &str) -> Result<(ScratchDir, Vec<Warning>), OperationError> {
    let warnings = LeftBehind::find(parent, kind).into_iter().map(remove).collect();
    let scratch = ScratchDir::new(parent, kind).map_err(OperationError::io(parent))?;
    Ok((scratch, warnings))
}

/// Removes one of this run's own; a doubt where that cannot be done, because what lies in it is in the clear.
pub(crate) fn remove_scratch(scratch: ScratchDir) -> Option<Warning> {
    let path = scratch.path().to_owned();
    scratch.remove().err().map(|error| {
        let text = format!(
            "the restored data in {} cannot be removed ({error}): see what became of it, and remove it",
            path.display()
        );
        Warning::doubt("scratch-left", text)
    })
}

fn remove(left: LeftBehind) -> Warning {
    let path = left.path.clone();
    match left.remove() {
        Ok(()) => {
            let text = format!("a run that was killed had left restored data in {}: removed", path.display());
            Warning::standing("scratch-removed", text)
        }
        Err(error) => {
            let text = format!(
                "a run that was killed left restored data in {}, which cannot be removed ({error}): remove it",
                path.display()
            );
            Warning::doubt("scratch-left", text)
        }
    }
}
