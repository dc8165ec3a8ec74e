//! Where this host stands: whether the newest record in the repository is still the one that this host wrote last.
//!
//! Nothing may be written unless it is. Somebody else's valid record above ours is a take-over or a forgery; our own
//! signature above ours is a cloned or a set-back host; our own record gone is a set-back bucket. A host that took over
//! begins above the newest record of its predecessor.

use super::{Listing, OperationError, Remote, Seen, Warning};
use crate::format::{SignedRecord, TakeOver, layout};
use crate::history::{Trust, missing, take_overs_of};
use crate::host::{HostState, Pins};

/// The record that the next one follows, and the number that it gets.
pub(crate) struct Standing {
    pub parent: Option<(SignedRecord, Seen)>,
    pub next: u64,
    /// What the next record says of the changes of the signer so far.
    pub take_overs: Vec<TakeOver>,
    /// What this machine saw before.
    pub pins: Pins,
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
    let known = if adopt { None } else { host.parent()? };
    let known = known.map(|bytes| read_parent(remote, bytes)).transpose()?;
    find_from(remote, listing, host, known, adopt).await
}

/// Whether `host` may still go on from `parent`, by a later listing.
pub(super) async fn confirm(
    remote: &Remote,
    listing: &Listing,
    host: &HostState,
    parent: Option<&SignedRecord>,
) -> Result<(), OperationError> {
    find_from(remote, listing, host, parent.cloned(), false).await.map(drop)
}

async fn find_from(
    remote: &Remote,
    listing: &Listing,
    host: &HostState,
    known: Option<SignedRecord>,
    adopt: bool,
) -> Result<Standing, OperationError> {
    let floor = known.as_ref().map_or(0, |parent| parent.record.sequence);
    let (above, warnings) = read_above(remote, listing, floor).await?;
    if let Some(taken) = above.iter().find(|found| took_over_from(found, host)) {
        return Err(taken_over(taken));
    }
    let mut pins = Pins::load(host.dir())?;
    if adopt {
        pins.newest = None;
    }
    let mut standing = Standing { parent: None, next: floor + 1, take_overs: Vec::new(), pins, warnings };
    if let Some(known) = known {
        standing.parent = Some(parent_in_place(remote, listing, known).await?);
    }
    let lineage = lineage(host, &standing.pins, standing.parent.iter().map(|(parent, _)| parent).chain(&above))?;
    let unsent = if adopt { None } else { host.unsent()? };
    for found in above {
        if judge(&found, &lineage, adopt, unsent.as_deref())? {
            let seen = listing.records[&found.record.sequence];
            standing.parent = Some((found, seen));
        } else {
            standing.warnings.push(former_writer(&found));
        }
    }
    if let Some((parent, _)) = &standing.parent {
        standing.warnings.extend(missing(&mut standing.pins, parent, listing.records.keys().copied()));
    }
    standing.take_overs = lineage.trust.take_overs;
    standing.next = next_free(listing, standing.parent.as_ref().map_or(0, |(parent, _)| parent.record.sequence))?;
    Ok(standing)
}

/// The records above `floor` whose signature holds, and a word about each other one.
async fn read_above(
    remote: &Remote,
    listing: &Listing,
    floor: u64,
) -> Result<(Vec<SignedRecord>, Vec<Warning>), OperationError> {
    let sequences: Vec<u64> = listing.records.range(floor + 1..).map(|(sequence, _)| *sequence).collect();
    let (mut valid, mut warnings) = (Vec::new(), Vec::new());
    for (_, record) in remote.records(&sequences).await? {
        match record {
            Ok(found) => valid.push(found),
            Err(OperationError::Verification { object, why }) => warnings.push(Warning::doubt(
                "unverifiable-record",
                format!("{object} cannot be verified and is passed over: {why}"),
            )),
            Err(other) => return Err(other),
        }
    }
    Ok((valid, warnings))
}

/// Who may have signed what, and whether this host has written anything yet.
struct Lineage {
    trust: Trust,
    begun: bool,
}

