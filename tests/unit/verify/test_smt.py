"""Z3 decides planted queries exactly, including ties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from auditor.verify.property import UnsafeRow
from auditor.verify.smt import decide_with_z3, rows_are_contradictory
from tests.models.relu_chains import (
    absorbing_network,
    distance_network,
    output_above,
    output_at_least,
    random_chain,
)

NETWORK = distance_network([0.25, -0.5], 1.0)
BOX = [-1.0, -1.0], [1.0, 1.0]


def test_a_tie_is_sat_when_closed_and_unsat_when_strict() -> None:
    closed = decide_with_z3(NETWORK, output_above(NETWORK, *BOX, 1.0).cases[0], rlimit=10**6)
    strict = decide_with_z3(NETWORK, output_at_least(NETWORK, *BOX, 1.0).cases[0], rlimit=10**6)
    assert closed.point == (Fraction(1, 4), Fraction(-1, 2))
    assert strict.status == "unsat"


def test_what_floats_absorb_is_decided_exactly() -> None:
    network = absorbing_network()
    prop = output_at_least(network, [0.0], [1.0], Fraction(-1, 2))
    assert decide_with_z3(network, prop.cases[0], rlimit=10**6).status == "unsat"
    prop = output_above(network, [0.0], [1.0], Fraction(-1, 2))
    assert decide_with_z3(network, prop.cases[0], rlimit=10**6).point == (Fraction(1),)


def test_a_sub_box_and_proved_bounds_narrow_the_query() -> None:
    case = output_at_least(NETWORK, *BOX, 1.5).cases[0]
    bounds = [
        (np.array([-0.5, -0.5, -np.inf, -np.inf]), np.array([0.75, 0.5, np.inf, np.inf])),
        (np.array([-np.inf]), np.array([np.inf])),
    ]
    far = decide_with_z3(
        NETWORK, case, rlimit=10**6,
        lower=[Fraction(1, 2), Fraction(-1, 2)], upper=[Fraction(1), Fraction(0)],
        neuron_bounds=bounds,
    )  # fmt: skip
    assert (far.status, far.unstable) == ("sat", 0)
    assert far.point is not None
    assert case.violated_by(NETWORK.evaluate_exact(far.point))
    farther = decide_with_z3(
        NETWORK, case, rlimit=10**6,
        lower=[Fraction(9, 10), Fraction(-1, 2)], upper=[Fraction(1), Fraction(0)],
    )  # fmt: skip
    assert farther.status == "unsat"


def test_an_exhausted_limit_is_unknown_with_its_reason() -> None:
    network = random_chain(0, (3, 20, 20, 1))
    value = float(network.evaluate(np.zeros((1, 3)))[0, 0]) - 1.0
    prop = output_at_least(network, [-1.0] * 3, [1.0] * 3, value)
    answer = decide_with_z3(network, prop.cases[0], rlimit=1000)
    assert answer.status == "unknown"
    assert "resource" in answer.reason
    assert answer.unstable > 0


def test_equal_queries_use_equal_resources() -> None:
    case = output_at_least(NETWORK, *BOX, 0.9).cases[0]
    first, second = (decide_with_z3(NETWORK, case, rlimit=10**6) for _ in range(2))
    assert first == second
    assert first.rlimit > 0


def test_contradictory_rows_are_recognised_without_a_network() -> None:
    below, above = (UnsafeRow((Fraction(s),), Fraction(b)) for s, b in ((1, 0), (-1, -1)))
    assert rows_are_contradictory([below, above])
    assert not rows_are_contradictory([below])
