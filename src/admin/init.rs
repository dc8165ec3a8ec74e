//! Making a repository: its descriptor, this host's signer, the first epoch's data identity.
//!
//! The data identity exists in memory only, for as long as it takes to wrap it. An interrupted `init` is finished by
//! the next one: the descriptor names this host's signer, and `host.json` is written last.

use std::path::Path;

use crate::clock;
use crate::crypto::{PublicSigner, Recipient, Signer, seal};
use crate::error::OperationError;
use crate::format::{Descriptor, RECOVERY_SCRIPT, RepositoryId, layout, recovery_script_digest, recovery_text};
use crate::host::{HostState, Pins, WriterLock, load_signer, save_signer};
use crate::keys::{NewIdentity, identity_made_for, new_identity};
use crate::repository::Remote;
use crate::repository::key_files::{first_free, make_epoch};
use crate::store::{Creation, Key, Store, StoreError, Stored};

pub struct InitRequest {
    pub recipients: Vec<Recipient>,
    pub new_identity: Option<NewIdentity>,
}

/// What was made.
pub struct InitReport {
    pub repository: RepositoryId,
    pub signer: PublicSigner,
    pub epoch: u32,
    /// Everyone whose identity opens the backups, as they were written.
    pub recipients: Vec<String>,
    /// An interrupted `init` was finished.
    pub resumed: bool,
}

/// Makes a repository in `store`, with this host as its writer, keeping state under `state_root`.
pub async fn init(
    store: &std::sync::Arc<dyn Store>,
    url: &str,
    state_root: &Path,
    mut request: InitRequest,
) -> Result<InitReport, OperationError> {
    // Before anything is made: a plugin that is missing, or keys that age will not mix.
    if !request.recipients.is_empty() {
        seal(b"", &request.recipients)?;
    }
    let (descriptor, signer, resumed) = match existing(store, url).await? {
        Some(remote) => {
            let signer = interrupted_signer(&remote, state_root)?;
            (remote.descriptor, signer, true)
        }
        None => {
            let (descriptor, signer) = create_descriptor(store.as_ref(), url, state_root).await?;
            (descriptor, signer, false)
        }
    };
    let dir = state_root.join(descriptor.repository.as_str());
    let _lock = WriterLock::take(&dir)?;
    if let Some(new) = request.new_identity.take() {
        request.recipients.push(make_identity(new, &descriptor)?);
    }
    put_recovery(store.as_ref()).await?;
    let epoch = next_epoch(store.as_ref()).await?;
    let (id, by) = (&descriptor.repository, &descriptor.signer);
    let sealed_to = make_epoch(store.as_ref(), &dir, id, by, epoch, &request.recipients).await?;
    let sealed_to =
        sealed_to.ok_or_else(|| OperationError::OtherWriter(format!("epoch {epoch} was just made by another init")))?;
    // What reads on this machine trusts this host.
    let remembered = descriptor.to_json().ok();
    Pins { signer: Some(signer.public()), descriptor: remembered, ..Pins::load(&dir)? }.save(&dir)?;
    let host = HostState::create(&dir, signer, sealed_to)?;
    Ok(InitReport {
        repository: descriptor.repository,
        signer: host.signer.public(),
        epoch,
        recipients: request.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
        resumed,
    })
}

async fn existing(store: &std::sync::Arc<dyn Store>, url: &str) -> Result<Option<Remote>, OperationError> {
    match Remote::open(std::sync::Arc::clone(store), url).await {
        Ok(remote) => Ok(Some(remote)),
        Err(OperationError::NoRepository { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The signer of an `init` that this host began and did not finish.
fn interrupted_signer(remote: &Remote, state_root: &Path) -> Result<Signer, OperationError> {
    let already = || OperationError::AlreadyThere { url: remote.url.clone() };
    let dir = state_root.join(remote.id().as_str());
    if HostState::load(&dir).is_ok_and(|host| host.is_some()) {
        return Err(already());
    }
    let signer = load_signer(&dir)?.ok_or_else(already)?;
    if signer.public() == remote.descriptor.signer { Ok(signer) } else { Err(already()) }
}

async fn create_descriptor(
    store: &dyn Store,
    url: &str,
    state_root: &Path,
) -> Result<(Descriptor, Signer), OperationError> {
    let left = store.list(layout::RECORDS).await?;
    if let Some(object) = left.objects.first() {
        return Err(OperationError::Refused {
            what: format!(
                "{url} holds {} but no repository.json: a damaged repository, not an empty place",
                object.key
            ),
            way_out: "choose an empty prefix, or put the missing repository.json back".to_owned(),
        });
    }
    probe_create_once(store, url).await?;
    let signer = Signer::generate()?;
    let descriptor = Descriptor::new(RepositoryId::generate(), clock::now(), signer.public());
    save_signer(&state_root.join(descriptor.repository.as_str()), &signer)?;
    let json = descriptor.to_json().map_err(|error| OperationError::Usage(error.to_string()))?;
    match store.create(&layout::descriptor(), Stored::public_text(json)).await? {
        Creation::Created => Ok((descriptor, signer)),
        Creation::AlreadyThere => Err(OperationError::AlreadyThere { url: url.to_owned() }),
    }
}

/// Sees for itself that the server honours create-once: some ignore the condition silently, and then two writers
/// could overwrite each other.
async fn probe_create_once(store: &dyn Store, url: &str) -> Result<(), OperationError> {
    let key = Key::from_trusted("probe".to_owned());
    store.create(&key, Stored::public_text("sealift probe 1\n".to_owned())).await?;
    let second = store.create(&key, Stored::public_text("sealift probe 2\n".to_owned())).await?;
    match store.delete(&key).await {
        // A writer that may not delete is as it should be; a few bytes stay.
        Ok(()) | Err(StoreError::AccessDenied { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match second {
        Creation::AlreadyThere => Ok(()),
        Creation::Created => Err(StoreError::NotSupported {
            object: url.to_owned(),
            cause: "the server ignores the condition that an object must be new (If-None-Match: *)".to_owned(),
        }
        .into()),
    }
}

/// What brings everything back without sealift. Another text in its place is none that should be trusted with a key.
async fn put_recovery(store: &dyn Store) -> Result<(), OperationError> {
    let script = layout::recovery_script(&recovery_script_digest());
    for (key, text) in [(script, RECOVERY_SCRIPT.to_owned()), (layout::recovery_text(), recovery_text())] {
        if store.create(&key, Stored::public_text(text)).await? == Creation::AlreadyThere {
            return Err(OperationError::Refused {
                what: format!("{key} is there already, and is not the one that this sealift writes"),
                way_out: "remove it, then run init again".to_owned(),
            });
        }
    }
    Ok(())
}

fn make_identity(new: NewIdentity, descriptor: &Descriptor) -> Result<Recipient, OperationError> {
    match identity_made_for(&new.path, &descriptor.repository) {
        Some(recipient) => Ok(recipient),
        None => new_identity(new, Some((&descriptor.repository, &descriptor.signer))),
    }
}

/// The first epoch without a key: what an interrupted `init` left is passed over.
async fn next_epoch(store: &dyn Store) -> Result<u32, OperationError> {
    let keys = store.list(layout::KEYS).await?;
    let taken: Vec<u32> =
        keys.objects.iter().filter_map(|object| Some(layout::epoch_and_generation(&object.key)?.0)).collect();
    first_free(0, |epoch| taken.contains(&epoch))
}
