//! Which record the next one of this host follows, and when a person has to decide instead. Nothing here reads a
//! bucket.
//!
//! The host continues from the record that it wrote last, and from no other. Records above it by another key are a
//! takeover or do not count; one that carries this host's own key and that it never sent means a copy of this host, or
//! a host that was restored to an older state.

use std::collections::BTreeSet;

use crate::crypto::{Digest, PublicSigner};
use crate::finding::Finding;
use crate::format::{Ignored, SignedRecord, Takeover};
use crate::policy::trust::{Standing, Trust};

/// Why this host must not write until a person has decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParentConflict {
    #[error(
        "snapshot {snapshot} is by another host ({host}, {fingerprint}), which claims to have taken over from this one"
    )]
    TakenOver { snapshot: u64, host: String, fingerprint: String },
    #[error("snapshot {snapshot} carries this host's signature, in a format that only a newer sealift reads")]
    Newer { snapshot: u64 },
    #[error("snapshot {snapshot} carries this host's signature, and this host did not write it")]
    NotSent { snapshot: u64 },
    #[error("snapshot {snapshot}, the last of this host, is gone: the repository was rolled back")]
    RolledBack { snapshot: u64 },
    #[error("snapshot {snapshot}, the last of this host, was replaced by a different, validly signed record")]
    Replaced { snapshot: u64 },
    #[error("snapshot {snapshot}, the last of this host, cannot be read: {why}")]
    Unreadable { snapshot: u64, why: String },
    #[error("snapshot {snapshot} was just written by another host ({host}, {fingerprint})")]
    Raced { snapshot: u64, host: String, fingerprint: String },
}

/// What lies under a number above the record that this host wrote last.
pub enum Above {
    /// The signature holds.
    Valid(Box<SignedRecord>),
    /// It cannot be read, or its signature fails.
    Damaged { sequence: u64, digest: Option<Digest>, why: String },
    /// The signature holds, and the format is newer.
    Newer { sequence: u64, digest: Digest, signer: PublicSigner },
}

/// What the host knows of itself.
pub struct Own<'a> {
    pub signer: &'a PublicSigner,
    /// The takeovers in the record that it wrote last, wherever that is now.
    pub takeovers: &'a [Takeover],
    /// The takeover that its first record is to carry, until that is stored.
    pub takeover: Option<&'a Takeover>,
    /// The record that a crash left unsent.
    pub unsent: Option<&'a [u8]>,
    /// A person says that this machine was restored to an older state: the newest record that counts becomes the
    /// parent.
    pub adopt: bool,
    pub ignored: &'a BTreeSet<Ignored>,
}

/// What follows for the next record.
#[derive(Default)]
pub struct Decision {
    /// The index in `above` of the record that becomes the parent, where it is not the one that this host knows.
    pub parent: Option<usize>,
    pub takeovers: Vec<Takeover>,
    pub findings: Vec<Finding>,
}

/// Decides about the records `above` the parent `known`, in ascending order.
pub fn decide(own: &Own<'_>, known: Option<&SignedRecord>, above: &[Above]) -> Result<Decision, ParentConflict> {
    let trust = trust(own, known, above);
    let mut decision = Decision { takeovers: trust.takeovers.clone(), ..Decision::default() };
    for (at, found) in above.iter().enumerate() {
        match found {
            Above::Newer { sequence, signer, .. } if trust.counts(*sequence, signer) => {
                return Err(ParentConflict::Newer { snapshot: *sequence });
            }
            Above::Damaged { .. } | Above::Newer { .. } => {
                decision.findings.extend(passed_over(&trust, own.ignored, found));
            }
            Above::Valid(record) => judge(own, &trust, at, record, &mut decision)?,
        }
    }
    if let Some(takeover) = own.takeover.filter(|_| is_first(own, known, above)) {
        decision.takeovers = first_takeovers(takeover, known, above, &decision);
    }
    Ok(decision)
}

