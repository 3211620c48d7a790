//! Loops of operations that treat every value alike.

use super::Element;
use super::simd::{Io, Simd};

/// A function of one value.
pub(super) trait Unary<S: Simd> {
    /// The function; must be `#[inline(always)]`.
    fn apply(&self, s: S, x: S::V) -> S::V;
}

/// A function of two values.
pub(super) trait Binary<S: Simd> {
    /// The function; must be `#[inline(always)]`.
    fn apply(&self, s: S, a: S::V, b: S::V) -> S::V;
}

/// `output[i] = f(input[i])`; the slices have the same length.
#[inline(always)]
pub(super) fn unary<S: Io<T>, T: Element>(s: S, input: &[T], output: &mut [T], f: &impl Unary<S>) {
    assert_eq!(input.len(), output.len());
    let whole = output.len() / S::LANES * S::LANES;
    let part = output.len() - whole;
    // SAFETY: whole registers, then the rest, within both slices.
    unsafe {
        let (input, output) = (input.as_ptr(), output.as_mut_ptr());
        for at in (0..whole).step_by(S::LANES) {
            s.write(output.add(at), f.apply(s, s.read(input.add(at))));
        }
        if part > 0 {
            s.write_part(output.add(whole), part, f.apply(s, s.read_part(input.add(whole), part)));
        }
    }
}

/// `output[i] = f(a[i], b[i])`; the slices have the same length.
#[inline(always)]
pub(super) fn binary<S: Io<T>, T: Element>(
    s: S,
    a: &[T],
    b: &[T],
    output: &mut [T],
    f: &impl Binary<S>,
) {
    assert!(a.len() == output.len() && b.len() == output.len());
    let whole = output.len() / S::LANES * S::LANES;
    let part = output.len() - whole;
    // SAFETY: whole registers, then the rest, within all three slices.
    unsafe {
        let (a, b, output) = (a.as_ptr(), b.as_ptr(), output.as_mut_ptr());
        let mut at = 0;
        while at + 4 * S::LANES <= whole {
            let mut values = [s.splat(S::C::default()); 4];
            for (i, value) in values.iter_mut().enumerate() {
                let at = at + i * S::LANES;
                *value = f.apply(s, s.read(a.add(at)), s.read(b.add(at)));
            }
            for (i, &value) in values.iter().enumerate() {
                s.write(output.add(at + i * S::LANES), value);
            }
            at += 4 * S::LANES;
        }
        while at < whole {
            s.write(output.add(at), f.apply(s, s.read(a.add(at)), s.read(b.add(at))));
            at += S::LANES;
        }
        if part > 0 {
            let value =
                f.apply(s, s.read_part(a.add(whole), part), s.read_part(b.add(whole), part));
            s.write_part(output.add(whole), part, value);
        }
    }
}
