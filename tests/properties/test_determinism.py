"""Law: the same question asked twice gets the same answer, found in the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.engine_choice import Engine
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.search import Limits, Outcome, verify
from auditor.verify.semantics import Semantics
from tests.models.random_graphs import random_model
from tests.models.relu_chains import float32_runtime, output_at_least, random_chain

# Only counts limit the work: the clock must not decide.
LIMITS = Limits(
    time_s=3_600, max_boxes=300, falsifier_evaluations=2_000, z3_rlimit=60_000, z3_queries=4
)
ENGINES: tuple[Engine, ...] = ("auto", "boxes", "relus", "z3")
SHAPES = [(2, 6, 4, 2), (3, 10, 8, 1), (5, 12, 12, 2)]


def _without_times(outcome: Outcome) -> tuple[Any, ...]:
    witness = outcome.witness
    return (
        outcome.verdict,
        outcome.reason,
        replace(outcome.statistics, seconds={}),
        None if witness is None else (witness.inputs.tolist(), witness.margin),
    )


def _threshold(network: Network | GraphNetwork, seed: int, share: float) -> float:
    points = np.random.default_rng(seed).uniform(-1, 1, (300, network.num_inputs))
    values = network.evaluate(points)[:, 0]
    return float(values.min() + share * (values.max() - values.min()))


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 100_000),
    widths=st.sampled_from(SHAPES),
    share=st.sampled_from([-0.3, -0.05, 0.02]),
    semantics=st.sampled_from(Semantics),
)
def test_chains_are_decided_alike_twice(
    engine: Engine, seed: int, widths: tuple[int, ...], share: float, semantics: Semantics
) -> None:
    """Far below the least sample, just below it, and just above it."""
    first, second = (_decide_chain(engine, seed, widths, share, semantics) for _ in range(2))
    assert first == second


def _decide_chain(
    engine: Engine, seed: int, widths: tuple[int, ...], share: float, semantics: Semantics
) -> tuple[Any, ...]:
    network = random_chain(seed, widths)
    ends = [-1.0] * network.num_inputs, [1.0] * network.num_inputs
    prop = output_at_least(network, *ends, _threshold(network, seed, share))
    return _without_times(
        verify(
            network, prop, limits=LIMITS, seed=seed, replay=float32_runtime(network),
            engine=engine, semantics=semantics,
        )
    )  # fmt: skip


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 100_000), share=st.sampled_from([-0.3, 0.02]))
def test_graphs_are_decided_alike_twice(seed: int, share: float) -> None:
    """Convolutions and residual sums, read from the file anew each time."""
    first, second = (_decide_graph(seed, share) for _ in range(2))
    assert first == second


def _decide_graph(seed: int, share: float) -> tuple[Any, ...]:
    network = graph_from_onnx(random_model(seed))
    count = network.num_inputs
    prop = output_at_least(network, [-0.2] * count, [0.2] * count, _threshold(network, seed, share))
    limits = replace(LIMITS, max_boxes=20, falsifier_evaluations=200)
    return _without_times(verify(network, prop, limits=limits, seed=seed))
