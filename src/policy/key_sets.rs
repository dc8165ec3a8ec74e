//! Which key files a host restores, and which ones an operator's command may delete.
//!
//! A key file is `keys/<epoch>/<version>.age`. The functions here see names and digests only: what lies in a key file is for
//! operators. They guarantee that an epoch which could be opened stays so:
//! - a host restores every copy that is gone, unless a receipt explains why, and never in the place of other bytes;
//! - a command deletes only lower versions than the one that it relies on, so that of any number of commands at once the
//!   highest version that one of them relies on stays.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;

use super::prune::GRACE;
use crate::crypto::Digest;

/// An epoch and a key version.
pub type Place = (u32, u32);

/// `keys` changes nothing in an epoch that has more key files than this.
pub const MAX_FILES: usize = 64;

/// What lies under each name. `None`: its bytes are not known.
pub type Stored = BTreeMap<Place, Option<Digest>>;

/// A copy that a host keeps of a key file which was in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptCopy {
    /// Where it was.
    pub place: Place,
    pub digest: Digest,
    /// It was gone before, and a receipt said why.
    pub explained: bool,
}

/// What a host does about copies that are no longer in the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Epoch and digest of copies whose loss a receipt explains: they are never restored.
    pub explained: Vec<(u32, Digest)>,
    pub restored: Vec<Restoration>,
}

/// A copy to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restoration {
    pub copy: KeptCopy,
    /// The name that it gets, which is free.
    pub to: Place,
}

/// The copies that are gone, as far as is not explained.
pub fn lost<'a>(copies: &'a [KeptCopy], stored: &Stored) -> Vec<&'a KeptCopy> {
    let there: BTreeSet<(u32, Digest)> =
        stored.iter().filter_map(|((epoch, _), digest)| Some((*epoch, (*digest)?))).collect();
    let is_lost = |copy: &&KeptCopy| !copy.explained && !there.contains(&(copy.place.0, copy.digest));
    copies.iter().filter(is_lost).collect()
}

/// What to do about them. `opened` are the key files that receipts name: one of these that is there explains all that is gone
/// from its epoch.
pub fn recovery(copies: &[KeptCopy], stored: &Stored, opened: &HashSet<Digest>) -> Recovery {
    let names = |digest: &Option<Digest>| digest.is_some_and(|digest| opened.contains(&digest));
    let proved: BTreeSet<u32> =
        stored.iter().filter(|(_, digest)| names(digest)).map(|((epoch, _), _)| *epoch).collect();
    let mut taken: BTreeSet<Place> = stored.keys().copied().collect();
    let mut recovery = Recovery::default();
    for copy in lost(copies, stored) {
        let (epoch, version) = copy.place;
        if proved.contains(&epoch) {
            recovery.explained.push((epoch, copy.digest));
        } else if let Some(free) = first_free(version.saturating_sub(1), |number| taken.contains(&(epoch, number))) {
            taken.insert((epoch, free));
            recovery.restored.push(Restoration { copy: *copy, to: (epoch, free) });
        }
    }
    recovery
}

/// The first number above `above` that is not taken; `None` where none is left. A number planted far above does not move it.
pub fn first_free(above: u32, taken: impl Fn(u32) -> bool) -> Option<u32> {
    (above.saturating_add(1)..u32::MAX).find(|number| !taken(*number))
}

/// Whether a key file that the host did not make is worth a note: seen first less than the grace period ago.
pub fn is_new(first_seen: Timestamp, now: Timestamp) -> bool {
    now.duration_since(first_seen) < GRACE
}

/// What the given identities make of a key file that was listed when the command began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// One opens it, and it holds the data key of its epoch.
    Opened,
    /// None opens it, or it holds something else.
    Unopened,
    /// It was deleted meanwhile.
    Gone,
}

/// What may go once a command relies on one key file of an epoch, and what stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superseded {
    /// Versions to delete.
    pub replaced: Vec<u32>,
    /// Versions that no given identity opens.
    pub unopened: Vec<u32>,
}

