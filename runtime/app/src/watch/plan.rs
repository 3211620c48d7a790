//! What a configuration means for one model: classes by their indices, areas by theirs, everything
//! within its range.

use std::sync::Arc;
use std::time::Duration;

use kinglet_engine::Session;
use toml::Spanned;

use super::config::{Config, Decide, Names, Region};
use super::drift;
use super::eyes::{class, label};
use super::mqtt;
use super::pins::{ButtonPlan, OutputPlan};
use crate::decide::{Settings, State};
use crate::exit::Usage;

/// The most observations that are smoothed over.
const LONGEST_WINDOW: usize = 1000;

/// How a model looks at frames.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) settings: Settings,
    /// None: the whole frame.
    pub(super) regions: Vec<Region>,
    /// The motion gate's threshold, and the longest time without a look.
    pub(super) motion: Option<(f32, Duration)>,
    /// Classes in a decision.
    pub(super) top: usize,
    /// How pictures are compared with the model's reference.
    pub(super) drift: drift::Settings,
}

/// Such a plan.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) view: View,
    /// The classes' names.
    pub(super) labels: Arc<[String]>,
    /// Show every decision: each is of a picture of its own.
    pub(super) all: bool,
    pub(super) outputs: Vec<OutputPlan>,
    pub(super) buttons: Vec<ButtonPlan>,
    /// Decisions of which pictures are kept.
    pub(super) snapshots: Vec<State>,
    pub(super) mqtt: Option<mqtt::Plan>,
}

impl Plan {
    /// Checks a configuration against a model. `pictures`: they have nothing to do with each other,
    /// so nothing is smoothed unless that is asked for.
    pub(super) fn new(config: &Config, session: &Session, pictures: bool) -> Result<Self, Usage> {
        let view = View::new(config, session, pictures)?;
        let area = |name: &String| view.regions.iter().position(|r| r.name == *name);
        let mut outputs = Vec::new();
        for spanned in &config.output {
            let output = spanned.get_ref();
            let fault = |why: String| config.error(spanned, &why);
            outputs.push(OutputPlan {
                pin: output.pin.pin().map_err(fault)?,
                pattern: output.pattern(),
                active_low: output.active_low,
                states: states(&output.class, session).map_err(fault)?,
                area: match &output.region {
                    Some(name) => {
                        Some(area(name).ok_or_else(|| fault(format!("no region '{name}'")))?)
                    }
                    None => None,
                },
            });
        }
        let mut buttons = Vec::new();
        for spanned in &config.button {
            let button = spanned.get_ref();
            let pin = button.pin.pin().map_err(|why| config.error(spanned, &why))?;
            buttons.push(ButtonPlan { pin, active_low: button.active_low });
        }
        let snapshots = match &config.snapshots {
            Some(s) => {
                states(&s.class, session).map_err(|why| Usage(format!("snapshots: {why}")))?
            }
            None => Vec::new(),
        };
        let rate = &config.rate;
        let positive = |name: &str, value: Option<f64>| match value {
            Some(v) if !(v > 0.0 && v <= 1000.0) => {
                Err(Usage(format!("{name} {v}: over 0, at most 1000")))
            }
            _ => Ok(()),
        };
        positive("max_fps", rate.max_fps)?;
        positive("cool_below", rate.cool_below)?;
        positive("motion", rate.motion.map(f64::from))?;
        let labels = (0..session.classes()).map(|index| label(session, index)).collect();
        let mqtt = mqtt::Plan::new(config, session)?;
        Ok(Self { view, labels, all: pictures, outputs, buttons, snapshots, mqtt })
    }
}

impl View {
    /// Checks a configuration against a model, as [`Plan::new`] does.
    pub(super) fn new(config: &Config, session: &Session, pictures: bool) -> Result<Self, Usage> {
        let model = session.metadata().unknown_below;
        let settings = settings(&config.decide, model, pictures)?;
        if settings.energy_below.is_some() && session.gives_probabilities() {
            return Err(Usage("energy_below: the model gives probabilities, no energy".into()));
        }
        let rate = &config.rate;
        let longest = Duration::from_millis(rate.motion_longest_ms.unwrap_or(5000));
        Ok(Self {
            settings,
            regions: regions(config)?,
            motion: rate.motion.map(|threshold| (threshold, longest)),
            top: config.decide.top.unwrap_or(3).min(session.classes()),
            drift: config.drift.checked()?,
        })
    }

    /// Number of areas, at least 1.
    pub(super) fn areas(&self) -> usize {
        self.regions.len().max(1)
    }
}

fn states(names: &Names, session: &Session) -> Result<Vec<State>, String> {
    names.list().iter().map(|name| class(session, name).map_err(|e| e.to_string())).collect()
}

/// Thresholds within their ranges. The usual ones: a mean of five pictures, in at a half, out at a
/// third.
fn settings(decide: &Decide, model: Option<f32>, pictures: bool) -> Result<Settings, Usage> {
    let usual = if pictures { (1, 0.0, 0.0) } else { (5, 0.5, 0.35) };
    let unknown_below = decide.unknown_below.or(model);
    let enter = decide.enter.unwrap_or(usual.1);
    let leave = decide.leave.unwrap_or(enter.min(usual.2));
    for (name, value) in
        [("enter", Some(enter)), ("leave", Some(leave)), ("unknown_below", unknown_below)]
    {
        if value.is_some_and(|v| !(0.0..=1.0).contains(&v)) {
            return Err(Usage(format!("{name}: a score is 0 to 1")));
        }
    }
    if leave > enter {
        return Err(Usage(format!("leave ({leave}) is above enter ({enter})")));
    }
    let window = decide.window.unwrap_or(usual.0);
    if !(1..=LONGEST_WINDOW).contains(&window) {
        return Err(Usage(format!("window {window}: 1 to {LONGEST_WINDOW} pictures")));
    }
    Ok(Settings {
        smoothing: decide.smoothing,
        window,
        age: decide.window_ms.map(Duration::from_millis),
        enter,
        leave,
        hold: Duration::from_millis(decide.hold_ms),
        unknown_below,
        energy_below: decide.energy_below,
    })
}

fn regions(config: &Config) -> Result<Vec<Region>, Usage> {
    let mut regions: Vec<Region> = Vec::new();
    for spanned in &config.region {
        let region = Spanned::get_ref(spanned);
        let within = |start: f64, length: f64| {
            start >= 0.0 && length > 0.0 && start < 1.0 && start + length <= 1.0 + 1e-9
        };
        if !within(region.left, region.width) || !within(region.top, region.height) {
            let why = "left, top, width and height are shares, together at most 1";
            return Err(config.error(spanned, why));
        }
        if regions.iter().any(|other| other.name == region.name) {
            let why = format!("there are two regions '{}'", region.name);
            return Err(config.error(spanned, &why));
        }
        regions.push(region.clone());
    }
    Ok(regions)
}
