//! The models that classify what comes in: each has a thread of its own, and a short queue before it.
//!
//! `serve` loads its models when it starts. Inside `watch` ([`Models::idle`]) the camera's model is
//! not lent to clients: it is loaded once more, on one thread with a low priority, when the first
//! picture comes, and given up when none has come for a while. So clients cost no frames, and where
//! there are none, no memory.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kinglet_engine::Session;
use kinglet_engine::session::FileError;
use tokio::sync::oneshot;

use super::answer::{Answer, Entry, Refusal};
use super::metrics::Metrics;
use super::upload::Upload;
use crate::load::{self, ModelArgs};

/// How long a model that is not always needed stays without pictures.
const REST: Duration = Duration::from_secs(60);

/// All models; the first is the one that answers where none is named.
pub(crate) struct Models(Vec<Model>);

/// One model.
pub(crate) struct Model {
    shared: Arc<Shared>,
    most: usize,
    queue: SyncSender<Job>,
}

/// What a model's thread and those who ask it share.
struct Shared {
    name: Mutex<Arc<str>>,
    waiting: AtomicUsize,
}

/// A picture that waits.
struct Job {
    upload: Upload,
    top: usize,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Loads a model when it is needed and not there, or another should be there; gives its name.
pub(crate) type Load = Box<dyn FnMut(&mut Option<Session>) -> anyhow::Result<String> + Send>;

impl Models {
    /// Loads the model of `args`, and those of `also`, each `[NAME=]FILE`.
    ///
    /// # Errors
    /// A model is refused, or two have one name.
    pub(crate) fn load(
        args: &ModelArgs,
        also: &[String],
        queue: usize,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let options = args.options()?;
        let first = args.path()?;
        let mut models: Vec<Model> = Vec::new();
        let others = also.iter().map(|text| match text.split_once('=') {
            Some((name, file)) => (name.to_owned(), Path::new(file)),
            None => (stem(Path::new(text)), Path::new(text)),
        });
        for (name, path) in std::iter::once((stem(&first), &*first)).chain(others) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let usable = !name.is_empty() && name.chars().all(plain);
            ensure!(
                usable,
                "'{name}' is no name of a model: letters, digits, '-', '_' and '.' only"
            );
            ensure!(
                models.iter().all(|model| *model.name() != *name),
                "two models are called '{name}'; name one with --also NAME={}",
                path.display()
            );
            let session = load::load(path, &options, args.key())?;
            ensure!(
                session.metadata().preprocess.is_some(),
                "model {} does not say how pictures become its input; adopt it with \
                 `kinglet-tools import`",
                path.display()
            );
            models.push(Model::start(&name, Some(session), None, queue, metrics.clone())?);
        }
        Ok(Self(models))
    }

    /// One model that is loaded when it is needed, for clients who may wait.
    ///
    /// # Errors
    /// There is no thread.
    pub(crate) fn idle(
        name: &str,
        load: Load,
        queue: usize,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        Ok(Self(vec![Model::start(name, None, Some(load), queue, metrics.clone())?]))
    }

    /// None at all.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// The names, the first model's first.
    pub(crate) fn names(&self) -> impl Iterator<Item = Arc<str>> {
        self.0.iter().map(Model::name)
    }

    /// All models.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Model> {
        self.0.iter()
    }

    /// The model of this name, or the first.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Model, Refusal> {
        let found = self.0.iter().find(|model| name.is_none_or(|name| *model.name() == *name));
        found.ok_or_else(|| Refusal::UnknownModel {
            name: name.unwrap_or_default().chars().take(64).collect(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }
}

/// A model's name: that of its file.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

impl Model {
    fn start(
        name: &str,
        session: Option<Session>,
        load: Option<Load>,
        queue: usize,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let (sender, jobs) = sync_channel(queue);
        let shared =
            Arc::new(Shared { name: Mutex::new(name.into()), waiting: AtomicUsize::new(0) });
        let worker = Worker { shared: Arc::clone(&shared), session, load, metrics };
        std::thread::Builder::new()
            .name(format!("model {name}"))
            .spawn(move || worker.run(&jobs))
            .context("no thread for the model")?;
        Ok(Self { shared, most: queue, queue: sender })
    }

    /// The name.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.shared.name())
    }

    /// Pictures that wait.
    pub(super) fn waiting(&self) -> usize {
        self.shared.waiting.load(Relaxed)
    }

    /// Whether its thread is there.
    pub(super) fn works(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Whether there is room for another picture.
    pub(super) fn has_room(&self) -> bool {
        self.waiting() < self.most
    }

    /// Scores of a picture.
    pub(super) async fn classify(&self, upload: Upload, top: usize) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::Model("its thread ended".into());
        self.shared.waiting.fetch_add(1, Relaxed);
        self.queue.try_send(Job { upload, top, reply }).map_err(|error| {
            self.shared.waiting.fetch_sub(1, Relaxed);
            match error {
                TrySendError::Full(_) => Refusal::Busy,
                TrySendError::Disconnected(_) => gone(),
            }
        })?;
        answer.await.map_err(|_| gone())?
    }
}

impl Shared {
    fn name(&self) -> std::sync::MutexGuard<'_, Arc<str>> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a model's thread has.
struct Worker {
    shared: Arc<Shared>,
    session: Option<Session>,
    load: Option<Load>,
    metrics: Metrics,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        if self.load.is_some() {
            kinglet_device::lower_priority(10);
        }
        while let Some(Job { upload, top, reply }) = self.next(jobs) {
            self.shared.waiting.fetch_sub(1, Relaxed);
            // A client that has gone waits for nothing.
            if reply.is_closed() {
                continue;
            }
            let answer = self.answer(&upload, top);
            drop(upload);
            // It may have gone meanwhile.
            let _ = reply.send(answer);
        }
    }

    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        if self.load.is_some() && self.session.is_some() {
            match jobs.recv_timeout(REST) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.session = None,
            }
        }
        jobs.recv().ok()
    }

    fn answer(&mut self, upload: &Upload, top: usize) -> Result<Answer, Refusal> {
        if let Some(load) = &mut self.load {
            let name = load(&mut self.session).map_err(|e| Refusal::Model(format!("{e:#}")))?;
            *self.shared.name() = name.into();
        }
        let name = Arc::clone(&self.shared.name());
        let gone = || Refusal::Model("it is not there".into());
        let session = self.session.as_mut().ok_or_else(gone)?;
        let answer = classify(session, &name, upload, top)?;
        self.metrics.classified(&name, answer.latency_ms / 1e3);
        Ok(answer)
    }
}

fn classify(
    session: &mut Session,
    name: &str,
    upload: &Upload,
    top: usize,
) -> Result<Answer, Refusal> {
    let start = Instant::now();
    let scores = session.classify_file(upload.bytes()).map_err(|error| match error {
        FileError::Picture(error) => Refusal::Picture(error.cause().to_string()),
        other => Refusal::Model(other.to_string()),
    })?;
    let latency_ms = start.elapsed().as_secs_f64() * 1e3;
    let ranked = scores.top(top.max(1));
    let best = ranked.first().map_or(0.0, |first| first.score);
    let entry = |class: kinglet_engine::scores::Ranked| Entry {
        index: class.index,
        label: session.label(class.index).map(str::to_owned),
        score: class.score,
    };
    Ok(Answer {
        top: ranked.into_iter().take(top).map(entry).collect(),
        unknown: session.metadata().unknown_below.map(|least| best < least),
        latency_ms,
        model: name.to_owned(),
    })
}
