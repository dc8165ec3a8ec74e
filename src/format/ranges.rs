//! Sets of sequence numbers as inclusive ranges in ascending order: what a record says of all earlier ones costs a few
//! bytes, and no number that it could name costs more to look at.

/// The first and the last of a run of numbers.
pub type Range = (u64, u64);

/// `sequences`, in ascending order, as ranges.
pub fn ranges(sequences: impl IntoIterator<Item = u64>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(sequence) => last.1 = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

/// Whether they ascend, do not touch, and end below `end`.
pub fn are_ranges(ranges: &[Range], end: u64) -> bool {
    let each = ranges.iter().all(|range| range.0 <= range.1 && range.1 < end);
    each && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0)
}

pub fn contains(ranges: &[Range], sequence: u64) -> bool {
    let at = ranges.partition_point(|range| range.1 < sequence);
    ranges.get(at).is_some_and(|range| range.0 <= sequence)
}

/// What is in `ranges` and not in `others`.
pub fn without(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    let mut others = others.iter().peekable();
    'ranges: for &(mut first, last) in ranges {
        while others.next_if(|other| other.1 < first).is_some() {}
        while let Some(other) = others.peek().filter(|other| first <= last && other.0 <= last) {
            if first < other.0 {
                left.push((first, other.0 - 1));
            }
            // What goes on after this range may lie in the next one, too.
            match other.1.checked_add(1).filter(|next| *next <= last) {
                Some(next) => first = next,
                None => continue 'ranges,
            }
            others.next();
        }
        if first <= last {
            left.push((first, last));
        }
    }
    left
}

/// As a person reads them: `2, 5 to 9`.
pub fn written(ranges: &[Range]) -> String {
    let word = |range: &Range| match range {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// `snapshot 2`, or `snapshots 2, 5 to 9`.
pub fn snapshots(ranges: &[Range]) -> String {
    format!("{} {}", if is_one(ranges) { "snapshot" } else { "snapshots" }, written(ranges))
}

/// Whether it is a single number, so that a verb is singular.
pub fn is_one(ranges: &[Range]) -> bool {
    matches!(ranges, [(first, last)] if first == last)
}

/// Ranges in ascending order, neighbours joined.
pub fn joined(all: impl Iterator<Item = Range>) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if last.1.saturating_add(1) >= range.0 => last.1 = last.1.max(range.1),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_neighbours_only() {
        assert_eq!(ranges([1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert!(ranges([]).is_empty());
    }

    #[test]
    fn a_difference_is_that_of_the_numbers() {
        let numbers = |bits: u32| (0..8_u64).filter(move |bit| bits & (1 << bit) != 0);
        for (a, b) in (0..256).flat_map(|a| (0..256).map(move |b| (a, b))) {
            let difference = without(&ranges(numbers(a)), &ranges(numbers(b)));
            assert_eq!(difference, ranges(numbers(a & !b)), "{a:b} without {b:b}");
            for sequence in 0..8 {
                assert_eq!(contains(&ranges(numbers(a)), sequence), a & (1 << sequence) != 0);
            }
        }
    }

    #[test]
    fn what_is_not_in_order_is_no_set() {
        assert!(are_ranges(&[(1, 3), (5, 5)], 6));
        for (wrong, end) in [(&[(3, 1)][..], 9), (&[(1, 3), (3, 5)], 9), (&[(5, 6), (1, 2)], 9), (&[(1, 9)], 9)] {
            assert!(!are_ranges(wrong, end), "{wrong:?}");
        }
    }

    #[test]
    fn the_largest_number_is_a_number_like_others() {
        const MAX: u64 = u64::MAX;
        assert_eq!(ranges([MAX - 1, MAX]), [(MAX - 1, MAX)]);
        assert_eq!(ranges([MAX, MAX, 0]), [(MAX, MAX), (MAX, MAX), (0, 0)], "and out of order it does not overflow");
        assert_eq!(without(&[(1, MAX)], &[(3, MAX)]), [(1, 2)]);
        assert_eq!(without(&[(1, MAX)], &[(1, MAX - 1)]), [(MAX, MAX)]);
        assert!(without(&[(MAX, MAX)], &[(MAX, MAX)]).is_empty());
        assert!(without(&[(0, MAX)], &[(0, MAX)]).is_empty());
        assert!(contains(&[(1, MAX)], MAX) && !contains(&[(1, MAX - 1)], MAX));
        assert!(!are_ranges(&[(1, MAX)], MAX), "none is below itself");
    }

    #[test]
    fn ranges_are_written_for_people() {
        assert_eq!(written(&[(2, 2), (5, 9)]), "2, 5 to 9");
        assert_eq!(snapshots(&[(2, 2)]), "snapshot 2");
        assert_eq!(snapshots(&[(5, 9)]), "snapshots 5 to 9");
    }
}
