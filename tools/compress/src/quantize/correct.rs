//! Empirical bias correction (Nagel et al. 2019, section 4.2): what quantization adds to the mean
//! of a layer's results, measured on pictures, is taken out of its bias.

use super::bench::{Bench, Draft};
use super::judge::{self, Judge};
use super::{Event, QuantizeError};
use crate::parallel;
use crate::watch;
use kinglet_engine::preprocess::{InputTensor, Preprocessor};
use kinglet_engine::{OnnxFile, Options, Picture, Session};
use std::path::PathBuf;

/// Layers that are corrected at once; those behind them see the corrected ones. With more than one the
/// mean error that a layer hands on would be taken out twice.
const AT_ONCE: usize = 1;

/// Means of the results of all layers, a channel each, over pictures.
type Means = Vec<Vec<f64>>;

/// The draft with corrected biases.
pub(super) fn correct(
    bench: &Bench<'_>,
    draft: &Draft,
    pictures: &[PathBuf],
    tuning: &Judge,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Draft, QuantizeError> {
    let layers: Vec<usize> = (0..bench.plan.layers.len()).collect();
    on(Event::Start("correcting biases", layers.len().div_ceil(AT_ONCE)));
    let float = bench.journal.memo("means", || float_means(bench, &layers, pictures))?;
    let mut draft = draft.clone();
    for part in layers.chunks(AT_ONCE) {
        // The means of the model's own output are not known: nothing is quantized there.
        let wanted = |l: &usize| !draft.float.contains(l) && !float[*l].is_empty();
        let part: Vec<usize> = part.iter().copied().filter(wanted).collect();
        let names: Vec<&str> = part.iter().map(|&l| bench.result(l)).collect();
        let now = bench.journal.memo(&format!("means of {}", names.join(", ")), || {
            let file = bench.file(&draft, &[], &names)?;
            means(
                bench.threads,
                tuning.len(),
                names.len(),
                || judge::session(&file),
                |at| Ok(Some(tuning.tensor(at).clone())),
            )
        })?;
        for (&layer, now) in part.iter().zip(now) {
            let shift: Vec<f64> = float[layer].iter().zip(&now).map(|(f, n)| f - n).collect();
            draft.layers[layer].shift_bias(&shift);
        }
        on(Event::Done);
    }
    Ok(draft)
}

fn float_means(
    bench: &Bench<'_>,
    layers: &[usize],
    pictures: &[PathBuf],
) -> Result<Means, QuantizeError> {
    let mut model = bench.model.clone();
    let results = layers.iter().map(|&l| bench.result(l).to_owned());
    let output = bench.graph().output.first().map(|o| o.name.clone());
    // The last layer's result may be the output that is there already.
    let names: Vec<String> = results.collect();
    let known = names.iter().position(|n| Some(n) == output.as_ref());
    watch::expose(&mut model, names.iter().filter(|n| Some(*n) != output.as_ref()).cloned());
    let file = OnnxFile::from_proto(model)?;
    let options = Options { self_test: false, ..Options::default() };
    let session = || Ok(Session::new(file.clone(), &options)?);
    let kind = session()?.input_kind();
    let count = names.len() - usize::from(known.is_some());
    let mut all = means(bench.threads, pictures.len(), count, session, |at| {
        let Ok(picture) = Picture::read(&pictures[at]) else { return Ok(None) };
        let mut preprocessor = Preprocessor::new(bench.preprocess, kind)?;
        let mut tensor = preprocessor.tensor();
        preprocessor.run(&picture, &mut tensor);
        Ok(Some(tensor))
    })?;
    if let Some(at) = known {
        all.insert(at, Vec::new());
    }
    Ok(all)
}

/// Means of each channel of the `count` outputs behind the first, over pictures.
fn means(
    threads: usize,
    pictures: usize,
    count: usize,
    session: impl Fn() -> Result<Session, QuantizeError> + Sync,
    tensor: impl Fn(usize) -> Result<Option<InputTensor>, QuantizeError> + Sync,
) -> Result<Means, QuantizeError> {
    let parts = parallel::run(threads, pictures, |queue| {
        let mut session = session()?;
        let mut all = Vec::new();
        for at in queue {
            let Some(tensor) = tensor(at)? else { continue };
            let outputs = session.run_all(&tensor)?;
            let skip = outputs.len() - count;
            all.push((at, outputs[skip..].iter().map(channel_means).collect::<Means>()));
        }
        Ok::<_, QuantizeError>(all)
    })?;
    let mut all: Vec<(usize, Means)> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    let n = all.len().max(1) as f64;
    let mut sums: Means = vec![Vec::new(); count];
    for (_, means) in all {
        for (sum, mean) in sums.iter_mut().zip(means) {
            sum.resize(mean.len(), 0.0);
            sum.iter_mut().zip(mean).for_each(|(s, m)| *s += m / n);
        }
    }
    Ok(sums)
}

/// Mean of each channel of a (1, channels, …) tensor.
fn channel_means((shape, values): &kinglet_engine::session::ShapedOutput) -> Vec<f64> {
    let channels = shape.get(1).copied().unwrap_or(1).max(1);
    let pixels = (values.len() / channels).max(1);
    let mean = |plane: &[f32]| plane.iter().map(|&v| f64::from(v)).sum::<f64>() / pixels as f64;
    values.chunks(pixels).map(mean).collect()
}
