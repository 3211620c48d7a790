//! A network as burn trains it.
//!
//! Values are NHWC, so that a pointwise convolution is one matrix product over all pixels of a batch.
//! Weights are kept with the output channel last: [input, output] of a pointwise convolution and the
//! classifier, [27, stem] of the first one, [kernel * kernel, channels] of a depthwise one. All
//! parameters are flat tensors in one list, as [`Student::slots`] says.

use burn::tensor::{Device, Tensor, TensorData, s};
use kinglet_compress::arch::{Conv, Network, Padding, Part, Place};

use crate::fake;
use crate::ops::{self, Depthwise, EPSILON};

/// Bounds of ReLU6.
const RELU6: [f32; 2] = [0.0, 6.0];
/// No activation.
const LINEAR: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// What a parameter is to its convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weights; they decay.
    Weight,
    /// Scale of the batch norm.
    Scale,
    /// Shift of the batch norm, or the bias of the classifier.
    Shift,
}

/// One parameter.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Name in checkpoints: `blocks.3.depthwise.weight`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Values.
    pub size: usize,
}

/// A network with what its training graph needs.
#[derive(Debug, Clone)]
pub struct Student {
    /// The network.
    pub network: Network,
    /// Its convolutions and the classifier, in order.
    pub convs: Vec<Conv>,
    /// Padding of convolutions with stride.
    pub padding: Padding,
    first_slot: Vec<usize>,
    slots: Vec<Slot>,
}

/// How a pass computes batch norms and quantization.
#[derive(Debug)]
pub enum Mode<'a> {
    /// Batch norms by the statistics of the batch, which are collected.
    Batch,
    /// No batch norms: weights and shifts are those of a folded network. The statistics of what
    /// convolutions give are collected.
    Folded,
    /// Batch norms by these statistics, one of [2, channels] for each batch norm.
    Fixed(&'a [Tensor<2>]),
    /// As [`Mode::Fixed`], folded into the weights, and weights and activations on the grids of 8
    /// bits that int8 will have.
    Quantized(&'a [Tensor<2>], &'a mut fake::Ranges),
}

/// What a pass gives.
#[derive(Debug)]
pub struct Output {
    /// [batch, classes].
    pub logits: Tensor<2>,
    /// [batch, features], after the global pool.
    pub features: Tensor<2>,
    /// Of each batch norm [2, channels], where the mode collects them.
    pub statistics: Vec<Tensor<2>>,
}

impl Student {
    /// The graph of a network of the Lite family.
    #[must_use]
    pub fn new(network: Network, padding: Padding) -> Self {
        let convs = network.convolutions();
        let (mut slots, mut first_slot) = (Vec::new(), Vec::new());
        for conv in &convs {
            first_slot.push(slots.len());
            let name = conv.node_name();
            let mut slot = |part: &str, role, size| {
                slots.push(Slot { name: format!("{name}.{part}"), role, size });
            };
            slot("weight", Role::Weight, conv.weights());
            if conv.norm {
                slot("scale", Role::Scale, conv.output);
            }
            slot("shift", Role::Shift, conv.output);
        }
        Self { network, convs, padding, first_slot, slots }
    }

    /// The parameters, in order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Where a convolution's weights stand in the parameters; scale and shift follow.
    #[must_use]
    pub fn slot_of(&self, conv: usize) -> usize {
        self.first_slot[conv]
    }

    /// Side of the input, pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.network.arch.resolution as usize
    }

    /// Multiplications of one picture.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let mut side = self.side();
        let mut total = 0;
        for conv in &self.convs {
            if conv.place == Place::Classifier {
                side = 1;
            } else {
                side = self.outputs(side, conv);
            }
            total += (side * side * conv.weights()) as u64;
        }
        total
    }

    fn outputs(&self, side: usize, conv: &Conv) -> usize {
        let (before, after) = self.padding.amounts(side, conv.kernel, conv.stride);
        (side + before + after - conv.kernel) / conv.stride + 1
    }

    /// Runs a batch of pictures [batch, side, side, 3].
    #[must_use]
    pub fn forward(&self, parameters: &[Tensor<1>], pictures: Tensor<4>, mode: Mode<'_>) -> Output {
        let mut pass = Pass { student: self, parameters, mode, statistics: Vec::new(), norms: 0 };
        let mut value = pictures;
        let mut block_input = None;
        for at in 0..self.convs.len() - 1 {
            let conv = &self.convs[at];
            let block = match conv.place {
                Place::Block(index, part) => {
                    let block = &self.network.blocks[index];
                    let begins =
                        part == Part::Expand || !block.expands() && part == Part::Depthwise;
                    if begins {
                        block_input = block.residual.then(|| value.clone());
                    }
                    Some((part, block))
                }
                _ => None,
            };
            value = pass.convolution(at, value);
            if let Some((Part::Project, block)) = block
                && block.residual
                && let Some(input) = block_input.take()
            {
                value = pass.quantized(value + input, &format!("{}.add", conv.node_name()));
            }
        }
        let [batch, height, width, channels] = value.dims();
        let pooled = value.reshape([batch, height * width, channels]).mean_dim(1);
        let features = pass.quantized(pooled.reshape([batch, channels]), "pool");
        let classifier = self.convs.len() - 1;
        let (weight, shift) = pass.folded(classifier);
        let logits = features.clone().matmul(weight) + shift.unsqueeze::<2>();
        Output { logits, features, statistics: pass.statistics }
    }
}

struct Pass<'a> {
    student: &'a Student,
    parameters: &'a [Tensor<1>],
    mode: Mode<'a>,
    statistics: Vec<Tensor<2>>,
    /// Batch norms so far.
    norms: usize,
}

