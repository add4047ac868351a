"""Exact decisions of small sub-problems with Z3, in rational arithmetic.

Stable neurons are substituted exactly; only unstable ones get a real variable, a
Boolean phase and the triangle that is true by proof. Bounds must be proved outward:
an inward one would make the encoding unsound. Every query has its own context and
solver, one thread, a fixed seed and a resource limit, so its answer is reproducible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import flint
import numpy as np
import z3

from auditor.verify.network import Network
from auditor.verify.network.chain import AffineLayer, Float64
from auditor.verify.property import UnsafeCase, UnsafeRow

_CHORD_STEPS = 1 << 12
_NET_MS = 600_000

Ends = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class SmtAnswer:
    """What Z3 said about one case on one box.

    Attributes:
        status: `unsat` (refuted), `sat` (a point exists), or `unknown`.
        point: An exact input for `sat`.
        rlimit: Resource units used.
        unstable: ReLUs that needed a phase.
        reason: Why it is `unknown`.
    """

    status: Literal["sat", "unsat", "unknown"]
    point: tuple[Fraction, ...] | None
    rlimit: int
    unstable: int
    reason: str = ""


@dataclass(frozen=True)
class _Unstable:
    """An unstable neuron: its form over the variables, its bounds, its column."""

    form: list[Fraction]
    lower: Fraction
    upper: Fraction
    column: int


def decide_with_z3(
    network: Network,
    case: UnsafeCase,
    *,
    rlimit: int,
    seed: int = 0,
    lower: Sequence[Fraction] | None = None,
    upper: Sequence[Fraction] | None = None,
    neuron_bounds: Sequence[tuple[Float64, Float64]] | None = None,
) -> SmtAnswer:
    """Whether some input of a box has outputs in the case's rows, decided exactly.

    Args:
        network: The network.
        case: The rows, and the box unless another is given.
        rlimit: Z3 resource units; reaching it gives `unknown`.
        seed: Z3's seed.
        lower: Lower ends of a sub-box; the case's own box is still intersected.
        upper: Upper ends of a sub-box.
        neuron_bounds: Proved pre-activation bounds per layer, infinite where unknown.
    """
    ends = [
        (max(a, b), min(c, d))
        for a, b, c, d in zip(
            case.lower, lower or case.lower, case.upper, upper or case.upper, strict=True
        )
    ]
    if any(low > high for low, high in ends):
        return SmtAnswer("unsat", None, 0, 0)
    outputs, unstable = _forms(network, ends, neuron_bounds)
    return _Query(ends, unstable, seed).decide(outputs, case.rows, rlimit)


def rows_are_contradictory(rows: Sequence[UnsafeRow], *, rlimit: int = 1_000_000) -> bool:
    """Whether no output vector at all satisfies the rows: then nothing can violate them."""
    count = len(rows[0].coefficients) if rows else 0
    identity = [[Fraction(int(i == j)) for j in range(count + 1)] for i in range(count)]
    free = _Query([(None, None)] * count, [], seed=0)
    return free.decide(identity, rows, rlimit).status == "unsat"


def _forms(
    network: Network,
    ends: Sequence[Ends],
    neuron_bounds: Sequence[tuple[Float64, Float64]] | None,
) -> tuple[list[list[Fraction]], list[_Unstable]]:
    """Outputs as forms over inputs and unstable neurons; the last column is constant."""
    ranges: list[Ends] = list(ends)
    unstable: list[_Unstable] = []
    count = len(ends)
    hidden = [[Fraction(int(i == j)) for j in range(count + 1)] for i in range(count)]
    for index, layer in enumerate(network.layers):
        before = _affine_image(layer, hidden)
        if not layer.relu:
            hidden = before
            continue
        after: list[list[Fraction]] = []
        fresh: list[_Unstable] = []
        for neuron, form in enumerate(before):
            low, high = _range(form, ranges)
            if neuron_bounds is not None:
                low = _tighter(low, neuron_bounds[index][0][neuron], max)
                high = _tighter(high, neuron_bounds[index][1][neuron], min)
            if high <= 0:
                after.append([Fraction(0)] * len(form))
            elif low >= 0:
                after.append(form)
            else:
                column = len(ranges) + len(fresh)
                fresh.append(_Unstable(form, low, high, column))
                after.append([])
        hidden = _with_columns(after, fresh, len(ranges))
        ranges.extend((Fraction(0), neuron.upper) for neuron in fresh)
        unstable.extend(fresh)
    return hidden, unstable


def _affine_image(layer: AffineLayer, hidden: list[list[Fraction]]) -> list[list[Fraction]]:
    """The layer's pre-activations as forms, exactly."""
    flat = [flint.fmpq(value.numerator, value.denominator) for row in hidden for value in row]
    matrix = flint.fmpq_mat(len(hidden), len(hidden[0]), flat)
    weights = [_fmpq(value) for value in layer.weight.ravel().tolist()]
    product = flint.fmpq_mat(layer.num_outputs, layer.num_inputs, weights) * matrix
    forms = []
    for row, bias in enumerate(layer.bias.tolist()):
        form = [
            Fraction(int(product[row, column].p), int(product[row, column].q))
            for column in range(len(hidden[0]))
        ]
        form[-1] += Fraction(bias)
        forms.append(form)
    return forms


