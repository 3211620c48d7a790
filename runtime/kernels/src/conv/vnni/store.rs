//! The end of a tile for AVX-512: from accumulators to activations.

use std::arch::x86_64::*;

use crate::{Requantize, Residual};

/// Multiplier, residual, zero point and range of a layer's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish {
    zero_point: i16,
    min: u8,
    max: u8,
    residual: Residual,
}

impl Finish {
    pub(crate) fn new(output: &Requantize, residual: Option<Residual>) -> Finish {
        Finish {
            zero_point: i16::from(output.zero_point),
            min: output.min,
            max: output.max,
            residual: residual.unwrap_or(Residual { zero_point: 0, multiplier: 0.0 }),
        }
    }

    /// `acc` in units of the output.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(crate) fn scaled(&self, acc: __m512i, multiplier: __m512) -> __m512i {
        _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier))
    }

    /// `acc` in units of the output, plus vector `v` of the residual's codes (as
    /// [`spread`] arranged them).
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(crate) fn scaled_plus(
        &self,
        acc: __m512i,
        multiplier: __m512,
        codes: __m512i,
        v: usize,
    ) -> __m512i {
        let quarter = |v: i32| -> __m512i {
            let (a, b, c, d) = (4 * v, 4 * v + 1, 4 * v + 2, 4 * v + 3);
            _mm512_broadcast_i32x4(_mm_setr_epi8(
                a as i8, -1, -1, -1, b as i8, -1, -1, -1, c as i8, -1, -1, -1, d as i8, -1, -1, -1,
            ))
        };
        let code = _mm512_shuffle_epi8(codes, quarter(v as i32));
        let zero_point = _mm512_set1_epi32(i32::from(self.residual.zero_point));
        let code = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero_point));
        let residual = _mm512_mul_ps(code, _mm512_set1_ps(self.residual.multiplier));
        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
        _mm512_cvtps_epi32(_mm512_add_ps(value, residual))
    }

    /// Two vectors of rounded values to 16 bits within 128-bit quarters, zero point added.
    ///
    /// Each step from here on saturates towards a bound that clamping to `min..=max` reaches
    /// anyway, so the result equals `clamp(value + zero_point, min, max)` for every `i32`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(crate) fn narrow(&self, low: __m512i, high: __m512i) -> __m512i {
        _mm512_adds_epi16(_mm512_packs_epi32(low, high), _mm512_set1_epi16(self.zero_point))
    }

    /// Two vectors of 16 bits to activations within 128-bit quarters: `low` and `high` alternate
    /// by eights.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(crate) fn pack(&self, low: __m512i, high: __m512i) -> __m512i {
        let bytes = _mm512_packus_epi16(low, high);
        let bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8(self.min as i8));
        _mm512_min_epu8(bytes, _mm512_set1_epi8(self.max as i8))
    }
}

/// Which 32-bit element goes where when `rows` rows of `vectors` vectors, packed within quarters,
/// are put in order; the inverse if `spread`.
const fn order(vectors: usize, rows: usize, spread: bool) -> [i32; 16] {
    let mut order = [0; 16];
    let (mut row, mut next) = (0, 0);
    while row < rows {
        let mut quarter = 0;
        while quarter < 4 {
            let mut v = 0;
            while v < vectors {
                let packed = quarter * 4 + row * vectors + v;
                if spread {
                    order[packed] = next;
                } else {
                    order[next as usize] = packed as i32;
                }
                next += 1;
                v += 1;
            }
            quarter += 1;
        }
        row += 1;
    }
    order
}

/// Rows that share one vector of bytes.
pub(crate) const fn rows_per_pack(vectors: usize) -> usize {
    if vectors == 3 { 1 } else { 4 / vectors }
}

/// Puts packed bytes in the order of the output: rows of `NV * 16` bytes, one after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(crate) fn in_order<const NV: usize>(bytes: __m512i) -> __m512i {
    if NV == 4 {
        return bytes;
    }
    let order = const { order(NV, rows_per_pack(NV), false) };
    // SAFETY: a load of the 64 bytes of `order`.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    _mm512_permutexvar_epi32(order, bytes)
}

/// The inverse for one row: its bytes to where [`Finish::scaled_plus`] looks for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(crate) fn spread<const NV: usize>(row: __m512i) -> __m512i {
    if NV == 4 {
        return row;
    }
    let order = const { order(NV, 1, true) };
    // SAFETY: a load of the 64 bytes of `order`.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    _mm512_permutexvar_epi32(order, row)
}

/// The lowest `cols` bits.
pub(crate) fn mask(cols: usize) -> u64 {
    if cols >= 64 { u64::MAX } else { (1 << cols) - 1 }
}

/// Stores the first `cols` of `NV * 16` bytes.
///
/// # Safety
/// `cols` bytes at `to` can be written.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(crate) unsafe fn put<const NV: usize>(to: *mut u8, bytes: __m512i, cols: usize) {
    // SAFETY: passed on; whole stores are taken only if all `NV * 16` bytes may be written.
    unsafe {
        if cols < NV * 16 {
            _mm512_mask_storeu_epi8(to.cast(), mask(cols), bytes);
            return;
        }
        match NV {
            1 => _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(bytes)),
            2 => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(bytes)),
            3 => {
                _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(bytes));
                _mm_storeu_si128(to.add(32).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
            }
            _ => _mm512_storeu_si512(to.cast(), bytes),
        }
    }
}
