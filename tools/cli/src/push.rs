//! `kinglet-tools push`, `rollback` and `status`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_deploy::push::waves::{self, Fate};
use kinglet_deploy::push::{
    Device, Fleet, Kind, Pushed, Release, Status, Told, Wishes, push, rollback as go_back,
};
use kinglet_deploy::ssh::{Host, Ssh};

/// How to reach a board, and where things are on it.
#[derive(clap::Args)]
pub(crate) struct Way {
    /// The device's program there [default: kinglet]
    #[arg(long, value_name = "PATH")]
    program: Option<String>,
    /// The folder of releases there [default: /var/lib/kinglet/store]
    #[arg(long, value_name = "DIR")]
    store: Option<String>,
    /// Run the program there with sudo -n
    #[arg(long)]
    sudo: bool,
    /// Another configuration file for ssh
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
}

impl Way {
    fn ssh(&self) -> Ssh {
        Ssh::default().with_config(self.ssh_config.clone())
    }

    fn device(&self, host: Host) -> Device {
        let mut device = Device::new(host);
        device.program.clone_from(&self.program);
        device.store.clone_from(&self.store);
        device.sudo = self.sudo.then_some(true);
        device
    }
}

/// Send a signed model or program to a board, or to many in waves, and see whether it stays.
///
/// The board verifies the signature, tests the release, switches by one rename, and watches it through a trial: if the
/// service fails, is too slow or decides otherwise than before, it goes back by itself. This waits until it has decided.
/// With --all one board is first, then a tenth, then the rest; the first failure stops what has not begun, and the
/// same command goes on later. Ctrl-C lets the boards that have begun finish; once more ends at once.
#[derive(clap::Args)]
#[command(override_usage = "kinglet-tools push [OPTIONS] <HOST> <FILE>\n       \
    kinglet-tools push [OPTIONS] --all <HOSTS.TOML> <FILE>")]
#[command(after_help = "\
Exit codes: 0 every board runs it, 1 failed, 2 wrong usage, 3 the board refused it or went back.

Examples:
  kinglet-tools sign --key me.key --release 12 mine.onnx
  kinglet-tools push pi@porch.local mine.onnx
  kinglet-tools push --all hosts.toml mine.onnx

hosts.toml:
  sudo = true
  [[board]]
  host = \"pi@porch.local\"
  [[board]]
  host = \"pi@barn.local\"")]
pub(crate) struct PushArgs {
    /// The board, and the file; its signature lies beside it as FILE.minisig
    #[arg(value_name = "HOST> <FILE", num_args = 1..=2, required = true)]
    what: Vec<String>,
    /// The file is the device's program
    #[arg(long)]
    app: bool,
    /// All boards of a list
    #[arg(long, value_name = "HOSTS.TOML", conflicts_with_all = ["program", "store", "sudo"])]
    all: Option<PathBuf>,
    /// Boards at once within a wave
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Take an older release too
    #[arg(long)]
    allow_downgrade: bool,
    /// Length of the trial [default: the board's own]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    trial: Option<u32>,
    /// How many times as slow as before it may be [default: the board's own]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    max_slowdown: Option<f64>,
    /// Least share of frames on which old and new agree [default: the board's own]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_agreement: Option<f64>,
    /// The public key's file on the board [default: /etc/kinglet/kinglet.pub]
    #[arg(long, value_name = "FILE")]
    public_key: Option<String>,
    /// The model on the board that it came with, where it is not in its usual place: what a first one is compared with,
    /// and what a program is tested by
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// Longest to wait for the end of the trial; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    wait: u32,
    #[command(flatten)]
    way: Way,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (1.0..=1000.0).contains(&value) => Ok(value),
        _ => Err("not a number from 1 to 1000".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 1".into()),
    }
}

pub(crate) fn run(args: PushArgs) -> anyhow::Result<()> {
    let (host, file) = match (&args.all, &args.what[..]) {
        (Some(_), [file]) => (None, file),
        (None, [host, file]) => (Some(host.parse::<Host>()?), file),
        (Some(_), _) => bail!("with --all only the file is named: push --all HOSTS.TOML FILE"),
        (None, _) => bail!("name a board and a file: push HOST FILE"),
    };
    let release = Release::read(file.as_ref())?;
    ensure!(
        !args.app || release.kind == Kind::App,
        "{file}: was signed as a {}, not as a program: sign it with --kind app",
        release.kind.name()
    );
    let wishes = Wishes {
        allow_downgrade: args.allow_downgrade,
        trial_s: args.trial,
        max_slowdown: args.max_slowdown,
        min_agreement: args.min_agreement,
        public_key: args.public_key.clone(),
        model: args.model.clone(),
    };
    let wait = (args.wait > 0).then(|| Duration::from_secs(args.wait.into()));
    match host {
        Some(host) => one(&args, host, &release, &wishes, wait),
        None => many(&args, &release, &wishes, wait),
    }
}

