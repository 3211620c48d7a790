//! `kinglet.toml`: everything that the command line can say, and more. Strict: what is not known is
//! an error that names the line.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kinglet_device::camera::{Layout, Wanted};
use kinglet_device::gpio::{Pattern, Pin};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::decide::Smoothing;
use crate::exit::Usage;

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) model: Option<PathBuf>,
    pub(crate) threads: Option<u16>,
    pub(crate) shadow: Option<PathBuf>,
    /// The key that both must be signed with.
    pub(crate) public_key: Option<PathBuf>,
    pub(crate) camera: Camera,
    pub(crate) decide: Decide,
    pub(crate) rate: Rate,
    pub(crate) region: Vec<Spanned<Region>>,
    pub(crate) output: Vec<Spanned<Output>>,
    pub(crate) button: Vec<Spanned<Button>>,
    pub(crate) log: Option<Log>,
    pub(crate) snapshots: Option<Snapshots>,
    pub(crate) http: Option<Http>,
    pub(crate) mqtt: Option<super::mqtt::Settings>,
    pub(crate) display: Option<super::display::Settings>,
    pub(crate) drift: super::drift::Settings,
    pub(crate) update: Option<super::releases::Settings>,
    /// The text that it was read from, to name lines.
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    path: PathBuf,
    /// The key of the second model; during a trial not always that of the first.
    #[serde(skip)]
    pub(crate) shadow_key: Option<PathBuf>,
}

/// `[camera]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Camera {
    pub(crate) source: Option<String>,
    pub(crate) size: Option<[u32; 2]>,
    pub(crate) fps: Option<f64>,
    pub(crate) format: Option<Format>,
    pub(crate) repeat: bool,
    pub(crate) every_frame: bool,
    pub(crate) arguments: Vec<String>,
    pub(crate) program: Option<PathBuf>,
}

/// How a camera's frames lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Two pixels share their chroma.
    Yuyv,
    /// A JPEG picture a frame.
    Mjpeg,
    /// A plane of luma, one of chroma.
    Nv12,
    /// Three planes.
    Yuv420,
    /// Red, green, blue.
    Rgb,
    /// Luma alone.
    Grey,
}

/// `[decide]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Decide {
    pub(crate) top: Option<usize>,
    pub(crate) smoothing: Smoothing,
    pub(crate) window: Option<usize>,
    pub(crate) window_ms: Option<u64>,
    pub(crate) enter: Option<f32>,
    pub(crate) leave: Option<f32>,
    pub(crate) hold_ms: u64,
    pub(crate) unknown_below: Option<f32>,
    pub(crate) energy_below: Option<f32>,
}

/// `[rate]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rate {
    pub(crate) max_fps: Option<f64>,
    pub(crate) cool_below: Option<f64>,
    pub(crate) motion: Option<f32>,
    pub(crate) motion_longest_ms: Option<u64>,
}

/// `[[region]]`: a part of the frame, in shares of its width and height.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Region {
    pub(crate) name: String,
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// One class or several.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Names {
    One(String),
    Several(Vec<String>),
}

/// A pin by its number or its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum PinName {
    Number(u32),
    Name(String),
}

/// `[[output]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    pub(crate) pin: PinName,
    pub(crate) class: Names,
    pub(crate) region: Option<String>,
    #[serde(default)]
    pub(crate) mode: Mode,
    pub(crate) ms: Option<u64>,
    #[serde(default)]
    pub(crate) active_low: bool,
}

/// What an output does while its class is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Steady,
    Pulse,
    Blink,
}

/// `[[button]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Button {
    pub(crate) pin: PinName,
    /// To ground, with a resistor to the supply, unless this is false.
    #[serde(default = "yes")]
    pub(crate) active_low: bool,
}

fn yes() -> bool {
    true
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) folder: PathBuf,
    /// All files together.
    #[serde(default = "log_mib")]
    pub(crate) max_mib: u64,
    #[serde(default = "log_days")]
    pub(crate) max_days: u64,
    /// Every inference, not changes alone.
    #[serde(default)]
    pub(crate) all: bool,
}

impl Log {
    /// The usual limits.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), max_mib: log_mib(), max_days: log_days(), all: false }
    }
}

fn log_mib() -> u64 {
    64
}

fn log_days() -> u64 {
    30
}

/// `[snapshots]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshots {
    pub(crate) folder: PathBuf,
    pub(crate) class: Names,
    /// All pictures together.
    #[serde(default = "snapshot_mib")]
    pub(crate) max_mib: u64,
    /// Never less free space than this.
    #[serde(default = "free_mib")]
    pub(crate) free_mib: u64,
    /// While the decision lasts, a picture so often; at its beginning alone if not given.
    pub(crate) every_ms: Option<u64>,
}

impl Snapshots {
    /// The usual limits.
    pub(crate) fn new(folder: &Path, classes: &[String]) -> Self {
        Self {
            folder: folder.to_owned(),
            class: Names::Several(classes.to_vec()),
            max_mib: snapshot_mib(),
            free_mib: free_mib(),
            every_ms: None,
        }
    }
}

fn snapshot_mib() -> u64 {
    256
}

