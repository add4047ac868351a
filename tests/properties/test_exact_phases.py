"""Law: verdicts are those of an exact brute force over all ReLU phases."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.findings import Verdict
from auditor.verify.engine_choice import Engine
from auditor.verify.search import Limits, verify
from tests.models.exact_phases import exact_minimum
from tests.models.phase_enumeration import minimum_by_phases
from tests.models.relu_chains import (
    distance_network,
    float32_runtime,
    output_at_least,
    random_chain,
)

LIMITS = Limits(time_s=120, max_boxes=5_000, falsifier_evaluations=5_000)
ENGINES: tuple[Engine, ...] = ("auto", "boxes", "relus", "z3")
BOX = [Fraction(-1)], [Fraction(1)]
# At most ten ReLUs each.
SHAPES = [(1, 5, 4, 1), (2, 6, 4, 1), (2, 3, 3, 3, 1), (3, 7, 1), (4, 5, 2)]


def test_the_brute_force_finds_a_planted_minimum() -> None:
    network = distance_network([0.25, -0.5], 1.5)
    assert exact_minimum(network, BOX[0] * 2, BOX[1] * 2) == Fraction(3, 2)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 100_000), st.sampled_from(SHAPES))
def test_two_brute_forces_agree(seed: int, widths: tuple[int, ...]) -> None:
    """Rational linear programs against floating-point ones: neither knows the other."""
    network = random_chain(seed, widths)
    count = network.num_inputs
    exact = exact_minimum(network, BOX[0] * count, BOX[1] * count)
    assert abs(float(exact) - minimum_by_phases(network, -np.ones(count), np.ones(count))) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 100_000),
    widths=st.sampled_from(SHAPES),
    margin=st.sampled_from([Fraction(1, 10), Fraction(1, 1000), Fraction(1, 2**40), Fraction(0)]),
)
def test_verdicts_on_both_sides_of_the_exact_minimum_are_right(
    engine: Engine, seed: int, widths: tuple[int, ...], margin: Fraction
) -> None:
    """`y0 >= minimum - margin` is true, `y0 >= minimum + margin` false for a margin above 0.

    With a margin that float32 can show, the falsehood is found; with one that search can
    close, the truth is proved.
    """
    network = random_chain(seed, widths)
    count = network.num_inputs
    minimum = exact_minimum(network, BOX[0] * count, BOX[1] * count)
    ends = [-1.0] * count, [1.0] * count
    runtime = float32_runtime(network)
    true, false = (
        verify(
            network, output_at_least(network, *ends, minimum + shift), limits=LIMITS,
            replay=runtime, engine=engine,
        )
        for shift in (-margin, margin)
    )  # fmt: skip
    assert true.verdict is not Verdict.VIOLATED, true.reason
    if margin:
        assert false.verdict is not Verdict.HOLDS, false.reason
    if margin >= Fraction(1, 1000):
        assert true.verdict is Verdict.HOLDS, true.reason
        assert false.verdict is Verdict.VIOLATED, false.reason
