//! Activations widened to `i16`, weights as `i16` pairs of consecutive depth: `vpmaddwd`
//! multiplies and adds two of them at once. It cannot saturate here (two products of at most
//! 255 * 255), whatever the input.

use std::arch::x86_64::*;

use super::panel::{Depth, LANES, MAX_COLS, Multiply};
use crate::scratch::Packed16;

/// Values of depth that one instruction multiplies.
const STEP: usize = 2;

pub(crate) struct Wide {
    /// `[pair][vector][lane][2]`
    weights: Packed16,
    /// Where the activations of each pair lie.
    offsets: Vec<u32>,
    reach: usize,
}

impl Multiply for Wide {
    type Value = i16;

    const MAX_ROWS: usize = 6;

    fn pack(rows: &[&[i16]], depth: Depth, _largest: i32) -> Wide {
        let offsets: Vec<u32> = depth.groups(STEP).map(|group| group.offset).collect();
        let weights = Packed16::new(offsets.len() * rows.len() * STEP, |packed| {
            // Along the packed weights, not along the rows: each is written once, in order.
            for (group, to) in depth.groups(STEP).zip(packed.chunks_exact_mut(rows.len() * STEP)) {
                for (to, row) in to.as_chunks_mut::<STEP>().0.iter_mut().zip(rows) {
                    *to = group.of(row);
                }
            }
        });
        let reach = offsets.iter().max().map_or(0, |&last| last as usize + STEP);
        Wide { weights, offsets, reach }
    }

    fn reach(&self) -> usize {
        self.reach
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn accumulate<const MR: usize, const NV: usize, const LINES: usize>(
        &self,
        bias: &[i32; MAX_COLS],
        a: *const i16,
        column: usize,
        line: usize,
    ) -> [[__m256i; NV]; MR] {
        // SAFETY: `NV <= 3` vectors of 8 lie within the 24 biases.
        let mut acc = [unsafe { super::tile::vectors::<NV>(bias) }; MR];
        let mut w = self.weights.values().as_ptr();
        for &offset in &self.offsets {
            let mut weights = [_mm256_setzero_si256(); NV];
            for (v, weights) in weights.iter_mut().enumerate() {
                // SAFETY: `NV` vectors were packed for each offset, aligned to their size.
                *weights = unsafe { _mm256_load_si256(w.add(v * LANES * STEP).cast()) };
            }
            // SAFETY: at most one past the last vector.
            w = unsafe { w.add(NV * LANES * STEP) };
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = r / LINES * column + r % LINES * line + offset as usize;
                // SAFETY: passed on; offsets stay within the reach.
                let pair = unsafe { a.add(at).cast::<i32>().read_unaligned() };
                let x = _mm256_set1_epi32(pair);
                for (acc, &weights) in acc.iter_mut().zip(&weights) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, weights));
                }
            }
        }
        acc
    }
}
