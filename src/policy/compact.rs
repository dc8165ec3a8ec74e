//! Compaction: which packs the snapshot in the making lets go of, so that a restore of it downloads little that it does
//! not need, and from few packs.
//!
//! The host cannot read its old packs. So a pack is retired by forgetting its blocks: those that are still used are
//! read again from the live sources and stored in new packs. The old pack falls away with the last record that names
//! it. Until then its used blocks are stored twice: compaction does as much as the two bounds ask for, and no more.
//!
//! Ideal is the size of the used blocks alone: of each pack's stored bytes, the share of its blocks that are used.

use std::cmp::Ordering;
use std::fmt;

/// A restore may download so many times the ideal before anything is done.
const MAX_RATIO: f64 = 1.4;
/// What is aimed for then: lower, so that the sources are not read twice in every run.
const AIM_RATIO: f64 = 1.35;
/// So many packs are fine, beyond two for each that full ones would make.
const MAX_SMALL_PACKS: f64 = 96.0;
/// What is aimed for when there are more.
const AIM_SMALL_PACKS: f64 = 32.0;

/// A pack of which the snapshot in the making uses at least one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackUse {
    /// Stored size.
    pub bytes: u64,
    /// How many blocks it holds; never 0.
    pub blocks: u32,
    /// How many of them are used, each counted once.
    pub used: u32,
    /// How many blocks of this size a full pack holds.
    pub capacity: u32,
    /// Put there by this very run: it stays.
    pub new: bool,
}

impl PackUse {
    /// The share of its stored bytes that its used blocks take.
    pub fn ideal_bytes(&self) -> u64 {
        (u128::from(self.bytes) * u128::from(self.used) / u128::from(self.blocks.max(1))) as u64
    }

    /// How much of a full pack its used blocks would fill.
    fn fill(&self) -> f64 {
        f64::from(self.used) / f64::from(self.capacity.max(1))
    }

    /// The least used first, of those the smallest.
    fn by_use(&self, other: &Self) -> Ordering {
        let share = |a: &Self, b: &Self| u64::from(a.used) * u64::from(b.blocks);
        share(self, other).cmp(&share(other, self)).then(self.bytes.cmp(&other.bytes))
    }
}

/// What a restore downloads, and what it would at best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RestoreSize {
    pub bytes: u64,
    pub ideal_bytes: u64,
    /// A whole number.
    pub packs: f64,
    /// How many full packs the used blocks would fill.
    pub ideal_packs: f64,
}

impl RestoreSize {
    pub fn of(packs: &[PackUse]) -> Self {
        Self {
            bytes: packs.iter().map(|pack| pack.bytes).sum(),
            ideal_bytes: packs.iter().map(PackUse::ideal_bytes).sum(),
            packs: packs.len() as f64,
            ideal_packs: packs.iter().map(PackUse::fill).sum(),
        }
    }

    /// How many times the ideal a restore downloads; 1 where there is nothing to download.
    pub fn ratio(&self) -> f64 {
        if self.ideal_bytes == 0 { 1.0 } else { self.bytes as f64 / self.ideal_bytes as f64 }
    }

    /// Packs beyond two for each full one.
    fn small_packs(&self) -> f64 {
        self.packs - 2.0 * self.ideal_packs
    }
}

/// A pack to retire, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Its place among the packs that were given.
    pub pack: usize,
    pub reason: Reason,
}

/// Why a pack is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A restore downloads too much, and most of what it does not need lies in packs like this one.
    Wasteful { used: u32, blocks: u32 },
    /// There are too many packs, and this is one of the smallest.
    Small { used: u32 },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wasteful { used, blocks } => write!(f, "only {used} of its {blocks} blocks are used"),
            Self::Small { used } => write!(f, "there are too many packs, and only {used} blocks of this one are used"),
        }
    }
}

/// What compaction does in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionPlan {
    pub retire: Vec<Retirement>,
    /// About how many stored bytes are uploaded again.
    pub moved_bytes: u64,
    pub before: RestoreSize,
    /// As it would be once the blocks lie in new packs.
    pub after: RestoreSize,
}

