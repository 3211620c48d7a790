//! `kinglet-tools image`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kinglet_image::{appliance, size};

use crate::output;

/// Make a card's image.
///
/// --appliance makes a small system of Debian's packages that does nothing but run Kinglet: a read-only root in two slots,
/// and a partition for configuration, models and pictures. apt fetches the packages into a cache, without root;
/// --packages takes them from a folder instead. The same inputs give the same bytes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools image --appliance --target pi4 --program kinglet --model mine.onnx --out card.img
  kinglet-tools image --appliance --target pi3 --program kinglet --model mine.onnx --ssh-key ~/.ssh/id_ed25519.pub \\
    --dry-run")]
pub(crate) struct Args {
    /// Make a small system of its own
    #[arg(long, required = true)]
    appliance: bool,
    /// The board: pi3, pi4, pi-zero2w; virt is qemu's
    #[arg(long, value_name = "BOARD")]
    target: String,
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
    /// Folder with Debian's packages, in place of apt
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    /// One more module of the kernel
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// Length of the image; the next power of two by default
    #[arg(long, value_name = "MIB")]
    size: Option<u64>,
    /// Where to write the image
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Only list what would be written
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let options = appliance::Options {
        board: args.target,
        program: args.program,
        model: args.model,
        configuration: args.config,
        packages: args.packages,
        cache: cache(),
        ssh_keys: args.ssh_key.as_deref().map(keys).transpose()?.unwrap_or_default(),
        public_key: args.public_key,
        modules: args.module,
        hostname: args.hostname,
        size_mib: args.size,
    };
    let spinner = output::spinner("reading");
    let plan = appliance::plan(&options, &|doing| spinner.set_message(doing.to_owned()));
    spinner.finish_and_clear();
    let plan = plan?;
    let listing = plan.listing();
    if args.dry_run {
        for (path, bytes) in &listing {
            say!("{:>10}  {path}", size(*bytes));
        }
    }
    let root = listing.iter().find(|(path, _)| path == "slot a: root.squashfs").map_or(0, |f| f.1);
    let summary = format!("{} for the card, the root {}", size(plan.bytes()), size(root));
    let Some(out) = args.out.filter(|_| !args.dry_run) else {
        say!("{summary}; nothing was written");
        return Ok(());
    };
    let spinner = output::spinner("writing the image");
    let result = plan.write(&out);
    spinner.finish_and_clear();
    result?;
    say!("{}: {summary}", out.display());
    say!("now: kinglet-tools flash {}", out.display());
    Ok(())
}

/// Where packages are kept: XDG's place for what can be had again.
fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    folder.unwrap_or_else(std::env::temp_dir).join("kinglet/debian")
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
