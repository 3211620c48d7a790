//! Two rows of an image into one row of the ring.

use std::arch::x86_64::*;

use super::{CHANNELS, COLUMN};
use crate::conv::vnni::store::mask;
use crate::isa::Avx512Vnni;

/// Writes `to[column][channel] = (a, b)` from two rows whose columns are `step` bytes apart; a
/// missing row is `outside`. Channels from `channels` on are unspecified.
///
/// # Panics
/// If `to` is not a whole number of columns, or a row is too short for them.
pub(super) fn run(
    _token: Avx512Vnni,
    lines: [Option<&[u8]>; 2],
    step: usize,
    channels: usize,
    outside: u8,
    to: &mut [u8],
) {
    let (columns, rest) = to.as_chunks_mut::<COLUMN>();
    assert!(rest.is_empty() && !columns.is_empty() && (1..=CHANNELS).contains(&channels));
    for line in lines.into_iter().flatten() {
        assert!((columns.len() - 1) * step + channels <= line.len());
    }
    let outside = [outside; CHANNELS];
    let lines = lines.map(|line| line.map_or((outside.as_ptr(), 0), |line| (line.as_ptr(), step)));
    // SAFETY: the token proves the instruction set; the last column of both rows was just checked.
    unsafe { run_avx512(lines, channels, columns) }
}

/// # Safety
/// `channels` bytes can be read at each column of both lines (pointer and step).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn run_avx512(
    lines: [(*const u8, usize); 2],
    channels: usize,
    columns: &mut [[u8; COLUMN]],
) {
    let mask = mask(channels) as u32;
    for (i, to) in columns.iter_mut().enumerate() {
        // SAFETY: passed on; no bytes beyond `channels` are read.
        let [a, b] = lines.map(|(line, step)| unsafe {
            _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, line.add(i * step).cast()))
        });
        let both = _mm512_or_si512(a, _mm512_slli_epi16::<8>(b));
        // SAFETY: a store of the 64 bytes of `to`.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), both) };
    }
}
