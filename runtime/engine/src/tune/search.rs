//! The search: the same model planned in every way, run in turns, compared layer by layer.

use std::collections::BTreeMap;
use std::time::Instant;

use kinglet_kernels::conv::Form;

use super::Chosen;
use crate::choices::{Choice, Choices};
use crate::error::ModelError;
use crate::preprocess::InputTensor;
use crate::report::{Layer, Report};
use crate::session::Session;

/// What a choice must win of the usual one's time at least; more where times are noisier ([`noise`]).
const MARGIN: f64 = 0.02;
/// Layers that take less, us, say nothing of the noise of those that matter.
const MIN_GAUGE: f64 = 10.0;
/// Runs of one way after another: the first finds caches that hold another one's weights.
const IN_A_ROW: usize = 2;

/// Least times, µs, of the even rounds and of the odd ones: what wins must win in both.
type Least = [f64; 2];

fn sum(times: &[Least]) -> Least {
    [0, 1].map(|half| times.iter().map(|time| time[half]).sum())
}

/// The share of the usual time that another one wins, if it is more than noise.
fn won(usual: Least, other: Least, margin: f64) -> Option<f64> {
    let share = |half: usize| 1.0 - other[half] / usual[half];
    let least = share(0).min(share(1));
    (least > margin).then_some(least)
}

/// How much times of the same kernel on the same layer differ between ways, as a share: nine of ten
/// layers differ less. Where this is large, something else is running.
fn noise(ways: &[Way]) -> f64 {
    let mut shares = Vec::new();
    for (at, a) in ways.iter().enumerate() {
        for b in ways[at + 1..].iter().filter(|b| b.fused == a.fused) {
            let layers = a.report.layers.iter().zip(&b.report.layers);
            let times = layers.zip(a.least.iter().zip(&b.least));
            let same = times.filter(|((x, y), _)| x.name == y.name && x.kernel == y.kernel);
            let long = same.filter(|(_, (x, _))| x[0] > MIN_GAUGE);
            shares.extend(long.map(|(_, (x, y))| {
                [0, 1].map(|half| (1.0 - x[half] / y[half]).abs()).into_iter().fold(1.0, f64::min)
            }));
        }
    }
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() * 9 / 10).copied().unwrap_or(0.0)
}

/// A model planned one way.
struct Way {
    fused: bool,
    form: Form,
    session: Session,
    report: Report,
    /// By layer.
    least: Vec<Least>,
}

impl Way {
    fn run(&mut self, input: &InputTensor, half: usize) -> Result<(), ModelError> {
        for _ in 0..IN_A_ROW {
            let report = self.session.profile(input)?;
            for (least, layer) in self.least.iter_mut().zip(&report.layers) {
                let us = layer.time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
                least[half] = least[half].min(us);
            }
        }
        Ok(())
    }

    fn kernel(&self, name: &str) -> Option<&str> {
        self.report.layers.iter().find(|layer| layer.name == name).map(|l| l.kernel.as_str())
    }

    fn time(&self, name: &str) -> Option<Least> {
        let at = self.report.layers.iter().position(|layer| layer.name == name)?;
        Some(self.least[at])
    }
}