/// The lineage that this host's own newest record tells; before its first one, its take-over does.
fn lineage<'a>(
    host: &HostState,
    pins: &Pins,
    records: impl DoubleEndedIterator<Item = &'a SignedRecord> + Clone,
) -> Result<Lineage, OperationError> {
    let signer = host.signer.public();
    if let Some(take_overs) = take_overs_of(pins, &signer) {
        return Ok(Lineage { trust: Trust { take_overs, signer, is_known: true }, begun: true });
    }
    if let Some(own) = records.clone().find(|record| *record.signed.signer() == signer) {
        return Ok(Lineage {
            trust: Trust { signer, take_overs: own.record.take_overs.clone(), is_known: true },
            begun: true,
        });
    }
    let Some(bytes) = host.take_over()? else {
        return Ok(Lineage { trust: Trust { signer, take_overs: Vec::new(), is_known: true }, begun: false });
    };
    let step: TakeOver = serde_json::from_slice(&bytes)
        .map_err(|error| OperationError::OtherWriter(format!("this host's take-over cannot be read: {error}")))?;
    let theirs = |record: &&SignedRecord| *record.signed.signer() == step.from && record.record.sequence <= step.last;
    let newest = records.rev().find(theirs);
    let mut take_overs = newest.map(|record| record.record.take_overs.clone()).unwrap_or_default();
    take_overs.push(step);
    Ok(Lineage { trust: Trust { signer, take_overs, is_known: true }, begun: false })
}

fn took_over_from(found: &SignedRecord, host: &HostState) -> bool {
    found.record.take_overs.iter().any(|step| step.from == host.signer.public())
}

fn taken_over(found: &SignedRecord) -> OperationError {
    OperationError::NotTheWriter {
        what: format!(
            "snapshot {} was written by another host ({}), which took over from this one: this host writes here no more",
            found.record.sequence, found.record.host
        ),
        way_out:
            "stop its backups for good. Should it become the writer again: move its state directory away, and run \
                  `sealift init --take-over` with an operator's identity"
                .to_owned(),
    }
}

fn former_writer(found: &SignedRecord) -> Warning {
    let text = format!(
        "snapshot {} was written by the former writer ({}) after its place was taken, and is passed over: stop that \
         host, and take its access to the repository away",
        found.record.sequence, found.record.host
    );
    Warning::doubt("former-writer", text)
}

/// The first number above `sequence` under which nothing lies: what somebody put far above does not push us there.
fn next_free(listing: &Listing, sequence: u64) -> Result<u64, OperationError> {
    let mut next = layout::next_sequence(sequence).ok_or(OperationError::NoNumberLeft)?;
    while listing.records.contains_key(&next) {
        next = layout::next_sequence(next).ok_or(OperationError::NoNumberLeft)?;
    }
    Ok(next)
}

fn read_parent(remote: &Remote, bytes: Vec<u8>) -> Result<SignedRecord, OperationError> {
    SignedRecord::read_own(bytes.into(), remote.id())
        .map_err(|error| OperationError::OtherWriter(format!("this host's own last record cannot be read: {error}")))
}

/// The record that this host follows, as it lies in the repository.
async fn parent_in_place(
    remote: &Remote,
    listing: &Listing,
    own: SignedRecord,
) -> Result<(SignedRecord, Seen), OperationError> {
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

/// Whether the record may be the parent; `false` for one of a former writer that came too late.
fn judge(found: &SignedRecord, lineage: &Lineage, adopt: bool, unsent: Option<&[u8]>) -> Result<bool, OperationError> {
    let Lineage { trust, begun } = lineage;
    let (sequence, signer) = (found.record.sequence, found.signed.signer());
    let by = &found.record.host;
    if trust.is_contradicted_by(found) {
        return Err(OperationError::NotTheWriter {
            what: format!(
                "snapshot {sequence} carries this host's signature and tells of other take-overs than this host does: \
                 somebody else has its key"
            ),
            way_out: format!(
                "take it out with `sealift retain --forget {sequence} --apply`, and let a fresh host with a key of its own \
                 go on: `sealift init --take-over`"
            ),
        });
    }
    if !trust.counts(found) {
        return match trust.take_overs.iter().find(|step| step.from == *signer) {
            Some(_) if *begun => Ok(false),
            // What it wrote meanwhile would not count.
            Some(_) => Err(OperationError::NotTheWriter {
                what: format!("snapshot {sequence} was written by the former writer ({by}) after this host took over"),
                way_out: "stop that host for good, then run `sealift init --take-over` here again".to_owned(),
            }),
            None => Err(OperationError::OtherWriter(format!(
                "snapshot {sequence} was written by another host ({by}): it has taken over, or it is a forgery"
            ))),
        };
    }
    // An earlier writer's, which are looked at again only by a host that adopts; or our own record that was stored,
    // though we crashed before we knew.
    if adopt || unsent.is_some_and(|unsent| unsent == found.signed.bytes()) {
        return Ok(true);
    }
    Err(OperationError::OtherWriter(format!(
        "snapshot {sequence} carries this host's signature, and this host does not know it: \
         this machine was set back, or a copy of it writes here, too"
    )))
}
