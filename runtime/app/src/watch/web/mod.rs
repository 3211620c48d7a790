//! The server inside `watch`: what the camera sees and what is decided, live.
//!
//! It stands at the bus and touches nothing else. One thread speaks HTTP ([`crate::http`]), one
//! listens to decisions ([`live`]), one encodes pictures when somebody looks ([`pictures`]), all with a
//! lower priority than the camera and the model. Start with `routes.rs`.

mod collection;
mod collector;
mod download;
mod events;
mod figures;
mod live;
mod page;
mod pictures;
mod routes;
mod stream;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kinglet_engine::Session;
use tokio::sync::{Semaphore, watch};

use super::bus::{Bus, Listener, Writer};
use super::config::{Http, Region};
use super::pins::OutputPlan;
use super::plan::Plan;
use crate::http::{Core, Door, Load, Metrics, Models, Settings, stem};
use crate::load::{self, ModelArgs};
use collection::Collection;
use live::Live;
use pictures::Pictures;

/// How long requests that are being answered have at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// Who may listen to events at a time.
const LISTENERS: usize = 32;
/// Live streams at a time.
const STREAMS: usize = 8;
/// Pictures of clients that may wait for the model.
const QUEUE: usize = 4;
/// How long is waited for a frame.
const PATIENCE: Duration = Duration::from_secs(2);
/// Priority of all that is here: after the camera and the model.
const NICE: i32 = 5;

/// What is shown beside pictures and decisions.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Counts up whenever they are other ones.
    number: u64,
    /// The model's name.
    model: String,
    /// How it is loaded.
    load: ModelArgs,
    /// Names of its classes.
    labels: Arc<[String]>,
    /// Empty without.
    regions: Vec<Region>,
    outputs: Vec<OutputPlan>,
}

impl Facts {
    /// What a model that was loaded so, and a plan for it, are.
    pub(super) fn new(load: ModelArgs, session: &Session, plan: &Plan) -> Self {
        Self {
            number: 0,
            model: load.path().map_or_else(|_| String::new(), |path| stem(&path)),
            load,
            // Without names of its own the model's classes have none.
            labels: session.label(0).map_or_else(Arc::default, |_| Arc::clone(&plan.labels)),
            regions: plan.view.regions.clone(),
            outputs: plan.outputs.clone(),
        }
    }
}

/// They may change while we run.
type SharedFacts = Arc<Mutex<Arc<Facts>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current(facts: &SharedFacts) -> Arc<Facts> {
    Arc::clone(&lock(facts))
}

/// What requests share. Nothing that may outlast the server holds it: the camera goes with it.
struct Web {
    bus: Bus,
    facts: SharedFacts,
    live: Live,
    pictures: Pictures,
    listeners: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    classify: bool,
    /// Whether a token is needed.
    guarded: bool,
    collection: Option<Arc<Collection>>,
    over: watch::Receiver<bool>,
}

impl Web {
    fn facts(&self) -> Arc<Facts> {
        current(&self.facts)
    }

    /// Resolves when the program ends.
    async fn over(&self) {
        let mut over = self.over.clone();
        // Whoever would say so may be gone, too.
        let _ = over.wait_for(|over| *over).await;
    }
}

/// The server, if the configuration asks for one.
#[derive(Debug)]
pub(super) struct Server {
    running: Arc<Mutex<Option<Running>>>,
    facts: SharedFacts,
    bus: Bus,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// The address, the token or the certificate cannot be had, or other machines could ask without
    /// a token.
    pub(super) fn start(config: Option<&Http>, facts: Facts, bus: &Bus) -> anyhow::Result<Self> {
        let facts: SharedFacts = Arc::new(Mutex::new(Arc::new(facts)));
        let running = config.map(|config| Running::new(config, &facts, bus)).transpose()?;
        Ok(Self { running: Arc::new(Mutex::new(running)), facts, bus: bus.clone() })
    }

    /// Another model, or other regions or outputs, from now on.
    pub(super) fn tell(&self, facts: Facts) {
        let mut known = lock(&self.facts);
        *known = Arc::new(Facts { number: known.number + 1, ..facts });
    }

    /// Another server in its place, or none; at leisure. One that cannot be started is said in health.
    pub(super) fn change(&self, config: Option<Http>) -> io::Result<()> {
        let (running, facts) = (Arc::clone(&self.running), Arc::clone(&self.facts));
        let bus = self.bus.clone();
        let change = move || {
            let mut running = lock(&running);
            // What can be known before the old one goes.
            let mut outcome = config.as_ref().map_or(Ok(()), |c| Door::check(&settings(c)));
            if outcome.is_ok() {
                if let Some(old) = running.take() {
                    old.end();
                }
                outcome = config.map_or(Ok(()), |config| {
                    *running = Some(Running::new(&config, &facts, &bus)?);
                    Ok(())
                });
            }
            bus.report("http", outcome.err().map(|error| format!("{error:#}")));
        };
        std::thread::Builder::new().name("http change".into()).spawn(change).map(drop)
    }

