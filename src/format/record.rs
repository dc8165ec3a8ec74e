//! The record: the public, signed commit of one snapshot.
//!
//! It says all that listing, retention and checks need without a private key, and nothing that a stranger must not
//! know: no name of a source, no digest of plain bytes, no recipient.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RepositoryId;
use super::format::{FormatError, parse};
use super::ranges::{Range, are_ranges};
use super::retention::Retention;
use crate::crypto::{CryptoError, DataIdentity, DataRecipient, Digest, PublicSigner, Signed, Signer};

/// What `quick_check` said of a source when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    Unchecked,
    Damaged,
    /// Configured, but not there: the snapshot lacks it.
    Missing,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchecked => "unchecked",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        }
    }
}

/// A stored pack: its name and its stored size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackRef(pub Digest, pub u64);

/// The data identity's public half and the packs of one epoch that a snapshot needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub epoch: u32,
    pub recipient: DataRecipient,
    pub packs: Vec<PackRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    pub name: Digest,
    pub bytes: u64,
    pub epoch: u32,
}

/// A change of the host that writes the repository. Every later record carries it, so that it outlives the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// Whose place was taken.
    pub from: PublicSigner,
    /// The highest sequence number that `from` signed and that counts; 0: none.
    pub last: u64,
    /// Who signs from then on.
    pub to: PublicSigner,
    /// The epoch whose data identity proves that an operator wanted it.
    pub epoch: u32,
    /// See [`TakeOver::statement`].
    pub proof: Digest,
}

impl TakeOver {
    pub fn new(
        repository: &RepositoryId,
        from: PublicSigner,
        last: u64,
        to: PublicSigner,
        epoch: (u32, &DataIdentity),
    ) -> Self {
        let proof = epoch.1.prove(&Self::statement(repository, &from, last, &to));
        Self { from, last, to, epoch: epoch.0, proof }
    }

    /// Whether it was made by somebody who held `identity`, the data identity of its epoch.
    pub fn is_proved_by(&self, repository: &RepositoryId, identity: &DataIdentity) -> bool {
        identity.prove(&Self::statement(repository, &self.from, self.last, &self.to)) == self.proof
    }

    /// What [`DataIdentity::prove`] proves.
    fn statement(repository: &RepositoryId, from: &PublicSigner, last: u64, to: &PublicSigner) -> String {
        format!("sealift take-over\n{repository}\n{from}\n{last}\n{to}\n")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`Record::FORMAT`].
    pub format: u64,
    pub repository: RepositoryId,
    pub sequence: u64,
    /// SHA-256 of the previous record's bytes.
    pub previous: Option<Digest>,
    /// The sequences of all earlier records that are still listed, as inclusive ranges.
    pub earlier: Vec<Range>,
    /// The instant that the snapshot shows: the end of its last read.
    pub time: Timestamp,
    pub host: String,
    pub tags: Vec<String>,
    /// One word a source, in the manifest's order.
    pub health: Vec<Health>,
    /// How long a writer could have been held up, in milliseconds.
    pub writer_hold_ms: u64,
    pub manifest: ManifestRef,
    pub epochs: Vec<Epoch>,
    /// Every change of the signer so far, oldest first; the last one's `to` is this record's signer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub take_overs: Vec<TakeOver>,
    /// The rules in force, where the host has any: what explains that a record is no longer there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

impl Record {
    pub const FORMAT: u64 = 1;

    /// Signs the record as one line of JSON.
    pub fn sign(&self, signer: &Signer) -> Result<Signed, RecordError> {
        let line = serde_json::to_string(self).map_err(|error| FormatError::invalid(error.to_string()))?;
        Ok(signer.sign(&line)?)
    }

    /// Every pack that the snapshot needs.
    pub fn packs(&self) -> impl Iterator<Item = &PackRef> {
        self.epochs.iter().flat_map(|epoch| &epoch.packs)
    }

    /// What the snapshot needs in the store, in bytes: its packs and its manifest.
    pub fn stored_bytes(&self) -> u64 {
        self.manifest.bytes + self.packs().map(|pack| pack.1).sum::<u64>()
    }

