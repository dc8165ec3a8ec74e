//! What this host knows of the server: whether it honours conditional puts. Tried again where the repository has moved.

use super::OperationError;
use crate::format::CreateOnce;
use crate::host::{HostState, ServerProfile};
use crate::repository::Remote;
use crate::store::probe_conditional_put;

/// Refuses a server that ignores conditional puts, unless a person chose to do without them.
pub(super) async fn check(remote: &Remote, host: &mut HostState) -> Result<(), OperationError> {
    if host.is_server(&remote.location) {
        return Ok(());
    }
    let (location, may_delete) = (remote.location.clone(), None);
    if host.create_once() == CreateOnce::Look {
        return Ok(host.set_server(ServerProfile { location, create_once: CreateOnce::Look, may_delete })?);
    }
    let conditional_put = probe_conditional_put(remote.store.as_ref()).await?;
    if !conditional_put {
        return Err(OperationError::Refused {
            what: format!(
                "the server of {} ignores conditional puts, so two writers could overwrite each other",
                remote.url
            ),
            way_out: "if this host alone writes there, `sealift init --single-writer` works without them".to_owned(),
        });
    }
    Ok(host.set_server(ServerProfile { location, create_once: CreateOnce::Conditional, may_delete })?)
}
