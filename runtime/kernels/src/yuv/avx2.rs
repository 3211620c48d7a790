//! The conversion for AVX2, 16 pixels a step.

use std::arch::x86_64::*;

use super::{Coefficients, scalar};
use crate::isa::Avx2;
use crate::resample::Turned;
use crate::x86::interleave_three;

pub(super) fn row(_: Avx2, c: &Coefficients, samples: [&[u8]; 3], rgb: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe { row_avx2(c, samples, rgb) }
}

#[target_feature(enable = "avx2")]
fn row_avx2(c: &Coefficients, samples: [&[u8]; 3], rgb: &mut [u8]) {
    let [y, u, v] = samples.map(|plane| plane.as_chunks::<16>().0);
    for (((y, u), v), to) in y.iter().zip(u).zip(v).zip(rgb.as_chunks_mut::<48>().0) {
        // SAFETY: loads of 16 bytes.
        let planes = scalar::convert(c, y, u, v)
            .map(|plane| unsafe { _mm_loadu_si128(plane.as_ptr().cast()) });
        interleave_three(planes, to);
    }
    scalar::row(c, samples, rgb, y.len() * 16);
}

pub(super) fn turned(_: Avx2, c: &Coefficients, samples: [&[Turned]; 3], rgb: &mut [Turned]) {
    // SAFETY: the token proves AVX2.
    unsafe { turned_avx2(c, samples, rgb) }
}

#[target_feature(enable = "avx2")]
fn turned_avx2(c: &Coefficients, samples: [&[Turned]; 3], rgb: &mut [Turned]) {
    scalar::turned(c, samples, rgb);
}
