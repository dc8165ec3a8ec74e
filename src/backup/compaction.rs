//! Compaction within a backup, between its passes: pass 1 has seen which blocks are used, and pass 2 sees only what the
//! catalog still knows. So a retired block is either found again and stored in a new pack, or not referred to at all.

use std::sync::{PoisonError, RwLock};

use crate::format::blocks_per_pack;
use crate::host::{Catalog, Location};
use crate::policy::compact::{PackUse, RestoreSize, compact};

/// Retires packs of the catalog where what lies at `seen` uses them badly; `true`: their blocks are to be stored again.
/// Packs from number `known_packs` on are this run's own.
pub(super) fn retire(
    seen: impl Iterator<Item = Location>,
    known_packs: usize,
    max_bytes: u64,
    catalog: &RwLock<Catalog>,
) -> bool {
    let mut catalog = catalog.write().unwrap_or_else(PoisonError::into_inner);
    let (ordinals, uses): (Vec<usize>, Vec<PackUse>) = pack_uses(seen, &catalog, known_packs).into_iter().unzip();
    let plan = compact(&uses, max_bytes);
    for retirement in &plan.retire {
        let name = catalog.pack(ordinals[retirement.pack]).map(|(name, _)| name.to_string()).unwrap_or_default();
        tracing::debug!(pack = name, why = %retirement.reason, "pack retired");
    }
    if plan.retire.is_empty() {
        return false;
    }
    tracing::info!(
        packs = plan.retire.len(),
        bytes = plan.moved_bytes,
        ratio = plan.before.ratio(),
        ratio_after = plan.after.ratio(),
        "compaction: the blocks of some packs are stored again"
    );
    let retired: Vec<usize> = plan.retire.iter().map(|retirement| ordinals[retirement.pack]).collect();
    catalog.retire(&retired);
    true
}

/// What a restore of the blocks at `locations` downloads.
pub(super) fn restore_size(locations: impl Iterator<Item = Location>, catalog: &Catalog) -> RestoreSize {
    let uses: Vec<PackUse> = pack_uses(locations, catalog, catalog.packs()).into_iter().map(|(_, used)| used).collect();
    RestoreSize::of(&uses)
}

/// The packs that are used at all, by their ordinals. A pack that is still being made has no stored size yet: it is
/// taken to compress as the others did.
fn pack_uses(
    locations: impl Iterator<Item = Location>,
    catalog: &Catalog,
    known_packs: usize,
) -> Vec<(usize, PackUse)> {
    let named =
        (0..catalog.packs()).filter_map(|ordinal| Some((catalog.pack(ordinal)?.1, plain_bytes(catalog, ordinal))));
    let (stored, plain) = named.fold((0, 0), |sum, (stored, plain)| (sum.0 + stored, sum.1 + plain));
    let per_mille = 1000 * stored / plain.max(1);
    let used = count(locations, catalog).into_iter().enumerate().filter(|(_, used)| *used > 0);
    used.map(|(ordinal, used)| {
        let (blocks, block_size) = catalog.shape(ordinal);
        let estimate = || plain_bytes(catalog, ordinal) * per_mille / 1000;
        let bytes = catalog.pack(ordinal).map_or_else(estimate, |(_, bytes)| bytes);
        let capacity = blocks_per_pack(block_size as usize) as u32;
        (ordinal, PackUse { bytes, blocks: blocks as u32, used, capacity, new: ordinal >= known_packs })
    })
    .collect()
}

fn plain_bytes(catalog: &Catalog, ordinal: usize) -> u64 {
    let (blocks, block_size) = catalog.shape(ordinal);
    blocks as u64 * u64::from(block_size)
}

/// How many different blocks of each pack lie at `locations`. One bit a block: there is a block for each page of a
/// database, and many pages may share one.
fn count(locations: impl Iterator<Item = Location>, catalog: &Catalog) -> Vec<u32> {
    let mut first = Vec::with_capacity(catalog.packs());
    let mut blocks = 0;
    for ordinal in 0..catalog.packs() {
        first.push(blocks);
        blocks += catalog.shape(ordinal).0;
    }
    let mut seen = vec![0u64; blocks.div_ceil(64)];
    let mut used = vec![0; catalog.packs()];
    for location in locations {
        let bit = first[location.ordinal()] + location.slot() as usize;
        let (word, mask) = (&mut seen[bit / 64], 1 << (bit % 64));
        used[location.ordinal()] += u32::from(*word & mask == 0);
        *word |= mask;
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Fingerprint, sha256};
    use crate::host::CatalogPack;

    fn fingerprint(n: u32) -> Fingerprint {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&sha256(&n.to_le_bytes()).as_bytes()[..16]);
        fingerprint
    }

    fn pack(from: u32, to: u32, bytes: u64) -> CatalogPack {
        let fingerprints = (from..to).map(fingerprint).collect();
        CatalogPack { name: sha256(&from.to_le_bytes()), bytes, epoch: 1, block_size: 4096, fingerprints }
    }

    fn at(catalog: &Catalog, blocks: impl IntoIterator<Item = u32>) -> Vec<Location> {
        blocks.into_iter().map(|n| catalog.find(&fingerprint(n)).expect("known")).collect()
    }

    #[test]
    fn a_block_that_many_pages_share_is_used_once() {
        let catalog = Catalog::of([pack(0, 100, 1000), pack(100, 300, 4000)]);
        let size = restore_size(at(&catalog, [3, 3, 3, 7, 150]).into_iter(), &catalog);
        assert_eq!((size.bytes, size.ideal_bytes), (5000, 20 + 20));
    }

    #[test]
    fn a_pack_in_the_making_is_taken_to_compress_as_the_others_did_and_stays() {
        let mut catalog = Catalog::of([pack(0, 100, 40_960)]);
        let open = catalog.open_pack(4096).expect("room");
        let new: Vec<Location> = (500..510).map(|n| catalog.add(open, fingerprint(n))).collect();
        let uses = pack_uses(new.into_iter(), &catalog, 1);
        let used = PackUse { bytes: 4096, blocks: 10, used: 10, capacity: 4096, new: true };
        assert_eq!(uses, [(1, used)]);
    }

    #[test]
    fn a_badly_used_pack_is_unknown_afterwards_and_a_good_one_is_not() {
        let catalog = RwLock::new(Catalog::of([pack(0, 100, 1000), pack(100, 110, 100)]));
        let seen = at(&catalog.read().expect("whole"), (0..20).chain(100..110));
        assert!(!retire(seen.iter().copied(), 2, 0, &catalog));
        assert!(retire(seen.into_iter(), 2, u64::MAX, &catalog));
        let catalog = catalog.into_inner().expect("whole");
        assert_eq!((catalog.find(&fingerprint(3)), catalog.blocks()), (None, 10));
    }
}
