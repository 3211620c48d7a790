//! Activations as bytes: `vpmaddubsw` multiplies four values of depth of eight channels, and adds
//! products by twos into `i16`, where it would saturate. So each step of four values is multiplied
//! in the cheapest of three ways that the weights prove exact, for activations of 0 to `largest`:
//!
//! - **doubled**, with another step: both results are added in `i16` before `vpmaddwd` (with ones)
//!   widens them. No sum of four products may leave `i16`: the positive weights of the four add up
//!   to at most `32767 / largest`, the negative ones to at least `-32768 / largest`.
//! - **plain**: each result is widened. The same bound for two products; it always holds up to
//!   `largest` 127, since 2 * 127 * 128 = 32512.
//! - **split**: activations are widened in their register, even and odd values, and `vpmaddwd`
//!   multiplies them by `i16` weights. Always exact.
//!
//! A panel's steps are listed by kind, with the place of their activations: the order of depth
//! changes, activations stay where they are.

use std::arch::x86_64::*;

use super::panel::{Depth, Group, LANES, MAX_COLS, Multiply};
use crate::scratch::Packed8;

/// Values of depth of one step.
pub(crate) const STEP: usize = 4;
/// How many steps a step without neighbour is tried with: loading should not take long.
const TRIES: usize = 12;
/// Bytes of one vector of weights.
const VECTOR: usize = LANES * STEP;

/// The weights of a panel; all must fit an `i8`.
pub(crate) struct Bytes {
    /// `[doubled][2][vector][lane][4]`, then `[plain][vector][lane][4]`, then `i16` pairs
    /// `[split][even or odd][vector][lane][2]`.
    weights: Packed8,
    doubled: Vec<[u32; 2]>,
    plain: Vec<u32>,
    split: Vec<u32>,
    reach: usize,
}

/// A sum of the positive and of the negative weights that meet in one `i16`.
#[derive(Clone, Copy)]
struct Sums {
    positive: i16,
    negative: i16,
}

/// What an `i16` holds for activations of 0 to `largest`.
struct Bound {
    positive: i16,
    negative: i16,
}

impl Bound {
    fn new(largest: i32) -> Bound {
        // At least four weights of any size fit where the activations do not count.
        let fits = |room: i32| (room / largest.max(1)).min(4 * 128) as i16;
        Bound { positive: fits(32767), negative: -fits(32768) }
    }

    fn holds(&self, sums: Sums) -> bool {
        sums.positive <= self.positive && sums.negative >= self.negative
    }
}

/// The steps of one panel by kind.
struct Kinds {
    doubled: Vec<[Group; 2]>,
    plain: Vec<Group>,
    split: Vec<Group>,
}

impl Kinds {
    fn new(rows: &[&[i16]], depth: Depth, largest: i32) -> Kinds {
        let bound = Bound::new(largest);
        let lanes = rows.len() * 2;
        let groups: Vec<Group> = depth.groups(STEP).collect();
        let mut sums = Vec::with_capacity(groups.len() * lanes);
        for group in &groups {
            for row in rows {
                let [a, b, c, d] = group.of(row);
                sums.extend([(a, b), (c, d)].map(|(a, b)| Sums {
                    positive: a.max(0) + b.max(0),
                    negative: a.min(0) + b.min(0),
                }));
            }
        }
        let of = |step: usize| &sums[step * lanes..][..lanes];
        let fit = |a: usize, b: usize| {
            of(a).iter().zip(of(b)).all(|(a, b)| {
                bound.holds(Sums {
                    positive: a.positive + b.positive,
                    negative: a.negative + b.negative,
                })
            })
        };
        let mut kinds = Kinds { doubled: Vec::new(), plain: Vec::new(), split: Vec::new() };
        // Neighbours first; then what is left, with whichever of a few fits.
        let (mut left, mut step) = (Vec::new(), 0);
        while step < groups.len() {
            if step + 1 < groups.len() && fit(step, step + 1) {
                kinds.doubled.push([groups[step], groups[step + 1]]);
                step += 2;
            } else {
                left.push(step);
                step += 1;
            }
        }
        while let Some(a) = left.pop() {
            let near = left.len().saturating_sub(TRIES);
            if let Some(at) = (near..left.len()).find(|&at| fit(a, left[at])) {
                kinds.doubled.push([groups[left.remove(at)], groups[a]]);
            } else if of(a).iter().all(|&sums| bound.holds(sums)) {
                kinds.plain.push(groups[a]);
            } else {
                kinds.split.push(groups[a]);
            }
        }
        kinds
    }
}

impl Bytes {
    /// Vector operations for each pixel and vector of channels, in sixths; [`super::wide`] takes
    /// `24` a step.
    pub(super) fn cost(&self, vectors: usize) -> usize {
        let split = if vectors == 2 { 30 } else { 28 };
        30 * self.doubled.len() + 18 * self.plain.len() + split * self.split.len()
    }

