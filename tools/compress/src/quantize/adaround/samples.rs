//! What layers read and are to give, at a few pixels of each picture.

use std::borrow::Cow;
use std::path::PathBuf;

use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::session::ShapedOutput;
use kinglet_engine::{OnnxFile, Options, Picture, Session};

use crate::graph::{int, ints};
use crate::parallel;
use crate::quantize::bench::{Bench, Draft};
use crate::quantize::{QuantizeError, calibrate, judge};
use crate::splitmix::SplitMix64;

/// Pixels of each picture.
const PIXELS: usize = 6;
/// Numbers that the samples of a group of layers hold, at most, unless it is one layer: 128 MiB.
const MOST: usize = 1 << 25;

/// Samples of one layer.
pub(super) struct Samples {
    /// Depthwise: `[channel][sample][tap]`; else `[sample][input]`.
    inputs: Vec<f32>,
    /// `[sample][channel]`.
    results: Vec<f32>,
    channels: usize,
    depthwise: bool,
}

impl Samples {
    /// The rows that an output channel's weights are multiplied with.
    pub(super) fn inputs(&self, channel: usize) -> &[f32] {
        if !self.depthwise {
            return &self.inputs;
        }
        let length = self.inputs.len() / self.channels.max(1);
        &self.inputs[channel * length..(channel + 1) * length]
    }

    /// What an output channel is to give.
    pub(super) fn results(&self, channel: usize) -> Cow<'_, [f32]> {
        Cow::Owned(
            self.results.iter().skip(channel).step_by(self.channels.max(1)).copied().collect(),
        )
    }
}

/// Layers, in their order, in groups whose samples fit in memory.
pub(super) fn groups(bench: &Bench<'_>, pictures: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut held = usize::MAX;
    for layer in 0..bench.plan.layers.len() {
        let Ok((weights, dims, _)) = bench.weights(layer) else { continue };
        let outputs = dims.first().copied().unwrap_or(1).max(1);
        let row = if bench.depthwise(layer) { weights.len() } else { weights.len() / outputs };
        let size = pictures * PIXELS * (row + outputs);
        match groups.last_mut() {
            Some(group) if held.saturating_add(size) <= MOST => {
                held += size;
                group.push(layer);
            }
            _ => {
                held = size;
                groups.push(vec![layer]);
            }
        }
    }
    groups
}

/// Runs both models over pictures: inputs are those of the quantized one.
pub(super) fn collect(
    bench: &Bench<'_>,
    draft: &Draft,
    layers: &[usize],
    pictures: &[PathBuf],
) -> Result<Vec<Samples>, QuantizeError> {
    let sources: Vec<&str> = layers
        .iter()
        .map(|&l| bench.plan.points[bench.plan.layers[l].input].value.as_str())
        .collect();
    let mut unique = sources.clone();
    unique.sort_unstable();
    unique.dedup();
    let own = bench.file(draft, &unique, &[])?;
    let mut float = bench.model.clone();
    let output = bench.graph().output.first().map_or("", |o| o.name.as_str());
    let results: Vec<&str> = layers.iter().map(|&l| bench.result(l)).collect();
    let watched = results.iter().filter(|r| **r != output).map(|&r| r.to_owned());
    calibrate::watch(&mut float, watched);
    let float = OnnxFile::from_proto(float)?;
    let options = Options { self_test: false, ..Options::default() };
    let parts = parallel::run(bench.threads, pictures.len(), |queue| {
        let (mut a, mut b) = (Session::new(float.clone(), &options)?, judge::session(&own)?);
        let mut of_a = Preprocessor::new(bench.preprocess, a.input_kind())?;
        let mut of_b = Preprocessor::new(bench.preprocess, b.input_kind())?;
        let (mut tensor_a, mut tensor_b) = (of_a.tensor(), of_b.tensor());
        let mut found = Vec::new();
        for at in queue {
            let Ok(picture) = Picture::read(&pictures[at]) else { continue };
            of_a.run(&picture, &mut tensor_a);
            of_b.run(&picture, &mut tensor_b);
            let (real, own) = (a.run_all(&tensor_a)?, b.run_all(&tensor_b)?);
            let mut inner = real[1..].iter();
            let mut rows = Vec::new();
            for (place, &layer) in layers.iter().enumerate() {
                let result = if results[place] == output { Some(&real[0]) } else { inner.next() };
                let source = unique.iter().position(|u| *u == sources[place]).unwrap_or(0);
                let random = SplitMix64::at(bench.options.seed, &[at as u64, layer as u64]);
                rows.push(result.map(|r| sample(bench, layer, &own[1 + source], r, random)));
            }
            found.push((at, rows));
        }
        Ok::<_, QuantizeError>(found)
    })?;
    let mut found: Vec<_> = parts.into_iter().flatten().collect();
    found.sort_by_key(|(at, _)| *at);
    Ok(join(bench, layers, found.into_iter().map(|(_, rows)| rows)))
}

