"""Laws of rows over inputs and of patterns: engines agree with brute force over phases."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.findings import Verdict
from auditor.verify.engine_choice import Engine
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.outcome import Limits, Outcome
from auditor.verify.phases import phases_of
from auditor.verify.property import LayerStates, Pattern, Property, UnsafeCase, UnsafeRow
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics
from auditor.verify.smt import decide_with_z3
from tests.models.phase_enumeration import least_excess_by_phases
from tests.models.relu_chains import float32_runtime, random_chain

ENGINES: tuple[Engine, ...] = ("auto", "boxes", "relus", "z3")
GRAPH_ENGINES: tuple[Engine, ...] = ("auto", "z3")
LIMITS = Limits(time_s=30, max_boxes=3_000, falsifier_evaluations=3_000)
WIDTHS = st.sampled_from([(2, 3, 2), (2, 3, 3, 1), (3, 5, 1), (1, 3, 2, 1)])
CLEAR = 1e-2


def random_case(seed: int, network: Network, rows: int) -> UnsafeCase:
    """A box and rows over outputs and inputs together; the last row is over inputs alone."""
    random = np.random.default_rng(seed)
    count = network.num_inputs
    lower = random.uniform(-1.0, 0.0, count).round(3)
    upper = lower + random.uniform(0.1, 1.5, count).round(3)

    def row(number: int) -> UnsafeRow:
        over_outputs = random.standard_normal(network.num_outputs).round(2)
        if number == rows - 1 > 0:
            over_outputs = 0.0 * over_outputs
        return UnsafeRow(
            tuple(Fraction(str(value)) for value in over_outputs),
            Fraction(str(round(float(random.normal(0.0, 0.5)), 2))),
            bool(random.integers(2)),
            tuple(Fraction(str(value)) for value in random.standard_normal(count).round(2)),
        )

    low, high = (tuple(Fraction(str(value)) for value in end.round(3)) for end in (lower, upper))
    return UnsafeCase(low, high, tuple(row(number) for number in range(rows)))


def property_of(network: Network, case: UnsafeCase, pattern: Pattern | None = None) -> Property:
    sizes = network.num_inputs, network.num_outputs
    return Property("p", (case,), "", "", *sizes, (), pattern)


def random_pattern(seed: int, network: Network, case: UnsafeCase, *, real: bool) -> Pattern:
    """Some neurons' states: those of an input of the box, or any at all."""
    random = np.random.default_rng(seed)
    ends = (np.array([float(value) for value in end]) for end in (case.lower, case.upper))
    point = random.uniform(*ends)
    layers = []
    for number, layer in enumerate(network.relu_layers):
        values = network.preactivations(point[None])[layer.index][0]
        shown = values > 0 if real else random.random(layer.neurons) > 0.5
        chosen = np.flatnonzero(random.random(layer.neurons) < 0.6)
        layers.append(
            LayerStates(
                number,
                tuple(int(n) for n in chosen if shown[n]),
                tuple(int(n) for n in chosen if not shown[n]),
            )
        )
    return Pattern(tuple(layers))


def without_outputs(case: UnsafeCase) -> UnsafeCase:
    """The case with its conditions on inputs alone, or one that always holds by 1."""
    always = UnsafeRow((Fraction(0),) * len(case.rows[0].coefficients), Fraction(1))
    return replace(case, rows=case.precondition or (always,))


def check(network: Network, prop: Property) -> None:
    """No verdict contradicts brute force; the automatic choice decides what is clear."""
    (case,) = prop.cases
    asked = phases_of(prop.pattern, network)
    least = least_excess_by_phases(network, case, asked)
    meant = least_excess_by_phases(network, without_outputs(case), asked)
    runtime = float32_runtime(network)
    graph = GraphNetwork.from_chain(network)
    for engine in ENGINES:
        judge(verify(network, prop, limits=LIMITS, replay=runtime, engine=engine), least, meant)
    for engine in GRAPH_ENGINES:
        judge(verify(graph, prop, limits=LIMITS, replay=runtime, engine=engine), least, meant)
    decided = verify(network, prop, limits=LIMITS, replay=runtime)
    clear = least is not None and abs(least) > CLEAR and meant is not None and meant < -CLEAR
    if clear and "says nothing" not in decided.reason:
        assert decided.verdict is not Verdict.UNKNOWN, (least, decided.reason)


