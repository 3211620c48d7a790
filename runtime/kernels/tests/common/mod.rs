//! An independent statement of every operation in exact arithmetic, and the tools of the suites:
//! seeded data, misaligned buffers with guard bytes.
#![allow(dead_code, missing_docs)]

use kinglet_kernels::{ConvGeometry, Isa, Requantize};

/// Zero points at the ends and around the middle.
pub const ZERO_POINTS: [u8; 6] = [0, 1, 127, 128, 254, 255];

/// Smallest and largest weight.
pub type WeightRange = (i16, i16);
/// Symmetric bytes, what quantizers write: two products of bytes fit 16 bits.
pub const SYMMETRIC: WeightRange = (-127, 127);
/// All signed bytes.
pub const BYTES: WeightRange = (-128, 127);
/// Unsigned bytes less a zero point.
pub const WIDE: WeightRange = (-255, 255);
/// Each takes other kernels on some instruction set.
pub const WEIGHT_RANGES: [WeightRange; 3] = [SYMMETRIC, BYTES, WIDE];

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

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// Weights in a range.
    pub fn weights(&mut self, n: usize, range: WeightRange) -> Vec<i16> {
        let (low, high) = range;
        (0..n).map(|_| self.below((high - low + 1) as usize) as i16 + low).collect()
    }

    /// Multipliers and biases with which the outputs of `depth` products spread over 0..=255.
    pub fn requantize(&mut self, channels: usize, depth: usize) -> Requantize {
        let spread = 255.0 * 74.0 * (depth as f32).sqrt();
        let bound = (spread as i32).max(4);
        let multiplier = (0..channels).map(|_| (20.0 + self.below(200) as f32) / spread).collect();
        let bias = (0..channels).map(|_| self.next() as i32 % bound).collect();
        let (a, b) = (self.next() as u8, self.next() as u8);
        let (min, max) = if self.below(2) == 0 { (0, 255) } else { (a.min(b), a.max(b)) };
        Requantize { multiplier, bias, zero_point: self.pick(&ZERO_POINTS), min, max }
    }
}

/// `round_half_even(value)`, by the definition.
fn round_half_even(value: f64) -> f64 {
    let low = value.floor();
    match (value - low).partial_cmp(&0.5) {
        Some(std::cmp::Ordering::Less) => low,
        Some(std::cmp::Ordering::Greater) => low + 1.0,
        _ => 2.0 * (value / 2.0).round(),
    }
}

/// `clamp(round_half_even(value) + zero_point, min, max)`.
pub fn finish(value: f32, zero_point: u8, min: u8, max: u8) -> u8 {
    let sum = round_half_even(f64::from(value)) + f64::from(zero_point);
    sum.clamp(f64::from(min), f64::from(max)) as u8
}

/// The sum at output pixel (`y`, `x`); `weight(i, j, c)` for input channels `channels`.
fn accumulate(
    g: &ConvGeometry,
    input: &[u8],
    zero_point: u8,
    (y, x): (usize, usize),
    channels: std::ops::Range<usize>,
    weight: impl Fn(usize, usize, usize) -> i16,
) -> i64 {
    let mut acc = 0i64;
    for i in 0..g.kernel_h {
        for j in 0..g.kernel_w {
            let row = (y * g.stride_h + i * g.dilation_h) as isize - g.pad_top as isize;
            let col = (x * g.stride_w + j * g.dilation_w) as isize - g.pad_left as isize;
            let inside = row >= 0 && col >= 0 && row < g.in_h as isize && col < g.in_w as isize;
            if inside {
                for c in channels.clone() {
                    let at = (row as usize * g.in_w + col as usize) * g.in_c + c;
                    let x = i64::from(input[at]) - i64::from(zero_point);
                    acc += x * i64::from(weight(i, j, c));
                }
            }
        }
    }
    acc
}

