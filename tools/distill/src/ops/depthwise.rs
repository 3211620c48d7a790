//! Depthwise convolution, NHWC, with its two gradients, on slices.
//!
//! burn's own gradient of the weights runs one convolution a channel, and its layout is NCHW. Here
//! vectors run over channels.

use rayon::prelude::*;

use super::vectorised::vectorised;

/// Channels that are summed in registers at once.
const LANES: usize = 16;

/// Sizes of a depthwise convolution. The input is [batch, height, width, channels], the weights
/// [kernel * kernel, channels], the output [batch, out_height, out_width, channels].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depthwise {
    /// Pictures.
    pub batch: usize,
    /// Height of the input, pixels.
    pub height: usize,
    /// Width of the input, pixels.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Rows of zeros above and columns of zeros to the left.
    pub before: usize,
    /// Height of the output, pixels.
    pub out_height: usize,
    /// Width of the output, pixels.
    pub out_width: usize,
}

/// One direction of a convolution: which tap of the kernel joins an output and an input.
#[derive(Clone, Copy)]
struct Axis {
    inputs: usize,
    outputs: usize,
    stride: usize,
    before: usize,
}

impl Axis {
    /// The input under a tap at an output.
    fn input(self, output: usize, tap: usize) -> Option<usize> {
        (output * self.stride + tap).checked_sub(self.before).filter(|&i| i < self.inputs)
    }

    /// The output that a tap joins with an input.
    fn output(self, input: usize, tap: usize) -> Option<usize> {
        let at = (input + self.before).checked_sub(tap)?;
        (at.is_multiple_of(self.stride)).then_some(at / self.stride).filter(|&o| o < self.outputs)
    }
}

impl Depthwise {
    fn rows(&self) -> Axis {
        let &Self { height: inputs, out_height: outputs, stride, before, .. } = self;
        Axis { inputs, outputs, stride, before }
    }

    fn columns(&self) -> Axis {
        Axis { inputs: self.width, outputs: self.out_width, ..self.rows() }
    }

    /// Values of the input.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Values of the output.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.channels
    }

    /// The convolution.
    pub(super) fn forward(&self, x: &[f32], weights: &[f32]) -> Vec<f32> {
        let (rows, columns) = (self.rows(), self.columns());
        let to = (rows.outputs, columns.outputs);
        gather(self, self.outputs(), to, x, weights, |n, y, x, ky, kx| {
            let (row, column) = (rows.input(y, ky)?, columns.input(x, kx)?);
            Some((n * self.height + row) * self.width + column)
        })
    }

    /// The gradient of the input from that of the output.
    pub(super) fn backward_input(&self, grad: &[f32], weights: &[f32]) -> Vec<f32> {
        let (rows, columns) = (self.rows(), self.columns());
        let to = (rows.inputs, columns.inputs);
        gather(self, self.inputs(), to, grad, weights, |n, y, x, ky, kx| {
            let (row, column) = (rows.output(y, ky)?, columns.output(x, kx)?);
            Some((n * self.out_height + row) * self.out_width + column)
        })
    }

    /// The gradient of the weights: a sum for each picture, then their sum in order, so that it
    /// does not depend on the threads.
    pub(super) fn backward_weights(&self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let taps = self.kernel * self.kernel * self.channels;
        let of_picture = |n: usize| {
            let mut sums = vec![0.0; taps];
            weights_of_picture(self, n, x, grad, &mut sums);
            sums
        };
        let parts: Vec<Vec<f32>> = (0..self.batch).into_par_iter().map(of_picture).collect();
        let mut total = vec![0.0; taps];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
        total
    }
}

vectorised! {
    /// Adds the gradient of the weights from one picture.
    fn weights_of_picture(
        shape: &'a Depthwise,
        n: usize,
        x: &'a [f32],
        grad: &'a [f32],
        sums: &'a mut [f32],
    ) {
        let (c, kernel) = (shape.channels, shape.kernel);
        let (rows, columns) = (shape.rows(), shape.columns());
        for oy in 0..shape.out_height {
            for ky in 0..kernel {
                let Some(iy) = rows.input(oy, ky) else { continue };
                let x_row = &x[(n * shape.height + iy) * shape.width * c..][..shape.width * c];
                let g_row = (n * shape.out_height + oy) * shape.out_width * c;
                let g_row = &grad[g_row..][..shape.out_width * c];
                for kx in 0..kernel {
                    let sums = &mut sums[(ky * kernel + kx) * c..][..c];
                    for first in (0..c).step_by(LANES) {
                        let lanes = LANES.min(c - first);
                        let mut total = [0.0_f32; LANES];
                        for ox in 0..shape.out_width {
                            let Some(ix) = columns.input(ox, kx) else { continue };
                            let a = &x_row[ix * c + first..][..lanes];
                            let b = &g_row[ox * c + first..][..lanes];
                            add_products(&mut total, a, b);
                        }
                        for lane in 0..lanes {
                            sums[first + lane] += total[lane];
                        }
                    }
                }
            }
        }
    }
}

/// Sums over the taps for each of `size` values in rows and columns of `to`: `from` gives the pixel
/// that a tap reads, if there is one.
fn gather(
    shape: &Depthwise,
    size: usize,
    to: (usize, usize),
    source: &[f32],
    weights: &[f32],
    from: impl Fn(usize, usize, usize, usize, usize) -> Option<usize> + Sync,
) -> Vec<f32> {
    let (height, width) = to;
    let (c, kernel) = (shape.channels, shape.kernel);
    let mut target = vec![0.0; size];
    target.par_chunks_mut(width * c).enumerate().for_each(|(row, out)| {
        let (n, y) = (row / height, row % height);
        let mut taps = Vec::with_capacity(width * kernel * kernel);
        let mut ends = Vec::with_capacity(width);
        for x in 0..width {
            for tap in 0..kernel * kernel {
                if let Some(at) = from(n, y, x, tap / kernel, tap % kernel) {
                    taps.push((at * c, tap * c));
                }
            }
            ends.push(taps.len());
        }
        sum_row(c, &taps, &ends, source, weights, out);
    });
    target
}

vectorised! {
    /// A row of sums: those of a pixel's taps end where `ends` says. A tap is where it reads the
    /// source and where the weights.
    fn sum_row(
        c: usize,
        taps: &'a [(usize, usize)],
        ends: &'a [usize],
        source: &'a [f32],
        weights: &'a [f32],
        out: &'a mut [f32],
    ) {
        let mut begin = 0;
        for (pixel, &end) in out.chunks_mut(c).zip(ends) {
            let taps = &taps[begin..end];
            begin = end;
            for first in (0..c).step_by(LANES) {
                let lanes = LANES.min(c - first);
                let mut total = [0.0_f32; LANES];
                for &(at, tap) in taps {
                    let a = &source[at + first..][..lanes];
                    let w = &weights[tap + first..][..lanes];
                    add_products(&mut total, a, w);
                }
                pixel[first..first + lanes].copy_from_slice(&total[..lanes]);
            }
        }
    }
}

/// Adds products of up to [`LANES`] channels.
#[inline(always)]
fn add_products(total: &mut [f32; LANES], a: &[f32], b: &[f32]) {
    if let (Some((a, [])), Some((b, []))) = (a.split_first_chunk(), b.split_first_chunk()) {
        let (a, b): (&[f32; LANES], &[f32; LANES]) = (a, b);
        for lane in 0..LANES {
            total[lane] += a[lane] * b[lane];
        }
    } else {
        for (total, (a, b)) in total.iter_mut().zip(a.iter().zip(b)) {
            *total += a * b;
        }
    }
}
