"""Float32 semantics: verdicts about executions, on networks that fool naive arithmetic.

The networks follow Jia and Rinard (2021) and Zombori et al. (2021): absorption, order of
summation, absorption disguised over many layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.findings import Verdict
from auditor.verify.engine_choice import Engine
from auditor.verify.network import AffineLayer, Network
from auditor.verify.network.affine_chain import Chain
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics, execution_noise, why_not_float32

Float32 = NDArray[np.float32]


def layer(weight: Sequence[Sequence[float]], bias: Sequence[float], relu: bool) -> AffineLayer:
    return AffineLayer(np.array(weight, dtype=float), np.array(bias, dtype=float), relu)


def at_least(bound: str, lower: str, upper: str) -> Property:
    """For one input in [lower, upper]: the one output is at least `bound`."""
    row = UnsafeRow((Fraction(1),), Fraction(bound), strict=True)
    case = UnsafeCase((Fraction(lower),), (Fraction(upper),), (row,))
    return Property("p", (case,), "", "", 1, 1)


def execute(
    network: Network, order: Callable[[int], Sequence[int]]
) -> Callable[[Float32], Float32]:
    """A float32 runtime that adds the terms of each sum in the given order, one by one."""

    def run(inputs: Float32, /) -> Float32:
        values = inputs.astype(np.float32)
        for each in network.layers:
            weight, bias = each.weight.astype(np.float32), each.bias.astype(np.float32)
            sums = np.zeros(each.num_outputs, dtype=np.float32)
            for column in order(each.num_inputs):
                sums = sums + weight[:, column] * values[column]
            values = sums + bias
            if each.relu:
                values = np.maximum(values, np.float32(0))
        return values

    return run


def ascending(count: int) -> Sequence[int]:
    return range(count)


ABSORPTION = Network((
    layer([[1]], [2.0**54], True), layer([[1]], [-(2.0**54)], True), layer([[-1]], [0.5], False),
))  # fmt: skip
# relu(2^26) + relu(x) - relu(2^26): x over the reals, 0 or x as executed.
ORDER = Network((
    layer([[0], [1], [0]], [2.0**26, 0, 2.0**26], True), layer([[1, 1, -1]], [0], False),
))  # fmt: skip


def disguised(layers: int) -> Network:
    """1/2 - x over the reals, through weights of at most 4."""
    up = [layer([[4, 0], [0, 1]], [0, 0], True)] * layers
    down = [layer([[0.25]], [0], True)] * layers
    again = [layer([[4]], [0], True)] * layers
    first = layer([[0], [1]], [1, 0], True)
    back = [layer([[0.25]], [0], True)] * 0
    return Network((first, *up, layer([[1, 1]], [0], True), *down, layer([[1]], [-1], True),
                    *again, *back, layer([[-1]], [0.5], False)))  # fmt: skip


def test_what_holds_for_the_reals_only_does_not_hold_as_executed() -> None:
    prop = at_least("0.5", "0.6", "1")
    runtime = execute(ORDER, ascending)
    assert float(runtime(np.array([0.75], dtype=np.float32))[0]) == 0.0
    real = verify(ORDER, prop, replay=runtime)
    executed = verify(ORDER, prop, replay=runtime, semantics=Semantics.FLOAT32)
    assert real.verdict is Verdict.HOLDS
    assert real.witness is not None  # the disagreement is reported beside the proof
    assert executed.verdict is Verdict.VIOLATED
    assert executed.witness is not None
    assert not executed.witness.exact_violates


def test_without_a_violating_run_the_executed_network_stays_unknown() -> None:
    """Another order executes it rightly, and no proof covers all orders."""
    runtime = execute(ORDER, lambda count: range(count)[::-1] if count != 3 else (0, 2, 1))
    prop = at_least("0.5", "0.6", "1")
    assert verify(ORDER, prop, replay=runtime).verdict is Verdict.HOLDS
    outcome = verify(ORDER, prop, replay=runtime, semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("network", [ABSORPTION, disguised(13)])
def test_absorption_is_never_proved_and_never_a_counted_witness(network: Network) -> None:
    """1/2 - x >= 0 on [0, 1] is false over the reals and true as executed."""
    prop, runtime = at_least("0", "0", "1"), execute(network, ascending)
    assert float(runtime(np.ones(1, dtype=np.float32))[0]) == 0.5
    assert verify(network, prop, replay=runtime).verdict is Verdict.UNKNOWN
    outcome = verify(network, prop, replay=runtime, semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.UNKNOWN


def test_a_plain_margin_is_proved_for_every_execution() -> None:
    """y = relu(x) + relu(-x) >= 0.09 where |x| >= 0.1."""
    network = Network((layer([[1], [-1]], [0, 0], True), layer([[1, 1]], [0], False)))
    prop = at_least("0.09", "0.1", "1")
    outcome = verify(network, prop, semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.HOLDS
    assert "float32" in outcome.reason


def test_a_margin_of_a_few_roundings_is_proved_over_the_reals_only() -> None:
    """The sum of ten float32 tenths is a little above 1; float32 sums may fall below it."""
    tenth = float(np.float32(0.1))
    network = Network((layer([[1]] * 10, [0] * 10, True), layer([[1] * 10], [0], False)))
    prop = at_least("1", str(Fraction(tenth)), str(Fraction(tenth)))
    assert verify(network, prop).verdict is Verdict.HOLDS
    outcome = verify(network, prop, semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.UNKNOWN


def test_a_network_that_may_overflow_is_unknown() -> None:
    network = Network((layer([[2.0**127]], [0], True), layer([[2.0]], [0], False)))
    outcome = verify(network, at_least("-1", "0", "1"), semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "overflow" in outcome.reason


def test_numbers_that_are_not_float32_and_joined_operations_are_named() -> None:
    double = Network((layer([[0.1]], [0], False),))
    assert "not float32" in why_not_float32(double)
    chain = Chain((), (1, 1)).affine(np.ones((1, 1)), np.array([1.0]), (1, 1), "a")
    joined = chain.plus(np.array([2.0]), "b")
    assert joined.layers[0].bias[0] == 3.0
    assert "joins several" in why_not_float32(Network(joined.layers))
    assert why_not_float32(Network(chain.layers)) == ""


def test_noise_counts_the_terms_that_are_there() -> None:
    """gamma_n of the widest row: zeros add exactly."""
    sparse, dense = layer([[1.0, 0, 0, 0]], [0], False), layer([[1.0] * 4], [0], False)
    hidden = np.ones(4)
    assert execution_noise(sparse, hidden).relative < execution_noise(dense, hidden).relative
    assert execution_noise(dense, hidden).relative >= 8 * 2.0**-24


@pytest.mark.parametrize("engine", ["boxes", "relus"])
def test_a_neuron_is_off_only_with_the_rounding_of_its_own_sum(engine: Engine) -> None:
    """relu((x + 1000) - (x + 1000) - c), where the two sums and their difference may each lose c/2.

    Over the reals it is zero. Either loss alone leaves it off.
    """
    threshold = float(np.float32(1e-3))
    network = Network((
        layer([[1], [1]], [1000, 1000], True), layer([[1, -1]], [-threshold], True),
        layer([[-1024]], [0], False),
    ))  # fmt: skip
    first = execution_noise(network.layers[0], np.ones(1)).relative * 1001
    own = execution_noise(network.layers[1], np.full(2, 1001.0)).relative * 2002
    assert max(2 * first, own) < threshold < 2 * first + own
    prop = at_least("-1e-2", "-1", "1")
    assert verify(network, prop, engine=engine).verdict is Verdict.HOLDS
    outcome = verify(network, prop, engine=engine, semantics=Semantics.FLOAT32)
    assert outcome.verdict is Verdict.UNKNOWN