    pub(super) fn steps(&self) -> usize {
        2 * self.doubled.len() + self.plain.len() + self.split.len()
    }
}

impl Multiply for Bytes {
    type Value = u8;

    const MAX_ROWS: usize = 4;

    fn pack(rows: &[&[i16]], depth: Depth, largest: i32) -> Bytes {
        let kinds = Kinds::new(rows, depth, largest);
        let bytes = kinds.doubled.as_flattened().iter().chain(&kinds.plain);
        let vectors = kinds.doubled.len() * 2 + kinds.plain.len() + kinds.split.len() * 2;
        let weights = Packed8::new(vectors * rows.len() * STEP, |packed| {
            let split = (kinds.doubled.len() * 2 + kinds.plain.len()) * rows.len() * STEP;
            let (first, second) = packed.split_at_mut(split);
            for (group, to) in bytes.zip(first.chunks_exact_mut(rows.len() * STEP)) {
                for (to, row) in to.as_chunks_mut::<STEP>().0.iter_mut().zip(rows) {
                    *to = group.of::<STEP>(row).map(|w| w as i8 as u8);
                }
            }
            for (group, to) in kinds.split.iter().zip(second.chunks_exact_mut(2 * rows.len() * 4)) {
                let (even, odd) = to.split_at_mut(rows.len() * 4);
                let targets = even.as_chunks_mut::<4>().0.iter_mut().zip(odd.as_chunks_mut().0);
                for ((even, odd), row) in targets.zip(rows) {
                    let pair = |a: i16, b: i16| {
                        let ([a, b], [c, d]) = (a.to_le_bytes(), b.to_le_bytes());
                        [a, b, c, d]
                    };
                    let [a, b, c, d] = group.of(row);
                    (*even, *odd) = (pair(a, c), pair(b, d));
                }
            }
        });
        let reach = depth.groups(STEP).map(|group| group.offset).max();
        let offsets = |groups: &[Group]| groups.iter().map(|group| group.offset).collect();
        Bytes {
            weights,
            doubled: kinds.doubled.iter().map(|two| two.map(|group| group.offset)).collect(),
            plain: offsets(&kinds.plain),
            split: offsets(&kinds.split),
            reach: reach.map_or(0, |last| last as usize + STEP),
        }
    }

    fn reach(&self) -> usize {
        self.reach
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn accumulate<const MR: usize, const NV: usize, const LINES: usize>(
        &self,
        bias: &[i32; MAX_COLS],
        a: *const u8,
        column: usize,
        line: usize,
    ) -> [[__m256i; NV]; MR] {
        // SAFETY: `NV <= 3` vectors of 8 lie within the 24 biases.
        let mut acc = [unsafe { super::tile::vectors::<NV>(bias) }; MR];
        let ones = _mm256_set1_epi16(1);
        let mut w = self.weights.values().as_ptr();
        for &[first, second] in &self.doubled {
            // SAFETY: two times `NV` vectors were packed for each.
            let (low, high) = unsafe { (load::<NV>(w), load::<NV>(w.add(NV * VECTOR))) };
            // SAFETY: at most one past the last vector.
            w = unsafe { w.add(2 * NV * VECTOR) };
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = r / LINES * column + r % LINES * line;
                // SAFETY: passed on; offsets stay within the reach.
                let (x, y) = unsafe {
                    (four(a.add(at + first as usize)), four(a.add(at + second as usize)))
                };
                for (v, acc) in acc.iter_mut().enumerate() {
                    let sum = _mm256_add_epi16(
                        _mm256_maddubs_epi16(x, low[v]),
                        _mm256_maddubs_epi16(y, high[v]),
                    );
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(sum, ones));
                }
            }
        }
        for &offset in &self.plain {
            // SAFETY: `NV` vectors were packed for each.
            let weights = unsafe { load::<NV>(w) };
            // SAFETY: at most one past the last vector.
            w = unsafe { w.add(NV * VECTOR) };
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = r / LINES * column + r % LINES * line + offset as usize;
                // SAFETY: passed on; offsets stay within the reach.
                let x = unsafe { four(a.add(at)) };
                for (acc, &weights) in acc.iter_mut().zip(&weights) {
                    let sum = _mm256_maddubs_epi16(x, weights);
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(sum, ones));
                }
            }
        }
        let low_bytes = _mm256_set1_epi16(0xFF);
        for &offset in &self.split {
            // SAFETY: two times `NV` vectors were packed for each.
            let (even, odd) = unsafe { (load::<NV>(w), load::<NV>(w.add(NV * VECTOR))) };
            // SAFETY: at most one past the last vector.
            w = unsafe { w.add(2 * NV * VECTOR) };
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = r / LINES * column + r % LINES * line + offset as usize;
                // SAFETY: passed on; offsets stay within the reach.
                let x = unsafe { four(a.add(at)) };
                let (x, y) = (_mm256_and_si256(x, low_bytes), _mm256_srli_epi16::<8>(x));
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, even[v]));
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(y, odd[v]));
                }
            }
        }
        acc
    }
}

