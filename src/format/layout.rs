//! Where things lie in a repository: one function a kind of object, and one to read a name back.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::crypto::Digest;
use crate::store::Key;

/// The one object that says that here is a repository.
pub fn descriptor() -> Key {
    key("repository.json".to_owned())
}

/// How to get everything back without sealift.
pub fn recovery_text() -> Key {
    key("RECOVERY.txt".to_owned())
}

/// The script that does it.
pub fn recovery_script(digest: &Digest) -> Key {
    key(format!("recover-{digest}.py"))
}

/// The digest in a recovery script's name.
pub fn recovery_digest(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix("recover-")?.strip_suffix(".py")?.parse().ok()
}

/// The highest number of a snapshot.
pub const MAX_SEQUENCE: u64 = 9_999_999_999;

pub const RECORDS: &str = "snapshots/";
pub const PACKS: &str = "packs/";
pub const MANIFESTS: &str = "manifests/";
pub const KEYS: &str = "keys/";
pub const RECEIPTS: &str = "receipts/";

pub fn record(sequence: u64) -> Key {
    key(format!("{RECORDS}{sequence:010}.record"))
}

pub fn pack(name: &Digest) -> Key {
    key(format!("{PACKS}{name}.age"))
}

pub fn manifest(name: &Digest) -> Key {
    key(format!("{MANIFESTS}{name}.age"))
}

/// A version of the encrypted data key of an epoch. Both count from 1.
pub fn data_key(epoch: u32, version: u32) -> Key {
    key(format!("{KEYS}{epoch}/{version}.age"))
}

/// `receipts/<sequence, ten digits>-<time>.receipt`, the time in UTC to the second: `20261124T030000Z`.
pub fn receipt(sequence: u64, time: Timestamp) -> Key {
    let time = time.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    key(format!("{RECEIPTS}{sequence:010}-{time}.receipt"))
}

/// The sequence number in a receipt's name.
pub fn receipt_sequence(key: &Key) -> Option<u64> {
    let (digits, _) = key.as_str().strip_prefix(RECEIPTS)?.strip_suffix(".receipt")?.split_once('-')?;
    number(digits).filter(|sequence| format!("{sequence:010}") == digits)
}

/// The sequence number in a record's name.
pub fn record_sequence(key: &Key) -> Option<u64> {
    let digits = key.as_str().strip_prefix(RECORDS)?.strip_suffix(".record")?;
    number(digits).filter(|sequence| record(*sequence) == *key)
}

fn number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|sequence| (1..=MAX_SEQUENCE).contains(sequence))
}

/// The number after `sequence`; `None` after the last one that ten digits can write.
pub fn next_sequence(sequence: u64) -> Option<u64> {
    sequence.checked_add(1).filter(|next| *next <= MAX_SEQUENCE)
}

/// The digest in a pack's or a manifest's name.
pub fn digest(key: &Key) -> Option<Digest> {
    let name = key.as_str();
    let name = name.strip_prefix(PACKS).or_else(|| name.strip_prefix(MANIFESTS))?;
    name.strip_suffix(".age")?.parse().ok()
}

/// Epoch and version in a key file's name. Both count from 1: under 0 lies no key file.
pub fn epoch_and_version(key: &Key) -> Option<(u32, u32)> {
    let (epoch, version) = key.as_str().strip_prefix(KEYS)?.strip_suffix(".age")?.split_once('/')?;
    let pair = (epoch.parse().ok()?, version.parse().ok()?);
    (pair.0 > 0 && pair.1 > 0 && data_key(pair.0, pair.1) == *key).then_some(pair)
}

/// Whether the name is one of those above; whatever else lies in a repository is not part of it.
pub fn is_known(key: &Key) -> bool {
    *key == descriptor()
        || *key == recovery_text()
        || recovery_digest(key).is_some()
        || digest(key).is_some()
        || epoch_and_version(key).is_some()
        || record_sequence(key).is_some()
        || receipt_sequence(key).is_some()
}

fn key(name: String) -> Key {
    Key::from_trusted(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Key {
        key(name.to_owned())
    }

    #[test]
    fn epochs_and_versions_count_from_1_and_have_one_spelling() {
        for pair in [(1, 1), (1, 10), (u32::MAX, u32::MAX)] {
            assert_eq!(epoch_and_version(&data_key(pair.0, pair.1)), Some(pair));
        }
        for wrong in ["0/1", "1/0", "0/0", "01/1", "1/01", "-1/1", "1/4294967296", "4294967296/1", "1", "1/1/1", "x/1"]
        {
            let key = named(&format!("keys/{wrong}.age"));
            assert_eq!(epoch_and_version(&key), None, "{wrong}");
            assert!(!is_known(&key), "{wrong}");
        }
        assert!(!is_known(&named("keys/1/1.AGE")));
    }

    #[test]
    fn snapshots_count_from_1_and_have_ten_digits() {
        for sequence in [1, MAX_SEQUENCE] {
            assert_eq!(record_sequence(&record(sequence)), Some(sequence));
            assert_eq!(receipt_sequence(&receipt(sequence, Timestamp::UNIX_EPOCH)), Some(sequence));
        }
        for digits in ["0000000000", "1", "01", "00000000001", "10000000000", "18446744073709551616"] {
            assert_eq!(record_sequence(&named(&format!("snapshots/{digits}.record"))), None, "{digits}");
            assert_eq!(
                receipt_sequence(&named(&format!("receipts/{digits}-19700101T000000Z.receipt"))),
                None,
                "{digits}"
            );
        }
    }

    #[test]
    fn there_is_nothing_after_the_last_number() {
        assert_eq!(next_sequence(0), Some(1));
        assert_eq!(next_sequence(MAX_SEQUENCE - 1), Some(MAX_SEQUENCE));
        assert_eq!([MAX_SEQUENCE, u64::MAX].map(next_sequence), [None; 2]);
    }
}