fn free_mib() -> u64 {
    256
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    /// Connections at a time.
    pub(crate) clients: u16,
    /// Pictures of clients are classified too.
    pub(crate) classify: bool,
    /// Where frames that are saved as a class go: one folder a class.
    pub(crate) collect: Option<PathBuf>,
    pub(crate) collect_mib: u64,
    /// Space on the disk that always stays free.
    pub(crate) free_mib: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            token_file: None,
            tls_cert: None,
            tls_key: None,
            clients: 64,
            classify: true,
            collect: None,
            collect_mib: 256,
            free_mib: free_mib(),
        }
    }
}

impl Config {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, Usage> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Usage(format!("cannot read {}: {e}", path.display())))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, &span));
            Usage(format!("{} line {line}: {}", path.display(), error.message()))
        })?;
        (config.text, config.path) = (text, path.to_owned());
        Ok(config)
    }

    /// The sections, and single keys, in which another configuration differs.
    pub(crate) fn changes(&self, other: &Self) -> Changes {
        let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
        let (old, new) = (table(&self.text), table(&other.text));
        let differs = |key: &&String| old.get(*key) != new.get(*key);
        Changes(old.keys().chain(new.keys()).filter(differs).cloned().collect())
    }

    /// An error about something that stands in the file, or came from the command line.
    pub(crate) fn error<T>(&self, about: &Spanned<T>, why: &str) -> Usage {
        let span = about.span();
        if self.text.is_empty() || span.is_empty() {
            return Usage(why.to_owned());
        }
        Usage(format!("{} line {}: {why}", self.path.display(), line_of(&self.text, &span)))
    }
}

/// What is different in another configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Changes(BTreeSet<String>);

impl Changes {
    /// Whether a section is, or a single key.
    pub(crate) fn has(&self, section: &str) -> bool {
        self.0.contains(section)
    }

    /// All of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
}

/// Something that did not come from a file.
pub(crate) fn unspanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

impl Names {
    pub(crate) fn list(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

impl PinName {
    pub(crate) fn pin(&self) -> Result<Pin, String> {
        match self {
            Self::Number(line) => Ok(Pin { chip: None, line: *line }),
            Self::Name(name) => Pin::parse(name),
        }
    }
}

impl Output {
    pub(crate) fn pattern(&self) -> Pattern {
        let time = |usual| Duration::from_millis(self.ms.unwrap_or(usual));
        match self.mode {
            Mode::Steady => Pattern::Steady,
            Mode::Pulse => Pattern::Pulse(time(500)),
            Mode::Blink => Pattern::Blink(time(250)),
        }
    }
}

impl Camera {
    /// What is asked of the camera.
    pub(crate) fn wanted(&self) -> Result<Wanted, Usage> {
        let layout = self.format.map(|format| match format {
            Format::Yuyv => Layout::Yuyv,
            Format::Mjpeg => Layout::File,
            Format::Nv12 => Layout::Nv12,
            Format::Yuv420 => Layout::I420,
            Format::Rgb => Layout::Rgb,
            Format::Grey => Layout::Grey,
        });
        let wanted = Wanted {
            size: self.size.map(|[width, height]| (width, height)),
            fps: self.fps,
            layout,
            repeat: self.repeat,
            arguments: self.arguments.clone(),
            program: self.program.clone(),
        };
        wanted.check().map_err(|why| Usage(format!("camera: {why}")))?;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Usage> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kinglet.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn all_of_it() {
        let config = read(include_str!("kinglet.example.toml")).unwrap();
        assert_eq!(config.region.len(), 2);
        assert_eq!(
            config.output[1].get_ref().pattern(),
            Pattern::Pulse(Duration::from_millis(300))
        );
        assert_eq!(config.output[0].get_ref().class.list(), ["ants"]);
        assert!(config.button[0].get_ref().active_low);
        assert_eq!(config.camera.wanted().unwrap().size, Some((1280, 720)));
        assert!(read("").is_ok(), "everything has a default");
    }

    #[test]
    fn changes_are_named_by_section() {
        let changes = |old: &str, new: &str| {
            let (old, new) = (read(old).unwrap(), read(new).unwrap());
            old.changes(&new).names().map(str::to_owned).collect::<Vec<_>>()
        };
        let output = "[[output]]\npin = 1\nclass = 'a'\n";
        assert!(changes(output, &format!("# a word\n{output}")).is_empty());
        assert_eq!(changes(output, &output.replace('1', "2")), ["output"]);
        assert_eq!(
            changes("threads = 2\n[camera]\nfps = 3\n", "[log]\nfolder = 'x'\n[camera]\nfps = 4\n"),
            ["camera", "log", "threads"]
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, word) in [
            ("model = 'm.onnx'\n\n[camera]\nsize = [640, 480]\nfsp = 30\n", 5, "fsp"),
            ("[decide]\nsmoothing = 'median'\n", 2, "median"),
            ("[[output]]\npin = 17\n", 1, "class"),
            ("[camera\n", 1, ""),
            ("\n\n[rate]\nmax_fps = 'fast'\n", 4, "string"),
            ("[camera]\nfps = 1\nfps = 2\n", 3, "duplicate"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}: ")) && error.contains(word), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let config =
            read("[[output]]\npin = 1\nclass = 'a'\n\n[[output]]\npin = 2\nclass = 'b'\n").unwrap();
        let error = config.error(&config.output[1], "no such class").to_string();
        assert!(error.contains("line 5: no such class"), "{error}");
    }
}
