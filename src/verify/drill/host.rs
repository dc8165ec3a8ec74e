//! Whether this machine is the host that writes the repository, whichever state directory the drill itself uses.

use std::path::Path;

use super::{DrillRequest, OperationError, Remote};
use crate::finding::Finding;
use crate::host::is_writer;

/// Fails where the repository's signer lies in any place where a host keeps its state; warns of a place that cannot be
/// looked into.
pub(super) fn refuse_on_the_host(remote: &Remote, request: &DrillRequest) -> Result<Vec<Finding>, OperationError> {
    let mut warnings = Vec::new();
    for root in [&request.reader.state_root].into_iter().chain(&request.state_roots) {
        let dir = root.join(remote.id().as_str());
        match is_writer(&dir) {
            Ok(true) => return Err(on_the_host(&dir)),
            Ok(false) => {}
            Err(error) => warnings.push(Finding::HostUnknown { path: root.clone(), why: error.to_string() }),
        }
    }
    Ok(warnings)
}

fn on_the_host(dir: &Path) -> OperationError {
    OperationError::Refused {
        what: format!(
            "this machine is the host that writes the repository (its signing key is in {}), and an identity does not \
             belong there: it opens every backup",
            dir.display()
        ),
        way_out: "drill on another machine, or add --here".to_owned(),
    }
}
