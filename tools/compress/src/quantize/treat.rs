//! From the first draft to one that meets the target: cures in the order of what they cost on the
//! board, each kept if the pictures that it is tried on say that it helps.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use kinglet_engine::OnnxFile;

use super::bench::{Bench, Draft};
use super::judge::{Judge, Score};
use super::lift::Goal;
use super::plan::Effect;
use super::range::Calibrator;
use super::{
    Cure, Cures, Diagnose, Event, QuantizeError, Sensitivity, TUNING, adaround, calibrate, correct,
    diagnose, equalize, lift, tune,
};
use crate::evaluate::Skipped;
use crate::inspect;
use crate::watch::MOST_SKIPPED;

/// Something that was tried, and what it brought on the pictures that are judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it was.
    pub what: String,
    /// The model after it.
    pub score: Score,
    /// Whether it was kept.
    pub kept: bool,
    /// Layers in float.
    pub float_layers: usize,
    /// Least time of a picture, one thread, this machine.
    pub latency: Duration,
}

/// The chosen draft with all that a report tells of it.
pub(super) struct Treated<'a> {
    pub bench: Bench<'a>,
    pub draft: Draft,
    pub calibrator: Calibrator,
    pub score: Score,
    pub steps: Vec<Step>,
    /// Multiplications of each layer.
    pub macs: Vec<u64>,
    /// What was done to a layer beyond plain int8: layer, and words.
    pub treated: Vec<(usize, String)>,
    pub sensitivity: Vec<Sensitivity>,
    /// Least time of a picture of the float model.
    pub float_latency: Duration,
    pub latency: Duration,
    /// Pictures that cannot be read.
    pub skipped: Vec<Skipped>,
}

/// Pictures without labels.
pub(super) struct Pictures<'a> {
    /// All, for ranges.
    pub all: &'a [PathBuf],
    /// Those that cures may see.
    pub for_cures: Vec<PathBuf>,
}

/// What is judged by, and the record of it.
struct Course<'a> {
    tuning: Judge,
    held_out: Judge,
    steps: Vec<Step>,
    on: &'a (dyn Fn(Event<'_>) + Sync),
}

impl Course<'_> {
    /// Judges a draft that a step made, and notes it.
    fn note(
        &mut self,
        bench: &Bench<'_>,
        draft: &Draft,
        what: String,
        kept: bool,
    ) -> Result<Score, QuantizeError> {
        let score = self.held_out.score(bench, draft)?;
        let latency = self.held_out.latency(bench.file(draft, &[], &[])?)?;
        let step = Step { what, score, kept, float_layers: draft.float.len(), latency };
        (self.on)(Event::Step(&step));
        self.steps.push(step);
        Ok(score)
    }
}

