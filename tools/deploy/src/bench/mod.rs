//! Measuring the installed program on a board, from here.
//!
//! Each figure is `kinglet bench` in a process of its own there; this chooses what is measured, judges whether the board
//! was in a state to be measured, and compares. Start with [`measure`]; [`table()`] prints what came out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::ssh::{Answer, Host, Ssh, SshError};
use crate::{hash, put};

mod compare;
mod health;
mod model;
mod table;

pub use compare::{Comparison, compare};
pub use health::{HOT_MC, Health};
pub use model::Kind;
pub use table::table;

/// Most threads that are tried.
const THREADS: u32 = 256;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The connection, or a command on the board.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A model here cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program there failed.
    #[error("{host}: {what}: {said}")]
    Failed {
        /// The board.
        host: String,
        /// What was asked of it.
        what: String,
        /// What it said.
        said: String,
    },
    /// An answer that is not understood.
    #[error(
        "{host}: {what}: its answer is not understood: {why}; is Kinglet there as new as here?"
    )]
    Answer {
        /// The board.
        host: String,
        /// What was asked of it.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine: it is sent, unless the board has it.
    Here(PathBuf),
    /// On the board.
    There(String),
    /// The one that the board uses when none is named.
    Default,
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The device's program there.
    pub program: String,
    /// Folder there for models that are sent, from the home folder on.
    pub folder: String,
    /// The models, one after the other.
    pub models: Vec<Place>,
    /// Numbers of threads; empty for one to all cores.
    pub threads: Vec<u32>,
    /// Timed runs of each.
    pub runs: u32,
    /// Pause before each measurement, so that the board is as warm for all.
    pub rest: Duration,
    /// Also measure a first result after the page cache has been dropped; needs `sudo -n` there.
    pub drop_caches: bool,
}

/// What `kinglet bench --json` says; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The fastest.
    pub min: f64,
    /// Half are not slower.
    pub median: f64,
    /// Nine tenths are not slower.
    pub p90: f64,
    /// 99 of a hundred are not slower.
    pub p99: f64,
    /// From the start of the process to its first result.
    pub load: f64,
    /// Peak resident memory, MiB.
    pub rss: f64,
    /// Timed runs.
    pub runs: u32,
    /// Threads.
    pub threads: u32,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Layers that run as `kinglet tune` chose there.
    #[serde(default)]
    pub tuned: u32,
    /// The model's path there.
    #[serde(default)]
    pub model: String,
    /// The board before.
    #[serde(default)]
    pub before: Health,
    /// The board after.
    #[serde(default)]
    pub after: Health,
    /// Why the figures do not count; empty where they do.
    #[serde(default)]
    pub invalid: Vec<String>,
    /// What may have changed them a little.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its file's name, without its ending.
    pub name: String,
    /// The type that most of its work runs in, there.
    pub precision: String,
    /// Multiply-accumulates of an inference, millions.
    pub mmacs: f64,
    /// First result after the page cache was dropped, ms.
    pub cold_ms: Option<f64>,
    /// By number of threads.
    pub runs: Vec<Run>,
}

/// All that was measured on a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub host: String,
    /// The board as it was first seen.
    pub board: Health,
    /// The models.
    pub models: Vec<Model>,
}

impl Report {
    /// Measurements that do not count, and all.
    #[must_use]
    pub fn invalid(&self) -> (usize, usize) {
        let runs = || self.models.iter().flat_map(|m| &m.runs);
        (runs().filter(|r| !r.invalid.is_empty()).count(), runs().count())
    }
}

/// Measures; `told` hears what is being measured now.
///
/// # Errors
/// [`BenchError`]: what cannot be measured ends it.
pub fn measure(
    ssh: &Ssh,
    host: &Host,
    plan: &Plan,
    mut told: impl FnMut(&str),
) -> Result<Report, BenchError> {
    let there = There { ssh, host, plan };
    let threads = match &plan.threads[..] {
        [] => (1..=there.cores()?).collect(),
        some => some.to_vec(),
    };
    let mut report =
        Report { host: host.to_string(), board: Health::default(), models: Vec::new() };
    for place in &plan.models {
        let path = there.bring(place, &mut told)?;
        let kind = there.kind(path.as_deref())?;
        let mut runs = Vec::new();
        for &threads in &threads {
            let model = name(place, path.as_deref());
            told(&format!("{model}, {threads} thread(s)"));
            std::thread::sleep(plan.rest);
            runs.push(there.run(path.as_deref(), threads, plan.runs)?);
        }
        let cold_ms = match (plan.drop_caches, threads.iter().max()) {
            (true, Some(&most)) => Some(there.cold(path.as_deref(), most)?),
            _ => None,
        };
        let seen = runs.first().map(|r| r.model.clone()).unwrap_or_default();
        let name = name(place, path.as_deref().or(Some(&seen)));
        if let (true, Some(run)) = (report.models.is_empty(), runs.first()) {
            report.board = run.before.clone();
        }
        let Kind { precision, mmacs } = kind;
        report.models.push(Model { name, precision, mmacs, cold_ms, runs });
    }
    Ok(report)
}

