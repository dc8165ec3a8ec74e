//! The record: the public, signed commit of one snapshot.
//!
//! It says all that listing, retention and checks need without a private key. It is public: it holds no name of a
//! source, no digest of plain bytes, no recipient.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RepositoryId;
use super::error::{FormatError, parse};
use super::layout::MAX_SEQUENCE;
use super::ranges::{Range, are_ranges};
use super::retention::Retention;
use crate::crypto::{CryptoError, DataRecipient, Digest, FingerprintKey, PublicSigner, Signed, Signer};
pub use crate::store::CreateOnce;

/// What `quick_check` said of a source when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    Unchecked,
    /// Much smaller than it was, and no person has accepted that.
    Shrunk,
    Damaged,
    /// Configured, but not there: the snapshot lacks it.
    Missing,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchecked => "unchecked",
            Self::Shrunk => "shrunk",
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
pub struct Takeover {
    /// The signer before.
    pub from: PublicSigner,
    /// The highest sequence number that `from` signed and that counts; 0: none.
    pub last: u64,
    /// The signer from then on.
    pub to: PublicSigner,
}

/// A record that a person on the host ignored: its number, and the SHA-256 of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ignored(pub u64, pub Digest);

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
    pub takeovers: Vec<Takeover>,
    /// Records that a person on the host ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<Ignored>,
    #[serde(default, skip_serializing_if = "CreateOnce::is_conditional")]
    pub create_once: CreateOnce,
    /// Random, so that two records never have the same bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The rules in force on the host, where it has any. They are shown, and no other machine follows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

impl Record {
    pub const FORMAT: u64 = 1;

    /// A new [`Record::nonce`].
    pub fn new_nonce() -> String {
        hex::encode(&FingerprintKey::generate().as_bytes()[..8])
    }

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
        self.packs().fold(self.manifest.bytes, |sum, pack| sum.saturating_add(pack.1))
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

/// What lies under a record's name, where its signature holds.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // Nearly all are records: a box would cost each of them an allocation.
pub enum ReadRecord {
    Record(SignedRecord),
    /// A record of a format that this sealift does not know. Only its envelope was checked: one line and its signature,
    /// which are the same in every format. What the line says is not known, not even its place.
    Newer {
        signed: Signed,
        format: u64,
    },
}

impl ReadRecord {
    /// Whose signature it is. Whether that signer counts is for the reader to judge.
    pub fn signed(&self) -> &Signed {
        match self {
            Self::Record(record) => &record.signed,
            Self::Newer { signed, .. } => signed,
        }
    }
}

/// A record whose signature holds, with the bytes that were signed. Whose signature it is, is for the reader to judge.
#[derive(Clone)]
pub struct SignedRecord {
    pub record: Record,
    pub signed: Signed,
}

impl SignedRecord {
    /// Reads the record stored under `sequence` in the repository `id`. A record that was copied from another place
    /// does not pass, and neither does one of a newer format.
    pub fn read(bytes: Bytes, sequence: u64, id: &RepositoryId) -> Result<Self, RecordError> {
        match Self::read_any(bytes, sequence, id)? {
            ReadRecord::Record(record) => Ok(record),
            ReadRecord::Newer { format, .. } => Err(newer(format)),
        }
    }

    /// The same, but a newer format is no error: its envelope names the signer.
    pub fn read_any(bytes: Bytes, sequence: u64, id: &RepositoryId) -> Result<ReadRecord, RecordError> {
        let read = Self::read_placed(bytes, id)?;
        match &read {
            ReadRecord::Record(it) if it.record.sequence != sequence => {
                let why =
                    format!("it is the record of snapshot {}, stored under number {sequence}", it.record.sequence);
                Err(FormatError::invalid(why).into())
            }
            _ => Ok(read),
        }
    }

    /// Reads a record of the repository `id` whose place is not known, such as one that this host kept.
    pub fn read_own(bytes: Bytes, id: &RepositoryId) -> Result<Self, RecordError> {
        match Self::read_placed(bytes, id)? {
            ReadRecord::Record(record) => Ok(record),
            ReadRecord::Newer { format, .. } => Err(newer(format)),
        }
    }

    /// Reads what [`SignedRecord::read`] accepted before and this machine kept: the signature is not checked again.
    pub fn reread(bytes: Bytes, sequence: u64, id: &RepositoryId) -> Result<Self, RecordError> {
        match Self::of_signed(Signed::reread(bytes)?, id)? {
            ReadRecord::Record(record) if record.record.sequence == sequence => Ok(record),
            _ => Err(FormatError::invalid("what was kept of it is of another snapshot").into()),
        }
    }

