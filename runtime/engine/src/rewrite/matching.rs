//! Which int8 step computes a quantized value: operators with their Q/DQ neighbours and
//! activations, looked at from the QuantizeLinear backwards.

use std::collections::{HashMap, HashSet};

use super::params::{self, RawWeights, Why};
use super::unary;
use crate::graph::{GraphIndex, float, input, int, sizes, string};
use crate::onnx::NodeProto;
use crate::region::{ConvShape, Padding, Quantization, QuantizedOutput, StepKind};
use crate::tensor;

/// Shape class of a quantized value, as far as rules need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Anything.
    Map,
    /// One pixel, four axes.
    Pooled,
    /// Batch and channels, two axes.
    Flat,
}

/// What is known of a quantized value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantized {
    pub quantization: Quantization,
    pub form: Form,
}

/// A step without its names, and the form of its result.
pub(super) struct Matched {
    pub kind: StepKind,
    pub inputs: Vec<String>,
    pub form: Form,
    /// The model's node that gave the step its name.
    pub node: String,
}

/// The graph, and the quantized values found so far.
pub(super) struct Matcher<'a> {
    pub index: GraphIndex<'a>,
    /// Values that live as codes inside regions, by name.
    pub values: HashMap<String, Quantized>,
    /// Quantized values that some other operator reads as integers: these stay with tract.
    pub foreign: HashSet<&'a str>,
    /// Values of one pixel and four axes, as far as that shows without shapes.
    pixels: HashSet<&'a str>,
}

