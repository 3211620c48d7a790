//! Product: the specification. Clear, never tuned.

use super::MulParams;
use crate::requantize::finish;

pub(super) fn run(p: &MulParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let a = i32::from(a) - i32::from(p.a_zero_point);
        let b = i32::from(b) - i32::from(p.b_zero_point);
        *out = finish((a * b) as f32 * p.multiplier, p.zero_point, p.min, p.max);
    }
}
