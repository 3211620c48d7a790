#!/usr/bin/env python3
"""Small models of every operator form the engine knows, and onnxruntime's outputs for them.

    pip install onnx onnxruntime numpy && python3 make.py

Writes NAME.onnx and NAME.json (outputs of one input) beside this file. The input is
x[c][i][j] = ((c * 37 + i * 11 + j * 7) % 64) / 32 - 1, which the Rust test makes too.
Weights stay within 6 bits, so that onnxruntime's 16-bit sums cannot saturate on any CPU.
"""
import json, pathlib
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
SIZE, CLASSES = 18, 10
rng = np.random.default_rng(7)


def sample():
    c, i, j = np.meshgrid(np.arange(3), np.arange(SIZE), np.arange(SIZE), indexing="ij")
    return (((c * 37 + i * 11 + j * 7) % 64) / 32 - 1).astype(np.float32)[None]


class Builder:
    """A graph in QDQ form; `act` is uint8 or int8."""

    def __init__(self, act=np.uint8, per_channel=True, weight_type=np.int8):
        self.nodes, self.inits, self.act, self.n = [], [], act, 0
        self.per_channel, self.weight_type = per_channel, weight_type

    def const(self, value, name=None):
        self.n += 1
        name = name or f"c{self.n}"
        self.inits.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, **attrs):
        self.n += 1
        out = f"{op.lower()}{self.n}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"n_{out}", **attrs))
        return out

    def q(self, x, low, high):
        scale = np.float32((high - low) / 255)
        zero = np.clip(np.round(-low / scale), 0, 255)
        zero = np.array(zero - (128 if self.act == np.int8 else 0), self.act)
        s, z = self.const(scale), self.const(zero)
        self.scale_of = scale
        codes = self.node("QuantizeLinear", [x, s, z])
        real = self.node("DequantizeLinear", [codes, s, z])
        self.scales = {**getattr(self, "scales", {}), real: scale}
        return real

    def weights(self, shape, axis=0, spread=1.0):
        n = shape[axis] if self.per_channel else 1
        codes = rng.integers(-31, 32, shape)
        scale = (rng.uniform(0.5, 1.5, n) * spread / 31 / np.sqrt(np.prod(shape) / shape[axis])).astype(np.float32)
        if self.weight_type == np.uint8:
            zero = np.full(n, 99, np.uint8); codes = codes + 99
        else:
            zero = np.zeros(n, np.int8)
        if not self.per_channel:
            scale, zero = scale[0], zero[0]
        args = [self.const(codes.astype(self.weight_type)), self.const(scale), self.const(zero)]
        return self.node("DequantizeLinear", args, axis=axis), scale

    def bias(self, n, x, scale):
        unit = (self.scales[x] * np.broadcast_to(scale, n)).astype(np.float32)
        codes = np.round(rng.uniform(-0.3, 0.3, n) / unit).astype(np.int32)
        return self.node("DequantizeLinear", [self.const(codes), self.const(unit), self.const(np.zeros(n, np.int32))], axis=0)

    def conv(self, x, cin, cout, k, stride=1, group=1, spread=2.0, **attrs):
        w, s = self.weights([cout, cin // group, k, k], spread=spread)
        pads = {} if "auto_pad" in attrs else {"pads": [k // 2] * 4}
        return self.node("Conv", [x, w, self.bias(cout, x, s)], group=group, kernel_shape=[k, k], strides=[stride] * 2, **pads, **attrs)

    def finish(self, output, name):
        graph = helper.make_graph(self.nodes, name, [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
                                  [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, CLASSES])], self.inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        save(name, model)


def save(name, model):
    onnx.save(model, HERE / f"{name}.onnx")
    options = ort.SessionOptions(); options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    out = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"input": sample()})[0]
    (HERE / f"{name}.json").write_text(json.dumps([float(v) for v in out.ravel()]))
    print(name, (HERE / f"{name}.onnx").stat().st_size, out.ravel()[:4])


def mobile(name, flatten="Flatten", quantized_logits=True, **kw):
    """Stem, inverted residual with ReLU6, pool, fully connected."""
    b = Builder(**kw)
    x = b.q("input", -1, 1)
    x = b.q(b.node("Clip", [b.conv(x, 3, 16, 3, 2, auto_pad="SAME_UPPER"), b.const(np.float32(0)), b.const(np.float32(6))]), 0, 6)
    y = b.q(b.node("Relu", [b.conv(x, 16, 24, 1)]), 0, 4)
    y = b.q(b.node("Relu", [b.conv(y, 24, 24, 5, group=24)]), 0, 4)
    y = b.q(b.conv(y, 24, 16, 1), -3, 3)
    x = b.q(b.node("Add", [x, y]), -3, 6)
    x = b.q(b.node("GlobalAveragePool", [x]), -2, 3)
    x = b.node("Flatten", [x], axis=1) if flatten == "Flatten" else b.node("Reshape", [x, b.const(np.array([1, -1], np.int64))])
    if quantized_logits:
        x = b.q(x, -2, 3)
    else:
        b.scales[x] = np.float32(5 / 255)
    w, s = b.weights([CLASSES, 16])
    x = b.node("Gemm", [x, w, b.bias(CLASSES, x, s)], transB=1)
    b.finish(b.q(x, -4, 4) if quantized_logits else x, name)


def swish(name, **kw):
    """Fused and unfused swish, squeeze-and-excite with a sigmoid gate."""
    b = Builder(**kw)
    x = b.q("input", -1, 1)
    x = b.q(b.conv(x, 3, 16, 3, 2), -3, 3)
    x = b.q(b.node("Mul", [x, b.node("Sigmoid", [x])]), -0.3, 3)
    d = b.q(b.conv(x, 16, 16, 3, group=16), -3, 3)
    d = b.q(b.node("Mul", [d, b.q(b.node("Sigmoid", [d]), 0, 1)]), -0.3, 3)
    s = b.q(b.node("GlobalAveragePool", [d]), -0.3, 2)
    s = b.q(b.conv(s, 16, 4, 1), -2, 2)
    s = b.q(b.node("Mul", [s, b.node("Sigmoid", [s])]), -0.3, 2)
    g = b.q(b.conv(s, 4, 16, 1), -4, 4)
    g = b.q(b.node("Sigmoid", [g]), 0, 1)
    x = b.q(b.node("Mul", [g, d]), -0.3, 3)
    x = b.q(b.node("HardSwish", [b.q(b.conv(x, 16, 20, 1), -4, 4)]), -0.4, 4) if kw.get("hard") else b.q(b.conv(x, 16, 20, 1), -4, 4)
    x = b.q(b.node("ReduceMean", [x], axes=[2, 3], keepdims=0), -2, 2)
    w, _ = b.weights([20, CLASSES], axis=1)
    b.finish(b.q(b.node("MatMul", [x, w]), -3, 3), name)


def mixed(name):
    """An island that stays in float (LeakyRelu) between int8 parts."""
    b = Builder()
    x = b.q("input", -1, 1)
    x = b.q(b.conv(x, 3, 16, 3, 2), -3, 3)
    x = b.q(b.node("LeakyRelu", [b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])], alpha=0.1), -1, 3)
    y = b.q(b.conv(x, 16, 16, 3, group=16), -3, 3)
    x = b.q(b.node("Add", [x, y]), -3, 5)
    x = b.q(b.node("GlobalAveragePool", [x]), -2, 3)
    x = b.q(b.node("Flatten", [x]), -2, 3)
    w, s = b.weights([CLASSES, 16])
    b.finish(b.node("Gemm", [x, w, b.bias(CLASSES, x, s)], transB=1), name)


