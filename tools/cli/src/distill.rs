//! `kinglet-tools distill`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_distill::data::Data;
use kinglet_distill::lesson::Lesson;
use kinglet_distill::student::Student;
use kinglet_distill::{
    DistillError, Distillation, Flow, Folders, Outcome, Progress, Recipe, Spec, Watch,
};
use kinglet_engine::ModelError;

use crate::{compress, evaluate, output, preprocess};

/// Lines that a training writes where the output is no terminal.
const LINES: usize = 20;

/// Set by Ctrl-C while a training runs: it stops after the step.
static STOP: AtomicBool = AtomicBool::new(false);
/// There is something that a checkpoint would save.
static TRAINING: AtomicBool = AtomicBool::new(false);

/// Train a smaller network, taught by larger ones.
///
/// DIR holds one folder a class, or pictures alone, of which the teacher knows the classes. A teacher
/// is any model that Kinglet runs; one that `retrain` taught the classes of DIR teaches them and its
/// features, one of other classes its features alone. Ctrl-C or a power cut leaves a checkpoint
/// beside OUT, from which the same command goes on.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools retrain efficientnet-lite0.onnx photographs/ -o teacher.onnx
  kinglet-tools distill --teacher teacher.onnx --init efficientnet-lite0.onnx \\
      --student lite0,depth=0.5,size=128 photographs/ -o small.onnx
  kinglet-tools distill --recipe models/distill-small.toml --teacher a.onnx --teacher b.onnx \\
      photographs/ --unlabelled more/ -o small.onnx")]