/// Plans for the packs that a snapshot uses, uploading at most `max_bytes` again; 0: none. A single pack may always go,
/// because a limit below the size of one would otherwise let waste grow for ever.
pub fn compact(packs: &[PackUse], max_bytes: u64) -> CompactionPlan {
    let before = RestoreSize::of(packs);
    let plan = CompactionPlan { retire: Vec::new(), moved_bytes: 0, before, after: before };
    let mut planner = Planner { packs, max_bytes, moved_fill: 0.0, plan };
    planner.reduce_waste();
    planner.reduce_count();
    planner.plan
}

struct Planner<'a> {
    packs: &'a [PackUse],
    max_bytes: u64,
    /// How many full packs the blocks of those that go would fill.
    moved_fill: f64,
    plan: CompactionPlan,
}

impl Planner<'_> {
    fn reduce_waste(&mut self) {
        if self.max_bytes == 0 || self.plan.before.ratio() <= MAX_RATIO {
            return;
        }
        for pack in self.candidates(PackUse::by_use) {
            let PackUse { used, blocks, .. } = self.packs[pack];
            if self.plan.after.ratio() <= AIM_RATIO || used == blocks {
                return;
            }
            self.retire(pack, Reason::Wasteful { used, blocks });
        }
    }

    fn reduce_count(&mut self) {
        if self.max_bytes == 0 || self.plan.after.small_packs() <= MAX_SMALL_PACKS {
            return;
        }
        for pack in self.candidates(|a, b| a.fill().total_cmp(&b.fill())) {
            if self.plan.after.small_packs() <= AIM_SMALL_PACKS {
                return;
            }
            self.retire(pack, Reason::Small { used: self.packs[pack].used });
        }
    }

    /// The packs that may still go, in this order.
    fn candidates(&self, order: impl Fn(&PackUse, &PackUse) -> Ordering) -> Vec<usize> {
        let gone = |pack: usize| self.plan.retire.iter().any(|retired| retired.pack == pack);
        let mut candidates: Vec<usize> =
            (0..self.packs.len()).filter(|pack| !self.packs[*pack].new && !gone(*pack)).collect();
        candidates.sort_by(|a, b| order(&self.packs[*a], &self.packs[*b]));
        candidates
    }

    /// Lets go of a pack, unless its blocks are more than may still be uploaded.
    fn retire(&mut self, pack: usize, reason: Reason) {
        let lost = self.packs[pack];
        let moved_bytes = self.plan.moved_bytes + lost.ideal_bytes();
        if moved_bytes > self.max_bytes && !self.plan.retire.is_empty() {
            return;
        }
        self.plan.retire.push(Retirement { pack, reason });
        self.plan.moved_bytes = moved_bytes;
        self.moved_fill += lost.fill();
        self.plan.after.bytes -= lost.bytes - lost.ideal_bytes();
        self.plan.after.packs = (self.packs.len() - self.plan.retire.len()) as f64 + self.moved_fill.ceil();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn pack(bytes: u64, used: u32, blocks: u32) -> PackUse {
        PackUse { bytes, blocks, used, capacity: 4096, new: false }
    }

    fn retired(plan: &CompactionPlan) -> Vec<usize> {
        plan.retire.iter().map(|retirement| retirement.pack).collect()
    }

    #[test]
    fn packs_that_are_used_well_enough_stay() {
        let packs = [pack(6 * MIB, 4096, 4096), pack(6 * MIB, 3000, 4096), pack(MIB, 500, 800)];
        let plan = compact(&packs, u64::MAX);
        assert!(plan.before.ratio() < MAX_RATIO && plan.retire.is_empty());
        assert_eq!(plan.before, plan.after);
    }

    #[test]
    fn the_least_used_goes_first_and_the_smaller_of_two_alike() {
        let packs = [pack(6 * MIB, 2000, 4096), pack(6 * MIB, 400, 4096), pack(3 * MIB, 200, 2048)];
        let plan = compact(&packs, u64::MAX);
        assert_eq!(retired(&plan), [2, 1, 0]);
        assert_eq!(plan.retire[0].reason.to_string(), "only 200 of its 2048 blocks are used");
        assert!((plan.after.ratio() - 1.0).abs() < 0.001 && plan.after.packs < 1.5);
    }

    #[test]
    fn it_stops_as_soon_as_the_aim_is_reached() {
        let mut packs = vec![pack(6 * MIB, 4096, 4096); 10];
        packs.extend([pack(6 * MIB, 100, 4096); 8]);
        let plan = compact(&packs, u64::MAX);
        assert!(plan.before.ratio() > MAX_RATIO && plan.after.ratio() <= AIM_RATIO);
        assert!(plan.retire.len() < 8, "{:?}", plan.retire);
    }

    #[test]
    fn the_limit_holds_and_what_does_not_fit_makes_room_for_what_does() {
        let packs = [pack(MIB, 10, 4096), pack(16 * MIB, 1000, 4096), pack(2 * MIB, 300, 1024)];
        assert_eq!(retired(&compact(&packs, MIB)), [0, 2]);
        assert!(compact(&packs, 0).retire.is_empty());
        assert_eq!(retired(&compact(&packs[1..], 1)), [0], "one pack at least");
    }

    #[test]
    fn what_this_run_stored_counts_and_stays() {
        let new = PackUse { new: true, ..pack(6 * MIB, 10, 4096) };
        assert!(compact(&[new], u64::MAX).retire.is_empty());
        // One wasteful pack among many good new ones is no reason to upload anything.
        let mut packs = vec![PackUse { new: true, ..pack(6 * MIB, 4096, 4096) }; 20];
        packs.push(pack(6 * MIB, 10, 4096));
        assert!(compact(&packs, u64::MAX).retire.is_empty());
    }

    #[test]
    fn a_year_of_small_packs_becomes_few() {
        let packs: Vec<PackUse> = (0..365).map(|day| pack(20_000 + day, 50, 50)).collect();
        let plan = compact(&packs, u64::MAX);
        assert_eq!(plan.retire[0].reason, Reason::Small { used: 50 });
        assert!(plan.after.packs < 50.0, "{:?}", plan.after);
        // Large ones are left alone, however many.
        assert!(compact(&[pack(6 * MIB, 4000, 4000); 500], u64::MAX).retire.is_empty());
    }

    proptest! {
        #[test]
        fn with_no_limit_both_bounds_hold_and_nothing_is_moved_without_need(
            shape in proptest::collection::vec((1u32..4096, 1u32..=4096, 1u64..2000), 1..200)
        ) {
            let packs: Vec<PackUse> =
                shape.iter().map(|(used, blocks, rate)| pack(u64::from(*blocks) * rate, *used.min(blocks), *blocks)).collect();
            let plan = compact(&packs, u64::MAX);
            prop_assert!(plan.after.ratio() <= MAX_RATIO);
            prop_assert!(plan.after.small_packs() <= MAX_SMALL_PACKS);
            prop_assert_eq!(plan.after.ideal_bytes, plan.before.ideal_bytes);
            prop_assert!(plan.retire.is_empty() == (plan.before.ratio() <= MAX_RATIO && plan.before.small_packs() <= MAX_SMALL_PACKS));
        }

        #[test]
        fn any_limit_is_kept(
            shape in proptest::collection::vec((1u32..4096, 1u32..=4096, 1u64..2000), 1..50), max_bytes in 0u64..10_000_000
        ) {
            let packs: Vec<PackUse> =
                shape.iter().map(|(used, blocks, rate)| pack(u64::from(*blocks) * rate, *used.min(blocks), *blocks)).collect();
            let plan = compact(&packs, max_bytes);
            prop_assert!(plan.moved_bytes <= max_bytes || plan.retire.len() == 1 && max_bytes > 0);
            let moved: u64 = plan.retire.iter().map(|retired| packs[retired.pack].ideal_bytes()).sum();
            prop_assert_eq!(plan.moved_bytes, moved);
        }
    }
}
