//! Teachers: what they say about a view.
//!
//! Where a model ends in a linear layer, its teacher gives the features before it, and computes the
//! layer itself: so one run gives both. Any other model gives its outputs alone.

use std::path::{Path, PathBuf};

use kinglet_compress::classifier::Classifier;
use kinglet_engine::metadata::{Crop, Preprocess};
use kinglet_engine::onnx::GraphProto;
use kinglet_engine::preprocess::{InputTensor, Preprocessor};
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use crate::error::{self, DistillError};

/// A teacher, before anything runs.
#[derive(Debug, Clone)]
pub struct Teacher {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// Class names, if the file has them.
    pub labels: Option<Vec<String>>,
    preprocess: Preprocess,
    /// The model, ending in its features where it has a last linear layer.
    body: OnnxFile,
    /// Values that the body gives.
    pub outputs: usize,
    /// Its classes.
    pub classes: usize,
    /// Weights and bias of its last linear layer, which reads the body's features; else the body
    /// gives what the model gives.
    pub classifier: Option<Classifier>,
    /// The model's outputs are probabilities, not logits.
    probabilities: bool,
}

/// Probabilities are at least this, so that they have a logarithm.
const LEAST: f32 = 1e-7;

/// A teacher at work: one a thread.
pub struct Runner {
    session: Session,
    /// As the model says; and the same of a whole view.
    own: Preprocessor,
    whole: Preprocessor,
    input: InputTensor,
}

impl Teacher {
    /// Reads a teacher. `preprocess` is how it gets its pictures where the file does not say it.
    ///
    /// # Errors
    /// [`DistillError::Teacher`] where nobody says how pictures are prepared, [`DistillError::File`]
    /// for one that the engine refuses.
    pub fn read(path: &Path, preprocess: Option<&Preprocess>) -> Result<Self, DistillError> {
        let refused = |source| DistillError::File { path: path.to_owned(), source };
        let file = OnnxFile::read(path).map_err(refused)?;
        let sha256 = error::hash(path)?;
        let metadata = file.metadata().map_err(refused)?;
        let preprocess = metadata.preprocess.as_ref().or(preprocess).cloned();
        let preprocess = preprocess.ok_or_else(|| DistillError::Teacher {
            path: path.to_owned(),
            why: "it does not say how pictures are prepared; give it with --preprocess".into(),
        })?;
        preprocess.check().map_err(refused)?;
        let classes = Session::new(file.clone(), &options()).map_err(refused)?.classes();
        let (labels, probabilities) = (metadata.labels, ends_in_softmax(file.graph()));
        let found = Classifier::find(&file).ok().and_then(|classifier| {
            let body = classifier.backbone(&file).ok()?;
            // A graph that cannot end there is used as it is.
            let width = Session::new(body.clone(), &options()).ok()?.classes();
            (width == classifier.width && classifier.classes() == classes)
                .then_some((body, classifier))
        });
        let (body, classifier) = match found {
            Some((body, classifier)) => (body, Some(classifier)),
            None => (file, None),
        };
        let outputs = classifier.as_ref().map_or(classes, |c| c.width);
        let path = path.to_owned();
        Ok(Self {
            path,
            sha256,
            labels,
            preprocess,
            body,
            outputs,
            classes,
            classifier,
            probabilities,
        })
    }

    /// The logits of its classes, from what a runner gave.
    #[must_use]
    pub fn logits(&self, said: &[f32]) -> Vec<f32> {
        match &self.classifier {
            Some(classifier) => classifier.logits(said),
            None if self.probabilities => said.iter().map(|p| p.max(LEAST).ln()).collect(),
            None => said.to_vec(),
        }
    }

    /// A teacher at work, on one thread.
    ///
    /// # Errors
    /// [`ModelError`] when the engine refuses the model.
    pub fn runner(&self) -> Result<Runner, ModelError> {
        let session = Session::new(self.body.clone(), &options())?;
        let kind = session.input_kind();
        let whole = Preprocess { crop: Crop::Stretch, ..self.preprocess.clone() };
        let own = Preprocessor::new(&self.preprocess, kind)?;
        let input = own.tensor();
        Ok(Runner { session, own, whole: Preprocessor::new(&whole, kind)?, input })
    }
}

impl Runner {
    /// What the teacher says of a picture as it would be classified, or of a whole view.
    ///
    /// # Errors
    /// [`ModelError`] when the model fails.
    pub fn look(&mut self, picture: &Picture, whole: bool) -> Result<Vec<f32>, ModelError> {
        let preprocessor = if whole { &mut self.whole } else { &mut self.own };
        preprocessor.run(picture, &mut self.input);
        self.session.run(&self.input)
    }
}

fn options() -> Options {
    Options { self_test: false, ..Options::default() }
}

fn ends_in_softmax(graph: &GraphProto) -> bool {
    let last = graph.output.first().map(|o| &o.name);
    graph.node.iter().any(|n| n.op_type == "Softmax" && n.output.first() == last)
}
