"""Law: engines never contradict each other, nor the enumeration of all ReLU phases."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.findings import Verdict
from auditor.verify.engine_choice import Engine
from auditor.verify.network.chain import Float64
from auditor.verify.property import UnsafeRow
from auditor.verify.search import Limits, verify
from auditor.verify.smt import decide_with_z3
from tests.models.phase_enumeration import minimum_by_phases
from tests.models.relu_chains import (
    float32_runtime,
    output_at_least,
    property_of,
    random_chain,
)

ENGINES: tuple[Engine, ...] = ("boxes", "relus", "z3")
LIMITS = Limits(time_s=120, max_boxes=5_000, falsifier_evaluations=5_000)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 100_000),
    st.sampled_from([(1, 4, 4, 1), (2, 6, 1), (2, 3, 4, 2), (3, 4, 2)]),
    st.sampled_from([-0.1, -1e-4, 1e-4, 0.1]),
)
def test_every_engine_agrees_with_the_enumerated_minimum(
    seed: int, widths: tuple[int, ...], slack: float
) -> None:
    """`y0 >= minimum + slack` holds exactly for negative slack."""
    network = random_chain(seed, widths)
    lower, upper = -np.ones(network.num_inputs), np.ones(network.num_inputs)
    minimum = minimum_by_phases(network, lower, upper)
    prop = output_at_least(network, lower.tolist(), upper.tolist(), minimum + slack)
    wrong = Verdict.VIOLATED if slack < 0 else Verdict.HOLDS
    for engine in ENGINES:
        outcome = verify(
            network, prop, limits=LIMITS, replay=float32_runtime(network), engine=engine
        )
        assert outcome.verdict is not wrong, (engine, outcome.reason)
        if engine != "relus" and abs(slack) > 0.01:
            assert outcome.verdict is not Verdict.UNKNOWN, (engine, outcome.reason)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 100_000), st.floats(-1.5, 1.5))
def test_z3_and_the_phases_agree_on_satisfiability(seed: int, threshold: float) -> None:
    network = random_chain(seed, (2, 4, 3, 1))
    lower, upper = -np.ones(2), np.ones(2)
    minimum = minimum_by_phases(network, lower, upper)
    prop = output_at_least(network, lower.tolist(), upper.tolist(), threshold)
    answer = decide_with_z3(network, prop.cases[0], rlimit=5_000_000)
    if abs(minimum - threshold) > 1e-6:
        assert answer.status == ("sat" if minimum < threshold else "unsat")
    if answer.point is not None:
        assert prop.cases[0].violated_by(network.evaluate_exact(answer.point))
        assert prop.cases[0].contains(answer.point)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 100_000),
    st.sampled_from([(1, 4, 4, 2), (2, 6, 2), (2, 3, 4, 3), (3, 5, 2)]),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_z3_and_the_search_never_contradict_each_other(
    seed: int, widths: tuple[int, ...], cases: int, rows: int
) -> None:
    """Random conjunctions, several of them, with rows near what the outputs reach."""
    network, random = random_chain(seed, widths), np.random.default_rng(seed)
    count = network.num_inputs
    outputs = network.evaluate(random.uniform(-1, 1, (500, count)))
    unsafe = [
        tuple(_row_near(outputs, random, strict=bool(random.integers(2))) for _ in range(rows))
        for _ in range(cases)
    ]
    prop = property_of(network, [-1.0] * count, [1.0] * count, unsafe)
    runtime = float32_runtime(network)
    whole, *others = (
        verify(network, prop, limits=LIMITS, replay=runtime, engine=engine)
        for engine in ("z3", "auto", "boxes", "relus")
    )
    for other in others:
        assert {whole.verdict, other.verdict} != {Verdict.HOLDS, Verdict.VIOLATED}
    if whole.verdict is Verdict.UNKNOWN:  # Z3 decides what is not empty, but for ties in float32
        assert whole.witness is not None or "contradicts itself" in whole.reason


def _row_near(outputs: Float64, random: np.random.Generator, *, strict: bool) -> UnsafeRow:
    """A row whose unsafe half-space a few of the outputs reach, or just not."""
    coefficients = np.asarray(random.integers(-2, 3, outputs.shape[1]), dtype=np.float64)
    values = outputs @ coefficients
    bound = float(np.quantile(values, float(random.choice([0.0, 0.02, 0.3]))))
    moved = bound + float(random.choice([-0.05, 0.0, 0.01]))
    return UnsafeRow(tuple(Fraction(value) for value in coefficients), Fraction(moved), strict)
