//! `kinglet-tools oci`: images for boards that run containers.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_oci::{Image, Registry, Settings, layout, model, program};
use kinglet_update::{Key, Kind, Signature};

use crate::output;

/// Make and exchange container images: the program with a model, or a model alone.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools oci image --program kinglet-arm64 --program kinglet-amd64 --model birds.onnx \\
      --push registry.example/kinglet:3
  kinglet-tools oci push birds.onnx registry.example/birds:3
  kinglet-tools oci pull registry.example/birds:3 -o models --public-key kinglet.pub

The login is that of `docker login` or `podman login`, or --username with the password in the
environment variable KINGLET_REGISTRY_PASSWORD.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an image from static programs and a model
    Image(ImageArgs),
    /// Send a model, with MODEL.minisig if it is there, to a registry
    Push(PushArgs),
    /// Fetch a model from a registry: model.onnx, and model.onnx.minisig if it has one
    Pull(PullArgs),
}

#[derive(clap::Args)]
struct ImageArgs {
    /// A static program, one for each architecture (made by `kinglet-tools build`)
    #[arg(long, value_name = "FILE", required = true)]
    program: Vec<PathBuf>,
    /// The model that it runs
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Certificates (PEM) of the authorities that it trusts, for MQTT over TLS
    #[arg(long, value_name = "FILE")]
    certificates: Option<PathBuf>,
    /// Write the image to a new folder, as an OCI image layout
    #[arg(short, long, value_name = "DIR", required_unless_present = "push")]
    output: Option<PathBuf>,
    /// Send the image to a registry, under this name
    #[arg(long, value_name = "NAME")]
    push: Option<String>,
    #[command(flatten)]
    way: Way,
}

#[derive(clap::Args)]
struct PushArgs {
    /// The model
    model: PathBuf,
    /// Name in a registry, such as registry.example/birds:3
    name: String,
    #[command(flatten)]
    way: Way,
}

#[derive(clap::Args)]
struct PullArgs {
    /// Name in a registry, with a tag or a digest
    name: String,
    /// Folder to write to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Write nothing that is not signed by this key
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    #[command(flatten)]
    way: Way,
}

/// How to reach the registry.
#[derive(clap::Args)]
struct Way {
    /// User at the registry; the password is in KINGLET_REGISTRY_PASSWORD
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Speak HTTP without encryption (to this machine that is done anyway)
    #[arg(long)]
    plain_http: bool,
}

impl Way {
    fn settings(&self) -> anyhow::Result<Settings> {
        let login = match &self.username {
            None => None,
            Some(user) => match std::env::var("KINGLET_REGISTRY_PASSWORD") {
                Ok(password) => Some((user.clone(), password)),
                Err(_) => bail!(
                    "--username needs the password in the environment variable \
                     KINGLET_REGISTRY_PASSWORD"
                ),
            },
        };
        Ok(Settings { login, plain_http: self.plain_http })
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Image(args) => image(args),
        Command::Push(args) => {
            readable_model(&args.model)?;
            let image = model::image(&args.model)?;
            if !model::signature_of(&args.model).exists() {
                say!("{} is not signed (`kinglet-tools sign` does it)", args.model.display());
            }
            push(&image, &args.name, &args.way)
        }
        Command::Pull(args) => pull(&args),
    }
}

fn image(args: ImageArgs) -> anyhow::Result<()> {
    readable_model(&args.model)?;
    let spinner = output::spinner("packing");
    let image = program::image(&program::Parts {
        programs: args.program,
        model: args.model,
        certificates: args.certificates,
    })?;
    spinner.finish_and_clear();
    if let Some(folder) = &args.output {
        layout::write(&image, folder, "latest")?;
        say!("{}: {:.1} MB, {}", folder.display(), image.size() as f64 / 1e6, image.top.digest);
    }
    match &args.push {
        Some(name) => push(&image, name, &args.way),
        None => Ok(()),
    }
}

fn push(image: &Image, name: &str, way: &Way) -> anyhow::Result<()> {
    let registry = Registry::new(name, &way.settings()?)?;
    let bar = ProgressBar::new(image.size());
    if let Ok(style) =
        ProgressStyle::with_template("sending {bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let sent = registry.push(image, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    say!("{}", sent?);
    Ok(())
}

fn pull(args: &PullArgs) -> anyhow::Result<()> {
    let registry = Registry::new(&args.name, &args.way.settings()?)?;
    if !args.output.is_dir() {
        bail!("there is no folder {}", args.output.display());
    }
    let key = args.public_key.as_deref().map(Key::read).transpose()?;
    let spinner = output::spinner(&format!("fetching {}", args.name));
    let written = registry.pull_model(&args.output, &|model, signature| match &key {
        None => Ok(()),
        Some(key) => signed(key, model, signature),
    });
    spinner.finish_and_clear();
    for path in written? {
        say!("{}", path.display());
    }
    Ok(())
}

/// Whether a model has a signature that `key` made for a model.
fn signed(key: &Key, model: &[u8], signature: Option<&[u8]>) -> Result<(), String> {
    let Some(signature) = signature else {
        return Err("it is not signed".into());
    };
    let signature = Signature::parse(signature).map_err(|e| e.to_string())?;
    let release = signature.verify_bytes(key, model).map_err(|e| e.to_string())?;
    match release.kind {
        Kind::Model => Ok(()),
        Kind::App => Err("it is signed as a program, not as a model".into()),
    }
}

/// A file that is no model is refused here, not on a thousand boards.
fn readable_model(path: &Path) -> anyhow::Result<()> {
    kinglet_engine::OnnxFile::read(path).map(|_| ()).with_context(|| path.display().to_string())
}
