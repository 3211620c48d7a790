//! Where a quantized model loses: layer by layer.

use std::path::PathBuf;

use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::{OnnxFile, Options, Picture, Session};

use super::bench::{Bench, Draft};
use super::judge::{self, Judge, Score};
use super::range::Chosen;
use super::{Event, QuantizeError};
use crate::parallel;
use crate::watch;

/// What a layer does to the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    /// Name of the layer.
    pub name: String,
    /// Ratio of its result's power to the error's, dB, all layers in front quantized as chosen; the
    /// result is taken behind the activation. `None` for the last layer.
    pub sqnr_db: Option<f64>,
    /// The network with this layer, and the operations up to the next, alone in integers.
    pub alone: Option<Score>,
}

/// SQNR of every layer's output.
pub(super) fn outputs(
    bench: &Bench<'_>,
    draft: &Draft,
    pictures: &[PathBuf],
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<Sensitivity>, QuantizeError> {
    on(Event::Start("comparing layers", pictures.len()));
    let layers = 0..bench.plan.layers.len();
    let value = |layer: usize| {
        let base = bench.result(layer);
        bench.plan.points.iter().find(|p| p.base == base).map(|p| p.value.as_str())
    };
    let values: Vec<Option<&str>> = layers.clone().map(value).collect();
    let watched: Vec<&str> = values.iter().flatten().copied().collect();
    let mut float = bench.model.clone();
    watch::expose(&mut float, watched.iter().map(|&v| v.to_owned()));
    let float = OnnxFile::from_proto(float)?;
    let own = bench.file(draft, &watched, &[])?;
    let options = Options { self_test: false, ..Options::default() };
    let parts = parallel::run(bench.threads, pictures.len(), |queue| {
        let (mut a, mut b) = (Session::new(float.clone(), &options)?, judge::session(&own)?);
        let mut of_a = Preprocessor::new(bench.preprocess, a.input_kind())?;
        let mut of_b = Preprocessor::new(bench.preprocess, b.input_kind())?;
        let (mut tensor_a, mut tensor_b) = (of_a.tensor(), of_b.tensor());
        let mut sums = Vec::new();
        for at in queue {
            if let Ok(picture) = Picture::read(&pictures[at]) {
                of_a.run(&picture, &mut tensor_a);
                of_b.run(&picture, &mut tensor_b);
                let (real, own) = (a.run_all(&tensor_a)?, b.run_all(&tensor_b)?);
                let pairs = real[1..].iter().zip(&own[1..]);
                sums.push((at, pairs.map(|(r, o)| powers(&r.1, &o.1)).collect::<Vec<_>>()));
            }
            on(Event::Done);
        }
        Ok::<_, QuantizeError>(sums)
    })?;
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    let mut sums = vec![(0.0, 0.0); watched.len()];
    for (sum, one) in all.iter().flat_map(|(_, one)| one.iter().enumerate()) {
        sums[sum].0 += one.0;
        sums[sum].1 += one.1;
    }
    let mut sums = sums.into_iter();
    let sensitivity = |layer: usize| {
        let sum = values[layer].and_then(|_| sums.next());
        let db =
            |(power, error): (f64, f64)| 10.0 * (power.max(1e-300) / error.max(1e-300)).log10();
        Sensitivity { name: bench.name(layer).to_owned(), sqnr_db: sum.map(db), alone: None }
    };
    Ok(layers.map(sensitivity).collect())
}

/// Power of the values, and of the error.
fn powers(real: &[f32], own: &[f32]) -> (f64, f64) {
    real.iter().zip(own).fold((0.0, 0.0), |(power, error), (&r, &o)| {
        let (r, o) = (f64::from(r), f64::from(o));
        (power + r * r, error + (r - o) * (r - o))
    })
}

/// The score of each layer alone in integers.
pub(super) fn alone(
    bench: &Bench<'_>,
    draft: &Draft,
    tuning: &Judge,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<Score>, QuantizeError> {
    let layers = bench.plan.layers.len();
    on(Event::Start("each layer alone in integers", layers));
    parallel::map(bench.threads, layers, |layer| {
        let point = |(at, chosen): (usize, &Chosen)| {
            let near = bench.around(at).is_none_or(|around| around.contains(&layer));
            near.then_some(chosen.quantization)
        };
        let points: Vec<_> = draft.points.iter().enumerate().map(point).collect();
        let codes = draft.layers.iter().enumerate();
        let codes: Vec<_> = codes.map(|(at, codes)| (at == layer).then_some(codes)).collect();
        let score = bench.journal.memo(&format!("layer {layer}"), || {
            let file = bench.written(&points, &codes, bench.features().as_slice(), &[])?;
            tuning.score_file(&file, usize::MAX)
        });
        on(Event::Done);
        score
    })
}
