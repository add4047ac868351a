"""The falsifier finds planted violations, is seeded, and keeps its budget."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auditor.verify.falsify import Falsifier
from auditor.verify.problem import Problem, problems_of
from tests.models.relu_chains import distance_network, output_at_least, random_chain


def planted(inputs: int, slack: float) -> Problem:
    """The minimum 0 lies at 0.3 in every coordinate; only its surroundings violate."""
    network = distance_network([0.3] * inputs, 0.0)
    (problem,) = problems_of(
        network, output_at_least(network, [-1.0] * inputs, [1.0] * inputs, slack)
    )
    return problem


@pytest.mark.parametrize("inputs", [2, 30])
def test_a_planted_violation_is_found_and_is_one(inputs: int) -> None:
    problem = planted(inputs, 0.05 * inputs)
    falsifier = Falsifier(problem, seed=0)
    case, point = next(falsifier.descend(50_000, math.inf))
    assert case == 0
    assert (problem.lower <= point).all()
    assert (point <= problem.upper).all()
    assert problem.violation(point[None])[0, 0] <= 0


def test_corners_are_tried_first() -> None:
    network = distance_network([0.0, 0.0], 0.0)
    (problem,) = problems_of(network, output_at_least(network, [0.0] * 2, [1.0] * 2, 0.001))
    _, point = next(Falsifier(problem, seed=0).try_obvious_points())
    assert point.tolist() == [0.0, 0.0]


def test_nothing_is_claimed_where_nothing_violates() -> None:
    falsifier = Falsifier(planted(3, -0.01), seed=1)
    assert list(falsifier.try_obvious_points()) == []
    assert list(falsifier.descend(5_000, math.inf)) == []
    assert falsifier.evaluations >= 5_000


def test_equal_seeds_try_equal_points() -> None:
    first, second = (
        [point.tolist() for _, point in Falsifier(planted(4, 0.3), 9).descend(9_000, math.inf)]
        for _ in range(2)
    )
    assert first == second != []


def test_deepening_never_loses_depth() -> None:
    network = random_chain(2, (4, 10, 2))
    (problem,) = problems_of(network, output_at_least(network, [-1.0] * 4, [1.0] * 4, 5.0))
    point = np.array([0.1, -0.2, 0.3, 0.4])
    deeper = Falsifier(problem, 0).deepen(0, point)
    values = problem.violation(np.stack([point, deeper]))[:, 0]
    assert values[1] < values[0]
