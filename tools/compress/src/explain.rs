//! Which part of a picture speaks for a class.
//!
//! Two methods: [`cam`] reads it off the feature maps, exactly and at once, where a model ends with a
//! global mean and one linear layer; [`occlusion`] hides one part after another and looks what that
//! does to the score, for any model. [`picture`] draws either over the photograph.

use kinglet_engine::metadata::{Crop, GOLDEN_KEY, LABELS_KEY, Preprocess};
use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use crate::classifier::{Classifier, NoClassifier, float_value};
use crate::parallel;

mod draw;

pub use draw::picture;

/// Parts along each side that are hidden, one after another.
const STEPS: usize = 14;
/// Side of a hidden part, of the whole.
const PATCH: f64 = 0.2;

/// Why a picture could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's end is not known.
    #[error("{0}; --method occlusion works for any model")]
    NoClassifier(#[from] NoClassifier),
    /// The features are no means of maps.
    #[error(
        "the classifier does not read the mean of feature maps, so there are no class activation maps; \
         --method occlusion works for any model"
    )]
    NoMaps,
    /// The model does not say how pictures are prepared.
    #[error("the model does not say how pictures are prepared; give it with --preprocess")]
    NoPreprocess,
    /// There is no such class.
    #[error("class {class}, the model has {classes} classes")]
    Class {
        /// Its index.
        class: usize,
        /// The model's number of classes.
        classes: usize,
    },
}

/// A map of a class over the part of a picture that the model sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// The class.
    pub class: usize,
    /// Its score, 0..=1.
    pub score: f32,
    /// Number of columns.
    pub width: usize,
    /// Evidence for the class (below zero: against it), row by row. Of a class activation map the mean
    /// plus the class's bias is its logit; of an occlusion, how much the model's output for it falls.
    pub values: Vec<f32>,
}

impl Heat {
    /// Number of rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Share of the evidence for the class in a part of what the model sees, given by its left, top,
    /// right and bottom edges, 0..=1 each. 0 when there is none at all.
    #[must_use]
    pub fn share(&self, [left, top, right, bottom]: [f32; 4]) -> f32 {
        let (mut inside, mut all) = (0.0, 0.0);
        for (at, value) in self.values.iter().enumerate() {
            let x = ((at % self.width) as f32 + 0.5) / self.width as f32;
            let y = ((at / self.width) as f32 + 0.5) / self.height() as f32;
            let value = value.max(0.0);
            all += value;
            if (left..right).contains(&x) && (top..bottom).contains(&y) {
                inside += value;
            }
        }
        if all > 0.0 { inside / all } else { 0.0 }
    }
}

/// The class activation map of a class, or of the best one: the feature maps, added up with the
/// class's weights.
///
/// Source: Zhou, Khosla, Lapedriza, Oliva and Torralba (2016), Learning Deep Features for
/// Discriminative Localization.
///
/// # Errors
/// [`ExplainError::NoMaps`] or [`ExplainError::NoClassifier`] where the model is of another kind.
pub fn cam(file: &OnnxFile, picture: &Picture, class: Option<usize>) -> Result<Heat, ExplainError> {
    let classifier = Classifier::find(file)?;
    let maps = classifier.maps.as_ref().ok_or(ExplainError::NoMaps)?;
    let preprocess = file.metadata()?.preprocess.ok_or(ExplainError::NoPreprocess)?;
    let mut proto = file.proto.clone();
    proto.metadata_props.retain(|p| p.key != GOLDEN_KEY && p.key != LABELS_KEY);
    if let Some(graph) = proto.graph.as_mut() {
        graph.output.push(float_value(maps, None));
    }
    let options = Options { self_test: false, ..Options::default() };
    let mut session = Session::new(OnnxFile::from_proto(proto)?, &options)?;
    let mut preprocessor = Preprocessor::new(&preprocess, session.input_kind())?;
    let mut tensor = preprocessor.tensor();
    preprocessor.run(picture, &mut tensor);
    let outputs = session.run_all(&tensor)?;
    let (Some((_, logits)), Some((shape, maps))) = (outputs.first(), outputs.get(1)) else {
        return Err(ExplainError::NoMaps);
    };
    let scores = session.scores(logits);
    let class = chosen(class, &scores.probabilities)?;
    let &[1, channels, height, width] = shape.as_slice() else { return Err(ExplainError::NoMaps) };
    let weights = classifier.weights.chunks_exact(classifier.width).nth(class);
    let weights = weights.filter(|w| w.len() == channels).ok_or(ExplainError::NoMaps)?;
    let mut values = vec![0.0; height * width];
    for (map, weight) in maps.chunks_exact((height * width).max(1)).zip(weights) {
        values.iter_mut().zip(map).for_each(|(v, m)| *v += weight * m);
    }
    Ok(Heat { class, score: scores.probabilities[class], width, values })
}

