"""Exact decisions of small sub-problems with Z3, in rational arithmetic.

Stable neurons are substituted exactly; only unstable ones get a real variable, a
Boolean phase and the triangle that is true by proof. Bounds must be proved outward:
an inward one would make the encoding unsound. Every query has its own context and
solver, one thread, a fixed seed and a resource limit, so its answer is reproducible.

Chains and graphs are encoded alike. Coefficients enter exactly as they are stored; where
the reader had to round one (a quotient, batch normalisation), the encoding would be of a
neighbouring network, so `why_not_z3` refuses those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import z3

from auditor.verify.exact_encoding import Unstable, encode
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.network.exact_image import MAX_PRODUCTS, Form, exact_cost
from auditor.verify.phases import Int8
from auditor.verify.property import UnsafeCase, UnsafeRow

_CHORD_STEPS = 1 << 12
_NET_MS = 600_000


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


def why_not_z3(network: Network | GraphNetwork) -> str:
    """Why a network is not encoded exactly; empty if it can be.

    Chains are exact; their size shows in Z3's resource limit only.
    """
    if not isinstance(network, GraphNetwork):
        return ""
    if network.rounded:
        return (
            "Z3 needs exact coefficients, and this model has some that are kept rounded "
            "(quotients, averages or batch normalisation); use engine auto"
        )
    if exact_cost(network) > MAX_PRODUCTS:
        return (
            f"the network is too large to be encoded for Z3: about {exact_cost(network)} exact "
            f"products, the limit is {MAX_PRODUCTS}; use engine auto"
        )
    return ""


def decide_with_z3(
    network: Network | GraphNetwork,
    case: UnsafeCase,
    *,
    rlimit: int,
    seed: int = 0,
    lower: Sequence[Fraction] | None = None,
    upper: Sequence[Fraction] | None = None,
    neuron_bounds: Sequence[tuple[Float64, Float64]] | None = None,
    phases: Sequence[Int8] = (),
) -> SmtAnswer:
    """Whether some input of a box lies, with its outputs, in the case's rows: exactly.

    Args:
        network: The network.
        case: The rows, and the box unless another is given.
        rlimit: Z3 resource units; reaching it gives `unknown`.
        seed: Z3's seed.
        lower: Lower ends of a sub-box; the case's own box is still intersected.
        upper: Upper ends of a sub-box.
        neuron_bounds: Proved pre-activation bounds per layer, infinite where unknown; they
            may presuppose the phases. Further neurons may follow the network's own.
        phases: Phases asked of the neurons per layer, as `phases_of` gives them.
    """
    ends = [
        (max(a, b), min(c, d))
        for a, b, c, d in zip(
            case.lower, lower or case.lower, case.upper, upper or case.upper, strict=True
        )
    ]
    if any(low > high for low, high in ends):
        return SmtAnswer("unsat", None, 0, 0)
    graph = GraphNetwork.from_chain(network) if isinstance(network, Network) else network
    encoding = encode(graph, ends, neuron_bounds, phases)
    query = _Query(ends, encoding.unstable, seed)
    query.demand(encoding.demands)
    return query.decide(encoding.outputs, case.rows, rlimit)


def rows_are_contradictory(
    rows: Sequence[UnsafeRow],
    lower: Sequence[Fraction] = (),
    upper: Sequence[Fraction] = (),
    *,
    rlimit: int = 1_000_000,
) -> bool | None:
    """Whether no outputs at all, with no input of the box, satisfy the rows.

    Then nothing can violate them, whatever the network. None where Z3 does not say.

    Args:
        rows: The rows.
        lower: Lower ends of the box, [inputs]; not needed for rows over outputs only.
        upper: Upper ends.
        rlimit: Z3 resource units.
    """
    ends: list[tuple[Fraction | None, Fraction | None]] = [*zip(lower, upper, strict=True)]
    count = len(rows[0].coefficients) if rows else 0
    total = len(ends) + count
    identity = [[Fraction(int(i + len(ends) == j)) for j in range(total + 1)] for i in range(count)]
    query = _Query([*ends, *[(None, None)] * count], [], seed=0, inputs=len(ends))
    status = query.decide(identity, rows, rlimit).status
    return None if status == "unknown" else status == "unsat"


class _Query:
    """One fresh context and solver, with the variables of one box."""

    def __init__(
        self,
        ends: Sequence[tuple[Fraction | None, Fraction | None]],
        unstable: Sequence[Unstable],
        seed: int,
        inputs: int | None = None,
    ) -> None:
        self.context = z3.Context()
        self.solver = z3.SolverFor("QF_LRA", ctx=self.context)
        self.solver.set(random_seed=seed % 2**31, threads=1, timeout=_NET_MS)
        self.inputs = len(ends) if inputs is None else inputs
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
            form = [Fraction(0)] * (len(self.variables) + 1)
            for factor, output in zip(row.coefficients, outputs, strict=True):
                for column, value in enumerate(output if factor else ()):
                    form[column] += factor * value
            # The first variables are the inputs.
            for column, value in enumerate(row.input_coefficients):
                form[column] += value
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

    def demand(self, forms: Sequence[Form]) -> None:
        """Only points where every form is at least 0; a form may speak of first variables."""
        for form in forms:
            self.solver.add(self._term(form) >= 0)

    def _add_relu(self, neuron: Unstable) -> None:
        variable = self.variables[neuron.column]
        phase = z3.Bool(f"p{neuron.column}", self.context)
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
        # A form speaks only of the variables that came before it.
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
