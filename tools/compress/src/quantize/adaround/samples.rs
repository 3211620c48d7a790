//! What layers read at a few pixels of each picture, the layers in front quantized.

use std::path::PathBuf;

use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::session::ShapedOutput;
use kinglet_engine::{OnnxFile, Picture};

use crate::graph::{self, Index, ints};
use crate::inspect;
use crate::parallel;
use crate::quantize::bench::{Bench, Draft};
use crate::quantize::{QuantizeError, judge};
use crate::splitmix::SplitMix64;

/// Samples of each layer, about; from each picture at least [`FEWEST`] pixels.
const SAMPLES: usize = 1024;
/// Pixels of each picture, at least.
const FEWEST: usize = 6;
/// Numbers that the samples of a group of layers hold, at most, unless it is one layer: 128 MiB.
const MOST: usize = 1 << 25;

/// Samples of one layer.
pub(super) struct Samples {
    /// Depthwise: `[channel][sample][tap]`; else `[sample][input]`.
    inputs: Vec<f32>,
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
}

/// Pixels of each picture.
fn pixels(pictures: usize) -> usize {
    (SAMPLES / pictures.max(1)).max(FEWEST)
}

/// Layers, in their order, in groups whose samples fit in memory.
pub(super) fn groups(bench: &Bench<'_>, pictures: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut held = usize::MAX;
    for layer in 0..bench.plan.layers.len() {
        let Ok((weights, dims, _)) = bench.weights(layer) else { continue };
        let outputs = dims.first().copied().unwrap_or(1).max(1);
        let row = if bench.depthwise(layer) { weights.len() } else { weights.len() / outputs };
        let size = pictures * pixels(pictures) * row;
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

/// Runs the quantized network over pictures.
pub(super) fn collect(
    bench: &Bench<'_>,
    draft: &Draft,
    layers: &[usize],
    pictures: &[PathBuf],
) -> Result<Vec<Samples>, QuantizeError> {
    let source = |&layer: &usize| bench.plan.points[bench.plan.layers[layer].input].value.as_str();
    let mut sources: Vec<&str> = layers.iter().map(source).collect();
    sources.sort_unstable();
    sources.dedup();
    let results: Vec<&str> = layers.iter().map(|&layer| bench.result(layer)).collect();
    let file = bench.file(draft, &sources, &[])?;
    let geometry = geometry(bench, &results)?;
    let pixels = pixels(pictures.len());
    let parts = parallel::run(bench.threads, pictures.len(), |queue| {
        let mut session = judge::session(&file)?;
        let mut preprocessor = Preprocessor::new(bench.preprocess, session.input_kind())?;
        let mut tensor = preprocessor.tensor();
        let mut found = Vec::new();
        for at in queue {
            let Ok(picture) = Picture::read(&pictures[at]) else { continue };
            preprocessor.run(&picture, &mut tensor);
            let outputs = session.run_all(&tensor)?;
            let rows = layers.iter().zip(&geometry).map(|(layer, out)| {
                let place = sources.iter().position(|s| *s == source(layer)).unwrap_or(0);
                let random = SplitMix64::at(bench.options.seed, &[at as u64, *layer as u64]);
                sample(bench, (*layer, pixels), &outputs[1 + place], *out, random)
            });
            found.push((at, rows.collect::<Vec<_>>()));
        }
        Ok::<_, QuantizeError>(found)
    })?;
    let mut found: Vec<_> = parts.into_iter().flatten().collect();
    found.sort_by_key(|(at, _)| *at);
    Ok(join(bench, layers, found.into_iter().map(|(_, rows)| rows)))
}

/// Rows of inputs, one a pixel.
type Rows = Vec<Vec<f32>>;

/// Height and width of layers' results; 1 where they have no pixels.
fn geometry(bench: &Bench<'_>, results: &[&str]) -> Result<Vec<[usize; 2]>, QuantizeError> {
    let file = OnnxFile::from_proto(bench.model.clone())?;
    let layers = inspect::inspect(&file)?.layers;
    let index = Index::new(bench.graph());
    let of = |result: &&str| {
        let node = index.producer(result).map(|at| graph::name(&bench.graph().node[at]));
        let layer = layers.iter().find(|l| Some(l.name.as_str()) == node);
        let shape = layer.and_then(|l| l.output.clone()).unwrap_or_default();
        let side = |at: usize| shape.get(at).copied().unwrap_or(1);
        [side(2), side(3)]
    };
    Ok(results.iter().map(of).collect())
}

fn join(
    bench: &Bench<'_>,
    layers: &[usize],
    found: impl Iterator<Item = Vec<Rows>>,
) -> Vec<Samples> {
    let mut all: Vec<Rows> = layers.iter().map(|_| Vec::new()).collect();
    for picture in found {
        all.iter_mut().zip(picture).for_each(|(own, more)| own.extend(more));
    }
    let one = |(&layer, rows): (&usize, Rows)| {
        let depthwise = bench.depthwise(layer);
        let (_, dims, bias) = bench.weights(layer).unwrap_or_default();
        let (channels, taps) = (bias.len(), dims.iter().skip(2).product::<usize>());
        let inputs = if depthwise {
            let of = |c: usize| rows.iter().flat_map(move |r| &r[c * taps..(c + 1) * taps]);
            (0..channels).flat_map(of).copied().collect()
        } else {
            rows.concat()
        };
        Samples { inputs, channels, depthwise }
    };
    layers.iter().zip(all).map(one).collect()
}

/// What a layer reads for a few pixels of one picture's result.
fn sample(
    bench: &Bench<'_>,
    (layer, pixels): (usize, usize),
    (shape, input): &ShapedOutput,
    [out_height, out_width]: [usize; 2],
    mut random: SplitMix64,
) -> Rows {
    let node = &bench.graph().node[bench.plan.layers[layer].node];
    let &[_, channels, height, width] = shape.as_slice() else { return vec![input.clone()] };
    let pair = |name: &str, none: i64| match ints(node, name) {
        Some(&[y, x, ..]) => [y, x],
        _ => [none, none],
    };
    let (stride, dilation) = (pair("strides", 1), pair("dilations", 1));
    let dims = bench.weights(layer).map(|(_, dims, _)| dims).unwrap_or_default();
    let kernel = [2, 3].map(|at| dims.get(at).copied().unwrap_or(1) as i64);
    let out = [out_height, out_width];
    let pads = padding(node, kernel, [height, width], out, stride, dilation);
    let pixel = |y: usize, x: usize| {
        let mut row = Vec::with_capacity(channels * (kernel[0] * kernel[1]) as usize);
        for c in 0..channels {
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
        row
    };
    let mut place = || (random.below(out_height), random.below(out_width));
    let places: Vec<_> = (0..pixels.min(out_height * out_width)).map(|_| place()).collect();
    places.into_iter().map(|(y, x)| pixel(y, x)).collect()
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
