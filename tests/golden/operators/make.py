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


class Float:
    """A graph of float operators (or of both kinds: `q`)."""

    def __init__(self, seed):
        self.rng, self.nodes, self.inits, self.n = np.random.default_rng(seed), [], [], 0

    def const(self, value):
        self.n += 1
        self.inits.append(numpy_helper.from_array(np.asarray(value), f"c{self.n}"))
        return f"c{self.n}"

    def real(self, *shape, spread=1.0):
        return self.const((self.rng.uniform(-1, 1, shape) * spread).astype(np.float32))

    def node(self, op, *inputs, **attrs):
        self.n += 1
        out = f"{op.lower()}{self.n}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"n_{out}", **attrs))
        return out

    def conv(self, x, cin, cout, k, group=1, bias=True, **attrs):
        depth = cin // group * k * k
        w = self.real(cout, cin // group, k, k, spread=2 / np.sqrt(depth))
        args = [x, w] + ([self.real(cout, spread=0.3)] if bias else [])
        if "auto_pad" not in attrs and "pads" not in attrs:
            attrs["pads"] = [k // 2] * 4
        return self.node("Conv", *args, group=group, kernel_shape=[k, k], **attrs)

    def norm(self, x, c):
        scale = self.const(self.rng.uniform(0.5, 1.5, c).astype(np.float32))
        variance = self.const(self.rng.uniform(0.5, 2, c).astype(np.float32))
        return self.node("BatchNormalization", x, scale, self.real(c, spread=0.3), self.real(c, spread=0.3), variance, epsilon=1e-3)

    def silu(self, x, swap=False):
        gate = self.node("Sigmoid", x)
        return self.node("Mul", *((gate, x) if swap else (x, gate)))

    def q(self, x, low, high):
        scale = np.float32((high - low) / 255)
        args = [self.const(scale), self.const(np.uint8(round(-low / scale)))]
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *args), *args)

    def finish(self, output, name):
        value = lambda n, shape: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, name, [value("input", [1, 3, SIZE, SIZE])], [value(output, [1, CLASSES])], self.inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        save(name, model)


def float_silu(name):
    """Batch norms, SiLU both ways round, squeeze-and-excite, a residual, Gemm with all it has."""
    b = Float(1)
    x = b.silu(b.norm(b.conv("input", 3, 16, 3, bias=False, strides=[2, 2], pads=[0, 0, 1, 1]), 16))
    y = b.silu(b.norm(b.conv(x, 16, 24, 1, bias=False), 24))
    y = b.silu(b.norm(b.conv(y, 24, 24, 5, group=24), 24), swap=True)
    s = b.silu(b.conv(b.node("GlobalAveragePool", y), 24, 6, 1))
    s = b.node("Sigmoid", b.conv(s, 6, 24, 1))
    y = b.norm(b.conv(b.node("Mul", s, y), 24, 16, 1, bias=False), 16)
    x = b.node("Add", y, x)
    x = b.node("ReduceMean", b.silu(b.conv(x, 16, 20, 1)), b.const(np.array([-1, -2], np.int64)), keepdims=0)
    b.finish(b.node("Gemm", x, b.real(CLASSES, 20), b.real(1, CLASSES), transB=1, alpha=0.5, beta=2.0), name)


def float_hard(name):
    """HardSwish in its forms, dilation, SAME padding, a convolution in groups; ends with Softmax."""
    b = Float(2)
    sixth = 1 / 6
    x = b.node("HardSwish", b.conv("input", 3, 16, 3, strides=[2, 2], auto_pad="SAME_UPPER"))
    x = b.conv(x, 16, 16, 3, group=16, dilations=[2, 2], pads=[2, 2, 2, 2])
    x = b.node("Mul", x, b.node("HardSigmoid", x, alpha=sixth, beta=0.5))
    s = b.node("Relu", b.conv(b.node("ReduceMean", x, b.const(np.array([2, 3], np.int64)), keepdims=1), 16, 8, 1))
    s = b.node("HardSigmoid", b.conv(s, 8, 16, 1), alpha=sixth, beta=0.5)
    x = b.conv(b.node("Mul", x, s), 16, 16, 3, group=4)
    x = b.node("HardSigmoid", b.conv(x, 16, 12, 3, strides=[2, 1], auto_pad="SAME_LOWER"), alpha=0.25, beta=0.4)
    x = b.conv(x, 12, 12, 1)
    x = b.node("Squeeze", b.node("AveragePool", x, kernel_shape=[5, 9]), b.const(np.array([2, 3], np.int64)))
    x = b.node("Relu", b.node("Add", b.node("MatMul", x, b.real(12, 14)), b.real(14)))
    x = b.node("Add", b.real(1, CLASSES), b.node("MatMul", x, b.real(14, CLASSES)))
    b.finish(b.node("Softmax", x, axis=1), name)


