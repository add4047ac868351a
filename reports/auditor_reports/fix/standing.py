"""How a repair stands: its demands, its conditions in reading order, its measures side by side.

The decision is read, never taken again. A record that contradicts itself is neither accepted nor
rejected here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from auditor.findings import Metric
from auditor.fix import Comparison, Condition, FixResult
from auditor_reports.number_text import number
from auditor_reports.page import Anchors

Standing = Literal["accepted", "rejected", "contradictory"]

STANDING_WORDS: Final[dict[Standing, str]] = {
    "accepted": "Accepted",
    "rejected": "Rejected",
    "contradictory": "The record contradicts itself",
}
DOES_NOT_MEAN: Final = (
    "A behaviour shift was measured on these prompts, by this judge: less drift, or what a "
    "routing intervention changed.",
    "Suppression is not deletion: other words, another beginning or another sampling may bring "
    "back what was suppressed.",
    "No interval covers prompts unlike these.",
    "Keep the prompts that are charged, calibrated on and measured on apart: nothing here can "
    "tell that they overlap in meaning.",
)
"""The last section of the specification, item by item."""
CHANCE: Final = (
    "Chance is how often flips as uneven as these would come up if nothing had changed (two-sided "
    "exact McNemar test of the same prompts before and after)."
)


@dataclass(frozen=True)
class Demand:
    """A line of the decision; `kept` is None where the record does not say."""

    kept: bool | None
    text: str


@dataclass(frozen=True)
class ConditionView:
    """A condition with its place on the page.

    Attributes:
        condition: What was measured.
        anchor: Its id.
        decided: Whether it is the repair that the decision is about.
        known: For a control, whether the record holds its repair.
    """

    condition: Condition
    anchor: str
    decided: bool = False
    known: bool = True


@dataclass(frozen=True)
class Reading:
    """One value of a measure.

    Attributes:
        name: The condition it was measured under.
        when: Which of the two values it is, where that is not plain from the name.
        metric: The value.
        view: The condition; None for the value without any repair.
    """

    name: str
    when: str
    metric: Metric
    view: ConditionView | None


@dataclass(frozen=True)
class Measure:
    """One measure under every condition that has it."""

    name: str
    better: str
    readings: tuple[Reading, ...]


def read_demands(result: FixResult) -> tuple[Demand, ...]:
    """The demands, each kept or missed."""
    return tuple(_demand(line) for line in result.reasons)


def stand(result: FixResult) -> Standing:
    """The decision, unless the record's own lines speak against it."""
    return "contradictory" if contradictions(result) else result.decision


def contradictions(result: FixResult) -> tuple[str, ...]:
    """What in the record does not go together, in sentences."""
    every = read_demands(result)
    kept = bool(every) and all(each.kept for each in every)
    found = []
    if result.decision == "accepted" and not kept:
        found.append("It says accepted, and not every demand is said to be kept.")
    if result.decision == "rejected" and kept:
        found.append("It says rejected, and every demand is said to be kept.")
    if result.decision == "rejected" and (result.written or result.written_digest):
        found.append("It says rejected, and names a new model.")
    return tuple(found)


def decision_sentence(result: FixResult) -> str:
    """What was decided on, in one or two sentences."""
    every = read_demands(result)
    if not every:
        return "The record names no demand."
    missed = sum(not each.kept for each in every)
    if not missed:
        return f"Kept: {'the one demand' if len(every) == 1 else f'all {len(every)} demands'}."
    return f"Not kept: {missed} of {len(every)} demand{'' if len(every) == 1 else 's'}."


def arrange_conditions(result: FixResult) -> tuple[ConditionView, ...]:
    """The repair decided on, which is the last one, then the others, each before its controls."""
    repairs = [each for each in result.conditions if not each.control]
    controls = [each for each in result.conditions if each.control]
    anchors = Anchors()
    views: list[ConditionView] = []
    for repair in (*repairs[-1:], *repairs[:-1]):
        own = [each for each in controls if each.control_of == repair.name]
        controls = [each for each in controls if each.control_of != repair.name]
        views.append(ConditionView(repair, anchors.take("condition", repair.name), not views))
        views += [ConditionView(each, anchors.take("condition", each.name)) for each in own]
    return (*views, *(
        ConditionView(each, anchors.take("condition", each.name), known=False) for each in controls
    ))  # fmt: skip


def line_up_measures(views: Sequence[ConditionView]) -> tuple[Measure, ...]:
    """Every measure under every condition; what all conditions started from stands once."""
    found: dict[str, list[tuple[ConditionView, Comparison]]] = {}
    for view in views:
        for comparison in view.condition.comparisons:
            found.setdefault(comparison.name, []).append((view, comparison))
    return tuple(_measure(name, pairs) for name, pairs in found.items())


def _measure(name: str, pairs: Sequence[tuple[ConditionView, Comparison]]) -> Measure:
    first = pairs[0][1].before
    # What only controls have need not start from the untouched model.
    repaired = any(not view.condition.control for view, _ in pairs)
    shared = repaired and all(comparison.before == first for _, comparison in pairs)
    readings = [Reading("without the repair", "", first, None)] if shared else []
    for view, comparison in pairs:
        if not shared:
            readings.append(Reading(view.condition.name, "before", comparison.before, view))
        when = "" if shared else "after"
        readings.append(Reading(view.condition.name, when, comparison.after, view))
    better = next((pair[1].after.better for pair in pairs if pair[1].after.better), None)
    return Measure(name, f"{better} is better" if better else "", tuple(readings))


def difference(comparison: Comparison) -> str:
    """After minus before with its sign; a dash where one of them is not finite."""
    before, after = comparison.before.value, comparison.after.value
    if not (math.isfinite(before) and math.isfinite(after)):
        return "\N{EN DASH}"
    # What is left of a subtraction of equal decimals is no change.
    value = 0.0 if math.isclose(before, after, rel_tol=1e-12) else float(f"{after - before:.12g}")
    return f"{'+' if value > 0 else ''}{number(value)}"


def _demand(line: str) -> Demand:
    for kept, word in ((True, "kept: "), (False, "missed: ")):
        if line.startswith(word):
            return Demand(kept, line.removeprefix(word))
    return Demand(None, line)
