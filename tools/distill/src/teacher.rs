//! Teachers: what they say about a view.
//!
//! Where a model ends in a linear layer, its teacher gives the features before it, and computes the
//! layer itself: so one run gives both, and a teacher of other classes can learn the user's by a new
//! layer ([`crate::head`]). Any other model gives its outputs alone.

use std::path::{Path, PathBuf};

use kinglet_engine::metadata::{Crop, Preprocess};
use kinglet_engine::onnx::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};
use kinglet_engine::preprocess::{InputTensor, Preprocessor};
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session, tensor};

use crate::error::{self, DistillError};
use crate::head::Linear;

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
    /// The last linear layer.
    pub last: Option<Linear>,
    /// Its outputs are probabilities, not logits.
    pub probabilities: bool,
}

/// A teacher at work: one a thread.
pub struct Runner {
    session: Session,
    /// As the model says; and the same of a whole view.
    own: Preprocessor,
    whole: Preprocessor,
    input: InputTensor,
}

impl Teacher {
    /// Reads a teacher.
    ///
    /// # Errors
    /// [`DistillError::Teacher`] for a model that does not say how pictures are prepared,
    /// [`DistillError::Model`] for one that the engine refuses.
    pub fn read(path: &Path) -> Result<Self, DistillError> {
        let bad = |why: String| DistillError::Teacher { path: path.to_owned(), why };
        let file = OnnxFile::read(path)?;
        let hash = error::hash(path)?;
        let metadata = file.metadata()?;
        let preprocess = metadata.preprocess.clone().ok_or_else(|| {
            bad("it does not say how pictures are prepared: `kinglet-tools import` adds it".into())
        })?;
        let mut body = file;
        let mut bare = metadata.clone();
        (bare.labels, bare.golden) = (None, None);
        bare.write(&mut body.proto);
        let options = Options { self_test: false, ..Options::default() };
        let mut probabilities = ends_in_softmax(body.graph());
        Session::new(body.clone(), &options)?;
        let mut last = None;
        if let Some((layer, features)) = last_layer(body.graph()) {
            let mut cut = body.clone();
            end_at(cut.graph_mut(), &features);
            // A graph that cannot end there is used as it is.
            if Session::new(cut.clone(), &options).is_ok_and(|s| s.classes() == layer.inputs) {
                (body, last, probabilities) = (cut, Some(layer), false);
            }
        }
        let outputs = Session::new(body.clone(), &options)?.classes();
        let labels = metadata.labels;
        let path = path.to_owned();
        Ok(Self { path, sha256: hash, labels, preprocess, body, outputs, last, probabilities })
    }

    /// A teacher at work, on one thread.
    ///
    /// # Errors
    /// [`ModelError`] when the engine refuses the model.
    pub fn runner(&self) -> Result<Runner, ModelError> {
        let options = Options { self_test: false, ..Options::default() };
        let session = Session::new(self.body.clone(), &options)?;
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

/// The last linear layer of a graph and the name of what it reads.
fn last_layer(graph: &GraphProto) -> Option<(Linear, String)> {
    let [output] = graph.output.as_slice() else { return None };
    let producer =
        |value: &str| graph.node.iter().find(|n| n.output.iter().any(|output| output == value));
    let constant = |value: &str| {
        let found = graph.initializer.iter().find(|t| t.name == value)?;
        tensor::to_f32(found).ok().map(|values| (found.dims.clone(), values))
    };
    let mut node = producer(&output.name)?;
    while ["Softmax", "Identity"].contains(&node.op_type.as_str()) {
        node = producer(node.input.first()?)?;
    }
    let mut bias = None;
    if node.op_type == "Add" {
        let (at, values) =
            node.input.iter().enumerate().find_map(|(at, v)| Some((at, constant(v)?.1)))?;
        bias = Some(values);
        node = producer(node.input.get(1 - at.min(1))?)?;
    }
    let (dims, weight) = constant(node.input.get(1)?)?;
    let [rows, columns] = *dims.as_slice() else { return None };
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    let by_output = match node.op_type.as_str() {
        "Gemm" if one(node, "alpha") && one(node, "beta") && int(node, "transA") == 0 => {
            if let Some(name) = node.input.get(2) {
                bias = Some(constant(name)?.1);
            }
            int(node, "transB") == 1
        }
        "MatMul" => false,
        _ => return None,
    };
    let (inputs, outputs) = if by_output { (columns, rows) } else { (rows, columns) };
    let weight = if by_output { transposed(&weight, outputs, inputs) } else { weight };
    let bias = bias.unwrap_or_else(|| vec![0.0; outputs]);
    (bias.len() == outputs && inputs > 0 && outputs > 0)
        .then(|| (Linear { inputs, outputs, weight, bias }, node.input[0].clone()))
}

fn ends_in_softmax(graph: &GraphProto) -> bool {
    let last = graph.output.first().map(|o| &o.name);
    graph.node.iter().any(|n| n.op_type == "Softmax" && n.output.first() == last)
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| matrix[r * columns + c])).collect()
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

fn int(node: &NodeProto, name: &str) -> i64 {
    attribute(node, name).map_or(0, |a| a.i)
}

/// A float attribute is absent or 1.
fn one(node: &NodeProto, name: &str) -> bool {
    attribute(node, name).is_none_or(|a| a.f == 1.0)
}

/// Makes a value the only output and drops what then nobody reads.
fn end_at(graph: &mut GraphProto, value: &str) {
    let mut output = graph.output.pop().unwrap_or_default();
    value.clone_into(&mut output.name);
    if let Some(shape) = shape_of(&mut output) {
        *shape = None;
    }
    graph.output = vec![output];
    loop {
        let read: std::collections::HashSet<String> = graph
            .node
            .iter()
            .flat_map(|n| n.input.iter().cloned())
            .chain([value.to_owned()])
            .collect();
        let before = graph.node.len();
        graph.node.retain(|n| n.output.iter().any(|o| read.contains(o)));
        graph.initializer.retain(|t| read.contains(&t.name));
        if graph.node.len() == before {
            break;
        }
    }
}

fn shape_of(
    info: &mut ValueInfoProto,
) -> Option<&mut Option<kinglet_engine::onnx::TensorShapeProto>> {
    use kinglet_engine::onnx::type_proto::Value;
    match info.r#type.as_mut()?.value.as_mut()? {
        Value::TensorType(tensor) => Some(&mut tensor.shape),
        #[allow(unreachable_patterns)]
        _ => None,
    }
}
