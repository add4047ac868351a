"""Z3 decides planted queries exactly, including ties."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from auditor.findings import Verdict
from auditor.verify.network import GraphLayer, GraphNetwork, Term
from auditor.verify.network.graph import INPUT
from auditor.verify.network.linear_map import DenseMap, GatherMap
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.search import verify
from auditor.verify.smt import decide_with_z3, rows_are_contradictory, why_not_z3
from tests.models.relu_chains import (
    absorbing_network,
    distance_network,
    output_above,
    output_at_least,
    random_chain,
)

NETWORK = distance_network([0.25, -0.5], 1.0)
ONE = Fraction(1)
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


def residual_graph() -> GraphNetwork:
    """y = x0 - relu(x0 + x1) on a graph that reads its input twice."""
    both = GraphLayer((Term(INPUT, DenseMap(np.array([[1.0, 1.0]]))),), np.zeros(1), True)
    parts = (
        Term(INPUT, GatherMap(np.array([0]), 2)),
        Term(0, GatherMap(np.array([0]), 1, np.array([-1.0]))),
    )
    return GraphNetwork((both, GraphLayer(parts, np.zeros(1))), 2)


def case_of(*rows: UnsafeRow) -> UnsafeCase:
    return UnsafeCase((Fraction(-1),) * 2, (Fraction(1),) * 2, rows)


def test_a_graph_is_decided_exactly_at_its_minimum() -> None:
    """The least value is -1: at x0 = -1 with x1 <= 1, and at x1 = 1 with x0 >= -1."""
    network = residual_graph()
    closed = decide_with_z3(network, case_of(UnsafeRow((ONE,), -ONE)), rlimit=10**6)
    strict = decide_with_z3(network, case_of(UnsafeRow((ONE,), -ONE, True)), rlimit=10**6)
    assert closed.status == "sat"
    assert strict.status == "unsat"


def test_rows_over_inputs_and_phases_enter_the_query() -> None:
    """y = -x1 where the neuron is active, so y <= -x1 - 1/10 is met only where it is not."""
    network = residual_graph()
    below = case_of(UnsafeRow((ONE,), Fraction(-1, 10), False, (Fraction(0), ONE)))
    for phase, status in ((1, "unsat"), (-1, "sat"), (0, "sat")):
        phases = (np.array([phase], dtype=np.int8), np.zeros(0, dtype=np.int8))
        answer = decide_with_z3(network, below, rlimit=10**6, phases=phases)
        assert answer.status == status
        assert answer.unstable == (phase == 0)


def test_what_z3_cannot_encode_exactly_is_named() -> None:
    network = residual_graph()
    assert why_not_z3(network) == ""
    assert "kept rounded" in why_not_z3(replace(network, rounded=True))
    wide = GraphLayer((Term(INPUT, DenseMap(np.ones((2000, 2000)))),), np.zeros(2000))
    assert "too large" in why_not_z3(GraphNetwork((wide,), 2000))


def test_a_model_with_rounded_numbers_is_unknown_to_z3() -> None:
    network = replace(residual_graph(), rounded=True)
    prop = Property("p", (case_of(UnsafeRow((ONE,), Fraction(-2))),), "", "", 2, 1)
    found = verify(network, prop, engine="z3")
    assert found.verdict is Verdict.UNKNOWN
    assert "kept rounded" in found.reason


def test_contradictions_may_need_the_box() -> None:
    row = UnsafeRow((ONE,), Fraction(0), False, (-ONE,))
    high = UnsafeRow((-ONE,), Fraction(-2))
    zero, one, three = ((Fraction(value),) for value in (0, 1, 3))
    assert rows_are_contradictory([row, high], zero, one)
    assert rows_are_contradictory([row, high], zero, three) is False
