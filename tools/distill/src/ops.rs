//! The training's own operators: depthwise convolution, batch norm with its activation, and the grids
//! of int8.
//!
//! Everything else of the graph is burn's. On burn's CPU backend these run on slices
//! (`depthwise`, `norm`, `grid`); on its other backends the same is written with burn's operators
//! ([`plain`]), which also says what they must compute: the tests compare them.

mod depthwise;
mod grid;
mod norm;
pub mod plain;
mod vectorised;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};

pub use depthwise::Depthwise;
pub use grid::Grid;
pub use norm::EPSILON;

/// burn's CPU backend with gradients.
type Cpu = Autodiff<Flex>;

/// Depthwise convolution: [batch, height, width, channels] with weights [kernel * kernel, channels].
#[must_use]
pub fn depthwise(x: Tensor<4>, weights: Tensor<2>, shape: Depthwise) -> Tensor<4> {
    let primitives =
        (x.clone().try_into_primitive::<Cpu>(), weights.clone().try_into_primitive::<Cpu>());
    let (Ok(x_), Ok(weights_)) = primitives else { return plain::depthwise(x, weights, shape) };
    let nodes = [x_.node(), weights_.node()];
    let (x, weights) = (x_.into_primitive(), weights_.into_primitive());
    let sizes = [shape.batch, shape.out_height, shape.out_width, shape.channels];
    let output = made(shape.forward(slice(&contiguous(&x)), slice(&contiguous(&weights))), &sizes);
    let tracked = match Convolve.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x, weights, shape), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Cpu>(tracked)
}

/// Mean of each channel of [rows, channels], then its variance: [2, channels], without a gradient.
#[must_use]
pub fn statistics(x: &Tensor<2>) -> Tensor<2> {
    let inner = x.clone().inner();
    let Ok(x) = inner.clone().try_into_primitive::<Flex>() else {
        return plain::statistics(inner);
    };
    let channels = inner.dims()[1];
    let values = norm::statistics(slice(&contiguous(&x)), channels);
    Tensor::from_data(TensorData::new(values, [2, channels]), &inner.device())
}

/// Batch norm by the [`statistics`] of `x` itself, then a clamp to `bounds`: [rows, channels] with
/// scale and shift of `[channels]`. The gradient goes through the statistics too.
#[must_use]
pub fn normalise(
    x: Tensor<2>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    statistics: &Tensor<2>,
    bounds: [f32; 2],
) -> Tensor<2> {
    let primitives = (
        x.clone().try_into_primitive::<Cpu>(),
        scale.clone().try_into_primitive::<Cpu>(),
        shift.clone().try_into_primitive::<Cpu>(),
        statistics.clone().try_into_primitive::<Flex>(),
    );
    let (Ok(x_), Ok(scale_), Ok(shift_), Ok(statistics)) = primitives else {
        return plain::normalise(x, scale, shift, bounds);
    };
    let sizes = x.dims();
    let nodes = [x_.node(), scale_.node(), shift_.node()];
    let saved = Saved {
        inputs: [x_.into_primitive(), scale_.into_primitive(), shift_.into_primitive(), statistics]
            .map(|t| contiguous(&t)),
        bounds,
    };
    let [x, scale, shift, statistics] = saved.slices();
    let output = made(norm::forward(x, scale, shift, statistics, bounds), &sizes);
    let tracked = match Normalise.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(saved, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Cpu>(tracked)
}

/// Least and largest value of a tensor.
#[must_use]
pub fn range<const D: usize>(x: &Tensor<D>) -> [f32; 2] {
    let inner = x.clone().inner();
    match inner.clone().try_into_primitive::<Flex>() {
        Ok(x) => grid::range(slice(&contiguous(&x))),
        Err(_) => plain::range(inner),
    }
}

/// Each value's nearest neighbour on a grid; gradients pass within its bounds.
#[must_use]
pub fn on_grid<const D: usize>(x: Tensor<D>, grid: Grid) -> Tensor<D> {
    let Ok(tracked) = x.clone().try_into_primitive::<Cpu>() else { return plain::on_grid(x, grid) };
    let (nodes, sizes) = ([tracked.node()], x.dims());
    let x = contiguous(&tracked.into_primitive());
    let output = made(grid::forward(slice(&x), grid), &sizes);
    let tracked = match OnGrid.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x, grid), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Cpu>(tracked)
}

#[derive(Debug)]
struct OnGrid;

impl Backward<Flex, 1> for OnGrid {
    type State = (FlexTensor, Grid);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, grid) = ops.state;
        let grad = contiguous(&grads.consume::<Flex>(&ops.node));
        let sizes: Vec<usize> = grad.layout().shape().to_vec();
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<Flex>(
                node.id,
                made(grid::backward(slice(&x), slice(&grad), grid), &sizes),
            );
        }
    }
}

#[derive(Debug)]
struct Convolve;

impl Backward<Flex, 2> for Convolve {
    type State = (FlexTensor, FlexTensor, Depthwise);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weights, shape) = ops.state;
        let grad = contiguous(&grads.consume::<Flex>(&ops.node));
        let [of_x, of_weights] = ops.parents;
        if let Some(node) = of_x {
            let values = shape.backward_input(slice(&grad), slice(&contiguous(&weights)));
            let sizes = [shape.batch, shape.height, shape.width, shape.channels];
            grads.register::<Flex>(node.id, made(values, &sizes));
        }
        if let Some(node) = of_weights {
            let values = shape.backward_weights(slice(&contiguous(&x)), slice(&grad));
            let sizes = [shape.kernel * shape.kernel, shape.channels];
            grads.register::<Flex>(node.id, made(values, &sizes));
        }
    }
}

#[derive(Debug)]
struct Normalise;

/// Rows, scale, shift and statistics of a batch norm, contiguous.
#[derive(Debug, Clone)]
struct Saved {
    inputs: [FlexTensor; 4],
    bounds: [f32; 2],
}

impl Saved {
    fn slices(&self) -> [&[f32]; 4] {
        self.inputs.each_ref().map(slice)
    }
}

impl Backward<Flex, 3> for Normalise {
    type State = Saved;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(&grads.consume::<Flex>(&ops.node));
        let [x, scale, shift, statistics] = ops.state.slices();
        let channels = scale.len();
        let sizes = [x.len() / channels, channels];
        let [of_x, of_scale, of_shift] =
            norm::backward(x, scale, shift, statistics, ops.state.bounds, slice(&grad));
        let [x_node, scale_node, shift_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, made(of_x, &sizes));
        }
        if let Some(node) = scale_node {
            grads.register::<Flex>(node.id, made(of_scale, &[channels]));
        }
        if let Some(node) = shift_node {
            grads.register::<Flex>(node.id, made(of_shift, &[channels]));
        }
    }
}

fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor.clone() } else { tensor.to_contiguous() }
}

/// The values of a contiguous tensor.
fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor was made contiguous, and training is in f32")
}

fn made(values: Vec<f32>, sizes: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, sizes))
}