def _fmpq(value: float) -> Any:
    numerator, denominator = value.as_integer_ratio()
    return flint.fmpq(numerator, denominator)


def _range(form: Sequence[Fraction], ranges: Sequence[Ends]) -> Ends:
    """Exact interval of a form over its variables' ranges."""
    low = high = form[-1]
    for factor, (start, end) in zip(form[:-1], ranges, strict=True):
        if factor > 0:
            low, high = low + factor * start, high + factor * end
        elif factor < 0:
            low, high = low + factor * end, high + factor * start
    return low, high


def _tighter(own: Fraction, proved: float, choose: Any) -> Fraction:
    return Fraction(choose(own, Fraction(float(proved)))) if np.isfinite(proved) else own


def _with_columns(
    forms: list[list[Fraction]], fresh: Sequence[_Unstable], columns: int
) -> list[list[Fraction]]:
    """Widen forms by the new variables; an empty form stands for the next new variable."""
    new = iter(fresh)
    widened = []
    for form in forms:
        if form:
            widened.append([*form[:-1], *([Fraction(0)] * len(fresh)), form[-1]])
        else:
            wide = [Fraction(0)] * (columns + len(fresh) + 1)
            wide[next(new).column] = Fraction(1)
            widened.append(wide)
    return widened


class _Query:
    """One fresh context and solver, with the variables of one box."""

    def __init__(
        self,
        ends: Sequence[tuple[Fraction | None, Fraction | None]],
        unstable: Sequence[_Unstable],
        seed: int,
    ) -> None:
        self.context = z3.Context()
        self.solver = z3.SolverFor("QF_LRA", ctx=self.context)
        self.solver.set(random_seed=seed % 2**31, threads=1, timeout=_NET_MS)
        self.inputs = len(ends)
        self.unstable = len(unstable)
        self.variables = [
            z3.Real(f"v{index}", self.context) for index in range(len(ends) + len(unstable))
        ]
        for variable, (low, high) in zip(self.variables, ends, strict=False):
            if low is not None:
                self.solver.add(variable >= self._number(low))
            if high is not None:
                self.solver.add(variable <= self._number(high))
        for neuron in unstable:
            self._add_relu(neuron)

    def decide(
        self, outputs: Sequence[Sequence[Fraction]], rows: Sequence[UnsafeRow], rlimit: int
    ) -> SmtAnswer:
        """Ask whether the outputs, given as forms, can satisfy all rows."""
        for row in rows:
            form = [
                sum(
                    (c * o[k] for c, o in zip(row.coefficients, outputs, strict=True) if c),
                    Fraction(0),
                )
                for k in range(len(self.variables) + 1)
            ]
            excess, bound = self._term(form), self._number(row.bound)
            self.solver.add(excess < bound if row.strict else excess <= bound)
        self.solver.set(rlimit=max(1, rlimit))
        result = self.solver.check()
        used = _rlimit_used(self.solver)
        if result == z3.unsat:
            return SmtAnswer("unsat", None, used, self.unstable)
        if result == z3.sat:
            model = self.solver.model()
            point = tuple(
                model.eval(variable, model_completion=True).as_fraction()
                for variable in self.variables[: self.inputs]
            )
            exact = tuple(Fraction(p.numerator, p.denominator) for p in point)
            return SmtAnswer("sat", exact, used, self.unstable)
        reason = self.solver.reason_unknown()
        if "interrupt" in reason:
            raise KeyboardInterrupt
        if used >= rlimit:
            # Z3 itself only says "canceled".
            reason = f"the resource limit of {rlimit} is reached"
        return SmtAnswer("unknown", None, used, self.unstable, reason)

    def _add_relu(self, neuron: _Unstable) -> None:
        variable = self.variables[neuron.column]
        phase = z3.Bool(f"p{neuron.column}", self.context)
        # A form speaks only of variables before its own.
        form = self._term(neuron.form)
        # The chord's slope is rounded up to a short fraction: still above the ReLU.
        slope = neuron.upper / (neuron.upper - neuron.lower)
        slope = Fraction(-((-slope.numerator * _CHORD_STEPS) // slope.denominator), _CHORD_STEPS)
        self.solver.add(variable >= 0, variable >= form)
        self.solver.add(variable <= self._number(slope) * form - self._number(slope * neuron.lower))
        self.solver.add(z3.Implies(phase, z3.And(variable == form, form >= 0)))
        self.solver.add(z3.Implies(z3.Not(phase), z3.And(variable == 0, form <= 0)))

    def _term(self, form: Sequence[Fraction]) -> Any:
        total = self._number(form[-1])
        for factor, variable in zip(form[:-1], self.variables, strict=False):
            if factor:
                total = total + self._number(factor) * variable
        return total

    def _number(self, value: Fraction) -> Any:
        return z3.RealVal(f"{value.numerator}/{value.denominator}", self.context)


def _rlimit_used(solver: Any) -> int:
    statistics = solver.statistics()
    for index in range(len(statistics)):
        name, value = statistics[index]
        if name == "rlimit count":
            return int(value)
    return 0
