"""The checker's own reader: the function that onnxruntime computes, or a refusal."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from auditor.errors import Unsupported
from auditor.verify.certificate.statement import (
    Float64,
    Tensor,
    read_tensors,
    regions,
    runs_in_float32,
)
from auditor.verify.property import Pattern, Property, UnsafeCase, UnsafeRow
from tests.models.onnx_networks import Array, dense_network, make_model, write_model
from tests.models.tiny import absolute_value


def _image(matrix: Any, values: Float64) -> Any:
    """A map of a tensor, a matrix or a multiple of the identity, at values."""
    return matrix * values if isinstance(matrix, float) else matrix @ values


def values_of(tensors: tuple[Tensor, ...], point: Float64) -> Float64:
    """The last tensor at a point, in float64."""
    values = [point]
    for tensor in tensors[1:]:
        if tensor.relu >= 0:
            values.append(np.maximum(values[tensor.sources[0]], 0.0))
            continue
        parts = zip(tensor.sources, tensor.maps, strict=True)
        values.append(sum((_image(m, values[s]) for s, m in parts), tensor.bias))
    return values[-1]


def gauss(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto], tensors: dict[str, Array], shape: list[int]
) -> onnx.ModelProto:
    axes = ["a", "b", "c", "d"] if nodes[-1].op_type == "Conv" else ["a", "b"]
    return make_model(nodes, {"x": shape}, {"y": axes}, tensors)


def node(op: str, inputs: list[str], output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], f"{op}_{output}", **attributes)


def convolution(kernel: Array, **attributes: Any) -> onnx.ModelProto:
    tensors = {"k": kernel, "b": gauss(len(kernel))}
    return model_of([node("Conv", ["x", "k", "b"], **attributes)], tensors, [1, 4, 6, 5])


def residual() -> onnx.ModelProto:
    """Batch normalisation, a convolution beside the identity, a difference, a dense end."""
    tensors = {
        "s": gauss(4), "o": gauss(4), "m": gauss(4), "v": np.abs(gauss(4)) + np.float32(0.2),
        "k": gauss(4, 4, 3, 3), "w": gauss(120, 3), "shape": np.array([0, -1], dtype=np.int64),
    }  # fmt: skip
    nodes = [
        node("BatchNormalization", ["x", "s", "o", "m", "v"], "n", epsilon=1e-3),
        node("Relu", ["n"], "r"), node("Conv", ["r", "k"], "c", pads=[1, 1, 1, 1]),
        node("Add", ["c", "r"], "a"), node("Relu", ["a"], "t"), node("Sub", ["t", "c"], "d"),
        node("Reshape", ["d", "shape"], "f"), node("Gemm", ["f", "w"]),
    ]  # fmt: skip
    return model_of(nodes, tensors, [1, 4, 6, 5])


def normalised() -> onnx.ModelProto:
    """Sub both ways, Mul, Flatten, MatMul from both sides, Add, a Constant."""
    tensors = {
        "mean": gauss(1, 2, 3), "scale": np.array([0.5], dtype=np.float32), "w": gauss(6, 4),
        "b": gauss(4), "v": gauss(2, 4), "shape": np.array([4, 1], dtype=np.int64),
    }  # fmt: skip
    constant = numpy_helper.from_array(np.array([[1.5], [-2.5]], dtype=np.float32))
    nodes = [
        node("Sub", ["mean", "x"], "a"), node("Mul", ["scale", "a"], "m"),
        node("Flatten", ["m"], "f"), node("MatMul", ["f", "w"], "z"),
        node("Add", ["b", "z"], "s"), node("Relu", ["s"], "h"),
        node("Reshape", ["h", "shape"], "c"), node("MatMul", ["v", "c"], "o"),
        helper.make_node("Constant", [], ["k"], "constant", value=constant),
        node("Sub", ["o", "k"]),
    ]  # fmt: skip
    return model_of(nodes, tensors, [1, 2, 3])


MODELS = {
    "plain": convolution(gauss(3, 4, 3, 2)),
    "strides and pads": convolution(gauss(3, 4, 3, 2), strides=[2, 1], pads=[1, 0, 2, 1]),
    "dilations": convolution(gauss(3, 4, 2, 2), dilations=[3, 2], pads=[0, 1, 1, 0]),
    "groups": convolution(gauss(6, 2, 3, 3), group=2, strides=[1, 2]),
    "depthwise": convolution(gauss(4, 1, 3, 3), group=4),
    "residual": residual(),
    "normalised": normalised(),
    "dense": dense_network([6, 5, 4, 2], 3, batch=1),
    "transposed": model_of(
        [node("Gemm", ["x", "w", "b"], transB=1)], {"w": gauss(2, 3), "b": gauss(1, 2)}, [1, 3]
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_reads_what_onnxruntime_computes(tmp_path: Path, name: str) -> None:
    proto = MODELS[name]
    tensors, digest = read_tensors(write_model(tmp_path, proto))
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert digest.startswith("sha256:")
    for _ in range(5):
        point = np.random.default_rng(1).standard_normal(len(tensors[0].bias)).astype(np.float32)
        output = session.run(None, {"x": point.reshape(tensors[0].shape)})[0]
        expected = pytest.approx(np.ravel(output), rel=1e-4, abs=1e-4)
        assert values_of(tensors, point.astype(np.float64)) == expected


@pytest.mark.parametrize(
    ("nodes", "constant"),
    [
        ([node("Tanh", ["x"])], np.zeros(1)),
        ([node("Mul", ["x", "x"])], np.zeros(3)),
        ([node("Add", ["x", "c"])], np.zeros((3, 1))),
        ([node("Mul", ["x", "c"])], np.zeros((2, 3))),
        ([node("Gemm", ["x", "c"], alpha=2.0)], np.zeros((3, 2))),
        ([node("Gemm", ["c", "x"], transB=1)], np.zeros((1, 3))),
        ([node("Gemm", ["x", "c"], transA=1)], np.zeros((1, 2))),
        ([node("MatMul", ["x", "c"])], np.full((3, 2), np.nan)),
        ([node("Add", ["x", "c"])], np.full(3, np.inf)),
    ],
)
def test_what_it_cannot_read_is_refused(
    tmp_path: Path, nodes: list[onnx.NodeProto], constant: Array
) -> None:
    model = write_model(tmp_path, model_of(nodes, {"c": constant.astype(np.float32)}, [1, 3]))
    with pytest.raises(Unsupported):
        read_tensors(model)


def test_a_convolution_by_its_input_is_refused(tmp_path: Path) -> None:
    """`Conv(c, x)` is another function than `Conv(x, c)` where pads differ."""
    nodes = [node("Conv", ["c", "x"], pads=[1, 0, 0, 0])]
    model = write_model(tmp_path, model_of(nodes, {"c": gauss(1, 1, 2, 2)}, [1, 1, 2, 2]))
    with pytest.raises(Unsupported):
        read_tensors(model)


def test_float32_execution_is_claimed_for_dense_chains_only(tmp_path: Path) -> None:
    dense = read_tensors(write_model(tmp_path, absolute_value()))[0]
    assert runs_in_float32(dense)
    assert not runs_in_float32(read_tensors(write_model(tmp_path, residual()))[0])


def test_conditions_on_inputs_and_patterns_have_no_certificates_yet() -> None:
    ends = (Fraction(0),), (Fraction(1),)
    mixed = UnsafeRow((Fraction(1),), Fraction(0), False, (Fraction(1),))
    plain = UnsafeRow((Fraction(1),), Fraction(0))
    for rows, pattern, what in (
        ((mixed,), None, "conditions over inputs"),
        ((plain,), Pattern.of({0: ([0], [])}), "an activation pattern"),
    ):
        prop = Property("p", (UnsafeCase(*ends, rows),), "", "", 1, 1, (), pattern)
        with pytest.raises(Unsupported, match=f"not written for {what} yet"):
            regions([], prop)
