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
fn turned_neon(c: &Coefficients, [y, u, v]: [&[Turned]; 3], rgb: &mut [Turned]) {
    // What black and the middle of chroma take away, and a half.
    let luma = (1 << 15) - c.luma * c.black;
    let base = [c.red, c.green_u + c.green_v, c.blue].map(|of| vdupq_n_s32(luma - 128 * of));
    let pixels = y.iter().zip(u).zip(v).zip(rgb.as_chunks_mut::<3>().0);
    for (((y, u), v), to) in pixels {
        let ([y, u, v], mut rgb) = ([wide(y), wide(u), wide(v)], [[vdupq_n_s32(0); 2]; 3]);
        for half in 0..2 {
            let luma = vmulq_n_s32(y[half], c.luma);
            let [red, green, blue] = base.map(|base| vaddq_s32(luma, base));
            let green = vmlaq_n_s32(green, u[half], c.green_u);
            rgb[0][half] = vmlaq_n_s32(red, v[half], c.red);
            rgb[1][half] = vmlaq_n_s32(green, v[half], c.green_v);
            rgb[2][half] = vmlaq_n_s32(blue, u[half], c.blue);
        }
        for ([low, high], to) in rgb.into_iter().zip(to) {
            let words = vcombine_u16(vqshrun_n_s32::<16>(low), vqshrun_n_s32::<16>(high));
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to.as_mut_ptr(), vqmovn_u16(words)) };
        }
    }
}

/// Eight samples in 32 bits.
#[target_feature(enable = "neon")]
#[inline]
fn wide(samples: &Turned) -> [int32x4_t; 2] {
    // SAFETY: a load of eight bytes.
    let words = vmovl_u8(unsafe { vld1_u8(samples.as_ptr()) });
    [vmovl_u16(vget_low_u16(words)), vmovl_high_u16(words)].map(|x| vreinterpretq_s32_u32(x))
}
