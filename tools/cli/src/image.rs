//! `kinglet-tools image`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_image::base::{self, Wifi};
use kinglet_image::{appliance, size};

use crate::{boards, output};

/// Make a card's image.
///
/// --base puts Kinglet into an image of Raspberry Pi OS (.img, .img.xz, .img.zst, .img.gz), without root: program, model,
/// configuration and service, and through the image's own first boot the host's name, a user, keys, Wi-Fi and time zone.
/// --appliance makes a small system of Debian's packages that does nothing but run Kinglet: a read-only root in two slots,
/// and a partition for configuration, models and pictures; apt fetches the packages into a cache, without root, or
/// --packages takes them from a folder. The same inputs give the same bytes.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("kind").required(true).args(["base", "appliance"]))]
#[command(after_help = "\
Examples:
  kinglet-tools image --base raspios.img.xz --program kinglet --model mine.onnx --user ann --ssh-key ~/.ssh/id_ed25519.pub \\
    --wifi Home --wifi-passphrase-file wifi.txt --wifi-country DE --out card.img
  kinglet-tools image --appliance --target pi4 --program kinglet --model mine.onnx --out card.img
  kinglet-tools image --appliance --target pi3 --program kinglet --model mine.onnx --dry-run")]
pub(crate) struct Args {
    /// Image of Raspberry Pi OS to put Kinglet into
    #[arg(long, value_name = "IMAGE")]
    base: Option<PathBuf>,
    /// Make a small system of its own
    #[arg(long, requires = "target")]
    appliance: bool,
    /// The appliance's board: pi3, pi4, pi-zero2w; virt is qemu's
    #[arg(long, value_name = "BOARD", conflicts_with = "base")]
    target: Option<String>,
    /// Folder of board descriptions
    #[arg(long, value_name = "DIR", default_value = boards::DEFAULT)]
    targets: PathBuf,
    /// The program for the board, static: `kinglet-tools build` makes it
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// The model
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The configuration in place of a camera on /dev/video0 and the page on port 8080
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the public key that updates are signed with
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// File with public SSH keys that may log in
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// The host's name
    #[arg(long, value_name = "NAME", default_value = "kinglet")]
    hostname: String,
    /// The user of Raspberry Pi OS
    #[arg(long, value_name = "NAME", conflicts_with = "appliance")]
    user: Option<String>,
    /// File whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Time zone, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", conflicts_with = "appliance")]
    timezone: Option<String>,
    /// Name of the Wi-Fi
    #[arg(long, value_name = "SSID", conflicts_with = "appliance")]
    #[arg(requires_all = ["wifi_passphrase_file", "wifi_country"])]
    wifi: Option<String>,
    /// File whose first line is the Wi-Fi's passphrase
    #[arg(long, value_name = "FILE", requires = "wifi")]
    wifi_passphrase_file: Option<PathBuf>,
    /// Country of the Wi-Fi, two letters
    #[arg(long, value_name = "CC", requires = "wifi")]
    wifi_country: Option<String>,
    /// The Wi-Fi does not tell its name
    #[arg(long, requires = "wifi")]
    wifi_hidden: bool,
    /// Folder with Debian's packages, in place of apt
    #[arg(long, value_name = "DIR", conflicts_with = "base")]
    packages: Option<PathBuf>,
    /// One more module of the appliance's kernel
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    module: Vec<String>,
    /// Length of the appliance's image; the next power of two by default
    #[arg(long, value_name = "MIB", conflicts_with = "base")]
    size: Option<u64>,
    /// Where to write the image
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Only list what would be written
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match &args.base {
        Some(image) => customise(&args, image),
        None => build(&args),
    }
}

