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
mod program;
mod pulse;
mod releases;
mod reload;
mod say;
mod service;
mod shadow;
mod show;
mod sight;
mod snapshots;
mod trial;
mod unit;
mod web;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::decide::State;
use crate::exit::{Done, Outcome, one_line};
pub(crate) use args::Args;
use bus::Bus;
use config::Config;
use looking::{Rhythm, Watch};
use notify::notify;
use parts::Parts;
use plan::Plan;
use releases::Keeper;
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
    kinglet_device::settle_heap();
    say::start(args.verbose);
    let outcome = watch(args);
    say::finish(LAST_WORDS);
    match outcome? {
        (_, true) => Err(program::begin_anew().into()),
        (done, false) => Ok(done),
    }
}

/// Watches; afterwards, whether another program is to go on.
fn watch(args: &Args) -> anyhow::Result<(Done, bool)> {
    let signals = Signals::register()?;
    let config = args.configuration()?;
    program::hand_over(&config);
    // The camera starts while the model is loaded.
    let sight = Sight::new(&config)?;
    let bus = Bus::new(Arc::new(sight.open()));
    bus.be_patient(sight.every());
    let stop = signals.stop();
    let service = service::start(signals, &bus)?;
    let keeper = Keeper::default();
    let (config, model, plan) = first(args, &keeper, &config, &sight)?;
    tracing::info!("model {}", model.path.display());
    let shadow = args.shadow_of(&config);
    let reloader = Reloader::new(args, &model, shadow.as_ref(), &keeper, &bus, &stop);
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
    service.ready(reloader.clone());
    reloader.taken();
    reloader.try_program(watch.config.update.as_ref());
    let outcome = watch.run();
    if let Err(error) = &outcome {
        keeper.failed(&one_line(error));
    }
    if !reloader.other_program() {
        // Where another program goes on in our place, the service does not stop: it would be killed for not stopping.
        notify(&[NotifyState::Stopping]);
    }
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
    Ok((outcome?, reloader.other_program()))
}

/// The model to begin with. One of the store that is on trial and cannot be used is rolled back, and then the one
/// before it is taken.
fn first(
    args: &Args,
    keeper: &Keeper,
    config: &Config,
    sight: &Sight,
) -> anyhow::Result<(Config, Loaded, Plan)> {
    loop {
        let mut config = config.clone();
        keeper.choose(&mut config);
        let usable = Loaded::new(&args.model_of(&config)).and_then(|model| {
            let plan = Plan::new(&config, &model.session, sight.pictures())?;
            Ok((model, plan))
        });
        match usable {
            Ok((model, plan)) => return Ok((config, model, plan)),
            Err(error) if keeper.refuse(&one_line(&error)) => {}
            Err(error) => return Err(error),
        }
    }
}
