//! All that a training is at a step, and the file that it can be continued from.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kinglet_compress::atomic::atomic_write;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::DistillError;
use crate::fake::Ranges;
use crate::optimizer::Adam;
use crate::student::{flat, values};

/// Key of the numbers in a checkpoint.
const KEY: &str = "kinglet.distill";

/// A training at a step. Tensors are without gradients.
#[derive(Debug, Clone)]
pub struct State {
    /// The next step.
    pub step: usize,
    /// The student's parameters, then those of the map of features.
    pub parameters: Vec<Tensor<1>>,
    /// The optimizer's memory.
    pub adam: Adam,
    /// Moving average of the student's parameters.
    pub average: Vec<Tensor<1>>,
    /// Statistics of the batch norms, [2, channels] each; none before the quantized phase.
    pub statistics: Vec<Tensor<2>>,
    /// Ranges of the activations in the quantized phase.
    pub ranges: Ranges,
}

/// What is no tensor. Ranges are stored by their bits.
#[derive(Serialize, Deserialize)]
struct Numbers {
    fingerprint: String,
    step: usize,
    updates: u32,
    fixed: bool,
    ranges: Vec<(String, [u32; 2])>,
}

impl State {
    /// Before the first step.
    #[must_use]
    pub fn new(parameters: Vec<Tensor<1>>, student: usize) -> Self {
        Self {
            step: 0,
            adam: Adam::new(&parameters),
            average: parameters[..student].to_vec(),
            parameters,
            statistics: Vec::new(),
            ranges: Ranges::default(),
        }
    }

    /// Writes a checkpoint. `fingerprint` says of which training it is.
    ///
    /// # Errors
    /// [`DistillError::Write`].
    pub fn save(&self, path: &Path, fingerprint: &str) -> Result<(), DistillError> {
        let numbers = Numbers {
            fingerprint: fingerprint.into(),
            step: self.step,
            updates: self.adam.updates,
            fixed: self.ranges.fixed,
            ranges: self.ranges.of.iter().map(|(n, r)| (n.clone(), r.map(f32::to_bits))).collect(),
        };
        let numbers = serde_json::to_string(&numbers).expect("plain data always serializes");
        let mut tensors = Vec::new();
        let groups = [
            ("parameters", &self.parameters),
            ("mean", &self.adam.mean),
            ("square", &self.adam.square),
            ("average", &self.average),
        ];
        for (group, members) in groups {
            for (at, tensor) in members.iter().enumerate() {
                tensors.push((format!("{group}.{at}"), bytes(values(tensor.clone()))));
            }
        }
        for (at, tensor) in self.statistics.iter().enumerate() {
            tensors.push((format!("statistics.{at}"), bytes(values(tensor.clone()))));
        }
        let failed = |why: String| DistillError::Write {
            path: path.to_owned(),
            source: std::io::Error::other(why),
        };
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(n, b)| TensorView::new(Dtype::F32, vec![b.len() / 4], b).map(|v| (n, v)))
            .collect();
        let views = views.map_err(|e| failed(e.to_string()))?;
        let metadata = HashMap::from([(KEY.to_owned(), numbers)]);
        let file = safetensors::serialize(views, Some(metadata));
        let file = file.map_err(|e| failed(e.to_string()))?;
        let write = |source| DistillError::Write { path: path.to_owned(), source };
        atomic_write(path, &file).map_err(write)
    }

    /// Continues from a checkpoint of the same training; `self` is its beginning.
    ///
    /// # Errors
    /// [`DistillError::Checkpoint`] for a damaged file, or one of another training.
    pub fn load(self, path: &Path, fingerprint: &str) -> Result<Self, DistillError> {
        let bad = |why: String| DistillError::Checkpoint { path: path.to_owned(), why };
        let file = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|e| bad(e.to_string()))?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = text.ok_or_else(|| bad("it is not one of a distillation".into()))?;
        let numbers: Numbers = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if numbers.fingerprint != fingerprint {
            return Err(bad("it is of a training with other settings, models or pictures".into()));
        }
        let tensors = SafeTensors::deserialize(&file).map_err(|e| bad(e.to_string()))?;
        let device = self.parameters[0].device();
        let group = |name: &str, like: &[Tensor<1>]| -> Result<Vec<Tensor<1>>, DistillError> {
            let one = |(at, like): (usize, &Tensor<1>)| {
                let name = format!("{name}.{at}");
                let view = tensors.tensor(&name).map_err(|e| bad(e.to_string()))?;
                let values = floats(view.data());
                if view.dtype() != Dtype::F32 || values.len() != like.dims()[0] {
                    return Err(bad(format!("'{name}' has another size")));
                }
                Ok(flat(values, &device))
            };
            like.iter().enumerate().map(one).collect()
        };
        let adam = Adam {
            mean: group("mean", &self.parameters)?,
            square: group("square", &self.parameters)?,
            updates: numbers.updates,
        };
        let statistics = (0..)
            .map_while(|at| tensors.tensor(&format!("statistics.{at}")).ok())
            .map(|view| pair(floats(view.data()), &device))
            .collect();
        let of = numbers.ranges.into_iter().map(|(n, r)| (n, r.map(f32::from_bits))).collect();
        Ok(Self {
            step: numbers.step,
            parameters: group("parameters", &self.parameters)?,
            adam,
            average: group("average", &self.average)?,
            statistics,
            ranges: Ranges { of, fixed: numbers.fixed },
        })
    }
}

/// [2, channels].
fn pair(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let channels = values.len() / 2;
    Tensor::from_data(TensorData::new(values, [2, channels]), device)
}

fn bytes(values: Vec<f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().map(|&b| f32::from_le_bytes(b)).collect()
}
