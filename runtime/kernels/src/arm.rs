//! What several NEON kernels share: the end of requantization, and moving activations.

use std::arch::aarch64::*;

use crate::Requantize;
use crate::isa::Neon;
use crate::requantize::Reach;

/// The last steps from rounded `i32` values to activations.
///
/// Each step saturates towards a bound that clamping to `min..=max` reaches anyway, so the result
/// equals `clamp(value + zero_point, min, max)` for every `i32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clamp {
    zero_point: i16,
    min: u8,
    max: u8,
}

impl Clamp {
    pub(crate) fn new(zero_point: u8, min: u8, max: u8) -> Clamp {
        Clamp { zero_point: i16::from(zero_point), min, max }
    }

    /// The same in registers: a loop that stores bytes would reload them each time.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn vectors(&self) -> ClampVectors {
        ClampVectors {
            zero_point: vdupq_n_s16(self.zero_point),
            min: vdupq_n_u8(self.min),
            max: vdupq_n_u8(self.max),
        }
    }
}

/// The fewest instructions that end a layer exactly; a constant parameter of the functions that do.
pub(crate) struct Ending;

impl Ending {
    /// For every layer.
    pub(crate) const SATURATING: u8 = 0;
    /// Where all results fit an `i16` ([`Reach::results_fit_i16`]): narrowing takes the low halves.
    pub(crate) const FITTING: u8 = 1;
    /// The same where the zero point is 0 and all codes are allowed: nothing to add or clamp.
    pub(crate) const PLAIN: u8 = 2;
    /// For every layer with a residual, whose codes lie where the results will.
    pub(crate) const ADDING: u8 = 3;

    /// The one for a layer.
    pub(crate) fn of(output: &Requantize, reach: Reach) -> u8 {
        match (output.zero_point, output.min, output.max) {
            _ if !reach.results_fit_i16 => Ending::SATURATING,
            (0, 0, 255) => Ending::PLAIN,
            _ => Ending::FITTING,
        }
    }
}

/// [`Clamp`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct ClampVectors {
    zero_point: int16x8_t,
    min: uint8x16_t,
    max: uint8x16_t,
}

impl ClampVectors {
    /// Clamps eight values.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn eight(&self, low: int32x4_t, high: int32x4_t) -> uint8x8_t {
        let words = vcombine_s16(vqmovn_s32(low), vqmovn_s32(high));
        let bytes = vqmovun_s16(vqaddq_s16(words, self.zero_point));
        vmin_u8(vmax_u8(bytes, vget_low_u8(self.min)), vget_low_u8(self.max))
    }

    /// Clamps sixteen values.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn sixteen(&self, values: [int32x4_t; 4]) -> uint8x16_t {
        let words = |low, high| {
            vqaddq_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)), self.zero_point)
        };
        let low = vqmovun_s16(words(values[0], values[1]));
        let high = vqmovun_s16(words(values[2], values[3]));
        let bytes = vcombine_u8(low, high);
        vminq_u8(vmaxq_u8(bytes, self.min), self.max)
    }
}

impl ClampVectors {
    /// Two vectors of results to 16 bits, the zero point added.
    #[target_feature(enable = "neon")]
    #[inline]
    fn words<const END: u8>(&self, low: int32x4_t, high: int32x4_t) -> int16x8_t {
        if END == Ending::SATURATING {
            let words = vqmovn_high_s32(vqmovn_s32(low), high);
            return vqaddq_s16(words, self.zero_point);
        }
        let words = vuzp1q_s16(vreinterpretq_s16_s32(low), vreinterpretq_s16_s32(high));
        if END == Ending::PLAIN { words } else { vaddq_s16(words, self.zero_point) }
    }

    /// Ends eight results as an [`Ending`] says.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn end_eight<const END: u8>(&self, low: int32x4_t, high: int32x4_t) -> uint8x8_t {
        let bytes = vqmovun_s16(self.words::<END>(low, high));
        if END == Ending::PLAIN {
            return bytes;
        }
        vmin_u8(vmax_u8(bytes, vget_low_u8(self.min)), vget_low_u8(self.max))
    }

    /// Ends sixteen results as an [`Ending`] says.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn end_sixteen<const END: u8>(&self, values: [int32x4_t; 4]) -> uint8x16_t {
        let [a, b, c, d] = values;
        let low = vqmovun_s16(self.words::<END>(a, b));
        let bytes = vqmovun_high_s16(low, self.words::<END>(c, d));
        if END == Ending::PLAIN {
            return bytes;
        }
        vminq_u8(vmaxq_u8(bytes, self.min), self.max)
    }
}