def judge(found: Outcome, least: float | None, meant: float | None) -> None:
    """One outcome against brute force; HiGHS's tolerance is far below 1e-5."""
    if meant is None or meant > 1e-5:
        assert found.verdict is Verdict.UNKNOWN, found.reason
    if least is not None and least < -1e-5:
        assert found.verdict is not Verdict.HOLDS, (least, found.reason)
        assert "says nothing" not in found.reason, (least, found.reason)
    if least is None or least > 1e-5:
        assert found.verdict is not Verdict.VIOLATED, (least, found.reason)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 100_000), WIDTHS, st.integers(1, 3))
def test_rows_over_inputs_are_decided_as_brute_force_says(
    seed: int, widths: tuple[int, ...], rows: int
) -> None:
    network = random_chain(seed, widths)
    case = random_case(seed, network, rows)
    check(network, property_of(network, case))


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 100_000), WIDTHS, st.booleans())
def test_patterns_are_decided_as_brute_force_says_and_empty_ones_never_pass(
    seed: int, widths: tuple[int, ...], real: bool
) -> None:
    network = random_chain(seed, widths)
    case = random_case(seed, network, 1)
    pattern = random_pattern(seed, network, case, real=real)
    check(network, property_of(network, case, pattern))


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 100_000), st.integers(1, 2))
def test_rows_over_inputs_hold_for_executions_only_if_they_hold_exactly(
    seed: int, rows: int
) -> None:
    """Float32 semantics is about a family that contains the real network, inputs exact."""
    network = random_chain(seed, (2, 4, 2))
    case = random_case(seed, network, rows)
    least = least_excess_by_phases(network, case)
    found = verify(
        network, property_of(network, case), limits=LIMITS, semantics=Semantics.FLOAT32,
        replay=float32_runtime(network),
    )  # fmt: skip
    if least is not None and least < -1e-3:
        assert found.verdict is not Verdict.HOLDS
    if least is not None and least > 1e-3:
        assert found.verdict is not Verdict.VIOLATED


@settings(deadline=None, max_examples=12)
@given(
    st.integers(0, 100_000), st.sampled_from([0.0, 3.0, 1e4, -1e7]), st.sampled_from([1e-4, 1.0]),
    st.sampled_from([-1e-9, -1e-12, 0.0, 1e-9]), st.booleans(),
)  # fmt: skip
def test_no_proof_contradicts_exact_arithmetic_near_a_tie(
    seed: int, offset: float, width: float, slack: float, with_pattern: bool
) -> None:
    """Far boxes and thin ones, bounds next to the least excess: rounding must not prove."""
    network = random_chain(seed, (2, 3, 2))
    case = random_case(seed, network, 1)
    lower = tuple(Fraction(offset) + Fraction(width) * value for value in case.lower)
    upper = tuple(Fraction(offset) + Fraction(width) * value for value in case.upper)
    case = replace(case, lower=lower, upper=upper)
    pattern = random_pattern(seed, network, case, real=True) if with_pattern else None
    asked = phases_of(pattern, network)
    least = least_excess_by_phases(network, case, asked)
    moved = Fraction(least or 0.0) + Fraction(slack) * (1 + abs(Fraction(least or 0.0)))
    row = replace(case.rows[0], bound=case.rows[0].bound + moved)
    case = replace(case, rows=(row,))
    exact = decide_with_z3(network, case, rlimit=5_000_000, phases=asked)
    graph = GraphNetwork.from_chain(network)
    subjects: tuple[tuple[Network | GraphNetwork, Engine], ...] = (
        (network, "boxes"), (network, "relus"), (graph, "relus"),
    )  # fmt: skip
    for subject, engine in subjects:
        found = verify(subject, property_of(network, case, pattern), limits=LIMITS, engine=engine)
        if exact.status == "sat":
            assert found.verdict is not Verdict.HOLDS, (engine, found.reason)
