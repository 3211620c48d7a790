//! What surrounds the loop: signals, the service manager, and an eye on every thread.
//!
//! One thread waits for signals and looks at the [`super::pulse`] of all others meanwhile. While all
//! make progress it feeds the service manager's watchdog; when one hangs it no longer does, and
//! health says which. When it is time to end and something does not let go, it ends the process.

use std::io::{IsTerminal as _, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kinglet_device::camera::State;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::bus::{Bus, Health};
use super::notify::{line, notify};
use super::pulse::Pulse;
use super::reload::Reloader;
use super::say;

/// A thread hangs that makes no progress for this long; half of the watchdog's time, if there is one.
const LIMIT: Duration = Duration::from_secs(30);
/// Opening a camera may take this long: a network has time limits of its own.
const OPENING: Duration = Duration::from_secs(120);
/// How often health is looked at, at least.
const LOOK: Duration = Duration::from_secs(5);
/// After this long the process ends, whatever still runs.
const LAST: Duration = Duration::from_millis(1750);

/// Signals that have come.
#[derive(Debug)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Signals {
    /// From now on signals are waited for.
    pub(super) fn register() -> std::io::Result<Self> {
        let (stop, reload) = (Arc::default(), Arc::default());
        let (wake, waker) = UnixStream::pair()?;
        let mut signals = vec![(SIGTERM, &stop), (SIGINT, &stop)];
        // Where there is a terminal, it says that it has gone, and that is the end.
        if !std::io::stdin().is_terminal() {
            signals.push((SIGHUP, &reload));
        }
        for (signal, flag) in signals {
            flag::register(signal, Arc::clone(flag))?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Self { stop, reload, wake })
    }

    /// Whether it is time to end.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}

/// The thread.
#[derive(Debug)]
struct Service {
    signals: Signals,
    bus: Bus,
    ready: Arc<OnceLock<Reloader>>,
    /// How long a thread may make no progress.
    limit: Duration,
    watchdog: bool,
    camera: Pulse,
    /// The camera's rounds, and since when one is being opened.
    rounds: (u64, Option<Instant>),
    status: String,
}

/// Starts it. It waits for [`Ready`] before it takes SIGHUP and feeds the watchdog.
pub(super) fn start(signals: Signals, bus: &Bus) -> std::io::Result<Ready> {
    let ready = Arc::<OnceLock<Reloader>>::default();
    let watchdog = sd_notify::watchdog_enabled();
    let service = Service {
        signals,
        bus: bus.clone(),
        ready: Arc::clone(&ready),
        limit: watchdog.map_or(LIMIT, |time| time / 2),
        watchdog: watchdog.is_some(),
        camera: bus.pulse("camera"),
        rounds: (0, None),
        status: String::new(),
    };
    std::thread::Builder::new().name("service".into()).spawn(move || service.run())?;
    Ok(Ready(ready))
}

/// The word that all is ready.
#[derive(Debug)]
pub(super) struct Ready(Arc<OnceLock<Reloader>>);

impl Ready {
    /// The model runs, and so does all that acts: both can be replaced from now on.
    pub(super) fn ready(&self, reloader: Reloader) {
        let _ = self.0.set(reloader);
        notify(&[NotifyState::Ready]);
    }
}

impl Service {
    fn run(mut self) {
        let tick = (self.limit / 4).clamp(Duration::from_millis(1), LOOK);
        if let Err(error) = self.signals.wake.set_read_timeout(Some(tick)) {
            tracing::warn!("signals: {error}");
        }
        loop {
            // A signal, or time for a look.
            let _ = self.signals.wake.read(&mut [0; 64]);
            if self.signals.stop.load(Relaxed) {
                return self.end();
            }
            if let Some(reloader) = self.ready.get()
                && self.signals.reload.swap(false, Relaxed)
            {
                reloader.begin();
            }
            self.look();
        }
    }

    /// Looks at all threads; feeds the watchdog.
    fn look(&mut self) {
        let frames = self.bus.frames();
        let (rounds, opening) = (frames.rounds(), frames.opening());
        let since = opening.then(|| self.rounds.1.unwrap_or_else(Instant::now));
        // A camera that is away, or a recording that is over, is not a thread that hangs.
        let waits = since.is_some_and(|since| since.elapsed() < OPENING) || frames.stopped();
        if rounds != self.rounds.0 || waits {
            self.camera.beat();
        }
        self.rounds = (rounds, since);
        let stuck = self.bus.stuck(self.limit);
        if self.ready.get().is_some() {
            let status = line(&status(&self.bus.health(), stuck.as_deref()));
            let mut words = Vec::new();
            if self.watchdog && stuck.is_none() {
                words.push(NotifyState::Watchdog);
            }
            if status != self.status {
                words.push(NotifyState::Status(&status));
            }
            if !words.is_empty() {
                notify(&words);
            }
            self.status = status;
        }
        self.bus.report("threads", stuck);
    }

    /// It is time to end: whoever waits waits no more, and what does not let go is left behind.
    fn end(&self) {
        let begun = Instant::now();
        let _ = self.bus.stuck(LAST);
        notify(&[NotifyState::Stopping]);
        self.bus.be_patient(false);
        self.bus.frames().stop();
        while begun.elapsed() < LAST {
            std::thread::sleep(Duration::from_millis(10));
            // Nothing has begun but the camera, and the model is still being loaded.
            if self.ready.get().is_none() && self.bus.frames().stopped() {
                low_level::exit(0);
            }
        }
        if self.bus.frames().stopped() {
            self.camera.beat();
        }
        let stuck = self.bus.stuck(LAST / 2).unwrap_or_else(|| "no thread".into());
        tracing::error!("something hangs and is left behind: {stuck}");
        say::finish(Duration::from_millis(50));
        low_level::exit(1);
    }
}

/// All in one line.
fn status(health: &Health, stuck: Option<&str>) -> String {
    let camera = match health.camera.state {
        State::Opening => "the camera is being opened".into(),
        State::Running => format!("camera {}", health.camera.mode.as_deref().unwrap_or("runs")),
        State::Lost => {
            let why = health.camera.last_error.as_deref().unwrap_or_default();
            format!("the camera is away ({why})")
        }
        State::Ended => "the recording is over".into(),
    };
    let problems = health.problems.iter().filter(|(part, _)| *part != "threads");
    let problems = problems.map(|(part, problem)| format!("; {part}: {problem}"));
    let stuck = stuck.map(|stuck| format!("; hangs: {stuck}"));
    [camera].into_iter().chain(stuck).chain(problems).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kinglet_device::camera::Status;

    use super::*;

    #[test]
    fn a_status_names_the_camera_what_hangs_and_each_problem() {
        let camera = Status {
            state: State::Lost,
            last_error: Some("no frame for 2.0 s".into()),
            ..Status::default()
        };
        let problems = [("log", "disk\nfull"), ("threads", "pins: no progress for 9 s")];
        let problems: BTreeMap<_, _> =
            problems.iter().map(|(a, b)| (String::from(*a), String::from(*b))).collect();
        let (shadow, drift) = (None, None);
        let health = Health { uptime_s: 1.0, camera, inferences: 3, problems, shadow, drift };
        let text = line(&status(&health, Some("pins: no progress for 9 s")));
        assert_eq!(
            text,
            "the camera is away (no frame for 2.0 s); hangs: pins: no progress for 9 s; \
             log: disk full"
        );
    }
}
