"""The effect of a repair stands beside every random set: each is in a bar, nothing is made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from auditor.fix import FixResult, RandomEffects
from auditor_reports.fix.effects import (
    BASE,
    TOP,
    WIDTH,
    EffectChart,
    bin_effects,
    effect_sentences,
    effect_title,
    lay_out_effects,
)
from auditor_reports.fix.json import render_fix_json
from auditor_reports.fix.standing import ConditionView, arrange_conditions
from tests.golden.sample_fix import random_effects, sample_expert_fix, sample_fix

EFFECTS = st.lists(st.integers(-10_000, 10_000), max_size=40)


def effects_of(random: list[int], repair: int, turned: int | None = None) -> RandomEffects:
    """Random sets of these effects beside a repair."""
    as_much = sum(each >= repair for each in random)
    return random_effects(0).model_copy(
        update={"random": tuple(random), "repair": repair, "wrong_direction": turned, "left_out": 0,
                "chance": (1 + as_much) / (1 + len(random))}
    )  # fmt: skip


def chart_of(effects: RandomEffects) -> EffectChart:
    """Its drawing."""
    control = sample_expert_fix().conditions[0].model_copy(update={"random": effects})
    (chart,) = lay_out_effects([ConditionView(control, "a")])
    return chart


@given(EFFECTS, st.floats(0, 40_000))
def test_every_random_set_is_in_one_bin(random: list[int], least: float) -> None:
    """Of whole numbers, all as wide as asked for or more; none is lost and none twice."""
    bins = bin_effects(effects_of(random, 0), least)
    assert sum(each.sets for each in bins) == len(random)
    assert len({each.upper - each.lower for each in bins}) <= 1
    for each in bins:
        assert each.sets == sum(each.lower <= one <= each.upper for one in random) > 0
        assert each.upper - each.lower + 1 >= least


@given(EFFECTS, st.integers(-300, 300), st.none() | st.integers(-300, 300))
def test_everything_lies_in_the_frame(random: list[int], repair: int, turned: int | None) -> None:
    """Bars stand apart, and none reaches over the words above them."""
    chart = chart_of(effects_of(random, repair, turned))
    edges = [edge for bar in chart.bars for edge in (bar.left, bar.right)]
    assert edges == sorted(set(edges))
    marks = [chart.own.at, *([] if chart.turned is None else [chart.turned.at]), chart.zero]
    assert all(0 < at < WIDTH for at in (*edges, *marks))
    assert all(TOP <= bar.top <= BASE for bar in chart.bars)
    assert bool(chart.bars) == bool(random)
    assert not random or min(bar.top for bar in chart.bars) == TOP


def test_more_sets_make_a_higher_bar_in_proportion() -> None:
    """Three sets of 5 and one of 40: a third of the height."""
    low, high = chart_of(effects_of([5, 5, 5, 40], 60)).bars[::-1]
    assert (BASE - low.top) * 3 == pytest.approx(BASE - high.top, abs=0.2)


def test_the_repair_stands_to_the_right_of_what_does_less() -> None:
    """And the other way around to the left of no effect."""
    chart = chart_of(effects_of([-3, 0, 2], 60, -50))
    assert chart.turned is not None
    assert chart.turned.at < chart.zero < chart.own.at
    assert all(bar.right < chart.own.at for bar in chart.bars)
    assert (chart.own.text, chart.turned.text) == ("the repair: 60", "turned around: -50")
    assert (chart.own.leftwards, chart.turned.leftwards) == (True, False)


def test_what_is_drawn_is_told_in_words() -> None:
    """Counts, chance, and what is left out or missing."""
    effects = effects_of([-3, 7, 2], 7, -50).model_copy(update={"left_out": 2})
    told = [
        "The repair: 7 of 300 prompts.",
        "3 random sets: -3 to 7, median 2; 1 of them do as much as the repair. They are distinct "
        "sets of as many experts of the same layers, each of the 7 nearest in usage.",
        "Left out, because they cannot be applied: 2.",
        "The repair turned around: -50.",
        "Chance that a random set does as much: 0.5, which is (1 + 1) / (1 + 3).",
    ]
    assert list(effect_sentences(effects)) == told
    assert (chart_of(effects).sentences, chart_of(effects).chance) == (tuple(told), "chance 0.5")
    assert effect_sentences(effects_of([], 7)) == (
        "The repair: 7 of 300 prompts.", "Not one random set could be measured.",
        "The repair turned around cannot be applied.",
        "Chance that a random set does as much: 1, which is (1 + 0) / (1 + 0).",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("random", "least", "ranges"),
    [
        ([4], 1, ["4"]),
        ([-1, 0, 1, 1], 1, ["-1", "0", "1"]),
        ([-20, -1, 0], 1.5, ["-20 to -19", "-2 to -1", "0 to 1"]),
        ([0, 4_000], 2_001, ["0 to 4,999"]),
    ],
)
def test_bins_are_named_by_the_numbers_in_them(
    random: list[int], least: float, ranges: list[str]
) -> None:
    assert [each.range for each in bin_effects(effects_of(random, 9), least)] == ranges


def test_ticks_are_whole_numbers() -> None:
    """Prompts are counted: half a prompt is none."""
    chart = chart_of(effects_of([0, 1], 2))
    assert [tick.label for tick in chart.ticks] == ["0", "1", "2"]


def test_the_title_counts_the_sets() -> None:
    assert effect_title(effects_of([1], 2)) == "Effect beside 1 matched random set"
    assert effect_title(effects_of([1, 1], 2)) == "Effect beside 2 matched random sets"


def test_a_control_without_random_sets_has_no_drawing() -> None:
    assert lay_out_effects(arrange_conditions(sample_fix())) == ()
    assert len(lay_out_effects(arrange_conditions(sample_expert_fix()))) == 1


def test_a_record_without_random_sets_is_written_as_it_always_was() -> None:
    """Its file keeps its digest, and one without the key is read."""
    assert b'"random"' not in render_fix_json(sample_fix())
    content = render_fix_json(sample_expert_fix())
    assert content.count(b'"random": {') == 1
    assert FixResult.model_validate_json(content) == sample_expert_fix()


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"chance": 0.5}, "chance 0.5 of sets that give 0.0102041"), ({"left_out": -1}, "left_out"),
     ({"repair": 10**12}, "repair"), ({"random": ["1.5"]}, "random")],
)  # fmt: skip
def test_counts_that_cannot_be_are_no_record(change: dict[str, object], problem: str) -> None:
    """A chance is that of the sets that stand beside it."""
    with pytest.raises(ValidationError, match=problem):
        RandomEffects.model_validate(random_effects(97).model_dump() | change)