def qlinear(name):
    """The operator-oriented form: QLinearConv and QLinearMatMul."""
    nodes, inits = [], []
    count = [0]

    def const(v):
        count[0] += 1; inits.append(numpy_helper.from_array(np.asarray(v), f"k{count[0]}")); return f"k{count[0]}"

    def qp(low, high):
        scale = np.float32((high - low) / 255)
        return scale, np.uint8(round(-low / scale))

    def node(op, inputs, **a):
        count[0] += 1; out = f"v{count[0]}"; nodes.append(helper.make_node(op, inputs, [out], name=f"n{count[0]}", **a)); return out

    def conv(x, xq, cin, cout, k, yq, stride=1, group=1):
        codes = rng.integers(-31, 32, [cout, cin // group, k, k]).astype(np.int8)
        ws = (rng.uniform(0.5, 1.5, cout) * 2 / 31 / np.sqrt(cin // group * k * k)).astype(np.float32)
        b = np.round(rng.uniform(-0.3, 0.3, cout) / (xq[0] * ws)).astype(np.int32)
        args = [x, const(xq[0]), const(xq[1]), const(codes), const(ws), const(np.zeros(cout, np.int8)), const(yq[0]), const(yq[1]), const(b)]
        return node("QLinearConv", args, kernel_shape=[k, k], strides=[stride] * 2, pads=[k // 2] * 4, group=group)

    a, b, c, p, o = qp(-1, 1), qp(0, 4), qp(-3, 3), qp(-2, 2), qp(-3, 3)
    x = node("QuantizeLinear", ["input", const(a[0]), const(a[1])])
    x = conv(x, a, 3, 16, 3, b, 2)
    x = conv(x, b, 16, 16, 3, b, group=16)
    x = conv(x, b, 16, 24, 1, c)
    x = node("DequantizeLinear", [x, const(c[0]), const(c[1])])
    x = node("GlobalAveragePool", [x])
    x = node("QuantizeLinear", [x, const(p[0]), const(p[1])])
    x = node("DequantizeLinear", [x, const(p[0]), const(p[1])])
    x = node("Flatten", [x], axis=1)
    x = node("QuantizeLinear", [x, const(p[0]), const(p[1])])
    w = rng.integers(-31, 32, [24, CLASSES]).astype(np.int8)
    ws = (rng.uniform(0.5, 1.5, CLASSES) / 31 / np.sqrt(24)).astype(np.float32)
    x = node("QLinearMatMul", [x, const(p[0]), const(p[1]), const(w), const(ws), const(np.zeros(CLASSES, np.int8)), const(o[0]), const(o[1])])
    x = node("DequantizeLinear", [x, const(o[0]), const(o[1])])
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, CLASSES])], inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    save(name, model)


mobile("qdq_u8_per_channel")
mobile("qdq_s8_per_tensor", act=np.int8, per_channel=False, flatten="Reshape")
mobile("qdq_u8_u8_weights", weight_type=np.uint8, per_channel=False)
mobile("qdq_float_logits", quantized_logits=False)
swish("qdq_swish")
swish("qdq_s8_swish", act=np.int8)
mixed("qdq_mixed")
qlinear("qlinear")
