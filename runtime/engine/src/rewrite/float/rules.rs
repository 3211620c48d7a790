//! Which float step computes a node.

use kinglet_kernels::float::Activation;

use super::super::matching::{conv_padding, conv_shape};
use super::super::params::Why;
use super::chain::Tail;
use super::{Context, Found, Rule, ends, weights};
use crate::graph::{input, int, sizes};
use crate::onnx::{NodeProto, tensor_proto::DataType};
use crate::region::shape;
use crate::region::{ConvShape, FloatKind, FloatWeights, Padding};
use crate::tensor;

impl<'a> Context<'a> {
    /// The rule for a node, or why there is none.
    pub(super) fn rule(&self, node: &'a NodeProto) -> Result<Rule<'a>, Why> {
        let step = |found: Result<Found<'a>, Why>| found.map(|f| Rule::Step(Box::new(f)));
        match node.op_type.as_str() {
            "Conv" => step(self.conv(node)),
            "Gemm" | "MatMul" => step(self.linear(node)),
            "BatchNormalization" => step(self.lone_batch_norm(node)),
            "Add" => step(self.add(node)),
            "Mul" => step(self.mul(node)),
            "GlobalAveragePool" | "ReduceMean" | "AveragePool" => step(self.pool(node)),
            "Identity" | "Dropout" => self.same(node),
            "Cast" if int(node, "to") == Some(DataType::Float as i64) => self.same(node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.view(node),
            _ => step(self.activate(node)),
        }
    }

    fn conv(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let (mut source, output) = ends(node)?;
        let (dims, weights) = weights::conv(self.index, node)?;
        let mut conv = conv_shape(node, &dims)?;
        if let Some((value, [top, left, bottom, right])) = self.padded(source)
            && let Padding::Explicit(pads) = &mut conv.padding
        {
            source = value;
            *pads = [pads[0] + top, pads[1] + left, pads[2] + bottom, pads[3] + right];
        }
        let shape = self.shape(source).ok_or("the shape of its input is not known")?;
        let [_, h, w, c] = shape::map(shape)?;
        let geometry = shape::conv_geometry(&conv, [h, w, c])?;
        let result = [1, geometry.out_h, geometry.out_w, geometry.out_c];
        let mut found = self.finish_conv(source, output, conv, weights);
        if let FloatKind::Conv { shape, residual, .. } = &mut found.kind
            && shape.groups == 1
            && let Some(tail) = self.residual(found.output, &result)
        {
            *residual = true;
            found.inputs.push(tail.what);
            found.output = tail.output;
            found.absorbed.extend(tail.absorbed);
        }
        Ok(found)
    }

    /// A convolution with the batch norm and the activation that follow it.
    fn finish_conv(
        &self,
        source: &'a str,
        mut output: &'a str,
        shape: ConvShape,
        mut weights: FloatWeights,
    ) -> Found<'a> {
        let mut absorbed = Vec::new();
        if let Some(tail) = self.batch_norm(output, shape.out_c) {
            weights::fold(&mut weights, &tail.what);
            output = tail.output;
            absorbed.extend(tail.absorbed);
        }
        let tail = self.activation(output);
        absorbed.extend(tail.absorbed);
        let kind = FloatKind::Conv { shape, weights, activation: tail.what, residual: false };
        Found { kind, inputs: vec![source], output: tail.output, absorbed }
    }

    /// What a Pad node with zeros around height and width pads, and by how much.
    fn padded(&self, value: &str) -> Option<(&'a str, [usize; 4])> {
        let node = self.index.producer(value).filter(|n| n.op_type == "Pad")?;
        let (source, _) = ends(node).ok()?;
        let constant = |i: usize| self.index.constant(input(node, i)?);
        let fill = match input(node, 2) {
            None => 0.0,
            Some(name) => self.index.scalar(name)?,
        };
        let mode = crate::graph::string(node, "mode").unwrap_or("constant");
        if fill != 0.0 || mode != "constant" || input(node, 3).is_some() {
            return None;
        }
        let pads = tensor::to_i64(constant(1)?).ok()?;
        let size = |v: i64| usize::try_from(v).ok().filter(|v| *v <= 4096);
        match pads.as_slice() {
            &[0, 0, top, left, 0, 0, bottom, right] => {
                let pads = [size(top)?, size(left)?, size(bottom)?, size(right)?];
                self.shape(source).is_some().then_some((source, pads))
            }
            _ => None,
        }
    }

    /// A batch norm that no convolution has taken: a factor and an addend a channel.
    fn lone_batch_norm(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let (source, output) = ends(node)?;
        let inside = self.inside.get(source).ok_or("its input is not in a region")?;
        let [_, _, _, channels] = shape::map(&inside.shape)?;
        let norm = weights::batch_norm(self.index, node)
            .filter(|norm| norm.len() == channels)
            .ok_or("its parameters are not finite constants")?;
        let mut weights =
            FloatWeights { values: vec![1.0; channels], bias: vec![0.0; channels], pending: None };
        weights::fold(&mut weights, &norm);
        let shape = ConvShape {
            out_c: channels,
            group_c: 1,
            groups: channels,
            kernel: [1; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::Explicit([0; 4]),
        };
        Ok(self.finish_conv(source, output, shape, weights))
    }

    fn linear(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let (source, mut output) = ends(node)?;
        let shape = self.shape(source).ok_or("the shape of its input is not known")?;
        if shape.len() != 2 {
            return Err("its input is not a pooled and flattened value".into());
        }
        let (in_features, mut weights) = weights::linear(self.index, node)?;
        let mut absorbed = Vec::new();
        if node.op_type == "MatMul"
            && let Some(tail) = self.bias(output, weights.bias.len())
        {
            weights.bias = tail.what;
            output = tail.output;
            absorbed.extend(tail.absorbed);
        }
        let tail = self.activation(output);
        absorbed.extend(tail.absorbed);
        let kind =
            FloatKind::Linear { in_features, weights, activation: tail.what, outside: false };
        Ok(Found { kind, inputs: vec![source], output: tail.output, absorbed })
    }

    /// Both operands of a node, at least one of them inside already.
    fn operands(&self, node: &'a NodeProto) -> Result<[&'a str; 2], Why> {
        let (a, _) = ends(node)?;
        let b = input(node, 1).ok_or("it has one input")?;
        if !self.inside.contains_key(a) && !self.inside.contains_key(b) {
            return Err("its inputs are not in a region".into());
        }
        Ok([a, b])
    }

    fn add(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let inputs = self.operands(node)?;
        let tail = self.activation(ends(node)?.1);
        Ok(Found {
            kind: FloatKind::Add(tail.what),
            inputs: inputs.to_vec(),
            output: tail.output,
            absorbed: tail.absorbed,
        })
    }

    fn mul(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let [a, b] = self.operands(node)?;
        let pixel = |v| matches!(self.shape(v).map(Vec::as_slice), Some([_, 1, 1, _]));
        // A pooled factor applies to every pixel; it comes second.
        let inputs = if pixel(a) && !pixel(b) { vec![b, a] } else { vec![a, b] };
        Ok(Found { kind: FloatKind::Mul, inputs, output: ends(node)?.1, absorbed: Vec::new() })
    }

    fn pool(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let (source, mut output) = ends(node)?;
        let inside = self.inside.get(source).ok_or("its input is not in a region")?;
        let [_, h, w, _] = shape::map(&inside.shape)?;
        let mut flat = false;
        match node.op_type.as_str() {
            "ReduceMean" => {
                if !self.over_pixels(node) {
                    return Err("ReduceMean over other axes than height and width".into());
                }
                flat = int(node, "keepdims") == Some(0);
            }
            "AveragePool" => {
                let kernel = sizes(node, "kernel_shape", [0; 2]).map_err(|e| e.to_string())?;
                let dilations = sizes(node, "dilations", [1; 2]).map_err(|e| e.to_string())?;
                let whole = kernel == [h, w] && dilations == [1; 2];
                if !whole || conv_padding(node)? != Padding::Explicit([0; 4]) {
                    return Err("it does not average all pixels".into());
                }
            }
            _ => {}
        }
        let mut absorbed = Vec::new();
        if !flat
            && let Some((at, next)) = self.only_reader(output)
            && let Ok((from, flattened)) = ends(next)
            && from == output
            && self.flattens(next, &[1, inside.shape[3], 1, 1]).is_some_and(|s| s.len() == 2)
        {
            (flat, output) = (true, flattened);
            absorbed.push(at);
        }
        let kind = FloatKind::GlobalAveragePool { flat };
        Ok(Found { kind, inputs: vec![source], output, absorbed })
    }

    /// Whether a node's axes are height and width.
    fn over_pixels(&self, node: &NodeProto) -> bool {
        let attribute = node.attribute.iter().find(|a| a.name == "axes").map(|a| a.ints.clone());
        let axes = attribute.or_else(|| tensor::to_i64(self.index.constant(input(node, 1)?)?).ok());
        matches!(axes.as_deref(), Some([2, 3] | [-2, -1] | [3, 2] | [-1, -2]))
    }

    fn same(&self, node: &'a NodeProto) -> Result<Rule<'a>, Why> {
        let (source, output) = ends(node)?;
        Ok(Rule::Same(source, output))
    }

    /// A node that gives one pixel another number of axes.
    fn view(&self, node: &'a NodeProto) -> Result<Rule<'a>, Why> {
        let (source, output) = ends(node)?;
        let inside = self.inside.get(source).ok_or("its input is not in a region")?;
        let shape = shape::to_nchw(&inside.shape);
        let result = self.flattens(node, &shape).ok_or("no rule for this change of shape")?;
        if result == shape {
            return Ok(Rule::Same(source, output));
        }
        let kind = FloatKind::View { flat: result.len() == 2 };
        let found = Found { kind, inputs: vec![source], output, absorbed: Vec::new() };
        Ok(Rule::Step(Box::new(found)))
    }

    /// What shape a node gives a value of one pixel, (batch, channels) or (batch, channels, 1, 1).
    fn flattens(&self, node: &NodeProto, shape: &[usize]) -> Option<Vec<usize>> {
        let (n, c) = match *shape {
            [n, c] | [n, c, 1, 1] => (n, c),
            _ => return None,
        };
        let constant = |i: usize| tensor::to_i64(self.index.constant(input(node, i)?)?).ok();
        match node.op_type.as_str() {
            "Flatten" if int(node, "axis").unwrap_or(1) == 1 => Some(vec![n, c]),
            "Squeeze" if shape.len() == 4 && self.over_pixels(node) => Some(vec![n, c]),
            "Unsqueeze" if shape.len() == 2 && self.over_pixels(node) => Some(vec![n, c, 1, 1]),
            "Reshape" if int(node, "allowzero").unwrap_or(0) == 0 => {
                let fits = |wanted: i64, is: usize| wanted == -1 || wanted == is as i64;
                let batch = |wanted: i64| wanted == 0 || fits(wanted, n);
                match *constant(1)? {
                    [a, b] if batch(a) && (fits(b, c) || b == 0) && (a, b) != (-1, -1) => {
                        Some(vec![n, c])
                    }
                    [a, b, 1, 1] if batch(a) && (fits(b, c) || b == 0) && (a, b) != (-1, -1) => {
                        Some(vec![n, c, 1, 1])
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A function of each element, alone or times the value itself.
    fn activate(&self, node: &'a NodeProto) -> Result<Found<'a>, Why> {
        let (source, output) = ends(node)?;
        if !self.inside.contains_key(source) {
            return Err("its input is not in a region".into());
        }
        let what = self.function(node).ok_or("no rule for this operator")?;
        let alone = Tail { what, output, absorbed: Vec::new() };
        let tail = self.product(source, node).unwrap_or(alone);
        let kind = FloatKind::Activate(tail.what);
        if tail.what == Activation::None {
            return Err("it changes nothing".into());
        }
        Ok(Found { kind, inputs: vec![source], output: tail.output, absorbed: tail.absorbed })
    }
}
