"""The torch executor against onnxruntime, operator by operator, and against known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import UnsupportedModel, UnsupportedOperator
from auditor.models.onnx_model import OnnxModel
from auditor.models.torch_graph import SUPPORTED, TorchGraph
from tests.models.onnx_networks import Array, conv_network, dense_network, make_model


class Case(NamedTuple):
    """One node: its operator, the shape of `x`, further constant inputs, attributes."""

    op: str
    shape: Sequence[int] = (2, 3, 4)
    extra: Mapping[str, Array] = {}
    attributes: Mapping[str, Any] = {}
    opset: int = 17
    positive: bool = False
    outputs: int = 1

    def __str__(self) -> str:
        words = [f"{k}={v}" for k, v in self.attributes.items()] + list(self.extra)
        return f"{self.op}-{self.opset}-{'x'.join(map(str, self.shape))}-{','.join(words)}"


def _floats(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def _ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


IMAGE = (2, 3, 9, 8)
SIGNAL = (2, 3, 11)
UNARY = ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Identity", "Neg", "Reciprocal", "Relu",
         "Sigmoid", "Sign", "Sin", "Softplus", "Tanh", "Elu", "LeakyRelu", "HardSigmoid",
         "GlobalAveragePool", "GlobalMaxPool", "Dropout", "Flatten", "Transpose", "Softmax",
         "LogSoftmax"]  # fmt: skip

BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"]

CASES = [
    *(Case(op) for op in UNARY),
    *(Case(op, positive=True) for op in ("Log", "Sqrt")),
    *(Case(op, extra={"b": _floats(3, 4)}) for op in BINARY),
    Case("Pow", extra={"b": np.array(2.0, np.float32)}),
    Case("PRelu", extra={"b": _floats(4)}),
    Case("Elu", attributes={"alpha": 0.3}),
    Case("LeakyRelu", attributes={"alpha": 0.3}),
    Case("HardSigmoid", attributes={"alpha": 0.4, "beta": 0.1}),
    Case("Gelu", opset=20),
    Case("Gelu", attributes={"approximate": "tanh"}, opset=20),
    Case("Clip", extra={"lo": np.array(-0.5, np.float32), "hi": np.array(0.5, np.float32)}),
    Case("Clip", extra={"lo": np.array(-0.5, np.float32)}),
    Case("Clip", attributes={"min": -0.2, "max": 0.4}, opset=6),
    Case("Softmax", attributes={"axis": 1}),
    Case("Softmax", opset=11),
    Case("Softmax", attributes={"axis": 2}, opset=11),
    Case("LogSoftmax", opset=11),
    Case("Flatten", attributes={"axis": 0}),
    Case("Flatten", attributes={"axis": 2}),
    Case("Flatten", attributes={"axis": -1}),
    Case("Reshape", extra={"s": _ints(0, -1)}),
    Case("Reshape", extra={"s": _ints(4, 3, 2)}),
    Case("Transpose", attributes={"perm": [1, 0, 2]}),
    Case("Squeeze", (2, 1, 3, 1), {"a": _ints(1)}),
    Case("Squeeze", (2, 1, 3, 1)),
    Case("Squeeze", (2, 1, 3, 1), {}, {"axes": [3]}, 11),
    Case("Unsqueeze", extra={"a": _ints(0, -1)}),
    Case("Unsqueeze", attributes={"axes": [1, 3]}, opset=11),
    Case("Concat", extra={"b": _floats(2, 5, 4)}, attributes={"axis": 1}),
    Case("Concat", extra={"b": _floats(2, 3, 1)}, attributes={"axis": -1}),
    Case("Slice", extra={"s": _ints(1), "e": _ints(3), "a": _ints(2)}),
    Case("Slice", extra={"s": _ints(-1), "e": _ints(-100), "a": _ints(2), "t": _ints(-2)}),
    Case("Slice", extra={"s": _ints(0, 1), "e": _ints(1, 99)}),
    Case("Slice", attributes={"starts": [1], "ends": [2], "axes": [1]}, opset=9),
    Case("Gather", extra={"i": _ints(2, 0, -1)}, attributes={"axis": 1}),
    Case("Gather", extra={"i": np.array(1, np.int64)}, attributes={"axis": 2}),
    Case("Gather", extra={"i": _ints(1, 0, 0, 1).reshape(2, 2)}),
    Case("Expand", (3, 1), {"s": _ints(2, 1, 4)}),
    Case("Pad", extra={"p": _ints(0, 1, 0, 2, 0, 1)}),
    Case("Pad", extra={"p": _ints(0, 0, 1, 0, 0, 2), "v": np.array(3.0, np.float32)}),
    Case("Pad", IMAGE, {"p": _ints(0, 0, 1, 2, 0, 0, 2, 1)}, {"mode": "reflect"}),
    Case("Pad", IMAGE, {"p": _ints(0, 0, 1, 2, 0, 0, 2, 1)}, {"mode": "edge"}),
    Case("Pad", IMAGE, {}, {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 2.0}, 9),
    Case("Split", (2, 4, 3), {}, {"axis": 1}, outputs=2),
    Case("Split", (2, 5, 3), {"s": _ints(2, 3)}, {"axis": 1}, outputs=2),
    Case("Split", (2, 5, 3), {}, {"axis": 1, "num_outputs": 2}, 18, outputs=2),
    *(Case(op, attributes={"axes": [1]}, opset=13 if op == "ReduceMean" else 17)
      for op in ("ReduceMean", "ReduceMax", "ReduceMin")),
    Case("ReduceMean"),
    Case("ReduceMean", extra={"a": _ints(0, 2)}, attributes={"keepdims": 0}, opset=18),
    Case("ReduceSum", extra={"a": _ints(-1)}, attributes={"keepdims": 0}),
    Case("ReduceSum", attributes={"axes": [0]}, opset=11),
    Case("ReduceSum", attributes={"noop_with_empty_axes": 1}),
    Case("MatMul", extra={"b": _floats(4, 5)}),
    Case("MatMul", extra={"b": _floats(2, 4, 5)}),
    Case("Gemm", (3, 4), {"b": _floats(4, 5)}),
    Case("Gemm", (3, 4), {"b": _floats(5, 4), "c": _floats(5)},
         {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (4, 3), {"b": _floats(4, 5), "c": _floats(3, 1)}, {"transA": 1}),
    Case("Conv", IMAGE, {"w": _floats(4, 3, 3, 2)}),
    Case("Conv", IMAGE, {"w": _floats(4, 3, 3, 2), "b": _floats(4)},
         {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    Case("Conv", IMAGE, {"w": _floats(6, 1, 3, 3)}, {"group": 3, "dilations": [2, 2]}),
    *(Case("Conv", IMAGE, {"w": _floats(4, 3, 3, 2)}, {"auto_pad": mode, "strides": [2, 2]})
      for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    Case("Conv", SIGNAL, {"w": _floats(4, 3, 3)}, {"pads": [2, 0], "strides": [2]}),
    *(Case(op, IMAGE, {}, {"kernel_shape": [3, 2], **more})
      for op in ("MaxPool", "AveragePool")
      for more in (
          {},
          {"strides": [2, 2]},
          {"strides": [2, 3], "pads": [1, 1, 1, 0]},
          {"strides": [2, 2], "ceil_mode": 1},
          {"strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
          {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
          {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
      )),
    Case("MaxPool", IMAGE, {}, {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    Case("MaxPool", SIGNAL, {}, {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("AveragePool", IMAGE, {},
         {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", IMAGE, {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2],
                                    "count_include_pad": 1, "ceil_mode": 1}, 19),
    Case("AveragePool", SIGNAL, {}, {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("BatchNormalization", IMAGE, {"s": _floats(3), "b": _floats(3), "m": _floats(3),
                                       "v": np.abs(_floats(3)) + 1}, {"epsilon": 1e-3}),
    Case("LayerNormalization", (2, 3, 4), {"s": _floats(4), "b": _floats(4)}),
    Case("LayerNormalization", (2, 3, 4), {"s": _floats(3, 4)}, {"axis": 1}),
]  # fmt: skip


def _model(case: Case) -> onnx.ModelProto:
    names = [f"y{index}" for index in range(case.outputs)]
    node = helper.make_node(case.op, ["x", *case.extra], names, "node", **case.attributes)
    inferred = make_model(
        [node], {"x": case.shape}, dict.fromkeys(names), case.extra, opset=case.opset
    )
    return onnx.shape_inference.infer_shapes(inferred)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_computes_what_onnxruntime_computes(case: Case) -> None:
    proto = _model(case)
    values: Array = np.random.default_rng(3).standard_normal(case.shape).astype(np.float32)
    if case.positive:
        values = np.abs(values) + np.float32(0.5)
    expected = (
        OnnxModel(Path("<test>"), "", 0, "onnx", proto).session(optimised=False).run({"x": values})
    )
    found = TorchGraph(proto, torch.float64).run({"x": values})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=2e-5, atol=2e-6)
        assert tuple(found[name].shape) == value.shape


def test_booleans_and_integers_compute_what_onnxruntime_computes() -> None:
    nodes = [
        helper.make_node("Greater", ["x", "w"], ["g"]),
        helper.make_node("Less", ["x", "w"], ["l"]),
        helper.make_node("Or", ["g", "l"], ["o"]),
        helper.make_node("Not", ["o"], ["n"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["d"]),
        helper.make_node("ConstantOfShape", ["s"], ["z"],
                         value=numpy_helper.from_array(np.array([2.5], np.float32))),
        helper.make_node("Where", ["n", "z", "x"], ["c"]),
        helper.make_node("Cast", ["d"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["c", "f"], ["y"]),
    ]  # fmt: skip
    values = np.array([[1.0, 2.0, 3.0]], np.float32)
    tensors = {"w": np.array([[0.0, 2.0, 9.0]], np.float32), "one": _ints(1)}
    proto = make_model(nodes, {"x": [1, 3]}, {"y": [1, 3]}, tensors)
    assert TorchGraph(proto).run({"x": values})["y"].tolist() == [[3.0, 7.5, 9.0]]
    assert OnnxModel.from_proto(proto).session().run({"x": values})["y"].tolist() == [
        [3.0, 7.5, 9.0]
    ]


def test_every_supported_operator_is_tested_here() -> None:
    in_chain = {"And", "Cast", "Constant", "ConstantOfShape", "Equal", "Gather", "Greater",
                "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Shape", "Where", "ArgMax",
                "FusedConv", "FusedGemm", "FusedMatMul"}  # fmt: skip
    assert {case.op for case in CASES} | in_chain >= set(SUPPORTED)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("Equal", [False, True, False]), ("GreaterOrEqual", [True, True, False]),
     ("LessOrEqual", [False, True, True]), ("And", [False, True, True])],
)  # fmt: skip
def test_comparisons_give_known_answers(op: str, expected: list[bool]) -> None:
    kind = TensorProto.BOOL if op == "And" else TensorProto.FLOAT
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=kind),
             helper.make_node("Cast", ["w"], ["d"], to=kind),
             helper.make_node(op, ["c", "d"], ["b"]),
             helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    proto = make_model(nodes, {"x": [3]}, {"y": [3]}, {"w": np.array([0.0, 2.0, 9.0], np.float32)})
    found = TorchGraph(proto).run({"x": np.array([1.0, 2.0, 3.0])})["y"]
    assert found.tolist() == [float(value) for value in expected]


def test_argmax_gives_the_place_of_the_largest() -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
             helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    proto = make_model(nodes, {"x": [2, 3]}, {"y": [2]})
    assert TorchGraph(proto).run({"x": np.array([[1, 5, 2], [9, 5, 2.0]])})["y"].tolist() == [1, 0]


def test_unsupported_operators_are_named_all_at_once() -> None:
    nodes = [helper.make_node("Einsum", ["x"], ["a"], "first", equation="ij->ij"),
             helper.make_node("Relu", ["a"], ["b"], "fine"),
             helper.make_node("LSTM", ["b"], ["y"], "second")]  # fmt: skip
    with pytest.raises(UnsupportedOperator) as caught:
        TorchGraph(make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}))
    assert caught.value.operators == (("Einsum", "first"), ("LSTM", "second"))


def test_intermediate_tensors_are_kept_on_request() -> None:
    graph = TorchGraph(dense_network([3, 4, 2]))
    values = graph.run({"x": np.ones((2, 3))}, keep=["a0", "z0"])
    assert list(values) == ["y", "a0", "z0"]
    torch.testing.assert_close(values["a0"], values["z0"].clamp(min=0), rtol=0, atol=0)


def test_a_tensor_that_is_not_there_cannot_be_kept() -> None:
    with pytest.raises(UnsupportedModel, match="'nowhere'"):
        TorchGraph(dense_network([3, 2])).run({"x": np.ones((1, 3))}, keep=["nowhere"])


def test_the_precision_is_the_one_asked_for() -> None:
    for dtype in (torch.float32, torch.float64):
        graph = TorchGraph(dense_network([3, 4, 2]), dtype)
        assert graph.run({"x": np.ones((1, 3), np.float32)})["y"].dtype == dtype


def test_gradients_flow_to_the_input() -> None:
    proto = make_model([helper.make_node("Mul", ["x", "w"], ["y"])], {"x": [1, 2]}, {"y": [1, 2]},
                       {"w": np.array([[3.0, -4.0]], np.float32)})  # fmt: skip
    x = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    TorchGraph(proto).run({"x": x})["y"].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [[3.0, -4.0]]


def test_samples_are_batched_where_the_graph_treats_them_alone() -> None:
    assert TorchGraph(conv_network()).batches


def _mean_over_samples() -> onnx.ModelProto:
    """`y = x - mean of x over everything`: right for one sample, mixing for more."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"]),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    return make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]})


def test_a_graph_that_mixes_samples_is_run_one_by_one() -> None:
    graph = TorchGraph(_mean_over_samples())
    assert not graph.batches
    rows = np.array([[1.0, 3.0], [10.0, 30.0]])
    assert graph.run_rows(rows).tolist() == [[-1.0, 1.0], [-10.0, 10.0]]


def test_a_missing_input_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="'x'"):
        TorchGraph(dense_network([3, 2])).run({})


def test_a_node_that_fails_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="gemm0"):
        TorchGraph(dense_network([3, 2])).run({"x": np.ones((1, 5))})
