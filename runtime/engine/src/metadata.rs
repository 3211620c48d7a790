//! What a classifier needs besides its graph, carried inside the model as ONNX `metadata_props`.
//!
//! Keys: `kinglet.preprocess` (JSON), `kinglet.labels` (one a line), `kinglet.golden` (JSON),
//! `kinglet.provenance` (JSON), `kinglet.unknown_below` (a number), `kinglet.drift` (JSON).

use serde::{Deserialize, Serialize};

use crate::drift::{DRIFT_KEY, Reference};
use crate::error::ModelError;
use crate::onnx;

/// Key of the preprocessing description.
pub const PREPROCESS_KEY: &str = "kinglet.preprocess";
/// Key of the label list.
pub const LABELS_KEY: &str = "kinglet.labels";
/// Key of the self-test samples.
pub const GOLDEN_KEY: &str = "kinglet.golden";
/// Key of the provenance record.
pub const PROVENANCE_KEY: &str = "kinglet.provenance";

/// Key of the least score of a known class.
pub const UNKNOWN_KEY: &str = "kinglet.unknown_below";

/// The metadata of one model. Every part may be absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// How a picture becomes the input tensor.
    pub preprocess: Option<Preprocess>,
    /// Class names, in the order of the model's outputs.
    pub labels: Option<Vec<String>>,
    /// Samples with expected scores.
    pub golden: Option<Golden>,
    /// Where the model comes from.
    pub provenance: Option<Provenance>,
    /// A picture whose best class scores less than this, 0..=1, is of none of the classes.
    pub unknown_below: Option<f32>,
    /// What it makes of pictures as it was given them.
    pub drift: Option<Reference>,
}

/// How a picture becomes the input tensor: crop, resize, then `(value - mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Height and width of the input tensor, pixels, each 1..=4096.
    pub size: [u32; 2],
    /// The resampling filter.
    pub filter: Filter,
    /// Which part of the picture is used.
    pub crop: Crop,
    /// Mean of each tensor channel, in units of 0..=255 samples.
    pub mean: [f32; 3],
    /// Divisor of each tensor channel, in units of 0..=255 samples; not zero.
    pub std: [f32; 3],
    /// Order of the tensor's channels.
    pub channels: Channels,
}

/// Resampling filter, as Pillow defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle filter, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
}

/// Which part of a picture is used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum Crop {
    /// A centred square (or rectangle of the tensor's aspect) of `fraction` of what fits, cut out
    /// first and then resized: side = floor(fraction * short side). EfficientNet's own rule.
    Center {
        /// Part of the short side, in (0, 1].
        fraction: f32,
    },
    /// The short side is resized to round(size / fraction), then the centre is cut out.
    /// torchvision's rule.
    ResizeThenCenter {
        /// size / resized short side, in (0, 1].
        fraction: f32,
    },
    /// The whole picture, its aspect not kept.
    Stretch,
}

/// Order of the tensor's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// A self-test: small pictures with the scores that the host measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Largest allowed difference of an output, relative to the sample's largest absolute output.
    pub tolerance: f32,
    /// The samples.
    pub samples: Vec<GoldenSample>,
}

/// One picture of the self-test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenSample {
    /// A name for messages.
    pub name: String,
    /// Picture width, pixels.
    pub width: u32,
    /// Picture height, pixels.
    pub height: u32,
    /// Base64 of `height * width * 3` RGB samples, row by row.
    pub rgb: String,
    /// The model's raw output (before softmax) for its largest outputs: (class index, value).
    pub outputs: Vec<(u32, f32)>,
}

/// Where a model comes from and what was measured of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Name of the model, such as `efficientnet-lite0`.
    pub name: String,
    /// Where the weights came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SPDX expression of the weights' licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// SHA-256 of the file that this one was made from, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_sha256: Option<String>,
    /// What was done, in order: one line a step, with its options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// Measured accuracy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accuracy: Vec<Accuracy>,
}

/// One measured accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// What it was measured on.
    pub dataset: String,
    /// Share of pictures whose best class was right, 0..=1.
    pub top1: f32,
    /// Share of pictures whose class was among the best five, 0..=1.
    pub top5: f32,
    /// Number of pictures.
    pub n: usize,
}

impl Preprocess {
    /// Checks the ranges that the fields' documentation states.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] naming the field.
    pub fn check(&self) -> Result<(), ModelError> {
        let bad = |what: String| ModelError::Metadata { key: PREPROCESS_KEY, why: what };
        if self.size.iter().any(|s| !(1..=4096).contains(s)) {
            return Err(bad(format!("size {:?} is outside 1..=4096", self.size)));
        }
        if let Crop::Center { fraction } | Crop::ResizeThenCenter { fraction } = self.crop
            && !(fraction > 0.0 && fraction <= 1.0)
        {
            return Err(bad(format!("crop fraction {fraction} is outside (0, 1]")));
        }
        if self.mean.iter().any(|v| !v.is_finite()) {
            return Err(bad(format!("mean {:?} is not finite", self.mean)));
        }
        if self.std.iter().any(|v| !v.is_normal()) {
            return Err(bad(format!(
                "std {:?} holds zero or a value that is not finite",
                self.std
            )));
        }
        Ok(())
    }
}

