"""Five small networks that fool naive arithmetic: naively they are, here they are not.

Absorption, order of summation, absorption without large weights, fused multiply-adds, and
margins of a few roundings, after Jia and Rinard (2021), Zombori et al. (2021) and Szasz et
al. (2025). `naive` bounds leave the error terms out, or treat executions as real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from auditor.findings import Verdict
from auditor.verify.bounds import BoundedNetwork, interval_bounds, layer_bounds
from auditor.verify.network import Network
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics
from tests.models.relu_chains import (
    absorbing_network,
    chain,
    disguised_absorbing_network,
    output_at_least,
)

Order = Callable[[int], list[int]]
STEP = 2.0**-12
TENTH = float(np.float32(0.1))


def ascending(count: int) -> list[int]:
    return list(range(count))


def large_ones_first(count: int) -> list[int]:
    return [0, 2, 1] if count == 3 else ascending(count)


def execute(network: Network, point: list[float], order: Order, *, fused: bool) -> float:
    """Float32, one term after the other; a fused step rounds product and sum once."""
    values = np.array(point, dtype=np.float32)
    for layer in network.layers:
        sums = np.zeros(layer.num_outputs, dtype=np.float32)
        for column in order(layer.num_inputs):
            # Both factors are float32, so the float64 product is exact.
            product = layer.weight[:, column] * float(values[column])
            term = product if fused else product.astype(np.float32)
            sums = (sums.astype(np.float64) + term).astype(np.float32)
        values = sums + layer.bias.astype(np.float32)
        values = np.maximum(values, np.float32(0)) if layer.relu else values
    return float(values[0])


@dataclass(frozen=True)
class Fooling:
    """A network, an input, its exact output, and how float32 gets another one.

    Attributes:
        network: All weights are float32.
        point: The input.
        exact: Its output over the reals.
        executed: What `order` and `fused` give.
        threshold: `output >= threshold` is true of one of the two outputs only.
    """

    network: Network
    point: list[float]
    exact: Fraction
    executed: float
    order: Order
    fused: bool
    threshold: Fraction

    def run(self) -> float:
        """One execution."""
        return execute(self.network, self.point, self.order, fused=self.fused)

    def bounds(self, semantics: Semantics) -> tuple[float, float]:
        """Bounds of the output at the point."""
        point = np.array(self.point)
        net = BoundedNetwork.over_box(self.network, point, point, semantics=semantics)
        box = torch.from_numpy(point)[None], torch.from_numpy(point)[None]
        lower, upper = layer_bounds(net, box)[-1]
        return lower.item(), upper.item()


ORDER = chain(
    ([[0.0], [1.0], [0.0]], [2.0**26, 0.0, 2.0**26], True), ([[1.0, 1.0, -1.0]], [0.0], False)
)
# (1 + 2^-12)^2 - (1 + 2^-11) = 2^-24 is what one rounding of the product takes away.
FUSED = chain(
    ([[-(1 + 2 * STEP), 1 + STEP]], [0.0], True), ([[2.0**24]], [0.0], False)
)  # fmt: skip
TENTHS = chain(([[1.0]] * 10, [0.0] * 10, True), ([[1.0] * 10], [0.0], False))
HALF = Fraction(1, 2)

CASES = {
    "A absorption": Fooling(
        absorbing_network(), [1.0], -HALF, 0.5, ascending, False, Fraction(0)
    ),
    "B order": Fooling(
        ORDER, [0.75], Fraction(3, 4), 0.0, ascending, False, HALF
    ),
    "C absorption, no weight above 4": Fooling(
        disguised_absorbing_network(13), [1.0], -HALF, 0.5, ascending, False, Fraction(0)
    ),
    "D rounded product": Fooling(
        FUSED, [1.0, 1.0 + STEP], Fraction(1), 0.0, ascending, False, HALF
    ),
    "E a few roundings": Fooling(
        TENTHS, [TENTH], 10 * Fraction(TENTH), 1 + 2.0**-23, ascending, False,
        1 + Fraction(1, 2**24),
    ),
}  # fmt: skip
cases = pytest.mark.parametrize("fooling", CASES.values(), ids=CASES)


@cases
def test_executed_and_exact_outputs_lie_on_two_sides(fooling: Fooling) -> None:
    """Control: the network is as dangerous as planned."""
    (exact, *_) = fooling.network.evaluate_exact(list(map(Fraction, fooling.point)))
    assert exact == fooling.exact
    assert fooling.run() == fooling.executed
    assert (exact >= fooling.threshold) != (fooling.executed >= fooling.threshold)


@pytest.mark.parametrize("name", [name for name in CASES if name[0] != "A"])
def test_bounds_that_treat_executions_as_real_miss_them(name: str) -> None:
    """A is apart: its bounds over the reals are wide, since float64 absorbs as well."""
    fooling = CASES[name]
    lower, upper = fooling.bounds(Semantics.REAL)
    assert not lower <= fooling.executed <= upper
    assert lower <= fooling.exact <= upper


@cases
def test_float32_bounds_hold_both_outputs(fooling: Fooling) -> None:
    lower, upper = fooling.bounds(Semantics.FLOAT32)
    assert lower <= fooling.executed <= upper
    assert lower <= fooling.exact <= upper


@cases
@pytest.mark.parametrize("semantics", Semantics)
def test_no_verdict_of_one_arithmetic_is_given_for_the_other(
    fooling: Fooling, semantics: Semantics
) -> None:
    """What the reals refute never holds; of executions nothing is proved that one breaks."""
    prop = output_at_least(fooling.network, fooling.point, fooling.point, fooling.threshold)

    def runtime(inputs: np.ndarray, /) -> np.ndarray:
        output = execute(fooling.network, inputs.tolist(), fooling.order, fused=fooling.fused)
        return np.array([output], dtype=np.float32)

    outcome = verify(fooling.network, prop, replay=runtime, semantics=semantics)
    truly = fooling.exact >= fooling.threshold
    if semantics is Semantics.FLOAT32:
        assert outcome.verdict is (Verdict.VIOLATED if truly else Verdict.UNKNOWN)
    else:
        assert outcome.verdict is (Verdict.HOLDS if truly else Verdict.UNKNOWN)
        assert outcome.witness is not None  # the disagreement is shown


@pytest.mark.parametrize(
    "network", [absorbing_network(), disguised_absorbing_network(27)], ids=["A", "C, 85 layers"]
)
def test_float64_without_error_terms_proves_what_is_false(network: Network) -> None:
    """The output runs from 1/2 down to -1/2 over [0, 1]."""
    net = BoundedNetwork.over_box(network, np.zeros(1), np.ones(1))
    naive = replace(net, factor=0.0, floor=0.0)
    box = torch.zeros((1, 1), dtype=torch.float64), torch.ones((1, 1), dtype=torch.float64)
    assert interval_bounds(naive, box)[-1][0].item() == 0.5  # "at least 1/2"
    for bounds in (interval_bounds(net, box), layer_bounds(net, box)):
        lower, upper = bounds[-1]
        assert lower.item() <= -0.5
        assert upper.item() >= 0.5


def test_a_fused_multiply_add_gives_what_the_reals_give() -> None:
    """D as a runtime with fused steps executes it: neither answer speaks for the other."""
    fooling = CASES["D rounded product"]
    assert execute(FUSED, fooling.point, ascending, fused=True) == 1.0
    assert execute(FUSED, fooling.point, lambda n: ascending(n)[::-1], fused=True) == 0.0
    lower, upper = fooling.bounds(Semantics.FLOAT32)
    assert lower <= 0.0 <= 1.0 <= upper


def test_orders_of_summation_give_both_answers() -> None:
    """B: the large numbers next to each other cancel first."""
    assert execute(ORDER, [0.75], large_ones_first, fused=False) == 0.75
    assert execute(ORDER, [0.75], ascending, fused=False) == 0.0