fn chosen(class: Option<usize>, probabilities: &[f32]) -> Result<usize, ExplainError> {
    let classes = probabilities.len();
    match class {
        Some(class) if class < classes => Ok(class),
        Some(class) => Err(ExplainError::Class { class, classes }),
        None => Ok((0..classes)
            .fold(0, |best, at| if probabilities[at] > probabilities[best] { at } else { best })),
    }
}

/// How much the output for a class, or for the best one, falls where a part of the picture is hidden
/// behind its mean colour. `done` is called once for each of [`parts`], from several threads.
///
/// Source: Zeiler and Fergus (2014), Visualizing and Understanding Convolutional Networks.
///
/// # Errors
/// [`ExplainError::Model`] or [`ExplainError::NoPreprocess`].
pub fn occlusion(
    file: &OnnxFile,
    picture: &Picture,
    class: Option<usize>,
    threads: Option<usize>,
    done: &(dyn Fn() + Sync),
) -> Result<Heat, ExplainError> {
    let preprocess = file.metadata()?.preprocess.ok_or(ExplainError::NoPreprocess)?;
    let options = Options { self_test: false, ..Options::default() };
    let mut session = Session::new(file.clone(), &options)?;
    let kind = session.input_kind();
    let whole = Preprocess { crop: Crop::Stretch, ..preprocess.clone() };
    let seen = Preprocessor::new(&preprocess, kind)?.resized(picture).to_vec();
    let [height, width] = whole.size.map(|s| s as usize);
    let mean = mean_color(&seen);
    let outputs = session.outputs(picture)?;
    let probabilities = session.scores(&outputs).probabilities;
    let class = chosen(class, &probabilities)?;
    let (score, output) = (probabilities[class], outputs[class]);
    let falls = parallel::run(parallel::threads(threads), parts(), |queue| {
        let mut session = Session::new(file.clone(), &options)?;
        let mut preprocessor = Preprocessor::new(&whole, kind)?;
        let mut tensor = preprocessor.tensor();
        let mut falls = Vec::new();
        for at in queue {
            let mut rgb = seen.clone();
            let rows = span(at / STEPS, height);
            let columns = span(at % STEPS, width);
            for y in rows {
                let row = &mut rgb[(y * width + columns.start) * 3..(y * width + columns.end) * 3];
                row.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&mean));
            }
            if let Ok(hidden) = Picture::from_rgb(width as u32, height as u32, rgb) {
                preprocessor.run(&hidden, &mut tensor);
                falls.push((at, output - session.run(&tensor)?[class]));
            }
            done();
        }
        Ok::<_, ModelError>(falls)
    })?;
    let mut values = vec![0.0; parts()];
    for (at, fall) in falls.into_iter().flatten() {
        values[at] = fall;
    }
    Ok(Heat { class, score, width: STEPS, values })
}

/// How many parts are hidden, one after another.
#[must_use]
pub fn parts() -> usize {
    STEPS * STEPS
}

/// The pixels that the part of a number hides along a side: around the middle of its cell.
fn span(at: usize, side: usize) -> std::ops::Range<usize> {
    let middle = (at as f64 + 0.5) / STEPS as f64;
    let edge = |share: f64| (share.clamp(0.0, 1.0) * side as f64).round() as usize;
    edge(middle - PATCH / 2.0)..edge(middle + PATCH / 2.0)
}

fn mean_color(rgb: &[u8]) -> [u8; 3] {
    let pixels = (rgb.len() / 3).max(1) as u64;
    let sum = |c: usize| rgb.iter().skip(c).step_by(3).map(|&v| u64::from(v)).sum::<u64>();
    [0, 1, 2].map(|c| (sum(c) / pixels) as u8)
}