/// Plans the model in every way there is, by `load`, times `rounds` rounds of all of them in turns,
/// and says what to choose. `progress` hears of rounds done, and of all.
///
/// # Errors
/// As [`Session::load`] and [`Session::run`]; [`ModelError::Unsuitable`] if two ways give different
/// outputs, which would be a fault of a kernel.
pub fn search(
    load: impl Fn(&Choices) -> Result<Session, ModelError>,
    rounds: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Chosen, ModelError> {
    let mut usual = load(&Choices::default())?;
    let (input, usual_report) = (usual.sample_input(), usual.report());
    let expected = usual.run(&input)?;
    let mut ways: Vec<Way> = Vec::new();
    let forms = kinglet_kernels::Isa::available().into_iter();
    let isa = forms.into_iter().find(|isa| isa.name() == usual_report.isa);
    let forms = isa.map_or(&[Form::Usual][..], Form::of);
    for (fused, form) in
        [true, false].into_iter().flat_map(|fused| forms.iter().map(move |&form| (fused, form)))
    {
        let choice = Choice { fused: Some(fused), form: Some(form) };
        let mut session = load(&Choices::everywhere(choice))?;
        let report = session.report();
        if ways.iter().any(|way| way.report == report) {
            continue;
        }
        if session.run(&input)?.iter().map(|v| v.to_bits()).ne(expected.iter().map(|v| v.to_bits()))
        {
            let why =
                format!("kernels of form '{}' give other outputs than the usual ones", form.name());
            return Err(ModelError::Unsuitable { why });
        }
        let least = vec![[f64::INFINITY; 2]; report.layers.len()];
        ways.push(Way { fused, form, session, report, least });
    }
    let all = 2 * rounds;
    for round in 0..rounds {
        for way in &mut ways {
            way.run(&input, round % 2)?;
        }
        progress(round + 1, all);
    }
    let margin = MARGIN.max(noise(&ways));
    let layers = choose(&ways, &usual_report, margin);
    let mut chosen = Chosen { layers, margin, times_ms: [f64::INFINITY; 2] };
    drop(ways);
    let mut tuned = load(&chosen.choices())?;
    let mut outputs = Vec::new();
    for round in 0..rounds {
        for (session, least) in [&mut usual, &mut tuned].into_iter().zip(&mut chosen.times_ms) {
            for _ in 0..2 * IN_A_ROW {
                let start = Instant::now();
                session.run_into(&input, &mut outputs)?;
                *least = least.min(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        progress(rounds + round + 1, all);
    }
    Ok(chosen)
}

/// What each layer's times say.
fn choose(ways: &[Way], usual: &Report, margin: f64) -> BTreeMap<String, (Choice, f64)> {
    let mut chosen = BTreeMap::new();
    let is_fused = |name: &str| usual.layers.iter().any(|l| l.fused.iter().any(|f| f == name));
    // Layers that a pair may stand for, or that read one.
    let mut of_pairs = Vec::new();
    for pair in pairs(ways) {
        let [expand, depthwise] = &pair.layer.fused[..] else { continue };
        let reader = pair.reader.map(|layer| layer.name.as_str());
        let fused = {
            let reader = reader.and_then(|name| best_form(ways, Some(true), name, margin));
            let own = least(ways, Some(true), |_| true, &pair.layer.name);
            (own, reader)
        };
        let apart = {
            let layers = [Some(expand.as_str()), reader];
            let [expand, reader] =
                layers.map(|name| name.and_then(|name| best_form(ways, Some(false), name, margin)));
            let depthwise = least(ways, Some(false), |_| true, depthwise);
            (expand, depthwise, reader)
        };
        of_pairs.extend([expand.as_str()].into_iter().chain(reader));
        let (Some(own), (Some(first), Some(second), _)) = (fused.0, apart) else { continue };
        let time = |best: Option<Best>| best.map_or([0.0; 2], |best| best.time);
        let together = sum(&[own, time(fused.1)]);
        let separate = sum(&[first.time, second, time(apart.2)]);
        let fuses = is_fused(expand);
        let gain =
            if fuses { won(together, separate, margin) } else { won(separate, together, margin) };
        let now_fused = fuses != gain.is_some();
        let form = (!now_fused).then_some(first).filter(|best| best.form != Form::Usual);
        if gain.is_some() || form.is_some() {
            let fused = gain.map(|_| now_fused);
            let choice = Choice { fused, form: form.map(|best| best.form) };
            let won = gain.or(form.map(|best| best.won)).unwrap_or_default();
            chosen.insert(expand.clone(), (choice, won));
        }
        let reader_form = if now_fused { fused.1 } else { apart.2 };
        if let (Some(name), Some(best)) = (reader, reader_form)
            && best.form != Form::Usual
        {
            let choice = Choice { fused: None, form: Some(best.form) };
            chosen.insert(name.to_owned(), (choice, best.won));
        }
    }
    for layer in usual.layers.iter().filter(|layer| layer.fused.is_empty()) {
        if of_pairs.contains(&layer.name.as_str()) {
            continue;
        }
        if let Some(best) = best_form(ways, None, &layer.name, margin)
            && best.form != Form::Usual
        {
            let choice = Choice { fused: None, form: Some(best.form) };
            chosen.insert(layer.name.clone(), (choice, best.won));
        }
    }
    chosen
}

/// A pair, and the layer that follows it: what reads it.
struct Pair<'a> {
    layer: &'a Layer,
    reader: Option<&'a Layer>,
}

/// All pairs that a kernel can run.
fn pairs(ways: &[Way]) -> Vec<Pair<'_>> {
    let Some(way) = ways.iter().find(|way| way.fused) else { return Vec::new() };
    let layers = &way.report.layers;
    let pair = |(at, layer)| Pair { layer, reader: layers.get(at + 1) };
    layers.iter().enumerate().filter(|(_, layer)| !layer.fused.is_empty()).map(pair).collect()
}

/// The least times of a layer in some ways.
fn least(
    ways: &[Way],
    fused: Option<bool>,
    form: impl Fn(Form) -> bool,
    name: &str,
) -> Option<Least> {
    let ways = ways.iter().filter(|way| fused.is_none_or(|fused| way.fused == fused));
    let times = ways.filter(|way| form(way.form)).filter_map(|way| way.time(name));
    times.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1])])
}

/// The fastest form of a layer, and what it wins over the usual one.
#[derive(Clone, Copy)]
struct Best {
    form: Form,
    time: Least,
    won: f64,
}

fn best_form(ways: &[Way], fused: Option<bool>, name: &str, margin: f64) -> Option<Best> {
    let usual = least(ways, fused, |form| form == Form::Usual, name)?;
    let mut best = Best { form: Form::Usual, time: usual, won: 0.0 };
    let kernel = |form| {
        let in_way = |way: &&Way| way.form == form && fused.is_none_or(|f| way.fused == f);
        ways.iter().find(in_way).and_then(|way| way.kernel(name))
    };
    for form in ways.iter().map(|way| way.form) {
        // The same kernel once more: what it seems to win is noise.
        if kernel(form) == kernel(Form::Usual) {
            continue;
        }
        if let Some(time) = least(ways, fused, |other| other == form, name)
            && let Some(won) = won(usual, time, margin)
            && won > best.won
        {
            best = Best { form, time, won };
        }
    }
    Some(best)
}