fn judge(
    own: &Own<'_>,
    trust: &Trust,
    at: usize,
    record: &SignedRecord,
    decision: &mut Decision,
) -> Result<(), ParentConflict> {
    let (snapshot, signer) = (record.record.sequence, record.signed.signer());
    match trust.judge(record) {
        Standing::Counts if *signer == *own.signer => {
            let is_unsent = own.unsent.is_some_and(|unsent| unsent == &record.signed.bytes()[..]);
            if !is_unsent && !own.adopt {
                return Err(ParentConflict::NotSent { snapshot });
            }
            decision.parent = Some(at);
        }
        // A predecessor's: followed until this host has written its own first record.
        Standing::Counts => decision.parent = Some(at),
        _ if own.ignored.contains(&Ignored(snapshot, record.signed.digest())) => {}
        Standing::Claim => {
            let host = record.record.host.clone();
            return Err(ParentConflict::TakenOver { snapshot, host, fingerprint: signer.fingerprint() });
        }
        Standing::Untrusted => {
            decision.findings.push(Finding::RecordUntrusted { snapshot, fingerprint: signer.fingerprint() });
        }
    }
    Ok(())
}

/// What to say of records that lie `below` the parent and that no record of the host names.
pub fn left_below(
    signer: &PublicSigner,
    takeovers: &[Takeover],
    ignored: &BTreeSet<Ignored>,
    below: &[Above],
) -> Vec<Finding> {
    let trust = Trust { signer: signer.clone(), takeovers: takeovers.to_vec() };
    below.iter().filter_map(|found| passed_over(&trust, ignored, found)).collect()
}

/// What to say of a record that the host does not follow; nothing where it counts, or where a person ignored it.
fn passed_over(trust: &Trust, ignored: &BTreeSet<Ignored>, found: &Above) -> Option<Finding> {
    let (snapshot, digest, signer) = match found {
        Above::Valid(record) => (record.record.sequence, Some(record.signed.digest()), Ok(record.signed.signer())),
        Above::Newer { sequence, digest, signer } => (*sequence, Some(*digest), Ok(signer)),
        Above::Damaged { sequence, digest, why } => (*sequence, *digest, Err(why)),
    };
    if digest.is_some_and(|digest| ignored.contains(&Ignored(snapshot, digest))) {
        return None;
    }
    match signer {
        Ok(signer) if trust.counts(snapshot, signer) => None,
        Ok(signer) => Some(Finding::RecordUntrusted { snapshot, fingerprint: signer.fingerprint() }),
        Err(why) => Some(Finding::RecordDamaged { snapshot, why: why.clone() }),
    }
}

fn valid<'a>(known: Option<&'a SignedRecord>, above: &'a [Above]) -> impl Iterator<Item = &'a SignedRecord> {
    known.into_iter().chain(above.iter().filter_map(|found| match found {
        Above::Valid(record) => Some(record.as_ref()),
        _ => None,
    }))
}

/// Whether this host has not written a record yet.
fn is_first(own: &Own<'_>, known: Option<&SignedRecord>, above: &[Above]) -> bool {
    !valid(known, above).any(|record| record.signed.signer() == own.signer)
}

/// Whose signatures count for this host. Before its first record it takes the place of a predecessor, all of whose
/// records count.
fn trust(own: &Own<'_>, known: Option<&SignedRecord>, above: &[Above]) -> Trust {
    match own.takeover.filter(|_| is_first(own, known, above)) {
        Some(takeover) => {
            let before = Trust::of(takeover.from.clone(), valid(known, above));
            let mut takeovers = before.takeovers;
            takeovers.push(Takeover { last: u64::MAX, ..takeover.clone() });
            Trust { signer: own.signer.clone(), takeovers }
        }
        None => {
            let trust = Trust::of(own.signer.clone(), valid(known, above));
            // The records of this host may be gone, all of them: what led to its key is so all the same.
            if trust.takeovers.len() < own.takeovers.len() {
                Trust { takeovers: own.takeovers.to_vec(), ..trust }
            } else {
                trust
            }
        }
    }
}

