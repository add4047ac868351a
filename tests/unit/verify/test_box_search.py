"""Input splitting on planted problems: leaves, limits, progress."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from auditor.verify.box_search import BoxSearch, fits_box_search
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import Problem, problems_of
from auditor.verify.property import Pattern
from tests.models.relu_chains import (
    chain,
    distance_network,
    output_above,
    output_at_least,
    random_chain,
)


def never(point: np.ndarray) -> bool:
    return False


def test_a_search_stopped_by_its_budget_continues_to_the_same_end() -> None:
    network = random_chain(8, (3, 16, 16, 1))
    values = network.evaluate(np.random.default_rng(0).uniform(-1, 1, (20_000, 3)))
    threshold = float(values.min()) - 0.05
    (problem,) = problems_of(network, output_at_least(network, [-1.0] * 3, [1.0] * 3, threshold))

    def boxes(*budgets: int) -> int:
        search, statistics = BoxSearch(problem), Statistics()
        ends = [
            search.run(Limits(), statistics, math.inf, budget, never, lambda share, text: None)
            for budget in budgets
        ]
        assert ends[-1].finished
        assert abs(sum(statistics.decided_share.values()) - 1.0) < 1e-12
        return statistics.boxes

    assert boxes(10**6) == boxes(3, 10**6) > 3


def test_a_tie_is_left_over_as_a_small_leaf_around_its_point() -> None:
    network = distance_network([0.25, -0.5], 1.0)
    (problem,) = problems_of(network, output_above(network, [-1.0] * 2, [1.0] * 2, 1.0))
    search = BoxSearch(problem)
    end = search.run(Limits(), Statistics(), math.inf, 10**6, never, lambda share, text: None)
    assert end.finished
    assert end.leaves
    assert any(
        (leaf.lower <= [0.25, -0.5]).all() and (leaf.upper >= [0.25, -0.5]).all()
        for leaf in end.leaves
    )
    assert all((leaf.upper - leaf.lower < 1e-3).all() for leaf in end.leaves)


def test_an_accepted_candidate_stops_the_search() -> None:
    network = distance_network([0.25, -0.5], 1.0)
    (problem,) = problems_of(network, output_at_least(network, [-1.0] * 2, [1.0] * 2, 1.2))
    offered: list[np.ndarray] = []

    def accept(point: np.ndarray) -> bool:
        offered.append(point)
        return True

    end = BoxSearch(problem).run(
        Limits(), Statistics(), math.inf, 10**6, accept, lambda share, text: None
    )
    assert end.stopped == "a witness was found"
    assert network.evaluate(offered[0][None])[0, 0] <= 1.2


def test_only_few_varying_inputs_are_searched_by_boxes() -> None:
    network = distance_network([0.0] * 30, 0.0)
    wide, fixed = (
        problems_of(network, output_at_least(network, [low] * 25 + [0.0] * 5, [0.0] * 30, -1))[0]
        for low in (-1.0, 0.0)
    )
    assert not fits_box_search(wide)
    assert fits_box_search(fixed)


def with_pattern(pattern: Pattern, threshold: float) -> Problem:
    network = random_chain(3, (2, 12, 12, 1))
    prop = output_at_least(network, [-1.0] * 2, [1.0] * 2, threshold)
    (problem,) = problems_of(network, replace(prop, pattern=pattern))
    return problem


def finished(problem: Problem) -> Statistics:
    search, statistics = BoxSearch(problem), Statistics()
    end = search.run(Limits(), statistics, math.inf, 10**6, never, lambda share, text: None)
    assert end.finished
    assert not end.leaves
    return statistics


def test_boxes_where_the_pattern_cannot_be_followed_are_refuted() -> None:
    """The least output over followers, sampled, is proved less a little; without it, not."""
    network = random_chain(3, (2, 12, 12, 1))
    points = np.random.default_rng(0).uniform(-1, 1, (50_000, 2))
    first, second, outputs = network.preactivations(points)
    anchor = int(outputs[:, 0].argmax())
    states: dict[int | str, tuple[list[int], list[int]]] = {}
    following = np.ones(len(points), dtype=bool)
    for number, (values, neurons) in enumerate(((first, [0, 5]), (second, [1, 7, 9]))):
        shown = values[anchor, neurons] > 0
        following &= ((values[:, neurons] > 0) == shown).all(axis=1)
        active = [n for n, on in zip(neurons, shown, strict=True) if on]
        states[number] = (active, [n for n in neurons if n not in active])
    threshold = float(outputs[following].min()) - 0.02
    assert threshold > float(outputs.min()) + 0.1
    statistics = finished(with_pattern(Pattern.of(states), threshold))
    assert statistics.boxes > 1


def test_a_pattern_that_contradicts_the_bounds_is_refuted_at_the_root() -> None:
    """Neither a neuron nor its negation less a constant is active anywhere."""
    network = chain(([[1.0], [-1.0]], [-3.0, -3.0], True), ([[1.0, 1.0]], [0.0], False))
    prop = replace(output_at_least(network, [-1.0], [1.0], 5.0), pattern=Pattern.of({0: ([0], [])}))
    (problem,) = problems_of(network, prop)
    assert finished(problem).boxes == 1


def test_phases_are_split_where_a_pattern_leaves_few_of_them_free() -> None:
    most = Pattern.of({0: (list(range(12)), []), 1: (list(range(6)), [])})
    few = Pattern.of({0: ([0], [])})
    assert not fits_box_search(with_pattern(most, 0.0))
    assert fits_box_search(with_pattern(few, 0.0))
