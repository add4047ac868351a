"""The checker's own reader: the same function as the verifier's, or a refusal."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from auditor.errors import Unsupported
from auditor.verify.certificate.forms import Float64
from auditor.verify.certificate.statement import AffineMap, read_network, regions
from auditor.verify.network import network_from_onnx
from auditor.verify.property import Pattern, Property, UnsafeCase, UnsafeRow, load_property
from tests.models.certificates import at_least
from tests.models.onnx_networks import Array, dense_network, make_model, write_model


def values_of(maps: list[AffineMap], point: Float64) -> Float64:
    """The chain at a point, in floats."""
    hidden = point
    for number, each in enumerate(maps):
        weight = np.eye(len(each.bias)) if each.weight is None else each.weight
        if not isinstance(weight, np.ndarray):
            entries = [int(q.p) / int(q.q) for q in weight.entries()]
            weight = np.array(entries).reshape(weight.nrows(), weight.ncols())
        hidden = weight @ hidden + [int(q.p) / int(q.q) for q in each.bias]
        hidden = np.maximum(hidden, 0.0) if number < len(maps) - 1 else hidden
    return np.asarray(hidden)


def model_of(
    nodes: list[onnx.NodeProto], tensors: dict[str, Array], shape: list[int]
) -> onnx.ModelProto:
    return make_model(nodes, {"x": shape}, {"y": ["rows", "columns"]}, tensors)


def normalised_network() -> onnx.ModelProto:
    """Sub, Mul, Flatten, MatMul from both sides, Add, a Constant: as exporters write them."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        "mean": rng.standard_normal((1, 2, 3)).astype(np.float32),
        "scale": np.array([0.5], dtype=np.float32),
        "w": rng.standard_normal((6, 4)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
        "v": rng.standard_normal((2, 4)).astype(np.float32),
        "shape": np.array([4, 1], dtype=np.int64),
    }
    constant = numpy_helper.from_array(np.array([[1.5], [-2.5]], dtype=np.float32))
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"], "sub"),
        helper.make_node("Mul", ["scale", "a"], ["m"], "mul"),
        helper.make_node("Flatten", ["m"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "w"], ["z"], "first"),
        helper.make_node("Add", ["b", "z"], ["s"], "bias"),
        helper.make_node("Relu", ["s"], ["h"], "relu"),
        helper.make_node("Reshape", ["h", "shape"], ["c"], "column"),
        helper.make_node("MatMul", ["v", "c"], ["o"], "second"),
        helper.make_node("Constant", [], ["k"], "constant", value=constant),
        helper.make_node("Add", ["o", "k"], ["y"], "last"),
    ]
    return model_of(nodes, tensors, [1, 2, 3])


@pytest.mark.parametrize("proto", [normalised_network(), dense_network([6, 5, 4, 2], 3)])
def test_it_reads_the_same_function_as_the_verifier(tmp_path: Path, proto: onnx.ModelProto) -> None:
    maps, digest = read_network(write_model(tmp_path, proto))
    points = np.random.default_rng(1).standard_normal((20, 6))
    expected = network_from_onnx(proto).evaluate(points)
    assert digest.startswith("sha256:")
    for point, output in zip(points, expected, strict=True):
        assert values_of(maps, point) == pytest.approx(output, abs=1e-12)


def dense(op: str, inputs: list[str], **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(op, inputs, ["y"], "node", **attributes)]


@pytest.mark.parametrize(
    ("nodes", "constant"),
    [
        (dense("Tanh", ["x"]), np.zeros(1)),
        (dense("Sub", ["c", "x"]), np.zeros(3)),
        (dense("Add", ["x", "x"]), np.zeros(3)),
        (dense("Add", ["x", "c"]), np.zeros((3, 1))),
        (dense("Mul", ["x", "c"]), np.zeros((2, 3))),
        (dense("Gemm", ["x", "c"], alpha=2.0), np.zeros((3, 2))),
        (dense("Gemm", ["c", "x"], transB=1), np.zeros((1, 3))),
        (dense("Gemm", ["x", "c"], transA=1), np.zeros((1, 2))),
        (dense("MatMul", ["x", "c"]), np.full((3, 2), np.nan)),
        (dense("Add", ["x", "c"]), np.full(3, np.inf)),
    ],
)
def test_what_it_cannot_read_is_refused(
    tmp_path: Path, nodes: list[onnx.NodeProto], constant: Array
) -> None:
    model = write_model(tmp_path, model_of(nodes, {"c": constant.astype(np.float32)}, [1, 3]))
    with pytest.raises(Unsupported):
        read_network(model)


@pytest.mark.parametrize(
    ("lower", "upper"), [(-1.0, 1.0), (0.1, 0.3), (0.7, 0.7), (0.0, 0.0), (-3e6, 1e-7)]
)
def test_the_grid_contains_the_exact_box_and_little_more(
    tmp_path: Path, lower: float, upper: float
) -> None:
    model = write_model(tmp_path, dense_network([1, 2, 1], 0))
    path = tmp_path / "p.yaml"
    path.write_text(at_least(0.0, [lower], [upper]))
    prop = load_property(path, num_inputs=1, num_outputs=1)
    (region,) = regions(read_network(model)[0], prop)
    low, step = region.origin[0], region.step[0]
    high = low + step * int(region.ends[0])
    case = prop.cases[0]
    assert low <= case.lower[0] <= case.upper[0] <= high
    assert region.ends[0] <= 2**23 + 2
    width = case.upper[0] - case.lower[0]
    assert high - low - width <= max(width, Fraction(1, 2**20), abs(case.lower[0])) / 2**21


def test_conditions_on_inputs_and_patterns_have_no_certificates_yet() -> None:
    ends = (Fraction(0),), (Fraction(1),)
    mixed = UnsafeRow((Fraction(1),), Fraction(0), False, (Fraction(1),))
    plain = UnsafeRow((Fraction(1),), Fraction(0))
    maps = [AffineMap(None, [Fraction(0)])]
    for rows, pattern, what in (
        ((mixed,), None, "conditions over inputs"),
        ((plain,), Pattern.of({0: ([0], [])}), "an activation pattern"),
    ):
        prop = Property("p", (UnsafeCase(*ends, rows),), "", "", 1, 1, (), pattern)
        with pytest.raises(Unsupported, match=f"not written for {what} yet"):
            regions(maps, prop)
