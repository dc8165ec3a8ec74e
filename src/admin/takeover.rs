//! Going on with a repository whose host is lost: a fresh host takes the place of its writer.
//!
//! An operator's identity proves that it is wanted, and tells whom the keys are for; nothing of it stays here. The new
//! host signs with a key of its own and seals to an epoch of its own, so that whoever has the lost host has no part in
//! what comes. Until its first snapshot the repository knows nothing of it, so that whatever is interrupted is begun anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::InitReport;
use crate::clock;
use crate::crypto::{Digest, PublicSigner, Recipient, Signer, seal};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{Epoch, SignedRecord, TakeOver, layout};
use crate::history::{History, Reader, Selector};
use crate::host::{Catalog, HostState, KeptKeys, WriterLock, load_signer, save_signer};
use crate::keys::{back_again, unnamed};
use crate::repository::kept_keys::keep_listed;
use crate::repository::key_files::{first_free, make_epoch};
use crate::repository::unlock::{OpenedGeneration, Opening, open_newest};
use crate::repository::{Listing, Remote};

/// What a take-over would do, for a person to agree to.
pub struct TakeOverPlan {
    /// The newest snapshot, which the first one of this host is to follow.
    pub parent: Arc<SignedRecord>,
    /// Whom this host will seal for.
    pub recipients: Vec<Recipient>,
    /// Why the recipients may not be those that an operator wanted; nothing where they were named.
    pub doubts: Vec<Warning>,
    pub warnings: Vec<Warning>,
    /// An earlier one on this machine did not come to a snapshot.
    pub resumed: bool,
    remote: Remote,
    dir: PathBuf,
    signer: Signer,
    step: TakeOver,
    /// The wrapped keys that the identity opened, by the hashes of their bytes.
    vouched: BTreeSet<Digest>,
}

