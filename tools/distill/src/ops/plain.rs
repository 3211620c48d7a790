//! The operators written with burn's own: for its GPU backends, and what the others must compute.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::{Depthwise, EPSILON, Grid};

/// As [`super::depthwise`].
#[must_use]
pub fn depthwise(x: Tensor<4>, weights: Tensor<2>, shape: Depthwise) -> Tensor<4> {
    let Depthwise { channels, kernel, stride, before, height, width, .. } = shape;
    let after = |size: usize, outputs: usize| {
        ((outputs - 1) * stride + kernel).saturating_sub(size + before)
    };
    let (below, right) = (after(height, shape.out_height), after(width, shape.out_width));
    let x = x.permute([0, 3, 1, 2]).pad((before, right, before, below), 0.0);
    let weights = weights.transpose().reshape([channels, 1, kernel, kernel]);
    let options = ConvOptions::new([stride; 2], [0; 2], [1; 2], channels);
    let sizes = [0..shape.batch, 0..channels, 0..shape.out_height, 0..shape.out_width];
    conv2d(x, weights, None, options).slice(sizes).permute([0, 2, 3, 1])
}

/// As [`super::statistics`].
#[must_use]
pub fn statistics(x: Tensor<2>) -> Tensor<2> {
    let mean = x.clone().mean_dim(0);
    let variance = (x - mean.clone()).square().mean_dim(0);
    Tensor::cat(vec![mean, variance], 0)
}

/// As [`super::normalise`].
#[must_use]
pub fn normalise(x: Tensor<2>, scale: Tensor<1>, shift: Tensor<1>, bounds: [f32; 2]) -> Tensor<2> {
    let mean = x.clone().mean_dim(0);
    let centred = x - mean;
    let variance = centred.clone().square().mean_dim(0);
    let gain = scale.unsqueeze::<2>() / (variance + EPSILON).sqrt();
    (centred * gain + shift.unsqueeze::<2>()).clamp(bounds[0], bounds[1])
}

/// As [`super::range`].
#[must_use]
pub fn range<const D: usize>(x: Tensor<D>) -> [f32; 2] {
    [x.clone().min().into_scalar(), x.max().into_scalar()]
}

/// As [`super::on_grid`].
#[must_use]
pub fn on_grid<const D: usize>(x: Tensor<D>, grid: Grid) -> Tensor<D> {
    let x = x.clamp(grid.low, grid.high);
    let plain = x.clone().inner();
    let rounded = (plain.clone() / grid.step).round() * grid.step;
    x + (rounded - plain)
}