impl Metadata {
    /// Reads the metadata out of a model.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] when a part is present but cannot be understood.
    pub fn read(model: &onnx::ModelProto) -> Result<Self, ModelError> {
        let find = |key| model.metadata_props.iter().find(|p| p.key == key).map(|p| &p.value);
        let preprocess: Option<Preprocess> = json(PREPROCESS_KEY, find(PREPROCESS_KEY))?;
        if let Some(p) = &preprocess {
            p.check()?;
        }
        Ok(Self {
            preprocess,
            labels: find(LABELS_KEY).map(|text| text.lines().map(str::to_owned).collect()),
            golden: json(GOLDEN_KEY, find(GOLDEN_KEY))?,
            provenance: json(PROVENANCE_KEY, find(PROVENANCE_KEY))?,
            unknown_below: find(UNKNOWN_KEY).map(|text| share(text)).transpose()?,
            drift: find(DRIFT_KEY).map(|text| Reference::parse(text)).transpose()?,
        })
    }

    /// Replaces the metadata of a model; other properties are kept.
    pub fn write(&self, model: &mut onnx::ModelProto) {
        let mut set = |key: &str, value: Option<String>| {
            model.metadata_props.retain(|p| p.key != key);
            if let Some(value) = value {
                let key = key.to_owned();
                model.metadata_props.push(onnx::StringStringEntryProto { key, value });
            }
        };
        set(PREPROCESS_KEY, self.preprocess.as_ref().map(to_json));
        set(LABELS_KEY, self.labels.as_ref().map(|l| l.join("\n")));
        set(GOLDEN_KEY, self.golden.as_ref().map(to_json));
        set(PROVENANCE_KEY, self.provenance.as_ref().map(to_json));
        set(UNKNOWN_KEY, self.unknown_below.map(|share| share.to_string()));
        set(DRIFT_KEY, self.drift.as_ref().map(to_json));
    }
}

fn json<T: for<'a> Deserialize<'a>>(
    key: &'static str,
    text: Option<&String>,
) -> Result<Option<T>, ModelError> {
    text.map(|text| serde_json::from_str(text))
        .transpose()
        .map_err(|e| ModelError::Metadata { key, why: e.to_string() })
}

/// A number in 0..=1.
fn share(text: &str) -> Result<f32, ModelError> {
    let value = text.trim().parse().ok().filter(|v| (0.0..=1.0).contains(v));
    value.ok_or_else(|| ModelError::Metadata {
        key: UNKNOWN_KEY,
        why: format!("'{text}' is no number from 0 to 1"),
    })
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data always serializes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let metadata = Metadata {
            preprocess: Some(Preprocess {
                size: [224, 224],
                filter: Filter::Bicubic,
                crop: Crop::Center { fraction: 0.875 },
                mean: [127.0; 3],
                std: [128.0; 3],
                channels: Channels::Rgb,
            }),
            labels: Some(vec!["tench".into(), "goldfish".into()]),
            golden: Some(Golden { tolerance: 1e-4, samples: vec![] }),
            provenance: Some(Provenance { name: "x".into(), ..Default::default() }),
            unknown_below: Some(0.625),
            drift: None,
        };
        let mut model = onnx::ModelProto::default();
        metadata.write(&mut model);
        metadata.write(&mut model);
        assert_eq!(model.metadata_props.len(), 5);
        assert_eq!(Metadata::read(&model).unwrap(), metadata);
    }

    #[test]
    fn a_threshold_that_is_no_share_is_refused() {
        for text in ["1.5", "-0.1", "NaN", "much"] {
            let value = text.to_owned();
            let model = onnx::ModelProto {
                metadata_props: vec![onnx::StringStringEntryProto {
                    key: UNKNOWN_KEY.into(),
                    value,
                }],
                ..Default::default()
            };
            let error = Metadata::read(&model).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_zero_divisor_is_named() {
        let text = r#"{"size":[8,8],"filter":"bilinear","crop":{"rule":"stretch"},
            "mean":[0,0,0],"std":[1,0,1],"channels":"rgb"}"#;
        let model = onnx::ModelProto {
            metadata_props: vec![onnx::StringStringEntryProto {
                key: PREPROCESS_KEY.into(),
                value: text.into(),
            }],
            ..Default::default()
        };
        let error = Metadata::read(&model).unwrap_err().to_string();
        assert!(error.contains("std"), "{error}");
    }
}
