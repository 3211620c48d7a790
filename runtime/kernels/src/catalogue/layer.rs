//! A catalogue entry made runnable: the one place where benchmarks and counts build kernels.

mod float;

use super::{Block, Entry, Op};
use crate::add::{Add, AddParams};
use crate::conv::{Conv, ConvOptions};
use crate::depthwise::Depthwise;
use crate::expand_depthwise::{ExpandDepthwise, Offer, Part};
use crate::linear::{Linear, LinearOutput};
use crate::pool::{GlobalAveragePool, PoolParams};
use crate::{ConvGeometry, InputCodes, Isa, KernelError, Requantize, Residual, Scratch};

const ADD: AddParams = AddParams {
    a_zero_point: 3,
    b_zero_point: 5,
    a_multiplier: 0.7,
    b_multiplier: 0.9,
    zero_point: 100,
    min: 0,
    max: 255,
};
const RESIDUAL: Residual = Residual { zero_point: 3, multiplier: 0.9 };

/// Input codes of seven bits, as a model with narrow ranges promises them.
pub const SEVEN_BITS: InputCodes = InputCodes { zero_point: 64, min: 0, max: 127 };

/// One layer, or two fused ones, with weights, input, output and scratch; what is in them never
/// varies. `T` is `u8` for codes, or a float type.
pub struct Layer<T = u8> {
    kernel: &'static str,
    body: Body<T>,
    input: Buffer<T>,
    /// Empty where the layer adds nothing.
    residual: Buffer<T>,
    output: Buffer<T>,
    scratch: Scratch,
}

/// Computes a layer from its input and residual.
type Body<T> = Box<dyn Fn([&[T]; 2], &mut [T], &mut Scratch)>;

/// Values that begin on a cache line, as in an engine's arena.
struct Buffer<T> {
    values: Vec<T>,
    start: usize,
}

impl<T: Copy + Default> Buffer<T> {
    fn new(len: usize, value: impl FnMut() -> T) -> Buffer<T> {
        const LINE: usize = 64;
        let mut values = vec![T::default(); len + LINE / size_of::<T>()];
        let start = values.as_ptr().align_offset(LINE);
        values[start..start + len].fill_with(value);
        values.truncate(start + len);
        Buffer { values, start }
    }
}

impl<T> Layer<T> {
    /// The name of the kernel that runs it.
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Computes the whole layer once; only the first run allocates.
    pub fn run(&mut self) {
        let Layer { input, residual, output, .. } = self;
        let inputs = [&input.values[input.start..], &residual.values[residual.start..]];
        (self.body)(inputs, &mut output.values[output.start..], &mut self.scratch);
    }

    /// The result of the last run.
    pub fn output(&self) -> &[T] {
        &self.output.values[self.output.start..]
    }
}

