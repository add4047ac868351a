"""Input splitting of graphs on planted problems: both verdicts with tight margins."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from auditor.errors import UnsupportedModel
from auditor.findings import Verdict
from auditor.verify.input_search import ENGINE, InputSearch
from auditor.verify.network import GraphNetwork, read_network
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import problems_of
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics
from tests.models.curved_networks import at_most, difference_model
from tests.models.onnx_networks import make_model
from tests.models.relu_chains import distance_network, output_at_least

BOX = [-3.0, -1.0, -1.0], [3.0, 1.0, 1.0]


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


# The largest output of `difference_model` on BOX, at x = -1/2 and v - w = 2.
LARGEST = {
    "Sigmoid": sigmoid(0.5) - sigmoid(-0.5) + sigmoid(2.0),
    "Tanh": 2.0 * math.tanh(0.5) + math.tanh(2.0),
}


class Runtime:
    """A model in onnxruntime."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self.shape = self.session.get_inputs()[0].shape

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[np.floating]:
        return np.asarray(self.session.run(None, {"x": inputs.reshape(self.shape)})[0]).ravel()


@pytest.mark.parametrize("operator", LARGEST)
def test_a_bound_just_above_the_largest_output_holds(operator: str) -> None:
    network = read_network(difference_model(operator))
    outcome = verify(network, at_most(LARGEST[operator] + 1e-6, *BOX))
    assert outcome.verdict is Verdict.HOLDS, outcome.reason
    assert set(outcome.statistics.decided_share) <= {ENGINE, "bounds"}
    assert sum(outcome.statistics.decided_share.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("operator", LARGEST)
def test_a_bound_just_below_is_violated_with_a_replayed_witness(operator: str) -> None:
    proto = difference_model(operator)
    value = LARGEST[operator] - 1e-5
    outcome = verify(read_network(proto), at_most(value, *BOX), replay=Runtime(proto))
    assert outcome.verdict is Verdict.VIOLATED, outcome.reason
    assert outcome.witness is not None
    assert Runtime(proto)(outcome.witness.inputs)[0] > value


def step_model() -> onnx.ModelProto:
    """`y = sign(x0) - sign(x0 - 1) + sign(x1)`: at most 3, for x0 in (0, 1) and x1 > 0."""
    tensors = {
        "w0": np.array([[1, 1, 0], [0, 0, 1]], np.float32),
        "b0": np.array([0, -1, 0], np.float32),
        "w1": np.array([[1], [-1], [1]], np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z"]),
        helper.make_node("Sign", ["z"], ["h"]),
        helper.make_node("Gemm", ["h", "w1"], ["y"]),
    ]
    return make_model(nodes, {"x": [1, 2]}, {"y": [1, 1]}, tensors)


def test_steps_are_decided_on_both_sides() -> None:
    proto, box = step_model(), ([-2.0, -2.0], [2.0, 2.0])
    network = read_network(proto)
    assert verify(network, at_most(3.0 + 1e-9, *box)).verdict is Verdict.HOLDS
    found = verify(network, at_most(2.9, *box), replay=Runtime(proto))
    assert found.verdict is Verdict.VIOLATED


def test_a_violation_at_the_zero_of_a_sign_is_not_overlooked() -> None:
    """`y = 1 - |sign(x)|` is 0 everywhere but at x = 0, where it is 1."""
    nodes = [
        helper.make_node("Sign", ["x"], ["s"]),
        helper.make_node("Abs", ["s"], ["a"]),
        helper.make_node("Sub", ["one", "a"], ["y"]),
    ]
    proto = make_model(nodes, {"x": [1, 1]}, {"y": [1, 1]}, {"one": np.ones((1, 1), np.float32)})
    network = read_network(proto)
    few = Limits(max_boxes=500, falsifier_evaluations=500)
    # The centre of the second box is not zero, so no obvious point finds it.
    for box in (([-1.0], [1.0]), ([-1.0], [2.0]), ([-1.0], [0.0]), ([0.0], [1.0])):
        outcome = verify(network, at_most(0.5, *box), limits=few, replay=Runtime(proto))
        assert outcome.verdict is not Verdict.HOLDS
    assert verify(network, at_most(0.5, [0.125], [1.0])).verdict is Verdict.HOLDS


def test_every_case_of_a_disjunction_is_refuted_on_its_own() -> None:
    network = read_network(difference_model("Tanh"))
    one = (UnsafeRow((Fraction(-1),), -Fraction(LARGEST["Tanh"] + 1e-3)),)
    other = (UnsafeRow((Fraction(1),), Fraction(-5, 2)),)
    ends = tuple(map(Fraction, BOX[0])), tuple(map(Fraction, BOX[1]))
    cases = (UnsafeCase(*ends, one), UnsafeCase(*ends, other))
    outcome = verify(network, Property("p", cases, "", "", 3, 1))
    assert outcome.verdict is Verdict.HOLDS, outcome.reason


def test_piecewise_linear_graphs_are_decided_too() -> None:
    network = GraphNetwork.from_chain(distance_network([0.25, -0.5], 1.0))
    box = [-1.0, -1.0], [1.0, 1.0]
    prop = output_at_least(distance_network([0.25, -0.5], 1.0), *box, 0.999)
    (problem,) = problems_of(network, prop)
    search, statistics = InputSearch(problem, 1.0), Statistics()
    done = search.bound_root(statistics, math.inf)
    if not done:
        stopped = search.run(
            Limits(), statistics, math.inf, lambda point: False, lambda share, text: None
        )
        assert stopped == ""
    assert sum(statistics.decided_share.values()) == pytest.approx(1.0)


def test_limits_give_unknown_with_progress() -> None:
    network = read_network(difference_model("Sigmoid"))
    prop = at_most(LARGEST["Sigmoid"] + 1e-6, *BOX)
    few = verify(network, prop, limits=Limits(max_boxes=3, falsifier_evaluations=0))
    assert few.verdict is Verdict.UNKNOWN
    assert "limit of 3 sub-problems" in few.reason
    late = verify(network, prop, limits=Limits(time_s=0, falsifier_evaluations=0))
    assert late.verdict is Verdict.UNKNOWN
    assert "time limit" in late.reason


def test_equal_runs_give_equal_statistics() -> None:
    network = read_network(difference_model("Sigmoid"))
    prop = at_most(LARGEST["Sigmoid"] + 1e-4, *BOX)
    first, second = (verify(network, prop, seed=3) for _ in range(2))
    first.statistics.seconds = second.statistics.seconds = {}
    assert first.statistics == second.statistics


@pytest.mark.parametrize("engine", ["z3", "relus", "boxes"])
def test_engines_for_relus_refuse_other_activations_and_name_them(engine: str) -> None:
    network = read_network(difference_model("Sigmoid"))
    with pytest.raises(UnsupportedModel, match=f"curve.*Sigmoid.*{engine}.*auto or inputs"):
        verify(network, at_most(9.0, *BOX), engine=engine)  # type: ignore[arg-type]


def test_float32_semantics_are_not_promised() -> None:
    network = graph_from_onnx(difference_model("Tanh"))
    outcome = verify(network, at_most(9.0, *BOX), semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "Tanh" in outcome.reason
