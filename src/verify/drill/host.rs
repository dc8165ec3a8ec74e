//! Whether this machine is the host that writes the repository, whichever state directory the drill itself uses.

use std::io;
use std::path::Path;

use super::{DrillRequest, OperationError, Remote, Warning};
use crate::host::is_writer;

/// Fails where the repository's signer lies in any place where a host keeps its state; warns of a place that cannot be
/// looked into.
pub(super) fn refuse_on_the_host(remote: &Remote, request: &DrillRequest) -> Result<Vec<Warning>, OperationError> {
    let mut warnings = Vec::new();
    for root in [&request.reader.state_root].into_iter().chain(&request.state_roots) {
        let dir = root.join(remote.id().as_str());
        match is_writer(&dir) {
            Ok(true) => return Err(on_the_host(&dir)),
            Ok(false) => {}
            Err(error) => warnings.push(perhaps_the_host(root, &error)),
        }
    }
    Ok(warnings)
}

fn on_the_host(dir: &Path) -> OperationError {
    OperationError::Refused {
        what: format!(
            "this machine is the host that writes the repository (its signer is in {}): an identity here opens every \
             backup to whoever breaks in",
            dir.display()
        ),
        way_out: "drill on another machine, or add --here".to_owned(),
    }
}

fn perhaps_the_host(root: &Path, error: &io::Error) -> Warning {
    let text = format!(
        "{} cannot be looked into ({error}), so whether this machine is the host that writes the repository is not known: \
         an identity does not belong there",
        root.display()
    );
    Warning::standing("host-unknown", text)
}
