//! The inner loop of depthwise convolution for NEON: up to 8 output columns of 8 channels.

use std::arch::aarch64::*;

use crate::ConvGeometry;
use crate::arm::{Clamp, ClampVectors, load_f32, load_i32, scale};
use crate::isa::Neon;

/// Channels in one vector.
pub(super) const LANES: usize = 8;

/// The filters of 8 channels.
pub(super) struct Vector {
    /// The first channel.
    pub(super) first: usize,
    /// `[tap row][tap column][lane]`
    pub(super) weights: Vec<i16>,
    pub(super) bias: [i32; LANES],
    pub(super) multiplier: [f32; LANES],
}

/// The ring of widened rows, `[padded row % kernel_h][vector][column][LANES]`.
pub(super) struct Sources<'a> {
    pub(super) values: &'a [i16],
    pub(super) cols: usize,
    pub(super) vectors: usize,
    pub(super) vector: usize,
    /// Slot of the window's first row.
    pub(super) first_slot: usize,
}

/// Computes 8 channels of the output columns in `out` (`[columns][channels]`).
///
/// # Panics
/// If the sizes do not agree.
pub(super) fn run(
    _token: Neon,
    sources: &Sources<'_>,
    g: &ConvGeometry,
    vector: &Vector,
    clamp: &Clamp,
    out: &mut [u8],
) {
    let columns = out.len() / g.out_c;
    assert!(columns > 0 && vector.first + LANES <= g.out_c);
    assert!((columns - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w < sources.cols);
    assert_eq!(vector.weights.len(), g.kernel_h * g.kernel_w * LANES);
    let slot = sources.vectors * sources.cols * LANES;
    assert!(sources.vector < sources.vectors && sources.first_slot < g.kernel_h);
    assert!(sources.values.len() >= g.kernel_h * slot);
    let values = sources.values[sources.vector * sources.cols * LANES..].as_ptr();
    let row = Row { values, slot, first_slot: sources.first_slot, g, vector, clamp };
    // SAFETY: the token proves NEON; the sizes were just checked, and the constants are those of
    // the geometry.
    unsafe {
        match (g.kernel_w, g.stride_w, g.dilation_w) {
            (3, 1, 1) => row.run::<3, 1>(columns, out),
            (3, 2, 1) => row.run::<3, 2>(columns, out),
            (5, 1, 1) => row.run::<5, 1>(columns, out),
            (5, 2, 1) => row.run::<5, 2>(columns, out),
            _ => row.run::<0, 0>(columns, out),
        }
    }
}

struct Row<'a> {
    /// Column 0 of slot 0.
    values: *const i16,
    /// Values from one slot to the next.
    slot: usize,
    first_slot: usize,
    g: &'a ConvGeometry,
    vector: &'a Vector,
    clamp: &'a Clamp,
}

/// What a tile begins and ends with, in registers.
struct End {
    bias: [int32x4_t; 2],
    multiplier: [float32x4_t; 2],
    clamp: ClampVectors,
}

impl Row<'_> {
    /// `KW` and `S` are the filter's columns and the stride, or both 0 for any geometry.
    ///
    /// # Safety
    /// The checks in [`run`] hold.
    #[target_feature(enable = "neon")]
    unsafe fn run<const KW: usize, const S: usize>(&self, columns: usize, out: &mut [u8]) {
        let (bias, _) = self.vector.bias.as_chunks::<4>();
        let (multiplier, _) = self.vector.multiplier.as_chunks::<4>();
        let end = End {
            bias: [load_i32(&bias[0]), load_i32(&bias[1])],
            multiplier: [load_f32(&multiplier[0]), load_f32(&multiplier[1])],
            clamp: self.clamp.vectors(),
        };
        let mut x = 0;
        while x < columns {
            let left = columns - x;
            let to = out[x * self.g.out_c + self.vector.first..].as_mut_ptr();
            // SAFETY: as many columns are left as the tile takes, see `run`.
            unsafe {
                x += match left {
                    7 | 14 => self.tile::<7, KW, S>(&end, x, to),
                    8.. => self.tile::<8, KW, S>(&end, x, to),
                    4.. => self.tile::<4, KW, S>(&end, x, to),
                    2.. => self.tile::<2, KW, S>(&end, x, to),
                    _ => self.tile::<1, KW, S>(&end, x, to),
                }
            }
        }
    }

    /// # Safety
    /// `T` columns from `x` on exist; `to` can take 8 bytes at each of them.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn tile<const T: usize, const KW: usize, const S: usize>(
        &self,
        end: &End,
        x: usize,
        to: *mut u8,
    ) -> usize {
        // SAFETY: passed on.
        let sums = unsafe { self.accumulate::<T, KW, S>(x, end.bias) };
        let [low, high] = end.multiplier;
        for (t, sum) in sums.into_iter().enumerate() {
            let bytes = end.clamp.eight(scale(sum[0], low), scale(sum[1], high));
            // SAFETY: passed on.
            unsafe { vst1_u8(to.add(t * self.g.out_c), bytes) };
        }
        T
    }

    /// The sums of 8 channels at `T` columns.
    ///
    /// # Safety
    /// `T` columns from `x` on exist.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn accumulate<const T: usize, const KW: usize, const S: usize>(
        &self,
        x: usize,
        bias: [int32x4_t; 2],
    ) -> [[int32x4_t; 2]; T] {
        let kernel_w = if KW > 0 { KW } else { self.g.kernel_w };
        let stride = if S > 0 { S } else { self.g.stride_w };
        let dilation = if S > 0 { 1 } else { self.g.dilation_w };
        let mut acc = [bias; T];
        let mut slot = self.first_slot;
        let mut weights = self.vector.weights.as_ptr();
        for _ in 0..self.g.kernel_h {
            // SAFETY: the slot exists, and has column `x * stride`.
            let columns = unsafe { self.values.add(slot * self.slot + x * stride * LANES) };
            // SAFETY: tap `j < kernel_w` of this row of the weights.
            let weight = |j: usize| unsafe { vld1q_s16(weights.add(j * LANES)) };
            // SAFETY: column `(T - 1) * stride + (kernel_w - 1) * dilation` from `x` on is the
            // last one asked for, and `run` checked that the ring has it.
            let column = |col: usize| unsafe { vld1q_s16(columns.add(col * LANES)) };
            let add = |acc: &mut [int32x4_t; 2], x: int16x8_t, w: int16x8_t| {
                acc[0] = vmlal_s16(acc[0], vget_low_s16(x), vget_low_s16(w));
                acc[1] = vmlal_high_s16(acc[1], x, w);
            };
            if S == 1 {
                // Neighbouring outputs share columns: load each once.
                let w: [int16x8_t; KW] = std::array::from_fn(weight);
                for col in 0..T + KW - 1 {
                    let x = column(col);
                    for (j, &w) in w.iter().enumerate() {
                        if col >= j && col - j < T {
                            add(&mut acc[col - j], x, w);
                        }
                    }
                }
            } else {
                for j in 0..kernel_w {
                    let w = weight(j);
                    for (t, acc) in acc.iter_mut().enumerate() {
                        add(acc, column(t * stride + j * dilation), w);
                    }
                }
            }
            slot = if slot + 1 == self.g.kernel_h { 0 } else { slot + 1 };
            // SAFETY: at most one past the end.
            weights = unsafe { weights.add(kernel_w * LANES) };
        }
        acc
    }
}
