//! `kinglet-tools reference`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kinglet_compress::dataset;
use kinglet_compress::drift::{self, DriftError};
use kinglet_engine::OnnxFile;

use crate::{evaluate, output};

/// Store in a model what it makes of pictures as they should be, to notice when they change.
///
/// `kinglet watch` compares how sure the model is, which classes it sees and what its features are
/// with this reference, and says when they are no longer alike. DIR holds at least a hundred
/// pictures of the real camera, over a time in which all has come by that usually does; they need
/// no labels.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools reference birds-int8.onnx porch/ -o birds-int8.onnx
  kinglet-tools reference birds-int8.onnx porch/ -o birds-int8.onnx --no-classes")]
pub(crate) struct Args {
    /// The model
    model: PathBuf,
    /// Folder of pictures
    dir: PathBuf,
    /// Where to write the model with its reference
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Classes come in other shares than in DIR: do not compare them
    #[arg(long)]
    no_classes: bool,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut file = OnnxFile::read(&args.model)?;
    let pictures = dataset::pictures(&args.dir)?;
    seal(&mut file, &pictures, !args.no_classes, args.threads.map(usize::from)).map_err(blame)?;
    output::save(&file, &args.output)
}

/// Stores a reference and says what it holds.
pub(crate) fn seal(
    file: &mut OnnxFile,
    pictures: &[PathBuf],
    mix: bool,
    threads: Option<usize>,
) -> Result<(), DriftError> {
    let bar = evaluate::progress("reference for drift", pictures.len());
    let sealed = drift::seal(file, pictures, mix, threads, &|| bar.inc(1));
    bar.finish_and_clear();
    sealed?;
    let reference = file.metadata()?.drift;
    let parts = reference
        .as_ref()
        .map_or((0, false, false), |r| (r.pictures, r.classes.is_some(), r.features.is_some()));
    let part = |there: bool, name: &'static str| if there { name } else { "" };
    say!(
        "reference for drift: {} pictures; confidence{}, looks{}",
        parts.0,
        part(parts.1, ", classes"),
        part(parts.2, ", features")
    );
    Ok(())
}

/// Stores a reference of pictures that were not given for one: with too few it goes without.
pub(crate) fn seal_if_enough(
    file: &mut OnnxFile,
    pictures: &[PathBuf],
    threads: Option<usize>,
) -> anyhow::Result<()> {
    match seal(file, pictures, false, threads) {
        Err(error @ DriftError::TooFew { .. }) => {
            say!("{error}; `kinglet-tools reference` adds a reference at any time");
            Ok(())
        }
        other => other.map_err(blame),
    }
}

/// Stores a reference of the pictures of a folder.
pub(crate) fn seal_folder(
    file: &mut OnnxFile,
    dir: &Path,
    threads: Option<usize>,
) -> anyhow::Result<()> {
    let pictures = dataset::pictures(dir)?;
    seal(file, &pictures, true, threads)
        .map_err(blame)
        .with_context(|| format!("--reference {}", dir.display()))
}

/// Where the model is to blame, the exit code says so.
fn blame(error: DriftError) -> anyhow::Error {
    match error {
        DriftError::Model(error) => error.into(),
        other => other.into(),
    }
}
