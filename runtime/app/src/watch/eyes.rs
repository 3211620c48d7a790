//! From a frame to decisions: regions, the motion gate, the model, the state machines.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use kinglet_device::camera::{Frame, Layout};
use kinglet_engine::frame::{PixelFormat, YuvMatrix};
use kinglet_engine::preprocess::{InputKind, InputTensor};
use kinglet_engine::scores::{Ranked, energy, softmax};
use kinglet_engine::session::FileError;
use kinglet_engine::{FrameView, Picture, Session};

use super::bus::Bus;
use super::config::Region;
use super::decision::{Decision, Entry};
use super::plan::View;
use crate::decide::{Decider, Drift, Motion, State};

/// One region with what is remembered of it; without regions the whole frame is one without a name.
#[derive(Debug)]
struct Area {
    region: Option<Region>,
    motion: Option<Motion>,
    decider: Decider,
}

/// Why a frame gave no decision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blind {
    /// The frame is of no use; the next may be.
    #[error("{0}")]
    Frame(String),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] kinglet_engine::ModelError),
}

/// The model with all that stands around it.
#[derive(Debug)]
pub(crate) struct Eyes {
    session: Session,
    areas: Vec<Area>,
    top: usize,
    start: Instant,
    last: Seen,
    ranked: Vec<Ranked>,
    drift: Option<Drift>,
    features: Vec<f32>,
    /// Of the last look: the model was unsure.
    unsure: bool,
    /// There is something new to say of drift.
    news: bool,
}

/// What the model makes of one picture, before anything is smoothed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Probabilities.
    pub(crate) scores: Vec<f32>,
    /// Their energy, if the model does not give probabilities itself.
    pub(crate) energy: Option<f32>,
    /// The best class.
    pub(crate) best: usize,
}

impl Eyes {
    pub(super) fn new(session: Session, view: &View) -> Self {
        let start = Instant::now();
        let (areas, top) = (areas(view), view.top);
        let drift = view.drift.compare(&session);
        Self {
            session,
            areas,
            top,
            start,
            last: Seen::default(),
            ranked: Vec::new(),
            drift,
            features: Vec::new(),
            unsure: false,
            news: true,
        }
    }

    /// Looks differently from now on, with another model if there is one. What was decided stays
    /// where that has a meaning still, in a region and as a class of the same name; gives the
    /// decisions that fall, and the model that is no longer needed.
    pub(super) fn change(
        &mut self,
        session: Option<Session>,
        view: &View,
    ) -> (Vec<Decision>, Option<Session>) {
        let before: Vec<_> = (0..self.areas.len()).map(|area| self.describe(area)).collect();
        let old = session.map(|session| std::mem::replace(&mut self.session, session));
        (self.areas, self.top) = (areas(view), view.top);
        (self.drift, self.unsure, self.news) = (view.drift.compare(&self.session), false, true);
        let mut fallen = Vec::new();
        for mut decision in before {
            let Some(name) = decision.decision.take() else { continue };
            let region = |area: &&mut Area| {
                area.region.as_ref().map(|r| &r.name) == decision.region.as_ref()
            };
            let area = self.areas.iter_mut().find(region);
            // Without labels a name is "class" and the number.
            let number = name.strip_prefix("class ").filter(|n| n.parse::<usize>().is_ok());
            match (area, class(&self.session, number.unwrap_or(&name))) {
                (Some(area), Ok(state)) => area.decider.go_on(state),
                _ => {
                    (decision.index, decision.changed) = (None, true);
                    decision.top.clear();
                    fallen.push(decision);
                }
            }
        }
        (fallen, old)
    }

    /// Whether the model was less sure in the last look than of nearly all of its reference.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Says how pictures compare with the reference, if there is anything new.
    pub(super) fn tell_drift(&mut self, bus: &Bus) {
        if std::mem::take(&mut self.news) {
            bus.drift(self.drift.as_ref().map(Drift::report));
        }
    }

