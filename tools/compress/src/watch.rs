//! Runs a float model over pictures with inner values among its outputs.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kinglet_engine::metadata::{GOLDEN_KEY, LABELS_KEY, Preprocess};
use kinglet_engine::onnx::{
    ModelProto, NodeProto, TypeProto, ValueInfoProto, tensor_proto::DataType, type_proto,
};
use kinglet_engine::preprocess::{InputTensor, Preprocessor};
use kinglet_engine::session::ShapedOutput;
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use crate::graph::{self, Index};
use crate::parallel;

/// Largest share of calibration pictures that may be unreadable.
pub(crate) const MOST_SKIPPED: f64 = 0.05;
/// Pictures whose results wait for their turn.
const BATCH: usize = 16;

/// Where a watched value is found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// It is the model's input.
    Input,
    /// It is the output of this number.
    Output(usize),
}

/// The model with values among its outputs, and where each is found.
pub(crate) fn watched<'a>(
    model: &ModelProto,
    values: impl Iterator<Item = &'a str>,
) -> Result<(OnnxFile, Vec<Place>), ModelError> {
    let mut model = model.clone();
    let (mut places, mut more) = (Vec::new(), Vec::new());
    if let Some(graph) = model.graph.as_ref() {
        for value in values {
            let known = graph.output.iter().position(|o| o.name == value);
            places.push(if graph.input.iter().any(|i| i.name == value) {
                Place::Input
            } else if let Some(at) = known {
                Place::Output(at)
            } else {
                more.push(value.to_owned());
                Place::Output(graph.output.len() + more.len() - 1)
            });
        }
    }
    expose(&mut model, more);
    Ok((OnnxFile::from_proto(model)?, places))
}

/// Makes inner values of a model its outputs, behind those that it has.
pub(crate) fn expose(model: &mut ModelProto, values: impl IntoIterator<Item = String>) {
    if let Some(graph) = model.graph.as_mut() {
        graph.output.extend(values.into_iter().map(|value| float_value(&value)));
    }
    // The samples would be run through a model that has changed.
    model.metadata_props.retain(|p| p.key != GOLDEN_KEY);
}

/// The part of a model that makes `values`, which are its outputs from the second on. The first,
/// which the engine wants to be that of a classifier, is the mean of the last of them.
pub(crate) fn only(model: &ModelProto, values: &[&str]) -> Result<OnnxFile, ModelError> {
    let mut model = model.clone();
    model.metadata_props.retain(|p| p.key != GOLDEN_KEY && p.key != LABELS_KEY);
    if let (Some(graph), Some(last)) = (model.graph.as_mut(), values.last()) {
        let mean = graph::Namer::new(graph).fresh("mean");
        keep_ancestors(&mut graph.node, values);
        graph.node.push(NodeProto {
            op_type: "GlobalAveragePool".into(),
            name: mean.clone(),
            input: vec![(*last).to_owned()],
            output: vec![mean.clone()],
            ..Default::default()
        });
        graph.output =
            std::iter::once(mean.as_str()).chain(values.iter().copied()).map(float_value).collect();
        graph::drop_unread(graph);
    }
    OnnxFile::from_proto(model)
}

/// Drops the nodes that none of `values` depends on.
fn keep_ancestors(nodes: &mut Vec<NodeProto>, values: &[&str]) {
    let mut needed: HashSet<String> = values.iter().map(|&v| v.to_owned()).collect();
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in std::mem::take(nodes).into_iter().rev() {
        if node.output.iter().any(|o| needed.contains(o)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    *nodes = kept;
}

fn float_value(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: None };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..Default::default() });
    ValueInfoProto { name: name.to_owned(), r#type, ..Default::default() }
}

/// Pictures, and how they are prepared.
pub(crate) struct Pictures<'a> {
    pub(crate) paths: &'a [PathBuf],
    pub(crate) preprocess: &'a Preprocess,
    pub(crate) threads: usize,
}

/// Whether a picture is of one colour: nothing can be learned from it.
pub(crate) fn is_plain(picture: &Picture) -> bool {
    let mut pixels = picture.rgb().chunks_exact(3);
    let first = pixels.next();
    pixels.all(|pixel| Some(pixel) == first)
}

/// What all models' outputs for a picture become.
pub(crate) type See<'a, T, E> = dyn Fn(usize, &[Vec<ShapedOutput>]) -> Result<T, E> + Sync + 'a;

/// A thread's models.
struct Runner {
    sessions: Vec<Session>,
    preprocessor: Preprocessor,
    tensor: InputTensor,
}

impl Runner {
    fn new(models: &[&OnnxFile], preprocess: &Preprocess) -> Result<Self, ModelError> {
        let options = Options { self_test: false, ..Options::default() };
        let session = |model: &&OnnxFile| Session::new((*model).clone(), &options);
        let sessions = models.iter().map(session).collect::<Result<Vec<_>, _>>()?;
        let kind = sessions
            .first()
            .map_or(kinglet_engine::preprocess::InputKind::F32Nchw, Session::input_kind);
        let preprocessor = Preprocessor::new(preprocess, kind)?;
        let tensor = preprocessor.tensor();
        Ok(Self { sessions, preprocessor, tensor })
    }

    fn run(&mut self, picture: &Picture) -> Result<Vec<Vec<ShapedOutput>>, ModelError> {
        self.preprocessor.run(picture, &mut self.tensor);
        self.sessions.iter_mut().map(|s| s.run_all(&self.tensor)).collect()
    }
}

impl Pictures<'_> {
    /// Runs float models over the pictures. `see` gets all outputs of all models, on any thread;
    /// `take` gets what it made of them in the order of the pictures, so that sums do not depend
    /// on the number of threads. Gives the pictures that could not be read, and why.
    pub(crate) fn run<T: Send, E: From<ModelError> + Send>(
        &self,
        models: &[&OnnxFile],
        see: &See<'_, T, E>,
        take: &mut dyn FnMut(usize, T),
        done: &(dyn Fn() + Sync),
    ) -> Result<Vec<(usize, String)>, E> {
        let idle: Mutex<Vec<Runner>> = Mutex::new(Vec::new());
        let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut skipped = Vec::new();
        for (batch, paths) in self.paths.chunks(BATCH).enumerate() {
            let seen = parallel::run(self.threads, paths.len(), |queue| {
                let waiting = lock().pop();
                let mut runner = match waiting {
                    Some(runner) => runner,
                    None => Runner::new(models, self.preprocess)?,
                };
                let mut seen = Vec::new();
                for at in queue {
                    let number = batch * BATCH + at;
                    let result = match Picture::read(&paths[at]) {
                        Ok(picture) => Ok(see(number, &runner.run(&picture)?)?),
                        Err(error) => Err(error.to_string()),
                    };
                    seen.push((number, result));
                    done();
                }
                lock().push(runner);
                Ok::<_, E>(seen)
            })?;
            let mut seen: Vec<_> = seen.into_iter().flatten().collect();
            seen.sort_by_key(|(number, _)| *number);
            for (number, result) in seen {
                match result {
                    Ok(result) => take(number, result),
                    Err(why) => skipped.push((number, why)),
                }
            }
        }
        Ok(skipped)
    }
}

/// The values that a node with index `at` reads which are no constants.
pub(crate) fn variables<'a>(index: &'a Index<'_>, at: usize) -> impl Iterator<Item = &'a str> {
    let node = &index.graph.node[at];
    node.input.iter().map(String::as_str).filter(|v| !v.is_empty() && index.constant(v).is_none())
}
