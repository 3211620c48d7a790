//! `kinglet verify`: the model's own self-test on this machine.

use std::path::PathBuf;

use anyhow::Context as _;
use kinglet_engine::Options;

use crate::default_model;
use crate::exit::{Done, Outcome};
use crate::load;

/// Options of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: kinglet verify model.onnx")]
pub(crate) struct Args {
    /// The model [default: the one installed or in the repository].
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Refuse the model when any convolution would run in float.
    #[arg(long)]
    require_int8: bool,
    /// Refuse a model, before it is parsed, that has no signature of this minisign key beside it.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
}

/// Runs `verify`.
pub(crate) fn run(args: &Args) -> Outcome {
    let path = match &args.model {
        Some(path) => path.clone(),
        None => default_model::find()?,
    };
    let options = Options {
        self_test: false,
        require_int8: args.require_int8,
        tuned_for: Some(load::machine()),
        ..Options::default()
    };
    let mut session = load::load(&path, &options, args.public_key.as_deref())?;
    let samples =
        session.self_test().with_context(|| format!("model {} refused", path.display()))?;
    if samples == 0 {
        anyhow::bail!(
            "model {}: it carries no self-test (no {} or no preprocessing)",
            path.display(),
            kinglet_engine::metadata::GOLDEN_KEY
        );
    }
    println!("{}: {samples} samples give the expected outputs", path.display());
    Ok(Done::Well)
}
