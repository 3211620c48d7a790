//! What the float kernels need of an instruction set: they are written once, over [`Simd`].
//!
//! A value of a type that implements [`Simd`] is a token: only detection makes it, so it proves
//! that this CPU has the instructions, and all operations on registers are safe. They are
//! compiled to those instructions only inside [`Simd::vectorize`], the one function of each
//! instruction set with a `#[target_feature]`; everything called from there is inlined into it.

mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_depthwise;
#[cfg(target_arch = "aarch64")]
mod neon_fp16;
#[cfg(target_arch = "aarch64")]
mod neon_loop;
#[cfg(target_arch = "aarch64")]
mod neon_tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

pub(super) use math::Epilogue;

use half::f16;

use super::Element;
use super::tile::{Rows, Target};
use crate::Isa;
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonFp16};

/// Vectors that no kernel's panel of weights exceeds.
pub(super) const MAX_PANEL: usize = 3;
/// Rows that no tile exceeds.
pub(super) const MAX_ROWS: usize = 8;
/// Values that no vector exceeds.
pub(super) const MAX_LANES: usize = 16;

/// An instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The type in which is computed, and of packed weights.
    type C: Element;
    /// A register of [`Simd::LANES`] values.
    type V: Copy;
    /// The next [`Simd::DEPTH`] values of one row of activations, ready to be multiplied.
    type A: Copy;

    /// The name in kernels' names.
    const NAME: &'static str;
    /// Values in a register.
    const LANES: usize;
    /// Values of a row of activations that one load brings.
    const DEPTH: usize;
    /// Vectors of a panel of weights, at most [`MAX_PANEL`].
    const PANEL: usize;
    /// Rows of a tile whose panel has 1, 2 or 3 vectors: what fits into the registers.
    const ROWS: [usize; MAX_PANEL];
    /// Products that are summed before their sum is added to the total.
    const BLOCK: usize;
    /// Channel vectors that a depthwise tile has.
    const DEPTHWISE_VECTORS: usize;

    /// Runs `f` compiled for this instruction set.
    fn vectorize<F: Vectorized>(self, f: F) -> F::Output;

    /// Reads a register.
    ///
    /// # Safety
    /// `from` must be valid for reads of `LANES` values.
    unsafe fn load(self, from: *const Self::C) -> Self::V;

    /// Writes a register.
    ///
    /// # Safety
    /// `to` must be valid for writes of `LANES` values.
    unsafe fn store(self, to: *mut Self::C, value: Self::V);

    /// Reads `DEPTH` values of a row.
    ///
    /// # Safety
    /// `from` must be valid for reads of `DEPTH` values.
    unsafe fn load_row(self, from: *const Self::C) -> Self::A;

    /// Adds to `acc[m][n]` the products of `rows[m]`'s value `k` and the vector `n` of row `k` of
    /// `panel`, for every `k` below `DEPTH` in turn.
    ///
    /// # Safety
    /// `panel` must be valid for reads of `DEPTH * N * LANES` values.
    unsafe fn multiply<const M: usize, const N: usize>(
        self,
        acc: &mut [[Self::V; N]; M],
        rows: &[Self::A; M],
        panel: *const Self::C,
    );

    /// [`Simd::multiply`] for `groups` groups of `DEPTH` values, advancing the rows' pointers
    /// `next`.
    ///
    /// # Safety
    /// The rows must be valid for reads of `groups * DEPTH` values each, `panel` of as many rows
    /// of `N` vectors.
    #[inline(always)]
    unsafe fn multiply_all<const M: usize, const N: usize>(
        self,
        acc: &mut [[Self::V; N]; M],
        next: &mut [*const Self::C; M],
        mut panel: *const Self::C,
        groups: usize,
    ) {
        for _ in 0..groups {
            // SAFETY: the caller vouches for rows and panel.
            unsafe {
                let mut rows = [self.load_row(next[0]); M];
                for m in 1..M {
                    rows[m] = self.load_row(next[m]);
                }
                self.multiply(acc, &rows, panel);
            }
            for next in next.iter_mut() {
                *next = next.wrapping_add(Self::DEPTH);
            }
            panel = panel.wrapping_add(Self::DEPTH * N * Self::LANES);
        }
    }

    /// Computes the tiles of `M` rows and `N` vectors that `whole` describes, if there is a routine
    /// for that; `false` if there is none and nothing was done.
    ///
    /// # Safety
    /// `whole` must be valid for the tiles' reads and writes.
    #[inline(always)]
    unsafe fn whole_tiles<const M: usize, const N: usize>(
        self,
        _whole: &Whole<'_, Self::C>,
    ) -> bool {
        false
    }

    /// Computes the tiles of a depthwise convolution's row, if there is a routine for that; `false`
    /// if there is none and nothing was done.
    ///
    /// # Safety
    /// `row` must be what its description says.
    #[inline(always)]
    unsafe fn depthwise_row<const VECTORS: usize, const KERNEL: usize, const STRIDE: usize>(
        self,
        _row: &DepthwiseRow<'_, Self::C>,
    ) -> bool {
        false
    }

    /// `from`, as if from elsewhere, so that rows get pointers of their own that loads advance.
    /// No instruction.
    #[inline(always)]
    fn apart<P>(self, from: *const P) -> *const P {
        from
    }

    /// All values equal.
    fn splat(self, value: Self::C) -> Self::V;
    /// `acc + a * b`, rounded once.
    fn fma(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger of both; not a number where `x` is none.
    fn max(self, x: Self::V, bound: Self::V) -> Self::V;
    /// The smaller of both; not a number where `x` is none.
    fn min(self, x: Self::V, bound: Self::V) -> Self::V;
    /// [`super::Activation::Sigmoid`]
    fn sigmoid(self, x: Self::V) -> Self::V;
    /// [`super::Activation::Silu`]
    fn silu(self, x: Self::V) -> Self::V;
}

