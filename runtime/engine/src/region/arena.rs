//! One buffer for all values of a region: values that are never alive together share bytes.

use std::ops::Range;

/// Values start at multiples of this, bytes.
const ALIGN: usize = 64;

/// A value to place: its size and the steps between which it is alive (both included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Places values, the largest first, each at the lowest free offset. Returns the ranges in the
/// order given, and the arena's size.
pub(super) fn place(lives: &[Life]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].bytes), lives[i].first));
    let mut placed: Vec<(Range<usize>, Life)> = Vec::new();
    let mut ranges = vec![0..0; lives.len()];
    let mut total = 0;
    for i in order {
        let life = lives[i];
        let mut taken: Vec<&Range<usize>> = placed
            .iter()
            .filter(|(_, other)| other.first <= life.last && life.first <= other.last)
            .map(|(range, _)| range)
            .collect();
        taken.sort_by_key(|r| r.start);
        let mut start = 0;
        for range in taken {
            if start + life.bytes <= range.start {
                break;
            }
            start = start.max(range.end.next_multiple_of(ALIGN));
        }
        ranges[i] = start..start + life.bytes;
        total = total.max(ranges[i].end);
        placed.push((ranges[i].clone(), life));
    }
    (ranges, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_alive_together_never_share_bytes(
            raw in prop::collection::vec((1_usize..5000, 0_usize..40, 0_usize..12), 1..60)
        ) {
            let lives: Vec<Life> = raw
                .iter()
                .map(|&(bytes, first, length)| Life { bytes, first, last: first + length })
                .collect();
            let (ranges, total) = place(&lives);
            for (i, a) in lives.iter().enumerate() {
                prop_assert_eq!(ranges[i].len(), a.bytes);
                prop_assert!(ranges[i].end <= total);
                prop_assert_eq!(ranges[i].start % ALIGN, 0);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    if a.first <= b.last && b.first <= a.last {
                        prop_assert!(
                            ranges[i].end <= ranges[j].start || ranges[j].end <= ranges[i].start
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn values_of_a_chain_share_two_places() {
        let chain: Vec<Life> =
            (0..10).map(|i| Life { bytes: 100, first: i, last: i + 1 }).collect();
        assert_eq!(place(&chain).1, 128 + 100);
    }
}
