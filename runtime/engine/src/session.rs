//! A model ready to run: pictures in, scores out.

use std::path::Path;
use std::sync::Arc;

use kinglet_kernels::{Isa, Workers};

use crate::choices::Choices;
use crate::drift;
use crate::error::ModelError;
use crate::frame::FrameView;
use crate::metadata::{LABELS_KEY, Metadata};
use crate::model_file::OnnxFile;
use crate::picture::{Picture, PictureError};
use crate::preprocess::{InputKind, InputTensor, Preprocessor};
use crate::report::Report;
use crate::scores::Scores;
use crate::tune::{self, Tuning};

mod compile;
mod interface;

use compile::Compiled;

/// How to load a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Threads that work on one picture, at least 1.
    pub threads: usize,
    /// Bind each thread to a core of its own, the calling one included (Linux).
    pub pin: bool,
    /// Instruction set of the kernels; `None` takes the best that this CPU has, or what the
    /// environment variable `KINGLET_ISA` says.
    pub isa: Option<Isa>,
    /// Refuse the model when any convolution would run in float.
    pub require_int8: bool,
    /// Run the first sample of the model's own self-test; [`Session::self_test`] runs all.
    pub self_test: bool,
    /// Leave everything that is not int8 to tract: slow, and independent of our float kernels.
    pub tract_float: bool,
    /// Whether floats that the model stores in f16 are computed with in f16; `None`: where the
    /// instruction set has such arithmetic.
    pub half: Option<bool>,
    /// What was chosen layer by layer; changes no result.
    pub choices: Choices,
    /// [`Session::load`] takes up the choices of `kinglet tune` beside the model, in place of
    /// [`Self::choices`], if they were made on a board or processor of this name.
    pub tuned_for: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            pin: false,
            isa: None,
            require_int8: false,
            self_test: true,
            tract_float: false,
            half: None,
            choices: Choices::default(),
            tuned_for: None,
        }
    }
}

/// Why a picture's file could not be classified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file is no usable picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The model could not run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// One output of a graph: its shape and its values.
pub type ShapedOutput = (Vec<usize>, Vec<f32>);

/// A model ready to run.
pub struct Session {
    metadata: Metadata,
    compiled: Compiled,
    preprocessor: Option<Preprocessor>,
    input: InputTensor,
    labels: Vec<String>,
    tuning: Tuning,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session of {} classes", self.classes())
    }
}

impl Session {
    /// Reads a model file and makes it ready.
    ///
    /// # Errors
    /// [`ModelError`]: the file cannot be read or is refused, or its self-test failed.
    pub fn load(path: &Path, options: &Options) -> Result<Self, ModelError> {
        Self::load_quietly(path, options, || {})
    }