    /// Checks all but the number under which it lies.
    fn read_placed(bytes: Bytes, id: &RepositoryId) -> Result<ReadRecord, RecordError> {
        Self::of_signed(Signed::verify(bytes)?, id)
    }

    fn of_signed(signed: Signed, id: &RepositoryId) -> Result<ReadRecord, RecordError> {
        let record: Record = match parse(signed.line(), Record::FORMAT) {
            Err(FormatError::Newer { found: format, .. }) => return Ok(ReadRecord::Newer { signed, format }),
            record => record?,
        };
        if record.repository != *id {
            return Err(FormatError::invalid("it belongs to another repository, and was copied from there").into());
        }
        check_takeovers(&record, signed.signer())?;
        if !(1..=MAX_SEQUENCE).contains(&record.sequence) || !are_ranges(&record.earlier, record.sequence) {
            return Err(FormatError::invalid("its number, or the list of earlier ones, is not in order").into());
        }
        let mut epochs = record.epochs.iter().map(|epoch| epoch.epoch).chain([record.manifest.epoch]);
        if epochs.any(|epoch| epoch == 0) {
            return Err(FormatError::invalid("it names a key epoch 0, and they count from 1").into());
        }
        Ok(ReadRecord::Record(Self { record, signed }))
    }

    /// Whose signature counts under `sequence` for a reader that trusts this record's signer.
    pub fn signer_of(&self, sequence: u64) -> &PublicSigner {
        signer_of(&self.record.takeovers, self.signed.signer(), sequence)
    }
}

fn newer(found: u64) -> RecordError {
    FormatError::Newer { found, known: Record::FORMAT }.into()
}

/// Who signs the record under `sequence`, where `takeovers` led to `signer`.
pub fn signer_of<'a>(takeovers: &'a [Takeover], signer: &'a PublicSigner, sequence: u64) -> &'a PublicSigner {
    takeovers.iter().find(|step| sequence <= step.last).map_or(signer, |step| &step.from)
}

/// A list of takeovers leads from signer to signer, upwards, and to the signer of the record.
fn check_takeovers(record: &Record, signer: &PublicSigner) -> Result<(), FormatError> {
    let steps = &record.takeovers;
    let joined = steps.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].last < pair[1].last);
    let fits = steps.last().is_none_or(|step| step.to == *signer && step.last < record.sequence);
    let why = "its list of takeovers does not lead to its signer";
    (joined && fits).then_some(()).ok_or_else(|| FormatError::invalid(why))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::sha256;

    fn record(id: &RepositoryId) -> Record {
        Record {
            format: Record::FORMAT,
            repository: id.clone(),
            sequence: 9,
            previous: None,
            earlier: vec![(1, 8)],
            time: Timestamp::UNIX_EPOCH,
            host: String::new(),
            tags: Vec::new(),
            health: Vec::new(),
            writer_hold_ms: 0,
            manifest: ManifestRef { name: Digest::from_bytes([0; 32]), bytes: 0, epoch: 1 },
            epochs: Vec::new(),
            takeovers: Vec::new(),
            ignored: Vec::new(),
            create_once: CreateOnce::default(),
            nonce: String::new(),
            retention: None,
        }
    }

    fn signer() -> Signer {
        Signer::generate().expect("a key")
    }

    fn bytes(line: &Value, signer: &Signer) -> Bytes {
        signer.sign(&line.to_string()).expect("signed").bytes().clone()
    }

    #[test]
    fn a_list_of_takeovers_leads_upwards_to_the_signer_or_is_refused() {
        let id = RepositoryId::generate();
        let [a, b, c] = [(); 3].map(|()| signer());
        let step = |from: &Signer, last, to: &Signer| Takeover { from: from.public(), last, to: to.public() };
        let read = |takeovers: &[Takeover], signer: &Signer| {
            let record = Record { takeovers: takeovers.to_vec(), ..record(&id) };
            SignedRecord::read(record.sign(signer).expect("signed").bytes().clone(), 9, &id)
        };
        let good = read(&[step(&a, 3, &b), step(&b, 7, &c)], &c).expect("a list that leads to c");
        assert_eq!([3, 4, 7, 8].map(|n| good.signer_of(n).clone()), [a.public(), b.public(), b.public(), c.public()]);
        for (takeovers, signer) in [
            (vec![step(&a, 3, &b)], &c),
            (vec![step(&a, 3, &b), step(&a, 7, &c)], &c),
            (vec![step(&a, 7, &b), step(&b, 3, &c)], &c),
            (vec![step(&a, 9, &c)], &c),
            (vec![step(&a, u64::MAX, &c)], &c),
        ] {
            assert!(read(&takeovers, signer).is_err(), "{takeovers:?}");
        }
    }

    #[test]
    fn a_newer_format_is_no_damage_and_keeps_its_signer() {
        let (id, signer) = (RepositoryId::generate(), signer());
        let newer = bytes(&json!({ "format": 7, "all": "else is unknown" }), &signer);
        let Ok(ReadRecord::Newer { signed, format: 7 }) = SignedRecord::read_any(newer.clone(), 9, &id) else {
            panic!("it is a newer format");
        };
        assert_eq!((signed.signer(), signed.bytes()), (&signer.public(), &newer));
        let is_newer = |error| matches!(error, RecordError::Format(FormatError::Newer { found: 7, known: 1 }));
        assert!(SignedRecord::read(newer.clone(), 9, &id).is_err_and(is_newer));
        assert!(SignedRecord::read_own(newer.clone(), &id).is_err_and(is_newer));
        let forged = String::from_utf8(newer.to_vec()).expect("text").replace("\"format\":7", "\"format\":8");
        let error = SignedRecord::read_any(forged.into(), 9, &id).map(drop).expect_err("refused");
        assert!(matches!(error, RecordError::Signature(_)), "an unsigned newer format is damage: {error}");
        for format in [json!(0), json!(-1), json!(1.5), json!("2"), json!(null)] {
            let mut line = serde_json::to_value(record(&id)).expect("JSON");
            line["format"] = format;
            let error = SignedRecord::read_any(bytes(&line, &signer), 9, &id).map(drop).expect_err("refused");
            assert!(matches!(error, RecordError::Format(FormatError::Invalid(_))), "{line}: {error}");
        }
    }

    #[test]
    fn a_record_is_read_where_it_belongs_and_nowhere_else() {
        let (id, signer) = (RepositoryId::generate(), signer());
        let own = record(&id).sign(&signer).expect("signed").bytes().clone();
        let read = |sequence, id| SignedRecord::read(own.clone(), sequence, id).is_ok();
        assert!(read(9, &id));
        assert!(!read(8, &id) && !read(u64::MAX, &id));
        assert!(!read(9, &RepositoryId::generate()));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        let (id, signer) = (RepositoryId::generate(), signer());
        let read = |change: &dyn Fn(&mut Value)| {
            let mut line = serde_json::to_value(record(&id)).expect("JSON");
            change(&mut line);
            SignedRecord::read_own(bytes(&line, &signer), &id).map(drop)
        };
        read(&|_| ()).expect("a record");
        read(&|line| line["later"] = json!([1])).expect("a member more");
        let recipient = crate::crypto::DataIdentity::generate().recipient().to_string();
        let epoch = |number: u64| json!([{ "epoch": number, "recipient": recipient, "packs": [] }]);
        read(&|line| line["epochs"] = epoch(u64::from(u32::MAX))).expect("the last epoch");
        let wrong: [(&str, Value); 8] = [
            ("sequence", json!(0)),
            ("sequence", json!(MAX_SEQUENCE + 1)),
            ("sequence", json!(u64::MAX)),
            ("earlier", json!([[1, u64::MAX]])),
            ("earlier", json!([[1, 9]])),
            ("epochs", epoch(0)),
            ("epochs", epoch(1 << 32)),
            ("manifest", json!({ "name": sha256(b""), "bytes": 0, "epoch": 0 })),
        ];
        for (member, value) in wrong {
            assert!(read(&|line| line[member] = value.clone()).is_err(), "{member} {value}");
        }
    }

    #[test]
    fn sums_of_sizes_do_not_overflow() {
        let pack = |byte| PackRef(Digest::from_bytes([byte; 32]), u64::MAX);
        let recipient = crate::crypto::DataIdentity::generate().recipient();
        let epochs = vec![Epoch { epoch: 1, recipient, packs: vec![pack(1), pack(2)] }];
        assert_eq!(Record { epochs, ..record(&RepositoryId::generate()) }.stored_bytes(), u64::MAX);
    }
}
