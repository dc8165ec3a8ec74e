//! What an operator's command looks at first: which epochs have which key files, what signed records say of them, and which
//! of them the given identities open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock;
use crate::crypto::{DataIdentity, DataRecipient, Digest, IdentityFile, PublicSigner};
use crate::error::OperationError;
use crate::finding::{Finding, Numbers};
use crate::format::ranges::ranges;
use crate::format::{Manifest, Receipt, ReceiptKind, SignedRecord, layout};
use crate::history::{History, Reader, Selector};
use crate::host::driller;
use crate::policy::key_sets::{MAX_FILES, Place, Superseded, Tried, superseded};
use crate::repository::Remote;
use crate::repository::kept_keys::names;
use crate::repository::receipts::put_receipt;
use crate::repository::unlock::{OpenedVersion, Verdict, no_key_file, open_version};

/// The data identity of one epoch, and the key files that were listed.
pub(super) struct SurveyedEpoch {
    pub epoch: u32,
    /// Its public half, as signed records name it; where none does yet, as the key file itself has it.
    pub recipient: DataRecipient,
    /// The newest record whose manifest belongs to it; `None` where no snapshot needs it yet.
    pub record: Option<Arc<SignedRecord>>,
    /// What the given identities made of each version.
    pub tried: BTreeMap<u32, Tried>,
    /// The versions that they opened, in ascending order.
    pub opened: Vec<OpenedVersion>,
}

/// An epoch that no given identity opens.
pub(super) struct ClosedEpoch {
    pub epoch: u32,
    pub recipient: DataRecipient,
    /// The snapshots that need it.
    pub snapshots: Numbers,
    pub versions: BTreeSet<u32>,
    /// The most telling of what stood in the way.
    pub error: OperationError,
}

pub(super) struct Survey {
    /// Those that a given identity opens, in ascending order.
    pub epochs: Vec<SurveyedEpoch>,
    /// Those that a snapshot needs and none opens, in ascending order.
    pub closed: Vec<ClosedEpoch>,
    /// The repository, to write to as its writer does.
    pub remote: Remote,
    /// Every key file that was there.
    pub listed: BTreeSet<Place>,
    /// Who signs now.
    pub signer: PublicSigner,
    pub warnings: Vec<Finding>,
}

