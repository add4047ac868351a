"""Paired flips: by hand, by brute force, and against published intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, norm

from auditor.errors import ConfigurationError
from auditor.paired import clopper_pearson_upper, least_faultless, mcnemar, tango_interval


@pytest.mark.parametrize(
    ("one_way", "other_way", "chance"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (0, 10, 2 / 1024), (3, 3, 1.0), (6, 1, 16 / 128)],
)
def test_the_exact_test_is_that_by_hand(one_way: int, other_way: int, chance: float) -> None:
    """Twice the smaller binomial tail at one half."""
    assert mcnemar(one_way, other_way) == pytest.approx(chance)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_test_is_symmetric_and_scipys(one: int, other: int) -> None:
    """Which way is called the first does not matter."""
    assert mcnemar(one, other) == pytest.approx(mcnemar(other, one))
    if one + other:
        assert mcnemar(one, other) == binomtest(one, one + other).pvalue


def test_the_score_interval_is_the_published_one() -> None:
    """Airway reactivity of 21 children, 1 and 7 of them changed (Fagerland et al. 2014)."""
    interval = tango_interval(1, 7, 21)
    assert (round(interval.lower, 3), round(interval.upper, 3)) == (-0.517, -0.026)


def _score(difference: float, one_way: int, other_way: int, total: int) -> float:
    """The score statistic, the likeliest shares of a difference being found by search."""

    def likelihood(second: float) -> float:
        first = second + difference
        shares = ((one_way, first), (other_way, second),
                  (total - one_way - other_way, 1 - first - second))  # fmt: skip
        return -sum(count * math.log(max(share, 1e-300)) for count, share in shares if count)

    least, most = max(0.0, -difference), (1 - difference) / 2
    found = minimize_scalar(
        likelihood, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
    )
    second = float(found.x)
    variance = total * (2 * second + difference - difference**2)
    return (one_way - other_way - total * difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("one_way", "other_way", "total", "confidence"),
    [(12, 2, 50, 0.95), (40, 20, 160, 0.95), (3, 3, 30, 0.9), (1, 30, 60, 0.99), (5, 4, 9, 0.95)],
)
def test_the_score_test_is_at_its_limit_at_both_ends(
    one_way: int, other_way: int, total: int, confidence: float
) -> None:
    """The closed form of the likeliest shares is left out: they are searched for."""
    interval = tango_interval(one_way, other_way, total, confidence)
    quantile = float(norm.ppf((1 + confidence) / 2))
    scores = [_score(end, one_way, other_way, total) for end in (interval.lower, interval.upper)]
    assert scores == pytest.approx([quantile, -quantile], abs=1e-4)


counts = st.integers(1, 400).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.just(total)).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.integers(0, pair[1] - pair[0]),
                               st.just(pair[1]))
    )
)  # fmt: skip


@given(counts)
def test_the_score_interval_holds_the_difference_and_turns_around(
    case: tuple[int, int, int],
) -> None:
    one_way, other_way, total = case
    interval, turned = tango_interval(*case), tango_interval(other_way, one_way, total)
    assert -1 <= interval.lower <= (one_way - other_way) / total <= interval.upper <= 1
    assert interval.lower == pytest.approx(-turned.upper, abs=1e-9)
    assert interval.upper > interval.lower


def test_without_flips_the_interval_is_not_empty() -> None:
    """z^2 / (n + z^2) to both sides, of a sample of any size."""
    end = 1.6448536269514722**2 / (200 + 1.6448536269514722**2)
    interval = tango_interval(0, 0, 200, 0.9)
    assert (interval.lower, interval.upper) == pytest.approx((-end, end))


@settings(deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_at_the_upper_bound_so_few_hits_have_the_remaining_chance(case: tuple[int, int]) -> None:
    """What defines the exact bound: as few hits or fewer come up in 5 % of samples."""
    hits, total = case
    assert binom.cdf(hits, total, clopper_pearson_upper(hits, total)) == pytest.approx(0.05)


@pytest.mark.parametrize(("hits", "total"), [(0, 0), (7, 7)])
def test_nothing_is_excluded_of_an_empty_or_a_full_sample(hits: int, total: int) -> None:
    assert clopper_pearson_upper(hits, total) == 1.0


@pytest.mark.parametrize(("margin", "confidence"), [(0.02, 0.95), (0.05, 0.95), (0.01, 0.99)])
def test_the_least_faultless_sample_is_the_least(margin: float, confidence: float) -> None:
    """One prompt fewer would not do."""
    least = least_faultless(margin, confidence)
    bounds = [clopper_pearson_upper(0, size, confidence) for size in (least - 1, least)]
    assert np.array_equal(np.array(bounds) <= margin, [False, True])


@pytest.mark.parametrize("case", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_do_not_fit_are_refused(case: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigurationError, match="one set of pairs"):
        tango_interval(*case)


def test_more_hits_than_sample_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 of 2"):
        clopper_pearson_upper(3, 2)
