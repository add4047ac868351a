"""Written properties over inputs and outputs, on an ONNX model in its runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from auditor.errors import ConfigurationError, UnsupportedProperty
from auditor.findings import Verdict
from auditor.verify.network import read_network
from auditor.verify.onnx_subject import verify_file
from auditor.verify.outcome import Outcome
from auditor.verify.property import load_property
from auditor.verify.search import verify
from tests.models.onnx_networks import make_model, write_model

DECLARED = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))
BOX = "".join(f"(assert (>= X_{i} -1.0))(assert (<= X_{i} 1.0))" for i in range(2))


def larger_of_two() -> onnx.ModelProto:
    """y = max(x0, x1) = x1 + relu(x0 - x1), as a residual sum."""
    tensors = {
        "w": np.array([[1.0], [-1.0]], np.float32),
        "p": np.array([[0.0], [1.0]], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"], name="positive"),
        helper.make_node("MatMul", ["x", "p"], ["s"]),
        helper.make_node("Add", ["r", "s"], ["y"]),
    ]
    return make_model(nodes, {"x": [1, 2]}, {"y": [1, 1]}, tensors)


def answer(folder: Path, text: str, name: str = "p.vnnlib") -> Outcome:
    model = write_model(folder, larger_of_two())
    (folder / name).write_text(text)
    return verify_file(model, folder / name, time_limit_s=60)[1]


@pytest.mark.parametrize(
    ("violation", "verdict"),
    [
        ("(assert (< Y_0 X_0))", Verdict.HOLDS),
        ("(assert (< Y_0 (+ (* 0.5 X_0) (* 0.5 X_1) -1e-6)))", Verdict.HOLDS),
        ("(assert (<= Y_0 X_0))", Verdict.VIOLATED),
        ("(assert (> Y_0 (+ X_1 0.5)))", Verdict.VIOLATED),
        ("(assert (<= X_0 X_1))(assert (> Y_0 (+ X_1 1e-6)))", Verdict.HOLDS),
        ("(assert (<= (+ X_0 X_1) -1))(assert (> Y_0 1e-6))", Verdict.HOLDS),
        ("(assert (<= (+ X_0 X_1) -1))(assert (>= Y_0 0))", Verdict.VIOLATED),
        ("(assert (<= (+ X_0 X_1) -1))(assert (> Y_0 0.000001))(assert (<= X_1 X_0))"
         "(assert (>= X_1 (- X_0 0.1)))", Verdict.HOLDS),
        ("(assert (<= (+ X_0 X_1) -3))(assert (> Y_0 0))", Verdict.UNKNOWN),
    ],
)  # fmt: skip
def test_relations_of_inputs_and_outputs_are_decided(
    tmp_path: Path, violation: str, verdict: Verdict
) -> None:
    found = answer(tmp_path, DECLARED + BOX + violation)
    assert found.verdict is verdict, found.reason


YAML = """\
version: 1
id: larger
inputs:
  box: {lower: -1, upper: 1}
"""


def test_a_pattern_by_name_makes_the_sum_linear(tmp_path: Path) -> None:
    """Where x0 >= x1 the output is x0; without the pattern it may be larger."""
    then = "then: [{linear: {outputs: {0: 1}, inputs: {0: -1}, at_most: 0.000001}}]\n"
    pattern = "following: {positive: {active: [0]}}\n"
    assert answer(tmp_path, YAML + then, "p.yaml").verdict is Verdict.VIOLATED
    found = answer(tmp_path, YAML + pattern + then, "p.yaml")
    assert found.verdict is Verdict.HOLDS, found.reason
    other = answer(tmp_path, YAML + pattern.replace("active", "inactive") + then, "p.yaml")
    assert other.verdict is Verdict.VIOLATED


def test_z3_decides_a_residual_network_with_its_tie(tmp_path: Path) -> None:
    network = read_network(larger_of_two())
    (tmp_path / "p.vnnlib").write_text(DECLARED + BOX + "(assert (< Y_0 X_0))")
    prop = load_property(tmp_path / "p.vnnlib", num_inputs=2, num_outputs=1)
    found = verify(network, prop, engine="z3")
    assert found.verdict is Verdict.HOLDS, found.reason
    assert found.statistics.z3_queries == 1


def test_a_softmax_model_refuses_relations_with_inputs(tmp_path: Path) -> None:
    tensors = {"w": np.eye(2, dtype=np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    network = read_network(make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, tensors))
    declared = DECLARED + "(declare-const Y_1 Real)"
    (tmp_path / "p.vnnlib").write_text(declared + BOX + "(assert (<= Y_0 (+ Y_1 X_0)))")
    prop = load_property(tmp_path / "p.vnnlib", num_inputs=2, num_outputs=2)
    with pytest.raises(UnsupportedProperty, match="which of two outputs is larger"):
        verify(network, prop)
    text = declared + BOX + "(assert (< Y_0 Y_1))(assert (<= (+ X_1 1e-6) X_0))"
    (tmp_path / "p.vnnlib").write_text(text)
    prop = load_property(tmp_path / "p.vnnlib", num_inputs=2, num_outputs=2)
    assert verify(network, prop).verdict is Verdict.HOLDS


def test_a_pattern_of_another_model_is_refused_when_the_property_is_read(tmp_path: Path) -> None:
    text = YAML + "following: {pozitive: {active: [0]}}\nthen: [{at_most: {output: 0, value: 9}}]\n"
    with pytest.raises(ConfigurationError, match="'pozitive' is no ReLU layer; use an index from"):
        answer(tmp_path, text, "p.yaml")