fn one(
    args: &PushArgs,
    host: Host,
    release: &Release,
    wishes: &Wishes,
    wait: Option<Duration>,
) -> anyhow::Result<()> {
    let bar = ProgressBar::new(release.bytes);
    let style = "{msg:24} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let told = |told: Told<'_>| match told {
        Told::Sent(n, _) => {
            bar.set_message("sending");
            bar.set_position(n);
        }
        Told::Step(step) => bar.set_message(step.to_owned()),
        Told::Trial => bar.set_message("on trial"),
    };
    let device = args.way.device(host);
    let pushed = push(&args.way.ssh(), &device, release, wishes, wait, &told);
    bar.finish_and_clear();
    let (host, number, name) = (&device.host, release.number, &release.name);
    match pushed? {
        Pushed::Confirmed => say!("{host}: release {number} ({name}) passed its trial"),
        Pushed::Already => say!("{host}: has release {number} ({name}) already"),
        Pushed::Idle => say!(
            "{host}: has release {number} ({name}); no kinglet watch runs there, its trial begins when one starts"
        ),
        Pushed::OnTrial => {
            say!("{host}: release {number} ({name}) is on trial; see kinglet-tools status {host}");
        }
    }
    Ok(())
}

fn many(
    args: &PushArgs,
    release: &Release,
    wishes: &Wishes,
    wait: Option<Duration>,
) -> anyhow::Result<()> {
    let fleet = Fleet::read(args.all.as_deref().unwrap_or("hosts.toml".as_ref()))?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("boards that have begun are finished; once more ends at once");
    })
    .context("cannot listen for Ctrl-C")?;
    let ssh = args.way.ssh().apart();
    let bar = crate::evaluate::progress("boards", fleet.boards.len());
    let lines = waves::roll_out(
        &fleet.boards,
        usize::from(args.jobs),
        &stop,
        |device| push(&ssh, device, release, wishes, wait, &|_| {}),
        |_| bar.inc(1),
    );
    bar.finish_and_clear();
    crate::output::print(&waves::table(&lines))?;
    let done = lines.iter().filter(|l| matches!(l.fate, Fate::Done(_))).count();
    let failed = lines.iter().filter(|l| matches!(l.fate, Fate::Failed(_))).count();
    ensure!(
        done == lines.len(),
        "stopped: {done} of {} boards have release {}, {failed} failed",
        lines.len(),
        release.number
    );
    Ok(())
}

/// Let a board go back to the release before.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools rollback pi@porch.local
  kinglet-tools rollback pi@porch.local --app")]
pub(crate) struct RollbackArgs {
    /// The board
    #[arg(value_name = "HOST")]
    host: Host,
    /// The device's program, not the model
    #[arg(long)]
    app: bool,
    #[command(flatten)]
    way: Way,
}

pub(crate) fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let (ssh, device) = (args.way.ssh(), args.way.device(args.host));
    let kind = if args.app { Kind::App } else { Kind::Model };
    go_back(&ssh, &device, kind)?;
    let status = device.status(&ssh)?;
    say!("{}: {}", device.host, line(&status, kind));
    Ok(())
}

/// Show what a board runs, and what happened last.
#[derive(clap::Args)]
#[command(after_help = "Example: kinglet-tools status pi@porch.local")]
pub(crate) struct StatusArgs {
    /// The board
    #[arg(value_name = "HOST", required_unless_present = "all")]
    host: Option<Host>,
    /// All boards of a list, one after the other
    #[arg(long, value_name = "HOSTS.TOML", conflicts_with_all = ["host", "program", "store", "sudo"])]
    all: Option<PathBuf>,
    /// One JSON object a board and line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way: Way,
}

pub(crate) fn status(args: StatusArgs) -> anyhow::Result<()> {
    let ssh = args.way.ssh();
    let devices = match (&args.all, args.host) {
        (Some(list), _) => Fleet::read(list)?.boards,
        (None, Some(host)) => vec![args.way.device(host)],
        (None, None) => bail!("name a board, or a list with --all"),
    };
    let mut silent = 0;
    for device in &devices {
        let host = &device.host;
        match device.status(&ssh) {
            Ok(status) if args.json => {
                say!("{}", serde_json::json!({ "host": host.as_str(), "status": status }));
            }
            Ok(status) => {
                say!("{host}: model {}", line(&status, Kind::Model));
                say!("{host}: app {}", line(&status, Kind::App));
            }
            Err(error) if devices.len() == 1 => return Err(error.into()),
            Err(error) => {
                silent += 1;
                eprintln!("{error}");
            }
        }
    }
    ensure!(silent == 0, "{silent} of {} boards did not answer", devices.len());
    Ok(())
}

fn line(status: &Status, kind: Kind) -> String {
    let track = status.track(kind);
    track.map_or_else(|| "none pushed yet: it runs what it was set up with".into(), |t| t.line())
}
