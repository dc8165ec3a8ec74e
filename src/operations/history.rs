//! All snapshots of a repository as a reader sees them: whose signature counts, what cannot be verified, what is gone.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::{OperationError, Remote, Warning};
use crate::crypto::{IdentityFile, PublicSigner};
use crate::repository::SignedRecord;
use crate::state::Pins;

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Latest,
    Sequence(u64),
    /// The last at or before this time.
    At(Timestamp),
}

/// Whose signature counts, and how that is known.
pub struct Pin {
    pub signer: PublicSigner,
    pub warning: Option<Warning>,
    /// The identity file was made for another repository, and nothing else says who signs this one.
    exchanged: bool,
}

impl Pin {
    /// Refuses what an identity opens although it was made for another repository: whoever can write to the bucket can
    /// put a repository of his own there, sealed to the operator's public key.
    pub(super) fn refuse_exchanged(&self, remote: &Remote) -> Result<(), OperationError> {
        if !self.exchanged {
            return Ok(());
        }
        Err(OperationError::Verification {
            object: crate::repository::layout::descriptor().to_string(),
            why: format!(
                "the identity was made for another repository, and this one is {}: it was exchanged, or the key \
                 serves several; then say with --signer whose signature counts here",
                remote.id()
            ),
        })
    }
}

/// The pin: what was given, else what was remembered, else what the identity file says, else the repository's own word,
/// which proves nothing and is said aloud.
pub fn pin(
    remote: &Remote,
    given: Option<PublicSigner>,
    state_dir: &Path,
    identities: &[IdentityFile],
) -> Result<Pin, OperationError> {
    let named: Vec<&IdentityFile> = identities.iter().filter(|file| file.comment("repository").is_some()).collect();
    let of_this_repository = |file: &&&IdentityFile| file.comment("repository") == Some(remote.id().as_str());
    let in_comments = || {
        let file = named.iter().find(of_this_repository)?;
        file.comment("signer")?.parse().ok()
    };
    let known = match given {
        Some(signer) => Some(signer),
        None => Pins::load(state_dir)?.signer.or_else(in_comments),
    };
    Ok(match known {
        Some(signer) => Pin { signer, warning: None, exchanged: false },
        None => {
            let signer = remote.descriptor.signer.clone();
            let text = format!(
                "nothing here says who signs this repository; the repository itself says {signer}. \
                 Compare it with what init printed, then give it with --signer"
            );
            let warning = Some(Warning::standing("unpinned-signer", text));
            Pin { signer, warning, exchanged: !named.is_empty() }
        }
    })
}

/// A listed record, or why it cannot be used.
pub struct Listed {
    pub sequence: u64,
    pub record: Result<Arc<SignedRecord>, String>,
}

/// Every listed record, oldest first.
pub struct History {
    pub listed: Vec<Listed>,
    pub warnings: Vec<Warning>,
}

impl History {
    pub async fn load(remote: &Remote, pin: &Pin, state_dir: &Path) -> Result<Self, OperationError> {
        let sequences = remote.list_records().await?;
        let mut listed = Vec::with_capacity(sequences.len());
        for (sequence, record) in remote.records(&sequences).await? {
            let record = judge(record, pin)?.map(Arc::new);
            listed.push(Listed { sequence, record });
        }
        let mut history = Self { listed, warnings: pin.warning.iter().cloned().collect() };
        history.check_chain();
        history.remember(pin, state_dir)?;
        Ok(history)
    }

    pub fn verified(&self) -> impl DoubleEndedIterator<Item = &Arc<SignedRecord>> {
        self.listed.iter().filter_map(|listed| listed.record.as_ref().ok())
    }

    /// The snapshot that is meant. Naming one that cannot be verified is an error; passing one over is a warning.
    pub fn find(&self, selector: &Selector) -> Result<&Arc<SignedRecord>, OperationError> {
        match selector {
            Selector::Latest => self.verified().next_back().ok_or_else(|| self.nothing_found(None)),
            Selector::At(time) => {
                let found = self.verified().rfind(|record| record.record.time <= *time);
                found.ok_or_else(|| self.nothing_found(Some(format!("at or before {time}"))))
            }
            Selector::Sequence(sequence) => {
                let listed = self.listed.iter().find(|listed| listed.sequence == *sequence);
                let listed = listed.ok_or_else(|| OperationError::NoSnapshot(Some(sequence.to_string())))?;
                listed.record.as_ref().map_err(|why| unverifiable(*sequence, why))
            }
        }
    }

