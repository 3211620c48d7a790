//! The specification, in runs that the other files compile for their instruction sets.

use super::Coefficients;
use crate::resample::Turned;

/// `N` pixels: red, green and blue.
#[inline(always)]
pub(super) fn convert<const N: usize>(
    c: &Coefficients,
    y: &[u8; N],
    u: &[u8; N],
    v: &[u8; N],
) -> [[u8; N]; 3] {
    let mut rgb = [[0; N]; 3];
    for i in 0..N {
        let luma = c.luma * (i32::from(y[i]) - c.black) + (1 << 15);
        let (u, v) = (i32::from(u[i]) - 128, i32::from(v[i]) - 128);
        rgb[0][i] = ((luma + c.red * v) >> 16).clamp(0, 255) as u8;
        rgb[1][i] = ((luma + c.green_u * u + c.green_v * v) >> 16).clamp(0, 255) as u8;
        rgb[2][i] = ((luma + c.blue * u) >> 16).clamp(0, 255) as u8;
    }
    rgb
}

/// The pixels from `at` on.
pub(super) fn row(c: &Coefficients, [y, u, v]: [&[u8]; 3], rgb: &mut [u8], at: usize) {
    for (x, rgb) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate().skip(at) {
        *rgb = convert(c, &[y[x]], &[u[x]], &[v[x]]).map(|[sample]| sample);
    }
}

#[inline(always)]
pub(super) fn turned(c: &Coefficients, [y, u, v]: [&[Turned]; 3], rgb: &mut [Turned]) {
    for (((y, u), v), rgb) in y.iter().zip(u).zip(v).zip(rgb.as_chunks_mut::<3>().0) {
        *rgb = convert(c, y, u, v);
    }
}
