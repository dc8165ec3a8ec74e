//! The key epochs, their key files with recipients, and the snapshots that need them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::crypto::{DataRecipient, Recipient};
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::KeyHolders;
use crate::format::ranges::ranges;
use crate::history::History;
use crate::history::Reader;
use crate::host::KeptKeys;
use crate::repository::Remote;
use crate::repository::kept_keys::too_many;
use crate::repository::unlock::open_version;

pub struct KeyList {
    /// In ascending order.
    pub epochs: Vec<ListedEpoch>,
    /// On the host: it saw a key file that it did not make, so its configuration does not say who opens the backups.
    pub made_elsewhere: bool,
    pub warnings: Vec<Finding>,
}

pub struct ListedEpoch {
    pub epoch: u32,
    /// The public half that signed records name; `None` where no snapshot needs the epoch.
    pub recipient: Option<DataRecipient>,
    /// The snapshots that need it, as inclusive ranges.
    pub snapshots: Vec<(u64, u64)>,
    /// In ascending order.
    pub versions: Vec<ListedVersion>,
}

/// One key file.
pub struct ListedVersion {
    pub version: u32,
    /// Stored size.
    pub bytes: u64,
    /// When it was stored, by the server's clock.
    pub time: Timestamp,
    /// Whether this host made it; `None` on a machine that keeps none.
    pub own: Option<bool>,
    /// As the comments say, or as this host remembers.
    pub holders: Option<KeyHolders>,
    /// Only comments in the key file say so. They prove nothing.
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
    let of = |epoch| ListedEpoch { epoch, recipient: None, snapshots: Vec::new(), versions: Vec::new() };
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
    let mut made_elsewhere = kept.saw_others();
    warnings.extend(too_many(there.keys().copied()));
    for ((epoch, version), seen) in there {
        let listed = epochs.entry(epoch).or_insert_with(|| of(epoch));
        let known = kept.find((epoch, version), seen.bytes, seen.modified);
        let own = kept.iter().next().map(|_| known.is_some_and(|key| key.own));
        made_elsewhere |= own == Some(false);
        let mut version = ListedVersion {
            version,
            bytes: seen.bytes,
            time: seen.modified,
            own,
            holders: known.filter(|key| key.own).map(|key| KeyHolders::of(&key.recipients)),
            claimed: false,
            opens: None,
        };
        if !reader.identities.is_empty() {
            let place = (epoch, version.version);
            let opened = open_version(remote, place, listed.recipient.as_ref(), &reader.identities).await?;
            version.opens = Some(match opened {
                Ok(opened) => {
                    version.claimed = version.holders.is_none();
                    version.holders.get_or_insert(opened.holders);
                    Ok(())
                }
                Err(unopened) => Err(unopened.error.to_string()),
            });
        }
        listed.versions.push(version);
    }
    let is_missing = |listed: &&ListedEpoch| !listed.snapshots.is_empty() && listed.versions.is_empty();
    let missing: Vec<u32> = epochs.values().filter(is_missing).map(|listed| listed.epoch).collect();
    if !missing.is_empty() {
        warnings.push(Finding::KeysMissing { epochs: missing });
    }
    Ok(KeyList { made_elsewhere, epochs: epochs.into_values().collect(), warnings })
}

impl ListedEpoch {
    /// The recipients that its key files name, and former ones.
    pub fn holders(&self) -> KeyHolders {
        let mut all = KeyHolders::default();
        let known = || self.versions.iter().filter_map(|version| version.holders.as_ref());
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
