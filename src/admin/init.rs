//! Making a repository: its descriptor, this host's signer, the first epoch's data identity.
//!
//! The data identity exists in memory only, for as long as it takes to wrap it. An interrupted `init` is finished by
//! the next one: the descriptor names this host's signer, and `host.json` is written last.
//!
//! Before anything is made, one tiny object of a random name shows whether the server obeys conditional puts, and whether
//! these credentials may delete. A server that ignores conditions is used only where a person asked for it.

use std::path::Path;
use std::sync::Arc;

use crate::clock;
use crate::crypto::{PublicSigner, Recipient, Signer, seal};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{Descriptor, RECOVERY_SCRIPT, RepositoryId, layout, recovery_script_digest, recovery_text};
use crate::history::{Locations, TrustStore};
use crate::host::{HostState, ServerProfile, WriterLock, load_signer, save_signer};
use crate::keys::{NewIdentity, identity_made_for, new_identity};
use crate::policy::trust::Accepted;
use crate::repository::Remote;
use crate::repository::key_files::{first_free, make_epoch};
use crate::store::{CreateOnce, Creation, Look, Store, Stored, probe, probe_conditional_put};

pub struct InitRequest {
    pub recipients: Vec<Recipient>,
    pub new_identity: Option<NewIdentity>,
    /// A person says that one process alone writes there, so a server without conditional puts will do.
    pub single_writer: bool,
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

/// A finished repository of this host.
pub struct Finished {
    pub repository: RepositoryId,
    pub signer: PublicSigner,
    pub epoch: u32,
    host: HostState,
}

impl Finished {
    pub fn create_once(&self) -> CreateOnce {
        self.host.create_once()
    }

    /// From now on this host looks instead of relying on conditional puts, where the server does not honour them.
    pub async fn look_where_needed(&mut self, store: &dyn Store) -> Result<(), OperationError> {
        if probe_conditional_put(store).await? {
            return Ok(());
        }
        let dir = self.host.dir().to_owned();
        let _lock = WriterLock::take(&dir)?;
        // What another run has changed before it released the lock.
        if let Some(host) = HostState::load(&dir)? {
            self.host = host;
        }
        let server = ServerProfile { create_once: CreateOnce::Look, ..self.host.server().clone() };
        Ok(self.host.set_server(server)?)
    }
}

/// The repository at `url`, where this host is its writer and `init` has nothing to do; `None` where there is none yet, or
/// one that is not finished or belongs to another host.
pub async fn finished(
    store: &Arc<dyn Store>,
    url: &str,
    state_root: &Path,
) -> Result<Option<Finished>, OperationError> {
    let Some(remote) = existing(store, url).await? else { return Ok(None) };
    let Some(host) = HostState::load(&state_root.join(remote.id().as_str()))? else { return Ok(None) };
    let (signer, epoch) = (host.signer.public(), host.sealed_to.epoch);
    Ok(Some(Finished { repository: remote.id().clone(), signer, epoch, host }))
}

/// Makes a repository in `store`, with this host as its writer, keeping state under `state_root`; and what there is to say
/// about the server.
pub async fn init(
    store: &Arc<dyn Store>,
    url: &str,
    state_root: &Path,
    mut request: InitRequest,
) -> Result<(InitReport, Vec<Finding>), OperationError> {
    // Before anything is made: a plugin that is missing, or keys that age will not mix.
    if !request.recipients.is_empty() {
        seal(b"", &request.recipients)?;
    }
    let begun = match existing(store, url).await? {
        Some(remote) => {
            let signer = interrupted_signer(&remote, state_root)?;
            Some((remote.descriptor, signer))
        }
        None => None,
    };
    let (server, findings) = try_server(store, url, request.single_writer).await?;
    let store = match server.create_once {
        CreateOnce::Conditional => Arc::clone(store),
        CreateOnce::Look => Arc::new(Look::new(Arc::clone(store))) as Arc<dyn Store>,
    };
    let resumed = begun.is_some();
    let (descriptor, signer) = match begun {
        Some(begun) => begun,
        None => create_descriptor(store.as_ref(), url, state_root).await?,
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
        sealed_to.ok_or_else(|| OperationError::OtherRotation { object: layout::data_key(epoch, 1).to_string() })?;
    // What reads on this machine trusts this host.
    let (accepted, text) = (Some(Accepted::new(signer.public())), descriptor.to_json().ok());
    TrustStore { accepted, descriptor: text, ..TrustStore::load(&dir)? }.save(&dir)?;
    Locations::set(state_root, &store.location(), &descriptor.repository)?;
    let host = HostState::create_at(&dir, signer, sealed_to, server)?;
    let report = InitReport {
        repository: descriptor.repository,
        signer: host.signer.public(),
        epoch,
        recipients: request.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
        resumed,
    };
    Ok((report, findings))
}

/// Tries the server on one tiny object. Some servers ignore conditional puts and say nothing: there two writers could
/// overwrite each other.
async fn try_server(
    store: &Arc<dyn Store>,
    url: &str,
    single_writer: bool,
) -> Result<(ServerProfile, Vec<Finding>), OperationError> {
    let tried = probe(store.as_ref()).await?;
    if !tried.conditional_put && !single_writer {
        return Err(OperationError::Refused {
            what: format!("the server of {url} ignores or refuses conditional puts (If-None-Match: *)"),
            way_out: "use another server, or run `sealift init --single-writer` and make sure that one host, and no \
                      clone of it, ever writes there; `sealift help storage` says what that costs"
                .to_owned(),
        });
    }
    let create_once = if tried.conditional_put { CreateOnce::Conditional } else { CreateOnce::Look };
    let may_delete = tried.may_delete();
    let mut findings = Vec::new();
    if create_once == CreateOnce::Look {
        findings.push(Finding::SingleWriter {});
    }
    if may_delete == Some(true) {
        findings.push(Finding::WriterCanDelete {});
    }
    let location = store.location();
    Ok((ServerProfile { location, create_once, may_delete }, findings))
}

async fn existing(store: &Arc<dyn Store>, url: &str) -> Result<Option<Remote>, OperationError> {
    match Remote::open(Arc::clone(store), url).await {
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
    let signer = Signer::generate()?;
    let descriptor = Descriptor::new(RepositoryId::generate(), clock::now(), signer.public());
    save_signer(&state_root.join(descriptor.repository.as_str()), &signer)?;
    let json = descriptor.to_json().map_err(|error| OperationError::Usage(error.to_string()))?;
    match store.create(&layout::descriptor(), Stored::public_text(json)).await? {
        Creation::Created => Ok((descriptor, signer)),
        Creation::AlreadyThere => Err(OperationError::AlreadyThere { url: url.to_owned() }),
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
        keys.objects.iter().filter_map(|object| Some(layout::epoch_and_version(&object.key)?.0)).collect();
    first_free(0, |epoch| taken.contains(&epoch))
}