    /// Ends it; returns at once.
    pub(super) fn stop(&self) {
        // While it is changed, it is left behind.
        if let Ok(running) = self.running.try_lock()
            && let Some(running) = &*running
        {
            let _ = running.over.send(true);
        }
    }

    /// Whether it has ended.
    pub(super) fn stopped(&self) -> bool {
        let running = self.running.try_lock();
        running.is_ok_and(|running| running.as_ref().is_none_or(|r| r.thread.is_finished()))
    }
}

/// A server that runs.
#[derive(Debug)]
struct Running {
    over: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

fn settings(config: &Http) -> Settings {
    Settings {
        listen: config.listen,
        token_file: config.token_file.clone(),
        clients: config.clients.max(1).into(),
        tls: config.tls_cert.clone().zip(config.tls_key.clone()),
        last_answers: LAST_ANSWERS,
    }
}

impl Running {
    fn new(config: &Http, facts: &SharedFacts, bus: &Bus) -> anyhow::Result<Self> {
        let door = Door::new(settings(config))?;
        let metrics = Metrics::default();
        let (over, receiver) = watch::channel(false);
        let web = Arc::new(Web {
            bus: bus.clone(),
            live: Live::new(),
            facts: Arc::clone(facts),
            pictures: Pictures::new(bus.clone()),
            listeners: Arc::new(Semaphore::new(LISTENERS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            classify: config.classify,
            guarded: config.token_file.is_some(),
            collection: config.collect.as_deref().map(|folder| {
                let mib = |mib: u64| mib.saturating_mul(1 << 20);
                Arc::new(Collection::new(folder, mib(config.collect_mib), mib(config.free_mib)))
            }),
            over: receiver,
        });
        let models = if config.classify { lent(&web, &metrics)? } else { Models::none() };
        tracing::info!("listening on {}", door.url);
        // From the first decision on.
        let listener = bus.listen(live::KEPT, false);
        let thread = std::thread::Builder::new().name("http".into());
        let thread = thread.spawn(move || run(door, &web, models, metrics, listener))?;
        Ok(Self { over, thread })
    }

    /// Ends it, so that its address is free.
    fn end(self) {
        let _ = self.over.send(true);
        let _ = self.thread.join();
    }
}

/// The camera's model once more, for the pictures of clients.
fn lent(web: &Arc<Web>, metrics: &Metrics) -> anyhow::Result<Models> {
    let name = web.facts().model.clone();
    let facts = Arc::clone(&web.facts);
    let mut loaded: Option<Arc<Facts>> = None;
    let load: Load = Box::new(move |session| {
        let facts = current(&facts);
        if session.is_none() || !loaded.as_ref().is_some_and(|known| Arc::ptr_eq(known, &facts)) {
            // Never two at a time.
            *session = None;
            let mut options = facts.load.options()?;
            (options.threads, options.pin) = (1, false);
            *session = Some(load::load(&facts.load.path()?, &options, facts.load.key())?);
            loaded = Some(Arc::clone(&facts));
        }
        Ok(facts.model.clone())
    });
    Models::idle(&name, load, QUEUE, metrics)
}

/// The thread that speaks HTTP; those that it starts have its priority.
fn run(door: Door, web: &Arc<Web>, models: Models, metrics: Metrics, listener: Listener) {
    kinglet_device::lower_priority(NICE);
    metrics.collect(figures::OfBus(web.bus.clone()));
    let (events, pictures) = match workers(web, &metrics, listener) {
        Ok(workers) => workers,
        Err(error) => return tracing::error!("http: {error}"),
    };
    let stop = async {
        tokio::select! {
            () = web.over() => {}
            () = live::beat(web) => {}
            () = web.bus.pulse("http").keep_beating() => {}
        }
    };
    door.open(models, metrics, |core: &Arc<Core>| routes::routes(core, web), stop);
    web.pictures.end();
    // The one that listens ends with this.
    drop(events);
    let _ = pictures.join();
}

/// The threads beside the one that speaks HTTP.
fn workers(
    web: &Arc<Web>,
    metrics: &Metrics,
    listener: Listener,
) -> io::Result<(Writer, JoinHandle<()>)> {
    Ok((live::start(web, metrics, listener)?, pictures::start(web)?))
}
