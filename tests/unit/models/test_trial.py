"""First loads in a guarded child: success, rejection, crash and limits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from auditor.guarded.outcome import GuardStatus, Protections
from auditor.models.onnx_model import OnnxModel
from auditor.models.trial import trial_load
from tests.models.onnx_networks import dense_network, make_model

STAGES = ("checker and shape inference", "onnxruntime, not optimised", "onnxruntime, optimised")


def constant_model(
    nodes: Sequence[onnx.NodeProto], result: str, **tensors: np.ndarray
) -> OnnxModel:
    """y = x + the sum of what the nodes make of constants; an optimiser may compute it at once."""
    last = [
        helper.make_node("ReduceSum", [result], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return OnnxModel.from_proto(
        make_model([*nodes, *last], {"x": [1, 2]}, {"y": [1, 2]}, dict(tensors))
    )


def test_a_sound_model_passes_every_stage() -> None:
    """And the parent is told what held the child."""
    outcome = trial_load(OnnxModel.from_proto(dense_network([3, 4, 2])))
    assert (outcome.status, outcome.stages) == (GuardStatus.DONE, STAGES)
    assert isinstance(outcome.protections, Protections)


def test_shapes_that_cannot_be_are_rejected_by_shape_inference() -> None:
    """A rejection has the library's words."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"w": np.zeros((3, 2), np.float32)})
    outcome = trial_load(OnnxModel.from_proto(proto))
    assert (outcome.status, outcome.stage) == (GuardStatus.REJECTED, STAGES[0])
    assert outcome.problem


def test_a_trial_that_takes_too_long_is_stopped() -> None:
    """Before the child has imported its libraries."""
    outcome = trial_load(OnnxModel.from_proto(dense_network([3, 2])), seconds=0.01)
    assert outcome.status is GuardStatus.OUT_OF_TIME


def test_a_graph_that_unfolds_to_gigabytes_ends_in_an_outcome() -> None:
    """200 bytes of model; constant folding would make 10 GB of it."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"])]
    model = constant_model(nodes, "c", s=np.array([50_000, 50_000], np.int64))
    outcome = trial_load(model, memory_mb=2048)
    assert outcome.stages[:2] == STAGES[:2]


@pytest.mark.slow
def test_constants_that_grow_twelve_times_end_in_an_outcome() -> None:
    """Every step of the folding is eight times as large as the one before."""
    nodes = [
        helper.make_node("Concat", [f"c{step}"] * 8, [f"c{step + 1}"], axis=0)
        for step in range(12)
    ]  # fmt: skip
    model = constant_model(nodes, "c12", c0=np.ones((64, 2), np.float32))
    outcome = trial_load(model, memory_mb=1024, seconds=20)
    assert outcome.status in (
        GuardStatus.DONE, GuardStatus.OUT_OF_MEMORY, GuardStatus.OUT_OF_TIME,
    )  # fmt: skip
    assert outcome.stages[:1] == STAGES[:1]


def test_a_product_that_is_folded_for_minutes_is_out_of_time() -> None:
    """4,000 multiplications of large constant matrices."""
    names = ["m", *(f"p{step}" for step in range(4000))]
    nodes = [
        helper.make_node("MatMul", [before, "m"], [after])
        for before, after in itertools.pairwise(names)
    ]
    model = constant_model(nodes, names[-1], m=np.eye(1200, dtype=np.float32))
    outcome = trial_load(model, seconds=4)
    assert outcome.status is GuardStatus.OUT_OF_TIME


def test_a_loop_of_endless_count_ends_in_an_outcome() -> None:
    """Its trip count is 2^62 and all it needs is constant."""
    value, flag = (
        [helper.make_tensor_value_info(name, kind, []) for name in names]
        for kind, names in ((TensorProto.FLOAT, ("v", "w")), (TensorProto.BOOL, ("c", "d")))
    )
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag[0], value[0]],
        [flag[1], value[1]],
    )
    nodes = [helper.make_node("Loop", ["count", "go", "start"], ["end"], body=body)]
    model = constant_model(
        nodes, "end", count=np.array(2**62), go=np.array(True), start=np.array(1, np.float32)
    )
    outcome = trial_load(model, seconds=10, memory_mb=2048)
    assert outcome.status in (GuardStatus.DONE, GuardStatus.OUT_OF_TIME, GuardStatus.REJECTED)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="address space is not limited on Windows")
def test_weights_beyond_the_memory_are_no_crash() -> None:
    """The libraries fail to allocate, each in its own words."""
    model = constant_model([], "w", w=np.ones((30 * 2**20,), np.float32))
    outcome = trial_load(model, memory_mb=600)
    assert outcome.status is GuardStatus.OUT_OF_MEMORY
    assert outcome.problem
