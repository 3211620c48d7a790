//! An independent statement of the float operations in `f64`, the bounds, and the tools of the
//! suites.
#![allow(dead_code, missing_docs)]

use kinglet_kernels::float::{Activation, Element};
use kinglet_kernels::{ConvGeometry, Isa};

/// Every activation, with bounds that random sums reach.
pub const ACTIVATIONS: [Activation; 7] = [
    Activation::None,
    Activation::Relu,
    Activation::Clamp { min: -0.25, max: 0.5 },
    Activation::Silu,
    Activation::Sigmoid,
    Activation::HardSwish,
    Activation::HardSigmoid,
];

/// A small generator of reproducible data (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as u32
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    /// Values in -1..1 times `scale`.
    pub fn values<T: Element>(&mut self, n: usize, scale: f32) -> Vec<T> {
        let mut value = || (self.next() & 0xFF_FFFF) as f32 / (1 << 23) as f32 - 1.0;
        (0..n).map(|_| T::from_f32(value() * scale)).collect()
    }
}

/// An activation, by the formula, in `f64`.
pub fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x.max(-87.0)).exp());
    let ramp = |x: f64| (x / 6.0 + 0.5).clamp(0.0, 1.0);
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clamp { min, max } => x.clamp(f64::from(min), f64::from(max)),
        Activation::Silu => x.max(-87.0) * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSwish => x.max(-3.0) * ramp(x),
        Activation::HardSigmoid => ramp(x),
    }
}

/// A sum and the sum of the absolute values.
#[derive(Clone, Copy)]
pub struct Exact {
    pub sum: f64,
    pub size: f64,
    pub terms: usize,
}

impl Exact {
    pub fn new(bias: f64) -> Exact {
        Exact { sum: bias, size: bias.abs(), terms: 1 }
    }

    pub fn add(&mut self, product: f64) {
        self.sum += product;
        self.size += product.abs();
        self.terms += 1;
    }
}

/// How a kernel computes and rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Arithmetic {
    /// `f32` throughout.
    Single,
    /// `f32`, rounded once to `f16`.
    Stored,
    /// `f16` throughout.
    Half,
}

impl Arithmetic {
    pub fn of(kernel: &str) -> Arithmetic {
        match (kernel.contains("_f16_"), kernel.contains("neonfp16")) {
            (false, _) => Arithmetic::Single,
            (true, false) => Arithmetic::Stored,
            (true, true) => Arithmetic::Half,
        }
    }
}

/// The largest error allowed of `activation(sum) + residual`, given that activations have a slope
/// of at most 1.1.
///
/// `f32`: the rigorous bound of recursive summation, `terms * 2^-24` of the absolute sum. `f16`:
/// 8 units of `2^-11` of the absolute sum, whatever the number of terms, since blocks are summed
/// separately.
pub fn bound(arithmetic: Arithmetic, exact: Exact, result: f64) -> f64 {
    let single = (exact.terms as f64 + 8.0) * exact.size * 2f64.powi(-24) * 1.1
        + result.abs() * 2f64.powi(-21)
        + 1e-37;
    let half = 2f64.powi(-11);
    match arithmetic {
        Arithmetic::Single => single,
        Arithmetic::Stored => single + result.abs() * half * 1.01 + 2f64.powi(-25),
        Arithmetic::Half => 8.0 * half * exact.size + 4.0 * half * result.abs() + 2f64.powi(-20),
    }
}

/// Sum of output pixel (`y`, `x`) over `channels`; `weight(i, j, c)`.
pub fn accumulate<T: Element>(
    g: &ConvGeometry,
    input: &[T],
    bias: f64,
    (y, x): (usize, usize),
    channels: std::ops::Range<usize>,
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Exact {
    let mut exact = Exact::new(bias);
    for i in 0..g.kernel_h {
        for j in 0..g.kernel_w {
            let row = (y * g.stride_h + i * g.dilation_h) as isize - g.pad_top as isize;
            let col = (x * g.stride_w + j * g.dilation_w) as isize - g.pad_left as isize;
            let inside = row >= 0 && col >= 0 && row < g.in_h as isize && col < g.in_w as isize;
            if inside {
                for c in channels.clone() {
                    let at = (row as usize * g.in_w + col as usize) * g.in_c + c;
                    exact.add(f64::from(input[at].to_f32()) * f64::from(weight(i, j, c)));
                }
            }
        }
    }
    exact
}

/// A buffer that starts `offset` elements off its allocation, between guards.
pub struct Guarded<T> {
    all: Vec<T>,
    start: usize,
    len: usize,
}

const GUARD: f32 = 1234.0;
const MARGIN: usize = 64;

impl<T: Element> Guarded<T> {
    pub fn of(data: &[T], offset: usize) -> Guarded<T> {
        let start = MARGIN + offset;
        let mut all = vec![T::from_f32(GUARD); start + data.len() + MARGIN];
        all[start..start + data.len()].copy_from_slice(data);
        Guarded { all, start, len: data.len() }
    }

    /// Filled with what no kernel writes.
    pub fn unwritten(len: usize, offset: usize) -> Guarded<T> {
        Guarded::of(&vec![T::from_f32(f32::NAN); len], offset)
    }

    pub fn get(&self) -> &[T] {
        &self.all[self.start..self.start + self.len]
    }

    pub fn get_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..self.start + self.len]
    }

    /// # Panics
    /// If an element outside the buffer changed.
    pub fn check(&self, what: &str) {
        let guard = T::from_f32(GUARD);
        let (before, rest) = self.all.split_at(self.start);
        assert!(before.iter().all(|&b| b == guard), "{what}: wrote before the output");
        assert!(rest[self.len..].iter().all(|&b| b == guard), "{what}: wrote after the output");
    }
}

/// Whether a kernel's name belongs to this instruction set (so that a suite which silently fell
/// back to scalar code fails).
pub fn is_of(kernel: &str, isa: Isa) -> bool {
    match isa {
        Isa::Scalar | Isa::Neon32 => kernel.ends_with("_scalar"),
        Isa::Avx2 => kernel.contains("_avx2_"),
        Isa::Avx512Vnni => kernel.contains("_avx512_"),
        Isa::NeonFp16 if kernel.contains("_f16_") && !kernel.starts_with("pool") => {
            kernel.contains("_neonfp16_")
        }
        _ => kernel.contains("_neon_"),
    }
}

/// The bits, so that results can be compared exactly, "not a number" included.
pub fn bits<T: Element>(values: &[T]) -> Vec<u32> {
    values.iter().map(|v| v.to_f32().to_bits()).collect()
}
