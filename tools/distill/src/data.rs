//! The pictures of a training: their views, and what the teachers say of each.

use std::path::{Path, PathBuf};

use kinglet_compress::dataset;
use kinglet_compress::evaluate::Skipped;
use kinglet_compress::parallel;
use kinglet_engine::Picture;
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, Preprocessor};

use crate::config::Config;
use crate::error::DistillError;
use crate::teacher::{Runner, Teacher};
use crate::views::View;

/// Part of the short side that a student looks at, as at 224 pixels of EfficientNet.
const FRACTION: f32 = 0.875;
/// Mean and deviation of its input: those of the Lite family.
const NORMAL: (f32, f32) = (127.0, 128.0);

/// Most memory for views and what teachers say of them, bytes.
const MOST_BYTES: u64 = 16 << 30;

/// Where the pictures are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// A folder a class; or pictures alone, which teachers know the classes of.
    pub pictures: PathBuf,
    /// Pictures that only teachers know.
    pub unlabelled: Option<PathBuf>,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct Looked {
    /// Its class, if it is labelled.
    pub class: Option<usize>,
    /// Its views for the student: views * side * side * 3 bytes of RGB.
    pub pixels: Vec<u8>,
    /// What each teacher said: views * outputs values.
    pub said: Vec<Vec<f32>>,
}

/// All pictures.
#[derive(Debug, Clone)]
pub struct Data {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The pictures, in the order of their paths, labelled ones first.
    pub pictures: Vec<Looked>,
    /// Those that could not be read.
    pub skipped: Vec<Skipped>,
    /// Side of the student's input, pixels.
    pub side: usize,
    /// Views of each picture.
    pub views: usize,
}

/// What there is to read, before anything is decoded.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The pictures with their classes.
    pub files: Vec<(PathBuf, Option<usize>)>,
    folder: PathBuf,
    is_labelled: bool,
}

/// How a student's pictures are prepared.
#[must_use]
pub fn preprocess(side: u32) -> Preprocess {
    Preprocess {
        size: [side; 2],
        filter: Filter::Bicubic,
        crop: Crop::Center { fraction: FRACTION },
        mean: [NORMAL.0; 3],
        std: [NORMAL.1; 3],
        channels: Channels::Rgb,
    }
}

/// A sample, 0..=255, as the student's input holds it.
#[must_use]
pub fn normal(sample: u8) -> f32 {
    (f32::from(sample) - NORMAL.0) / NORMAL.1
}

impl Listing {
    /// Lists the folders. `taught`: the classes that a teacher knows, for pictures without labels.
    ///
    /// # Errors
    /// [`DistillError::Dataset`], [`DistillError::Unlabelled`], or [`DistillError::Classes`] for fewer
    /// than two classes, [`DistillError::EmptyClass`] for one without pictures.
    pub fn new(folders: &Folders, taught: Option<Vec<String>>) -> Result<Self, DistillError> {
        let path = &folders.pictures;
        let mut files = Vec::new();
        let class_folders = dataset::class_folders(path)?;
        let is_labelled = !class_folders.is_empty();
        let classes: Vec<String> = if class_folders.is_empty() {
            let unlabelled = || DistillError::Unlabelled { path: path.clone() };
            let taught = taught.ok_or_else(unlabelled)?;
            files.extend(dataset::pictures(path)?.into_iter().map(|path| (path, None)));
            taught
        } else {
            let (classes, folders): (Vec<_>, Vec<_>) = class_folders.into_iter().unzip();
            let of = |(class, files): (usize, Vec<PathBuf>)| {
                files.into_iter().map(move |path| (path, Some(class)))
            };
            files.extend(folders.into_iter().enumerate().flat_map(of));
            classes
        };
        if classes.len() < 2 {
            return Err(DistillError::Classes { path: path.clone(), names: classes });
        }
        if let Some(unlabelled) = &folders.unlabelled {
            files.extend(dataset::pictures(unlabelled)?.into_iter().map(|path| (path, None)));
        }
        let listing = Self { classes, files, folder: path.clone(), is_labelled };
        listing.complete(listing.files.iter().map(|f| f.1))?;
        Ok(listing)
    }

    /// There are pictures, and every class of labelled ones has some.
    fn complete(&self, found: impl Iterator<Item = Option<usize>>) -> Result<(), DistillError> {
        let path = &self.folder;
        if !self.is_labelled {
            let empty = || dataset::DatasetError::Empty { path: path.clone() };
            return Ok(found.count().checked_sub(1).map(drop).ok_or_else(empty)?);
        }
        let mut counts = vec![0; self.classes.len()];
        found.flatten().for_each(|class| counts[class] += 1);
        match counts.iter().position(|&n| n == 0) {
            None => Ok(()),
            Some(at) => {
                let (path, class) = (path.clone(), self.classes[at].clone());
                Err(DistillError::EmptyClass { path, class })
            }
        }
    }

