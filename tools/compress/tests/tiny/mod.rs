//! A small random network of the operators of the EfficientNets, built by hand, and pictures.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use kinglet_engine::metadata::{Channels, Crop, Filter, Metadata, Preprocess, Provenance};
use kinglet_engine::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto, type_proto,
};
use kinglet_engine::{OnnxFile, Options, Picture, Session, tensor};

/// Side of the network's input, pixels.
pub(crate) const SIDE: usize = 32;
/// Number of classes.
pub(crate) const CLASSES: usize = 10;

/// Numbers in -1..1, the same ones on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) + 1)
    }

    pub(crate) fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A graph that grows node by node.
pub(crate) struct Net {
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) constants: Vec<TensorProto>,
    random: Random,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let constants =
            vec![tensor::from_f32("zero", &[], &[0.0]), tensor::from_f32("six", &[], &[6.0])];
        Self { nodes: Vec::new(), constants, random: Random::new(seed) }
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        let name = format!("{}{}", op.to_lowercase(), self.nodes.len());
        self.nodes.push(NodeProto {
            name: name.clone(),
            op_type: op.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![format!("{name}.out")],
            ..Default::default()
        });
        format!("{name}.out")
    }

    pub(crate) fn constant(&mut self, name: &str, dims: &[usize], scale: f32) -> String {
        let n: usize = dims.iter().product();
        let values: Vec<f32> = (0..n).map(|_| self.random.next() * scale).collect();
        self.constants.push(tensor::from_f32(name, dims, &values));
        name.to_owned()
    }

    /// A convolution with `(input, output)` channels; depthwise when `depthwise`.
    pub(crate) fn conv(
        &mut self,
        x: &str,
        io: [usize; 2],
        kernel: usize,
        stride: usize,
        depthwise: bool,
    ) -> String {
        let [input, output] = io;
        let inner = if depthwise { 1 } else { input };
        let at = self.nodes.len();
        let scale = 2.5 / ((inner * kernel * kernel) as f32).sqrt();
        let weight = self.constant(&format!("w{at}"), &[output, inner, kernel, kernel], scale);
        let bias = self.constant(&format!("b{at}"), &[output], 0.3);
        let out = self.node("Conv", &[x, &weight, &bias]);
        let pad = ((kernel - 1) / 2) as i64;
        let groups = if depthwise { output } else { 1 };
        self.attribute(int("group", groups as i64));
        self.attribute(ints("kernel_shape", &[kernel as i64; 2]));
        self.attribute(ints("pads", &[pad; 4]));
        self.attribute(ints("strides", &[stride as i64; 2]));
        out
    }

    pub(crate) fn relu6(&mut self, x: &str) -> String {
        self.node("Clip", &[x, "zero", "six"])
    }

    pub(crate) fn swish(&mut self, x: &str) -> String {
        let sigmoid = self.node("Sigmoid", &[x]);
        self.node("Mul", &[x, &sigmoid])
    }

    pub(crate) fn squeeze(&mut self, x: &str, channels: usize) -> String {
        let pooled = self.node("GlobalAveragePool", &[x]);
        let reduced = self.conv(&pooled, [channels, 4], 1, 1, false);
        let reduced = self.swish(&reduced);
        let excited = self.conv(&reduced, [4, channels], 1, 1, false);
        let gate = self.node("Sigmoid", &[&excited]);
        self.node("Mul", &[&gate, x])
    }

    pub(crate) fn attribute(&mut self, attribute: AttributeProto) {
        self.nodes.last_mut().unwrap().attribute.push(attribute);
    }

    /// Pooling and the fully connected layer; the result is the model.
    pub(crate) fn classify(mut self, x: &str, channels: usize) -> OnnxFile {
        let pooled = self.node("GlobalAveragePool", &[x]);
        let flat = self.node("Flatten", &[&pooled]);
        let weight = self.constant("fc.weight", &[CLASSES, channels], 1.0);
        let bias = self.constant("fc.bias", &[CLASSES], 0.5);
        let last = self.node("Gemm", &[&flat, &weight, &bias]);
        self.attribute(int("transB", 1));
        self.finish(&last)
    }

    /// The model, with `last` as its output.
    pub(crate) fn finish(mut self, last: &str) -> OnnxFile {
        for node in &mut self.nodes {
            for value in node.output.iter_mut().chain(&mut node.input).filter(|v| *v == last) {
                *value = "logits".into();
            }
        }
        let graph = GraphProto {
            name: "tiny".into(),
            node: self.nodes,
            initializer: self.constants,
            input: vec![value("input", &[1, 3, SIDE, SIDE])],
            output: vec![value("logits", &[1, CLASSES])],
            ..Default::default()
        };
        let mut model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(graph),
            ..Default::default()
        };
        let metadata = Metadata {
            preprocess: Some(preprocess()),
            labels: Some((0..CLASSES).map(|i| format!("class {i}")).collect()),
            golden: None,
            provenance: Some(Provenance { name: "tiny".into(), ..Default::default() }),
            unknown_below: None,
            drift: None,
        };
        metadata.write(&mut model);
        OnnxFile::from_proto(model).unwrap()
    }
}

