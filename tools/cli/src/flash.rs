//! `kinglet-tools flash`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_image::flash::checksum::{self, Expected};
use kinglet_image::flash::write::identify;
use kinglet_image::flash::{Disk, Host, Progress, Stage, Target};
use kinglet_image::unpack::Unpacker;
use kinglet_image::{hex, size};

/// Write an image to a card, and read it back.
///
/// Without --device it lists the cards there are. Only whole, removable disks that nothing uses are written; .img, .img.xz,
/// .img.zst and .img.gz are unpacked on the way. The first MiB is written last, when all the rest was read back and found
/// right: what is stopped or fails leaves a card that does not boot. A SHA256SUMS or IMAGE.sha256 beside the image is
/// checked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools flash card.img
  sudo kinglet-tools flash card.img --device /dev/sdb
  sudo kinglet-tools flash raspios.img.xz --device /dev/mmcblk0 --yes")]
pub(crate) struct Args {
    /// The image
    image: PathBuf,
    /// The card's device file: the whole disk, not a partition
    #[arg(long, value_name = "DEV")]
    device: Option<PathBuf>,
    /// SHA-256 of the file, or of the image in it
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Do not ask: everything on the card is erased
    #[arg(long)]
    yes: bool,
    /// Loop devices count as cards: for tests
    #[arg(long, hide = true)]
    allow_loop: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let host = Host { allow_loop: args.allow_loop, ..Host::default() };
    let image = Unpacker::open(&args.image)?;
    let expected = match &args.sha256 {
        Some(text) => {
            Some(Expected { sha256: checksum::parse(text)?, from: "--sha256".to_owned() })
        }
        None => checksum::beside(&args.image)?,
    };
    let needs = image.stated_size().unwrap_or(0);
    let Some(device) = args.device else { return list(&host, needs, &args.image) };
    let shown = identify(&device, &host)?;
    host.check(&shown, needs)?;
    say!("{}", line(&shown));
    if !args.yes && !confirmed(&shown)? {
        bail!("nothing was written");
    }
    let target = Target::open(&device, &host, Some(&shown), needs)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)).context("signals")?;

    let bar = Bar::new("writing");
    let written =
        target.write(&args.image, image, expected.as_ref(), &mut |p| bar.show(p), &stop)?;
    bar.end();
    let bar = Bar::new("reading back");
    target.verify(&written, &mut |p| bar.show(p), &stop)?;
    bar.end();
    let checked = match &expected {
        Some(expected) => format!("; as {} says", expected.from),
        None => String::new(),
    };
    say!("{} written to {} and read back", size(written.bytes), device.display());
    say!("SHA-256 {}{checked}", hex(&written.sha256));
    say!("take the card out and put it into the board");
    Ok(())
}

/// The cards there are, and the command for each.
fn list(host: &Host, needs: u64, image: &std::path::Path) -> anyhow::Result<()> {
    let cards = host.cards().context("cannot list the disks (/sys/block)")?;
    if cards.is_empty() {
        bail!("no card: put one into the reader, and unmount what the desktop has mounted of it");
    }
    for card in &cards {
        let note = if card.identity.bytes < needs { "  (too small)" } else { "" };
        say!("{}{note}", line(card));
    }
    let path = cards[0].path();
    say!("\nsudo kinglet-tools flash {} --device {}", image.display(), path.display());
    Ok(())
}

fn line(disk: &Disk) -> String {
    format!("{:<14} {:>9}  {}", disk.path().display(), size(disk.identity.bytes), disk.model)
}

/// Asks; `false` unless the answer is yes.
fn confirmed(disk: &Disk) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody can be asked here: --yes says that everything on the card may be erased");
    }
    print!("everything on {} is erased. Type yes: ", disk.path().display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// A bar over the file or the card, with the card's rate.
struct Bar(ProgressBar);

impl Bar {
    fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let form = "{msg} {bar:30} {percent:>3} %  {prefix}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, progress: Progress) {
        let seconds = self.0.elapsed().as_secs_f64().max(0.001);
        let stage = if progress.stage == Stage::Writing { "written" } else { "read" };
        let rate = progress.card as f64 / 1e6 / seconds;
        self.0.set_prefix(format!("{} {stage}, {rate:.1} MB/s", size(progress.card)));
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