impl Survey {
    /// Lists the key files and tries all of them with `identities`. Epochs that no record names are looked into as well, so
    /// that a removal reaches an epoch that a rebase or a takeover has just begun. The epochs `also` are looked for although
    /// no key file of theirs may be left. An identity that could not be asked ends it.
    pub async fn of<'a>(
        remote: &Remote,
        reader: &Reader,
        identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
        also: &[u32],
    ) -> Result<Self, OperationError> {
        let history = History::load(remote, reader).await?;
        history.find(&Selector::Latest)?;
        let needed = needed(&history);
        let listed: BTreeSet<Place> = remote.list_keys().await?.into_keys().collect();
        let mut by_epoch: BTreeMap<u32, BTreeSet<u32>> = also.iter().map(|epoch| (*epoch, BTreeSet::new())).collect();
        for (epoch, version) in &listed {
            by_epoch.entry(*epoch).or_default().insert(*version);
        }
        refuse_too_many(&by_epoch)?;
        let (mut epochs, mut closed, mut begun) = (Vec::new(), Vec::new(), Vec::new());
        for (epoch, versions) in by_epoch {
            let Some(need) = needed.get(&epoch) else {
                begun.extend(look_into(remote, (epoch, &versions), identities.clone(), &mut epochs).await?);
                continue;
            };
            let recipient = &need.recipient;
            let (tried, opened, error) =
                attempt(remote, (epoch, &versions), Some(recipient), identities.clone()).await?;
            let recipient = recipient.clone();
            if opened.is_empty() {
                let snapshots = ranges(need.snapshots.iter().copied());
                closed.push(ClosedEpoch { epoch, recipient, snapshots, versions, error });
            } else {
                let record = Some(Arc::clone(&need.record));
                epochs.push(SurveyedEpoch { epoch, recipient, record, tried, opened });
            }
        }
        let mut warnings = history.warnings.clone();
        let is_there = |epoch: &u32| listed.iter().any(|place| place.0 == *epoch);
        let missing: Vec<u32> = needed.keys().copied().filter(|epoch| !is_there(epoch)).collect();
        if !missing.is_empty() {
            warnings.push(Finding::KeysMissing { epochs: missing });
        }
        if !begun.is_empty() {
            warnings.push(Finding::KeyFilesUnopened { objects: begun });
        }
        let remote = remote.creating(history.create_once());
        Ok(Self { epochs, closed, remote, listed, signer: history.signer().clone(), warnings })
    }

    /// Who opens nothing at all has the wrong identity, or the repository has lost its key files.
    pub fn refuse_closed(&mut self) -> Result<(), OperationError> {
        match self.closed.pop() {
            Some(last) if self.epochs.is_empty() => Err(last.error),
            Some(last) => {
                self.closed.push(last);
                Ok(())
            }
            None if self.epochs.is_empty() => Err(OperationError::NoKeyLeft {
                object: layout::KEYS.to_owned(),
                why: "there is no key file".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Epochs that stay as they are.
    pub fn unopened(&self) -> Vec<u32> {
        self.closed.iter().map(|closed| closed.epoch).collect()
    }

    pub fn not_opened(&self) -> impl Iterator<Item = Finding> {
        self.closed.iter().map(ClosedEpoch::finding)
    }
}

impl ClosedEpoch {
    pub fn finding(&self) -> Finding {
        Finding::EpochNotOpened { epoch: self.epoch, snapshots: self.snapshots.clone() }
    }
}

/// What records say of an epoch.
struct Need {
    recipient: DataRecipient,
    /// The newest record that names it; of those, one whose manifest belongs to it goes first.
    record: Arc<SignedRecord>,
    snapshots: Vec<u64>,
}

fn needed(history: &History) -> BTreeMap<u32, Need> {
    let mut needed: BTreeMap<u32, Need> = BTreeMap::new();
    for record in history.verified().rev() {
        let of = |epoch: u32| record.record.manifest.epoch == epoch;
        for entry in &record.record.epochs {
            let need = needed.entry(entry.epoch).or_insert_with(|| Need {
                recipient: entry.recipient.clone(),
                record: Arc::clone(record),
                snapshots: Vec::new(),
            });
            need.snapshots.push(record.record.sequence);
            if need.record.record.manifest.epoch != entry.epoch && of(entry.epoch) {
                need.record = Arc::clone(record);
            }
        }
    }
    needed
}

fn refuse_too_many(by_epoch: &BTreeMap<u32, BTreeSet<u32>>) -> Result<(), OperationError> {
    let Some((epoch, versions)) = by_epoch.iter().find(|(_, versions)| versions.len() > MAX_FILES) else {
        return Ok(());
    };
    Err(OperationError::Refused {
        what: format!("epoch {epoch} has {} key files, more than {MAX_FILES}", versions.len()),
        way_out: format!(
            "delete those that do not belong there from {}{epoch}/ with the tools of the server: `sealift keys list \
             --identity FILE` shows which of them open",
            layout::KEYS
        ),
    })
}

/// What one epoch's key files are, those that opened, and the most telling of what stood in the way.
type Attempt = (BTreeMap<u32, Tried>, Vec<OpenedVersion>, OperationError);

async fn attempt<'a>(
    remote: &Remote,
    (epoch, versions): (u32, &BTreeSet<u32>),
    named: Option<&DataRecipient>,
    identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
) -> Result<Attempt, OperationError> {
    let (mut tried, mut opened, mut failure) = (BTreeMap::new(), Vec::new(), no_key_file(epoch));
    for version in versions.iter().copied() {
        match open_version(remote, (epoch, version), named, identities.clone()).await? {
            Ok(one) => {
                tried.insert(version, Tried::Opened);
                opened.push(one);
            }
            // Half of an answer is none: what is deleted on it may be what counts.
            Err(unopened) if unopened.verdict == Verdict::Unasked => return Err(unopened.error),
            Err(unopened) => {
                let gone = unopened.verdict == Verdict::Gone;
                tried.insert(version, if gone { Tried::Gone } else { Tried::Unopened });
                failure = failure.or(unopened);
            }
        }
    }
    Ok((tried, opened, failure.error))
}

/// Adds an epoch that no record names to `epochs`: the names of the key files in it that stay unopened. Anybody may have put
/// one there, so each data identity stands for itself.
async fn look_into<'a>(
    remote: &Remote,
    (epoch, versions): (u32, &BTreeSet<u32>),
    identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
    epochs: &mut Vec<SurveyedEpoch>,
) -> Result<Vec<String>, OperationError> {
    let (tried, opened, _) = attempt(remote, (epoch, versions), None, identities).await?;
    let unopened =
        tried.into_iter().filter(|(_, tried)| *tried == Tried::Unopened).map(|(version, _)| (epoch, version));
    for one in opened {
        let recipient = one.identity.recipient();
        let is_same = |held: &&mut SurveyedEpoch| held.epoch == epoch && held.recipient == recipient;
        match epochs.iter_mut().find(is_same) {
            Some(held) => {
                held.tried.insert(one.version, Tried::Opened);
                held.opened.push(one);
            }
            None => {
                let tried = BTreeMap::from([(one.version, Tried::Opened)]);
                epochs.push(SurveyedEpoch { epoch, recipient, record: None, tried, opened: vec![one] });
            }
        }
    }
    Ok(names(unopened))
}

impl SurveyedEpoch {
    /// The newest key file that a given identity opens.
    pub fn newest(&self) -> Option<&OpenedVersion> {
        self.opened.last()
    }

    /// What may go once the command relies on `version`.
    pub fn superseded(&self, version: u32, proved: bool) -> Superseded {
        superseded(&self.tried, version, proved)
    }
}

/// A warning that names the key files that no given identity opens.
pub(super) fn unopened(epochs: &[SurveyedEpoch]) -> Option<Finding> {
    let of = |epoch: &SurveyedEpoch| {
        let unopened = epoch.superseded(0, false).unopened;
        unopened.into_iter().map(|version| (epoch.epoch, version)).collect::<Vec<Place>>()
    };
    let objects = names(epochs.iter().flat_map(of));
    (!objects.is_empty()).then_some(Finding::KeyFilesUnopened { objects })
}

/// Epochs that an identity opened through their new key files.
pub(super) struct Proved<'a> {
    /// The newest snapshot of them.
    record: &'a SignedRecord,
    numbers: Vec<u32>,
    /// The key files through which they were opened.
    keys: Vec<Digest>,
}

