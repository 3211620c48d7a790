//! `kinglet watch`: from a camera to a decision to an action.
//!
//! The camera has its thread ([`kinglet_device::camera::Feed`]), and so have lines, pins, the log
//! and snapshots; what joins them is the loop here. It takes the newest frame, looks at it
//! ([`eyes`]), and hands what was decided to the [`bus`]. Nothing that acts can hold it up.

mod args;
mod bus;
mod config;
mod decision;
mod eyes;
mod journal;
mod mqtt;
mod pins;
mod plan;
mod show;
mod snapshots;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kinglet_device::Board;
use kinglet_device::camera::{Feed, Frame, Pace, Patience, Source, Taken};

use crate::decide::{Governor, Heat, State};
use crate::exit::{Done, Outcome, Usage};
pub(crate) use args::Args;
use bus::Bus;
use eyes::{Blind, Eyes};
use pins::Pins;
use plan::Plan;
use snapshots::Snapshots;

/// How soon the loop sees that it shall end, or that a button was pressed.
const GLANCE: Duration = Duration::from_millis(50);
/// How often the temperature is read.
const FEEL: Duration = Duration::from_secs(1);
/// How long lines and log may take to write what is left, at the end of a recording and else.
const LAST_LINES: [Duration; 2] = [Duration::from_secs(10), Duration::from_millis(300)];

/// Runs `watch`.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.example {
        print!("{}", include_str!("kinglet.example.toml"));
        return Ok(Done::Well);
    }
    log_to_stderr(args.verbose);
    let config = args.configuration()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let source = config.camera.source.as_deref().ok_or_else(|| {
        Usage("no camera; --camera /dev/video0, rpicam, a URL, a file, a folder, - or test".into())
    })?;
    let source = Source::parse(source).map_err(|e| Usage(e.to_string()))?;
    let recording = !source.is_live();
    let every = config.camera.every_frame || matches!(source, Source::Pictures(_));
    let pace = if every { Pace::Every } else { Pace::Newest };
    // The camera starts while the model is loaded.
    let feed = Feed::start(source.clone(), config.camera.wanted()?, pace, Patience::default());
    let mut model = args.model.clone();
    (model.model, model.threads) = (config.model.clone(), config.threads);
    let (path, session) = model.load()?;
    let mut plan = Plan::new(&config, &session, matches!(source, Source::Pictures(_)))?;
    tracing::info!("model {}", path.display());
    let bus = Bus::new(Arc::new(feed));
    let lines = show::Lines { json: args.json, all: args.all || plan.all };
    let mut writers = vec![show::start(bus.listen(256, every), lines, Arc::clone(&stop))?];
    if let Some(log) = &config.log {
        writers.push(journal::start(log, bus.listen(256, every), bus.clone())?);
    }
    if let Some(plan) = plan.mqtt.take() {
        writers.push(mqtt::start(plan, bus.listen(256, false), bus.clone())?);
    }
    let eyes = plan.eyes(session);
    let snapshots = config.snapshots.as_ref().map(|settings| {
        Snapshots::start(settings, plan.snapshots.clone(), eyes.areas(), bus.clone())
    });
    let pins = Pins::start(plan.outputs, plan.buttons, &bus)?;
    let mut watch = Watch {
        states: vec![State::Nothing; eyes.areas()],
        eyes,
        pins,
        snapshots: snapshots.transpose()?,
        governor: Governor::new(config.rate.max_fps, config.rate.cool_below),
        feels: config.rate.cool_below.is_some(),
        heat: (Heat::default(), None),
        bus: bus.clone(),
        stop,
        end: args.seconds.map(|s| Instant::now() + Duration::from_secs_f64(s.clamp(0.0, 1e9))),
        started: Instant::now(),
        bad: 0,
    };
    let outcome = watch.run();
    // First the pins, then whatever else takes time.
    drop(watch);
    bus.close();
    let patience = LAST_LINES[usize::from(!(recording && every))];
    let deadline = Instant::now() + patience;
    while writers.iter().any(|w| !w.is_finished()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let health = bus.health();
    tracing::info!(
        "{} frames, {} looked at, {} dropped; the camera was lost {} time(s); {:.1} s",
        health.camera.frames,
        health.inferences,
        health.camera.dropped,
        health.camera.lost,
        health.uptime_s
    );
    outcome
}