    /// [`Self::load`] that calls `quiet` first, but after the threads that will work on pictures were
    /// started: what it does to the calling thread, such as lowering its priority, they do not
    /// inherit.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_quietly(
        path: &Path,
        options: &Options,
        quiet: impl FnOnce(),
    ) -> Result<Self, ModelError> {
        Self::load_from(path, options, quiet, || OnnxFile::read(path))
    }

    /// As [`Self::load_quietly`], of a file that was read already: of these bytes and no others. Choices are taken
    /// up beside `path`; tensors in other files are refused.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_bytes_quietly(
        bytes: Vec<u8>,
        path: &Path,
        options: &Options,
        quiet: impl FnOnce(),
    ) -> Result<Self, ModelError> {
        Self::load_from(path, options, quiet, || OnnxFile::from_bytes(&{ bytes }))
    }

    fn load_from(
        path: &Path,
        options: &Options,
        quiet: impl FnOnce(),
        read: impl FnOnce() -> Result<OnnxFile, ModelError>,
    ) -> Result<Self, ModelError> {
        let workers = compile::workers(options)?;
        quiet();
        let mut options = options.clone();
        let tuning = tune::take_up(path, &mut options);
        let mut session = Self::with_workers(read()?, &options, workers)?;
        session.tuning = tuning;
        Ok(session)
    }

    /// Makes a model ready.
    ///
    /// # Errors
    /// [`ModelError`]: the model is refused, or its self-test failed.
    pub fn new(file: OnnxFile, options: &Options) -> Result<Self, ModelError> {
        Self::with_workers(file, options, compile::workers(options)?)
    }

    fn with_workers(
        file: OnnxFile,
        options: &Options,
        workers: Arc<Workers>,
    ) -> Result<Self, ModelError> {
        let metadata = file.metadata()?;
        let compiled = compile::compile(file.proto, &metadata, options, workers)?;
        if options.require_int8
            && let Some(layer) = compiled.first_float_conv()
        {
            return Err(layer);
        }
        let classes = compiled.classes;
        let labels = metadata.labels.clone().unwrap_or_default();
        if !labels.is_empty() && labels.len() != classes {
            return Err(ModelError::Metadata {
                key: LABELS_KEY,
                why: format!("{} labels for {classes} outputs", labels.len()),
            });
        }
        let preprocessor = metadata
            .preprocess
            .as_ref()
            .map(|p| Preprocessor::new(p, compiled.input_kind))
            .transpose()?;
        let input = match compiled.input_kind {
            InputKind::F32Nchw => InputTensor::F32(Vec::new()),
            InputKind::U8Nhwc { .. } => InputTensor::U8(Vec::new()),
        };
        let mut session =
            Self { metadata, compiled, preprocessor, input, labels, tuning: Tuning::None };
        if options.self_test {
            session.test_samples(1)?;
        }
        Ok(session)
    }

    /// Runs the model's self-test; says how many samples were compared (0: the model has none).
    ///
    /// # Errors
    /// [`ModelError::SelfTest`] saying which sample is off and by how much.
    pub fn self_test(&mut self) -> Result<usize, ModelError> {
        self.test_samples(usize::MAX)
    }

    /// Runs the first `most` samples of the self-test; says how many were compared.
    fn test_samples(&mut self, most: usize) -> Result<usize, ModelError> {
        if self.preprocessor.is_none() {
            return Ok(0);
        }
        let Some(golden) = self.metadata.golden.take() else { return Ok(0) };
        let compared = golden.verify(most, |picture| self.outputs(picture));
        self.metadata.golden = Some(golden);
        compared
    }

    /// The model's raw outputs for a picture.
    ///
    /// # Errors
    /// [`ModelError::Unsuitable`] when the model does not say how pictures are preprocessed.
    pub fn outputs(&mut self, picture: &Picture) -> Result<Vec<f32>, ModelError> {
        let mut outputs = Vec::new();
        self.outputs_into(picture, &mut outputs)?;
        Ok(outputs)
    }

    /// As [`Self::outputs`], into a vector that is used again: where an int8 model is one region
    /// ([`Report`]), nothing is allocated once two pictures of the same size have been seen.
    ///
    /// # Errors
    /// As [`Self::outputs`].
    pub fn outputs_into(
        &mut self,
        picture: &Picture,
        outputs: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let preprocessor = self.preprocessor.as_mut().ok_or_else(no_preprocessing)?;
        preprocessor.run(picture, &mut self.input);
        self.compiled.run(&self.input, outputs)
    }

    /// The model's raw outputs for a camera's frame, into a vector that is used again as in
    /// [`Self::outputs_into`].
    ///
    /// # Errors
    /// As [`Self::outputs`].
    pub fn frame_outputs_into(
        &mut self,
        frame: &FrameView<'_>,
        outputs: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        self.prepare_frame(frame)?;
        self.run_prepared(outputs)
    }

    /// The first half of [`Self::frame_outputs_into`]: fills the input tensor.
    ///
    /// # Errors
    /// As [`Self::outputs`].
    pub fn prepare_frame(&mut self, frame: &FrameView<'_>) -> Result<(), ModelError> {
        let preprocessor = self.preprocessor.as_mut().ok_or_else(no_preprocessing)?;
        preprocessor.run_frame(frame, &mut self.input);
        Ok(())
    }

    /// As [`Self::prepare_frame`], from the bytes of a picture's file, of which no more is decoded
    /// than the model sees.
    ///
    /// # Errors
    /// [`FileError::Picture`] when the file is no usable picture, else as [`Self::outputs`].
    pub fn prepare_file(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let preprocessor = self.preprocessor.as_mut().ok_or_else(no_preprocessing)?;
        Ok(preprocessor.run_file(bytes, &mut self.input)?)
    }

    /// The input tensor that was prepared last.
    #[must_use]
    pub fn prepared(&self) -> &InputTensor {
        &self.input
    }

    /// Runs the model on the input tensor that was prepared last.
    ///
    /// # Errors
    /// As [`Self::outputs`].
    pub fn run_prepared(&mut self, outputs: &mut Vec<f32>) -> Result<(), ModelError> {
        self.compiled.run(&self.input, outputs)
    }

    /// The features of the picture that was run last: what the model's last fully connected layer
    /// read. They lie where the run left them, so this costs a copy. Whether they are at hand: they
    /// are not where that layer is none of ours, or runs as something else.
    pub fn features_into(&self, features: &mut Vec<f32>) -> bool {
        self.compiled.features_into(features)
    }

    /// What the picture that was prepared last looks like, see [`drift::looks`]; all zero before the
    /// first.
    #[must_use]
    pub fn looks(&self) -> [f32; drift::LOOKS] {
        drift::looks(&self.input, self.input_size()).unwrap_or_default()
    }

    /// Whether the model ends with a softmax itself, so that its outputs are probabilities.
    #[must_use]
    pub fn gives_probabilities(&self) -> bool {
        self.compiled.gives_probabilities
    }

    /// Classifies a camera's frame.
    ///
    /// # Errors
    /// As [`Self::outputs`].
    pub fn classify_frame(&mut self, frame: &FrameView<'_>) -> Result<Scores, ModelError> {
        let mut outputs = Vec::new();
        self.frame_outputs_into(frame, &mut outputs)?;
        Ok(self.scores(&outputs))
    }

    /// Classifies a picture from the bytes of its file, of which no more is decoded than the model
    /// sees.
    ///
    /// # Errors
    /// [`FileError::Picture`] when the file is no usable picture, else as [`Self::outputs`].
    pub fn classify_file(&mut self, bytes: &[u8]) -> Result<Scores, FileError> {
        self.prepare_file(bytes)?;
        let mut outputs = Vec::new();
        self.run_prepared(&mut outputs)?;
        Ok(self.scores(&outputs))
    }

    /// Classifies a picture.
    ///
    /// # Errors
    /// As [`Self::outputs`].
    pub fn classify(&mut self, picture: &Picture) -> Result<Scores, ModelError> {
        let outputs = self.outputs(picture)?;
        Ok(self.scores(&outputs))
    }

    /// Scores from raw outputs: softmax, unless the model ends with one itself.
    #[must_use]
    pub fn scores(&self, outputs: &[f32]) -> Scores {
        if self.compiled.gives_probabilities {
            Scores { probabilities: outputs.to_vec() }
        } else {
            Scores::from_logits(outputs)
        }
    }

    /// Runs the model on a tensor that is already prepared, as [`Self::input_kind`] says.
    ///
    /// # Errors
    /// [`ModelError::Unsuitable`] for a tensor of the wrong type or length.
    pub fn run(&mut self, input: &InputTensor) -> Result<Vec<f32>, ModelError> {
        let mut outputs = Vec::new();
        self.run_into(input, &mut outputs)?;
        Ok(outputs)
    }

    /// As [`Self::run`], into a vector that is used again: where an int8 model is one region,
    /// nothing is allocated once it has run.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_into(
        &mut self,
        input: &InputTensor,
        outputs: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        self.compiled.run(input, outputs)
    }

    /// Runs the model and gives all of the graph's outputs, each with its shape, as f32.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_all(&mut self, input: &InputTensor) -> Result<Vec<ShapedOutput>, ModelError> {
        self.compiled.run_all(input)
    }

    /// Runs the model once and reports how, with the time of each layer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn profile(&mut self, input: &InputTensor) -> Result<Report, ModelError> {
        self.compiled.profile(input)
    }

    /// How the model runs, without times.
    #[must_use]
    pub fn report(&self) -> Report {
        self.compiled.report()
    }

    /// What came of choices that lie beside the model.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// An input tensor of the right type and length, filled by a fixed pseudo-random sequence.
    #[must_use]
    pub fn sample_input(&self) -> InputTensor {
        let [h, w] = self.input_size();
        let mut state = 0x9e37_79b9_u32;
        let mut byte = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        };
        match self.compiled.input_kind {
            InputKind::F32Nchw => {
                InputTensor::F32((0..3 * h * w).map(|_| f32::from(byte()) / 127.5 - 1.0).collect())
            }
            InputKind::U8Nhwc { .. } => InputTensor::U8((0..3 * h * w).map(|_| byte()).collect()),
        }
    }

    /// Height and width of the model's input, pixels.
    #[must_use]
    pub fn input_size(&self) -> [usize; 2] {
        self.compiled.input_size
    }

    /// What [`Self::run`] wants.
    #[must_use]
    pub fn input_kind(&self) -> InputKind {
        self.compiled.input_kind
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.compiled.classes
    }

    /// The name of a class, if the model has labels.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<&str> {
        self.labels.get(index).map(String::as_str)
    }

    /// The model's metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

fn no_preprocessing() -> ModelError {
    ModelError::Unsuitable {
        why: "the model does not say how pictures are preprocessed; add it once with \
              `kinglet-tools import MODEL.onnx --preprocess … -o OUT.onnx`"
            .into(),
    }
}
