//! `kinglet-tools keygen`, `sign`, `verify`: releases that a device takes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kinglet_deploy::sign::{self, Password};
use kinglet_update::{Kind, Release};

/// Make a key pair that releases are signed with: KEY stays here, KEY.pub goes to the devices
#[derive(clap::Args)]
#[command(after_help = "Example: kinglet-tools keygen release.key\n\n\
    The format is minisign's: https://jedisct1.github.io/minisign/")]
pub(crate) struct KeygenArgs {
    /// The secret key's file
    key: PathBuf,
    /// Protect it by the permissions of its file alone
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    /// Take the password from a file instead of the terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Sign a model or a program, with its number: writes FILE.minisig
#[derive(clap::Args)]
#[command(
    after_help = "Example: kinglet-tools sign mine.onnx --key release.key --kind model --release 12\n\n\
    A device refuses lower numbers than one that it has confirmed."
)]
pub(crate) struct SignArgs {
    /// The release
    file: PathBuf,
    /// The secret key
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// What it replaces
    #[arg(long, value_parser = ["model", "app"], default_value = "model")]
    kind: String,
    /// Its number, higher than that of the last
    #[arg(long, value_name = "N")]
    release: u64,
    /// Its name [default: the file's]
    #[arg(long)]
    name: Option<String>,
    /// Take the key's password from a file instead of the terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Verify a release as a device does: its signature, and what that says
#[derive(clap::Args)]
#[command(after_help = "Example: kinglet-tools verify mine.onnx --public-key release.key.pub")]
pub(crate) struct VerifyArgs {
    /// The release; its signature is FILE.minisig
    file: PathBuf,
    /// The public key
    #[arg(long, value_name = "PUB")]
    public_key: PathBuf,
}

pub(crate) fn keygen(args: KeygenArgs) -> anyhow::Result<()> {
    let password = match args.no_password {
        true => Password::None,
        false => password(args.password_file.as_deref())?,
    };
    let public = sign::keygen(&args.key, &password)?;
    say!("{}: the secret key; keep it, and keep it to yourself", args.key.display());
    say!("{}: the public key, for devices (/etc/kinglet/kinglet.pub)", public.display());
    Ok(())
}

pub(crate) fn sign(args: SignArgs) -> anyhow::Result<()> {
    let name = args.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kind = Kind::parse(&args.kind).context("--kind is model or app")?;
    let name = args.name.as_deref().unwrap_or(name);
    let release = Release::new(kind, args.release, name)?;
    let password = password(args.password_file.as_deref())?;
    let written = sign::sign(&args.file, &args.key, &password, &release)?;
    say!("{}: {release}", written.display());
    Ok(())
}

pub(crate) fn verify(args: VerifyArgs) -> anyhow::Result<()> {
    let release = sign::verify(&args.file, &args.public_key)?;
    say!("{}: {release}", args.file.display());
    Ok(())
}

/// The first line of a file, or what the terminal is asked for.
fn password(file: Option<&Path>) -> anyhow::Result<Password> {
    let Some(file) = file else { return Ok(Password::Ask) };
    let text = crate::output::read_text(file)?;
    Ok(Password::Given(text.lines().next().unwrap_or_default().to_owned()))
}