    /// Compares what was seen last with the reference.
    fn compare(&mut self, area: usize, at: Duration) {
        let Some(drift) = &mut self.drift else { return };
        let Seen { scores, best, .. } = &self.last;
        let (best, score) = (*best, scores.get(*best).copied().unwrap_or_default());
        self.unsure = drift.is_unsure(score);
        if drift.is_due(area, at) {
            let there = self.session.features_into(&mut self.features);
            let features = there.then_some(self.features.as_slice());
            drift.observe(area, at, (best, score), self.session.looks(), features);
            self.news = true;
        }
    }

    /// The model.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The best class of the last look alone, by name.
    pub(super) fn best(&self) -> String {
        label(&self.session, self.last.best)
    }

    /// The last look alone.
    pub(super) fn seen(&self) -> &Seen {
        &self.last
    }

    /// What holds in an area, by name.
    pub(super) fn decision(&self, area: usize) -> Option<String> {
        self.state(area).name(|index| Some(label(&self.session, index)))
    }

    /// Number of areas, at least 1.
    pub(crate) fn areas(&self) -> usize {
        self.areas.len()
    }

    /// The state that holds in an area.
    pub(crate) fn state(&self, area: usize) -> State {
        self.areas[area].decider.state()
    }

    /// Looks at one area of a frame. `None`: nothing has moved there.
    pub(crate) fn look(&mut self, frame: &Frame, area: usize) -> Result<Option<Decision>, Blind> {
        let begun = Instant::now();
        let at = frame.captured.saturating_duration_since(self.start);
        self.prepare(frame, area)?;
        if !self.moved(at, area) {
            return Ok(None);
        }
        let prepared = Instant::now();
        let Seen { scores, energy: known, best } = &mut self.last;
        self.session.run_prepared(scores)?;
        *known = (!self.session.gives_probabilities()).then(|| energy(scores));
        if known.is_some() {
            softmax(scores);
        }
        let changed = self.areas[area].decider.observe(at, scores, *known);
        let better = |a: &usize, b: &usize| scores[*a].total_cmp(&scores[*b]);
        *best = (0..scores.len()).max_by(better).unwrap_or(0);
        self.compare(area, at);
        let done = Instant::now();
        let mut decision = self.describe(area);
        decision.frame = frame.number;
        decision.file.clone_from(&frame.name);
        decision.changed = changed;
        decision.prepare_ms = ms(prepared - begun);
        decision.model_ms = ms(done - prepared);
        decision.latency_ms = ms(done.saturating_duration_since(frame.captured));
        Ok(Some(decision))
    }

    /// The camera is lost: all decisions fall. Gives those that changed.
    pub(crate) fn lose(&mut self) -> Vec<Decision> {
        let mut fallen = Vec::new();
        for area in 0..self.areas.len() {
            if self.areas[area].decider.lose() {
                let mut decision = self.describe(area);
                (decision.changed, decision.lost) = (true, true);
                fallen.push(decision);
            }
        }
        fallen
    }

    /// The decision that holds, and the best scores.
    fn describe(&mut self, area: usize) -> Decision {
        let Area { region, decider, .. } = &self.areas[area];
        decider.top_into(self.top, &mut self.ranked);
        let label = |index| label(&self.session, index);
        let entry = |r: &Ranked| Entry { index: r.index, label: label(r.index), score: r.score };
        let index = match decider.state() {
            State::Class(index) => Some(index),
            _ => None,
        };
        Decision {
            time: SystemTime::now(),
            region: region.as_ref().map(|region| region.name.clone()),
            decision: self.decision(area),
            index,
            top: self.ranked.iter().map(entry).collect(),
            ..Decision::default()
        }
    }

    /// Fills the model's input from the area.
    fn prepare(&mut self, frame: &Frame, area: usize) -> Result<(), Blind> {
        let blind = |why: &dyn std::fmt::Display| Blind::Frame(why.to_string());
        let region = self.areas[area].region.as_ref();
        if frame.layout == Layout::File {
            let Some(region) = region else {
                return self.session.prepare_file(&frame.bytes).map_err(|error| match error {
                    FileError::Model(error) => error.into(),
                    other => blind(&other),
                });
            };
            let picture = Picture::decode(&frame.bytes).map_err(|e| blind(&e))?;
            let (width, height) = (picture.width(), picture.height());
            let matrix = YuvMatrix::default();
            let view = FrameView::packed(PixelFormat::Rgb, width, height, picture.rgb(), matrix);
            let view = view.and_then(|view| part(&view, region)).map_err(|e| blind(&e))?;
            return Ok(self.session.prepare_frame(&view)?);
        }
        let view = view(frame).and_then(|view| match region {
            Some(region) => part(&view, region),
            None => Ok(view),
        });
        Ok(self.session.prepare_frame(&view.map_err(|e| blind(&e))?)?)
    }