/// Means over all pixels, and what is computed of nothing else by operators that keep the axes.
fn pixels<'a>(index: &GraphIndex<'a>) -> HashSet<&'a str> {
    const KEEP: [&str; 11] = [
        "Conv",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Relu",
        "Clip",
        "Mul",
        "Add",
        "QuantizeLinear",
        "DequantizeLinear",
    ];
    let constant = |v: &str| {
        let codes = index.producer(v).filter(|n| n.op_type == "DequantizeLinear");
        let codes = codes.and_then(|n| index.constant(input(n, 0)?));
        index.constant(v).or(codes).is_some()
    };
    let mut found = HashSet::new();
    for node in &index.graph.node {
        let mut read = node.input.iter().filter(|v| !v.is_empty() && !constant(v)).peekable();
        let keeps = KEEP.contains(&node.op_type.as_str()) && read.peek().is_some();
        if node.op_type == "GlobalAveragePool"
            || (keeps && read.all(|v| found.contains(v.as_str())))
        {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

impl<'a> Matcher<'a> {
    pub(super) fn new(index: GraphIndex<'a>) -> Self {
        let quantized: HashSet<&str> = index
            .graph
            .node
            .iter()
            .filter(|n| n.op_type == "QuantizeLinear" || n.op_type.starts_with("QLinear"))
            .flat_map(|n| n.output.iter().map(String::as_str))
            .collect();
        let outputs = index.graph.output.iter().map(|o| o.name.as_str());
        let readers = index.graph.node.iter().flat_map(|n| {
            let ours = n.op_type == "DequantizeLinear" || is_qlinear(n);
            n.input.iter().map(String::as_str).filter(move |_| !ours)
        });
        let foreign = outputs.chain(readers).filter(|v| quantized.contains(v)).collect();
        let pixels = pixels(&index);
        Self { index, values: HashMap::new(), foreign, pixels }
    }

    /// The quantized value that a float value is the dequantized form of.
    pub(super) fn source(&self, value: &str) -> Option<(&str, Quantized)> {
        let node = self.index.producer(value)?;
        match node.op_type.as_str() {
            "DequantizeLinear" => {
                let (name, known) = self.values.get_key_value(input(node, 0)?)?;
                Some((name, *known))
            }
            "Flatten" | "Reshape" | "Squeeze" => {
                let (name, known) = self.source(input(node, 0)?)?;
                (known.form != Form::Map && self.flattens(node))
                    .then_some((name, Quantized { form: Form::Flat, ..known }))
            }
            "Identity" | "Dropout" => self.source(input(node, 0)?),
            _ => None,
        }
    }

    /// The form of a float value that is quantized as it is.
    pub(super) fn form(&self, real: &str) -> Form {
        if self.pixels.contains(real) { Form::Pooled } else { Form::Map }
    }

    /// Whether a node turns (batch, channels, 1, 1) into (batch, channels).
    fn flattens(&self, node: &NodeProto) -> bool {
        let constant = |i: usize| tensor::to_i64(self.index.constant(input(node, i)?)?).ok();
        match node.op_type.as_str() {
            "Flatten" => int(node, "axis").unwrap_or(1) == 1,
            "Reshape" => matches!(constant(1).as_deref(), Some([-1..=1, _])),
            _ => {
                let attribute = node.attribute.iter().find(|a| a.name == "axes");
                let axes = attribute.map(|a| a.ints.clone()).or_else(|| constant(1));
                matches!(axes.as_deref(), Some([2, 3] | [-2, -1] | [3, 2] | [-1, -2]))
            }
        }
    }

    /// The step that computes `real` and quantizes it, or why there is none.
    pub(super) fn quantized(&self, real: &str, quantization: Quantization) -> Result<Matched, Why> {
        let (bounds, base) = self.strip_clamps(real);
        let output = QuantizedOutput {
            quantization,
            min: quantization.quantize(bounds.0),
            max: quantization.quantize(bounds.1),
        };
        let Some(node) = self.index.producer(base) else {
            return Err("nothing quantized produces it".into());
        };
        let found = match node.op_type.as_str() {
            "Conv" => self.conv(node, output),
            "Gemm" | "MatMul" => self.linear(node, Some(output)),
            "Add" => self.pair(node, output),
            "GlobalAveragePool" | "ReduceMean" => self.pool(node, output),
            "Mul" => self.pair(node, output).or_else(|_| self.lookup(real, quantization)),
            _ => self.lookup(real, quantization),
        }?;
        Ok(Matched { node: crate::model_file::check::node_name(node).to_owned(), ..found })
    }

    /// Strips Relu and Clip, the last first; what remains of the range, and the value before them.
    fn strip_clamps<'b>(&'b self, value: &'b str) -> ((f32, f32), &'b str) {
        let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
        let mut value = value;
        while let Some(node) = self.index.producer(value) {
            let Some((inner_low, inner_high)) = unary::clamp_bounds(&self.index, node) else {
                break;
            };
            let Some(next) = input(node, 0) else { break };
            // clamp(clamp(x, inner), outer)
            (low, high) = (inner_low.clamp(low, high), inner_high.clamp(low, high));
            value = next;
        }
        ((low, high), value)
    }

    fn lookup(&self, real: &str, quantization: Quantization) -> Result<Matched, Why> {
        let chain = unary::chain(self, real).ok_or("no rule for this operator in int8")?;
        let known = self.values[&chain.source];
        let mut table = Box::new([0_u8; 256]);
        for (code, entry) in table.iter_mut().enumerate() {
            *entry = quantization.quantize(chain.eval(known.quantization.dequantize(code as u8)));
        }
        let flat = chain.flat || known.form == Form::Flat;
        Ok(Matched {
            kind: StepKind::Lookup { table, flat },
            inputs: vec![chain.source],
            form: if flat { Form::Flat } else { known.form },
            node: String::new(),
        })
    }

    fn conv(&self, node: &NodeProto, output: QuantizedOutput) -> Result<Matched, Why> {
        let (source, known) =
            input(node, 0).and_then(|v| self.source(v)).ok_or("its input is not quantized")?;
        let scale = known.quantization.scale;
        let weights = params::dequantized_weights(
            &self.index,
            input(node, 1),
            input(node, 2),
            scale,
            0,
            1.0,
        )?;
        conv_step(node, source, known, weights, output)
    }

    /// A fully connected layer; `output: None` leaves the result in f32.
    pub(super) fn linear(
        &self,
        node: &NodeProto,
        output: Option<QuantizedOutput>,
    ) -> Result<Matched, Why> {
        let (source, known) =
            input(node, 0).and_then(|v| self.source(v)).ok_or("its input is not quantized")?;
        if known.form != Form::Flat {
            return Err("its input is not a pooled and flattened value".into());
        }
        let gemm = node.op_type == "Gemm";
        if gemm && (float(node, "alpha").unwrap_or(1.0) != 1.0 || int(node, "transA") == Some(1)) {
            return Err("Gemm with alpha or transA".into());
        }
        let beta = float(node, "beta").unwrap_or(1.0);
        let transposed = gemm && int(node, "transB") == Some(1);
        let weights = params::dequantized_weights(
            &self.index,
            input(node, 1),
            if gemm { input(node, 2) } else { None },
            known.quantization.scale,
            usize::from(!transposed),
            beta,
        )?;
        linear_step(source, known, weights, transposed, output)
    }

    fn pair(&self, node: &NodeProto, output: QuantizedOutput) -> Result<Matched, Why> {
        let both = || Some((self.source(input(node, 0)?)?, self.source(input(node, 1)?)?));
        let ((a, a_known), (b, b_known)) = both().ok_or("its inputs are not both quantized")?;
        pair_step(node.op_type == "Add", (a, a_known), (b, b_known), output)
    }

    fn pool(&self, node: &NodeProto, output: QuantizedOutput) -> Result<Matched, Why> {
        let (source, known) =
            input(node, 0).and_then(|v| self.source(v)).ok_or("its input is not quantized")?;
        let mut flat = false;
        if node.op_type == "ReduceMean" {
            let attribute = node.attribute.iter().find(|a| a.name == "axes");
            let axes = attribute
                .map(|a| a.ints.clone())
                .or_else(|| tensor::to_i64(self.index.constant(input(node, 1)?)?).ok());
            if !matches!(axes.as_deref(), Some([2, 3] | [-2, -1] | [3, 2] | [-1, -2])) {
                return Err("ReduceMean over other axes than height and width".into());
            }
            flat = int(node, "keepdims") == Some(0);
        }
        if known.form == Form::Flat {
            return Err("its input has no pixels".into());
        }
        Ok(Matched {
            kind: StepKind::GlobalAveragePool { input: known.quantization, output, flat },
            inputs: vec![source.to_owned()],
            form: if flat { Form::Flat } else { Form::Pooled },
            node: String::new(),
        })
    }

    /// The step of a QLinear operator, or why there is none.
    pub(super) fn qlinear(&self, node: &NodeProto) -> Result<(Matched, Quantized), Why> {
        let index = &self.index;
        let quantization =
            |at: usize| params::activation(index, input(node, at), input(node, at + 1));
        let source = |at: usize| {
            input(node, at)
                .and_then(|v| self.values.get_key_value(v))
                .map(|(name, known)| (name.as_str(), *known))
                .ok_or_else(|| "its input is not a quantized activation".to_owned())
        };
        let whole = |quantization| QuantizedOutput { quantization, min: 0, max: 255 };
        let (mut matched, quantization) = match node.op_type.as_str() {
            "QLinearConv" => {
                let output = quantization(6)?;
                let weights = params::qlinear_weights(index, node, 3, Some(8), 0)?;
                let (name, known) = source(0)?;
                let known = Quantized { quantization: quantization(1)?, ..known };
                (conv_step(node, name, known, weights, whole(output))?, output)
            }
            "QLinearMatMul" => {
                let output = quantization(6)?;
                let weights = params::qlinear_weights(index, node, 3, None, 1)?;
                let (name, known) = source(0)?;
                if known.form != Form::Flat {
                    return Err("its input is not a pooled and flattened value".into());
                }
                let known = Quantized { quantization: quantization(1)?, ..known };
                (linear_step(name, known, weights, false, Some(whole(output)))?, output)
            }
            "QLinearAdd" | "QLinearMul" => {
                let output = quantization(6)?;
                let ((a, a_known), (b, b_known)) = (source(0)?, source(3)?);
                let a = (a, Quantized { quantization: quantization(1)?, ..a_known });
                let b = (b, Quantized { quantization: quantization(4)?, ..b_known });
                (pair_step(node.op_type == "QLinearAdd", a, b, whole(output))?, output)
            }
            "QLinearGlobalAveragePool" if int(node, "channels_last").unwrap_or(0) == 0 => {
                let output = quantization(3)?;
                let (name, _) = source(0)?;
                let kind = StepKind::GlobalAveragePool {
                    input: quantization(1)?,
                    output: whole(output),
                    flat: false,
                };
                let inputs = vec![name.to_owned()];
                (Matched { kind, inputs, form: Form::Pooled, node: String::new() }, output)
            }
            other => return Err(format!("no rule for {other}")),
        };
        matched.node = crate::model_file::check::node_name(node).to_owned();
        let form = matched.form;
        Ok((matched, Quantized { quantization, form }))
    }
}

/// Operators that read codes and that [`Matcher::qlinear`] knows.
pub(super) fn is_qlinear(node: &NodeProto) -> bool {
    matches!(
        node.op_type.as_str(),
        "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "QLinearMul" | "QLinearGlobalAveragePool"
    )
}

fn conv_step(
    node: &NodeProto,
    source: &str,
    known: Quantized,
    weights: RawWeights,
    output: QuantizedOutput,
) -> Result<Matched, Why> {
    let shape = conv_shape(node, &weights.dims)?;
    let weights = weights.settle(known.quantization, Some(&output))?;
    let pointwise = shape.kernel == [1, 1] && shape.padding == Padding::Explicit([0; 4]);
    Ok(Matched {
        kind: StepKind::Conv { shape, weights, input: known.quantization, output, residual: None },
        inputs: vec![source.to_owned()],
        // One pixel stays one pixel: the gates of squeeze-and-excite.
        form: if pointwise && known.form == Form::Pooled { Form::Pooled } else { Form::Map },
        node: String::new(),
    })
}

fn linear_step(
    source: &str,
    known: Quantized,
    weights: RawWeights,
    transposed: bool,
    output: Option<QuantizedOutput>,
) -> Result<Matched, Why> {
    let &[rows, columns] = weights.dims.as_slice() else {
        return Err("its weights are not a matrix".into());
    };
    let weights = weights.settle(known.quantization, output.as_ref())?;
    let in_features = if transposed { columns } else { rows };
    Ok(Matched {
        kind: StepKind::Linear { in_features, weights, input: known.quantization, output },
        inputs: vec![source.to_owned()],
        form: Form::Flat,
        node: String::new(),
    })
}

fn pair_step(
    sum: bool,
    (a, a_known): (&str, Quantized),
    (b, b_known): (&str, Quantized),
    output: QuantizedOutput,
) -> Result<Matched, Why> {
    // A pooled factor applies to every pixel; it comes second.
    let swap = !sum && a_known.form == Form::Pooled && b_known.form == Form::Map;
    let ((a, a_known), (b, b_known)) =
        if swap { ((b, b_known), (a, a_known)) } else { ((a, a_known), (b, b_known)) };
    let gate = !sum && a_known.form == Form::Map && b_known.form == Form::Pooled;
    if a_known.form != b_known.form && !gate {
        return Err("its inputs have different shapes".into());
    }
    let inputs = [a_known.quantization, b_known.quantization];
    Ok(Matched {
        kind: if sum { StepKind::Add { inputs, output } } else { StepKind::Mul { inputs, output } },
        inputs: vec![a.to_owned(), b.to_owned()],
        form: a_known.form,
        node: String::new(),
    })
}

/// The geometry of a convolution with weights of these dimensions, if kernels have it.
pub(super) fn conv_shape(node: &NodeProto, dims: &[usize]) -> Result<ConvShape, Why> {
    let &[out_c, group_c, kernel_h, kernel_w] = dims else {
        return Err("it is not a convolution in two dimensions".into());
    };
    let groups = usize::try_from(int(node, "group").unwrap_or(1)).map_err(|e| e.to_string())?;
    if groups != 1 && !(groups == out_c && group_c == 1) {
        return Err(format!("{groups} groups of {group_c} channels"));
    }
    window(node, out_c, group_c, groups, [kernel_h, kernel_w])
}

/// The geometry of a node that moves a window over a picture.
pub(super) fn window(
    node: &NodeProto,
    out_c: usize,
    group_c: usize,
    groups: usize,
    kernel: [usize; 2],
) -> Result<ConvShape, Why> {
    let text = |e: crate::error::ModelError| e.to_string();
    Ok(ConvShape {
        out_c,
        group_c,
        groups,
        kernel,
        stride: sizes(node, "strides", [1; 2]).map_err(text)?,
        dilation: sizes(node, "dilations", [1; 2]).map_err(text)?,
        padding: conv_padding(node)?,
    })
}

/// What a node does at the border.
pub(super) fn conv_padding(node: &NodeProto) -> Result<Padding, Why> {
    Ok(match string(node, "auto_pad").unwrap_or("NOTSET") {
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        "VALID" => Padding::Explicit([0; 4]),
        _ => Padding::Explicit(sizes(node, "pads", [0; 4]).map_err(|e| e.to_string())?),
    })
}
