//! The models that are served: each has a thread of its own, and a short queue before it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use kinglet_engine::Session;
use kinglet_engine::session::FileError;
use tokio::sync::{mpsc, oneshot};

use super::answer::{Answer, Entry, Refusal};
use super::metrics::Metrics;
use super::upload::Upload;
use crate::load::{self, ModelArgs};

/// All models; the first is the one that answers where none is named.
pub(super) struct Models(Vec<Model>);

/// One model.
pub(super) struct Model {
    name: String,
    queue: mpsc::Sender<Job>,
}

/// A picture that waits.
struct Job {
    upload: Upload,
    top: usize,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

impl Models {
    /// Loads the model of `args`, and those of `also`, each `[NAME=]FILE`.
    ///
    /// # Errors
    /// A model is refused, or two have one name.
    pub(super) fn load(
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
                models.iter().all(|model| model.name != name),
                "two models are called '{name}'; name one with --also NAME={}",
                path.display()
            );
            let session = load::load(path, &options)?;
            ensure!(
                session.metadata().preprocess.is_some(),
                "model {} does not say how pictures become its input; adopt it with \
                 `kinglet-tools import`",
                path.display()
            );
            models.push(Model::start(name, session, queue, metrics.clone())?);
        }
        Ok(Self(models))
    }

    /// The names, the first model's first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|model| model.name.as_str())
    }

    /// All models.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Model> {
        self.0.iter()
    }

    /// The model of this name, or the first.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Model, Refusal> {
        let Some(name) = name else { return Ok(&self.0[0]) };
        self.0.iter().find(|model| model.name == name).ok_or_else(|| Refusal::UnknownModel {
            name: name.chars().take(64).collect(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

impl Model {
    fn start(
        name: String,
        mut session: Session,
        queue: usize,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(queue);
        let work = {
            let name = name.clone();
            move || {
                while let Some(Job { upload, top, reply }) = jobs.blocking_recv() {
                    // A client that has gone waits for nothing.
                    if reply.is_closed() {
                        continue;
                    }
                    let answer = classify(&mut session, &name, &upload, top);
                    if let Ok(answer) = &answer {
                        metrics.classified(&name, answer.latency_ms / 1e3);
                    }
                    drop(upload);
                    // It may have gone meanwhile.
                    let _ = reply.send(answer);
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("model {name}"))
            .spawn(work)
            .context("no thread for the model")?;
        Ok(Self { name, queue: sender })
    }

    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Pictures that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Whether its thread is there.
    pub(super) fn works(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Whether there is room for another picture.
    pub(super) fn has_room(&self) -> bool {
        self.queue.capacity() > 0
    }

    /// Scores of a picture.
    pub(super) async fn classify(&self, upload: Upload, top: usize) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::Model("its thread ended".into());
        self.queue.try_send(Job { upload, top, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy,
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())?
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