fn customise(args: &Args, image: &Path) -> anyhow::Result<()> {
    let wifi = match (&args.wifi, &args.wifi_passphrase_file, &args.wifi_country) {
        (Some(ssid), Some(file), Some(country)) => Some(Wifi {
            ssid: ssid.clone(),
            passphrase: secret(file)?,
            country: country.clone(),
            hidden: args.wifi_hidden,
        }),
        _ => None,
    };
    let options = base::Options {
        base: image.to_owned(),
        program: args.program.clone(),
        model: args.model.clone(),
        configuration: args.config.clone(),
        public_key: args.public_key.clone(),
        hostname: args.hostname.clone(),
        user: args.user.clone(),
        password: args.password_file.as_deref().map(secret).transpose()?,
        ssh_keys: args.ssh_key.as_deref().map(keys).transpose()?.unwrap_or_default(),
        time_zone: args.timezone.clone(),
        wifi,
    };
    // A dry run unpacks too, where there is room for sure.
    let scratch = args.dry_run.then(tempfile::tempdir).transpose()?;
    let out = match (&scratch, &args.out) {
        (Some(folder), _) => folder.path().join("card.img"),
        (None, Some(out)) => out.clone(),
        (None, None) => bail!("--out says where to write the image"),
    };
    let bar = ProgressBar::new(0).with_message("unpacking");
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %  {eta} left") {
        bar.set_style(style);
    }
    let plan = base::plan(&options, &out, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let plan = plan?;
    if args.dry_run {
        plan.listing().for_each(|(name, bytes)| say!("{:>10}  boot: {name}", size(bytes)));
    }
    let summary = format!("{}, set up by {}", size(plan.bytes()), plan.mechanism().name());
    if args.dry_run {
        say!("{summary}; nothing was written");
        return Ok(());
    }
    plan.write()?;
    done(&out, &summary);
    Ok(())
}

fn build(args: &Args) -> anyhow::Result<()> {
    let options = appliance::Options {
        board: boards::find(&args.targets, args.target.as_deref().unwrap_or_default())?,
        program: args.program.clone(),
        model: args.model.clone(),
        configuration: args.config.clone(),
        packages: args.packages.clone(),
        cache: cache(),
        ssh_keys: args.ssh_key.as_deref().map(keys).transpose()?.unwrap_or_default(),
        public_key: args.public_key.clone(),
        modules: args.module.clone(),
        hostname: args.hostname.clone(),
        size_mib: args.size,
    };
    let spinner = output::spinner("reading");
    let plan = appliance::plan(&options, &|doing| spinner.set_message(doing.to_owned()));
    spinner.finish_and_clear();
    let plan = plan?;
    let listing = plan.listing();
    if args.dry_run {
        listing.iter().for_each(|(path, bytes)| say!("{:>10}  {path}", size(*bytes)));
    }
    let root = listing.iter().find(|(path, _)| path == "slot a: root.squashfs").map_or(0, |f| f.1);
    let summary = format!("{} for the card, the root {}", size(plan.bytes()), size(root));
    let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
        say!("{summary}; nothing was written");
        return Ok(());
    };
    let spinner = output::spinner("writing the image");
    let result = plan.write(out);
    spinner.finish_and_clear();
    result?;
    done(out, &summary);
    Ok(())
}

fn done(out: &Path, summary: &str) {
    say!("{}: {summary}", out.display());
    say!("now: kinglet-tools flash {}", out.display());
}

/// Where packages are kept: XDG's place for what can be had again.
fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    folder.unwrap_or_else(std::env::temp_dir).join("kinglet/debian")
}

/// The first line of a file: on the command line everybody would see it.
fn secret(path: &Path) -> anyhow::Result<String> {
    let text = output::read_text(path)?;
    let line = text.lines().next().filter(|l| !l.is_empty());
    Ok(line.with_context(|| format!("{}: its first line is empty", path.display()))?.to_owned())
}

/// The keys of a file, a line each.
fn keys(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = output::read_text(path)?;
    if text.contains("PRIVATE KEY") {
        bail!("{} is a private key; give the file ending in .pub", path.display());
    }
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    keys.first().with_context(|| format!("{} has no key", path.display()))?;
    Ok(keys)
}