/// `tried` are the versions that were listed at the start. `proved`: an identity of the new set opened a manifest through
/// `relied_on`, and the receipt of that is stored.
pub fn superseded(tried: &BTreeMap<u32, Tried>, relied_on: u32, proved: bool) -> Superseded {
    let of = |wanted: Tried| tried.iter().filter(move |(_, tried)| **tried == wanted).map(|(version, _)| *version);
    let lower = |version: &u32| proved && *version < relied_on;
    Superseded { replaced: of(Tried::Opened).filter(lower).collect(), unopened: of(Tried::Unopened).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::sha256;

    fn digest(number: u8) -> Digest {
        sha256(&[number])
    }

    fn copy(epoch: u32, version: u32, number: u8) -> KeptCopy {
        KeptCopy { place: (epoch, version), digest: digest(number), explained: false }
    }

    fn copies() -> impl Strategy<Value = Vec<KeptCopy>> {
        // One copy of each content an epoch, as a host keeps them.
        btree_map((1..4u32, 0..6u8), (1..6u32, prop::bool::weighted(0.2)), 0..12).prop_map(|copies| {
            let copy = |((epoch, number), (version, explained))| KeptCopy {
                place: (epoch, version),
                digest: digest(number),
                explained,
            };
            copies.into_iter().map(copy).collect()
        })
    }

    fn stored() -> impl Strategy<Value = Stored> {
        btree_map((1..4u32, 1..6u32), prop::option::weighted(0.8, (0..6u8).prop_map(digest)), 0..10)
    }

    fn opened() -> impl Strategy<Value = HashSet<Digest>> {
        btree_set(0..6u8, 0..3).prop_map(|numbers| numbers.into_iter().map(digest).collect())
    }

    fn tried() -> impl Strategy<Value = BTreeMap<u32, Tried>> {
        let one = prop_oneof![3 => Just(Tried::Opened), 1 => Just(Tried::Unopened), 1 => Just(Tried::Gone)];
        btree_map(1..9u32, one, 1..7)
    }

    proptest! {
        #[test]
        fn after_a_recovery_every_copy_is_there_or_explained_by_a_file_that_is_there(
            copies in copies(), stored in stored(), opened in opened()
        ) {
            let recovery = recovery(&copies, &stored, &opened);
            let mut after = stored.clone();
            for Restoration { copy, to } in &recovery.restored {
                prop_assert!(after.insert(*to, Some(copy.digest)).is_none(), "other bytes stay where they are");
                prop_assert_eq!(copy.place.0, to.0);
                prop_assert!(to.1 >= copy.place.1);
                prop_assert!(!copy.explained, "what was explained once is not restored");
            }
            for copy in copies.iter().filter(|copy| !copy.explained) {
                let epoch = copy.place.0;
                let is_there = after.iter().any(|(place, digest)| place.0 == epoch && *digest == Some(copy.digest));
                let is_explained = recovery.explained.contains(&(epoch, copy.digest));
                prop_assert!(is_there != is_explained);
                let named = stored.iter().any(|(place, digest)| {
                    place.0 == epoch && digest.is_some_and(|digest| opened.contains(&digest))
                });
                prop_assert!(!is_explained || named);
            }
        }

        #[test]
        fn a_second_recovery_has_nothing_to_do(copies in copies(), stored in stored(), opened in opened()) {
            let first = recovery(&copies, &stored, &opened);
            let mut after = stored;
            after.extend(first.restored.iter().map(|restored| (restored.to, Some(restored.copy.digest))));
            let remembered: Vec<KeptCopy> = copies
                .iter()
                .map(|copy| KeptCopy {
                    explained: copy.explained || first.explained.contains(&(copy.place.0, copy.digest)),
                    ..*copy
                })
                .collect();
            prop_assert_eq!(recovery(&remembered, &after, &opened), Recovery::default());
        }

        #[test]
        fn an_epoch_of_which_a_copy_is_kept_and_none_explained_is_never_empty(copies in copies(), stored in stored()) {
            let recovery = recovery(&copies, &stored, &HashSet::new());
            for copy in copies.iter().filter(|copy| !copy.explained) {
                let epoch = copy.place.0;
                let restored = recovery.restored.iter().any(|restored| restored.to.0 == epoch);
                prop_assert!(restored || stored.keys().any(|place| place.0 == epoch));
            }
        }

        #[test]
        fn a_free_number_is_the_lowest_above(above in 0..20u32, taken in btree_set(0..40u32, 0..20)) {
            let free = first_free(above, |number| taken.contains(&number)).expect("a number");
            prop_assert!(free > above && !taken.contains(&free));
            prop_assert!((above + 1..free).all(|number| taken.contains(&number)));
        }

        #[test]
        fn only_what_was_listed_and_opened_goes_and_only_for_a_proof(
            tried in tried(), relied_on in 1..10u32, proved in any::<bool>()
        ) {
            let superseded = superseded(&tried, relied_on, proved);
            for version in &superseded.replaced {
                prop_assert!(proved && *version < relied_on);
                prop_assert_eq!(tried.get(version), Some(&Tried::Opened));
            }
            let all_opened = tried.iter().filter(|(version, tried)| **tried == Tried::Opened && **version < relied_on);
            prop_assert_eq!(superseded.replaced.len(), if proved { all_opened.count() } else { 0 });
            prop_assert!(superseded.unopened.iter().all(|version| tried[version] == Tried::Unopened));
        }

        /// Whatever each of them knows, and however far each of them comes.
        #[test]
        fn of_many_commands_at_once_the_highest_that_one_relies_on_stays(
            commands in vec((tried(), 1..10u32, any::<bool>()), 1..6)
        ) {
            let highest = commands.iter().filter(|(_, _, proved)| *proved).map(|(_, relied_on, _)| *relied_on).max();
            let gone: BTreeSet<u32> = commands
                .iter()
                .flat_map(|(tried, relied_on, proved)| superseded(tried, *relied_on, *proved).replaced)
                .collect();
            prop_assert!(highest.is_none_or(|highest| !gone.contains(&highest)));
        }
    }

    #[test]
    fn a_receipt_of_another_epoch_explains_nothing() {
        let copies = [copy(1, 1, 1), copy(2, 1, 2)];
        let stored = Stored::from([((2, 2), Some(digest(3)))]);
        let recovery = recovery(&copies, &stored, &HashSet::from([digest(3)]));
        assert_eq!(recovery.explained, [(2, digest(2))]);
        assert_eq!(recovery.restored, [Restoration { copy: copies[0], to: (1, 1) }]);
    }

    #[test]
    fn a_receipt_of_a_file_that_is_gone_explains_nothing() {
        let recovery = recovery(&[copy(1, 1, 1)], &Stored::new(), &HashSet::from([digest(1), digest(2)]));
        assert_eq!(recovery.restored.len(), 1);
    }

    #[test]
    fn where_its_name_is_taken_a_copy_gets_the_next_free_version() {
        let stored = Stored::from([((1, 1), Some(digest(9))), ((1, 2), None)]);
        let recovery = recovery(&[copy(1, 1, 1), copy(1, 1, 2)], &stored, &HashSet::new());
        assert_eq!(recovery.restored.iter().map(|restored| restored.to).collect::<Vec<_>>(), [(1, 3), (1, 4)]);
    }

    #[test]
    fn a_number_planted_far_above_moves_nothing() {
        assert_eq!(first_free(1, |number| [1, 2, u32::MAX].contains(&number)), Some(3));
        assert_eq!(first_free(u32::MAX - 1, |_| false), None);
    }

    #[test]
    fn a_key_file_is_new_for_the_grace_period() {
        let seen = Timestamp::UNIX_EPOCH;
        let after = |time| seen.checked_add(time).expect("a time");
        assert!(is_new(seen, seen) && !is_new(seen, after(GRACE)));
        assert!(is_new(after(GRACE), seen), "a clock that was set back");
    }
}
