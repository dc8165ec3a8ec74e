//! What others found out about snapshots: the receipts in a repository, and putting one there.

use std::collections::HashSet;

use futures::stream::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::crypto::{Digest, PublicSigner, Signer};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{FormatError, Receipt, ReceiptKind, RecordError, SignedReceipt, SignedRecord, layout};
use crate::repository::Remote;
use crate::repository::{FETCHES, MAX_TEXT_BYTES, WITHHELD};
use crate::store::{Creation, Key, ObjectInfo, StoreError, Stored};

/// How many names that are taken already are passed over, a second each.
const NAMES: i64 = 60;

/// Every receipt by one of `believed`, in the order of snapshots and times. What others signed, and what is no receipt,
/// is noise: anybody who may write to the bucket can put it there.
pub async fn receipts(remote: &Remote, believed: &[PublicSigner]) -> Result<Vec<SignedReceipt>, OperationError> {
    if believed.is_empty() {
        return Ok(Vec::new());
    }
    let receipts = receipts_of_anybody(remote).await?.into_iter().map(|(_, receipt)| receipt);
    Ok(receipts.filter(|receipt| believed.contains(receipt.signed.signer())).collect())
}

/// Every receipt whose signature holds, whosever it is: to be shown as such, and never to be believed.
pub(crate) async fn receipts_of_anybody(remote: &Remote) -> Result<Vec<(ObjectInfo, SignedReceipt)>, OperationError> {
    let read = read_all(remote).await?.into_iter();
    let mut receipts: Vec<(ObjectInfo, SignedReceipt)> =
        read.filter_map(|(object, receipt)| Some((object, receipt.ok()?))).collect();
    SignedReceipt::settle(receipts.iter_mut().map(|(_, receipt)| receipt));
    Ok(receipts)
}

/// What has the name of a receipt and is none, with the reason.
pub(crate) async fn unreadable_receipts(remote: &Remote) -> Result<Vec<(Key, String)>, OperationError> {
    let read = read_all(remote).await?.into_iter();
    Ok(read.filter_map(|(object, receipt)| Some((object.key, receipt.err()?))).collect())
}

/// Every listed receipt, or why it cannot be read. One that is gone since is left out, and one of a newer format.
async fn read_all(remote: &Remote) -> Result<Vec<(ObjectInfo, Result<SignedReceipt, String>)>, OperationError> {
    let objects = remote.store.list(layout::RECEIPTS).await?.objects.into_iter();
    let named = objects.filter_map(|object| Some((layout::receipt_sequence(&object.key)?, object)));
    let read: Vec<(ObjectInfo, Found)> = futures::stream::iter(named)
        .map(|(sequence, object)| async move {
            let found = read_one(remote, sequence, &object).await?;
            Ok::<_, OperationError>((object, found))
        })
        .buffered(FETCHES)
        .try_collect()
        .await?;
    let listed: HashSet<Key> = match read.iter().any(|(_, found)| matches!(found, Found::Nothing)) {
        true => remote.store.list(layout::RECEIPTS).await?.objects.into_iter().map(|object| object.key).collect(),
        false => HashSet::new(),
    };
    let told = |(object, found): (ObjectInfo, Found)| match found {
        Found::Receipt(receipt) => Some((object, Ok(*receipt))),
        Found::Unreadable(why) => Some((object, Err(why))),
        Found::Nothing => listed.contains(&object.key).then(|| (object, Err(WITHHELD.to_owned()))),
        Found::Newer => None,
    };
    Ok(read.into_iter().filter_map(told).collect())
}

/// What lies under the name of a receipt.
enum Found {
    Receipt(Box<SignedReceipt>),
    Unreadable(String),
    /// For newer readers.
    Newer,
    Nothing,
}

async fn read_one(remote: &Remote, sequence: u64, object: &ObjectInfo) -> Result<Found, OperationError> {
    let bytes = match remote.store.get(&object.key, MAX_TEXT_BYTES).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(Found::Nothing),
        Err(error @ StoreError::TooLarge { .. }) => return Ok(Found::Unreadable(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    Ok(match SignedReceipt::read(bytes, sequence, remote.id(), object.modified) {
        Ok(receipt) => Found::Receipt(Box::new(receipt)),
        Err(RecordError::Format(FormatError::Newer { .. })) => Found::Newer,
        Err(error) => Found::Unreadable(error.to_string()),
    })
}

/// The last drill of exactly this snapshot among `receipts`.
pub(crate) fn last_drill<'a>(
    signed: &SignedRecord,
    receipts: impl Iterator<Item = &'a SignedReceipt>,
) -> Option<&'a SignedReceipt> {
    last_drill_of((signed.record.sequence, signed.signed.digest()), receipts)
}

/// The same, of the snapshot with this number and digest of its record.
pub(crate) fn last_drill_of<'a>(
    (sequence, record): (u64, Digest),
    receipts: impl Iterator<Item = &'a SignedReceipt>,
) -> Option<&'a SignedReceipt> {
    let drills = receipts.filter(|SignedReceipt { receipt, .. }| {
        receipt.kind == ReceiptKind::Drill && receipt.sequence == sequence && receipt.record == record
    });
    drills.max_by_key(|signed| signed.order())
}

/// Signs `receipt` and stores it under the first free name from its time on; that name.
pub async fn put_receipt(remote: &Remote, receipt: Receipt, signer: &Signer) -> Result<Key, OperationError> {
    let signed = receipt.sign(signer).map_err(|error| OperationError::Usage(error.to_string()))?;
    for second in 0..NAMES {
        let time = receipt.time.checked_add(SignedDuration::from_secs(second)).unwrap_or(Timestamp::MAX);
        let key = layout::receipt(receipt.sequence, time);
        if remote.store.create(&key, Stored::from(signed.clone())).await? == Creation::Created {
            return Ok(key);
        }
    }
    Err(OperationError::Usage("every name for the receipt is taken".to_owned()))
}

/// The same for somebody who may perhaps only read: then a warning stands in the place of the name. Its time is
/// later than that of every other by this signer, whatever the clocks said: the newest one is the last word.
pub(crate) async fn put_if_allowed(
    remote: &Remote,
    mut receipt: Receipt,
    signer: &Signer,
) -> Result<Result<Key, Warning>, OperationError> {
    let newest = receipts(remote, &[signer.public()]).await?.iter().map(|own| own.receipt.time).max();
    let next = newest.and_then(|newest| newest.checked_add(SignedDuration::from_secs(1)).ok());
    receipt.time = next.map_or(receipt.time, |next| next.max(receipt.time));
    match put_receipt(remote, receipt, signer).await {
        Ok(key) => Ok(Ok(key)),
        Err(OperationError::Store(error @ StoreError::AccessDenied { .. })) => {
            let text = format!("the receipt could not be stored, so nobody else hears of it: {error}");
            Ok(Err(Warning::doubt("receipt-not-stored", text)))
        }
        Err(other) => Err(other),
    }
}
