//! The inverse transform is one, every instruction set gives the scalar samples, and chroma spreads
//! as stated.
#![allow(clippy::unwrap_used)]

use kinglet_kernels::Isa;
use kinglet_kernels::jpeg::{Block, Jpeg, Spread};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// Blocks as pictures have them (few coefficients, small ones) and as they do not.
fn blocks(random: &mut Random) -> Vec<Block> {
    let mut blocks = Vec::new();
    for i in 0..2000 {
        let mut block = [0; 64];
        let (count, bits) = (i % 65, 1 + i / 65 % 12);
        for _ in 0..count {
            let value = (random.next() as i32 >> (32 - bits)) as i16;
            block[(random.next() as usize % 64) >> (i % 3)] = value;
        }
        blocks.push(block);
    }
    blocks.extend([[i16::MIN; 64], [i16::MAX; 64], [0; 64]]);
    blocks.extend((0..500).map(|_| std::array::from_fn(|_| random.next() as i16)));
    blocks
}

/// The definition (ITU-T T.81, A.3.3).
fn definition(block: &Block) -> [f64; 64] {
    let cosine = |x: usize, u: usize| {
        let scale = if u == 0 { 0.5f64.sqrt() } else { 1.0 };
        scale * (std::f64::consts::PI * (2 * x + 1) as f64 * u as f64 / 16.0).cos()
    };
    std::array::from_fn(|i| {
        let (x, y) = (i % 8, i / 8);
        let terms = (0..64).map(|k| f64::from(block[k]) * cosine(x, k % 8) * cosine(y, k / 8));
        (terms.sum::<f64>() / 4.0 + 128.0).clamp(0.0, 255.0)
    })
}

#[test]
fn the_transform_is_its_definition() {
    let scalar = Jpeg::new(Isa::Scalar).unwrap();
    for block in blocks(&mut Random(0x6a70_6567)).into_iter().step_by(7) {
        // Coefficients that no 8-bit picture has may wrap.
        if block.iter().any(|value| value.unsigned_abs() > 2048) {
            continue;
        }
        let mut samples = [0; 64];
        scalar.inverse(&block, &mut samples, 8);
        for (sample, expected) in samples.iter().zip(definition(&block)) {
            assert!((f64::from(*sample) - expected).abs() < 0.75, "{sample} {expected} {block:?}");
        }
    }
}

#[test]
fn every_instruction_set_gives_the_scalar_samples() {
    let mut random = Random(0x6a70_6568);
    let scalar = Jpeg::new(Isa::Scalar).unwrap();
    for isa in Isa::available() {
        let other = Jpeg::new(isa).unwrap();
        for block in blocks(&mut random) {
            for stride in [8, 13] {
                let length = 7 * stride + 8;
                let (mut expected, mut actual) = (vec![7; length + 9], vec![7; length + 9]);
                scalar.inverse(&block, &mut expected[1..=length], stride);
                other.inverse(&block, &mut actual[1..=length], stride);
                assert_eq!(actual, expected, "{} {block:?}", other.kernel());
            }
        }
    }
}

#[test]
fn rows_spread_as_stated() {
    let mut random = Random(0x6a70_6569);
    for isa in Isa::available() {
        let kernel = Jpeg::new(isa).unwrap();
        let portable = matches!(isa, Isa::Scalar | Isa::Neon32);
        assert_eq!(kernel.kernel().contains("scalar"), portable, "{isa:?}");
        for length in (0..70).chain([475]) {
            let mut bytes = || (0..length).map(|_| (random.next() >> 24) as u8).collect::<Vec<_>>();
            let (near, far) = (bytes(), bytes());
            let mut sums = vec![0; length];
            kernel.sums(&near, &far, &mut sums);
            let pairs = near.iter().zip(&far);
            let expected: Vec<_> = pairs.map(|(n, f)| 3 * u16::from(*n) + u16::from(*f)).collect();
            assert_eq!(sums, expected, "{}", kernel.kernel());
            if length < 2 {
                continue;
            }
            let samples: Vec<_> = near.iter().map(|n| u16::from(*n)).collect();
            for (how, from, round, divisor) in
                [(Spread::SUMS, &sums, [8, 7], 16), (Spread::SAMPLES, &samples, [1, 2], 4)]
            {
                let mut to = vec![0; (length - 2) * 2];
                kernel.spread(how, from, &mut to);
                for (i, sample) in to.into_iter().enumerate() {
                    let (own, other) = (i / 2 + 1, if i % 2 == 0 { i / 2 } else { i / 2 + 2 });
                    let sum = 3 * u32::from(from[own]) + u32::from(from[other]);
                    assert_eq!(u32::from(sample), (sum + round[i % 2]) / divisor);
                }
            }
        }
    }
}