pub(crate) fn preprocess() -> Preprocess {
    Preprocess {
        size: [SIDE as u32; 2],
        filter: Filter::Bilinear,
        crop: Crop::Center { fraction: 1.0 },
        mean: [127.0; 3],
        std: [128.0; 3],
        channels: Channels::Rgb,
    }
}

/// Relu6, depthwise, a residual.
pub(crate) fn lite(seed: u64) -> OnnxFile {
    let mut net = Net::new(seed);
    let x = net.conv("input", [3, 8], 3, 2, false);
    let x = net.relu6(&x);
    let wide = net.conv(&x, [8, 16], 1, 1, false);
    let wide = net.relu6(&wide);
    let wide = net.conv(&wide, [16, 16], 3, 1, true);
    let wide = net.relu6(&wide);
    let narrow = net.conv(&wide, [16, 8], 1, 1, false);
    let x = net.node("Add", &[&narrow, &x]);
    let x = net.conv(&x, [8, 24], 1, 1, false);
    let x = net.relu6(&x);
    net.classify(&x, 24)
}

/// Swish, squeeze-and-excite, a residual.
pub(crate) fn swish(seed: u64) -> OnnxFile {
    let mut net = Net::new(seed);
    let x = net.conv("input", [3, 8], 3, 2, false);
    let x = net.swish(&x);
    let wide = net.conv(&x, [8, 16], 1, 1, false);
    let wide = net.swish(&wide);
    let wide = net.conv(&wide, [16, 16], 5, 1, true);
    let wide = net.swish(&wide);
    let wide = net.squeeze(&wide, 16);
    let narrow = net.conv(&wide, [16, 8], 1, 1, false);
    let x = net.node("Add", &[&narrow, &x]);
    let x = net.conv(&x, [8, 24], 1, 1, false);
    let x = net.swish(&x);
    net.classify(&x, 24)
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    }
}

fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims
        .iter()
        .map(|&d| Dimension { value: Some(Value::DimValue(d as i64)), ..Default::default() })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim }),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

/// A smooth picture with some noise, a different one for each seed.
pub(crate) fn picture(seed: u64) -> Picture {
    let mut random = Random::new(seed + 1000);
    let waves: Vec<[f32; 4]> = (0..3).map(|_| std::array::from_fn(|_| random.next())).collect();
    let (width, height) = (40_u32, 36_u32);
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for [a, b, c, d] in &waves {
                let wave = (a * x as f32 * 0.4 + b * y as f32 * 0.4 + c * 3.0).sin();
                let v = 127.0 + 90.0 * wave + 30.0 * d + 8.0 * random.next();
                rgb.push(v.clamp(0.0, 255.0) as u8);
            }
        }
    }
    Picture::from_rgb(width, height, rgb).unwrap()
}

/// Writes pictures as PNG files; gives their paths.
pub(crate) fn write_pictures(folder: &Path, n: u64) -> Vec<PathBuf> {
    (0..n)
        .map(|seed| {
            let picture = picture(seed);
            let path = folder.join(format!("{seed:03}.png"));
            image::save_buffer(
                &path,
                picture.rgb(),
                picture.width(),
                picture.height(),
                image::ExtendedColorType::Rgb8,
            )
            .unwrap();
            path
        })
        .collect()
}

pub(crate) fn session(file: &OnnxFile, require_int8: bool) -> Session {
    Session::new(file.clone(), &Options { require_int8, ..Options::default() })
        .unwrap_or_else(|e| panic!("{e}"))
}

/// Cosine of the angle between two vectors.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The least cosine between two models' outputs, over pictures that were not calibrated on.
pub(crate) fn least_cosine(a: &OnnxFile, b: &OnnxFile) -> f32 {
    let (mut a, mut b) = (session(a, false), session(b, false));
    (100..120)
        .map(|seed| {
            let picture = picture(seed);
            cosine(&a.outputs(&picture).unwrap(), &b.outputs(&picture).unwrap())
        })
        .fold(1.0, f32::min)
}

pub(crate) fn ops(file: &OnnxFile, op: &str) -> usize {
    file.graph().node.iter().filter(|n| n.op_type == op).count()
}