impl ClampVectors {
    /// Ends sums of 16 channels of `N` pixels and writes them.
    ///
    /// # Safety
    /// `out` can take 16 bytes in each pixel, `out_stride` apart.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) unsafe fn store_16<const END: u8, const N: usize>(
        sums: &[[int32x4_t; 4]; N],
        multiplier: &[float32x4_t; 4],
        clamp: &ClampVectors,
        out: *mut u8,
        out_stride: usize,
    ) {
        for (r, sums) in sums.iter().enumerate() {
            let scaled = std::array::from_fn(|v| scale(sums[v], multiplier[v]));
            // SAFETY: passed on.
            unsafe { vst1q_u8(out.add(r * out_stride), clamp.end_sixteen::<END>(scaled)) };
        }
    }
}

/// `round_half_even(sum as f32 * multiplier)`.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn scale(sum: int32x4_t, multiplier: float32x4_t) -> int32x4_t {
    vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), multiplier))
}

/// Four consecutive values.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn load_i32(from: &[i32; 4]) -> int32x4_t {
    // SAFETY: four values.
    unsafe { vld1q_s32(from.as_ptr()) }
}

/// Four consecutive values.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn load_f32(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: four values.
    unsafe { vld1q_f32(from.as_ptr()) }
}

/// Eight consecutive values, in one instruction. The compiler cannot see what it loads: it would
/// rather keep accumulators' first values in registers and copy them, which takes two.
///
/// # Safety
/// Eight values are readable.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn load_pair(from: *const i32) -> [int32x4_t; 2] {
    let (low, high): (int32x4_t, int32x4_t);
    // SAFETY: passed on.
    unsafe {
        std::arch::asm!(
            "ldp {low:q}, {high:q}, [{from}]",
            low = lateout(vreg) low,
            high = lateout(vreg) high,
            from = in(reg) from,
            options(readonly, nostack, preserves_flags),
        );
    }
    [low, high]
}

/// 32 consecutive bytes, where the loads shall stay: see [`load_pair`].
///
/// # Safety
/// 32 bytes are readable.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn load_two(from: *const i8) -> [int8x16_t; 2] {
    let (low, high): (int8x16_t, int8x16_t);
    // SAFETY: passed on.
    unsafe {
        std::arch::asm!(
            "ldp {low:q}, {high:q}, [{from}]",
            low = lateout(vreg) low,
            high = lateout(vreg) high,
            from = in(reg) from,
            options(readonly, nostack, preserves_flags),
        );
    }
    [low, high]
}

/// Sixteen consecutive values.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn load_u8(from: &[u8; 16]) -> uint8x16_t {
    // SAFETY: sixteen bytes.
    unsafe { vld1q_u8(from.as_ptr()) }
}

/// Sixteen activations as `f32`, in order.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn to_f32(x: uint8x16_t) -> [float32x4_t; 4] {
    let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
    [
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
        vcvtq_f32_u32(vmovl_high_u16(low)),
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
        vcvtq_f32_u32(vmovl_high_u16(high)),
    ]
}

/// Zero-extends bytes.
///
/// # Panics
/// If the slices differ in length.
#[target_feature(enable = "neon")]
pub(crate) fn widen(from: &[u8], to: &mut [i16]) {
    assert_eq!(from.len(), to.len());
    let (from, from_tail) = from.as_chunks::<16>();
    let (to, to_tail) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        let x = load_u8(from);
        // SAFETY: sixteen values.
        unsafe {
            vst1q_s16(to.as_mut_ptr(), vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x))));
            vst1q_s16(to.as_mut_ptr().add(8), vreinterpretq_s16_u16(vmovl_high_u8(x)));
        }
    }
    for (&from, to) in from_tail.iter().zip(to_tail) {
        *to = i16::from(from);
    }
}