/// What the loop has.
struct Watch {
    // Dropped first: whatever happens, pins are safe.
    pins: Pins,
    eyes: Eyes,
    states: Vec<State>,
    snapshots: Option<Snapshots>,
    governor: Governor,
    /// Whether the temperature matters.
    feels: bool,
    heat: (Heat, Option<Instant>),
    bus: Bus,
    stop: Arc<AtomicBool>,
    end: Option<Instant>,
    started: Instant,
    /// Pictures that could not be used.
    bad: u64,
}

impl Watch {
    fn over(&self) -> bool {
        self.stop.load(Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn run(&mut self) -> Outcome {
        let mut next = Instant::now();
        let mut asked: Option<Instant> = None;
        while !self.over() {
            let now = Instant::now();
            if now < next {
                std::thread::sleep((next - now).min(GLANCE));
                continue;
            }
            match self.bus.frames().take(now + GLANCE) {
                Taken::Frame(frame) => {
                    if self.pins.has_buttons() {
                        if self.pins.pressed() {
                            asked = Some(Instant::now());
                        }
                        // What is looked at was seen after the button was pressed.
                        if asked.is_none_or(|asked| frame.captured < asked) {
                            continue;
                        }
                        asked = None;
                    }
                    let begun = Instant::now();
                    self.look(&frame)?;
                    next = self.after(begun);
                }
                Taken::Lost => {
                    for decision in self.eyes.lose() {
                        self.bus.publish(decision);
                    }
                    self.states.fill(State::Nothing);
                    self.pins.follow(&self.states);
                }
                Taken::Wait => {}
                Taken::End(Ok(())) => {
                    return Ok(if self.bad > 0 { Done::PartlyFailed } else { Done::Well });
                }
                Taken::End(Err(error)) => anyhow::bail!("{error}"),
            }
        }
        Ok(Done::Well)
    }

    /// Looks at all areas of a frame and acts.
    fn look(&mut self, frame: &Arc<Frame>) -> anyhow::Result<()> {
        for area in 0..self.eyes.areas() {
            match self.eyes.look(frame, area) {
                Ok(Some(decision)) => {
                    let state = self.eyes.state(area);
                    self.states[area] = state;
                    self.pins.follow(&self.states);
                    if let Some(snapshots) = &mut self.snapshots {
                        snapshots.offer(frame, &decision, state, area);
                    }
                    self.bus.publish(decision);
                }
                Ok(None) => {}
                Err(Blind::Frame(why)) => {
                    self.bad += 1;
                    if frame.name.is_empty() {
                        tracing::debug!("frame {}: {why}", frame.number);
                    } else {
                        tracing::error!("{}: {why}", frame.name);
                    }
                    self.bus.frames().refuse(&why);
                    return Ok(());
                }
                Err(Blind::Model(error)) => return Err(error).context("the model failed"),
            }
        }
        self.bus.frames().accept();
        Ok(())
    }

    /// When the next look may begin.
    fn after(&mut self, begun: Instant) -> Instant {
        let now = Instant::now();
        if self.feels && self.heat.1.is_none_or(|last| now - last >= FEEL) {
            let board = Board::read();
            let slowed = |flag: &str| !flag.starts_with("under-voltage");
            let heat = Heat {
                celsius: board.temperature_mc.map(|t| t as f64 / 1e3),
                throttled: board.throttling.is_some_and(|flags| flags.now().any(slowed)),
            };
            self.heat = (heat, Some(now));
        }
        let before = self.governor.pause();
        let since = |at: Instant| at.saturating_duration_since(self.started);
        let next = self.started + self.governor.next(since(begun), since(now), self.heat.0);
        let pause = self.governor.pause();
        if before.is_zero() != pause.is_zero() {
            let celsius = self.heat.0.celsius.unwrap_or(f64::NAN);
            let what = if pause.is_zero() { "full speed again" } else { "slower, to stay cool" };
            tracing::info!("{celsius:.1} °C: {what}");
        }
        next
    }
}

/// Log lines go to standard error; the journal has its own clock.
fn log_to_stderr(verbose: bool) {
    let level = if verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false);
    // A second subscriber, in a test, changes nothing.
    let _ = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => lines.without_time().try_init(),
        None => lines.try_init(),
    };
}
