//! The whole of it: pictures and teachers in, a model file out.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kinglet_compress::arch::Padding;
use kinglet_compress::import::sha256;
use kinglet_engine::OnnxFile;
use kinglet_engine::metadata::{Preprocess, Provenance};

use crate::batch::Batches;
use crate::config::Config;
use crate::data::{Data, Folders, Listing};
use crate::error::{self, DistillError};
use crate::export;
use crate::init::{self, Donor};
use crate::lesson::{Lesson, Scale};
use crate::spec::Spec;
use crate::state::State;
use crate::student::{Mode, Student, values};
use crate::teacher::Teacher;
use crate::train::{Flow, Progress, Training, hint_map};

/// Pictures that a donor's statistics are taken from.
const DONOR_PICTURES: usize = 64;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Distillation {
    /// The student.
    pub spec: Spec,
    /// The settings.
    pub config: Config,
    /// The pictures.
    pub folders: Folders,
    /// The teachers' files; without any the labels alone teach.
    pub teachers: Vec<PathBuf>,
    /// How teachers get their pictures whose files do not say it.
    pub preprocess: Option<Preprocess>,
    /// A model to start from.
    pub init: Option<PathBuf>,
    /// Threads that decode and ask the teachers; one for each core by default.
    pub threads: Option<usize>,
    /// Where checkpoints are written.
    pub checkpoint: Option<PathBuf>,
    /// Leave an old checkpoint unread.
    pub restart: bool,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was stopped; the checkpoint holds all of it.
    Stopped {
        /// Steps that are done.
        step: usize,
    },
    /// The model is finished.
    Finished(Box<OnnxFile>),
}

/// What a caller is told and asked on the way.
pub trait Watch {
    /// The pictures were listed: so many will be looked at.
    fn listed(&self, pictures: usize);
    /// One picture was looked at. Called from several threads.
    fn looked(&self);
    /// The training begins, or goes on, at a step.
    fn begins(&self, data: &Data, lesson: &Lesson, student: &Student, step: usize);
    /// After each step.
    fn stepped(&self, progress: Progress) -> Flow;
}

impl Distillation {
    /// Runs it.
    ///
    /// # Errors
    /// [`DistillError`].
    pub fn run(&self, watch: &(dyn Watch + Sync)) -> Result<Outcome, DistillError> {
        self.config.check()?;
        let read = |path: &PathBuf| Teacher::read(path, self.preprocess.as_ref());
        let teachers: Vec<Teacher> = self.teachers.iter().map(read).collect::<Result<_, _>>()?;
        let listing = Listing::new(&self.folders, teachers.iter().find_map(|t| t.labels.clone()))?;
        let init = |path: &PathBuf| {
            OnnxFile::read(path).map_err(|source| DistillError::File { path: path.clone(), source })
        };
        let init = self.init.as_ref().map(init).transpose()?;
        let donor = init.as_ref().map(Donor::new).transpose()?;
        let init_hash = self.init.as_deref().map(error::hash).transpose()?;
        let fingerprint = self.fingerprint(&listing, &teachers, init_hash.as_deref());
        let all = listing.files.iter().filter(|f| f.1.is_some() || !teachers.is_empty());
        watch.listed(all.count());
        let looked = || watch.looked();
        let data = listing.look(self.spec.size, &self.config, &teachers, self.threads, &looked)?;
        let lesson = Lesson::new(&data, &teachers, &self.config)?;
        let student = Student::new(self.spec.network(data.classes.len()), Padding::Same);
        let device = device().autodiff();
        let batches =
            Batches { data: &data, lesson: &lesson, config: &self.config, device: &device };
        let checkpoint = self.checkpoint.as_deref();
        let training = Training {
            student: &student,
            batches,
            checkpoint: checkpoint.map(|path| (path, fingerprint.as_str())),
        };
        let mut state = first_state(&training, donor.as_ref(), &device);
        if let Some(path) = checkpoint.filter(|path| !self.restart && path.exists()) {
            state = state.load(path, &fingerprint)?;
        }
        watch.begins(&data, &lesson, &student, state.step);
        let state = training.run(state, &mut |progress| watch.stepped(progress))?;
        if state.step < self.config.steps {
            return Ok(Outcome::Stopped { step: state.step });
        }
        let quantized = !state.statistics.is_empty();
        let statistics =
            if quantized { state.statistics } else { training.statistics(&state.average) };
        let weights = export::folded(&student, &state.average, &statistics, quantized);
        let provenance = self.provenance(&data, &teachers, init_hash.as_deref());
        let file = export::model(&student, &self.spec, weights, &data.classes, provenance)?;
        Ok(Outcome::Finished(Box::new(file)))
    }

    /// What makes two trainings the same: settings, models by their hashes, pictures by their names
    /// and sizes.
    fn fingerprint(&self, listing: &Listing, teachers: &[Teacher], init: Option<&str>) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!("{version} {} {:?} {:?} ", self.spec, self.config, self.preprocess);
        for hash in teachers.iter().map(|t| t.sha256.as_str()).chain(init) {
            text += hash;
        }
        for (path, class) in &listing.files {
            let size = std::fs::metadata(path).map_or(0, |m| m.len());
            text += &format!("{} {class:?} {size}\n", path.display());
        }
        sha256(text.as_bytes())
    }

    fn provenance(&self, data: &Data, teachers: &[Teacher], init: Option<&str>) -> Provenance {
        let name = |path: &Path| {
            path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        };
        let labelled = data.labelled();
        let mut steps = Vec::new();
        if let (Some(path), Some(hash)) = (&self.init, init) {
            steps.push(format!("start from {} (SHA-256 {hash})", name(path)));
        }
        for teacher in teachers {
            steps.push(format!("teacher {} (SHA-256 {})", name(&teacher.path), teacher.sha256));
        }
        let settings = serde_json::to_string(&self.config).expect("plain data always serializes");
        steps.push(format!(
            "distill {} on {labelled} labelled and {} other pictures, kinglet-tools {}, {settings}",
            self.spec,
            data.pictures.len() - labelled,
            env!("CARGO_PKG_VERSION"),
        ));
        Provenance {
            name: self.spec.to_string(),
            parent_sha256: init.map(str::to_owned),
            steps,
            ..Default::default()
        }
    }
}

/// Where the tensors are: a GPU with the feature `gpu`, else the CPU.
fn device() -> Device {
    #[cfg(feature = "gpu")]
    return Device::wgpu(burn::tensor::DeviceKind::default());
    #[cfg(not(feature = "gpu"))]
    Device::flex()
}

/// Before the first step.
fn first_state(training: &Training<'_>, donor: Option<&Donor>, device: &Device) -> State {
    let (student, batches) = (training.student, &training.batches);
    let seed = batches.config.seed;
    let same = donor.is_some_and(|d| d.labels.as_ref() == Some(&batches.data.classes));
    let plain = device.clone().inner();
    let pictures = batches.plain(u64::MAX, DONOR_PICTURES);
    let mut parameters = init::parameters(student, donor, same, pictures.clone(), seed, &plain);
    let taught = batches.lesson.features();
    if batches.config.hint > 0.0 && taught > 0 {
        let tracked: Vec<_> = parameters.iter().map(|p| p.clone().autodiff()).collect();
        let features = student.forward(&tracked, pictures, Mode::Batch).features.inner();
        let own = Scale::of(values(features).chunks_exact(student.network.features));
        parameters.extend(hint_map(&own, taught, seed, &plain));
    }
    State::new(parameters, student.slots().len())
}
