//! `kinglet doctor`: what this machine has, what is wrong with it, and the command that mends it.

mod checks;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::exit::{Done, Outcome};

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing is wrong (there may be notes), 1 something is.\n\n\
    Examples:\n  kinglet doctor\n  kinglet doctor --camera /dev/video0 --json mine.onnx")]
pub(crate) struct Args {
    /// The model [default: the one installed or in the repository].
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Also take a picture with this camera.
    #[arg(long, short, value_name = "SOURCE")]
    camera: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Not wrong, but worth knowing.
    Note,
    /// Wrong.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do, where there is something to do; a command wherever there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, found: found.into(), mend: None }
    }

    fn note(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Note, found: found.into(), mend: Some(mend.into()) }
    }

    fn bad(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Bad, found: found.into(), mend: Some(mend.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Good => "ok  ",
            Verdict::Note => "note",
            Verdict::Bad => "BAD ",
        };
        write!(f, "{mark}  {:12}  {}", self.what, self.found)?;
        match &self.mend {
            Some(mend) => write!(f, "\n                    -> {mend}"),
            None => Ok(()),
        }
    }
}

/// Runs `doctor`.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut all = checks::machine();
    all.extend(checks::cameras());
    all.extend(checks::pins());
    all.extend(args.camera.as_deref().map(checks::picture));
    all.push(checks::model(args.model.as_ref()));
    for check in &all {
        if args.json {
            println!("{}", serde_json::to_string(check)?);
        } else {
            println!("{check}");
        }
    }
    let bad = all.iter().filter(|c| c.verdict == Verdict::Bad).count();
    if !args.json {
        match bad {
            0 => println!("nothing is wrong"),
            n => println!("{n} thing(s) to mend"),
        }
    }
    Ok(if bad == 0 { Done::Well } else { Done::PartlyFailed })
}
