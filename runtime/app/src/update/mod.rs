//! `kinglet update`: releases come in over a pipe, are verified, tested, and switched to.
//!
//! The store and its rules are in [`kinglet_update`]; what runs the models that it holds is
//! [`crate::watch`]. Here is what a person, or `kinglet-tools push` over SSH, says to it.

mod install;
mod selftest;
mod status;
mod timed;

use std::path::PathBuf;

use anyhow::Context as _;
use kinglet_update::{Key, Kind, RealFiles, Track, Watching};

use crate::exit::{Done, Outcome};

/// Where the store is on a device.
pub(crate) const STORE: &str = "/var/lib/kinglet/store";
/// Where the public key is on a device.
pub(crate) const PUBLIC_KEY: &str = "/etc/kinglet/kinglet.pub";
/// The model that our images come with.
const FACTORY_MODEL: &str = "/usr/lib/kinglet/model.onnx";
/// How much slower than the old model a new one may be.
pub(crate) const MAX_SLOWDOWN: f64 = 1.5;

/// Options of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Takes a release from standard input: 8 digits, the length of its signature's file, 12 digits, the
    /// length of the release, then both.
    #[command(after_help = "Example, with a model that `kinglet-tools sign` has signed:\n  \
        (printf %08d%012d $(stat -c %s model.onnx.minisig model.onnx); cat model.onnx.minisig model.onnx) |\n  \
        kinglet update install --kind model\n\nWhat is done is said as lines of JSON.")]
    Install(install::Args),
    /// Says what runs, how far it is trusted, and what was done last.
    Status(status::Args),
    /// Goes back to the release before, or to the one that the device came with.
    Rollback(Rollback),
    /// Times two models in turns; `install` runs it as a process of its own.
    #[command(name = "time", hide = true)]
    Time(timed::Args),
}

/// Options of `update rollback`.
#[derive(Debug, clap::Args)]
struct Rollback {
    /// What goes back.
    #[arg(long, value_parser = kind)]
    kind: Kind,
    #[command(flatten)]
    place: Place,
}

/// Where the store is, and the key of what may come in.
#[derive(Debug, clap::Args)]
struct Place {
    /// The store.
    #[arg(long, value_name = "DIR", default_value = STORE)]
    store: PathBuf,
    /// The minisign key that releases are signed with.
    #[arg(long, value_name = "FILE", default_value = PUBLIC_KEY)]
    public_key: PathBuf,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| "it is model or app".into())
}

impl Place {
    fn track(&self, kind: Kind) -> anyhow::Result<Track<RealFiles>> {
        let files = RealFiles::open(&self.store);
        let files = files.with_context(|| format!("store {}", self.store.display()))?;
        Ok(Track::new(files, kind))
    }

    /// Tells the process that runs the store's model to look at it again; gives its number.
    fn tell(&self) -> anyhow::Result<Option<u32>> {
        let who = Watching::who(&self.store);
        let who = who.with_context(|| format!("store {}", self.store.display()))?;
        let Some(pid) = who else { return Ok(None) };
        rustix::process::kill_process(pid, rustix::process::Signal::HUP)
            .with_context(|| format!("telling process {}", pid.as_raw_nonzero()))?;
        Ok(Some(pid.as_raw_nonzero().get().unsigned_abs()))
    }
}

/// Runs `update`.
pub(crate) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Install(args) => install::run(args),
        Command::Status(args) => status::run(args),
        Command::Rollback(args) => roll_back(args),
        Command::Time(args) => timed::run(args),
    }
}

fn roll_back(args: &Rollback) -> Outcome {
    // Without a key the state must be whole; with one it can be built anew.
    let key = Key::read(&args.place.public_key).ok();
    let track = args.place.track(args.kind)?;
    track.roll_back(None, "by hand", key.as_ref())?;
    let told = args.place.tell()?;
    let now = match track.status()?.current {
        Some((slot, held)) => format!("release {} ({})", held.release, slot.name()),
        None => "what the device came with".into(),
    };
    let when = if told.is_some() { "now" } else { "from the next start on" };
    println!("{}: {now} runs {when}", args.kind.name());
    Ok(Done::Well)
}