pub(crate) struct Args {
    /// Folder of pictures: one folder a class, or pictures alone
    dir: PathBuf,
    /// A teacher; several are averaged. Without any, the labels alone teach
    #[arg(long, value_name = "MODEL")]
    teacher: Vec<PathBuf>,
    /// The student: a member of the Lite family, with width=, depth= and size= as wished
    #[arg(long, value_name = "SPEC", required_unless_present = "recipe")]
    student: Option<Spec>,
    /// Pictures without labels, on which the teachers teach too
    #[arg(long, value_name = "DIR", requires = "teacher")]
    unlabelled: Option<PathBuf>,
    /// Model whose weights the student starts from, its channels sliced where there are too many
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
    /// Where to write the student
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Settings of the training: a TOML file
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Steps, instead of the recipe's
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Seed, instead of the recipe's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Begin anew even where a checkpoint is
    #[arg(long)]
    restart: bool,
    /// Threads that decode and ask the teachers; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How teachers get their pictures that do not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let recipe = match &args.recipe {
        None => Recipe::default(),
        Some(path) => {
            Recipe::parse(&output::read_text(path)?).with_context(|| path.display().to_string())?
        }
    };
    let Some(spec) = args.student.map_or_else(|| recipe.spec(), |spec| Ok(Some(spec)))? else {
        bail!("the recipe names no student: give --student");
    };
    let mut config = recipe.training;
    config.steps = args.steps.unwrap_or(config.steps);
    config.seed = args.seed.unwrap_or(config.seed);
    // Not after an hour of training.
    let folder = args.output.parent().filter(|f| !f.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|f| !f.is_dir()) {
        bail!("cannot write {}: there is no folder {}", args.output.display(), folder.display());
    }
    let mut checkpoint = args.output.clone().into_os_string();
    checkpoint.push(".checkpoint");
    let checkpoint = PathBuf::from(checkpoint);
    let distillation = Distillation {
        spec,
        config,
        folders: Folders { pictures: args.dir.clone(), unlabelled: args.unlabelled.clone() },
        teachers: args.teacher.clone(),
        preprocess: args.preprocess.as_deref().map(preprocess::parse).transpose()?,
        init: args.init.clone(),
        threads: args.threads.map(usize::from),
        checkpoint: Some(checkpoint.clone()),
        restart: args.restart,
    };
    ctrlc::set_handler(|| {
        // The second time, or before there is anything to save, it ends at once.
        if !TRAINING.load(Ordering::SeqCst) || STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot catch Ctrl-C")?;
    match distillation.run(&Bars::default()).map_err(located)? {
        Outcome::Stopped { step } => bail!(
            "stopped after step {step}; {} is kept, and the same command goes on from there",
            checkpoint.display()
        ),
        Outcome::Finished(file) => {
            output::save(&file, &args.output)?;
            let _ = std::fs::remove_file(&checkpoint);
            next(&args)
        }
    }
}

/// Model errors keep their own exit code.
fn located(error: DistillError) -> anyhow::Error {
    match error {
        DistillError::Model(error) => error.into(),
        // It names its file itself.
        DistillError::File { source: source @ ModelError::Read { .. }, .. } => source.into(),
        DistillError::File { path, source } => {
            anyhow::Error::from(source).context(path.display().to_string())
        }
        DistillError::Import(error) => error.into(),
        other => other.into(),
    }
}

/// What a person does next.
fn next(args: &Args) -> anyhow::Result<()> {
    let small = args.output.with_file_name(format!(
        "{}-int8.onnx",
        args.output.file_stem().unwrap_or_default().to_string_lossy()
    ));
    output::print(&format!(
        "next:\n  kinglet-tools evaluate {} PICTURES_KEPT_BACK\n  \
         kinglet-tools compress {} --int8 --calibration {} -o {}\n",
        shown(&args.output),
        shown(&args.output),
        shown(&args.dir),
        shown(&small)
    ))
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=@%:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Prints; a reader that went away ends no training.
fn say(text: &str) {
    let _ = output::print(text);
}

/// Shows a training as it goes.
#[derive(Default)]
struct Bars {
    looking: OnceLock<ProgressBar>,
    training: OnceLock<ProgressBar>,
}

impl Watch for Bars {
    fn listed(&self, pictures: usize) {
        self.looking.get_or_init(|| evaluate::progress("looking at pictures", pictures));
    }

    fn looked(&self) {
        if let Some(bar) = self.looking.get() {
            bar.inc(1);
        }
    }

    fn begins(&self, data: &Data, lesson: &Lesson, student: &Student, step: usize) {
        if let Some(bar) = self.looking.get() {
            bar.finish_and_clear();
        }
        compress::name_skipped(&data.skipped);
        let labelled = data.labelled();
        let mut text = format!(
            "{} classes, {labelled} labelled and {} other pictures\n",
            data.classes.len(),
            data.pictures.len() - labelled
        );
        for note in &lesson.notes {
            text += &format!("teacher {note}\n");
        }
        text += &format!(
            "student: {:.1} million multiplications a picture\n",
            student.macs() as f64 / 1e6
        );
        if step > 0 {
            text += &format!("goes on after step {step}\n");
        }
        say(&text);
        let bar = self.training.get_or_init(|| ProgressBar::new(0));
        let template = "{msg} {wide_bar} {pos}/{len} {elapsed} of {duration}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(step as u64);
        bar.reset_eta();
        TRAINING.store(true, Ordering::SeqCst);
    }

    fn stepped(&self, progress: Progress) -> Flow {
        let Progress { step, steps, loss, quantized } = progress;
        let phase = if quantized { "on int8 grids, loss" } else { "loss" };
        if let Some(bar) = self.training.get() {
            bar.set_length(steps as u64);
            bar.set_message(format!("{phase} {loss:.3}"));
            bar.set_position(step as u64);
            if step == steps {
                bar.finish_and_clear();
            }
        }
        let every = (steps / LINES).max(1);
        if !std::io::stderr().is_terminal() && (step % every == 0 || step == steps) {
            say(&format!("step {step} of {steps}: {phase} {loss:.3}\n"));
        }
        if STOP.load(Ordering::SeqCst) { Flow::Stop } else { Flow::Continue }
    }
}