    /// Reads the pictures, makes their views and asks the teachers. `done` is called once a
    /// picture, from several threads.
    ///
    /// # Errors
    /// [`DistillError::Model`] when a teacher fails, [`DistillError::EmptyClass`] when of some class
    /// no picture can be read, [`DistillError::TooMuch`] for too many views.
    pub fn look(
        &self,
        side: u32,
        config: &Config,
        teachers: &[Teacher],
        threads: Option<usize>,
        done: &(dyn Fn() + Sync),
    ) -> Result<Data, DistillError> {
        // Without a teacher nobody knows anything of what is not labelled.
        let known = |f: &&(PathBuf, Option<usize>)| !teachers.is_empty() || f.1.is_some();
        let files: Vec<_> = self.files.iter().filter(known).collect();
        let said: usize = teachers.iter().map(|t| t.outputs).sum();
        // What a teacher said is held once more in the lesson.
        let view = 3 * u64::from(side).pow(2) + 8 * said as u64;
        let bytes = view.saturating_mul(files.len() as u64).saturating_mul(config.views as u64);
        if bytes > MOST_BYTES {
            let (pictures, views) = (files.len(), config.views);
            return Err(DistillError::TooMuch { pictures, views, gigabytes: bytes >> 30 });
        }
        let parts = parallel::run(parallel::threads(threads), files.len(), |queue| {
            let mut eye = Eye::new(side, config, teachers)?;
            let mut part = Vec::new();
            for at in queue {
                let (path, class) = files[at];
                part.push((at, eye.look(at as u64, path, *class)?));
                done();
            }
            Ok::<_, DistillError>(part)
        })?;
        let mut all: Vec<_> = parts.into_iter().flatten().collect();
        all.sort_by_key(|(at, _)| *at);
        let (mut pictures, mut skipped) = (Vec::new(), Vec::new());
        for (at, looked) in all {
            match looked {
                Ok(looked) => pictures.push(looked),
                Err(why) => skipped.push(Skipped { path: files[at].0.clone(), why }),
            }
        }
        self.complete(pictures.iter().map(|p| p.class))?;
        let (classes, side, views) = (self.classes.clone(), side as usize, config.views);
        Ok(Data { classes, pictures, skipped, side, views })
    }
}

impl Data {
    /// How many pictures are labelled: they stand first.
    #[must_use]
    pub fn labelled(&self) -> usize {
        self.pictures.iter().filter(|p| p.class.is_some()).count()
    }

    /// The bytes of one view.
    #[must_use]
    pub fn pixels(&self, picture: usize, view: usize) -> &[u8] {
        let size = self.side * self.side * 3;
        &self.pictures[picture].pixels[view * size..][..size]
    }

    /// What a teacher with `outputs` values said of one view.
    #[must_use]
    pub fn said(&self, teacher: usize, outputs: usize, picture: usize, view: usize) -> &[f32] {
        &self.pictures[picture].said[teacher][view * outputs..][..outputs]
    }
}

/// One thread's student and teachers.
struct Eye {
    seed: u64,
    views: usize,
    own: Preprocessor,
    whole: Preprocessor,
    teachers: Vec<Runner>,
}

impl Eye {
    fn new(side: u32, config: &Config, teachers: &[Teacher]) -> Result<Self, DistillError> {
        let own = preprocess(side);
        let whole = Preprocess { crop: Crop::Stretch, ..own.clone() };
        Ok(Self {
            seed: config.seed,
            views: config.views,
            own: Preprocessor::new(&own, InputKind::F32Nchw)?,
            whole: Preprocessor::new(&whole, InputKind::F32Nchw)?,
            teachers: teachers.iter().map(Teacher::runner).collect::<Result<_, _>>()?,
        })
    }

    /// A picture; or why it cannot be read.
    fn look(
        &mut self,
        at: u64,
        path: &Path,
        class: Option<usize>,
    ) -> Result<Result<Looked, String>, DistillError> {
        let picture = match Picture::read(path) {
            Ok(picture) => picture,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut looked =
            Looked { class, pixels: Vec::new(), said: vec![Vec::new(); self.teachers.len()] };
        for view in 0..self.views {
            let cut = (view > 0).then(|| {
                View::random(self.seed, [at, view as u64], picture.width(), picture.height())
                    .cut(&picture)
            });
            let (shown, whole) = (cut.as_ref().unwrap_or(&picture), cut.is_some());
            let student = if whole { &mut self.whole } else { &mut self.own };
            looked.pixels.extend_from_slice(student.resized(shown));
            for (teacher, said) in self.teachers.iter_mut().zip(&mut looked.said) {
                said.extend(teacher.look(shown, whole)?);
            }
        }
        Ok(Ok(looked))
    }
}
