"""One input box with every unsafe case over it, in floats on the safe side.

Engines search one `Problem` at a time. The float box contains the exact one, and the
float rows describe a set that contains the exact unsafe set: bounds are rounded up,
strict rows count as closed, coefficients are within one rounding of the exact ones
(the engines' error terms include it). So `refuted` here means refuted exactly. Rows over
inputs are rows over a network that carries those inputs (see `carrying`); a pattern's
states are phases of its ReLUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from auditor.errors import PropertyMismatch, UnsupportedModel, UnsupportedProperty
from auditor.verify.carrying import Carried, carry_inputs
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.phases import Int8, phases_of, widened_phases
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.rounding import box_outward, float_above
from auditor.verify.semantics import Semantics

USUAL_COST = 100_000  # multiplications of one evaluation of a middling network
FEWEST_EVALUATIONS = 600


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, an input box, and the cases to refute on it.

    Attributes:
        network: The network that engines search; it carries the inputs that rows speak of.
        stated: The network that the property speaks of.
        cases: Unsafe cases that share one input box.
        lower: Lower ends, [inputs], rounded down.
        upper: Upper ends, [inputs], rounded up.
        rows: Row coefficients of all cases in order, [rows, outputs].
        bounds: Right-hand sides, [rows], rounded up: unsafe is rows @ y <= bounds.
        starts: First row of each case and the number of rows, [cases + 1].
        layer_phases: Phases asked of the neurons, one array per layer of `network`.
        semantics: The arithmetic in which they are to be refuted.
    """

    network: Network | GraphNetwork
    stated: Network | GraphNetwork
    cases: tuple[UnsafeCase, ...]
    lower: Float64
    upper: Float64
    rows: Float64
    bounds: Float64
    starts: np.ndarray[tuple[int], np.dtype[np.int64]]
    layer_phases: tuple[Int8, ...]
    semantics: Semantics = Semantics.REAL

    @property
    def chain(self) -> Network:
        """The network, for engines that know chains of dense layers only."""
        if not isinstance(self.network, Network):
            raise UnsupportedModel(
                "this engine handles chains of dense layers only",
                way_out="choose engine auto or relus",
            )
        return self.network

    @cached_property
    def phases(self) -> Int8:
        """Phases asked of all neurons that a ReLU follows, [hidden neurons] in {-1, 0, 1}."""
        phases: Int8 = np.concatenate([np.zeros(0, dtype=np.int8), *self.layer_phases])
        return phases

    @cached_property
    def has_pattern(self) -> bool:
        """Whether any phase is asked for."""
        return bool(self.phases.any())

    @cached_property
    def free_relus(self) -> int:
        """How many ReLUs of the stated network the pattern leaves free."""
        return self.stated.num_relus - int(np.count_nonzero(self.phases))

    @property
    def radius(self) -> Float64:
        """Half the width of each input, [inputs]."""
        return 0.5 * (self.upper - self.lower)

    @cached_property
    def varying(self) -> int:
        """How many inputs are not fixed."""
        return int((self.upper > self.lower).sum())

    def affordable_evaluations(self, budget: int) -> int:
        """How many of a budget of evaluations to spend: fewer where each costs more."""
        if isinstance(self.network, Network):
            return budget
        scaled = budget * USUAL_COST // max(1, self.network.evaluation_cost)
        return min(budget, max(FEWEST_EVALUATIONS, scaled))

    def excess(self, outputs: Float64) -> Float64:
        """Left sides minus bounds at outputs of `network`, [samples, rows]."""
        return outputs @ self.rows.T - self.bounds

    def violation(self, points: Float64) -> Float64:
        """Per input and case, how far from a violation: <= 0 inside, [samples, cases].

        An input that leaves the pattern is as far as the sum of what its neurons miss.

        Args:
            points: [samples, inputs].
        """
        before = self.network.preactivations(points)
        outputs = np.maximum(before[-1], 0.0) if self.network.layers[-1].relu else before[-1]
        excess = self.excess(outputs)
        pieces = [
            excess[:, first:last].max(axis=1, initial=-np.inf)
            for first, last in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        values = np.stack(pieces, axis=1)
        missed = self.missed(before)[:, None]
        return np.where(missed > 0, np.maximum(values, 0.0) + missed, values)

    def missed(self, before: Sequence[Float64]) -> Float64:
        """How much the pre-activations miss the pattern, summed over neurons, [samples]."""
        total = np.zeros(len(before[0]))
        for value, phase in zip(before, self.layer_phases, strict=True):
            if phase.any():
                total += np.maximum(-value * phase, 0.0).sum(axis=1)
        return total

    def missed_gradients(self, before: Sequence[Float64]) -> list[Float64 | None]:
        """Gradient of `missed` over each layer's pre-activations; None where it has none."""
        return [
            np.where(value * phase < 0, -phase.astype(np.float64), 0.0) if phase.any() else None
            for value, phase in zip(before, self.layer_phases, strict=True)
        ]


def problems_of(
    network: Network | GraphNetwork, prop: Property, semantics: Semantics = Semantics.REAL
) -> tuple[Problem, ...]:
    """The property's cases grouped by input box; empty boxes are left out.

    Raises:
        PropertyMismatch: The property is for a network of another size.
        ConfigurationError: Its pattern names a layer or neuron the network does not have.
        UnsupportedProperty: The model ends with a softmax, and the property is about more
            than which outputs are larger.
    """
    if prop.num_inputs != network.num_inputs:
        raise PropertyMismatch(prop.name, "inputs", network.num_inputs, prop.num_inputs)
    if prop.num_outputs != network.num_outputs:
        raise PropertyMismatch(prop.name, "outputs", network.num_outputs, prop.num_outputs)
    if isinstance(network, GraphNetwork) and network.only_order:
        _demand_comparisons(prop)
    groups: dict[tuple[tuple[Fraction, ...], tuple[Fraction, ...]], list[UnsafeCase]] = {}
    for case in prop.cases:
        if not case.is_empty:
            groups.setdefault((case.lower, case.upper), []).append(case)
    phases = phases_of(prop.pattern, network)
    return tuple(_problem(network, tuple(cases), phases, semantics) for cases in groups.values())


def _demand_comparisons(prop: Property) -> None:
    """A softmax was left out, which keeps only the order of two outputs."""
    for row in (row for case in prop.cases for row in case.rows):
        used = sorted(value for value in row.coefficients if value)
        alone = not row.bound and not row.reads_inputs
        compares = len(used) == 2 and used[0] == -used[1] and alone
        if used and not compares:
            raise UnsupportedProperty(
                f"property {prop.name}: the model ends with a softmax, so it can only say "
                "which of two outputs is larger; compare outputs, or use a model without it"
            )


def _problem(
    network: Network | GraphNetwork,
    cases: tuple[UnsafeCase, ...],
    phases: Sequence[Int8],
    semantics: Semantics,
) -> Problem:
    lower, upper = box_outward(cases[0].lower, cases[0].upper)
    indices = _varying_indices(cases)
    executed = semantics is Semantics.FLOAT32
    carried = carry_inputs(network, indices, lower, upper, keep_chain=executed)
    rows = [_float_row(*_over_outputs(row, case, carried)) for case in cases for row in case.rows]
    counts = [len(case.rows) for case in cases]
    width = carried.network.num_outputs
    return Problem(
        network=carried.network,
        stated=network,
        cases=cases,
        lower=lower,
        upper=upper,
        rows=np.array([row for row, _ in rows], dtype=np.float64).reshape(-1, width),
        bounds=np.array([bound for _, bound in rows], dtype=np.float64),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        layer_phases=widened_phases(phases, carried.network),
        semantics=semantics,
    )


def _varying_indices(cases: Sequence[UnsafeCase]) -> list[int]:
    """The inputs that some row speaks of and that the box does not fix."""
    used = {
        index
        for case in cases
        for row in case.rows
        for index, value in enumerate(row.input_coefficients)
        if value and case.lower[index] < case.upper[index]
    }
    return sorted(used)


def _over_outputs(
    row: UnsafeRow, case: UnsafeCase, carried: Carried
) -> tuple[list[Fraction], Fraction]:
    """A row as exact coefficients and bound over the outputs of the carrying network."""
    bound = row.bound
    coefficients = [*row.coefficients, *([Fraction(0)] * len(carried.indices))]
    places = {index: len(row.coefficients) + n for n, index in enumerate(carried.indices)}
    for index, value in enumerate(row.input_coefficients):
        if value and index in places:
            coefficients[places[index]] = value
            bound -= value * carried.shifts[places[index] - len(row.coefficients)]
        elif value:
            bound -= value * case.lower[index]
    return coefficients, bound


def row_scale(coefficients: Sequence[Fraction]) -> Fraction:
    """The power of two that brings a row's largest coefficient to about 1."""
    largest = max((abs(value) for value in coefficients), default=Fraction(0))
    scale = Fraction(1)
    if largest:
        # A power of two, so that coefficients that are floats stay exact.
        exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
        scale = Fraction(1, 2**exponent) if exponent >= 0 else Fraction(2**-exponent)
    return scale


def _float_row(coefficients: Sequence[Fraction], bound: Fraction) -> tuple[list[float], float]:
    """Coefficients rounded to nearest and the bound rounded up, scaled to about 1."""
    scale = row_scale(coefficients)
    return [float(value * scale) for value in coefficients], float_above(bound * scale)
