"""Whether a property says anything at all, asked before any search.

A property over an empty set of inputs, or one whose violation no outputs could ever
satisfy, is true of every network. Such a statement is never counted as a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from auditor.verify.property import Property, UnsafeCase, UnsafeRow

_ROUNDS = 64


@dataclass(frozen=True)
class Vacuity:
    """What is empty or trivial about a property.

    Attributes:
        empty: The whole property says nothing.
        trivial: Cases whose output rows contradict each other.
        text: What was found, in words, or an empty string.
    """

    empty: bool
    trivial: frozenset[UnsafeCase]
    text: str


def examine_vacuity(prop: Property) -> Vacuity:
    """Look for empty input sets and for violations that no outputs can satisfy."""
    if not prop.cases:
        return Vacuity(True, frozenset(), "no output could violate the property: it says nothing")
    filled = [case for case in prop.cases if not case.is_empty]
    if not filled:
        return Vacuity(True, frozenset(), "the set of inputs is empty: the property says nothing")
    verdicts: dict[tuple[UnsafeRow, ...], bool] = {}
    for case in filled:
        if case.rows not in verdicts:
            verdicts[case.rows] = _contradictory(case.rows)
    trivial = frozenset(case for case in filled if verdicts[case.rows])
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
    return Vacuity(False, trivial, " and ".join(parts))


def _contradictory(rows: Sequence[UnsafeRow]) -> bool:
    """Whether no outputs satisfy all rows, decided exactly."""
    if _satisfying_outputs(rows) is not None:
        return False
    # Only when simple steps found nothing; loading Z3 takes time.
    from auditor.verify.smt import rows_are_contradictory

    return rows_are_contradictory(rows)


def _satisfying_outputs(rows: Sequence[UnsafeRow]) -> list[Fraction] | None:
    """Outputs that satisfy all rows, found by relaxation steps, or None.

    Source: Agmon, "The relaxation method for linear inequalities" (1954).
    """
    if not rows:
        return []
    point = [Fraction(0)] * len(rows[0].coefficients)
    for _ in range(_ROUNDS):
        broken = [row for row in rows if not row.contains(point)]
        if not broken:
            return point
        row = max(broken, key=lambda each: each.excess(point))
        square = sum((c * c for c in row.coefficients), Fraction(0))
        if not square:
            return None
        # A little beyond the border; rounded, so that the fractions stay short.
        step = (row.excess(point) + 1) / square
        point = [
            (p - step * c).limit_denominator(1024)
            for p, c in zip(point, row.coefficients, strict=True)
        ]
    return None
