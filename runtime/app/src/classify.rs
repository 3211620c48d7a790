//! `kinglet classify`: says what is in pictures.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use kinglet_engine::{ModelError, Picture, Session};
use serde::Serialize;

use crate::exit::{Done, Outcome};
use crate::load::ModelArgs;
use crate::pictures;

/// Options of `classify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    kinglet classify photo.jpg\n  \
    kinglet classify --model flowers-int8.onnx --top 1 --json pictures/")]
pub(crate) struct Args {
    /// Pictures (JPEG or PNG), or folders of pictures.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// How many classes to show.
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N")]
    top: usize,
    /// One JSON object a line, one line a picture.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    image: String,
    top: Vec<Entry<'a>>,
    /// Whether it is none of the classes, where the model has a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<bool>,
    latency_ms: f64,
}

#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    label: Option<&'a str>,
    score: f32,
}

/// Runs `classify`.
pub(crate) fn run(args: &Args) -> Outcome {
    let (path, mut session) = args.model.load()?;
    if session.metadata().preprocess.is_none() {
        let missing =
            session.self_test().and(session.outputs(&Picture::from_rgb(1, 1, vec![0; 3])?));
        missing.with_context(|| format!("model {} refused", path.display()))?;
    }
    if args.model.model.is_none() {
        eprintln!("model: {}", path.display());
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut done = Done::Well;
    for image in pictures::list(&args.images) {
        match classify(&mut session, &image) {
            Ok((scores, latency_ms)) => {
                let top = scores
                    .top(args.top)
                    .into_iter()
                    .map(|r| Entry {
                        index: r.index,
                        label: session.label(r.index),
                        score: r.score,
                    })
                    .collect();
                let best = scores.top(1).first().map_or(0.0, |r| r.score);
                let unknown = session.metadata().unknown_below.map(|least| best < least);
                let line = Line { image: image.display().to_string(), top, unknown, latency_ms };
                if args.json { print_json(&mut out, &line) } else { print(&mut out, &line) }?;
                out.flush()?;
            }
            Err(error) => {
                done = Done::PartlyFailed;
                eprintln!("error: {}: {error:#}", image.display());
            }
        }
    }
    Ok(done)
}

/// Scores of a picture file, and the time from decoded picture to scores, ms.
fn classify(session: &mut Session, image: &Path) -> anyhow::Result<(kinglet_engine::Scores, f64)> {
    anyhow::ensure!(!image.is_dir(), "no pictures (.jpg, .jpeg, .png) in this folder");
    let picture = Picture::read(image).map_err(|e| anyhow::anyhow!("{}", e.cause()))?;
    let start = Instant::now();
    let scores = session.classify(&picture).map_err(|e: ModelError| anyhow::anyhow!("{e}"))?;
    Ok((scores, start.elapsed().as_secs_f64() * 1e3))
}

fn print_json(out: &mut impl Write, line: &Line<'_>) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)?;
    Ok(())
}

fn print(out: &mut impl Write, line: &Line<'_>) -> anyhow::Result<()> {
    let unknown = if line.unknown == Some(true) { "  unknown, perhaps:" } else { "" };
    writeln!(out, "{}  ({:.1} ms){unknown}", line.image, line.latency_ms)?;
    for entry in &line.top {
        let label = entry.label.unwrap_or("(no label)");
        writeln!(out, "  {:5.1} %  {label} [{}]", entry.score * 100.0, entry.index)?;
    }
    Ok(())
}
