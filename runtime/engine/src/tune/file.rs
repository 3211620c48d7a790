//! `MODEL.tune.toml`: choices kept beside a model, and what they were made for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kinglet_kernels::conv::Form;
use serde::{Deserialize, Serialize};

use super::Chosen;
use crate::choices::Choice;

/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

const HEAD: &str = "\
# What `kinglet tune` found fastest on this machine, layer by layer. It changes no result, and is taken
# up only for the model, CPU, instruction set and threads below. Delete it to go without.
";

/// What choices were made for. Elsewhere they would change no result either, but may be slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// Length and CRC-32 of the model's file.
    pub model: String,
    /// The board's or processor's name.
    pub cpu: String,
    /// Instruction set.
    pub isa: String,
    /// Threads that work on one picture.
    pub threads: usize,
}

impl Conditions {
    /// Of a model's file, on a CPU of that name.
    ///
    /// # Errors
    /// What the system says of the model's file.
    pub fn new(model: &Path, cpu: &str, isa: &str, threads: usize) -> std::io::Result<Self> {
        let (cpu, isa) = (cpu.to_owned(), isa.to_owned());
        Ok(Self { model: fingerprint(model)?, cpu, isa, threads })
    }
}

/// Length and CRC-32 of a file: enough to tell one model from another, since nothing but time hangs
/// on it, and fast on any board.
fn fingerprint(path: &Path) -> std::io::Result<String> {
    let (mut file, mut crc, mut bytes) = (File::open(path)?, crc32fast::Hasher::new(), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(format!("{bytes} bytes, CRC-32 {:08x}", crc.finalize()));
        }
        crc.update(&piece[..read]);
        bytes += read;
    }
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: String,
    model: String,
    cpu: String,
    isa: String,
    threads: usize,
    margin_percent: f64,
    usual_ms: f64,
    tuned_ms: f64,
    layers: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<String>,
    won_percent: f64,
}

/// Where the choices for a model are kept: its name with `.tune.toml` in place of `.onnx`.
#[must_use]
pub fn beside(model: &Path) -> PathBuf {
    model.with_extension("tune.toml")
}

/// The file's text: a line a layer.
///
/// # Errors
/// A value that TOML cannot hold.
pub fn text(conditions: &Conditions, chosen: &Chosen) -> Result<String, toml::ser::Error> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut out = HEAD.to_owned();
    out += &format!("version = {}\n", quoted(env!("CARGO_PKG_VERSION")));
    out += &format!("model = {}\n", quoted(&conditions.model));
    out += &format!("cpu = {}\n", quoted(&conditions.cpu));
    out += &format!("isa = {}\nthreads = {}\n", quoted(&conditions.isa), conditions.threads);
    let [usual, tuned] = chosen.times_ms;
    out += &format!("margin_percent = {:.1}\n", chosen.margin * 100.0);
    out += &format!("usual_ms = {usual:.3}\ntuned_ms = {tuned:.3}\nlayers = [\n");
    for (name, (choice, won)) in &chosen.layers {
        let line = Line {
            name: name.clone(),
            fused: choice.fused,
            form: choice.form.map(|form| form.name().to_owned()),
            won_percent: (won * 1000.0).round() / 10.0,
        };
        out += &format!("  {},\n", toml::Value::try_from(line)?);
    }
    Ok(out + "]\n")
}

/// Reads a file that was made under these conditions.
///
/// # Errors
/// Why it is not to be used, in words.
pub(super) fn read(path: &Path, now: &Conditions) -> Result<Chosen, String> {
    let content = parse(path)?;
    let version = env!("CARGO_PKG_VERSION");
    let differs = |what: &str, then: &str, now: &str| match then == now {
        true => Ok(()),
        false => Err(format!("made for {what} {then:?}, this is {now:?}")),
    };
    differs("version", &content.version, version)?;
    differs("the model", &content.model, &now.model)?;
    differs("the CPU", &content.cpu, &now.cpu)?;
    differs("the instruction set", &content.isa, &now.isa)?;
    differs("the number of threads", &content.threads.to_string(), &now.threads.to_string())?;
    let mut layers = BTreeMap::new();
    for line in content.layers {
        let form = line.form.map(|name| Form::named(&name).ok_or(name)).transpose();
        let form =
            form.map_err(|name| format!("layer {:?} has an unknown form {name:?}", line.name))?;
        let choice = Choice { fused: line.fused, form };
        layers.insert(line.name, (choice, line.won_percent / 100.0));
    }
    let margin = content.margin_percent / 100.0;
    Ok(Chosen { layers, margin, times_ms: [content.usual_ms, content.tuned_ms] })
}

fn parse(path: &Path) -> Result<Content, String> {
    let text = |e: std::io::Error| e.to_string();
    // Not a pipe, which would be waited for.
    if !std::fs::metadata(path).map_err(text)?.is_file() {
        return Err("not a file".into());
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(text)?.take(MAX_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(text)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("over {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned())?;
    toml::from_str(text).map_err(|e| e.message().lines().next().unwrap_or_default().to_owned())
}
