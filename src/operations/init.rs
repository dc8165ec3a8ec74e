//! Making a repository: its descriptor, this host's signer, the first epoch's data identity.
//!
//! The data identity exists in memory only, for as long as it takes to wrap it. An interrupted `init` is finished by
//! the next one: the descriptor names this host's signer, and `host.json` is written last.

use std::path::{Path, PathBuf};

use age::secrecy::SecretString;

use super::{OperationError, Remote};
use crate::crypto::{DataIdentity, PublicSigner, Recipient, Signer, Unprompted, new_identity_file};
use crate::repository::{
    Descriptor, RECOVERY_SCRIPT, RepositoryId, key_file_comments, layout, recovery_script_digest, recovery_text,
};
use crate::state::{HostState, Pins, SealedTo, WriterLock, load_signer, save_signer};
use crate::store::{Creation, Key, Store, StoreError, Stored};
use crate::{clock, fsx};

/// The largest `repository.json` or wrapped key that is read, in bytes.
const MAX_SMALL_BYTES: u64 = 1 << 20;

/// An identity to make for an operator who has none.
pub struct NewIdentity {
    pub path: PathBuf,
    /// Protects the file; `None` writes it plain.
    pub passphrase: Option<SecretString>,
}

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
    let sealed_to = wrap_data_identity(store.as_ref(), &dir, &descriptor, epoch, &request.recipients).await?;
    // What reads on this machine trusts this host.
    Pins { signer: Some(signer.public()), ..Pins::load(&dir)? }.save(&dir)?;
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
    if let Some(recipient) = identity_of_interrupted_init(&new.path, descriptor) {
        return Ok(recipient);
    }
    let comments = |public: &str| {
        vec![
            "sealift operator identity: opens the backups. Keep it away from the host that is backed up.".to_owned(),
            format!("repository: {}", descriptor.repository),
            format!("signer: {}", descriptor.signer),
            format!("created: {}", clock::now()),
            format!("public key: {public}"),
        ]
    };
    let protected = new.passphrase.is_some();
    let (recipient, bytes) = new_identity_file(comments, new.passphrase)?;
    if new.path.exists() {
        return Err(OperationError::Refused {
            what: format!("{} already exists", new.path.display()),
            way_out: "name another file, or give its public key with -r".to_owned(),
        });
    }
    fsx::write_atomic(&new.path, &bytes).map_err(OperationError::io(&new.path))?;
    tracing::info!(path = %new.path.display(), protected, "new identity written");
    Ok(recipient)
}

/// The public key in a plain identity file that an interrupted `init` of this repository wrote.
fn identity_of_interrupted_init(path: &Path, descriptor: &Descriptor) -> Option<Recipient> {
    let bytes = zeroize::Zeroizing::new(std::fs::read(path).ok()?);
    let file = crate::crypto::IdentityFile::parse(&bytes, &path.display().to_string(), &Unprompted).ok()?;
    let same = file.comment("repository") == Some(descriptor.repository.as_str());
    same.then(|| file.comment("public key").and_then(|key| Recipient::parse(key).ok())).flatten()
}

/// The first number above all epochs that have a key: what an interrupted `init` left is passed over.
async fn next_epoch(store: &dyn Store) -> Result<u32, OperationError> {
    let keys = store.list(layout::KEYS).await?;
    let epochs = keys.objects.iter().filter_map(|object| layout::epoch_and_generation(&object.key));
    Ok(epochs.map(|(epoch, _)| epoch).max().unwrap_or(0) + 1)
}

/// Makes, wraps, stores and reads back an epoch's data identity; only its public half leaves this function.
async fn wrap_data_identity(
    store: &dyn Store,
    dir: &Path,
    descriptor: &Descriptor,
    epoch: u32,
    recipients: &[Recipient],
) -> Result<SealedTo, OperationError> {
    let identity = DataIdentity::generate();
    let comments = key_file_comments(&descriptor.repository, epoch, &descriptor.signer, recipients, clock::now());
    let wrapped = identity.wrap(&comments, recipients)?;
    let recipient = identity.recipient();
    drop(identity);
    let key = layout::data_key(epoch, 1);
    if store.create(&key, Stored::from(wrapped.clone())).await? == Creation::AlreadyThere {
        return Err(OperationError::OtherWriter(format!("{key} was just made by another init")));
    }
    if store.get(&key, MAX_SMALL_BYTES).await? != *wrapped.bytes() {
        return Err(OperationError::Verification {
            object: key.to_string(),
            why: "it does not read back as it was written".to_owned(),
        });
    }
    HostState::keep_key(dir, epoch, 1, wrapped.bytes())?;
    Ok(SealedTo { epoch, recipient })
}
