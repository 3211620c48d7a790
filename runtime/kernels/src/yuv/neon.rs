//! The conversion for NEON, 16 pixels a step.

use std::arch::aarch64::*;

use super::{Coefficients, scalar};
use crate::arm::load_u8;
use crate::isa::Neon;
use crate::resample::Turned;

pub(super) fn row(_: Neon, c: &Coefficients, samples: [&[u8]; 3], rgb: &mut [u8]) {
    // SAFETY: the token proves NEON.
    unsafe { row_neon(c, samples, rgb) }
}

#[target_feature(enable = "neon")]
fn row_neon(c: &Coefficients, samples: [&[u8]; 3], rgb: &mut [u8]) {
    let [y, u, v] = samples.map(|plane| plane.as_chunks::<16>().0);
    for (((y, u), v), to) in y.iter().zip(u).zip(v).zip(rgb.as_chunks_mut::<48>().0) {
        let [red, green, blue] = scalar::convert(c, y, u, v);
        let planes = uint8x16x3_t(load_u8(&red), load_u8(&green), load_u8(&blue));
        // SAFETY: a store of 48 bytes.
        unsafe { vst3q_u8(to.as_mut_ptr(), planes) };
    }
    scalar::row(c, samples, rgb, y.len() * 16);
}

pub(super) fn turned(_: Neon, c: &Coefficients, samples: [&[Turned]; 3], rgb: &mut [Turned]) {
    // SAFETY: the token proves NEON.
    unsafe { turned_neon(c, samples, rgb) }
}

#[target_feature(enable = "neon")]
fn turned_neon(c: &Coefficients, samples: [&[Turned]; 3], rgb: &mut [Turned]) {
    scalar::turned(c, samples, rgb);
}
