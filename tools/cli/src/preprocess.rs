//! The option `--preprocess`, which several subcommands have.

use std::path::Path;

use anyhow::{Context, bail};
use kinglet_engine::metadata::Preprocess;

use crate::output;

/// Preprocessing from JSON, or from a file with it.
pub(crate) fn parse(text: &str) -> anyhow::Result<Preprocess> {
    let inline = text.trim_start().starts_with('{');
    let json = if inline { text.to_owned() } else { output::read_text(Path::new(text))? };
    let parsed: Preprocess = serde_json::from_str(&json).context(
        "--preprocess is not understood; an example: {\"size\":[224,224],\"filter\":\"bicubic\",\
         \"crop\":{\"rule\":\"center\",\"fraction\":0.875},\"mean\":[127,127,127],\
         \"std\":[128,128,128],\"channels\":\"rgb\"}",
    )?;
    if let Err(error) = parsed.check() {
        bail!("--preprocess: {error}");
    }
    Ok(parsed)
}
