//! Addition: the specification. Clear, never tuned.

use super::AddParams;
use crate::requantize::finish;

pub(super) fn run(p: &AddParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let a = (i32::from(a) - i32::from(p.a_zero_point)) as f32 * p.a_multiplier;
        let b = (i32::from(b) - i32::from(p.b_zero_point)) as f32 * p.b_multiplier;
        *out = finish(a + b, p.zero_point, p.min, p.max);
    }
}