    /// The worst word about any source.
    pub fn worst_health(&self) -> Health {
        self.health.iter().copied().max().unwrap_or(Health::Ok)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Signature(#[from] CryptoError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// A record whose signature holds, with the bytes that were signed. Whose signature it is, is for the reader to judge.
#[derive(Clone)]
pub struct SignedRecord {
    pub record: Record,
    pub signed: Signed,
}

impl SignedRecord {
    /// Reads the record stored under `sequence` in the repository `id`. A record that was copied from another place
    /// does not pass.
    pub fn read(bytes: Bytes, sequence: u64, id: &RepositoryId) -> Result<Self, RecordError> {
        let read = Self::read_own(bytes, id)?;
        if read.record.sequence != sequence {
            let why =
                format!("it is that of snapshot {}, and lies under {sequence}: it was moved", read.record.sequence);
            return Err(FormatError::invalid(why).into());
        }
        Ok(read)
    }

    /// Reads a record of the repository `id` whose place is not known, such as one that this host kept.
    pub fn read_own(bytes: Bytes, id: &RepositoryId) -> Result<Self, RecordError> {
        let signed = Signed::verify(bytes)?;
        let record: Record = parse(signed.line(), Record::FORMAT)?;
        if record.repository != *id {
            return Err(FormatError::invalid("it belongs to another repository, and was copied from there").into());
        }
        check_take_overs(&record, signed.signer())?;
        if !are_ranges(&record.earlier, record.sequence) {
            return Err(FormatError::invalid("its list of earlier snapshots is not in order").into());
        }
        Ok(Self { record, signed })
    }

    /// Whose signature counts under `sequence` for whoever trusts this record.
    pub fn signer_of(&self, sequence: u64) -> &PublicSigner {
        signer_of(&self.record.take_overs, self.signed.signer(), sequence)
    }
}

/// Who signs the record under `sequence`, where `take_overs` led to `signer`.
pub fn signer_of<'a>(take_overs: &'a [TakeOver], signer: &'a PublicSigner, sequence: u64) -> &'a PublicSigner {
    take_overs.iter().find(|step| sequence <= step.last).map_or(signer, |step| &step.from)
}

/// A list of take-overs leads from signer to signer, upwards, and to whoever signed the record.
fn check_take_overs(record: &Record, signer: &PublicSigner) -> Result<(), FormatError> {
    let steps = &record.take_overs;
    let joined = steps.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].last < pair[1].last);
    let fits = steps.last().is_none_or(|step| step.to == *signer && step.last < record.sequence);
    let why = "its list of take-overs does not lead to whoever signed it";
    (joined && fits).then_some(()).ok_or_else(|| FormatError::invalid(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_take_over_is_proved_by_its_epoch_alone_and_for_its_signers_alone() {
        let (id, identity) = (RepositoryId::generate(), DataIdentity::generate());
        let signer = || Signer::generate().expect("a key").public();
        let take_over = TakeOver::new(&id, signer(), 7, signer(), (1, &identity));
        assert!(take_over.is_proved_by(&id, &identity));
        assert!(!take_over.is_proved_by(&id, &DataIdentity::generate()));
        assert!(!TakeOver { to: signer(), ..take_over.clone() }.is_proved_by(&id, &identity));
        assert!(!TakeOver { last: 8, ..take_over }.is_proved_by(&id, &identity));
    }

    #[test]
    fn a_list_of_take_overs_leads_upwards_to_the_signer_or_is_refused() {
        let (id, identity) = (RepositoryId::generate(), DataIdentity::generate());
        let [a, b, c] = [(); 3].map(|()| Signer::generate().expect("a key"));
        let step =
            |from: &Signer, last, to: &Signer| TakeOver::new(&id, from.public(), last, to.public(), (1, &identity));
        let read = |take_overs: &[TakeOver], signer: &Signer| {
            let record = Record {
                format: Record::FORMAT,
                repository: id.clone(),
                sequence: 9,
                previous: None,
                earlier: Vec::new(),
                time: Timestamp::UNIX_EPOCH,
                host: String::new(),
                tags: Vec::new(),
                health: Vec::new(),
                writer_hold_ms: 0,
                manifest: ManifestRef { name: Digest::from_bytes([0; 32]), bytes: 0, epoch: 1 },
                epochs: Vec::new(),
                take_overs: take_overs.to_vec(),
                retention: None,
            };
            SignedRecord::read(record.sign(signer).expect("signed").bytes().clone(), 9, &id)
        };
        let good = read(&[step(&a, 3, &b), step(&b, 7, &c)], &c).expect("a list that leads to c");
        assert_eq!([3, 4, 7, 8].map(|n| good.signer_of(n).clone()), [a.public(), b.public(), b.public(), c.public()]);
        for (take_overs, signer) in [
            (vec![step(&a, 3, &b)], &c),
            (vec![step(&a, 3, &b), step(&a, 7, &c)], &c),
            (vec![step(&a, 7, &b), step(&b, 3, &c)], &c),
            (vec![step(&a, 9, &c)], &c),
        ] {
            assert!(read(&take_overs, signer).is_err(), "{take_overs:?}");
        }
    }
}