fn apply(q: &Requantize, n: usize, acc: i64) -> u8 {
    let sum = i32::try_from(acc + i64::from(q.bias[n])).expect("checked by the constructor");
    finish(sum as f32 * q.multiplier[n], q.zero_point, q.min, q.max)
}

/// Dense convolution of the pixels `range`.
pub fn conv(
    g: &ConvGeometry,
    input: &[u8],
    weights: &[i16],
    zero_point: u8,
    q: &Requantize,
    range: std::ops::Range<usize>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for p in range {
        for n in 0..g.out_c {
            let weight = |i: usize, j: usize, c: usize| {
                weights[((n * g.kernel_h + i) * g.kernel_w + j) * g.in_c + c]
            };
            let at = (p / g.out_w, p % g.out_w);
            out.push(apply(q, n, accumulate(g, input, zero_point, at, 0..g.in_c, weight)));
        }
    }
    out
}

/// Depthwise convolution of the rows `range`.
pub fn depthwise(
    g: &ConvGeometry,
    input: &[u8],
    weights: &[i16],
    zero_point: u8,
    q: &Requantize,
    range: std::ops::Range<usize>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for y in range {
        for x in 0..g.out_w {
            for n in 0..g.out_c {
                let weight =
                    |i: usize, j: usize, c: usize| weights[(i * g.kernel_w + j) * g.in_c + c];
                let acc = accumulate(g, input, zero_point, (y, x), n..n + 1, weight);
                out.push(apply(q, n, acc));
            }
        }
    }
    out
}

/// A byte buffer that starts `offset` bytes off its allocation, between guard bytes.
pub struct Guarded {
    all: Vec<u8>,
    start: usize,
    len: usize,
}

const GUARD: u8 = 0xA5;
const MARGIN: usize = 64;

impl Guarded {
    pub fn zeros(len: usize, offset: usize) -> Guarded {
        Guarded::of(&vec![0x5A; len], offset)
    }

    pub fn of(data: &[u8], offset: usize) -> Guarded {
        let start = MARGIN + offset;
        let mut all = vec![GUARD; start + data.len() + MARGIN];
        all[start..start + data.len()].copy_from_slice(data);
        Guarded { all, start, len: data.len() }
    }

    pub fn get(&self) -> &[u8] {
        &self.all[self.start..self.start + self.len]
    }

    pub fn get_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.start..self.start + self.len]
    }

    /// # Panics
    /// If a byte outside the buffer changed.
    pub fn check(&self, what: &str) {
        let (before, rest) = self.all.split_at(self.start);
        let after = &rest[self.len..];
        assert!(before.iter().all(|&b| b == GUARD), "{what}: wrote before the output");
        assert!(after.iter().all(|&b| b == GUARD), "{what}: wrote after the output");
    }
}

/// Fails with the first difference.
pub fn assert_same(actual: &[u8], expected: &[u8], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: length");
    if let Some(i) = actual.iter().zip(expected).position(|(a, e)| a != e) {
        let wrong = actual.iter().zip(expected).filter(|(a, e)| a != e).count();
        panic!(
            "{what}: element {i} is {}, expected {} ({wrong} of {} differ)",
            actual[i],
            expected[i],
            actual.len()
        );
    }
}

/// Whether a kernel's name belongs to this instruction set (so that a suite which silently fell
/// back to scalar code fails).
pub fn is_of(kernel: &str, isa: Isa) -> bool {
    match isa {
        Isa::Scalar => kernel.ends_with("_scalar"),
        Isa::Avx2 => kernel.contains("_avx2_"),
        // Where the dot product does not help, the AVX2 kernel is the one to use.
        Isa::Avx512Vnni => ["_vnni_", "_vbmi_", "_avx2_"].iter().any(|part| kernel.contains(part)),
        Isa::Neon32 => kernel.contains("_neon32_") || kernel.ends_with("_scalar"),
        // Where the dot product does not help, the plain NEON kernel is the one to use.
        Isa::Neon => kernel.contains("_neon_"),
        _ => kernel.contains("_neondot_") || kernel.contains("_neon_"),
    }
}
