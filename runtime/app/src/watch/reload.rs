//! Another configuration, another model, while the old ones work.
//!
//! A thread of low priority reads and checks them; the loop takes what is ready between two frames
//! ([`Reloader::take`]), or hears why there is nothing to take, and goes on as before.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinglet_device::lower_priority;
use kinglet_engine::Session;
use sd_notify::NotifyState;

use super::args::Args;
use super::bus::Bus;
use super::config::Config;
use super::notify::{line, notify};
use super::program;
use super::releases::{Chosen, Keeper, Settings};
use super::sight::Sight;
use super::trial;
use crate::exit::one_line;
use crate::load::ModelArgs;

/// A model, and the file that it was when it was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    pub(super) session: Session,
    mark: Mark,
}

/// By what it is seen that a model is another one: the path and how it is loaded, and for the file
/// and its choices (`kinglet tune`) their place, size and time.
#[derive(Debug, Clone, PartialEq)]
struct Mark {
    path: PathBuf,
    threads: Option<u16>,
    files: [Option<[u64; 5]>; 2],
}

impl Mark {
    fn new(model: &ModelArgs, path: &Path) -> Self {
        let facts = |path: &Path| {
            let m = std::fs::metadata(path).ok()?;
            Some([m.dev(), m.ino(), m.len(), m.mtime() as u64, m.mtime_nsec() as u64])
        };
        let files = [facts(path), facts(&path.with_extension("tune.toml"))];
        Self { path: path.to_owned(), threads: model.threads, files }
    }

    /// The second model's, which is always named.
    fn of_shadow(model: &ModelArgs) -> Self {
        Self::new(model, model.model.as_deref().unwrap_or(Path::new("")))
    }
}

impl Loaded {
    /// Loads the model that decides.
    pub(super) fn new(model: &ModelArgs) -> anyhow::Result<Self> {
        Self::read(model, || {})
    }

    /// Loads it on a thread that does `quiet` before it works, but after the model's own threads
    /// were started.
    fn read(model: &ModelArgs, quiet: impl FnOnce()) -> anyhow::Result<Self> {
        let path = model.path()?;
        let mark = Mark::new(model, &path);
        let session = crate::load::load_quietly(&path, &model.options()?, model.key(), quiet)?;
        Ok(Self { path, session, mark })
    }
}

/// What runs now, by which it is seen what changes.
#[derive(Debug, Clone)]
pub(super) struct Current {
    model: Mark,
    shadow: Option<Mark>,
}

/// What is ready to take the place of what runs.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) config: Config,
    pub(super) sight: Sight,
    /// The model, unless it is the same.
    pub(super) model: Option<Session>,
    /// The second model, if there is one; and whether it is another than before.
    pub(super) shadow: (Option<ModelArgs>, bool),
    pub(super) current: Current,
}

type Letter = Option<Result<Box<Fresh>, String>>;

/// From the thread that prepares to the loop.
#[derive(Debug, Clone)]
pub(super) struct Reloader {
    args: Arc<Args>,
    mail: Arc<Mutex<Letter>>,
    current: Arc<Mutex<Current>>,
    /// It is under way: from a signal until the loop has taken what came of it.
    busy: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
    keeper: Keeper,
    bus: Bus,
    /// Ends the loop.
    stop: Arc<AtomicBool>,
    /// The store has another program, which is to go on.
    other_program: Arc<AtomicBool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reloader {
    /// Knows what was loaded at the start.
    pub(super) fn new(
        args: &Args,
        model: &Loaded,
        shadow: Option<&ModelArgs>,
        keeper: &Keeper,
        bus: &Bus,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let (model, shadow) = (model.mark.clone(), shadow.map(Mark::of_shadow));
        let current = Arc::new(Mutex::new(Current { model, shadow }));
        let (mail, busy, again) = (Arc::default(), Arc::default(), Arc::default());
        Self {
            args: Arc::new(args.clone()),
            mail,
            current,
            busy,
            again,
            keeper: keeper.clone(),
            bus: bus.clone(),
            stop: Arc::clone(stop),
            other_program: Arc::default(),
        }
    }

    /// Begins; once more afterwards if it is under way already.
    pub(super) fn begin(&self) {
        if self.busy.swap(true, Relaxed) {
            self.again.store(true, Relaxed);
            return;
        }
        let mut words = vec![NotifyState::Reloading];
        words.extend(NotifyState::monotonic_usec_now());
        notify(&words);
        tracing::info!("reading the configuration and the model again");
        let own = self.clone();
        let thread = std::thread::Builder::new().name("reload".into());
        if let Err(error) = thread.spawn(move || own.prepare()) {
            *lock(&self.mail) = Some(Err(error.to_string()));
        }
    }

    /// The model that a configuration names, and how it is loaded.
    pub(super) fn model_of(&self, config: &Config) -> ModelArgs {
        self.args.model_of(config)
    }

    /// What has come of it.
    pub(super) fn take(&self) -> Letter {
        lock(&self.mail).take()
    }

    /// The loop has done with what came: it runs with it, or as before and says why.
    pub(super) fn done(&self, outcome: Result<Current, String>) {
        self.busy.store(false, Relaxed);
        match outcome {
            Ok(current) => {
                *lock(&self.current) = current;
                notify(&[NotifyState::Ready]);
                self.taken();
            }
            Err(problem) => {
                self.keeper.refuse(&problem);
                let status = line(&format!("configuration: {problem}"));
                notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
        }
        if self.again.swap(false, Relaxed) {
            self.begin();
        }
    }

    /// What was chosen from the store runs: if it is new, its trial begins.
    pub(super) fn taken(&self) {
        if let Some(chosen) = self.keeper.taken() {
            trial::start(chosen, self.keeper.clone(), self.clone(), self.bus.clone());
        }
    }

    /// This program runs: if it is one of the store's and new, its trial begins.
    pub(super) fn try_program(&self, settings: Option<&Settings>) {
        if let Some(program) = settings.and_then(Chosen::program) {
            trial::start(program, self.keeper.clone(), self.clone(), self.bus.clone());
        }
    }

    /// Whether the loop ends because the store has another program.
    pub(super) fn other_program(&self) -> bool {
        self.other_program.load(Relaxed)
    }

    fn prepare(&self) {
        let fresh = || self.fresh().map_err(|error| one_line(&error));
        let fresh = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fresh));
        let fresh = fresh.unwrap_or_else(|_| Err("reading it has failed".into()));
        *lock(&self.mail) = Some(fresh.map(Box::new));
    }

    fn fresh(&self) -> anyhow::Result<Fresh> {
        let mut config = self.args.configuration()?;
        let sight = Sight::new(&config)?;
        if config.update.as_ref().is_some_and(program::is_another) {
            self.other_program.store(true, Relaxed);
            self.stop.store(true, Relaxed);
            anyhow::bail!("another program takes over");
        }
        self.keeper.choose(&mut config);
        let mut current = lock(&self.current).clone();
        let args = self.args.model_of(&config);
        let mark = Mark::new(&args, &args.path()?);
        let mut model = None;
        if mark != current.model {
            // Its threads have their full priority; this one has not.
            model = Some(Loaded::read(&args, || lower_priority(19))?.session);
            current.model = mark;
        }
        let args = self.args.shadow_of(&config);
        let mark = args.as_ref().map(Mark::of_shadow);
        let shadow = (args, mark != current.shadow);
        current.shadow = mark;
        Ok(Fresh { config, sight, model, shadow, current })
    }
}
