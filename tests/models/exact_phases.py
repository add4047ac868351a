"""The exact minimum of an output by brute force over ReLU phases, in rational arithmetic.

Independent of the verifier's own encoding: no bounds, no relaxation, one Z3 linear program
over the rationals for every phase pattern that some input of the box realises.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import z3

from auditor.verify.network import Network

Forms = list[Any]


def exact_minimum(
    network: Network, lower: Sequence[Fraction], upper: Sequence[Fraction]
) -> Fraction:
    """The least value of output 0 over a box; meant for at most ten ReLUs."""
    inputs = [z3.Real(f"x{number}") for number in range(network.num_inputs)]
    solver = z3.SolverFor("QF_LRA")
    for variable, low, high in zip(inputs, lower, upper, strict=True):
        solver.add(variable >= _rational(low), variable <= _rational(high))
    return min(_minima(network, 0, inputs, solver))


def _minima(network: Network, depth: int, hidden: Forms, solver: z3.Solver) -> list[Fraction]:
    """The minimum on every realisable phase pattern of the layers from `depth` on."""
    layer = network.layers[depth]
    forms = [
        z3.Sum([_rational(w) * h for w, h in zip(row, hidden, strict=True) if w] + [_rational(b)])
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]
    if not layer.relu:
        if depth + 1 < len(network.layers):
            return _minima(network, depth + 1, forms, solver)
        return [_least(forms[0], solver)]
    return _by_phases(network, depth, forms, [], solver)


def _by_phases(
    network: Network, depth: int, forms: Forms, fixed: Forms, solver: z3.Solver
) -> list[Fraction]:
    """Both phases of the next neuron of a layer, where an input realises them."""
    if len(fixed) == len(forms):
        return _minima(network, depth + 1, fixed, solver)
    form = forms[len(fixed)]
    minima = []
    for sign, activation in ((form >= 0, form), (form <= 0, z3.RealVal(0))):
        solver.push()
        solver.add(sign)
        if solver.check() == z3.sat:
            minima += _by_phases(network, depth, forms, [*fixed, activation], solver)
        solver.pop()
    return minima


def _least(form: Any, solver: z3.Solver) -> Fraction:
    program = z3.Optimize()
    program.add(solver.assertions())
    lowest = program.minimize(form)
    if program.check() != z3.sat:
        raise ValueError("the region turned out to be empty")
    value = lowest.value()
    return Fraction(value.numerator_as_long(), value.denominator_as_long())


def _rational(value: Fraction | float) -> Any:
    exact = Fraction(value)
    return z3.Q(exact.numerator, exact.denominator)