    /// Asks the motion gate.
    fn moved(&mut self, at: Duration, area: usize) -> bool {
        let Some(motion) = &mut self.areas[area].motion else { return true };
        let size = self.session.input_size();
        // Differences of tensor values in samples; green stands for brightness.
        let std = self.session.metadata().preprocess.as_ref().map_or(1.0, |p| p.std[1].abs());
        let pixels = size[0] * size[1];
        match (self.session.prepared(), self.session.input_kind()) {
            (InputTensor::U8(codes), InputKind::U8Nhwc { scale, .. }) => {
                let unit = scale * std;
                motion.passes(at, size, |y, x| f32::from(codes[(y * size[1] + x) * 3 + 1]) * unit)
            }
            (InputTensor::F32(values), _) => {
                motion.passes(at, size, |y, x| values[pixels + y * size[1] + x] * std)
            }
            _ => true,
        }
    }
}

/// Areas that have seen nothing.
fn areas(view: &View) -> Vec<Area> {
    let area = |region| Area {
        region,
        motion: view.motion.map(|(threshold, longest)| Motion::new(threshold, longest)),
        decider: Decider::new(view.settings.clone()),
    };
    match view.regions.is_empty() {
        true => vec![area(None)],
        false => view.regions.iter().map(|region| area(Some(region.clone()))).collect(),
    }
}

/// The model's input that a frame is.
pub(super) fn view(frame: &Frame) -> Result<FrameView<'_>, kinglet_engine::frame::FrameError> {
    let format = match frame.layout {
        Layout::Grey => PixelFormat::Grey,
        Layout::Yuyv => PixelFormat::Yuyv,
        Layout::Nv12 => PixelFormat::Nv12,
        Layout::I420 => PixelFormat::I420,
        Layout::Rgb | Layout::File => PixelFormat::Rgb,
    };
    let matrix = match (frame.color.bt709, frame.color.full_range) {
        (false, false) => YuvMatrix::Bt601Limited,
        (false, true) => YuvMatrix::Bt601Full,
        (true, false) => YuvMatrix::Bt709Limited,
        (true, true) => YuvMatrix::Bt709Full,
    };
    FrameView::packed(format, frame.width, frame.height, &frame.bytes, matrix)
}

/// A region of a frame, at least a pixel.
fn part<'a>(
    view: &FrameView<'a>,
    region: &Region,
) -> Result<FrameView<'a>, kinglet_engine::frame::FrameError> {
    let span = |start: f64, length: f64, side: u32| {
        let side_f = f64::from(side);
        let first = ((start * side_f).round() as u32).min(side - 1);
        (first, ((length * side_f).round() as u32).clamp(1, side - first))
    };
    let (left, width) = span(region.left, region.width, view.width());
    let (top, height) = span(region.top, region.height, view.height());
    view.crop(left, top, width, height)
}

/// A class's name; its number without labels.
pub(super) fn label(session: &Session, index: usize) -> String {
    session.label(index).map_or_else(|| format!("class {index}"), str::to_owned)
}

/// The class of a name or number, or `unknown`.
pub(crate) fn class(session: &Session, name: &str) -> anyhow::Result<State> {
    if name == "unknown" {
        return Ok(State::Unknown);
    }
    let named = (0..session.classes()).find(|&i| session.label(i) == Some(name));
    let numbered = || name.parse().ok().filter(|i| *i < session.classes());
    named.or_else(numbered).map(State::Class).with_context(|| {
        let likely = |l: &&str| l.contains(name) || name.contains(*l);
        let alike = (0..session.classes()).filter_map(|i| session.label(i)).find(likely);
        let hint = alike.map(|l| format!("; there is '{l}'")).unwrap_or_default();
        format!("the model has no class '{name}'{hint}")
    })
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