/// What the first record of a host that takes over says: its predecessor counts up to the newest record of it that is
/// there.
fn first_takeovers(
    takeover: &Takeover,
    known: Option<&SignedRecord>,
    above: &[Above],
    decision: &Decision,
) -> Vec<Takeover> {
    let newest =
        valid(known, above).filter(|record| *record.signed.signer() == takeover.from).map(|it| it.record.sequence);
    let last = newest.max().unwrap_or(takeover.last);
    let mut takeovers = decision.takeovers.clone();
    if let Some(step) = takeovers.last_mut() {
        step.last = last;
    }
    takeovers
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Signer;
    use crate::format::{CreateOnce, ManifestRef, Record, RepositoryId};

    struct World {
        id: RepositoryId,
        host: Signer,
        other: Signer,
    }

    /// What the host has, apart from its signer.
    #[derive(Default)]
    struct Mine {
        takeovers: Vec<Takeover>,
        takeover: Option<Takeover>,
        unsent: Option<Vec<u8>>,
        adopt: bool,
        ignored: BTreeSet<Ignored>,
    }

    impl World {
        fn new() -> Self {
            let [host, other] = [(); 2].map(|()| Signer::generate().expect("a key"));
            Self { id: RepositoryId::generate(), host, other }
        }

        fn record(&self, sequence: u64, signer: &Signer, takeovers: &[Takeover]) -> SignedRecord {
            let record = Record {
                format: Record::FORMAT,
                repository: self.id.clone(),
                sequence,
                previous: None,
                earlier: Vec::new(),
                time: Timestamp::UNIX_EPOCH,
                host: "elsewhere".to_owned(),
                tags: Vec::new(),
                health: Vec::new(),
                writer_hold_ms: 0,
                manifest: ManifestRef { name: Digest::from_bytes([0; 32]), bytes: 0, epoch: 1 },
                epochs: Vec::new(),
                takeovers: takeovers.to_vec(),
                ignored: Vec::new(),
                create_once: CreateOnce::default(),
                nonce: String::new(),
                retention: None,
            };
            let signed = record.sign(signer).expect("signed");
            SignedRecord { record, signed }
        }

        fn decide(
            &self,
            known: Option<&SignedRecord>,
            above: Vec<SignedRecord>,
            change: impl FnOnce(&mut Mine),
        ) -> Result<Decision, ParentConflict> {
            let (signer, mut mine) = (self.host.public(), Mine::default());
            change(&mut mine);
            let own = Own {
                signer: &signer,
                takeovers: &mine.takeovers,
                takeover: mine.takeover.as_ref(),
                unsent: mine.unsent.as_deref(),
                adopt: mine.adopt,
                ignored: &mine.ignored,
            };
            let above: Vec<Above> = above.into_iter().map(|record| Above::Valid(Box::new(record))).collect();
            decide(&own, known, &above)
        }
    }

    #[test]
    fn nothing_above_is_the_usual_case() {
        let world = World::new();
        let known = world.record(3, &world.host, &[]);
        let decision = world.decide(Some(&known), Vec::new(), |_| {}).expect("no conflict");
        assert!(decision.parent.is_none() && decision.findings.is_empty());
    }

    #[test]
    fn an_own_record_that_was_never_sent_stops_until_a_person_adopts_it() {
        let world = World::new();
        let (known, above) = (world.record(3, &world.host, &[]), world.record(4, &world.host, &[]));
        let stop = world.decide(Some(&known), vec![above.clone()], |_| {});
        assert_eq!(stop.err(), Some(ParentConflict::NotSent { snapshot: 4 }));
        let adopted = world.decide(Some(&known), vec![above.clone()], |own| own.adopt = true).expect("adopted");
        assert_eq!(adopted.parent, Some(0));
        let bytes = above.signed.bytes().to_vec();
        let unsent = world.decide(Some(&known), vec![above], |own| own.unsent = Some(bytes)).map(|it| it.parent);
        assert_eq!(unsent.ok(), Some(Some(0)));
    }

    #[test]
    fn a_takeover_stops_until_a_person_ignores_it_and_an_unknown_key_is_a_finding() {
        let world = World::new();
        let known = world.record(3, &world.host, &[]);
        let step = Takeover { from: world.host.public(), last: 3, to: world.other.public() };
        let claim = world.record(4, &world.other, &[step]);
        let stop = world.decide(Some(&known), vec![claim.clone()], |_| {});
        assert!(matches!(stop, Err(ParentConflict::TakenOver { snapshot: 4, .. })));
        let ignored = BTreeSet::from([Ignored(4, claim.signed.digest())]);
        let decision = world.decide(Some(&known), vec![claim], |own| own.ignored = ignored).expect("ignored");
        assert!(decision.parent.is_none() && decision.findings.is_empty());
        let decision =
            world.decide(Some(&known), vec![world.record(4, &world.other, &[])], |_| {}).expect("passed over");
        assert_eq!(decision.findings.iter().map(Finding::code).collect::<Vec<_>>(), ["record-untrusted"]);
    }

    #[test]
    fn the_first_record_after_a_takeover_names_the_newest_record_of_the_host_before() {
        let world = World::new();
        let known = world.record(3, &world.other, &[]);
        let takeover = Takeover { from: world.other.public(), last: 3, to: world.host.public() };
        let late = world.record(5, &world.other, &[]);
        let decision =
            world.decide(Some(&known), vec![late], |own| own.takeover = Some(takeover)).expect("no conflict");
        assert_eq!((decision.parent, decision.takeovers[0].last), (Some(0), 5));
        // Once this host has written, what the host before adds does not count.
        let own = world.record(6, &world.host, &decision.takeovers);
        let awake = world.record(7, &world.other, &[]);
        let decision = world.decide(Some(&own), vec![awake], |_| {}).expect("passed over");
        assert_eq!(decision.findings.iter().map(Finding::code).collect::<Vec<_>>(), ["record-untrusted"]);
        assert!(decision.parent.is_none());
    }

    /// The repository was rolled back to before the first record of this host.
    #[test]
    fn adopting_what_the_host_before_wrote_keeps_the_takeover() {
        let world = World::new();
        let step = Takeover { from: world.other.public(), last: 2, to: world.host.public() };
        let left = vec![world.record(1, &world.other, &[]), world.record(2, &world.other, &[])];
        let decision = world.decide(None, left, |own| {
            own.adopt = true;
            own.takeovers = vec![step.clone()];
        });
        let decision = decision.expect("adopted");
        assert_eq!((decision.parent, decision.takeovers), (Some(1), vec![step]));
    }

    /// What lies above the record that the host wrote last.
    #[derive(Clone, Copy, Debug)]
    enum Lies {
        Own,
        Claim,
        Unknown,
        Garbage,
    }

    proptest! {
        /// The host goes on only where no record above is by its own key and no claim is open, and it follows none of them.
        #[test]
        fn the_host_goes_on_only_where_nothing_above_disputes_it(
            above in vec(prop_oneof![Just(Lies::Own), Just(Lies::Claim), Just(Lies::Unknown), Just(Lies::Garbage)], 0..6),
            ignored in vec(any::<bool>(), 6),
        ) {
            let world = World::new();
            let known = world.record(1, &world.host, &[]);
            let step = Takeover { from: world.host.public(), last: 1, to: world.other.public() };
            let unknown = Signer::generate().expect("a key");
            let mut mine = Mine::default();
            let mut found = Vec::new();
            for ((sequence, lies), is_ignored) in (2..).zip(&above).zip(&ignored) {
                let (digest, record) = match lies {
                    Lies::Garbage => {
                        let digest = Digest::from_bytes([sequence as u8; 32]);
                        (digest, Above::Damaged { sequence, digest: Some(digest), why: String::new() })
                    }
                    Lies::Own | Lies::Claim | Lies::Unknown => {
                        let record = match lies {
                            Lies::Own => world.record(sequence, &world.host, &[]),
                            Lies::Claim => world.record(sequence, &world.other, std::slice::from_ref(&step)),
                            _ => world.record(sequence, &unknown, &[]),
                        };
                        (record.signed.digest(), Above::Valid(Box::new(record)))
                    }
                };
                if *is_ignored {
                    mine.ignored.insert(Ignored(sequence, digest));
                }
                found.push(record);
            }
            let signer = world.host.public();
            let own = Own {
                signer: &signer,
                takeovers: &[],
                takeover: None,
                unsent: None,
                adopt: false,
                ignored: &mine.ignored,
            };
            let disputed = above.iter().zip(&ignored).any(|(lies, is_ignored)| {
                matches!(lies, Lies::Own) || (matches!(lies, Lies::Claim) && !is_ignored)
            });
            match decide(&own, Some(&known), &found) {
                Err(_) => prop_assert!(disputed),
                Ok(decision) => {
                    prop_assert!(!disputed && decision.parent.is_none() && decision.takeovers.is_empty());
                    let named = above.iter().zip(&ignored).filter(|(lies, is_ignored)| {
                        matches!(lies, Lies::Unknown | Lies::Garbage) && !**is_ignored
                    });
                    prop_assert_eq!(decision.findings.len(), named.count());
                }
            }
        }
    }
}
