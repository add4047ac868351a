"""How well a signal tells two sets of prompts apart, and shares of what hangs together."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import NothingToAudit
from auditor.intervals import wilson_interval
from auditor.memorization.detection import calibrate_threshold, measure_detection
from auditor.memorization.grouped_share import mean_interval, measure_share


def test_the_threshold_lets_at_most_so_many_pass() -> None:
    """Of 200 ordinary prompts two; of fewer than 100 none."""
    ordinary = [float(value) for value in range(200)]
    threshold = calibrate_threshold(ordinary)
    assert sum(value > threshold for value in ordinary) == 2
    assert calibrate_threshold(ordinary[:99]) == max(ordinary[:99])
    assert sum(value > calibrate_threshold(ordinary, 0.1) for value in ordinary) == 20


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_areas_and_shares_are_those_of_all_pairs(shift: float) -> None:
    """Counted one by one; the interval holds the value."""
    source = np.random.default_rng(0)
    ordinary, memorised = source.normal(size=150), source.normal(shift, size=60)
    found = measure_detection("s", [*memorised], [*ordinary], [str(row) for row in range(60)])
    pairs = [(a > b) + 0.5 * (a == b) for a in memorised for b in ordinary]
    assert found.area == pytest.approx(np.mean(pairs))
    assert found.area_interval.lower < found.area < found.area_interval.upper
    assert found.found.hits == sum(value > found.threshold for value in memorised)
    assert (found.false_alarms.hits, found.false_alarms.total) == (1, 150)


def test_prompts_of_one_image_say_one_thing() -> None:
    """Every prompt ten times over does not narrow the interval, unless they count as their own."""
    source = np.random.default_rng(1)
    ordinary, memorised = [*source.normal(size=40)], source.normal(1.0, size=12)
    groups = [str(row) for row in range(12)]
    repeated, of = [*np.repeat(memorised, 10)], [*np.repeat(groups, 10)]

    def width(values: list[float], names: list[str]) -> float:
        interval = measure_detection("s", values, ordinary, names).area_interval
        return interval.upper - interval.lower

    once = width([*memorised], groups)
    assert width(repeated, of) == pytest.approx(once)
    assert width(repeated, [str(row) for row in range(120)]) < 0.9 * once


def test_sets_told_apart_without_fault_are_not_known_without_doubt() -> None:
    """The lower end is that of as many faultless draws as the smaller set has."""
    found = measure_detection("s", [3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 2.5], ["a", "b", "c"])
    assert (found.area, found.found.hits) == (1.0, 3)
    assert found.area_interval == wilson_interval(3, 3)
    assert found.found.interval == wilson_interval(3, 3)


def test_an_empty_set_is_refused() -> None:
    """There is nothing to tell apart."""
    with pytest.raises(NothingToAudit):
        measure_detection("s", [], [1.0], [])


def test_a_share_is_resampled_by_group() -> None:
    """Two groups that disagree: anything may be drawn; many groups narrow it."""
    two = measure_share(np.array([True] * 6 + [False] * 6), ["a"] * 6 + ["b"] * 6)
    assert (two.hits, two.total, two.groups, two.value) == (6, 12, 2, 0.5)
    assert (two.interval.lower, two.interval.upper) == (0.0, 1.0)
    hits = np.tile([True, False], 50)
    many = measure_share(hits, [str(row) for row in range(100)])
    assert 0.35 < many.interval.lower < 0.5 < many.interval.upper < 0.65


@pytest.mark.parametrize(("hit", "count"), [(True, 8), (False, 8), (False, 73)])
def test_a_share_of_all_or_none_has_the_interval_of_its_groups(hit: bool, count: int) -> None:
    """Resampling would know no spread; samples of one image do not count as several."""
    groups = [str(row) for row in range(count) for _ in range(6)]
    found = measure_share(np.full(len(groups), hit), groups)
    assert found.interval == wilson_interval(count * hit, count)
    assert str(found).startswith(f"{len(groups) * hit} of {len(groups)} (")


def test_a_mean_of_one_group_has_no_width() -> None:
    """And that of several holds it."""
    values = np.array([1.0, 3.0])
    single = mean_interval(values, ["a", "a"])
    assert (single.lower, single.upper) == (2.0, 2.0)
    several = mean_interval(values, ["a", "b"])
    assert (several.lower, several.upper) == (1.0, 3.0)
