//! `kinglet-tools inspect`.

/// Show what is in a model file.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model
    model: std::path::PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = kinglet_engine::OnnxFile::read(&args.model)?;
    println!("{} nodes", file.graph().node.len());
    Ok(())
}
