//! Fully connected layer for NEON, with and without the dot product: four outputs at a time, 16
//! features a step.

use std::arch::aarch64::*;
use std::ops::Range;

use super::LinearOutput;
use super::packed::{Packed, ROWS, STEP};
use crate::Scratch;
use crate::arm::{sdot, to_signed, widen};
use crate::isa::{Neon, NeonDot};
use crate::scratch::as_bytes_mut;

/// How activations and weights are multiplied; see the dense convolution for the reasons.
#[derive(Clone, Copy)]
enum Form {
    /// Signed bytes, weights in -127..=127.
    Narrow,
    /// Signed bytes.
    Dot(NeonDot),
    /// 16-bit values.
    Wide,
}

pub(super) struct Kernel {
    /// Proves that the functions below may be called.
    _token: Neon,
    form: Form,
    weights: Packed,
}

impl Kernel {
    pub(super) fn new(
        token: Neon,
        dot: Option<NeonDot>,
        in_features: usize,
        weights: &[i16],
        input_zero_point: u8,
        output: &LinearOutput,
        wide: bool,
    ) -> Kernel {
        let form = match dot {
            _ if wide => Form::Wide,
            Some(token) => Form::Dot(token),
            None if weights.contains(&-128) => Form::Wide,
            None => Form::Narrow,
        };
        let wide = matches!(form, Form::Wide);
        let zero_point = i32::from(input_zero_point) - if wide { 0 } else { 128 };
        let weights = Packed::new(in_features, weights, zero_point, output, wide);
        Kernel { _token: token, form, weights }
    }

    pub(super) fn name(&self) -> &'static str {
        match self.form {
            Form::Narrow => "linear_u8s8_neon_4x16",
            Form::Dot(_) => "linear_u8s8_neondot_4x16",
            Form::Wide => "linear_u8s16_neon_4x16",
        }
    }

    /// Accumulators of outputs `range` with the bias added.
    pub(super) fn run<'s>(
        &self,
        input: &[u8],
        range: Range<usize>,
        scratch: &'s mut Scratch,
    ) -> &'s [i32] {
        let form = self.form;
        let prepare = |values: &mut [i16]| {
            // SAFETY: `_token` proves NEON.
            unsafe {
                match form {
                    Form::Wide => widen(input, &mut values[..input.len()]),
                    _ => to_signed(input, 128, &mut as_bytes_mut(values)[..input.len()]),
                }
            }
        };
        // SAFETY: the tokens prove NEON and the dot product; the sizes are those that
        // `Packed::run` promises.
        let dot = |values: *const i16, weights: *const i16, steps: usize| unsafe {
            match form {
                Form::Narrow => dot_narrow(values.cast(), weights.cast(), steps),
                Form::Dot(_) => dot_neondot(values.cast(), weights.cast(), steps),
                Form::Wide => dot_wide(values, weights, steps),
            }
        };
        let value_bytes = if matches!(form, Form::Wide) { 2 } else { 1 };
        // SAFETY: the functions read no more than they ask for.
        unsafe { self.weights.run(range, value_bytes, scratch, prepare, dot) }
    }
}

/// The sums of four registers, one after the other.
#[target_feature(enable = "neon")]
#[inline]
fn reduce(acc: [int32x4_t; ROWS]) -> [i32; ROWS] {
    acc.map(|acc| vaddvq_s32(acc))
}

/// # Safety
/// `values` holds `steps * STEP` values and `weights` `steps * ROWS * STEP` weights, none -128.
#[target_feature(enable = "neon")]
unsafe fn dot_narrow(values: *const i8, weights: *const i8, steps: usize) -> [i32; ROWS] {
    let mut acc = [vdupq_n_s32(0); ROWS];
    for step in 0..steps {
        // SAFETY: passed on.
        let x = unsafe { vld1q_s8(values.add(step * STEP)) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: passed on.
            let w = unsafe { vld1q_s8(weights.add((step * ROWS + r) * STEP)) };
            // At most 2 * 128 * 127 = 32512: no overflow.
            let two = vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), x, w);
            *acc = vpadalq_s16(*acc, two);
        }
    }
    reduce(acc)
}

/// # Safety
/// `values` holds `steps * STEP` values and `weights` `steps * ROWS * STEP` weights.
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot_neondot(values: *const i8, weights: *const i8, steps: usize) -> [i32; ROWS] {
    let mut acc = [vdupq_n_s32(0); ROWS];
    for step in 0..steps {
        // SAFETY: passed on.
        let x = unsafe { vld1q_s8(values.add(step * STEP)) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: passed on.
            let w = unsafe { vld1q_s8(weights.add((step * ROWS + r) * STEP)) };
            *acc = sdot(*acc, w, x);
        }
    }
    reduce(acc)
}

/// # Safety
/// `values` holds `steps * STEP` values and `weights` `steps * ROWS * STEP` weights.
#[target_feature(enable = "neon")]
unsafe fn dot_wide(values: *const i16, weights: *const i16, steps: usize) -> [i32; ROWS] {
    let mut acc = [vdupq_n_s32(0); ROWS];
    for half in 0..steps * 2 {
        // SAFETY: passed on.
        let x = unsafe { vld1q_s16(values.add(half * 8)) };
        for (r, acc) in acc.iter_mut().enumerate() {
            let slot = (half / 2 * ROWS + r) * STEP + half % 2 * 8;
            // SAFETY: passed on.
            let w = unsafe { vld1q_s16(weights.add(slot)) };
            *acc = vmlal_s16(*acc, vget_low_s16(x), vget_low_s16(w));
            *acc = vmlal_high_s16(*acc, x, w);
        }
    }
    reduce(acc)
}
