//! Trust: cases, and laws that hold for any set of records.

use proptest::prelude::*;

use super::*;
use crate::crypto::{Digest, Signer};
use crate::format::{CreateOnce, ManifestRef, RepositoryId};

fn keys() -> [Signer; 4] {
    [(); 4].map(|()| Signer::generate().expect("a key"))
}

fn record(id: &RepositoryId, sequence: u64, signer: &Signer, takeovers: &[Takeover]) -> SignedRecord {
    let record = Record {
        format: Record::FORMAT,
        repository: id.clone(),
        sequence,
        previous: None,
        earlier: Vec::new(),
        time: Timestamp::from_second(sequence.cast_signed()).expect("a time"),
        host: format!("host of {sequence}"),
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

fn step(from: &Signer, last: u64, to: &Signer) -> Takeover {
    Takeover { from: from.public(), last, to: to.public() }
}

fn comment(repository: &str, signer: &Signer, former: &[&Signer]) -> Comment {
    let former = former.iter().map(|signer| signer.public()).collect();
    Comment { repository: repository.to_owned(), accepted: Some(Accepted { signer: signer.public(), former }) }
}

#[test]
fn the_flag_decides_then_the_store_with_the_comments_then_nothing() {
    let [a, b, c, _] = keys();
    let stored = Accepted::new(a.public());
    let known = |choice: Result<Choice, Conflict>| match choice {
        Ok(Choice::Known(accepted)) => accepted.signer,
        other => panic!("{other:?}"),
    };
    assert_eq!(choose(Some(&c.public()), Some(&stored), &[], "r"), Ok(Choice::Given(c.public())));
    assert_eq!(known(choose(None, Some(&stored), &[comment("r", &a, &[])], "r")), a.public());
    assert_eq!(known(choose(None, None, &[comment("r", &b, &[])], "r")), b.public());
    // After a takeover: whichever of the two follows on the other counts.
    assert_eq!(known(choose(None, Some(&stored), &[comment("r", &b, &[&a])], "r")), b.public());
    let moved = Accepted { signer: b.public(), former: vec![a.public()] };
    assert_eq!(known(choose(None, Some(&moved), &[comment("r", &a, &[])], "r")), b.public());
    let conflict = Conflict::Disagree { stored: a.public().fingerprint(), comment: b.public().fingerprint() };
    assert_eq!(choose(None, Some(&stored), &[comment("r", &b, &[])], "r"), Err(conflict));
    assert_eq!(choose(None, None, &[], "r"), Ok(Choice::Unpinned));
    assert_eq!(choose(None, None, &[comment("other", &b, &[])], "r"), Err(Conflict::OtherRepositories));
    assert_eq!(known(choose(None, Some(&stored), &[comment("other", &b, &[])], "r")), a.public());
}

#[test]
fn a_predecessor_counts_up_to_its_last_number_and_a_successor_only_claims() {
    use Standing::{Claim, Counts, Untrusted};
    let (id, [a, b, c, d]) = (RepositoryId::generate(), keys());
    let chain = [step(&a, 2, &b)];
    let records = [
        record(&id, 1, &a, &[]),
        record(&id, 2, &a, &[]),
        record(&id, 3, &b, &chain),
        record(&id, 4, &a, &[]),
        record(&id, 5, &c, &[chain[0].clone(), step(&b, 3, &c)]),
        record(&id, 6, &d, &[]),
    ];
    let judged = |signer: &Signer| {
        let trust = Trust::of(signer.public(), &records);
        records.iter().map(|record| trust.judge(record)).collect::<Vec<_>>()
    };
    assert_eq!(judged(&b), [Counts, Counts, Counts, Untrusted, Claim, Untrusted]);
    assert_eq!(judged(&a), [Counts, Counts, Claim, Counts, Claim, Untrusted]);
    assert_eq!(judged(&c), [Counts, Counts, Counts, Untrusted, Counts, Untrusted]);
    let claims = Trust::of(a.public(), &records).claims(&records);
    assert_eq!(claims.iter().map(|claim| claim.sequences.clone()).collect::<Vec<_>>(), [vec![3], vec![5]]);
    assert_eq!(claims[1].trust().accepted().former, [a.public(), b.public()]);
}

proptest! {
    /// What the trusted key signed always counts, and nothing that others add changes what counts.
    #[test]
    fn records_of_others_change_nothing_about_what_counts(
        own in proptest::collection::btree_set(1u64..40, 1..8),
        others in proptest::collection::vec((1u64..40, 1usize..4, any::<bool>()), 0..12),
    ) {
        let (id, keys) = (RepositoryId::generate(), keys());
        let mut records: Vec<SignedRecord> = own.iter().map(|sequence| record(&id, *sequence, &keys[0], &[])).collect();
        let before = Trust::of(keys[0].public(), &records);
        records.extend(others.iter().map(|(sequence, signer, claims)| {
            let chain = if *claims { vec![step(&keys[0], sequence - 1, &keys[*signer])] } else { Vec::new() };
            record(&id, *sequence, &keys[*signer], &chain)
        }));
        let trust = Trust::of(keys[0].public(), &records);
        prop_assert_eq!(&trust, &before);
        for found in &records {
            prop_assert_eq!(trust.judge(found) == Standing::Counts, *found.signed.signer() == keys[0].public());
        }
        // An accepted key vouches for what counted before, up to the number that it names.
        for claim in trust.claims(&records) {
            let accepted = claim.trust();
            let last = claim.takeovers[0].last;
            for sequence in own.iter().filter(|sequence| **sequence <= last) {
                prop_assert!(accepted.counts(*sequence, &keys[0].public()));
            }
        }
    }
}
