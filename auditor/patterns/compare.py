"""How two sets of patterns relate: which states they share, add, or contradict.

A pattern (A, D) is more general than another when A and D are subsets of the other's
(Geng et al. 2023): every input that follows the other follows it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from auditor.errors import ConfigurationError
from auditor.patterns.pattern_set import PatternSet


class Relation(StrEnum):
    """The first pattern against the second."""

    SAME = "same"
    MORE_GENERAL = "more general"
    MORE_SPECIFIC = "more specific"
    DIFFERENT = "different"
    CONTRADICTORY = "contradictory"


@dataclass(frozen=True)
class PatternComparison:
    """One class at one delta in two sets.

    Attributes:
        delta: The delta of both.
        label: The class.
        shared: States that both ask for.
        only_first: Neurons that only the first fixes.
        only_second: Neurons that only the second fixes.
        opposite: Neurons that both fix, in opposite states.
    """

    delta: Fraction
    label: int
    shared: int
    only_first: int
    only_second: int
    opposite: int

    @property
    def relation(self) -> Relation:
        """In a word."""
        if self.opposite:
            return Relation.CONTRADICTORY
        if self.only_first and self.only_second:
            return Relation.DIFFERENT
        if self.only_first:
            return Relation.MORE_SPECIFIC
        return Relation.MORE_GENERAL if self.only_second else Relation.SAME


def compare_patterns(first: PatternSet, second: PatternSet) -> tuple[PatternComparison, ...]:
    """Compare class by class at every delta that both have.

    The models may differ, for example before and after retraining, if layers and classes
    are the same.

    Raises:
        ConfigurationError: Layers, classes or granularity differ, or no delta is common.
    """
    shapes = [
        ([(layer.name, layer.neurons) for layer in each.layers], each.num_classes,
         each.granularity)
        for each in (first, second)
    ]  # fmt: skip
    if shapes[0] != shapes[1]:
        raise ConfigurationError(
            "the two files speak of other layers or classes; compare patterns of one architecture"
        )
    common = [delta for delta in first.deltas if delta in second.deltas]
    if not common:
        raise ConfigurationError("the two files have no delta in common; mine with the same ones")
    return tuple(
        _compare(first, second, delta, label)
        for delta in common
        for label in range(first.num_classes)
    )


def _compare(
    first: PatternSet, second: PatternSet, delta: Fraction, label: int
) -> PatternComparison:
    places = [(each, each.deltas.index(delta)) for each in (first, second)]
    (active, inactive), (others, off) = (
        (each.states.active[place, label], each.states.inactive[place, label])
        for each, place in places
    )
    fixed, fixed_too = active | inactive, others | off
    return PatternComparison(
        delta=delta,
        label=label,
        shared=int(((active & others) | (inactive & off)).sum()),
        only_first=int((fixed & ~fixed_too).sum()),
        only_second=int((fixed_too & ~fixed).sum()),
        opposite=int(((active & off) | (inactive & others)).sum()),
    )