/// `x - offset` as signed bytes.
///
/// # Panics
/// If the slices differ in length.
#[target_feature(enable = "neon")]
pub(crate) fn to_signed(from: &[u8], offset: u8, to: &mut [u8]) {
    assert_eq!(from.len(), to.len());
    let (from, from_tail) = from.as_chunks::<16>();
    let (to, to_tail) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: sixteen bytes.
        unsafe { vst1q_u8(to.as_mut_ptr(), vsubq_u8(load_u8(from), vdupq_n_u8(offset))) };
    }
    for (&from, to) in from_tail.iter().zip(to_tail) {
        *to = from.wrapping_sub(offset);
    }
}

/// Applies `f` to 16 elements of `a` and `b` at a time, the last ones padded with zeros.
///
/// # Panics
/// If the slices differ in length.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn map2(
    a: &[u8],
    b: &[u8],
    out: &mut [u8],
    f: impl Fn(uint8x16_t, uint8x16_t) -> uint8x16_t,
) {
    assert!(a.len() == out.len() && b.len() == out.len());
    let (a, a_tail) = a.as_chunks::<16>();
    let (b, b_tail) = b.as_chunks::<16>();
    let (out, out_tail) = out.as_chunks_mut::<16>();
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        // SAFETY: a store of sixteen bytes.
        unsafe { vst1q_u8(out.as_mut_ptr(), f(load_u8(a), load_u8(b))) };
    }
    if out_tail.is_empty() {
        return;
    }
    let (mut a_last, mut b_last, mut out_last) = ([0; 16], [0; 16], [0; 16]);
    a_last[..a_tail.len()].copy_from_slice(a_tail);
    b_last[..b_tail.len()].copy_from_slice(b_tail);
    // SAFETY: a store of sixteen bytes.
    unsafe { vst1q_u8(out_last.as_mut_ptr(), f(load_u8(&a_last), load_u8(&b_last))) };
    out_tail.copy_from_slice(&out_last[..out_tail.len()]);
}

/// `acc[i] += w[4 * i..4 * i + 4] . x[4 * i..4 * i + 4]`, all signed bytes.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(crate) fn sdot(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers, of the extension this function is compiled for.
    unsafe {
        std::arch::asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// `acc[i] += x[4 * i..4 * i + 4] . w[4 * LANE..4 * LANE + 4]`, all signed bytes.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(crate) fn sdot_lane<const LANE: i32>(
    mut acc: int32x4_t,
    x: int8x16_t,
    w: int8x16_t,
) -> int32x4_t {
    // SAFETY: one instruction on registers, of the extension this function is compiled for.
    unsafe {
        std::arch::asm!(
            "sdot {acc:v}.4s, {x:v}.16b, {w:v}.4b[{lane}]",
            acc = inout(vreg) acc,
            x = in(vreg) x,
            w = in(vreg) w,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// Widens 8 channels of consecutive columns: `to[column][channel]` from `from[column * step..]`.
///
/// # Panics
/// If `to` is not a whole number of columns, or `from` is too short for them.
pub(crate) fn widen_columns(_token: Neon, from: &[u8], step: usize, to: &mut [i16]) {
    let (columns, rest) = to.as_chunks_mut::<8>();
    assert!(rest.is_empty() && !columns.is_empty());
    assert!((columns.len() - 1) * step + 8 <= from.len());
    // SAFETY: the token proves NEON; the last column was just checked.
    unsafe { widen_columns_neon(from.as_ptr(), step, columns) }
}

/// # Safety
/// Eight bytes are readable at `from + i * step` for each column `i`.
#[target_feature(enable = "neon")]
unsafe fn widen_columns_neon(from: *const u8, step: usize, columns: &mut [[i16; 8]]) {
    // SAFETY: eight bytes are readable at `from`; the store fills the eight values of `to`.
    let widen = |from: *const u8, to: &mut [i16; 8]| unsafe {
        let wide = vmovl_u8(vld1_u8(from));
        vst1q_s16(to.as_mut_ptr(), vreinterpretq_s16_u16(wide));
    };
    // One pointer that moves on; the last move may end beyond the row.
    let mut from = from;
    let (fours, rest) = columns.as_chunks_mut::<4>();
    for [a, b, c, d] in fours {
        widen(from, a);
        widen(from.wrapping_add(step), b);
        widen(from.wrapping_add(2 * step), c);
        widen(from.wrapping_add(3 * step), d);
        from = from.wrapping_add(4 * step);
    }
    for to in rest {
        widen(from, to);
        from = from.wrapping_add(step);
    }
}
