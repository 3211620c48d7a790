//! `kinglet watch`: from a camera to a decision to an action.
//!
//! The camera has its thread ([`kinglet_device::camera::Feed`]), and so have the [`parts`] that act:
//! lines, pins, the log and snapshots. What joins them is the loop ([`looking`]). It takes the newest
//! frame, looks at it ([`eyes`]), and hands what was decided to the [`bus`]. Nothing that acts can
//! hold it up.

mod args;
mod bus;
mod config;
mod decision;
mod display;
mod drift;
mod eyes;
mod journal;
mod looking;
mod mqtt;
mod notify;
mod parts;
mod pins;
mod plan;
mod pulse;
mod reload;
mod say;
mod service;
mod shadow;
mod show;
mod sight;
mod snapshots;
mod unit;
mod web;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::decide::State;
use crate::exit::{Done, Outcome};
pub(crate) use args::Args;
use bus::Bus;
use looking::{Rhythm, Watch};
use notify::notify;
use parts::Parts;
use plan::Plan;
use reload::{Loaded, Reloader};
use service::Signals;
use sight::Sight;

/// How long lines and log may take to write what is left, at the end of a recording and else.
const LAST_LINES: [Duration; 2] = [Duration::from_secs(10), Duration::from_millis(300)];
/// How long messages may take at the end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs `watch`.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.example {
        print!("{}", include_str!("kinglet.example.toml"));
        return Ok(Done::Well);
    }
    if args.print_unit {
        return unit::print(args.config.as_deref());
    }
    if args.release_pins {
        return pins::release(args);
    }
    say::start(args.verbose);
    let outcome = watch(args);
    say::finish(LAST_WORDS);
    outcome
}

fn watch(args: &Args) -> Outcome {
    let signals = Signals::register()?;
    let config = args.configuration()?;
    // The camera starts while the model is loaded.
    let sight = Sight::new(&config)?;
    let bus = Bus::new(Arc::new(sight.open()));
    bus.be_patient(sight.every());
    let stop = signals.stop();
    let service = service::start(signals, &bus)?;
    let model = Loaded::new(&args.model_of(&config))?;
    let plan = Plan::new(&config, &model.session, sight.pictures())?;
    tracing::info!("model {}", model.path.display());
    let shadow = args.shadow_of(&config);
    let reloader = Reloader::new(args, &model, shadow.as_ref());
    // What acts is a part: it listens to the bus.
    let lines = show::Lines { json: args.json, all: args.all || plan.all };
    let facts = web::Facts::new(args.model_of(&config), &model.session, &plan);
    let parts = Parts::start(&config, &plan, shadow, lines, facts, &bus, Arc::clone(&stop))?;
    let mut watch = Watch {
        parts,
        states: vec![State::Nothing; plan.view.areas()],
        eyes: eyes::Eyes::new(model.session, &plan.view),
        pace: Rhythm::new(config.rate.max_fps, config.rate.cool_below),
        config,
        sight,
        plan,
        reloader: reloader.clone(),
        stop,
        end: args.seconds.map(|s| Instant::now() + Duration::from_secs_f64(s.clamp(0.0, 1e9))),
        pulse: bus.pulse("loop"),
        bad: 0,
        bus: bus.clone(),
    };
    service.ready(reloader);
    let outcome = watch.run();
    notify(&[NotifyState::Stopping]);
    watch.parts.end(LAST_LINES[usize::from(!watch.sight.whole_recording())]);
    let health = bus.health();
    tracing::info!(
        "{} frames, {} looked at, {} dropped; the camera was lost {} time(s); {:.1} s",
        health.camera.frames,
        health.inferences,
        health.camera.dropped,
        health.camera.lost,
        health.uptime_s
    );
    if let Some(comparison) = health.shadow {
        tracing::info!("{comparison}");
    }
    outcome
}
