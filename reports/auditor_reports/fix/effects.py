"""The effect of a repair among those of random sets: words, bins, and the geometry of a drawing.

Drawing it is the template's business. Bars are random sets, a solid line is the repair and a dashed
one the repair turned around, each with its words beside it: colour is not needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from auditor.fix import RandomEffects
from auditor_reports.charts.axis import Axis, Tick, fit_axis
from auditor_reports.fix.standing import ConditionView
from auditor_reports.number_text import number

WIDTH: Final = 560.0
TOP, BASE = 68.0, 144.0
_MARGIN: Final = 36.0
"""Room for half the words above a bar."""
_LEAST_BAR: Final = 6.0
_WIDEST_BAR: Final = 14.0
_HALF: Final = WIDTH / 2


class Bin(NamedTuple):
    """Random sets whose effects lie in a range of whole numbers, both ends included."""

    lower: int
    upper: int
    sets: int

    @property
    def range(self) -> str:
        """The range in words."""
        first = number(self.lower)
        return first if self.lower == self.upper else f"{first} to {number(self.upper)}"


class Bar(NamedTuple):
    """A bin as a bar: left and right edge, and its upper end."""

    left: float
    right: float
    top: float


class Mark(NamedTuple):
    """A line with its words, and whether these stand to its left."""

    at: float
    text: str
    leftwards: bool


@dataclass(frozen=True)
class EffectChart:
    """Everything a template needs to draw; positions in units of a frame WIDTH wide.

    Attributes:
        title: The figure's caption, before the chance.
        axis_name: What is counted.
        zero: Where no effect is.
        tallest: The largest bin, above its bar; nothing without random sets.
        own: The repair.
        turned: The repair the other way around, if that was measured.
        chance: That a random set does as much, in words.
        sentences: The drawing in words.
    """

    title: str
    axis_name: str
    zero: float
    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    tallest: Mark | None
    own: Mark
    turned: Mark | None
    chance: str
    sentences: tuple[str, ...]


def lay_out_effects(views: Sequence[ConditionView]) -> tuple[EffectChart, ...]:
    """A drawing for each control by random sets, in the order of the conditions."""
    return tuple(_lay_out(view.condition.random) for view in views if view.condition.random)


def effect_title(effects: RandomEffects) -> str:
    """The heading of a drawing or of its table."""
    count = len(effects.random)
    return f"Effect beside {number(count)} matched random set{'' if count == 1 else 's'}"


def bin_effects(effects: RandomEffects, least_width: float) -> tuple[Bin, ...]:
    """The random sets by their effect, in ranges of 1, 2, 5, 10, ... numbers; no range is empty.

    Args:
        effects: Of the sets.
        least_width: How many numbers a range has at least.
    """
    width = _nice_width(least_width)
    counts = Counter(each // width for each in effects.random)
    return tuple(Bin(at * width, (at + 1) * width - 1, counts[at]) for at in sorted(counts))


def span_of(effects: RandomEffects) -> int:
    """How many numbers there are from the least effect of a random set to the largest."""
    return max(effects.random, default=0) - min(effects.random, default=0) + 1


def effect_sentences(effects: RandomEffects) -> tuple[str, ...]:
    """The repair, the random sets, the repair turned around, and the chance, a sentence each."""
    return tuple(_sentences(effects))


def _sentences(effects: RandomEffects) -> Iterator[str]:
    count = len(effects.random)
    yield f"The repair: {number(effects.repair)} of {number(effects.prompts)} prompts."
    if count:
        yield (
            f"{number(count)} random sets: {number(min(effects.random))} to "
            f"{number(max(effects.random))}, median {number(float(median(effects.random)))}; "
            f"{number(effects.as_much)} of them do as much as the repair. They are "
            f"{effects.matched}."
        )
    else:
        yield "Not one random set could be measured."
    if effects.left_out:
        yield f"Left out, because they cannot be applied: {number(effects.left_out)}."
    if effects.wrong_direction is None:
        yield "The repair turned around cannot be applied."
    else:
        yield f"The repair turned around: {number(effects.wrong_direction)}."
    yield (
        f"Chance that a random set does as much: {number(effects.chance, 3)}, which is "
        f"(1 + {number(effects.as_much)}) / (1 + {number(count)})."
    )


def _lay_out(effects: RandomEffects) -> EffectChart:
    turned = effects.wrong_direction
    every = [0, effects.repair, *effects.random, *(() if turned is None else (turned,))]
    axis = fit_axis(map(float, every), _MARGIN, WIDTH - _MARGIN)
    bars, tallest = _bars(effects, axis)
    return EffectChart(
        title=effect_title(effects),
        axis_name=effects.effect,
        zero=axis.at(0),
        ticks=tuple(tick for tick in axis.ticks(8) if "." not in tick.label),
        bars=bars,
        tallest=tallest,
        own=_mark(axis, effects.repair, "the repair"),
        turned=None if turned is None else _mark(axis, turned, "turned around"),
        chance=f"chance {number(effects.chance, 3)}",
        sentences=effect_sentences(effects),
    )


def _bars(effects: RandomEffects, axis: Axis) -> tuple[tuple[Bar, ...], Mark | None]:
    """A bar for each bin, and the count of the tallest."""
    unit = (axis.end - axis.start) / (axis.upper - axis.lower)
    bins = bin_effects(effects, _LEAST_BAR / unit)
    if not bins:
        return (), None
    most = max(each.sets for each in bins)
    half = min((bins[0].upper - bins[0].lower + 1) * unit - 1, _WIDEST_BAR) / 2
    # The middle of a bin may lie beyond the values that the axis was made for.
    centres = [axis.start + ((each.lower + each.upper) / 2 - axis.lower) * unit for each in bins]
    bars = tuple(
        Bar(round(at - half, 1), round(at + half, 1),
            round(BASE - (BASE - TOP) * each.sets / most, 1))
        for at, each in zip(centres, bins, strict=True)
    )  # fmt: skip
    first = next(at for at, each in zip(centres, bins, strict=True) if each.sets == most)
    return bars, Mark(
        round(first, 1), f"{number(most)} set{'' if most == 1 else 's'}", leftwards=False
    )


def _mark(axis: Axis, value: int, name: str) -> Mark:
    at = axis.at(value)
    return Mark(at, f"{name}: {number(value)}", leftwards=at > _HALF)


def _nice_width(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... that is at least so large."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if power * factor >= least:
                return power * factor
        power *= 10