impl<'a> Proved<'a> {
    /// Opens a real manifest of each of these epochs. Of an epoch that no record names nothing is proved. `None` where there
    /// are none.
    pub async fn by(
        remote: &Remote,
        epochs: impl Iterator<Item = (&'a SurveyedEpoch, &DataIdentity, Digest)>,
    ) -> Result<Option<Self>, OperationError> {
        let (mut newest, mut numbers, mut keys): (Option<&SignedRecord>, _, _) = (None, Vec::new(), Vec::new());
        for (epoch, identity, digest) in epochs {
            let Some(record) = epoch.record.as_deref() else { continue };
            let manifest = &record.record.manifest;
            // No snapshot of this epoch is left that has a manifest of its own: the public half in the record must do.
            if manifest.epoch == epoch.epoch {
                let key = layout::manifest(&manifest.name);
                let sealed = remote.sealed(&key, &manifest.name, manifest.bytes).await?;
                Manifest::open(&sealed, identity).map_err(|error| OperationError::object(&key, error))?;
            }
            if newest.is_none_or(|newest| newest.record.sequence < record.record.sequence) {
                newest = Some(record);
            }
            numbers.push(epoch.epoch);
            keys.push(digest);
        }
        Ok(newest.map(|record| Self { record, numbers, keys }))
    }

    pub fn holds(&self, epoch: u32) -> bool {
        self.numbers.contains(&epoch)
    }

    /// Stores a receipt that says so, signed by this machine's own key: that key, or a note of why it could not be stored.
    pub async fn put_receipt(
        &self,
        remote: &Remote,
        reader: &Reader,
    ) -> Result<Result<String, Finding>, OperationError> {
        let signer = driller(&reader.state_root)?;
        let record = self.record;
        let receipt = Receipt {
            format: Receipt::FORMAT,
            repository: remote.id().clone(),
            sequence: record.record.sequence,
            record: record.signed.digest(),
            kind: ReceiptKind::Confirm,
            time: clock::now(),
            passed: true,
            epochs: self.numbers.clone(),
            keys: self.keys.clone(),
            bad: Vec::new(),
            recovery_ms: None,
        };
        Ok(match put_receipt(remote, receipt, &signer).await {
            Ok(_) => Ok(signer.public().to_string()),
            Err(OperationError::Store(error)) => Err(Finding::ReceiptNotStored { why: error.to_string() }),
            Err(error) => return Err(error),
        })
    }
}
