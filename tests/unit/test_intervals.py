"""Wilson intervals, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.findings import Verdict
from auditor.intervals import (
    Z_95,
    Share,
    group_weights,
    held_against,
    held_at_least,
    share_metric,
    wilson_interval,
)


def test_interval_of_no_hits_has_the_closed_form() -> None:
    """For 0 of n the upper end is z^2 / (n + z^2)."""
    interval = wilson_interval(0, 50)
    assert interval.lower == 0.0
    assert interval.upper == pytest.approx(Z_95**2 / (50 + Z_95**2))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_contains_the_share_and_mirrors(case: tuple[int, int]) -> None:
    hits, total = case
    interval = wilson_interval(hits, total)
    assert 0 <= interval.lower <= hits / total <= interval.upper <= 1
    mirrored = wilson_interval(total - hits, total)
    assert math.isclose(interval.lower, 1 - mirrored.upper, abs_tol=1e-12)


def test_interval_ends_solve_the_score_equation() -> None:
    """At each end p of the Wilson interval, |share - p| = z sqrt(p (1 - p) / n)."""
    interval = wilson_interval(30, 40)
    for end in (interval.lower, interval.upper):
        assert abs(0.75 - end) == pytest.approx(Z_95 * math.sqrt(end * (1 - end) / 40))


def test_share_metric_carries_size_and_interval() -> None:
    metric = share_metric("refused", 3, 4, "lower")
    assert (metric.value, metric.sample_size, metric.better) == (0.75, 4, "lower")
    assert metric.interval == wilson_interval(3, 4)


def test_groups_are_drawn_whole_and_as_often_as_there_are_groups() -> None:
    """Items of one group have one weight; the weights of groups add up to their number."""
    groups = ["a", "a", "b", "c", "c", "c"]
    weights = group_weights(groups, 500, 7)
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.15


@pytest.mark.parametrize(
    ("hits", "verdict"), [(0, Verdict.HOLDS), (12, Verdict.UNKNOWN), (60, Verdict.VIOLATED)]
)
def test_a_share_is_held_against_a_limit_with_its_whole_interval(
    hits: int, verdict: Verdict
) -> None:
    """Of 200, at most 5 %: below, across, above."""
    assert held_against(Share(hits, 200), 0.05) is verdict


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
       st.integers(1, 99))  # fmt: skip
def test_at_least_is_at_most_of_the_rest(share: tuple[int, int], percent: int) -> None:
    """A share has to be at least a limit where its complement may be at most one less it."""
    hits, total = share
    least = percent / 100 + 1e-7  # away from ends of intervals, where rounding would decide
    assert held_at_least(Share(hits, total), least) is held_against(
        Share(total - hits, total), 1 - least
    )


@pytest.mark.parametrize(
    ("hits", "verdict"), [(200, Verdict.HOLDS), (190, Verdict.UNKNOWN), (150, Verdict.VIOLATED)]
)
def test_a_share_has_to_reach_a_limit_with_its_whole_interval(hits: int, verdict: Verdict) -> None:
    """Of 200: all show 95 %, 190 do not, 150 exclude it."""
    assert held_at_least(Share(hits, 200), 0.95) is verdict
