"""The falsifier finds planted violations, is seeded, and keeps its budget."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from auditor.verify.falsify import Falsifier
from auditor.verify.network import GraphNetwork
from auditor.verify.problem import Problem, problems_of
from auditor.verify.property import Pattern, UnsafeRow
from tests.models.relu_chains import (
    distance_network,
    output_at_least,
    property_of,
    random_chain,
)


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


@pytest.mark.parametrize("graph", [False, True])
def test_gradients_outside_of_a_pattern_are_those_of_the_distance(graph: bool) -> None:
    """Finite differences of `violation` at points that miss the pattern and points that do not."""
    chain = random_chain(5, (3, 6, 5, 2))
    network = GraphNetwork.from_chain(chain) if graph else chain
    row = UnsafeRow((Fraction(1), Fraction(-1)), Fraction(0), False, (Fraction(2),) * 3)
    prop = property_of(chain, [-1.0] * 3, [1.0] * 3, [(row,)])
    pattern = Pattern.of({0: ([0, 2], [1]), 1: ([3], [0])})
    (problem,) = problems_of(network, replace(prop, pattern=pattern))
    points = np.random.default_rng(0).uniform(-1, 1, (40, 3))
    cases = np.zeros(40, dtype=np.int64)
    values, gradients = Falsifier(problem, 0)._value_and_gradient(points, cases)
    np.testing.assert_allclose(values, problem.violation(points)[:, 0])
    steps = 1e-7 * np.eye(3)
    slopes = [problem.violation(points + s)[:, 0] - problem.violation(points - s)[:, 0]
              for s in steps]  # fmt: skip
    # Kinks are where a difference is wrong; hardly any point lies on one.
    close = np.isclose(np.array(slopes).T / 2e-7, gradients, atol=1e-5).all(axis=1)
    assert close.sum() >= 39


def test_followers_of_a_pattern_are_found_by_descending_into_it() -> None:
    network = random_chain(1, (6, 20, 1))
    rng = np.random.default_rng(3)
    shown = network.preactivations(rng.uniform(-1, 1, (1, 6)))[0][0] > 0
    active = [int(n) for n in np.flatnonzero(shown[:8])]
    pattern = Pattern.of({0: (active, [n for n in range(8) if n not in active])})
    prop = output_at_least(network, [-1.0] * 6, [1.0] * 6, 100.0)
    (problem,) = problems_of(network, replace(prop, pattern=pattern))
    _, point = next(Falsifier(problem, 0).descend(50_000, math.inf))
    assert (problem.missed(network.preactivations(point[None])) == 0).all()
