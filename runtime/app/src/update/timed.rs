//! Two models timed in turns, in a process of its own: whatever disturbs, disturbs both.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kinglet_engine::preprocess::InputTensor;
use kinglet_engine::{Options, Session};
use serde::{Deserialize, Serialize};

use crate::exit::{Done, Outcome};
use crate::load;

/// Turns at least, and for so long at least.
const TURNS: u32 = 15;
const AT_LEAST: Duration = Duration::from_millis(300);

/// Options of `update time`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model that runs, and the one that is to.
    #[arg(num_args = 2, value_names = ["OLD", "NEW"])]
    models: Vec<PathBuf>,
    /// The key that the new one is signed with.
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
}

/// Least times of both, on one thread, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    pub(super) old_ms: f64,
    pub(super) new_ms: f64,
}

struct Timed {
    session: Session,
    input: InputTensor,
    outputs: Vec<f32>,
    least: Duration,
}

impl Timed {
    fn new(path: &Path, key: Option<&Path>) -> anyhow::Result<Self> {
        let options = Options { self_test: false, ..Options::default() };
        let session = load::load(path, &options, key)?;
        let input = session.sample_input();
        Ok(Self { session, input, outputs: Vec::new(), least: Duration::MAX })
    }

    fn run(&mut self, counts: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.session.run_into(&self.input, &mut self.outputs)?;
        if counts {
            self.least = self.least.min(begun.elapsed());
        }
        Ok(())
    }
}

/// Runs `update time`.
pub(super) fn run(args: &Args) -> Outcome {
    let mut old = Timed::new(&args.models[0], None)?;
    let mut new = Timed::new(&args.models[1], Some(&args.public_key))?;
    let begun = Instant::now();
    let mut turn = 0;
    while turn <= TURNS || begun.elapsed() < AT_LEAST {
        // The first is to warm up.
        old.run(turn > 0)?;
        new.run(turn > 0)?;
        turn += 1;
    }
    let ms = |timed: &Timed| timed.least.as_secs_f64() * 1e3;
    let times = Times { old_ms: ms(&old), new_ms: ms(&new) };
    println!("{}", serde_json::to_string(&times)?);
    Ok(Done::Well)
}