/// Tiles of one panel, of which each column is written, in the type of arithmetic.
#[cfg_attr(not(target_arch = "aarch64"), expect(dead_code, reason = "only NEON has routines"))]
pub struct Whole<'a, C> {
    pub(super) rows: Rows<C>,
    pub(super) tiles: usize,
    pub(super) weights: *const C,
    pub(super) bias: *const C,
    /// The least and the largest result, if results are bounded.
    pub(super) bounds: Option<&'a [C; 2]>,
    pub(super) target: Target<C>,
}

/// Tiles of 7 columns of one output row of a depthwise convolution, from the first column on, in
/// the type of arithmetic.
#[cfg_attr(not(target_arch = "aarch64"), expect(dead_code, reason = "only NEON has routines"))]
pub struct DepthwiseRow<'a, C> {
    /// The first pixel of the first input row.
    pub(super) input: *const C,
    /// Pixels of an input row, and how many columns of padding come before.
    pub(super) in_w: usize,
    pub(super) pad_left: usize,
    /// Values of a pixel, in the input and in the output.
    pub(super) channels: usize,
    /// Values from one input row to that of the next filter row.
    pub(super) line: usize,
    /// Filter rows.
    pub(super) taps: usize,
    pub(super) weights: *const C,
    pub(super) bias: *const C,
    /// The least and the largest result.
    pub(super) bounds: &'a [C; 2],
    pub(super) output: *mut C,
    /// At least 1.
    pub(super) tiles: usize,
}

/// Loads and stores activations of type `T`, converting them to the type of arithmetic and back.
pub trait Io<T: Element>: Simd {
    /// Whether `T` is the type of arithmetic, so that nothing need be converted.
    const SAME: bool;

    /// Reads `LANES` values.
    ///
    /// # Safety
    /// `from` must be valid for reads of `LANES` values.
    unsafe fn read(self, from: *const T) -> Self::V;

    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `to` must be valid for writes of `LANES` values.
    unsafe fn write(self, to: *mut T, value: Self::V);

    /// Reads `count` values, fewer than `LANES`; the others are 0.
    ///
    /// # Safety
    /// `from` must be valid for reads of `count` values.
    #[inline(always)]
    unsafe fn read_part(self, from: *const T, count: usize) -> Self::V {
        let mut all = [T::default(); MAX_LANES];
        // SAFETY: the caller vouches for `from`; a whole register fits `all`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), count);
            self.read(all.as_ptr())
        }
    }

    /// Writes the first `count` values, fewer than `LANES`.
    ///
    /// # Safety
    /// `to` must be valid for writes of `count` values.
    #[inline(always)]
    unsafe fn write_part(self, to: *mut T, count: usize, value: Self::V) {
        let mut all = [T::default(); MAX_LANES];
        // SAFETY: a whole register fits `all`; the caller vouches for `to`.
        unsafe {
            self.write(all.as_mut_ptr(), value);
            std::ptr::copy_nonoverlapping(all.as_ptr(), to, count);
        }
    }
}

/// Code to be compiled for an instruction set. Implementations of `call` must be
/// `#[inline(always)]`.
pub trait Vectorized {
    /// What it returns.
    type Output;
    /// Does it.
    fn call(self) -> Self::Output;
}

/// A choice by instruction set.
pub trait Dispatch<T: Element> {
    /// What is chosen.
    type Output;
    /// Where no vectors help, or there are none.
    fn scalar(self) -> Self::Output;
    /// For vectors.
    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Self::Output;
}

/// The choice by instruction set, where arithmetic is in `f32`.
macro_rules! select {
    ($isa:expr, $choice:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni if let Some(token) = x86::Avx512::detect() => $choice.simd(token),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni if let Some(token) = x86::Avx2Fma::detect() => {
                $choice.simd(token)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot | Isa::NeonFp16 if let Some(token) = Neon::detect() => {
                $choice.simd(token)
            }
            _ => $choice.scalar(),
        }
    };
}

/// What `isa` uses for `f32`.
pub(super) fn select_f32<D: Dispatch<f32>>(isa: Isa, choice: D) -> D::Output {
    select!(isa, choice)
}

/// What `isa` uses for `f16`.
pub(super) fn select_f16<D: Dispatch<f16>>(isa: Isa, choice: D) -> D::Output {
    #[cfg(target_arch = "aarch64")]
    if isa == Isa::NeonFp16
        && let Some(token) = NeonFp16::detect()
    {
        return choice.simd(token);
    }
    select!(isa, choice)
}

/// The name of a kernel. Names live as long as the program; there are few.
pub(super) fn name(text: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(text.as_str()) {
        Some(name) => name,
        None => {
            let name = &*Box::leak(text.into_boxed_str());
            names.insert(name);
            name
        }
    }
}
