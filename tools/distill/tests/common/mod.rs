//! Pictures and models that are made up.

use std::path::Path;

use kinglet_compress::arch::Arch;
use kinglet_compress::import::{ImportOptions, import_random};
use kinglet_compress::splitmix::SplitMix64;
use kinglet_distill::data::{Data, Folders};
use kinglet_distill::lesson::Lesson;
use kinglet_distill::student::Student;
use kinglet_distill::{Config, Distillation, Flow, Progress, Spec, Watch};
use kinglet_engine::OnnxFile;

/// A student that trains in moments.
pub(crate) const TINY: &str = "lite0,width=0.1,depth=0.1,size=32";

/// A short training without a quantized phase.
pub(crate) fn config(steps: usize) -> Config {
    Config { steps, batch: 8, views: 2, warmup: 3, rate: 5e-3, quantized: 0.0, ..Config::default() }
}

/// Writes noisy pictures, reddish in the first class and bluish in the second.
pub(crate) fn pictures(folder: &Path, classes: &[&str], each: usize) {
    let mut random = SplitMix64::new(5);
    for (class, name) in classes.iter().enumerate() {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..each {
            let picture = image::RgbImage::from_fn(48, 40, |_, _| {
                let mut tone = [90; 3];
                tone[class % 3] = 150;
                image::Rgb(tone.map(|t| (t + random.below(60)) as u8))
            });
            picture.save(folder.join(format!("{number:02}.png"))).unwrap();
        }
    }
}

/// A random Lite0 for 32 pixels.
pub(crate) fn lite0(classes: usize, labels: Option<Vec<String>>) -> OnnxFile {
    let options = ImportOptions {
        resolution: Some(32),
        classes: Some(classes),
        labels,
        ..Default::default()
    };
    import_random(Arch::find("efficientnet-lite0").unwrap(), 1, &options).unwrap()
}

/// A training in a folder `pictures` of `folder`.
pub(crate) fn distillation(folder: &Path, config: Config) -> Distillation {
    Distillation {
        spec: TINY.parse::<Spec>().unwrap(),
        config,
        folders: Folders { pictures: folder.join("pictures"), unlabelled: None },
        teachers: Vec::new(),
        preprocess: None,
        init: None,
        threads: None,
        checkpoint: None,
        restart: false,
    }
}

/// Keeps the losses and what the teachers do; stops after a step if it is told so.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) losses: std::sync::Mutex<Vec<f32>>,
    pub(crate) notes: std::sync::Mutex<Vec<String>>,
    pub(crate) stop: Option<usize>,
}

impl Watch for Log {
    fn listed(&self, _: usize) {}
    fn looked(&self) {}
    fn begins(&self, _: &Data, lesson: &Lesson, _: &Student, _: usize) {
        self.notes.lock().unwrap().clone_from(&lesson.notes);
    }
    fn stepped(&self, progress: Progress) -> Flow {
        self.losses.lock().unwrap().push(progress.loss);
        if self.stop == Some(progress.step) { Flow::Stop } else { Flow::Continue }
    }
}