impl Pass<'_> {
    fn parameter(&self, conv: usize, offset: usize) -> Tensor<1> {
        self.parameters[self.student.first_slot[conv] + offset].clone()
    }

    /// Weights [rows, output] as they are.
    fn weight(&self, at: usize) -> Tensor<2> {
        let conv = &self.student.convs[at];
        self.parameter(at, 0).reshape([conv.weights() / conv.output, conv.output])
    }

    /// Weights [rows, output] and bias, with the batch norm folded in and on the grid of 8 bits,
    /// where the mode says so.
    fn folded(&mut self, at: usize) -> (Tensor<2>, Tensor<1>) {
        let conv = &self.student.convs[at];
        let weight = self.weight(at);
        let statistics = match &self.mode {
            Mode::Fixed(all) | Mode::Quantized(all, _) if conv.norm => all[self.norms].clone(),
            Mode::Quantized(..) => return (fake::weights(weight), self.parameter(at, 1)),
            _ => return (weight, self.parameter(at, if conv.norm { 2 } else { 1 })),
        };
        let (weight, bias) =
            fold(weight, self.parameter(at, 1), self.parameter(at, 2), &statistics);
        match &self.mode {
            Mode::Quantized(..) => (fake::weights(weight), bias),
            _ => (weight, bias),
        }
    }

    /// On the grid of 8 bits, where the mode says so.
    fn quantized<const D: usize>(&mut self, value: Tensor<D>, name: &str) -> Tensor<D> {
        match &mut self.mode {
            Mode::Quantized(_, ranges) => ranges.quantize(value, name),
            _ => value,
        }
    }

    /// A convolution with its batch norm and activation.
    fn convolution(&mut self, at: usize, value: Tensor<4>) -> Tensor<4> {
        let conv = self.student.convs[at];
        let bounds = if conv.activated { RELU6 } else { LINEAR };
        let result = if matches!(self.mode, Mode::Batch) {
            let product = self.product(&conv, value, self.weight(at));
            let sizes = product.dims();
            let rows = rows(product);
            let statistics = ops::statistics(&rows);
            let (scale, shift) = (self.parameter(at, 1), self.parameter(at, 2));
            let result = ops::normalise(rows, scale, shift, &statistics, bounds).reshape(sizes);
            self.statistics.push(statistics);
            result
        } else {
            let (weight, bias) = self.folded(at);
            let product = self.product(&conv, value, weight);
            let product = product + bias.unsqueeze::<4>();
            if matches!(self.mode, Mode::Folded) {
                self.statistics.push(ops::statistics(&rows(product.clone())));
            }
            if conv.activated { product.clamp(bounds[0], bounds[1]) } else { product }
        };
        self.norms += 1;
        // What a residual sum reads is quantized once, after the sum: as the engine does it.
        let summed = matches!(conv.place, Place::Block(index, Part::Project)
            if self.student.network.blocks[index].residual);
        if summed { result } else { self.quantized(result, &conv.node_name()) }
    }

    /// The convolution alone.
    fn product(&self, conv: &Conv, value: Tensor<4>, weight: Tensor<2>) -> Tensor<4> {
        let [batch, height, width, channels] = value.dims();
        let (before, after) = self.student.padding.amounts(height, conv.kernel, conv.stride);
        let (out_height, out_width) =
            (self.student.outputs(height, conv), self.student.outputs(width, conv));
        if conv.groups > 1 {
            let shape = Depthwise {
                batch,
                height,
                width,
                channels,
                kernel: conv.kernel,
                stride: conv.stride,
                before,
                out_height,
                out_width,
            };
            return ops::depthwise(value, weight, shape);
        }
        let value = if conv.kernel == 1 {
            value
        } else {
            patches(value, conv, (before, after), (out_height, out_width))
        };
        rows(value).matmul(weight).reshape([batch, out_height, out_width, conv.output])
    }
}

/// Folds a batch norm: weights [rows, output] and bias [output].
pub(crate) fn fold(
    weight: Tensor<2>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    statistics: &Tensor<2>,
) -> (Tensor<2>, Tensor<1>) {
    let channels = scale.dims()[0];
    let mean = statistics.clone().slice(s![0..1, ..]).reshape([channels]);
    let variance = statistics.clone().slice(s![1..2, ..]).reshape([channels]);
    let gain = scale / (variance + EPSILON).sqrt();
    (weight * gain.clone().unsqueeze::<2>(), shift - mean * gain)
}

/// [batch, height, width, channels] as [rows, channels].
fn rows(value: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = value.dims();
    value.reshape([batch * height * width, channels])
}

/// The windows of a convolution side by side: [batch, height, width, kernel * kernel * channels].
fn patches(
    value: Tensor<4>,
    conv: &Conv,
    (before, after): (usize, usize),
    (height, width): (usize, usize),
) -> Tensor<4> {
    let padded = value.permute([0, 3, 1, 2]).pad((before, after, before, after), 0.0);
    let padded = padded.permute([0, 2, 3, 1]);
    let span = |tap: usize, outputs: usize| tap..tap + (outputs - 1) * conv.stride + 1;
    let mut taps = Vec::new();
    for ky in 0..conv.kernel {
        for kx in 0..conv.kernel {
            let (y, x, step) = (span(ky, height), span(kx, width), conv.stride as isize);
            taps.push(padded.clone().slice(s![.., y;step, x;step, ..]));
        }
    }
    Tensor::cat(taps, 3)
}

/// A flat parameter on a device.
#[must_use]
pub fn flat(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let size = values.len();
    Tensor::from_data(TensorData::new(values, [size]), device)
}

/// The values of a tensor.
#[must_use]
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the data was converted to f32")
}