impl Layer<u8> {
    /// The layer `entry` describes, on one instruction set, with weights of -127 to 127 and an
    /// input of all the codes that `codes` allows.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa, entry: &Entry, codes: InputCodes) -> Result<Layer, KernelError> {
        let g = entry.geometry;
        let weights = |depth| weights(g.out_c * depth);
        let taps = g.kernel_h * g.kernel_w;
        let (kernel, body): (_, Body<u8>) = match entry.op {
            Op::Conv => return Layer::conv(isa, &g, entry.adds, false, codes),
            Op::Depthwise => {
                let (weights, requantize) = (weights(taps), requantize(g.out_c));
                let conv = Depthwise::new(isa, g, &weights, codes, requantize)?;
                (
                    conv.kernel(),
                    Box::new(move |[i, _], o, scratch| conv.run(i, 0..conv.rows(), o, scratch)),
                )
            }
            Op::Linear => {
                let (weights, output) =
                    (weights(g.in_c), LinearOutput::Quantized(requantize(g.out_c)));
                let linear = Linear::new(isa, g.in_c, g.out_c, &weights, codes, output)?;
                (
                    linear.kernel(),
                    Box::new(move |[i, _], o, scratch| linear.run_u8(i, 0..o.len(), o, scratch)),
                )
            }
            Op::Add => {
                let add = Add::new(isa, ADD)?;
                (add.kernel(), Box::new(move |[i, _], o, _| add.run(i, i, o)))
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
                (pool.kernel(), Box::new(move |[i, _], o, scratch| pool.run(i, o, scratch)))
            }
        };
        let outputs = if entry.op == Op::Pool { g.in_c } else { g.output_len() };
        Ok(Layer::of_codes(kernel, body, codes, [g.input_len(), 0, outputs]))
    }

    /// The projection of a block with its residual, reading blocks of channels
    /// ([`crate::conv::BLOCK_CHANNELS`]) or, where `blocked` is false, NHWC.
    ///
    /// # Errors
    /// As [`Layer::new`].
    pub fn projection(
        isa: Isa,
        block: &Block,
        blocked: bool,
        codes: InputCodes,
    ) -> Result<Layer, KernelError> {
        Layer::conv(isa, &block.project, block.adds, blocked, codes)
    }

    fn conv(
        isa: Isa,
        g: &ConvGeometry,
        adds: bool,
        blocked_input: bool,
        codes: InputCodes,
    ) -> Result<Layer, KernelError> {
        let weights = weights(g.taps() * g.in_c * g.out_c);
        let residual = adds.then_some(RESIDUAL);
        let options = ConvOptions { residual, blocked_input, ..ConvOptions::default() };
        let output = requantize(g.out_c);
        let conv = Conv::with_options(isa, *g, &weights, codes, output, options)?;
        let lens = [conv.input_len(), if adds { g.output_len() } else { 0 }, g.output_len()];
        let (kernel, pixels) = (conv.kernel(), conv.pixels());
        let body: Body<u8> = Box::new(move |[i, residual], o, scratch| {
            conv.run_adding(i, adds.then_some(residual), 0..pixels, o, scratch);
        });
        Ok(Layer::of_codes(kernel, body, codes, lens))
    }

    /// The expansion (or stem) and the depthwise convolution of a block in one, in units for one
    /// thread; `None` where `isa` has no kernel for it.
    ///
    /// # Errors
    /// As [`Layer::new`].
    pub fn pair(isa: Isa, block: &Block, codes: InputCodes) -> Result<Option<Layer>, KernelError> {
        let (g, d) = (block.expand, block.depthwise);
        let weights = [weights(g.taps() * g.in_c * g.out_c), weights(d.taps() * d.out_c)];
        let part = |geometry: ConvGeometry, weights, input| {
            let output = requantize(geometry.out_c);
            Part { geometry, weights, input, output, table: None }
        };
        let first = part(g, &weights[0], codes);
        let between = InputCodes { zero_point: 3, min: first.output.min, max: first.output.max };
        let second = part(d, &weights[1], between);
        let Some(pair) = ExpandDepthwise::new(isa, 1, Offer::WherePays, first, second)? else {
            return Ok(None);
        };
        let lens = [g.input_len(), 0, pair.output_len()];
        let kernel = pair.kernel();
        let body: Body<u8> = Box::new(move |[i, _], o, scratch| {
            for (unit, place) in pair.division().pieces().iter().enumerate() {
                pair.run(i, unit, &mut o[place.clone()], scratch);
            }
        });
        Ok(Some(Layer::of_codes(kernel, body, codes, lens)))
    }

    /// With lengths of input, residual and output.
    fn of_codes(
        kernel: &'static str,
        body: Body<u8>,
        codes: InputCodes,
        lens: [usize; 3],
    ) -> Layer {
        let span = u16::from(codes.max - codes.min) + 1;
        let code = |byte: u8| codes.min + (u16::from(byte) % span) as u8;
        let mut bytes = bytes();
        let [input, residual, output] = lens;
        Layer {
            kernel,
            body,
            input: Buffer::new(input, || code(bytes())),
            residual: Buffer::new(residual, || 7),
            output: Buffer::new(output, || 0),
            scratch: Scratch::new(),
        }
    }
}

/// Bytes of all values, the same ones every time.
fn bytes() -> impl FnMut() -> u8 {
    let mut i = 0u32;
    move || {
        i = i.wrapping_add(1);
        ((i - 1).wrapping_mul(2_654_435_761) >> 24) as u8
    }
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
    use crate::catalogue::{efficientnet_lite0, efficientnet_lite0_blocks};

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

    #[test]
    fn pairs_and_projections_are_whole_too() {
        let blocks = efficientnet_lite0_blocks();
        let last = |layer: &mut Layer| {
            layer.run();
            layer.output().iter().rev().take(16).copied().collect::<Vec<_>>()
        };
        for block in &blocks[..2] {
            for isa in Isa::available() {
                let codes = InputCodes::any(128);
                if let Some(mut pair) = Layer::pair(isa, block, codes).expect("it is available") {
                    assert!(last(&mut pair).iter().all(|&code| code >= 3), "{}", isa.name());
                }
                for blocked in [false, true] {
                    let project = Layer::projection(isa, block, blocked, codes);
                    let tail = last(&mut project.expect("it is available"));
                    assert!(tail.iter().all(|&code| code >= 3), "{}", isa.name());
                }
            }
        }
    }
}
