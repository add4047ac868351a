"""One input box with every unsafe case over it, in floats on the safe side.

Engines search one `Problem` at a time. The float box contains the exact one, and the
float rows describe a set that contains the exact unsafe set: bounds are rounded up,
strict rows count as closed, coefficients are within one rounding of the exact ones
(the engines' error terms include it). So `refuted` here means refuted exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from auditor.errors import PropertyMismatch, UnsupportedModel, UnsupportedProperty
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.rounding import box_outward, float_above
from auditor.verify.semantics import Semantics

USUAL_COST = 100_000  # multiplications of one evaluation of a middling network
FEWEST_EVALUATIONS = 600


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, an input box, and the cases to refute on it.

    Attributes:
        network: The network.
        cases: Unsafe cases that share one input box.
        lower: Lower ends, [inputs], rounded down.
        upper: Upper ends, [inputs], rounded up.
        rows: Row coefficients of all cases in order, [rows, outputs].
        bounds: Right-hand sides, [rows], rounded up: unsafe is rows @ y <= bounds.
        starts: First row of each case and the number of rows, [cases + 1].
        semantics: The arithmetic in which they are to be refuted.
    """

    network: Network | GraphNetwork
    cases: tuple[UnsafeCase, ...]
    lower: Float64
    upper: Float64
    rows: Float64
    bounds: Float64
    starts: np.ndarray[tuple[int], np.dtype[np.int64]]
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

    def violation(self, outputs: Float64) -> Float64:
        """Per sample and case, how far from unsafe: <= 0 inside, [samples, cases]."""
        excess = outputs @ self.rows.T - self.bounds
        pieces = [
            excess[:, first:last].max(axis=1, initial=-np.inf)
            for first, last in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        return np.stack(pieces, axis=1)


def problems_of(
    network: Network | GraphNetwork, prop: Property, semantics: Semantics = Semantics.REAL
) -> tuple[Problem, ...]:
    """The property's cases grouped by input box; empty boxes are left out.

    Raises:
        PropertyMismatch: The property is for a network of another size.
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
    return tuple(_problem(network, tuple(cases), semantics) for cases in groups.values())


def _demand_comparisons(prop: Property) -> None:
    """A softmax was left out, which keeps only the order of two outputs."""
    for row in (row for case in prop.cases for row in case.rows):
        used = sorted(value for value in row.coefficients if value)
        compares = len(used) == 2 and used[0] == -used[1] and not row.bound
        if used and not compares:
            raise UnsupportedProperty(
                f"property {prop.name}: the model ends with a softmax, so it can only say "
                "which of two outputs is larger; compare outputs, or use a model without it"
            )


def _problem(
    network: Network | GraphNetwork, cases: tuple[UnsafeCase, ...], semantics: Semantics
) -> Problem:
    lower, upper = box_outward(cases[0].lower, cases[0].upper)
    rows = [_float_row(row) for case in cases for row in case.rows]
    counts = [len(case.rows) for case in cases]
    return Problem(
        network=network,
        cases=cases,
        lower=lower,
        upper=upper,
        rows=np.array([row for row, _ in rows], dtype=np.float64).reshape(-1, network.num_outputs),
        bounds=np.array([bound for _, bound in rows], dtype=np.float64),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        semantics=semantics,
    )


def row_scale(row: UnsafeRow) -> Fraction:
    """The power of two that brings a row's largest coefficient to about 1."""
    largest = max((abs(value) for value in row.coefficients), default=Fraction(0))
    scale = Fraction(1)
    if largest:
        # A power of two, so that coefficients that are floats stay exact.
        exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
        scale = Fraction(1, 2**exponent) if exponent >= 0 else Fraction(2**-exponent)
    return scale


def _float_row(row: UnsafeRow) -> tuple[list[float], float]:
    """Coefficients rounded to nearest and the bound rounded up, scaled to about 1."""
    scale = row_scale(row)
    return [float(value * scale) for value in row.coefficients], float_above(row.bound * scale)
