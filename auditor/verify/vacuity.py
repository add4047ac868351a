"""Whether a property says anything at all, asked before any search.

A property over an empty set of inputs, or one whose violation no outputs could ever
satisfy, is true of every network. Such a statement is never counted as a pass. The network
plays no part here; whether some input follows a pattern is asked by `search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from auditor.verify.property import Property, UnsafeCase, UnsafeRow

_ROUNDS = 64
_FINE, _COARSE = 1 << 40, 1024


@dataclass(frozen=True)
class Vacuity:
    """What is empty or trivial about a property.

    Attributes:
        empty: The whole property says nothing.
        trivial: Cases that no input and no outputs can satisfy.
        text: What was found, in words, or an empty string.
        unresolved: Why the property may say nothing after all, or an empty string.
    """

    empty: bool
    trivial: frozenset[UnsafeCase]
    text: str
    unresolved: str = ""


def examine_vacuity(prop: Property) -> Vacuity:
    """Look for empty input sets and for violations that no outputs can satisfy."""
    if not prop.cases:
        return Vacuity(True, frozenset(), "no output could violate the property: it says nothing")
    known: dict[object, bool | None] = {}
    filled: list[UnsafeCase] = []
    unmet: list[UnsafeCase] = []
    unsure = 0
    for case in prop.cases:
        empty = True if case.is_empty else _contradictory(case, case.precondition, known)
        unsure += empty is None
        (unmet if empty else filled).append(case)
    if not filled:
        return Vacuity(True, frozenset(), "the set of inputs is empty: the property says nothing")
    trivial = frozenset(case for case in filled if _contradictory(case, case.rows, known))
    if len(trivial) == len(filled):
        return Vacuity(
            True,
            trivial,
            "the violation contradicts itself, no outputs could satisfy it: the property "
            "says nothing",
        )
    parts = []
    if len(filled) < len(prop.cases):
        parts.append(f"{len(prop.cases) - len(filled)} cases have an empty set of inputs")
    if trivial:
        parts.append(f"{len(trivial)} cases contradict themselves")
    # Cases with an empty box are left out later in any case; hashing them would cost time.
    trivial = trivial.union(case for case in unmet if not case.is_empty)
    unresolved = "whether the set of inputs is empty was not settled: simplify its conditions"
    return Vacuity(
        False,
        trivial,
        " and ".join(parts),
        unresolved if unsure == len(filled) else "",
    )


def _contradictory(
    case: UnsafeCase, rows: tuple[UnsafeRow, ...], known: dict[object, bool | None]
) -> bool | None:
    """Whether no input of the case's box and no outputs satisfy the rows, decided exactly.

    None where Z3 does not say within its limit.
    """
    if not rows:
        return False
    alone = not any(row.reads_inputs for row in rows)
    key: object = rows if alone else (rows, case.lower, case.upper)
    if key not in known:
        small = _without_unused_inputs(replace(case, rows=rows))
        if _satisfied_somewhere(small):
            known[key] = False
        else:
            # Only when simple steps found nothing; loading Z3 takes time.
            from auditor.verify.smt import rows_are_contradictory

            known[key] = rows_are_contradictory(small.rows, small.lower, small.upper)
    return known[key]


def _without_unused_inputs(case: UnsafeCase) -> UnsafeCase:
    """The case over those inputs alone that its rows speak of."""
    used = sorted(
        {i for row in case.rows for i, value in enumerate(row.input_coefficients) if value}
    )
    rows = tuple(
        replace(
            row,
            input_coefficients=tuple(
                row.input_coefficients[i] if row.input_coefficients else Fraction(0) for i in used
            ),
        )
        for row in case.rows
    )
    lower, upper = (tuple(end[i] for i in used) for end in (case.lower, case.upper))
    return UnsafeCase(lower, upper, rows)


def _satisfied_somewhere(case: UnsafeCase) -> bool:
    """Whether relaxation steps find an input of the box and outputs that satisfy all rows.

    Source: Agmon, "The relaxation method for linear inequalities" (1954).
    """
    inputs = [(low + high) / 2 for low, high in zip(case.lower, case.upper, strict=True)]
    outputs = [Fraction(0)] * len(case.rows[0].coefficients)
    for _ in range(_ROUNDS):
        broken = [row for row in case.rows if not row.contains(outputs, inputs)]
        if not broken:
            return True
        row = max(broken, key=lambda each: each.excess(outputs, inputs))
        factors = (*row.coefficients, *row.input_coefficients)
        square = sum((c * c for c in factors), Fraction(0))
        if not square:
            return False
        # A little beyond the border; rounded, so that the fractions stay short.
        beyond = Fraction(1) if row.reads_outputs else Fraction(0)
        step = (row.excess(outputs, inputs) + beyond) / square
        outputs = _moved(outputs, row.coefficients, step, _COARSE)
        inputs = [
            min(max(value, low), high)
            for value, low, high in zip(
                _moved(inputs, row.input_coefficients, step, _FINE),
                case.lower,
                case.upper,
                strict=True,
            )
        ]
    return False


def _moved(
    point: Sequence[Fraction], factors: Sequence[Fraction], step: Fraction, digits: int
) -> list[Fraction]:
    return [(p - step * c).limit_denominator(digits) for p, c in zip(point, factors, strict=True)]
