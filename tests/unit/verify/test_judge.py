"""The judge accepts what is confirmed, remembers disputes, and stops trying."""

from __future__ import annotations

import numpy as np

from auditor.verify.judge import WitnessJudge
from auditor.verify.outcome import Statistics
from auditor.verify.problem import problems_of
from tests.models.relu_chains import (
    absorbing_network,
    distance_network,
    float32_runtime,
    output_at_least,
)

POINT = np.array([0.9])


def test_a_confirmed_candidate_is_kept() -> None:
    network = distance_network([0.0], 0.0)
    (problem,) = problems_of(network, output_at_least(network, [-1.0], [1.0], 0.95))
    judge = WitnessJudge([float32_runtime(network)], 4, Statistics())
    assert judge.accepts_point(problem, POINT, seed=0)
    assert judge.is_over
    assert judge.confirmed is not None


def test_a_disputed_candidate_is_remembered_and_attempts_end() -> None:
    """Exactly y = 1/2 - x is below 1/4 at 0.9; float32 says 1/2."""
    network = absorbing_network()
    (problem,) = problems_of(network, output_at_least(network, [0.0], [1.0], 0.25))
    judge = WitnessJudge([float32_runtime(network)], 2, Statistics())
    assert not judge.accepts(problem, 0, POINT, seed=0)
    assert judge.is_over
    assert judge.disputed is not None
    assert judge.disputed.exact_violates


def test_a_candidate_that_violates_nowhere_leaves_no_trace() -> None:
    network = distance_network([0.0], 0.0)
    (problem,) = problems_of(network, output_at_least(network, [-1.0], [1.0], -1.0))
    judge = WitnessJudge([float32_runtime(network)], 4, Statistics())
    assert not judge.accepts(problem, 0, POINT, seed=0)
    assert judge.confirmed is None
    assert judge.disputed is None
