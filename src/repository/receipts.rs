//! The receipts in a repository, and storing one.
//!
//! A receipt is evidence for people: what a drill, a check or a confirmation found, signed by the machine that made it. No
//! receipt changes what a backup uploads or what retention keeps.

use std::collections::HashSet;

use futures::stream::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::crypto::Signer;
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{FormatError, Receipt, RecordError, SignedReceipt, layout};
use crate::repository::Remote;
use crate::repository::{FETCHES, MAX_TEXT_BYTES, WITHHELD};
use crate::store::{Creation, Key, ObjectInfo, StoreError, Stored};

/// How many names that are taken already are passed over, a second each.
const NAMES: i64 = 60;

/// Every receipt whose signature holds, by any key, in the order of snapshots and times. What is no receipt is left out.
pub(crate) async fn receipts_of_anybody(remote: &Remote) -> Result<Vec<(ObjectInfo, SignedReceipt)>, OperationError> {
    receipts_in(remote, remote.store.list(layout::RECEIPTS).await?.objects).await
}

/// The same, of `objects` that were listed before.
pub(crate) async fn receipts_in(
    remote: &Remote,
    objects: Vec<ObjectInfo>,
) -> Result<Vec<(ObjectInfo, SignedReceipt)>, OperationError> {
    let read = read_all(remote, objects).await?.into_iter();
    Ok(read.filter_map(|(object, receipt)| Some((object, receipt.ok()?))).collect())
}

/// What has the name of a receipt and cannot be read as one, with the reason.
pub(crate) async fn unreadable_receipts(remote: &Remote) -> Result<Vec<(Key, String)>, OperationError> {
    let listed = remote.store.list(layout::RECEIPTS).await?.objects;
    let read = read_all(remote, listed).await?.into_iter();
    Ok(read.filter_map(|(object, receipt)| Some((object.key, receipt.err()?))).collect())
}

/// Every listed receipt, or why it cannot be read. One that is gone since is left out, and one of a newer format.
async fn read_all(
    remote: &Remote,
    objects: Vec<ObjectInfo>,
) -> Result<Vec<(ObjectInfo, Result<SignedReceipt, String>)>, OperationError> {
    let named = objects.into_iter().filter_map(|object| Some((layout::receipt_sequence(&object.key)?, object)));
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
    let outcome = |(object, found): (ObjectInfo, Found)| match found {
        Found::Receipt(receipt) => Some((object, Ok(*receipt))),
        Found::Unreadable(why) => Some((object, Err(why))),
        Found::Nothing => listed.contains(&object.key).then(|| (object, Err(WITHHELD.to_owned()))),
        Found::Newer => None,
    };
    Ok(read.into_iter().filter_map(outcome).collect())
}

/// What is stored under the name of a receipt.
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

/// The same where the credentials may only read: then a note takes the place of the name.
pub(crate) async fn put_if_allowed(
    remote: &Remote,
    receipt: Receipt,
    signer: &Signer,
) -> Result<Result<Key, Finding>, OperationError> {
    match put_receipt(remote, receipt, signer).await {
        Ok(key) => Ok(Ok(key)),
        Err(OperationError::Store(error @ StoreError::AccessDenied { .. })) => {
            Ok(Err(Finding::ReceiptNotStored { why: error.to_string() }))
        }
        Err(other) => Err(other),
    }
}