    /// Snapshots that are there and cannot be verified, every one of them, are not the same as no snapshot.
    fn nothing_found(&self, wanted: Option<String>) -> OperationError {
        match self.listed.last() {
            Some(Listed { sequence, record: Err(why) }) if self.verified().next().is_none() => {
                unverifiable(*sequence, why)
            }
            _ => OperationError::NoSnapshot(wanted),
        }
    }

    fn check_chain(&mut self) {
        let mut warnings = Vec::new();
        for listed in &self.listed {
            if let Err(why) = &listed.record {
                let text = format!("snapshot {} cannot be verified and is passed over: {why}", listed.sequence);
                warnings.push(Warning::doubt("unverifiable-record", text));
            }
        }
        let verified: Vec<_> = self.verified().collect();
        for pair in verified.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            let follows = later.record.earlier.last().is_some_and(|range| range.1 == earlier.record.sequence);
            if follows && later.record.previous != Some(earlier.signed.digest()) {
                let text = format!(
                    "snapshot {} does not follow on the snapshot {} that lies here: one of them was exchanged",
                    later.record.sequence, earlier.record.sequence
                );
                warnings.push(Warning::doubt("broken-chain", text));
            }
        }
        let gone = self.vanished();
        if !gone.is_empty() {
            let text = format!("snapshot {} is named by a later one and no longer there", gone.join(", "));
            warnings.push(Warning::doubt("record-vanished", text));
        }
        self.warnings.append(&mut warnings);
    }

    /// Sequences that the newest verified record lists as earlier ones and that are not there.
    fn vanished(&self) -> Vec<String> {
        let Some(newest) = self.verified().next_back() else { return Vec::new() };
        let there: std::collections::HashSet<u64> = self.listed.iter().map(|listed| listed.sequence).collect();
        let named = newest.record.earlier.iter().flat_map(|(from, to)| *from..=*to);
        named.filter(|sequence| !there.contains(sequence)).map(|sequence| sequence.to_string()).collect()
    }

    /// Remembers signer and newest snapshot; an older newest than last time is a bucket that was set back.
    fn remember(&mut self, pin: &Pin, state_dir: &Path) -> Result<(), OperationError> {
        let mut pins = Pins::load(state_dir)?;
        let newest = self.verified().next_back().map(|record| record.record.sequence);
        if let Some(before) = pins.newest
            && newest.is_none_or(|newest| newest < before)
        {
            let text = format!("snapshot {before} was here before and is gone: the repository was set back");
            self.warnings.push(Warning::doubt("repository-set-back", text));
        }
        pins.newest = pins.newest.max(newest);
        // A signer is remembered once something it signed was seen, and never on the repository's word alone.
        if newest.is_some() && pin.warning.is_none() {
            pins.signer = Some(pin.signer.clone());
        }
        if let Err(error) = pins.save(state_dir) {
            tracing::debug!(%error, "pins could not be remembered");
        }
        Ok(())
    }
}

fn unverifiable(sequence: u64, why: &str) -> OperationError {
    let object = crate::repository::layout::record(sequence).to_string();
    OperationError::Verification { object, why: why.to_owned() }
}

/// Errors of the store end everything; a record that is not right is told, not fatal.
fn judge(
    record: Result<SignedRecord, OperationError>,
    pin: &Pin,
) -> Result<Result<SignedRecord, String>, OperationError> {
    match record {
        Ok(record) if *record.signed.signer() == pin.signer => Ok(Ok(record)),
        Ok(record) => {
            Ok(Err(format!("it is signed by {}, and the pinned signer is {}", record.signed.signer(), pin.signer)))
        }
        Err(OperationError::Verification { why, .. } | OperationError::NewerFormat { why, .. }) => Ok(Err(why)),
        Err(other) => Err(other),
    }
}
