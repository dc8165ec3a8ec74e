//! What an operator's command looks at first: which epochs have which wrapped keys, and what signed records say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::records::Records;
use crate::clock;
use crate::crypto::{DataIdentity, DataRecipient, Digest, IdentityFile, PublicSigner};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{Manifest, Receipt, ReceiptKind, SignedRecord, layout};
use crate::history::Reader;
use crate::host::driller;
use crate::repository::Remote;
use crate::repository::receipts::put_receipt;
use crate::repository::unlock::{OpenedGeneration, Opening, Unopened, Verdict, open_generation, open_newest_of};

/// The data identity of one epoch, and the generations that hold it.
pub(super) struct SurveyedEpoch {
    pub epoch: u32,
    /// Its public half, as signed records name it; where none does yet, as the key itself has it.
    pub recipient: DataRecipient,
    /// A record that names it; `None` where no snapshot needs it yet.
    pub record: Option<Arc<SignedRecord>>,
    /// The numbers of its generations. Of an epoch that a record names, those that do not open count, too.
    pub generations: BTreeSet<u32>,
}

pub(super) struct Survey {
    /// In ascending order.
    pub epochs: Vec<SurveyedEpoch>,
    /// Every epoch and generation that was there.
    pub listed: BTreeSet<(u32, u32)>,
    /// Who signs now.
    pub signer: PublicSigner,
    pub warnings: Vec<Warning>,
}

impl Survey {
    /// Epochs that no record names are looked into with `identities`, so that who is removed is removed from an epoch, too,
    /// that a rebase or a take-over has just begun. The epochs `also` are looked for although no key of theirs may be left.
    pub async fn of<'a>(
        remote: &Remote,
        reader: &Reader,
        identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
        also: &[u32],
    ) -> Result<Self, OperationError> {
        let mut records = Records::list(remote, reader).await?;
        let listed: BTreeSet<(u32, u32)> = remote.list_keys().await?.into_keys().collect();
        let mut by_epoch: BTreeMap<u32, BTreeSet<u32>> = also.iter().map(|epoch| (*epoch, BTreeSet::new())).collect();
        for (epoch, generation) in &listed {
            by_epoch.entry(*epoch).or_default().insert(*generation);
        }
        let (mut epochs, mut closed) = (Vec::new(), Vec::new());
        for (epoch, generations) in by_epoch {
            match records.naming(epoch).await? {
                Some((record, entry)) => {
                    let record = Some(record);
                    epochs.push(SurveyedEpoch { epoch, recipient: entry.recipient, record, generations });
                }
                None => {
                    for generation in generations {
                        match open_generation(remote, (epoch, generation), None, identities.clone()).await? {
                            Ok(opened) => hold(&mut epochs, epoch, &opened),
                            Err(Unopened { verdict: Verdict::Gone, .. }) => {}
                            Err(Unopened { verdict: Verdict::Unasked, error }) => return Err(error),
                            Err(_) => closed.push(layout::data_key(epoch, generation).to_string()),
                        }
                    }
                }
            }
        }
        let mut warnings = std::mem::take(&mut records.warnings);
        if !closed.is_empty() {
            warnings.push(not_looked_into(&closed));
        }
        Ok(Self { epochs, listed, signer: records.signer().clone(), warnings })
    }
}

/// Adds a generation of an epoch that no record names. Anybody may have planted one there, so each data identity stands
/// for itself.
fn hold(epochs: &mut Vec<SurveyedEpoch>, epoch: u32, opened: &OpenedGeneration) {
    let recipient = opened.identity.recipient();
    match epochs.iter_mut().find(|held| held.epoch == epoch && held.recipient == recipient) {
        Some(held) => held.generations.extend([opened.generation]),
        None => epochs.push(SurveyedEpoch { epoch, recipient, record: None, generations: [opened.generation].into() }),
    }
}

/// A rebase or a take-over may be under way there.
pub(super) fn not_looked_into(keys: &[String]) -> Warning {
    let text = format!(
        "{} belongs to an epoch that no snapshot needs yet, and was not opened: it stays as it is, for those who can open \
         it. Repeat this after the next backup, or with an identity that opens it",
        keys.join(", ")
    );
    Warning::doubt("epoch-not-opened", text)
}

impl SurveyedEpoch {
    /// The newest generation that one of the identities opens; the error of what stood in the way otherwise. An identity
    /// that could not be asked about one that is newer ends it: whoever acts on half of an answer deletes what counts.
    pub async fn open<'a>(
        &self,
        remote: &Remote,
        identities: impl IntoIterator<Item = &'a IdentityFile> + Clone,
    ) -> Result<Result<Opening, OperationError>, OperationError> {
        match open_newest_of(remote, (self.epoch, &self.generations), &self.recipient, identities).await? {
            Ok(Opening { unasked: Some(error), .. }) | Err(Unopened { verdict: Verdict::Unasked, error }) => Err(error),
            Ok(opening) => Ok(Ok(opening)),
            Err(unopened) => Ok(Err(unopened.error)),
        }
    }
}

/// Epochs that an identity of the new set opened through their new generations.
pub(super) struct Proved<'a> {
    /// A snapshot of the newest of them.
    record: &'a SignedRecord,
    numbers: Vec<u32>,
    /// The wrapped keys through which they were opened.
    keys: Vec<Digest>,
}

impl<'a> Proved<'a> {
    /// Opens a real manifest of the newest of these epochs; of the others, the public half that the records name is
    /// proof enough. Of an epoch that no record names nothing is proved. `None` where there are none.
    pub async fn by(
        remote: &Remote,
        epochs: impl Iterator<Item = (&'a SurveyedEpoch, &DataIdentity, Digest)>,
    ) -> Result<Option<Self>, OperationError> {
        let named = |(epoch, identity, key): (&'a SurveyedEpoch, _, _)| {
            Some((epoch.epoch, identity, key, epoch.record.as_deref()?))
        };
        let named: Vec<_> = epochs.filter_map(named).collect();
        let Some((newest, identity, _, record)) = named.last().copied() else { return Ok(None) };
        let manifest = &record.record.manifest;
        if manifest.epoch == newest {
            let key = layout::manifest(&manifest.name);
            let sealed = remote.sealed(&key, &manifest.name, manifest.bytes).await?;
            Manifest::open(&sealed, identity).map_err(|error| OperationError::object(&key, error))?;
        }
        let (numbers, keys) = named.iter().map(|(epoch, _, key, _)| (*epoch, *key)).unzip();
        Ok(Some(Self { record, numbers, keys }))
    }

    /// Puts a receipt that says so, signed by the operator's own key: the name of that key, or a warning.
    pub async fn put_receipt(
        &self,
        remote: &Remote,
        reader: &Reader,
    ) -> Result<Result<String, Warning>, OperationError> {
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
            contents: Vec::new(),
            recovery_ms: None,
        };
        Ok(match put_receipt(remote, receipt, &signer).await {
            Ok(_) => Ok(signer.public().to_string()),
            Err(OperationError::Store(error)) => {
                let text = format!("the receipt that says so could not be stored: {error}");
                Err(Warning::standing("receipt-not-stored", text))
            }
            Err(error) => return Err(error),
        })
    }
}
