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

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::bus::Bus;
use kinglet_engine::Session;

use super::config::{Config, Http, Region};
use super::pins::OutputPlan;
use super::plan::Plan;
use crate::http::{Core, Door, Load, Metrics, Models, Settings};
use crate::load::{self, ModelArgs};
use collection::Collection;
use live::Live;
use pictures::Pictures;

/// How long requests that are being answered have at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// How long is waited for the thread at the end.
const FAREWELL: Duration = Duration::from_millis(800);
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
    /// The model's name.
    pub(super) model: String,
    /// How it is loaded.
    pub(super) load: ModelArgs,
    /// Names of its classes; empty without.
    pub(super) labels: Vec<String>,
    /// Empty without.
    pub(super) regions: Vec<Region>,
    pub(super) outputs: Vec<OutputPlan>,
}

impl Facts {
    /// Of the model that decides.
    pub(super) fn new(
        load: ModelArgs,
        session: &Session,
        config: &Config,
        plan: &Plan,
    ) -> anyhow::Result<Self> {
        let label = |i| session.label(i).map(str::to_owned);
        Ok(Self {
            model: crate::http::stem(&load.path()?),
            load,
            labels: (0..session.classes()).map_while(label).collect(),
            regions: config.region.iter().map(|region| region.get_ref().clone()).collect(),
            outputs: plan.outputs.clone(),
        })
    }
}

/// They may change while we run.
type SharedFacts = Arc<Mutex<Arc<Facts>>>;

fn current(facts: &SharedFacts) -> Arc<Facts> {
    Arc::clone(&facts.lock().unwrap_or_else(PoisonError::into_inner))
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

/// A server that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    facts: SharedFacts,
    over: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Starts the server.
///
/// # Errors
/// The address, the token or the certificate cannot be had, or other machines could ask without a
/// token.
pub(super) fn start(config: &Http, facts: Facts, bus: &Bus) -> anyhow::Result<Server> {
    let door = Door::new(Settings {
        listen: config.listen,
        token_file: config.token_file.clone(),
        clients: config.clients.max(1).into(),
        tls: config.tls_cert.clone().zip(config.tls_key.clone()),
        last_answers: LAST_ANSWERS,
    })?;
    let metrics = Metrics::default();
    let (over, receiver) = watch::channel(false);
    let web = Arc::new(Web {
        bus: bus.clone(),
        live: Live::new(),
        facts: Arc::new(Mutex::new(Arc::new(facts))),
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
    let facts = Arc::clone(&web.facts);
    let thread = std::thread::Builder::new().name("http".into());
    let thread = thread.spawn(move || run(door, &web, models, metrics))?;
    Ok(Server { facts, over, thread })
}

impl Server {
    /// Lets nobody in any more, and sends away who is in.
    pub(super) fn end(&self) {
        // Whoever would hear it may be gone.
        let _ = self.over.send(true);
    }

    /// Whether it has ended.
    pub(super) fn stopped(&self) -> bool {
        self.thread.is_finished()
    }

    /// Another model, or other regions or outputs, from now on.
    pub(super) fn tell(&self, facts: Facts) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
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
            *session = Some(load::load(&facts.load.path()?, &options)?);
            loaded = Some(Arc::clone(&facts));
        }
        Ok(facts.model.clone())
    });
    Models::idle(&name, load, QUEUE, metrics)
}

/// The thread that speaks HTTP; those that it starts have its priority.
fn run(door: Door, web: &Arc<Web>, models: Models, metrics: Metrics) {
    kinglet_device::lower_priority(NICE);
    metrics.collect(figures::OfBus(web.bus.clone()));
    let workers = match workers(web, &metrics) {
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
    for worker in workers {
        let _ = worker.join();
    }
}

/// The threads beside the one that speaks HTTP.
fn workers(web: &Arc<Web>, metrics: &Metrics) -> std::io::Result<[JoinHandle<()>; 2]> {
    Ok([live::start(web, metrics)?, pictures::start(web)?])
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let deadline = Instant::now() + FAREWELL;
        while !self.stopped() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
