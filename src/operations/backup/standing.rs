//! Where this host stands: whether the newest record in the repository is still the one that this host wrote last.
//!
//! Nothing may be written unless it is. Somebody else's valid record above ours is a take-over or a forgery; our own
//! signature above ours is a cloned or a set-back host; our own record gone is a set-back bucket.

use super::{Listing, OperationError, Remote, Seen, Warning};
use crate::crypto::PublicSigner;
use crate::repository::{SignedRecord, layout};
use crate::state::HostState;

/// The record that the next one follows, and the number that it gets.
pub(super) struct Standing {
    pub parent: Option<(SignedRecord, Seen)>,
    pub next: u64,
    pub warnings: Vec<Warning>,
}

/// Compares `host` with what is listed. With `adopt`, the newest record that this host's own signer verifies becomes
/// the parent, whatever the state directory says.
pub(super) async fn find(
    remote: &Remote,
    listing: &Listing,
    host: &HostState,
    adopt: bool,
) -> Result<Standing, OperationError> {
    let own = host.signer.public();
    let known = if adopt { None } else { host.parent()? };
    let (parent, floor) = match &known {
        Some(bytes) => {
            let (parent, seen) = own_parent(remote, listing, bytes).await?;
            let floor = parent.record.sequence;
            (Some((parent, seen)), floor)
        }
        None => (None, 0),
    };
    let mut standing = Standing { parent, next: floor + 1, warnings: Vec::new() };
    let unsent = if adopt { None } else { host.unsent()? };
    let above: Vec<u64> = listing.records.range(floor + 1..).map(|(sequence, _)| *sequence).collect();
    for (sequence, record) in remote.records(&above).await? {
        match record {
            Err(OperationError::Verification { object, why }) => standing.warnings.push(Warning::doubt(
                "unverifiable-record",
                format!("{object} cannot be verified and is passed over: {why}"),
            )),
            Err(other) => return Err(other),
            Ok(found) => {
                judge(&found, &own, adopt, unsent.as_deref())?;
                standing.parent = Some((found, listing.records[&sequence]));
            }
        }
    }
    standing.next = next_free(listing, standing.parent.as_ref().map_or(0, |(parent, _)| parent.record.sequence))?;
    Ok(standing)
}

/// The first number above `sequence` under which nothing lies: what somebody put far above does not push us there.
fn next_free(listing: &Listing, sequence: u64) -> Result<u64, OperationError> {
    let mut next = layout::next_sequence(sequence).ok_or(OperationError::NoNumberLeft)?;
    while listing.records.contains_key(&next) {
        next = layout::next_sequence(next).ok_or(OperationError::NoNumberLeft)?;
    }
    Ok(next)
}

/// The record that this host wrote last, as it lies in the repository.
async fn own_parent(remote: &Remote, listing: &Listing, bytes: &[u8]) -> Result<(SignedRecord, Seen), OperationError> {
    let own = SignedRecord::read_own(bytes.to_vec().into(), remote.id())
        .map_err(|error| OperationError::OtherWriter(format!("this host's own last record cannot be read: {error}")))?;
    let sequence = own.record.sequence;
    let set_back = |why: &str| OperationError::OtherWriter(format!("snapshot {sequence}, this host's last, {why}"));
    let Some(seen) = listing.records.get(&sequence) else {
        return Err(set_back("is no longer in the repository: it was deleted, or the bucket was set back"));
    };
    match remote.record(sequence).await? {
        Ok(found) if found.signed.bytes() == own.signed.bytes() => Ok((found, *seen)),
        Ok(found) if found.signed.signer() == own.signed.signer() => {
            Err(set_back("is another one in the repository: another machine with this host's key writes here"))
        }
        Ok(_) => Err(set_back("is signed by another writer in the repository")),
        Err(error) => Err(set_back(&format!("cannot be verified in the repository: {error}"))),
    }
}

fn judge(found: &SignedRecord, own: &PublicSigner, adopt: bool, unsent: Option<&[u8]>) -> Result<(), OperationError> {
    let sequence = found.record.sequence;
    if found.signed.signer() != own {
        return Err(OperationError::OtherWriter(format!(
            "snapshot {sequence} was written by another host ({}): it has taken over, or it is a forgery",
            found.record.host
        )));
    }
    // Our own record that was stored, though we crashed before we knew.
    if adopt || unsent.is_some_and(|unsent| unsent == found.signed.bytes()) {
        return Ok(());
    }
    Err(OperationError::OtherWriter(format!(
        "snapshot {sequence} carries this host's signature, and this host does not know it: \
         this machine was set back, or a copy of it writes here, too"
    )))
}
