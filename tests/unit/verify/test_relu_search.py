"""ReLU splitting on planted problems that bounds alone do not decide."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from auditor.verify import shared_tree
from auditor.verify.leaf_duals import bound_leaf
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import problems_of
from auditor.verify.property import Pattern, UnsafeRow
from auditor.verify.relu_search import ReluSearch
from tests.models.phase_enumeration import minimum_by_phases
from tests.models.relu_chains import chain, output_at_least, property_of, random_chain


def test_splitting_refutes_what_the_root_bound_does_not() -> None:
    network = random_chain(11, (4, 5, 3, 1))
    lower, upper = [-1.0] * 4, [1.0] * 4
    (problem,) = problems_of(network, output_at_least(network, lower, upper, 0))
    minimum = minimum_by_phases(network, problem.lower, problem.upper)
    prop = output_at_least(network, lower, upper, minimum - 1e-3)
    (problem,) = problems_of(network, prop)
    search, statistics = ReluSearch(problem, 1.0), Statistics()
    assert not search.bound_roots(statistics, math.inf)
    stopped = search.run(Limits(), math.inf, lambda point: False, lambda share, text: None)
    assert stopped == ""
    assert statistics.splits > 0
    assert abs(sum(statistics.decided_share.values()) - 1.0) < 1e-12


def test_multipliers_of_a_pattern_prove_it_empty() -> None:
    """x + y >= 1 and x + y <= -1 cannot be; neither neuron's own bounds show it."""
    network = chain(([[1.0, 1.0], [-1.0, -1.0]], [-1.0, -1.0], True), ([[1.0, 1.0]], [0.0], False))
    always = UnsafeRow((Fraction(0),), Fraction(0))
    prop = property_of(network, [-2.0] * 2, [2.0] * 2, [(always,)])
    (problem,) = problems_of(network, replace(prop, pattern=Pattern.of({0: ([0, 1], [])})))
    assert ReluSearch(problem, 1.0).bound_roots(Statistics(), math.inf)


def test_hidden_bounds_use_the_pattern() -> None:
    """Where z = x - 1 is active, x >= 1: the second layer's x - 3 is then at least -2."""
    network = chain(
        ([[1.0]], [-1.0], True), ([[1.0], [-1.0]], [-2.0, 0.5], True), ([[1.0, 1.0]], [0.0], False)
    )
    prop = output_at_least(network, [-4.0], [4.0], 0.0)
    (problem,) = problems_of(network, replace(prop, pattern=Pattern.of({0: ([0], [])})))
    search = ReluSearch(problem, 1.0)
    search.bound_roots(Statistics(), math.inf)
    (low, high) = search.bounds[0]
    assert (float(low[0, 0]), float(high[0, 0])) == pytest.approx((0.0, 3.0))
    assert float(search.bounds[1][0][0, 0]) >= -2.01
    assert float(search.bounds[1][1][0, 1]) <= 0.51


def test_no_leaf_is_looked_at_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps beyond the deadline at the first leaf; the others stay open."""
    network = random_chain(16, (4, 5, 3, 1))
    lower, upper = [-1.0] * 4, [1.0] * 4
    (problem,) = problems_of(network, output_at_least(network, lower, upper, 0))
    minimum = minimum_by_phases(network, problem.lower, problem.upper)
    prop = output_at_least(network, lower, upper, minimum - 1e-9)
    leaves: list[float] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        leaves.append(clock())
        return bound_leaf(*arguments, **options)

    def clock() -> float:
        return 100.0 if leaves and jumps else 0.0

    monkeypatch.setattr(shared_tree, "bound_leaf", counted)
    monkeypatch.setattr("time.monotonic", clock)
    found = {}
    for jumps in (False, True):
        leaves.clear()
        (problem,) = problems_of(network, prop)
        search = ReluSearch(problem, 1.0)
        search.bound_roots(Statistics(), 10.0)
        stopped = search.run(Limits(), 10.0, lambda point: False, lambda share, text: None)
        found[jumps] = len(leaves), stopped
    assert found[False][0] > 100
    assert found[False][1] == ""
    assert found[True][0] == 1
    assert found[True][1] != ""
