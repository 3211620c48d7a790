//! From a finished training to a model file.

use burn::tensor::Tensor;
use kinglet_compress::arch::Conv;
use kinglet_compress::import::{Folded, ImportOptions, import_trained};
use kinglet_engine::OnnxFile;
use kinglet_engine::metadata::Provenance;

use crate::data;
use crate::error::DistillError;
use crate::layout;
use crate::spec::Spec;
use crate::student::{Student, fold, values};

/// Weights and bias of every convolution, batch norms folded in; on the grids of int8 where the
/// training's last phase was.
#[must_use]
pub fn folded(
    student: &Student,
    parameters: &[Tensor<1>],
    statistics: &[Tensor<2>],
    quantized: bool,
) -> Vec<(Conv, Folded)> {
    let mut norms = statistics.iter();
    let mut all = Vec::new();
    for (at, conv) in student.convs.iter().enumerate() {
        let slot = student.slot_of(at);
        let weight = parameters[slot].clone().reshape([conv.weights() / conv.output, conv.output]);
        let (weight, bias) = match norms.next().filter(|_| conv.norm) {
            Some(statistics) => {
                let (scale, shift) = (parameters[slot + 1].clone(), parameters[slot + 2].clone());
                fold(weight, scale, shift, statistics)
            }
            None => (weight, parameters[slot + 1].clone()),
        };
        let weight = if quantized { crate::fake::weights(weight) } else { weight };
        let weight = layout::to_onnx(conv, &values(weight));
        all.push((*conv, Folded { weight, bias: values(bias) }));
    }
    all
}

/// The model file, with labels, preprocessing, provenance and a self-test.
///
/// # Errors
/// [`DistillError::Import`] when a weight is not finite.
pub fn model(
    student: &Student,
    spec: &Spec,
    weights: Vec<(Conv, Folded)>,
    labels: &[String],
    provenance: Provenance,
) -> Result<OnnxFile, DistillError> {
    let options = ImportOptions {
        padding: Some(student.padding),
        labels: Some(labels.to_vec()),
        preprocess: Some(data::preprocess(spec.size)),
        provenance,
        ..Default::default()
    };
    let mut file = import_trained(&student.network, weights, &options)?;
    // What it was built from can be read again: a student may start from a student.
    file.graph_mut().name = spec.to_string();
    Ok(file)
}
