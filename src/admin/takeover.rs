//! Continuing a repository whose host is lost: a fresh host takes the place of its writer.
//!
//! An operator's identity opens the newest epoch and so shows the recipients; nothing of it stays here. The new host
//! signs with a key of its own and encrypts to an epoch of its own. Until its first snapshot the repository knows
//! nothing of it, so that an interrupted takeover is simply run again.

use std::path::PathBuf;
use std::sync::Arc;

use crate::admin::InitReport;
use crate::clock;
use crate::crypto::{PublicSigner, Recipient, Signer, seal};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{Epoch, SignedRecord, Takeover, layout};
use crate::history::{History, Reader, Selector, TrustStore};
use crate::host::{Catalog, HostState, KeptKeys, ServerProfile, WriterLock, load_signer, save_signer};
use crate::policy::prune::GRACE;
use crate::policy::trust::Accepted;
use crate::repository::Remote;
use crate::repository::kept_keys::keep_listed;
use crate::repository::key_files::{first_free, make_epoch};
use crate::repository::unlock::open_epoch;

/// What a takeover would do, for a person to agree to.
pub struct TakeoverPlan {
    /// The newest snapshot, which the first one of this host is to follow.
    pub parent: Arc<SignedRecord>,
    /// The recipients that this host will encrypt to.
    pub recipients: Vec<Recipient>,
    /// The recipients were named, and not read out of the key file that the identity opens.
    pub is_named: bool,
    pub warnings: Vec<Finding>,
    /// An earlier one on this machine did not come to a snapshot.
    pub resumed: bool,
    remote: Remote,
    dir: PathBuf,
    signer: Signer,
    step: Takeover,
    /// The keys before this host's, oldest first.
    former: Vec<PublicSigner>,
}

/// Verifies the repository as any reader does, and opens its newest epoch. For `recipients`, or where none is named for
/// those of the key file that opens. Writes nothing.
pub async fn plan_takeover(
    remote: &Remote,
    reader: &Reader,
    recipients: Vec<Recipient>,
) -> Result<TakeoverPlan, OperationError> {
    let dir = reader.state_dir(remote);
    let history = History::load(remote, reader).await?;
    let known = load_signer(&dir)?;
    if known.as_ref().is_some_and(|own| history.claims.iter().any(|claim| claim.signer == own.public())) {
        return Err(writer_already(remote));
    }
    let parent = match history.find(&Selector::Latest) {
        Ok(parent) => Arc::clone(parent),
        Err(OperationError::NoSnapshot(_)) => {
            return Err(OperationError::Refused {
                what: format!("{} holds no snapshot, so there is nothing to continue", remote.url),
                way_out: "make a new repository in another place with `sealift init`".to_owned(),
            });
        }
        Err(error) => return Err(error),
    };
    let resumed = known.is_some();
    let signer = match known {
        Some(own) => check_own(own, remote, &dir, &history)?,
        None => Signer::generate()?,
    };
    let epoch = newest_epoch(&parent)?;
    let opened = open_epoch(remote, epoch, &reader.identities).await?;
    let is_named = !recipients.is_empty();
    let recipients = if is_named { recipients } else { opened.holders.recipients };
    if recipients.is_empty() {
        return Err(OperationError::Refused {
            what: format!("{} names no recipients", layout::data_key(epoch.epoch, opened.version)),
            way_out: "name everyone who is to open the backups with -r".to_owned(),
        });
    }
    // Before anything is made: a plugin that is missing, or keys that age will not mix.
    seal(b"", &recipients)?;
    let (former, create_once) = (history.trust.accepted(), history.create_once());
    let step = Takeover { from: history.signer().clone(), last: parent.record.sequence, to: signer.public() };
    Ok(TakeoverPlan {
        parent,
        recipients,
        is_named,
        warnings: history.warnings,
        resumed,
        remote: remote.creating(create_once),
        dir,
        signer,
        step,
        former: former.former.into_iter().chain([former.signer]).collect(),
    })
}