/// Drafts, judges and cures.
pub(super) fn treat<'a>(
    mut bench: Bench<'a>,
    pictures: Pictures<'_>,
    judged: &[(PathBuf, Option<usize>)],
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Treated<'a>, QuantizeError> {
    let options = bench.options;
    let Pictures { all, for_cures } = pictures;
    let stride = for_cures.len().div_ceil(TUNING).max(1);
    let tuning: Vec<PathBuf> = for_cures.iter().step_by(stride).cloned().collect();
    let unlabelled: Vec<_> = tuning.iter().map(|p| (p.clone(), None)).collect();
    let (calibrator, mut draft) = (
        options.calibrator.unwrap_or_default(),
        bench.draft(options.calibrator.unwrap_or_default())?,
    );
    let held_out = Judge::new(&bench, &draft, judged, on)?;
    let distinct: HashSet<&PathBuf> = all.iter().chain(judged.iter().map(|(p, _)| p)).collect();
    let skipped = skipped(&bench, &held_out, distinct.len())?;
    let tuning_judge = Judge::new(&bench, &draft, &unlabelled, on)?;
    let mut course = Course { tuning: tuning_judge, held_out, steps: Vec::new(), on };
    let mut calibrator = calibrator;
    if options.calibrator.is_none() {
        (calibrator, draft) = best_calibrator(&bench, &mut course)?;
    }
    let what = format!("int8, ranges by {}", calibrator.name());
    let mut score = course.note(&bench, &draft, what, true)?;
    let mut treated = Vec::new();
    let macs = macs(&bench)?;
    // Behind a swish it made things worse: EfficientNet-B0's features went from a cosine of 0.976 to
    // 0.924.
    let swish = bench.plan.points.iter().any(|p| p.effect == Effect::Swish);
    let asked = |cure: Cure, score: &Score| match &options.cures {
        Cures::Auto if cure == Cure::Bias && swish => false,
        Cures::Auto => !score.meets(options.target),
        Cures::Only(cures) => cures.contains(&cure),
    };
    if asked(Cure::Equalize, &score) {
        let (graph, equalized) = equalize::equalize(&bench);
        if equalized.groups > 0 {
            let mut model = bench.model.clone();
            model.graph = Some(graph);
            let plan = super::plan::plan(model.graph.as_ref().unwrap_or(bench.graph()));
            let (preprocess, threads) = (bench.preprocess, bench.threads);
            let calibration = bench.journal.memo("calibration, equalized", || {
                calibrate::calibrate(&model, &plan, preprocess, all, threads, on)
            })?;
            let journal = bench.journal;
            let other = Bench::new(model, plan, calibration, options, preprocess, threads, journal);
            let new = other.draft(calibrator)?;
            let kept = course.tuning.score(&other, &new)?.error
                < course.tuning.score(&bench, &draft)?.error;
            let what = format!("equalized channels of {} groups of values", equalized.groups);
            let new_score = course.note(&other, &new, what, kept)?;
            if kept {
                (bench, draft, score) = (other, new, new_score);
                let named = (0..bench.plan.layers.len())
                    .filter(|&l| equalized.layers.iter().any(|n| n == bench.name(l)));
                treated.extend(named.map(|l| (l, "channels equalized".to_owned())));
            }
        }
    }
    if let Some(budget) = options.adaround {
        let (new, learnt) =
            adaround::adaround(&bench, &draft, &tuning_pictures(&for_cures), budget, on)?;
        let kept =
            course.tuning.score(&bench, &new)?.error < course.tuning.score(&bench, &draft)?.error;
        let what =
            format!("rounding of {} of {} layers learnt", learnt.len(), bench.plan.layers.len());
        let new_score = course.note(&bench, &new, what, kept)?;
        if kept {
            treated.extend(learnt.into_iter().map(|l| (l, "rounding learnt".to_owned())));
            (draft, score) = (new, new_score);
        }
    }
    if asked(Cure::Bias, &score) {
        let new = correct::correct(&bench, &draft, &tuning, &course.tuning, on)?;
        let kept =
            course.tuning.score(&bench, &new)?.error < course.tuning.score(&bench, &draft)?.error;
        let new_score =
            course.note(&bench, &new, "biases corrected on pictures".to_owned(), kept)?;
        if kept {
            (draft, score) = (new, new_score);
        }
    }
    if asked(Cure::Tune, &score) {
        let new = tune::tune(&bench, &draft, &course.tuning, on)?;
        let moved: Vec<usize> = (0..new.points.len())
            .filter(|&p| new.points[p].quantization != draft.points[p].quantization)
            .collect();
        let what = format!("ranges of {} values tuned on the features", moved.len());
        score = course.note(&bench, &new, what, true)?;
        draft = new;
    }
    if asked(Cure::Float, &score) && !score.meets(options.target) {
        let fits = |draft: &Draft| match options.max_latency {
            Some(most) => Ok(course.held_out.latency(bench.file(draft, &[], &[])?)? <= most),
            None => Ok(true),
        };
        let goal = Goal { target: options.target, fits: &fits };
        let judges = (&course.tuning, &course.held_out);
        let (new, _) = lift::lift(&bench, &draft, judges, &macs, &goal, on)?;
        let share = new.float.iter().map(|&l| macs[l]).sum::<u64>() as f64
            / macs.iter().sum::<u64>().max(1) as f64;
        let what = format!(
            "{} of {} layers in float, {:.1} % of the multiplications",
            new.float.len(),
            macs.len(),
            100.0 * share
        );
        score = course.note(&bench, &new, what, true)?;
        draft = new;
    }
    let mut sensitivity = Vec::new();
    if options.diagnose >= Diagnose::Outputs {
        sensitivity = diagnose::outputs(&bench, &draft, &tuning, on)?;
    }
    if options.diagnose >= Diagnose::Alone {
        let alone = diagnose::alone(&bench, &draft, &course.tuning, on)?;
        sensitivity.iter_mut().zip(alone).for_each(|(s, score)| s.alone = Some(score));
    }
    let float_latency =
        course.held_out.float_latency(OnnxFile::from_proto(bench.model.clone())?)?;
    let latency = course.steps.iter().rev().find(|s| s.kept).map_or(Duration::ZERO, |s| s.latency);
    let steps = course.steps;
    Ok(Treated {
        bench,
        draft,
        calibrator,
        score,
        steps,
        macs,
        treated,
        sensitivity,
        float_latency,
        latency,
        skipped,
    })
}

/// Pictures that cannot be read; more than one in twenty are an error.
fn skipped(
    bench: &Bench<'_>,
    held_out: &Judge,
    pictures: usize,
) -> Result<Vec<Skipped>, QuantizeError> {
    let both = bench.calibration.skipped.iter().chain(&held_out.skipped);
    let mut all: Vec<Skipped> = both.cloned().collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup();
    match all.first() {
        Some(first) if all.len() as f64 > MOST_SKIPPED * pictures as f64 => {
            let (skipped, first) = (all.len(), first.why.clone());
            Err(QuantizeError::Unreadable { skipped, pictures, first })
        }
        _ => Ok(all),
    }
}

/// At most 128 pictures for what needs more than the tuning pictures.
fn tuning_pictures(for_cures: &[PathBuf]) -> Vec<PathBuf> {
    let stride = for_cures.len().div_ceil(128).max(1);
    for_cures.iter().step_by(stride).cloned().collect()
}

/// The calibrator whose draft is nearest to the float model on the tuning pictures.
fn best_calibrator(
    bench: &Bench<'_>,
    course: &mut Course<'_>,
) -> Result<(Calibrator, Draft), QuantizeError> {
    let mut best: Option<(f64, Calibrator, Draft)> = None;
    for calibrator in Calibrator::ALL {
        let draft = bench.draft(calibrator)?;
        let error = course.tuning.score(bench, &draft)?.error;
        course.note(bench, &draft, format!("tried: ranges by {}", calibrator.name()), false)?;
        if best.as_ref().is_none_or(|(least, ..)| error < *least) {
            best = Some((error, calibrator, draft));
        }
    }
    let (_, calibrator, draft) = best.ok_or(QuantizeError::NoPictures)?;
    Ok((calibrator, draft))
}

/// Multiplications of each layer.
fn macs(bench: &Bench<'_>) -> Result<Vec<u64>, QuantizeError> {
    let inspection = inspect::inspect(&OnnxFile::from_proto(bench.model.clone())?)?;
    let of = |layer: usize| {
        let found = inspection.layers.iter().find(|l| l.name == bench.name(layer));
        found.and_then(|l| l.macs).unwrap_or(1)
    };
    Ok((0..bench.plan.layers.len()).map(of).collect())
}