/// A model's name: that of its file, wherever it is.
fn name(place: &Place, there: Option<&str>) -> String {
    let path = match place {
        Place::Here(path) => path.as_path(),
        _ => Path::new(there.unwrap_or("the model installed there")),
    };
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    stem.to_string_lossy().into_owned()
}

/// The board of `targets/` that a machine calls itself by.
#[must_use]
pub fn recognise<'a>(boards: &'a [Board], seen: &Health) -> Option<&'a Board> {
    let model = seen.model.as_deref()?;
    boards.iter().filter(|b| model.starts_with(&b.title)).max_by_key(|b| b.title.len())
}

/// A connection with its plan.
struct There<'a> {
    ssh: &'a Ssh,
    host: &'a Host,
    plan: &'a Plan,
}

impl There<'_> {
    /// Runs the program there; its words come after it.
    fn kinglet(&self, words: &[&str]) -> Result<String, BenchError> {
        let all: Vec<&str> = [&[self.plan.program.as_str()], words].concat();
        let Answer { stdout, stderr, code } = self.ssh.try_ask(self.host, &all, b"")?;
        if code == 0 {
            return Ok(stdout);
        }
        let said = match code {
            127 => {
                format!("'{}' is not installed there; name it: --program PATH", self.plan.program)
            }
            _ => stderr.lines().last().unwrap_or("it does not say why").to_owned(),
        };
        Err(BenchError::Failed { host: self.host.to_string(), what: words.join(" "), said })
    }

    fn answer(&self, what: &[&str], error: impl ToString) -> BenchError {
        let (host, what) = (self.host.to_string(), what.join(" "));
        BenchError::Answer { host, what, why: error.to_string() }
    }

    fn cores(&self) -> Result<u32, BenchError> {
        let words = ["nproc"];
        let answer = self.ssh.ask(self.host, &words, b"")?.stdout;
        let cores: u32 = answer.trim().parse().map_err(|e| self.answer(&words, e))?;
        Ok(cores.clamp(1, THREADS))
    }

    /// The path there; none for the one that is used when none is named.
    fn bring(
        &self,
        place: &Place,
        told: &mut impl FnMut(&str),
    ) -> Result<Option<String>, BenchError> {
        match place {
            Place::Default => Ok(None),
            Place::There(path) => Ok(Some(path.clone())),
            Place::Here(path) => {
                let read = |source| BenchError::Read { path: path.clone(), source };
                let hash = hash::of_file(path).map_err(read)?;
                let folder = &self.plan.folder;
                if !put::prepare(self.ssh, self.host, folder, &hash)?.has_it {
                    told(&format!("sending {}", path.display()));
                    let file = File::open(path).map_err(read)?;
                    put::send(self.ssh, self.host, folder, &hash, file, |_| {})?;
                }
                Ok(Some(put::path(folder, &hash)))
            }
        }
    }

    fn kind(&self, model: Option<&str>) -> Result<Kind, BenchError> {
        let words: Vec<&str> = ["inspect", "--json"].into_iter().chain(model).collect();
        let answer = self.kinglet(&words)?;
        Kind::parse(&answer).map_err(|why| self.answer(&words, why))
    }

    fn run(&self, model: Option<&str>, threads: u32, runs: u32) -> Result<Run, BenchError> {
        let (threads, runs) = (threads.to_string(), runs.to_string());
        let mut words = vec!["bench", "--json", "--threads", &threads, "--runs", &runs];
        words.extend(model.iter().flat_map(|m| ["--model", m]));
        let answer = self.kinglet(&words)?;
        let mut run: Run =
            serde_json::from_str(answer.trim()).map_err(|e| self.answer(&words, e))?;
        run.invalid = run.before.invalid(&run.after);
        run.notes = run.before.notes(&run.after);
        Ok(run)
    }

    /// A first result with nothing of program and model in memory.
    fn cold(&self, model: Option<&str>, threads: u32) -> Result<f64, BenchError> {
        let script = "sync; echo 3 >/proc/sys/vm/drop_caches";
        self.ssh.ask(self.host, &["sudo", "-n", "sh", "-c", script], b"")?;
        Ok(self.run(model, threads, 1)?.load)
    }
}
