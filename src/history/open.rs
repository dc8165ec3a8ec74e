//! Opening a repository as this machine knows it: which repository is at a location, and what its `repository.json` says.

use std::path::Path;
use std::sync::Arc;

use super::{Locations, TrustStore};
use crate::error::OperationError;
use crate::format::{Descriptor, RepositoryId};
use crate::repository::{DescriptorState, Remote};
use crate::store::Store;

/// Opens the repository in `store`, which a person names `url`. Where this machine knows the location, it goes by the
/// `repository.json` that it remembers. `accept`: the fingerprint of a key; another repository whose descriptor names that
/// key may take the place of the known one.
pub async fn open_remote(
    store: Arc<dyn Store>,
    url: &str,
    location: &str,
    state_root: &Path,
    accept: Option<&str>,
) -> Result<Remote, OperationError> {
    let locations = Locations::load(state_root)?;
    let opened = Remote::open_at(store.clone(), url, location).await;
    let Some(id) = locations.get(location) else { return opened };
    if let Ok(remote) = &opened
        && remote.descriptor.repository != *id
        && accept.is_none_or(|accept| remote.descriptor.signer.fingerprint() != accept)
    {
        return Err(OperationError::RepositoryReplaced {
            url: url.to_owned(),
            known: id.to_string(),
            found: remote.descriptor.repository.to_string(),
            fingerprint: remote.descriptor.signer.fingerprint(),
        });
    }
    let Some((known, text)) = known(id, state_root)? else { return opened };
    match opened {
        Ok(remote) if remote.descriptor.repository == known.repository => {
            let is_same = remote.descriptor_text.as_deref() == Some(text.as_str());
            let descriptor_state = if is_same { DescriptorState::Same } else { DescriptorState::Changed };
            Ok(Remote { descriptor: known, descriptor_text: Some(text), descriptor_state, ..remote })
        }
        // Another one, which a person accepts.
        Ok(remote) => Ok(remote),
        // Records name the repository: where there are some, only this file is missing.
        Err(OperationError::NoRepository { .. } | OperationError::Verification { .. })
            if has_records(&store).await? =>
        {
            Ok(Remote {
                store,
                url: url.to_owned(),
                location: location.to_owned(),
                descriptor: known,
                descriptor_text: Some(text),
                descriptor_state: DescriptorState::Missing,
            })
        }
        Err(error) => Err(error),
    }
}

/// What this machine remembers of `repository.json`.
fn known(id: &RepositoryId, state_root: &Path) -> Result<Option<(Descriptor, String)>, OperationError> {
    let text = TrustStore::load(&state_root.join(id.as_str()))?.descriptor;
    Ok(text.and_then(|text| Some((Descriptor::parse(text.as_bytes()).ok()?, text))))
}

async fn has_records(store: &Arc<dyn Store>) -> Result<bool, OperationError> {
    Ok(!store.list(crate::format::layout::RECORDS).await?.objects.is_empty())
}
