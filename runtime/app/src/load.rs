//! Options that say which model to load and how; shared by all subcommands.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kinglet_engine::tune::Tuning;
use kinglet_engine::{Isa, Options, Session};
use kinglet_update::{Key, Kind, Signature, UpdateError};

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
    /// Refuse a model, before it is parsed, that has no signature of this minisign key beside it
    /// (MODEL.minisig).
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
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
        let session = load(&path, &self.options()?, self.key())?;
        Ok((path, session))
    }

    /// The file of the key that a model must be signed with, if it must be.
    pub(crate) fn key(&self) -> Option<&Path> {
        self.public_key.as_deref()
    }
}

/// The name under which choices are kept for this machine.
pub(crate) fn machine() -> String {
    kinglet_device::Board::read().model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Loads a model; says so if choices that lie beside it are not taken up. `key`: the file of the key
/// that it must be signed with, if it must be.
pub(crate) fn load(path: &Path, options: &Options, key: Option<&Path>) -> anyhow::Result<Session> {
    load_quietly(path, options, key, || {})
}

/// The same; `quiet` is called once the model's own threads have been started.
pub(crate) fn load_quietly(
    path: &Path,
    options: &Options,
    key: Option<&Path>,
    quiet: impl FnOnce(),
) -> anyhow::Result<Session> {
    let refused = || format!("model {} refused", path.display());
    let session = match key {
        // What is verified is what is loaded: the bytes, not the file once more.
        Some(key) => {
            let bytes = signed(path, &Key::read(key)?).with_context(refused)?;
            Session::load_bytes_quietly(bytes, path, options, quiet)
        }
        None => Session::load_quietly(path, options, quiet),
    };
    let session = session.with_context(refused)?;
    if let Tuning::Ignored { file, why } = session.tuning() {
        eprintln!("note: {} is not used: {why}", file.display());
    }
    Ok(session)
}

/// A model's bytes, verified with the signature beside it.
fn signed(path: &Path, key: &Key) -> Result<Vec<u8>, UpdateError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".minisig");
    let beside = PathBuf::from(beside);
    let signature = read_at_most(&beside, kinglet_update::MAX_SIGNATURE_BYTES as u64);
    let signature = signature.map_err(|why| {
        UpdateError::Signature(format!("it cannot be read from {}: {why}", beside.display()))
    })?;
    let signature = Signature::parse(&signature)?;
    let damaged = |why| UpdateError::Damaged { what: path.display().to_string(), why };
    let bytes = read_at_most(path, Kind::Model.max_bytes()).map_err(damaged)?;
    let release = signature.verify_bytes(key, &bytes)?;
    match release.kind {
        Kind::Model => Ok(bytes),
        Kind::App => Err(UpdateError::Release("it is signed as a program, not as a model".into())),
    }
}

fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    // Before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("not a regular file".into());
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::with_capacity(length.min(most) as usize);
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > most {
        true => Err(format!("it has more than {most} bytes")),
        false => Ok(bytes),
    }
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
