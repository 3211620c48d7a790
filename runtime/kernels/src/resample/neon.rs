//! The passes for NEON: four 32-bit sums a register.

use std::arch::aarch64::*;

use super::{HALF, Layout, PRECISION_BITS, ROWS, Taps, Turned, scalar};
use crate::isa::Neon;

/// Sums that a step of the vertical pass keeps in registers: this many times eight.
const TILE: usize = 6;

pub(super) fn vertical(_: Neon, rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    // SAFETY: the token proves NEON; the caller has checked that all rows have `to`'s length.
    unsafe { vertical_neon(rows, stride, weights, to) }
}

/// # Safety
/// For each weight a row of `to.len()` bytes lies in `rows`, one every `stride`.
#[target_feature(enable = "neon")]
unsafe fn vertical_neon(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    let mut at = 0;
    while at + 8 * TILE <= to.len() {
        // SAFETY: passed on; the step ends within the row.
        unsafe { vertical_step::<TILE>(rows.as_ptr().add(at), stride, weights, &mut to[at..]) };
        at += 8 * TILE;
    }
    while at + 8 <= to.len() {
        // SAFETY: as above.
        unsafe { vertical_step::<1>(rows.as_ptr().add(at), stride, weights, &mut to[at..]) };
        at += 8;
    }
    scalar::vertical_from(rows, stride, weights, to, at);
}

/// # Safety
/// For each weight `8 * N` bytes are readable, one run of them every `stride` bytes.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn vertical_step<const N: usize>(
    rows: *const u8,
    stride: usize,
    weights: &[i32],
    to: &mut [u8],
) {
    let mut sums = [[vdupq_n_s32(HALF); 2]; N];
    for (tap, &weight) in weights.iter().enumerate() {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let samples = unsafe { vld1_u8(rows.add(tap * stride + 8 * i)) };
            *sum = accumulate(*sum, samples, weight);
        }
    }
    for (sum, to) in sums.into_iter().zip(to.as_chunks_mut::<8>().0) {
        // SAFETY: a store of eight bytes.
        unsafe { vst1_u8(to.as_mut_ptr(), finish(sum)) };
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn accumulate(sum: [int32x4_t; 2], samples: uint8x8_t, weight: i32) -> [int32x4_t; 2] {
    let words = vmovl_u8(samples);
    let low = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
    let high = vreinterpretq_s32_u32(vmovl_high_u16(words));
    [vmlaq_n_s32(sum[0], low, weight), vmlaq_n_s32(sum[1], high, weight)]
}

/// Eight sums as samples.
#[target_feature(enable = "neon")]
#[inline]
fn finish(sums: [int32x4_t; 2]) -> uint8x8_t {
    let [low, high] = sums.map(|sum| vqmovn_s32(vshrq_n_s32::<{ PRECISION_BITS as i32 }>(sum)));
    vqmovun_s16(vcombine_s16(low, high))
}

pub(super) fn horizontal(_: Neon, from: &[Turned], layout: Layout, taps: &Taps, to: &mut [Turned]) {
    // SAFETY: the token proves NEON; the caller has checked that no output reads beyond the block.
    unsafe {
        if layout.channels == 3 {
            horizontal_neon::<3>(from, layout, taps, to);
        } else {
            horizontal_neon::<1>(from, layout, taps, to);
        }
    }
}

/// # Safety
/// No output reads beyond the block.
#[target_feature(enable = "neon")]
unsafe fn horizontal_neon<const C: usize>(
    from: &[Turned],
    layout: Layout,
    taps: &Taps,
    to: &mut [Turned],
) {
    let step = layout.step * ROWS;
    for (output, to) in to.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        let (start, weights) = taps.of(output);
        let mut sums = [[vdupq_n_s32(HALF); 2]; C];
        let first = (layout.first + start * layout.step) * ROWS;
        for (tap, &weight) in weights.iter().enumerate() {
            for (channel, sum) in sums.iter_mut().enumerate() {
                let at = first + tap * step + channel * ROWS;
                // SAFETY: the caller's promise.
                let samples = unsafe { vld1_u8(from.as_ptr().cast::<u8>().add(at)) };
                *sum = accumulate(*sum, samples, weight);
            }
        }
        for (sum, to) in sums.into_iter().zip(to) {
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to.as_mut_ptr(), finish(sum)) };
        }
    }
}

/// Transposes eight rows of eight bytes.
#[target_feature(enable = "neon")]
#[inline]
fn transpose(rows: [uint8x8_t; 8]) -> [uint8x8_t; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let bytes = |x, y| {
        let pair = vtrn_u8(x, y);
        (vreinterpret_u16_u8(pair.0), vreinterpret_u16_u8(pair.1))
    };
    let words = |x, y| {
        let pair = vtrn_u16(x, y);
        (vreinterpret_u32_u16(pair.0), vreinterpret_u32_u16(pair.1))
    };
    let ((ab0, ab1), (cd0, cd1)) = (bytes(a, b), bytes(c, d));
    let ((ef0, ef1), (gh0, gh1)) = (bytes(e, f), bytes(g, h));
    // Columns 0 and 4, 2 and 6; 1 and 5, 3 and 7; of four rows each.
    let ((l0, l2), (l1, l3)) = (words(ab0, cd0), words(ab1, cd1));
    let ((r0, r2), (r1, r3)) = (words(ef0, gh0), words(ef1, gh1));
    let pairs = [vtrn_u32(l0, r0), vtrn_u32(l1, r1), vtrn_u32(l2, r2), vtrn_u32(l3, r3)];
    let column = |i: usize| {
        let pair = pairs[i % 4];
        vreinterpret_u8_u32(if i < 4 { pair.0 } else { pair.1 })
    };
    [column(0), column(1), column(2), column(3), column(4), column(5), column(6), column(7)]
}

pub(super) fn turn(_: Neon, from: &[u8], starts: [usize; ROWS], to: &mut [Turned]) {
    // SAFETY: the token proves NEON; the caller has checked the rows.
    unsafe { turn_neon(from, starts, to) }
}

/// # Safety
/// `to.len()` bytes lie in `from` from each start on.
#[target_feature(enable = "neon")]
unsafe fn turn_neon(from: &[u8], starts: [usize; ROWS], to: &mut [Turned]) {
    let (blocks, _) = to.as_chunks_mut::<8>();
    let whole = blocks.len() * 8;
    for (i, to) in blocks.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let rows = starts.map(|start| unsafe { vld1_u8(from.as_ptr().add(start + i * 8)) });
        for (column, to) in transpose(rows).into_iter().zip(to) {
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to.as_mut_ptr(), column) };
        }
    }
    scalar::turn(from, starts, whole, to);
}

pub(super) fn turn_back(_: Neon, from: &[Turned], to: &mut [u8], rows: usize) {
    // SAFETY: the token proves NEON.
    unsafe { turn_back_neon(from, to, rows) }
}

#[target_feature(enable = "neon")]
fn turn_back_neon(from: &[Turned], to: &mut [u8], rows: usize) {
    let (width, (blocks, _)) = (from.len(), from.as_chunks::<8>());
    for (i, block) in blocks.iter().enumerate() {
        // SAFETY: loads of eight bytes.
        let turned = transpose(block.map(|column| unsafe { vld1_u8(column.as_ptr()) }));
        for (row, to) in turned.into_iter().zip(to.chunks_exact_mut(width)) {
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to.as_chunks_mut::<8>().0[i].as_mut_ptr(), row) };
        }
    }
    scalar::turn_back(from, to, rows, blocks.len() * 8);
}