def float_branches(name):
    """Pad nodes, branches that meet, values read twice, a batch norm on its own, clamps in a row."""
    b = Float(3)
    pads = b.const(np.array([0, 0, 0, 1, 0, 0, 2, 1], np.int64))
    x = b.conv(b.node("Pad", "input", pads), 3, 8, 3, pads=[0] * 4, strides=[2, 2])
    r = b.node("Relu", x)
    x = b.node("Add", b.conv(x, 8, 8, 1), b.conv(r, 8, 8, 3))
    x = b.node("Relu", b.norm(x, 8))
    y = b.node("Clip", b.node("Relu", b.conv(x, 8, 8, 3, group=8)), "", b.const(np.float32(0.7)))
    z = b.node("Clip", b.conv(x, 8, 8, 1), b.const(np.float32(-0.5)), b.const(np.float32(0.5)))
    x = b.node("Relu", b.node("Add", b.node("Mul", y, z), x))
    x = b.node("Add", x, x)
    x = b.node("Identity", b.node("Sigmoid", x))
    x = b.node("Reshape", b.node("GlobalAveragePool", x), b.const(np.array([0, -1], np.int64)))
    g = b.node("Unsqueeze", b.node("Gemm", x, b.real(8, 8), b.real(8)), b.const(np.array([2, 3], np.int64)))
    g = b.node("Tanh", b.node("Mul", g, b.node("Unsqueeze", x, b.const(np.array([2, 3], np.int64)))))
    x = b.node("Flatten", b.conv(g, 8, 12, 1))
    b.finish(b.node("Gemm", x, b.real(12, CLASSES)), name)


def float_and_codes(name):
    """int8 parts and float parts that follow each other."""
    b = Float(4)

    def int8(x, cin, cout, k, group=1):
        codes = b.rng.integers(-31, 32, [cout, cin // group, k, k]).astype(np.int8)
        scale = (b.rng.uniform(0.5, 1.5, cout) * 2 / 31 / np.sqrt(cin // group * k * k)).astype(np.float32)
        w = b.node("DequantizeLinear", b.const(codes), b.const(scale), b.const(np.zeros(cout, np.int8)), axis=0)
        return b.node("Conv", x, w, group=group, kernel_shape=[k, k], pads=[k // 2] * 4)

    x = b.q(b.node("Relu", int8(b.q("input", -1, 1), 3, 16, 3)), 0, 3)
    y = b.silu(b.conv(x, 16, 16, 3, group=16))
    y = int8(b.q(y, -0.3, 3), 16, 16, 1)
    x = b.node("Add", x, y)
    x = b.q(int8(b.q(x, -3, 6), 16, 24, 1), -6, 6)
    x = b.node("Flatten", b.node("GlobalAveragePool", b.silu(x)))
    b.finish(b.node("Gemm", x, b.real(CLASSES, 24), b.real(CLASSES), transB=1), name)


mobile("qdq_u8_per_channel")
mobile("qdq_s8_per_tensor", act=np.int8, per_channel=False, flatten="Reshape")
mobile("qdq_u8_u8_weights", weight_type=np.uint8, per_channel=False)
mobile("qdq_float_logits", quantized_logits=False)
swish("qdq_swish")
swish("qdq_s8_swish", act=np.int8)
mixed("qdq_mixed")
qlinear("qlinear")
float_silu("float_silu")
float_hard("float_hard")
float_branches("float_branches")
float_and_codes("float_and_codes")
