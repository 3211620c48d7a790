//! `kinglet update status`: how both tracks stand.

use std::path::PathBuf;

use anyhow::Context as _;
use kinglet_update::{Kind, Last, RealFiles, Standing, Status, Track};
use serde::Serialize;

use crate::exit::{Done, Outcome};

/// Options of `update status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The store.
    #[arg(long, value_name = "DIR", default_value = super::STORE)]
    store: PathBuf,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Both tracks; `null` where nothing was ever put in.
#[derive(Debug, Serialize)]
struct Report {
    model: Option<Line>,
    app: Option<Line>,
}

/// One of them. Without a slot the device runs what it came with.
#[derive(Debug, Serialize)]
struct Line {
    slot: Option<&'static str>,
    release: Option<u64>,
    sha256: Option<String>,
    name: Option<String>,
    /// `trial`, `good`, `failed` or `factory`.
    state: &'static str,
    tries: u32,
    highest: u64,
    last: Option<Last>,
}

impl Line {
    fn new(Status { current, highest, last }: Status) -> Option<Self> {
        let Some((slot, held)) = current else {
            let factory = Self {
                slot: None,
                release: None,
                sha256: None,
                name: None,
                state: "factory",
                tries: 0,
                highest,
                last,
            };
            return factory.last.is_some().then_some(factory);
        };
        Some(Self {
            slot: Some(slot.name()),
            release: Some(held.release),
            sha256: Some(held.sha256),
            name: Some(held.name),
            state: match held.state {
                Standing::Trial => "trial",
                Standing::Good => "good",
                Standing::Failed => "failed",
            },
            tries: held.tries,
            highest,
            last,
        })
    }
}

/// Runs `update status`.
pub(super) fn run(args: &Args) -> Outcome {
    let status = |kind| -> anyhow::Result<Option<Line>> {
        let files = match RealFiles::open(&args.store) {
            // Nothing was ever put in.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("store {}", args.store.display()))?,
        };
        Ok(Line::new(Track::new(files, kind).status()?))
    };
    let report = Report { model: status(Kind::Model)?, app: status(Kind::App)? };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(Done::Well);
    }
    for (kind, line) in [("model", report.model), ("app", report.app)] {
        let Some(Line { slot, release, name, state, tries, last, .. }) = line else {
            println!("{kind}: what the device came with");
            continue;
        };
        match (slot, release, name) {
            (Some(slot), Some(release), Some(name)) => {
                let tried = if state == "trial" {
                    format!(", begun {tries} time(s)")
                } else {
                    String::new()
                };
                println!("{kind}: release {release} ({name}) in slot {slot}, {state}{tried}");
            }
            _ => println!("{kind}: what the device came with"),
        }
        if let Some(Last { outcome, release, why }) = last {
            let outcome = serde_json::to_value(outcome)?;
            println!("  last: release {release} {}: {why}", outcome.as_str().unwrap_or_default());
        }
    }
    Ok(Done::Well)
}