/// Verifies the repository as any reader does, opens its newest epoch, and proves the take-over. For `recipients`, or
/// where none is named for those of the newest generation. Writes nothing.
pub async fn plan_take_over(
    remote: &Remote,
    reader: &Reader,
    recipients: Vec<Recipient>,
) -> Result<TakeOverPlan, OperationError> {
    let dir = reader.state_dir(remote);
    let history = History::load(remote, reader).await?;
    let known = load_signer(&dir)?;
    // Whatever the reader's own pin says.
    if known.as_ref().is_some_and(|own| history.claims_of(&own.public())) {
        return Err(writer_already(remote));
    }
    let parent = match history.find(&Selector::Latest) {
        Ok(parent) => Arc::clone(parent),
        Err(OperationError::NoSnapshot(_)) => {
            return Err(OperationError::Refused {
                what: format!("{} holds no snapshot, so there is nothing to go on with", remote.url),
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
    let opening = open_newest(remote, epoch, &reader.identities).await?;
    history.refuse_exchanged(remote)?;
    let (recipients, doubts) = if recipients.is_empty() {
        (holders(&opening, epoch)?, doubts(remote, reader, &history, (epoch.epoch, &opening.opened)).await?)
    } else {
        (recipients, Vec::new())
    };
    // Before anything is made: a plugin that is missing, or keys that age will not mix.
    seal(b"", &recipients)?;
    let (from, last) = (parent.signed.signer().clone(), parent.record.sequence);
    let step = TakeOver::new(remote.id(), from, last, signer.public(), (epoch.epoch, &opening.opened.identity));
    let vouched = opened_keys(remote, reader, &history, (epoch.epoch, &opening.opened)).await?;
    let warnings = history.warnings;
    Ok(TakeOverPlan {
        parent,
        recipients,
        doubts,
        warnings,
        resumed,
        remote: remote.clone(),
        dir,
        signer,
        step,
        vouched,
    })
}

/// The newest wrapped key of each epoch that a snapshot needs, where the operator opens one. The one that is `opened`
/// already is not opened again: a token would want a second touch.
async fn opened_keys(
    remote: &Remote,
    reader: &Reader,
    history: &History,
    (newest, opened): (u32, &OpenedGeneration),
) -> Result<BTreeSet<Digest>, OperationError> {
    let mut vouched = BTreeSet::from([opened.digest]);
    for epoch in needed(history).into_values().filter(|epoch| epoch.epoch != newest) {
        match open_newest(remote, epoch, &reader.identities).await {
            Ok(opening) => drop(vouched.insert(opening.opened.digest)),
            Err(OperationError::Store(error)) => return Err(error.into()),
            // It is for others, or lost: the host says so from its first backup on.
            Err(_) => {}
        }
    }
    Ok(vouched)
}

/// The epochs that snapshots need.
fn needed(history: &History) -> BTreeMap<u32, &Epoch> {
    history.verified().flat_map(|record| &record.record.epochs).map(|epoch| (epoch.epoch, epoch)).collect()
}

/// Why the names in a generation may not be those that an operator wrote there: whoever was removed can plant one, too.
async fn doubts(
    remote: &Remote,
    reader: &Reader,
    history: &History,
    (epoch, opened): (u32, &OpenedGeneration),
) -> Result<Vec<Warning>, OperationError> {
    let (needed, listed) = (needed(history), remote.list_keys().await?);
    let before = listed.into_keys().filter(|place| *place < (epoch, opened.generation));
    let earlier = before.filter_map(|place| Some((place, &needed.get(&place.0)?.recipient)));
    let back = back_again(remote, &reader.identities, (epoch, opened), earlier).await?;
    Ok(unnamed(epoch, opened).into_iter().chain(back).collect())
}

/// A key that is here already may go on if no record knows it: an earlier take-over did not come to a snapshot.
fn check_own(own: Signer, remote: &Remote, dir: &Path, history: &History) -> Result<Signer, OperationError> {
    let public = own.public();
    let whole = HostState::load(dir).is_ok_and(|host| host.is_some());
    if public == history.signer && whole {
        return Err(writer_already(remote));
    }
    if public == remote.descriptor.signer || history.knows(&public) {
        let whose = if public == history.signer { "damaged state of the" } else { "state of a former" };
        return Err(OperationError::Refused {
            what: format!("{} holds the {whose} writer of {}", dir.display(), remote.url),
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

/// The epoch that the snapshot was sealed to.
fn newest_epoch(parent: &SignedRecord) -> Result<&Epoch, OperationError> {
    let number = parent.record.manifest.epoch;
    let epoch = parent.record.epochs.iter().find(|epoch| epoch.epoch == number);
    epoch.ok_or_else(|| OperationError::Verification {
        object: layout::record(parent.record.sequence).to_string(),
        why: format!("it does not name its epoch {number}"),
    })
}

/// Whom the newest generation is for. One that the identity does not open may be noise, or the work of an operator who
/// removed this very identity: then nobody is taken over unasked.
fn holders(opening: &Opening, epoch: &Epoch) -> Result<Vec<Recipient>, OperationError> {
    let opened = &opening.opened;
    let why = if let Some(newest) = opening.newer.first().copied() {
        format!("{} is newer than the one that the identity opens", layout::data_key(epoch.epoch, newest))
    } else if opened.holders.recipients.is_empty() {
        format!("{} names nobody", layout::data_key(epoch.epoch, opened.generation))
    } else {
        return Ok(opened.holders.recipients.clone());
    };
    Err(OperationError::Refused {
        what: format!("whom to seal for cannot be told from the keys: {why}"),
        way_out: "name everybody who is to open the backups with -r".to_owned(),
    })
}

impl TakeOverPlan {
    /// Who signs from now on.
    pub fn signer(&self) -> PublicSigner {
        self.signer.public()
    }

    /// Whose place is taken.
    pub fn from(&self) -> &PublicSigner {
        &self.step.from
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
        keep_found(&remote, &dir, &listing, &self.vouched).await?;
        let above = self.parent.record.epochs.iter().map(|epoch| epoch.epoch).max().unwrap_or_default();
        let epoch = first_free(above, |epoch| listing.keys.keys().any(|(taken, _)| *taken == epoch))?;
        let (store, by) = (remote.store.as_ref(), signer.public());
        let made = make_epoch(store, &dir, remote.id(), &by, epoch, &self.recipients).await?;
        let sealed_to = made.ok_or_else(|| {
            OperationError::OtherWriter(format!("epoch {epoch} was just made by somebody else: another take-over runs"))
        })?;
        let step = serde_json::to_vec(&self.step).map_err(|error| OperationError::Usage(error.to_string()))?;
        HostState::prepare_take_over(&dir, &step, self.parent.signed.bytes())?;
        HostState::create(&dir, signer, sealed_to)?;
        Ok(InitReport {
            repository: remote.id().clone(),
            signer: by,
            epoch,
            recipients: self.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
            resumed: self.resumed,
        })
    }
}

/// Copies of the wrapped keys of old epochs, as the lost host kept them. The operator has vouched for those that he opened,
/// by making this machine the writer; whatever else lies there waits for a receipt.
async fn keep_found(
    remote: &Remote,
    dir: &Path,
    listing: &Listing,
    vouched: &BTreeSet<Digest>,
) -> Result<(), OperationError> {
    let mut kept = KeptKeys::load(dir)?;
    keep_listed(remote, &mut kept, &listing.keys).await?;
    let now = clock::now();
    Ok(kept.accept(&vouched.iter().map(|digest| (*digest, now)).collect())?)
}
