"""Whether a pattern is followed at all: planted examples and emptiness."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.errors import ConfigurationError
from auditor.findings import Verdict
from auditor.verify.engine_choice import Engine
from auditor.verify.followers import has_known_follower
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.outcome import Limits
from auditor.verify.property import Pattern, Property, UnsafeCase, UnsafeRow, nobody_follows
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics
from tests.models.relu_chains import chain, float32_runtime

# z = (x0 + x1 - 1, -x0 - x1 - 1): both cannot be active; y = relu(z0) - relu(z1).
NETWORK = chain(([[1.0, 1.0], [-1.0, -1.0]], [-1.0, -1.0], True), ([[1.0, -1.0]], [0.0], False))
GRAPH = GraphNetwork.from_chain(NETWORK)
ENGINES: tuple[Engine, ...] = ("auto", "relus", "z3")
BELOW = UnsafeRow((Fraction(1),), Fraction(-1, 10))
ENDS = (Fraction(-1),) * 2, (Fraction(1),) * 2


def prop(pattern: Pattern, *rows: UnsafeRow, bound: Fraction | None = None) -> Property:
    """y >= -1/10 on [-1, 1]^2 for inputs that follow the pattern, or another bound."""
    low = BELOW if bound is None else UnsafeRow((Fraction(1),), bound)
    case = UnsafeCase(*ENDS, (*rows, low))
    return Property("p", (case,), "", "", 2, 1, (), pattern)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [NETWORK, GRAPH])
def test_an_impossible_pattern_says_nothing(
    engine: Engine, network: Network | GraphNetwork
) -> None:
    found = verify(network, prop(Pattern.of({0: ([0, 1], [])})), engine=engine)
    assert found.verdict is Verdict.UNKNOWN
    assert "no input of the set follows the pattern" in found.reason


@pytest.mark.parametrize("engine", [*ENGINES, "boxes"])
def test_a_pattern_restricts_what_must_hold(engine: Engine) -> None:
    """Without the pattern y reaches -1; where z1 is inactive y is at least 0."""
    found = verify(NETWORK, prop(Pattern.of({0: ([], [1])})), engine=engine)
    assert found.verdict is Verdict.HOLDS, found.reason
    assert "some input follows the pattern" in found.reason


@pytest.mark.parametrize("engine", ENGINES)
def test_a_witness_follows_the_pattern(engine: Engine) -> None:
    pattern = Pattern.of({0: ([1], [])})
    found = verify(NETWORK, prop(pattern), engine=engine, replay=float32_runtime(NETWORK))
    assert found.verdict is Verdict.VIOLATED
    assert found.witness is not None
    assert float(found.witness.inputs.sum()) <= -1.0


def test_a_pattern_met_only_on_its_border_is_met() -> None:
    """z0 = 0 and z0 inactive-and-active in turn meet at x0 + x1 = 1: closed on both sides."""
    network = chain(([[1.0], [-1.0]], [-1.0, 1.0], True), ([[1.0, 1.0]], [0.0], False))
    case = UnsafeCase((Fraction(0),), (Fraction(2),), (UnsafeRow((Fraction(1),), Fraction(-1)),))
    both = Property("p", (case,), "", "", 1, 1, (), Pattern.of({0: ([0, 1], [])}))
    found = verify(network, both, engine="z3")
    assert found.verdict is Verdict.HOLDS, found.reason


def test_an_example_is_believed_only_if_it_follows() -> None:
    for example, follows in (([0.5, 0.5], True), ([0.0, 0.0], False), ([9.0, 9.0], False)):
        pattern = Pattern.of({0: ([0], [])}, example=example)
        assert has_known_follower(NETWORK, prop(pattern)) is follows
    below = UnsafeRow((Fraction(0),), Fraction(0), False, (Fraction(1), Fraction(0)))
    pattern = Pattern.of({0: ([0], [])}, example=[0.5, 0.5])
    assert not has_known_follower(NETWORK, prop(pattern, below))
    inside = Pattern.of({0: ([0], [])}, example=[0.75, 0.5])
    assert has_known_follower(GRAPH, prop(inside))


def test_the_question_keeps_conditions_on_inputs_and_the_pattern() -> None:
    below = UnsafeRow((Fraction(0),), Fraction(0), False, (Fraction(1), Fraction(0)))
    pattern = Pattern.of({0: ([0], [])})
    (case,) = nobody_follows(prop(pattern, below)).cases
    assert case.rows == (below,)
    (case,) = nobody_follows(prop(pattern)).cases
    assert case.rows == (UnsafeRow((Fraction(0),), Fraction(0)),)


def test_what_is_not_settled_is_no_pass_and_an_example_settles_it() -> None:
    """Without any budget no follower is found; the bounds alone refute the violation."""
    limits = Limits(falsifier_evaluations=0, max_boxes=1, z3_queries=0)
    states: dict[int | str, tuple[list[int], list[int]]] = {0: ([], [1])}
    open_one = verify(NETWORK, prop(Pattern.of(states)), engine="relus", limits=limits)
    assert open_one.verdict is Verdict.UNKNOWN
    assert "was not settled; give the pattern an example" in open_one.reason
    settled = Pattern.of(states, example=[0.0, 0.0])
    assert verify(NETWORK, prop(settled), engine="relus", limits=limits).verdict is Verdict.HOLDS


def test_float32_semantics_refuses_a_pattern() -> None:
    found = verify(NETWORK, prop(Pattern.of({0: ([0], [])})), semantics=Semantics.FLOAT32)
    assert found.verdict is Verdict.UNKNOWN
    assert "use semantics real" in found.reason


def test_a_pattern_of_another_network_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="neuron 7 does not exist"):
        verify(NETWORK, prop(Pattern.of({0: ([7], [])})))


def test_violations_outside_of_the_pattern_are_measured_by_what_it_misses() -> None:
    from auditor.verify.problem import problems_of

    (problem,) = problems_of(NETWORK, prop(Pattern.of({0: ([1], [])})))
    # At the origin z1 = -1 misses its phase by 1, and y = 0 exceeds -1/10 by 1/10.
    assert problem.violation(np.zeros((1, 2)))[0, 0] == pytest.approx(1.1)
    assert problem.violation(np.full((1, 2), -1.0))[0, 0] == pytest.approx(-0.9)
