//! A catalogue entry made runnable: the one place where benchmarks and counts build kernels.

use super::{Entry, Op};
use crate::add::{Add, AddParams};
use crate::conv::Conv;
use crate::depthwise::Depthwise;
use crate::linear::{Linear, LinearOutput};
use crate::pool::{GlobalAveragePool, PoolParams};
use crate::{InputCodes, Isa, KernelError, Requantize, Scratch};

const ADD: AddParams = AddParams {
    a_zero_point: 3,
    b_zero_point: 5,
    a_multiplier: 0.7,
    b_multiplier: 0.9,
    zero_point: 100,
    min: 0,
    max: 255,
};

/// Input codes of seven bits, as a model with narrow ranges promises them.
pub const SEVEN_BITS: InputCodes = InputCodes { zero_point: 64, min: 0, max: 127 };

/// One layer with its weights, input, output and scratch; what is in them never varies.
pub struct Layer {
    kernel: &'static str,
    body: Body,
    input: Vec<u8>,
    output: Vec<u8>,
    scratch: Scratch,
}

type Body = Box<dyn Fn(&[u8], &mut [u8], &mut Scratch)>;

impl Layer {
    /// The layer `entry` describes, on one instruction set, with weights of -127 to 127 and an
    /// input of all the codes that `codes` allows.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa, entry: &Entry, codes: InputCodes) -> Result<Layer, KernelError> {
        let g = entry.geometry;
        let weights = |depth| weights(g.out_c * depth);
        let taps = g.kernel_h * g.kernel_w;
        let (kernel, body): (_, Body) = match entry.op {
            Op::Conv => {
                let weights = weights(taps * g.in_c);
                let conv = Conv::new(isa, g, &weights, codes, requantize(g.out_c))?;
                (
                    conv.kernel(),
                    Box::new(move |i, o, scratch| conv.run(i, 0..conv.pixels(), o, scratch)),
                )
            }
            Op::Depthwise => {
                let (weights, requantize) = (weights(taps), requantize(g.out_c));
                let conv = Depthwise::new(isa, g, &weights, codes, requantize)?;
                (
                    conv.kernel(),
                    Box::new(move |i, o, scratch| conv.run(i, 0..conv.rows(), o, scratch)),
                )
            }
            Op::Linear => {
                let (weights, output) =
                    (weights(g.in_c), LinearOutput::Quantized(requantize(g.out_c)));
                let linear = Linear::new(isa, g.in_c, g.out_c, &weights, codes, output)?;
                (linear.kernel(), Box::new(move |i, o, scratch| linear.run_u8(i, o, scratch)))
            }
            Op::Add => {
                let add = Add::new(isa, ADD)?;
                (add.kernel(), Box::new(move |i, o, _| add.run(i, i, o)))
            }
            Op::Pool => {
                let pixels = g.in_h * g.in_w;
                let params = PoolParams {
                    input_zero_point: 3,
                    multiplier: 0.02,
                    zero_point: 3,
                    min: 0,
                    max: 255,
                };
                let pool = GlobalAveragePool::new(isa, pixels, g.in_c, params)?;
                (pool.kernel(), Box::new(move |i, o, scratch| pool.run(i, o, scratch)))
            }
        };
        let outputs = if entry.op == Op::Pool { g.in_c } else { g.output_len() };
        let span = u16::from(codes.max - codes.min) + 1;
        let code = |byte: u8| codes.min + (u16::from(byte) % span) as u8;
        let input = bytes(g.input_len()).into_iter().map(code).collect();
        let output = vec![0; outputs];
        Ok(Layer { kernel, body, input, output, scratch: Scratch::new() })
    }

    /// The name of the kernel that runs it.
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Computes the whole layer once; only the first run allocates.
    pub fn run(&mut self) {
        (self.body)(&self.input, &mut self.output, &mut self.scratch);
    }

    /// The result of the last run.
    pub fn output(&self) -> &[u8] {
        &self.output
    }
}

/// Bytes of all values, the same ones every time.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Weights of -127 to 127 that are spread like trained ones, most of them small: some kernels
/// take a faster way for those.
fn weights(n: usize) -> Vec<i16> {
    let weight = |i: u64| {
        let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bytes = mixed.to_be_bytes();
        bytes[..4].iter().map(|&byte| i16::from(byte.max(1)) - 128).sum::<i16>() / 4
    };
    (0..n as u64).map(weight).collect()
}

fn requantize(channels: usize) -> Requantize {
    Requantize {
        multiplier: vec![0.001; channels],
        bias: vec![100; channels],
        zero_point: 3,
        min: 3,
        max: 250,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::efficientnet_lite0;

    /// Benchmarks and counts are of whole layers: a layer that left pixels out would look fast.
    #[test]
    fn small_layers_give_the_scalar_bytes_on_every_instruction_set_and_fill_the_output() {
        for entry in efficientnet_lite0().iter().filter(|entry| entry.macs() < 1_500_000) {
            for codes in [InputCodes::any(128), SEVEN_BITS] {
                let run = |isa| {
                    let mut layer = Layer::new(isa, entry, codes).expect("it is available");
                    layer.run();
                    layer.output().to_vec()
                };
                let expected = run(Isa::Scalar);
                let tail = &expected[expected.len() - 16..];
                assert!(tail.iter().any(|&code| code != 0), "{}: unwritten", entry.name);
                for isa in Isa::available() {
                    assert_eq!(run(isa), expected, "{} on {}", entry.name, isa.name());
                }
            }
        }
    }
}