/// Rows of inputs, one a pixel, and the results there.
type Rows = (Vec<Vec<f32>>, Vec<Vec<f32>>);

fn join(
    bench: &Bench<'_>,
    layers: &[usize],
    found: impl Iterator<Item = Vec<Option<Rows>>>,
) -> Vec<Samples> {
    let mut all: Vec<Rows> = layers.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for picture in found {
        for (own, more) in all.iter_mut().zip(picture) {
            let (inputs, results) = more.unwrap_or_default();
            own.0.extend(inputs);
            own.1.extend(results);
        }
    }
    let one = |(&layer, (inputs, results)): (&usize, Rows)| {
        let channels = results.first().map_or(0, Vec::len);
        let depthwise = bench.depthwise(layer);
        let inputs = if depthwise {
            let taps = inputs.first().map_or(0, Vec::len) / channels.max(1);
            let rows = |c: usize| inputs.iter().flat_map(move |r| &r[c * taps..(c + 1) * taps]);
            (0..channels).flat_map(rows).copied().collect()
        } else {
            inputs.concat()
        };
        Samples { inputs, results: results.concat(), channels, depthwise }
    };
    layers.iter().zip(all).map(one).collect()
}

/// A layer at a few pixels of one picture.
fn sample(
    bench: &Bench<'_>,
    layer: usize,
    (in_shape, input): &ShapedOutput,
    (out_shape, result): &ShapedOutput,
    mut random: SplitMix64,
) -> Rows {
    let node = &bench.graph().node[bench.plan.layers[layer].node];
    let (&[_, channels, height, width], &[_, outputs, out_height, out_width]) =
        (in_shape.as_slice(), out_shape.as_slice())
    else {
        return (vec![input.clone()], vec![result.clone()]);
    };
    let pair = |name: &str, none: i64| match ints(node, name) {
        Some(&[y, x, ..]) => [y, x],
        _ => [none, none],
    };
    let (stride, dilation) = (pair("strides", 1), pair("dilations", 1));
    let dims = bench.weights(layer).map(|(_, dims, _)| dims).unwrap_or_default();
    let kernel = [2, 3].map(|at| dims.get(at).copied().unwrap_or(1) as i64);
    let pads = padding(node, kernel, [height, width], [out_height, out_width], stride, dilation);
    let groups = int(node, "group").unwrap_or(1);
    let inner = if groups > 1 { outputs } else { channels };
    let (mut inputs, mut results) = (Vec::new(), Vec::new());
    for _ in 0..PIXELS.min(out_height * out_width) {
        let (y, x) = (random.below(out_height), random.below(out_width));
        let mut row = Vec::with_capacity(inner * (kernel[0] * kernel[1]) as usize);
        for c in 0..inner {
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let iy = y as i64 * stride[0] - pads[0] + ky * dilation[0];
                    let ix = x as i64 * stride[1] - pads[1] + kx * dilation[1];
                    let inside =
                        (0..height as i64).contains(&iy) && (0..width as i64).contains(&ix);
                    let at = (c * height + iy.max(0) as usize) * width + ix.max(0) as usize;
                    row.push(if inside { input[at] } else { 0.0 });
                }
            }
        }
        inputs.push(row);
        let of = |o: usize| result[(o * out_height + y) * out_width + x];
        results.push((0..outputs).map(of).collect());
    }
    (inputs, results)
}

/// Padding above and on the left.
fn padding(
    node: &kinglet_engine::onnx::NodeProto,
    kernel: [i64; 2],
    size: [usize; 2],
    out: [usize; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
) -> [i64; 2] {
    let auto = node.attribute.iter().find(|a| a.name == "auto_pad").map(|a| a.s.as_slice());
    match (auto, ints(node, "pads")) {
        (None | Some(b"NOTSET" | b""), Some(&[top, left, ..])) => [top, left],
        (Some(b"SAME_UPPER" | b"SAME_LOWER"), _) => [0, 1].map(|at| {
            let span = (out[at] as i64 - 1) * stride[at] + (kernel[at] - 1) * dilation[at] + 1;
            let all = (span - size[at] as i64).max(0);
            if auto == Some(b"SAME_LOWER") { (all + 1) / 2 } else { all / 2 }
        }),
        _ => [0, 0],
    }
}
