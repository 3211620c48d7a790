//! Options that say which model to load and how; shared by all subcommands.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kinglet_engine::tune::Tuning;
use kinglet_engine::{Isa, Options, Session};

use crate::default_model;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Called first in `main`.
pub(crate) fn start_clock() {
    STARTED.get_or_init(Instant::now);
}

/// Time since `main` began. What comes before it, the loading of the program itself, is not counted.
pub(crate) fn since_start() -> Duration {
    STARTED.get_or_init(Instant::now).elapsed()
}

/// Which model, and how it runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArgs {
    /// The model, an ONNX file [default: the one installed or in the repository].
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Threads that work on one picture [default: all cores].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Bind each thread to a core of its own.
    #[arg(long)]
    pub pin: bool,
    /// Instruction set of the kernels [default: the best this CPU has].
    #[arg(long, value_name = "NAME")]
    pub isa: Option<String>,
    /// Refuse the model when any convolution would run in float.
    #[arg(long)]
    pub require_int8: bool,
    /// Do not take up what `kinglet tune` chose.
    #[arg(long)]
    pub untuned: bool,
    /// Do not run the first sample of the model's self-test at load (`verify` runs all).
    #[arg(long)]
    pub no_self_test: bool,
}

impl ModelArgs {
    /// The model's path.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.model {
            Some(path) => Ok(path.clone()),
            None => Ok(default_model::find()?),
        }
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, usize::from)
    }

    /// How the model is loaded.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            threads: self.threads(),
            pin: self.pin,
            isa: self.isa.as_deref().map(parse_isa).transpose()?,
            require_int8: self.require_int8,
            self_test: !self.no_self_test,
            tuned_for: (!self.untuned).then(machine),
            ..Options::default()
        })
    }

    /// Loads the model; gives its path too.
    pub(crate) fn load(&self) -> anyhow::Result<(PathBuf, Session)> {
        let path = self.path()?;
        let session = load(&path, &self.options()?)?;
        Ok((path, session))
    }
}

/// The name under which choices are kept for this machine.
pub(crate) fn machine() -> String {
    kinglet_device::Board::read().model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Loads a model; says so if choices that lie beside it are not taken up.
pub(crate) fn load(path: &Path, options: &Options) -> anyhow::Result<Session> {
    load_quietly(path, options, || {})
}

/// The same; `quiet` is called once the model's own threads have been started.
pub(crate) fn load_quietly(
    path: &Path,
    options: &Options,
    quiet: impl FnOnce(),
) -> anyhow::Result<Session> {
    let session = Session::load_quietly(path, options, quiet)
        .with_context(|| format!("model {} refused", path.display()))?;
    if let Tuning::Ignored { file, why } = session.tuning() {
        eprintln!("note: {} is not used: {why}", file.display());
    }
    Ok(session)
}

/// What choices were taken up, in words.
pub(crate) fn tuned(session: &Session) -> Option<String> {
    match session.tuning() {
        Tuning::Taken { file, layers } => {
            Some(format!("{layers} layer(s) as {} chooses", file.display()))
        }
        _ => None,
    }
}

/// For how many layers choices were taken up.
pub(crate) fn tuned_layers(session: &Session) -> usize {
    match session.tuning() {
        Tuning::Taken { layers, .. } => *layers,
        _ => 0,
    }
}

fn parse_isa(name: &str) -> anyhow::Result<Isa> {
    let available = Isa::available();
    available.iter().copied().find(|isa| isa.name() == name).with_context(|| {
        let names: Vec<_> = available.iter().map(|i| i.name()).collect();
        format!("--isa {name}: this CPU can run {}", names.join(", "))
    })
}
