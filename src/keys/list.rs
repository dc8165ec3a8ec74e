//! Which epochs there are, in which generations, for whom, and which snapshots need which.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::claims::unnamed;
use crate::crypto::{DataRecipient, Recipient};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::KeyHolders;
use crate::format::ranges::ranges;
use crate::history::History;
use crate::history::Reader;
use crate::host::{HostState, KeptKeys};
use crate::repository::Remote;
use crate::repository::kept_keys::managed_by_rotation;
use crate::repository::unlock::open_generation;

pub struct KeyList {
    /// In ascending order.
    pub epochs: Vec<ListedEpoch>,
    /// On the host: it did not write all generations, so its configuration does not say who opens the backups.
    pub managed_by_rotation: bool,
    pub warnings: Vec<Warning>,
}

pub struct ListedEpoch {
    pub epoch: u32,
    /// The public half that signed records name; `None` where no snapshot needs the epoch.
    pub recipient: Option<DataRecipient>,
    /// The snapshots that need it, as inclusive ranges.
    pub snapshots: Vec<(u64, u64)>,
    /// In ascending order.
    pub generations: Vec<ListedGeneration>,
}

pub struct ListedGeneration {
    pub generation: u32,
    /// Stored size.
    pub bytes: u64,
    /// When it was stored, by the server's clock.
    pub time: Timestamp,
    /// Whether this host made it; `None` on a machine that keeps none.
    pub own: Option<bool>,
    /// This host saw newer ones before it: it does not tell for whom the backups are to be.
    pub set_back: bool,
    /// As the comments say, or as this host remembers.
    pub holders: Option<KeyHolders>,
    /// Nothing but comments in the key file says so, and whoever knows the data identity can write what he likes there.
    pub claimed: bool,
    /// Whether a given identity opens it, or why not; `None` where none is given.
    pub opens: Option<Result<(), String>>,
}

/// Lists the keys; with identities, those that they open are opened.
pub async fn list_keys(remote: &Remote, reader: &Reader) -> Result<KeyList, OperationError> {
    let history = History::load(remote, reader).await?;
    keys_of(remote, reader, &history).await
}

/// The same, for a history that was read before.
pub async fn keys_of(remote: &Remote, reader: &Reader, history: &History) -> Result<KeyList, OperationError> {
    let dir = reader.state_dir(remote);
    let kept = KeptKeys::load(&dir)?;
    let mut epochs: BTreeMap<u32, ListedEpoch> = BTreeMap::new();
    let of = |epoch| ListedEpoch { epoch, recipient: None, snapshots: Vec::new(), generations: Vec::new() };
    let mut needed: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for record in history.verified() {
        for entry in &record.record.epochs {
            let listed = epochs.entry(entry.epoch).or_insert_with(|| of(entry.epoch));
            listed.recipient = Some(entry.recipient.clone());
            needed.entry(entry.epoch).or_default().push(record.record.sequence);
        }
    }
    for (epoch, sequences) in needed {
        epochs.entry(epoch).and_modify(|listed| listed.snapshots = ranges(sequences));
    }
    let mut warnings = history.warnings.clone();
    let there = remote.list_keys().await?;
    let host = HostState::load(&dir)?;
    let managed_by_rotation = host.is_some_and(|host| managed_by_rotation(&kept, host.sealed_to.epoch, &there));
    for ((epoch, generation), seen) in there {
        let listed = epochs.entry(epoch).or_insert_with(|| of(epoch));
        let known = kept.find((epoch, generation), seen.bytes, seen.modified);
        let own = kept.iter().next().map(|_| known.is_some_and(|key| key.own));
        let mut generation = ListedGeneration {
            generation,
            bytes: seen.bytes,
            time: seen.modified,
            own,
            set_back: known.is_some_and(|key| key.set_back.is_some()),
            holders: known.filter(|key| key.own).map(|key| KeyHolders::of(&key.recipients)),
            claimed: false,
            opens: None,
        };
        if !reader.identities.is_empty() {
            let place = (epoch, generation.generation);
            let opened = open_generation(remote, place, listed.recipient.as_ref(), &reader.identities).await?;
            generation.opens = Some(match opened {
                Ok(opened) => {
                    warnings.extend(unnamed(epoch, &opened));
                    generation.claimed = generation.holders.is_none();
                    generation.holders.get_or_insert(opened.holders);
                    Ok(())
                }
                Err(unopened) => Err(unopened.error.to_string()),
            });
        }
        listed.generations.push(generation);
    }
    Ok(KeyList { managed_by_rotation, epochs: epochs.into_values().collect(), warnings })
}

impl ListedEpoch {
    /// Whom its generations name, and who could once open it.
    pub fn holders(&self) -> KeyHolders {
        let mut all = KeyHolders::default();
        let known = || self.generations.iter().filter_map(|generation| generation.holders.as_ref());
        add(&mut all.recipients, known().flat_map(|holders| &holders.recipients));
        add(&mut all.former, known().flat_map(|holders| &holders.former));
        all.former.retain(|recipient| !all.recipients.contains(recipient));
        all
    }
}

fn add<'a>(set: &mut Vec<Recipient>, more: impl Iterator<Item = &'a Recipient>) {
    for recipient in more {
        if !set.contains(recipient) {
            set.push(recipient.clone());
        }
    }
}
