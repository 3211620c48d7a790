//! What the subcommands share: saving a model, words on standard output, a spinner for long work.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_engine::OnnxFile;

/// `println!` for a reader that may go away: a model is written all the same.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::say(&format!($($text)*)) };
}

/// Writes a model whole or not at all, and says what was written.
pub(crate) fn save(file: &OnnxFile, path: &Path) -> anyhow::Result<()> {
    let bytes = file.to_bytes();
    kinglet_compress::atomic::atomic_write(path, &bytes)
        .with_context(|| format!("cannot write {}", path.display()))?;
    say!("{}: {:.1} MB", path.display(), bytes.len() as f64 / 1e6);
    Ok(())
}

/// Writes a report whole or not at all, and says where unless `quiet`.
pub(crate) fn save_report(page: &str, path: &Path, quiet: bool) -> anyhow::Result<()> {
    kinglet_compress::atomic::atomic_write(path, page.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    if !quiet {
        say!("{}: {} kB, open it in a browser", path.display(), page.len().div_ceil(1000));
    }
    Ok(())
}

/// A spinner with a text, gone when it is dropped; nothing where the output is no terminal.
pub(crate) fn spinner(text: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(text.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// The file beside an output in which a long run keeps what it has found; Ctrl-C from here on says that
/// the same command goes on from it.
pub(crate) fn progress(output: &Path) -> anyhow::Result<PathBuf> {
    let folder = output.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(
        folder.is_dir(),
        "cannot write {}: there is no folder {}",
        output.display(),
        folder.display()
    );
    let mut path = output.as_os_str().to_owned();
    path.push(".progress");
    let path = PathBuf::from(path);
    let kept = path.clone();
    ctrlc::set_handler(move || {
        if kept.exists() {
            let kept = kept.display();
            eprintln!("\nstopped; {kept} is kept, and the same command goes on from there");
        }
        std::process::exit(130);
    })
    .context("cannot catch Ctrl-C")?;
    Ok(path)
}

/// Says that an earlier run was stopped and has left results.
pub(crate) fn resumed(results: usize) {
    say!("going on where a run was stopped, with {results} results of it");
}

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Prints to standard output; a reader that has gone away, such as `head`, is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// What [`say!`] calls: the work goes on whatever becomes of its words.
pub(crate) fn say(text: &str) {
    if let Err(error) = print(&format!("{text}\n")) {
        eprintln!("kinglet-tools: standard output: {error}");
    }
}