/// A key that is here already may go on if no record knows it: an earlier takeover did not come to a snapshot.
fn check_own(own: Signer, remote: &Remote, dir: &std::path::Path, history: &History) -> Result<Signer, OperationError> {
    let public = own.public();
    let is_whole = HostState::load(dir).is_ok_and(|host| host.is_some());
    if public == *history.signer() && is_whole {
        return Err(writer_already(remote));
    }
    let signs = |record: &SignedRecord| {
        *record.signed.signer() == public || record.record.takeovers.iter().any(|step| step.from == public)
    };
    if public == remote.descriptor.signer || history.valid().any(|record| signs(record)) {
        return Err(OperationError::Refused {
            what: format!("{} holds the state of a former writer of {}", dir.display(), remote.url),
            way_out: "move that directory away, and run it again: this machine then gets a new key".to_owned(),
        });
    }
    Ok(own)
}

fn writer_already(remote: &Remote) -> OperationError {
    OperationError::Refused {
        what: format!("this machine is the writer of {} already", remote.url),
        way_out: "`sealift backup` takes a snapshot; with --adopt, if it was restored to an older state".to_owned(),
    }
}

/// The epoch that the snapshot was encrypted to.
fn newest_epoch(parent: &SignedRecord) -> Result<&Epoch, OperationError> {
    let number = parent.record.manifest.epoch;
    let epoch = parent.record.epochs.iter().find(|epoch| epoch.epoch == number);
    epoch.ok_or_else(|| OperationError::Verification {
        object: layout::record(parent.record.sequence).to_string(),
        why: format!("it does not name its epoch {number}"),
    })
}

impl TakeoverPlan {
    /// The key that signs from now on.
    pub fn signer(&self) -> PublicSigner {
        self.signer.public()
    }

    /// The key whose place is taken.
    pub fn from(&self) -> &PublicSigner {
        &self.step.from
    }

    /// All keys before this host's, oldest first.
    pub fn former(&self) -> &[PublicSigner] {
        &self.former
    }

    /// Makes this machine the writer: its key, its epoch, and what its first record is to say.
    pub async fn carry_out(self) -> Result<InitReport, OperationError> {
        let Self { remote, dir, signer, .. } = self;
        save_signer(&dir, &signer)?;
        let _lock = WriterLock::take(&dir)?;
        // What an earlier one left was for another epoch.
        Catalog::drop_log(&dir)?;
        if let Some(host) = HostState::load(&dir)? {
            host.drop_unsent()?;
            host.drop_last()?;
        }
        let listing = remote.list().await?;
        let mut kept = KeptKeys::load(&dir)?;
        // What the host before left is no news to this one.
        let now = listing.server_time.unwrap_or_else(clock::now).saturating_sub(GRACE).unwrap_or(jiff::Timestamp::MIN);
        keep_listed(&remote, &mut kept, &listing.keys, (self.parent.record.manifest.epoch, now)).await?;
        let above = self.parent.record.epochs.iter().map(|epoch| epoch.epoch).max().unwrap_or_default();
        let epoch = first_free(above, |epoch| listing.keys.keys().any(|(taken, _)| *taken == epoch))?;
        let (store, by) = (remote.store.as_ref(), signer.public());
        let made = make_epoch(store, &dir, remote.id(), &by, epoch, &self.recipients).await?;
        let sealed_to =
            made.ok_or_else(|| OperationError::OtherRotation { object: layout::data_key(epoch, 1).to_string() })?;
        let step = serde_json::to_vec(&self.step).map_err(|error| OperationError::Usage(error.to_string()))?;
        HostState::prepare_take_over(&dir, &step, self.parent.signed.bytes())?;
        let server =
            ServerProfile { location: String::new(), create_once: self.parent.record.create_once, may_delete: None };
        HostState::create_at(&dir, signer, sealed_to, server)?;
        // What reads on this machine trusts this host from its first record on.
        let mut trust = TrustStore::load(&dir)?;
        trust.accepted = Some(Accepted { signer: by.clone(), former: self.former });
        trust.save(&dir)?;
        Ok(InitReport {
            repository: remote.id().clone(),
            signer: by,
            epoch,
            recipients: self.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
            resumed: self.resumed,
        })
    }
}