/// `NV` vectors of weights.
///
/// # Safety
/// They can be read, aligned to their size.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load<const NV: usize>(w: *const u8) -> [__m256i; NV] {
    let mut weights = [_mm256_setzero_si256(); NV];
    for (v, weights) in weights.iter_mut().enumerate() {
        // SAFETY: passed on.
        *weights = unsafe { _mm256_load_si256(w.add(v * VECTOR).cast()) };
    }
    weights
}

/// Four activations, eight times.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn four(x: *const u8) -> __m256i {
    // SAFETY: passed on.
    _mm256_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(rows: &[&[i16]], largest: i32) -> [usize; 3] {
        let kinds = Kinds::new(rows, Depth::flat(rows[0].len()), largest);
        [kinds.doubled.len(), kinds.plain.len(), kinds.split.len()]
    }

    /// Every promise that the inner loop rests on, from the weights themselves.
    fn check(rows: &[&[i16]], largest: i32) {
        let kinds = Kinds::new(rows, Depth::flat(rows[0].len()), largest);
        let fits = |weights: &[i16]| {
            let sum = |sign: i32| {
                weights.iter().map(|&w| (sign * i32::from(w)).max(0)).sum::<i32>() * largest
            };
            assert!(sum(1) <= 32767 && sum(-1) <= 32768, "{weights:?} up to {largest}");
        };
        for row in rows {
            for two in &kinds.doubled {
                let [a, b] = two.map(|group| group.of::<STEP>(row));
                fits(&[a[0], a[1], b[0], b[1]]);
                fits(&[a[2], a[3], b[2], b[3]]);
            }
            for group in &kinds.plain {
                let [a, b, c, d] = group.of(row);
                fits(&[a, b]);
                fits(&[c, d]);
            }
        }
        let all = kinds.doubled.as_flattened().iter().chain(&kinds.plain).chain(&kinds.split);
        let mut firsts: Vec<_> = all.map(|group| group.first).collect();
        firsts.sort_unstable();
        let expected: Vec<_> = (0..rows[0].len()).step_by(STEP).collect();
        assert_eq!(firsts, expected, "each step once");
    }

    #[test]
    fn steps_are_doubled_up_to_the_ends_of_16_bits() {
        let row = |a: i16, b: i16| [a, a, 0, 0, b, b, 0, 0];
        // 127 * 258 = 32766.
        assert_eq!(kinds(&[&row(64, 65)], 127), [1, 0, 0]);
        assert_eq!(kinds(&[&row(65, 65)], 127), [0, 2, 0]);
        assert_eq!(kinds(&[&row(-64, -65)], 127), [1, 0, 0]);
        assert_eq!(kinds(&[&row(-65, -65)], 127), [0, 2, 0]);
        // Signs apart never add up; one channel decides for all.
        assert_eq!(kinds(&[&row(127, -128)], 127), [1, 0, 0]);
        assert_eq!(kinds(&[&row(1, 1), &row(65, 65)], 127), [0, 2, 0]);
        // 255 * 128 = 32640; 128 * 256 = 32768, which only negative sums may reach.
        assert_eq!(kinds(&[&row(64, 0)], 255), [1, 0, 0]);
        assert_eq!(kinds(&[&row(64, 64)], 255), [0, 2, 0]);
        assert_eq!(kinds(&[&row(65, 1)], 255), [0, 1, 1]);
        assert_eq!(kinds(&[&row(-128, 0)], 128), [1, 0, 0]);
        assert_eq!(kinds(&[&row(64, 64)], 128), [0, 2, 0]);
        assert_eq!(kinds(&[&row(-64, -64)], 128), [1, 0, 0]);
    }

    #[test]
    fn steps_that_do_not_fit_their_neighbour_are_paired_with_others() {
        let mut row = [0i16; 20];
        for (step, w) in [120, 100, 110, 5, 7].into_iter().enumerate() {
            row[step * 4..step * 4 + 2].fill(w);
        }
        // The third with the fourth, its neighbour; of the others only the last is small.
        assert_eq!(kinds(&[&row], 127), [2, 1, 0]);
    }

    #[test]
    fn no_sum_leaves_16_bits_whatever_the_weights() {
        let mut state = 1u32;
        let mut weight = |bits: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            i16::from((state >> 24) as u8 as i8) >> bits
        };
        for largest in [0, 1, 90, 127, 128, 200, 255] {
            for (depth, bits) in [(3, 0), (16, 0), (40, 1), (97, 2), (200, 1), (64, 5)] {
                let rows: Vec<Vec<i16>> =
                    (0..16).map(|_| (0..depth).map(|_| weight(bits)).collect()).collect();
                let rows: Vec<&[i16]> = rows.iter().map(Vec::as_slice).collect();
                check(&rows, largest);
            }
        }
    }
}
