"""Whole verifications of networks whose answer is known by construction."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from auditor.errors import PropertyMismatch
from auditor.findings import Verdict
from auditor.verify.network import Network, network_from_onnx
from auditor.verify.property import UnsafeRow, load_property, robustness_property
from auditor.verify.search import Limits, verify
from tests.models.relu_chains import (
    absorbing_network,
    chain,
    disguised_absorbing_network,
    distance_network,
    float32_runtime,
    output_above,
    output_at_least,
    property_of,
    random_chain,
)

ACASXU = Path(__file__).parents[3] / "../shared/data/vnncomp/acasxu"
ENGINES = ("boxes", "relus", "z3")
BOX = [-1.0, -1.0], [1.0, 1.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bound_below_the_planted_minimum_holds(engine: str) -> None:
    network = distance_network([0.25, -0.5], 1.0)
    prop = output_at_least(network, *BOX, 0.99)
    outcome = verify(network, prop, engine=engine)  # type: ignore[arg-type]
    assert outcome.verdict is Verdict.HOLDS, outcome.reason


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bound_above_the_planted_minimum_is_violated_with_a_replayed_witness(
    engine: str,
) -> None:
    network = distance_network([0.25, -0.5], 1.0)
    prop = output_at_least(network, *BOX, 1.01)
    runtime = float32_runtime(network)
    outcome = verify(network, prop, engine=engine, replay=runtime)  # type: ignore[arg-type]
    assert outcome.verdict is Verdict.VIOLATED
    assert outcome.witness is not None
    assert outcome.witness.confirmed
    assert float(runtime(outcome.witness.inputs)[0]) < 1.01


@pytest.mark.parametrize("engine", ["auto", "z3"])
def test_a_tie_at_the_minimum_satisfies_at_least(engine: str) -> None:
    network = distance_network([0.25, -0.5], 1.0)
    outcome = verify(network, output_at_least(network, *BOX, 1.0), engine=engine)  # type: ignore[arg-type]
    assert outcome.verdict is Verdict.HOLDS, outcome.reason


@pytest.mark.parametrize("engine", ["auto", "relus", "z3"])
def test_a_tie_at_the_minimum_violates_strictly_above(engine: str) -> None:
    network = distance_network([0.25, -0.5], 1.0)
    runtime = float32_runtime(network)
    prop = output_above(network, *BOX, 1.0)
    outcome = verify(network, prop, engine=engine, replay=runtime)  # type: ignore[arg-type]
    assert outcome.verdict is not Verdict.HOLDS


def test_a_tie_that_only_exact_search_finds_is_a_witness() -> None:
    """The tie is at one point, a float32, which the leaf query of Z3 returns."""
    network = distance_network([0.25, -0.5], 1.0)
    outcome = verify(network, output_above(network, *BOX, 1.0), replay=float32_runtime(network))
    assert outcome.verdict is Verdict.VIOLATED
    assert outcome.witness is not None
    assert outcome.witness.inputs.tolist() == [0.25, -0.5]


def test_without_a_runtime_a_counterexample_is_only_attached() -> None:
    network = distance_network([0.0, 0.0], 0.0)
    outcome = verify(network, output_at_least(network, *BOX, 0.5))
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.witness is not None
    assert outcome.witness.exact_violates
    assert "no runtime replayed it" in outcome.reason


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "network", [absorbing_network(), disguised_absorbing_network(27)], ids=["plain", "disguised"]
)
def test_networks_that_fool_naive_floats_are_never_wrongly_proved(
    network: Network, engine: str
) -> None:
    """The real minimum is -1/2 and the maximum 1/2; floats say 1/2 everywhere, or less."""
    runtime = float32_runtime(network)
    limits = Limits(time_s=20, max_boxes=20_000)
    for prop in (
        output_at_least(network, [0.0], [1.0], 0),
        property_of(network, [0.0], [1.0], [(UnsafeRow((Fraction(-1),), Fraction(-1, 4), True),)]),
    ):
        outcome = verify(network, prop, replay=runtime, limits=limits, engine=engine)  # type: ignore[arg-type]
        assert outcome.verdict is not Verdict.HOLDS


def test_naive_floats_are_indeed_fooled() -> None:
    """Control for the test above: plain float64 evaluation sees no violation."""
    for network in (absorbing_network(), disguised_absorbing_network(27)):
        outputs = network.evaluate(np.linspace(0, 1, 101)[:, None])
        assert (outputs >= 0.5).all()
        assert network.evaluate_exact([Fraction(1)]) == (Fraction(-1, 2),)


def test_an_exact_witness_that_does_not_replay_gives_unknown() -> None:
    network = absorbing_network()
    prop = output_at_least(network, [0.0], [1.0], 0)
    outcome = verify(network, prop, engine="z3", replay=float32_runtime(network))
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.witness is not None
    assert "exact arithmetic but not as executed" in outcome.reason


@pytest.mark.parametrize(("slack", "holds"), [(-1, True), (1, False)])
def test_margins_of_one_last_digit_are_decided_rightly(slack: int, holds: bool) -> None:
    """Ten copies of float32(0.1): the sum is exact, floats round it."""
    tenth = float(np.float32(0.1))
    network = chain(([[tenth]] * 10, [0.0] * 10, True), ([[1.0] * 10], [-1.0], False))
    exact = 10 * Fraction(tenth) - 1
    value = exact + Fraction(slack, 2**80)
    outcome = verify(network, output_at_least(network, [1.0], [1.0], value))
    assert (outcome.verdict is Verdict.HOLDS) is holds, outcome.reason


def test_a_conjunction_is_refuted_by_a_mixture_of_rows() -> None:
    """y = (x, -x): neither row alone is refuted on [-1, 1], their sum is."""
    network = chain(([[1.0], [-1.0]], [0.0, 0.0], False))
    rows = (
        UnsafeRow((Fraction(1), Fraction(0)), Fraction(-1, 10)),
        UnsafeRow((Fraction(0), Fraction(1)), Fraction(-1, 10)),
    )
    outcome = verify(network, property_of(network, [-1.0], [1.0], [rows]), engine="boxes")
    assert outcome.verdict is Verdict.HOLDS


def test_a_disjunction_needs_every_case_refuted() -> None:
    network = chain(([[1.0], [-1.0]], [0.0, 0.0], False))
    cases = [
        (UnsafeRow((Fraction(1), Fraction(0)), Fraction(-2)),),
        (UnsafeRow((Fraction(0), Fraction(1)), Fraction(-1, 2)),),
    ]
    outcome = verify(
        network, property_of(network, [-1.0], [1.0], cases), replay=float32_runtime(network)
    )
    assert outcome.verdict is Verdict.VIOLATED


def test_an_empty_input_set_is_not_a_pass() -> None:
    network = distance_network([0.0], 0.0)
    outcome = verify(network, output_at_least(network, [1.0], [0.0], -5))
    assert outcome.verdict is Verdict.UNKNOWN
    assert "empty" in outcome.reason


def test_a_violation_that_contradicts_itself_is_not_a_pass() -> None:
    network = distance_network([0.0], 0.0)
    rows = (UnsafeRow((Fraction(1),), Fraction(0)), UnsafeRow((Fraction(-1),), Fraction(-1)))
    outcome = verify(network, property_of(network, [0.0], [1.0], [rows]))
    assert outcome.verdict is Verdict.UNKNOWN
    assert "contradicts itself" in outcome.reason


def test_a_box_without_float32_numbers_says_so() -> None:
    third = Fraction(1, 3)
    prop = robustness_property([third], 0, 0, 2)
    two = chain(([[1.0], [1.0]], [0.0, 0.0], False))
    outcome = verify(two, prop, replay=float32_runtime(two))
    assert outcome.verdict is Verdict.VIOLATED
    assert "no float32 number at input 0: replayed at the nearest" in outcome.reason


def test_equal_runs_give_equal_statistics() -> None:
    network = random_chain(3, (3, 12, 12, 2))
    prop = output_at_least(network, [-1.0] * 3, [1.0] * 3, -0.9)
    first, second = (verify(network, prop, seed=7) for _ in range(2))
    assert first.verdict == second.verdict
    first.statistics.seconds = second.statistics.seconds = {}
    assert first.statistics == second.statistics


@pytest.mark.parametrize("engine", ["boxes", "relus"])
def test_a_limit_of_boxes_gives_unknown_with_progress(engine: str) -> None:
    network = random_chain(5, (6, 40, 40, 40, 2))
    prop = output_at_least(network, [-2.0] * 6, [2.0] * 6, -60)
    tight = verify(network, prop, limits=Limits(falsifier_evaluations=0), engine=engine)  # type: ignore[arg-type]
    assert tight.verdict is Verdict.HOLDS
    minimum = float(network.evaluate(np.random.default_rng(0).uniform(-2, 2, (50_000, 6))).min())
    hard = output_at_least(network, [-2.0] * 6, [2.0] * 6, minimum - 0.3)
    limits = Limits(max_boxes=3, falsifier_evaluations=0, z3_queries=0)
    outcome = verify(network, hard, limits=limits, engine=engine)  # type: ignore[arg-type]
    assert outcome.verdict is Verdict.UNKNOWN
    assert "sub-problems" in outcome.reason


def test_a_property_of_another_size_is_refused() -> None:
    network = distance_network([0.0, 0.0], 0.0)
    other = distance_network([0.0], 0.0)
    with pytest.raises(PropertyMismatch):
        verify(network, output_at_least(other, [0.0], [1.0], 0))


@pytest.mark.parametrize(
    ("model", "number", "expected"),
    [
        ("1_1", 1, Verdict.HOLDS),
        ("1_1", 3, Verdict.HOLDS),
        ("4_5", 4, Verdict.HOLDS),
        ("2_3", 2, Verdict.VIOLATED),
        ("1_7", 3, Verdict.VIOLATED),
    ],
)
def test_acasxu_instances_get_the_competition_verdict(
    model: str, number: int, expected: Verdict
) -> None:
    path = ACASXU / f"onnx/ACASXU_run2a_{model}_batch_2000.onnx"
    if not path.is_file():
        pytest.skip(f"benchmark data are not at {ACASXU}")
    with (ACASXU / "instances.csv").open() as stream:
        known = {(r["onnx"], r["property"]): r["known_verdict"] for r in csv.DictReader(stream)}
    assert known[f"onnx/{path.name}", f"vnnlib/prop_{number}.vnnlib"] == expected
    network = network_from_onnx(onnx.load(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def replay(inputs: np.ndarray, /) -> np.ndarray:
        shaped = inputs.reshape(network.input_shape)
        return np.asarray(session.run(None, {network.input_name: shaped})[0])

    prop = load_property(ACASXU / f"vnnlib/prop_{number}.vnnlib", num_inputs=5, num_outputs=5)
    assert verify(network, prop, replay=replay).verdict is expected
