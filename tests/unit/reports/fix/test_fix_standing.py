"""How a repair stands is read from its record; a record against itself is never accepted."""

from __future__ import annotations

import math
from typing import Any

import pytest

from auditor.findings import Metric
from auditor.fix import Comparison, Condition, FixResult
from auditor_reports.fix.standing import (
    Demand,
    arrange_conditions,
    contradictions,
    decision_sentence,
    difference,
    line_up_measures,
    read_demands,
    stand,
)
from tests.golden.sample_fix import BEYOND, DRIFT, sample_fix


def changed(**update: Any) -> FixResult:
    """The sample record with other fields."""
    return sample_fix().model_copy(update=update)


def compared(name: str, before: float, after: float) -> Comparison:
    """A comparison of bare numbers."""
    return Comparison(
        name=name, before=Metric(name=name, value=before), after=Metric(name=name, value=after)
    )


def test_demands_are_kept_missed_or_not_said() -> None:
    """Only a line's beginning says so."""
    result = changed(reasons=("kept: a", "missed: kept: b", "is kept: c", "Kept: d"))
    assert read_demands(result) == (
        Demand(True, "a"), Demand(False, "kept: b"), Demand(None, "is kept: c"),
        Demand(None, "Kept: d"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "reasons", "written", "standing", "problems"),
    [
        ("accepted", ("kept: a",), "new", "accepted", 0),
        ("accepted", ("kept: a",), "", "accepted", 0),
        ("rejected", ("kept: a", "missed: b"), "", "rejected", 0),
        ("rejected", (), "", "rejected", 0),
        ("accepted", ("kept: a", "missed: b"), "new", "contradictory", 1),
        ("accepted", ("kept: a", "b"), "", "contradictory", 1),
        ("accepted", (), "", "contradictory", 1),
        ("rejected", ("kept: a",), "", "contradictory", 1),
        ("rejected", ("missed: a",), "new", "contradictory", 1),
        ("rejected", ("kept: a",), "new", "contradictory", 2),
    ],
)
def test_a_decision_against_its_own_lines_does_not_stand(
    decision: str, reasons: tuple[str, ...], written: str, standing: str, problems: int
) -> None:
    result = changed(decision=decision, reasons=reasons, written=written)
    assert (stand(result), len(contradictions(result))) == (standing, problems)


@pytest.mark.parametrize(
    ("reasons", "sentence"),
    [
        ((), "The record names no demand."),
        (("kept: a",), "Kept: the one demand."),
        (("kept: a", "kept: b"), "Kept: all 2 demands."),
        (("missed: a",), "Not kept: 1 of 1 demand."),
        (("kept: a", "missed: b", "c"), "Not kept: 2 of 3 demands."),
    ],
)
def test_the_sentence_counts_demands(reasons: tuple[str, ...], sentence: str) -> None:
    assert decision_sentence(changed(reasons=reasons)) == sentence


def test_the_last_repair_comes_first_and_each_before_its_controls() -> None:
    """Whatever the order of controls; one whose repair is missing is last, and said to be so."""
    names = (("A", ""), ("c of B", "B"), ("lost", "C"), ("c of A", "A"), ("B", ""), ("c of c", "c"))
    conditions = tuple(
        Condition(name=name, control_of=control_of, comparisons=()) for name, control_of in names
    )
    views = arrange_conditions(changed(conditions=conditions))
    assert [(view.condition.name, view.decided, view.known) for view in views] == [
        ("B", True, True), ("c of B", False, True), ("A", False, True), ("c of A", False, True),
        ("lost", False, False), ("c of c", False, False),
    ]  # fmt: skip
    assert len({view.anchor for view in views}) == len(views)


def test_repairs_of_one_name_are_not_mixed_up() -> None:
    """Only the last is decided on, and no condition is shown twice or not at all."""
    conditions = tuple(
        Condition(name="A", comparisons=(), notes=(note,)) for note in ("first", "second")
    )
    views = arrange_conditions(changed(conditions=conditions))
    assert [(view.condition.notes[0], view.decided) for view in views] == [
        ("second", True), ("first", False)
    ]  # fmt: skip


def test_a_common_start_is_shown_once() -> None:
    """Drift starts from the same everywhere; against the control each starts from its own."""
    result = sample_fix()
    measures = {each.name: each for each in line_up_measures(arrange_conditions(result))}
    shown = [(each.name, each.when, each.metric.value) for each in measures[DRIFT].readings]
    assert shown == [
        ("without the repair", "", 18 / 24),
        ("TraceShield and Prov-Decode", "", 3 / 24),
        ("9 of 54 texts refused at random, 2.1% of steps vetoed at random", "", 15 / 24),
        ("TraceShield", "", 5 / 24),
        ("8 of 54 texts refused at random", "", 16 / 24),
    ]
    assert [(each.when, each.metric.value) for each in measures[BEYOND].readings] == [
        ("before", 15 / 24), ("after", 3 / 24), ("before", 16 / 24), ("after", 5 / 24)
    ]  # fmt: skip
    assert measures[DRIFT].better == "lower is better"


def test_what_only_a_control_has_is_not_said_to_start_from_the_untouched_model() -> None:
    """A single control: its measure starts from the control itself."""
    views = arrange_conditions(changed(conditions=sample_fix().conditions[2:]))
    (beyond,) = [each for each in line_up_measures(views) if each.name == BEYOND]
    assert [(each.when, each.metric.value) for each in beyond.readings] == [
        ("before", 15 / 24), ("after", 3 / 24)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (0.75, 0.125, "-0.625"),
        (0.5, 0.75, "+0.25"),
        (0.5, 0.5, "0"),
        (0.3, 0.1 + 0.2, "0"),
        (3.35, 4.35, "+1"),
        (0.0, 1e-9, "+1e-09"),
        (1.0, math.inf, "\N{EN DASH}"),
        (math.nan, 1.0, "\N{EN DASH}"),
    ],
)
def test_a_difference_has_its_sign(before: float, after: float, shown: str) -> None:
    """What is left of subtracting equal decimals is no change; a small change is one."""
    assert difference(compared("m", before, after)) == shown
