//! The search: the same model planned in every way, run in turns, compared layer by layer.

use std::collections::BTreeMap;
use std::time::Instant;

use kinglet_kernels::Isa;
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
    report: Report,
    /// By layer.
    least: Vec<Least>,
}

impl Way {
    fn run(
        &mut self,
        session: &mut Session,
        input: &InputTensor,
        half: usize,
    ) -> Result<(), ModelError> {
        for _ in 0..IN_A_ROW {
            let report = session.profile(input)?;
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
    let (mut ways, mut sessions): (Vec<Way>, Vec<Session>) = Default::default();
    let isa = Isa::available().into_iter().find(|isa| isa.name() == usual_report.isa);
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
        ways.push(Way { fused, form, report, least });
        sessions.push(session);
    }
    let all = 2 * rounds;
    for round in 0..rounds {
        for (way, session) in ways.iter_mut().zip(&mut sessions) {
            way.run(session, &input, round % 2)?;
        }
        progress(round + 1, all);
    }
    let margin = MARGIN.max(noise(&ways));
    let layers = choose(&ways, &usual_report, margin);
    let mut chosen = Chosen { layers, margin, times_ms: [f64::INFINITY; 2] };
    drop(sessions);
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

/// What each line's times say. A line that runs an expansion and a depthwise layer as one stands for
/// several where they run apart.
fn choose(ways: &[Way], usual: &Report, margin: f64) -> BTreeMap<String, (Choice, f64)> {
    let mut chosen = BTreeMap::new();
    let mut choose = |line: &Layer, fused: Option<bool>, gain: Option<f64>, best: Best| {
        let form = (best.form != Form::Usual).then_some(best.form);
        if fused.is_some() || form.is_some() {
            let choice = Choice { fused, form };
            let won = gain.filter(|_| fused.is_some()).unwrap_or(best.won);
            chosen.insert(names(line)[0].to_owned(), (choice, won));
        }
    };
    let lines = |fused| {
        let way = ways.iter().find(|way| way.fused == fused);
        way.map_or(&[][..], |way| way.report.layers.as_slice())
    };
    for line in lines(true) {
        let own = names(line);
        let within = |part: &&Layer| names(part).iter().all(|name| own.contains(name));
        let parts: Vec<&Layer> = lines(false).iter().filter(within).collect();
        if parts.len() < 2 {
            if let Some(best) = best_form(ways, None, &line.name, margin) {
                choose(line, None, None, best);
            }
            continue;
        }
        let Some(whole) = best_form(ways, Some(true), &line.name, margin) else { continue };
        let apart = parts.iter().map(|part| best_form(ways, Some(false), &part.name, margin));
        let Some(apart) = apart.collect::<Option<Vec<Best>>>() else { continue };
        let separate = sum(&apart.iter().map(|best| best.time).collect::<Vec<_>>());
        let fuses = usual.layers.iter().any(|layer| names(layer) == own);
        let gain = match fuses {
            true => won(whole.time, separate, margin),
            false => won(separate, whole.time, margin),
        };
        let now_fused = fuses != gain.is_some();
        let change = gain.map(|_| now_fused);
        if now_fused {
            choose(line, change, gain, whole);
        } else {
            for (at, (part, best)) in parts.iter().zip(apart).enumerate() {
                choose(part, change.filter(|_| at == 0), gain, best);
            }
        }
    }
    chosen
}

/// The model's nodes that a line runs.
fn names(line: &Layer) -> Vec<&str> {
    match line.fused.is_empty() {
        true => vec![&line.name],
        false => line.fused.iter().map(String::as_str).collect(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as name, kernel, and times of the even and the odd rounds; `a+b` runs two layers.
    fn way(fused: bool, form: Form, layers: &[(&str, &str, Least)]) -> Way {
        let layer = |&(name, kernel, _): &(&str, &str, Least)| Layer {
            name: name.into(),
            fused: name.split('+').filter(|part| *part != name).map(str::to_owned).collect(),
            operation: "pointwise".into(),
            data_type: "int8",
            kernel: kernel.into(),
            shape: Vec::new(),
            codes: None,
            macs: 0,
            time: None,
        };
        let report = Report {
            isa: "avx2",
            threads: 1,
            stored: "f32",
            layers: layers.iter().map(layer).collect(),
            float_convs: Vec::new(),
            tract_convs: Vec::new(),
            arena_bytes: 0,
        };
        Way { fused, form, report, least: layers.iter().map(|layer| layer.2).collect() }
    }

    fn fused(block: Least) -> Way {
        way(true, Form::Usual, &[("e+d+p", "k", block), ("f", "k", [9.0; 2])])
    }

    fn apart(expand: Least, rest: Least) -> Way {
        way(false, Form::Usual, &[("e", "k", expand), ("d+p", "k", rest), ("f", "k", [9.0; 2])])
    }

    #[test]
    fn a_block_is_judged_with_all_that_it_stands_for() {
        let two = || apart([30.0; 2], [60.0; 2]);
        let ways = [fused([98.0; 2]), two()];
        let chosen = choose(&ways, &ways[0].report, 0.02);
        let expected = Choice { fused: Some(false), form: None };
        assert_eq!(chosen.keys().collect::<Vec<_>>(), ["e"]);
        assert_eq!(chosen["e"].0, expected);
        assert!(choose(&ways, &ways[1].report, 0.02).is_empty(), "they run apart already");
        let ways = [fused([80.0; 2]), two()];
        assert!(choose(&ways, &ways[0].report, 0.02).is_empty());
        let chosen = choose(&ways, &ways[1].report, 0.02);
        assert_eq!(chosen["e"].0, Choice { fused: Some(true), form: None });
        assert!((chosen["e"].1 - 10.0 / 90.0).abs() < 1e-9);
        assert!(choose(&ways, &ways[1].report, 0.12).is_empty(), "noise");
    }

    #[test]
    fn parts_have_forms_of_their_own() {
        let wide = way(
            false,
            Form::Wide,
            &[("e", "wide", [30.0; 2]), ("d+p", "wide", [40.0; 2]), ("f", "k", [9.0; 2])],
        );
        let ways = [fused([80.0; 2]), apart([30.0; 2], [60.0; 2]), wide];
        let chosen = choose(&ways, &ways[0].report, 0.02);
        assert_eq!(chosen.keys().collect::<Vec<_>>(), ["d", "e"]);
        assert_eq!(chosen["e"].0, Choice { fused: Some(false), form: None });
        assert_eq!(chosen["d"].0, Choice { fused: None, form: Some(Form::Wide) });
    }

    #[test]
    fn what_wins_must_win_in_both_halves() {
        let ways = [fused([80.0, 90.5]), apart([30.0; 2], [60.0; 2])];
        assert!(choose(&ways, &ways[1].report, 0.02).is_empty());
    }

    #[test]
    fn forms_win_only_as_another_kernel_and_the_same_kernel_is_noise() {
        let usual = || way(true, Form::Usual, &[("a", "k", [100.0; 2]), ("b", "k", [100.0; 2])]);
        let other = way(true, Form::Bytes, &[("a", "other", [80.0; 2]), ("b", "k", [90.0; 2])]);
        let ways = [usual(), other];
        let chosen = choose(&ways, &ways[0].report, 0.02);
        assert_eq!(chosen.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(chosen["a"].0, Choice { fused: None, form: Some(Form::Bytes) });
        assert!((noise(&ways) - 1.0 / 9.0).abs() < 1e-9, "{}", noise(&ways));
    }
}
