//! What an operator's command looks at first: which epochs have which wrapped keys, and what signed records say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::history::Reader;
use super::super::receipts::put_receipt;
use super::super::unlock::{OpenedGeneration, open_generation};
use super::super::{OperationError, Remote, Warning};
use super::records::Records;
use jiff::Timestamp;

use crate::clock;
use crate::crypto::{DataIdentity, DataRecipient, IdentityFile, PublicSigner};
use crate::repository::{Manifest, Receipt, ReceiptKind, SignedRecord, layout};
use crate::state::driller;

/// One epoch that a snapshot needs.
pub(super) struct NamedEpoch {
    pub epoch: u32,
    /// The public half that signed records name.
    pub recipient: DataRecipient,
    /// A record that names it.
    pub record: Arc<SignedRecord>,
    /// The numbers of its generations.
    pub generations: BTreeSet<u32>,
}

pub(super) struct Survey {
    /// In ascending order.
    pub epochs: Vec<NamedEpoch>,
    /// Who signs now.
    pub signer: PublicSigner,
    pub warnings: Vec<Warning>,
}

impl Survey {
    pub async fn of(remote: &Remote, reader: &Reader) -> Result<Self, OperationError> {
        Self::with(remote, reader, &[]).await
    }

    /// The same; the epochs `also` are looked for although no key of theirs may be left.
    pub async fn with(remote: &Remote, reader: &Reader, also: &[u32]) -> Result<Self, OperationError> {
        let mut records = Records::list(remote, reader).await?;
        let mut listed: BTreeMap<u32, BTreeSet<u32>> = also.iter().map(|epoch| (*epoch, BTreeSet::new())).collect();
        for (epoch, generation) in remote.list_keys().await?.into_keys() {
            listed.entry(epoch).or_default().insert(generation);
        }
        let (mut epochs, mut unused) = (Vec::new(), Vec::new());
        for (epoch, generations) in listed {
            match records.naming(epoch).await? {
                Some((record, entry)) => {
                    epochs.push(NamedEpoch { epoch, recipient: entry.recipient, record, generations });
                }
                None => unused.push(epoch.to_string()),
            }
        }
        let mut warnings = std::mem::take(&mut records.warnings);
        if !unused.is_empty() {
            let text = format!("no snapshot needs epoch {} (yet); its keys are left as they are", unused.join(", "));
            warnings.push(Warning::standing("epoch-unused", text));
        }
        Ok(Self { epochs, signer: records.signer().clone(), warnings })
    }
}

impl NamedEpoch {
    /// The newest generation that one of the identities opens; the error of what stood in the way otherwise.
    pub async fn open(
        &self,
        remote: &Remote,
        identities: &[IdentityFile],
    ) -> Result<Result<OpenedGeneration, OperationError>, OperationError> {
        let mut failure = OperationError::NoIdentityOpens { object: format!("{}{}/", layout::KEYS, self.epoch) };
        for generation in self.generations.iter().rev() {
            match open_generation(remote, (self.epoch, *generation), &self.recipient, identities).await? {
                Ok(opened) => return Ok(Ok(opened)),
                Err(OperationError::NoIdentityOpens { .. } | OperationError::Store(_)) => {}
                Err(error) => failure = error,
            }
        }
        Ok(Err(failure))
    }

    /// What a lock of the bucket means for a generation that was deleted.
    pub fn still_locked(&self, until: Timestamp) -> Warning {
        let epoch = self.epoch;
        let text = format!(
            "the bucket locks its objects: the deleted generation of epoch {epoch} can still be fetched, as an old \
             version, until {until} at least"
        );
        Warning::standing("old-key-locked", text)
    }

    /// Deletes generations that are no longer wanted.
    pub async fn delete(&self, remote: &Remote, generations: &[u32]) -> Result<(), OperationError> {
        for generation in generations {
            remote.store.delete(&layout::data_key(self.epoch, *generation)).await?;
            tracing::info!(epoch = self.epoch, generation, "wrapped key deleted");
        }
        Ok(())
    }
}

/// Epochs that an identity of the new set opened through their new generations.
pub(super) struct Proved<'a> {
    epoch: &'a NamedEpoch,
    numbers: Vec<u32>,
}

impl<'a> Proved<'a> {
    /// Opens a real manifest of the newest of these epochs; of the others, the public half that the records name is
    /// proof enough. `None` where there are none.
    pub async fn by(
        remote: &Remote,
        epochs: &[(&'a NamedEpoch, &DataIdentity)],
    ) -> Result<Option<Self>, OperationError> {
        let Some((epoch, identity)) = epochs.last() else { return Ok(None) };
        let manifest = &epoch.record.record.manifest;
        if manifest.epoch == epoch.epoch {
            let key = layout::manifest(&manifest.name);
            let sealed = remote.sealed(&key, &manifest.name).await?;
            Manifest::open(&sealed, identity).map_err(|error| OperationError::object(&key, error))?;
        }
        Ok(Some(Self { epoch, numbers: epochs.iter().map(|(epoch, _)| epoch.epoch).collect() }))
    }

    /// Puts a receipt that says so, signed by the operator's own key: the name of that key, or a warning.
    pub async fn put_receipt(
        &self,
        remote: &Remote,
        reader: &Reader,
    ) -> Result<Result<String, Warning>, OperationError> {
        let signer = driller(&reader.state_root)?;
        let record = &self.epoch.record;
        let receipt = Receipt {
            format: Receipt::FORMAT,
            repository: remote.id().clone(),
            sequence: record.record.sequence,
            record: record.signed.digest(),
            kind: ReceiptKind::Confirm,
            time: clock::now(),
            passed: true,
            epochs: self.numbers.clone(),
            bad: Vec::new(),
            recovery_ms: None,
        };
        Ok(match put_receipt(remote, &receipt, &signer).await {
            Ok(_) => Ok(signer.public().to_string()),
            Err(OperationError::Store(error)) => {
                let text = format!("the receipt that says so could not be stored: {error}");
                Err(Warning::standing("receipt-not-stored", text))
            }
            Err(error) => return Err(error),
        })
    }
}
