"""Rates, slopes and their intervals where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.intervals import wilson_interval
from auditor.memorization.language.extraction_curves import (
    document_interval,
    is_exact,
    is_near,
    rate_of,
    rates_by_copies,
    rates_by_prefix,
    slope_of_copies,
    slope_of_prefix,
)
from auditor.memorization.language.extraction_record import SpanResult
from tests.models.planted_results import extraction_of, result_of

LEVELS = (1, 2, 4, 8, 16)


def staircase(each: int = 8) -> list[SpanResult]:
    """One eighth more of the spans is exact with each doubling."""
    return [
        result_of(f"{level}-{number}", number < step, copies=level)
        for step, level in enumerate(LEVELS) for number in range(each)
    ]  # fmt: skip


def test_rates_stand_at_each_doubling() -> None:
    """Counts by level; between two doublings the lower one; unknown and no copies nowhere."""
    extra = [result_of("a", True, copies=11), result_of("b", True), result_of("c", True, copies=0)]
    points = rates_by_copies([*staircase(), *extra], is_exact)
    assert [(each.x, each.hits, each.total) for each in points] == [
        (1, 0, 8), (2, 1, 8), (4, 2, 8), (8, 4, 9), (16, 4, 8)
    ]  # fmt: skip
    assert points[1].share == 1 / 8
    assert points[1].said == "1 of 8 (2.2% to 47.1%)"


def test_rates_at_each_prefix_are_of_the_same_spans() -> None:
    """Span by span, all lengths."""
    found = extraction_of(
        [result_of(f"{number}", number < length, length=length)
         for number in range(6) for length in (2, 4)],
        lengths=(2, 4),
    )  # fmt: skip
    assert [(each.x, each.hits, each.total) for each in rates_by_prefix(found, is_exact)] == [
        (2, 2, 6), (4, 4, 6)
    ]  # fmt: skip
    slope = slope_of_prefix(found, is_exact)
    assert slope is not None
    assert slope.value == pytest.approx(2 / 6)
    assert slope.spans == 12


def test_the_slope_of_a_staircase_is_its_step() -> None:
    """One eighth for each doubling, inside its interval."""
    slope = slope_of_copies(staircase(), is_exact)
    assert slope is not None
    assert slope.value == pytest.approx(1 / 8)
    assert slope.interval.lower < 1 / 8 < slope.interval.upper
    assert slope.spans == 40


def test_the_slope_is_that_of_least_squares() -> None:
    """Beside numpy's, for spans of uneven copies."""
    source = np.random.default_rng(3)
    copies = source.integers(1, 200, 60).tolist()
    results = [
        result_of(f"{at}", bool(source.random() < np.log2(each) / 8), copies=each)
        for at, each in enumerate(copies)
    ]
    slope = slope_of_copies(results, is_exact)
    wanted = np.polyfit(np.log2(copies), [float(each.exact) for each in results], 1)[0]
    assert slope is not None
    assert slope.value == pytest.approx(float(wanted))


def test_one_number_of_copies_has_no_slope() -> None:
    """Nor do spans of which none is known, or a single prefix."""
    same = [result_of(f"{number}", number < 2, copies=4) for number in range(4)]
    assert slope_of_copies(same, is_exact) is None
    assert slope_of_copies([result_of("a", True)], is_exact) is None
    assert slope_of_prefix(extraction_of(same), is_exact) is None


def test_more_documents_narrow_the_slope() -> None:
    """Copies of a span in one document do not."""
    few = staircase()
    many = [
        result_of(f"{each.span.name}/{number}", each.exact, copies=each.span.copies)
        for each in few for number in range(9)
    ]  # fmt: skip
    repeated = [
        result_of(f"{each.span.name}/{number}", each.exact, copies=each.span.copies,
                  group=each.span.name)
        for each in few for number in range(9)
    ]  # fmt: skip
    widths = []
    for results in (few, many, repeated):
        slope = slope_of_copies(results, is_exact)
        assert slope is not None
        widths.append(slope.interval.upper - slope.interval.lower)
    assert widths[1] < 0.5 * widths[0]
    assert widths[2] == pytest.approx(widths[0], rel=0.2)


def test_spans_of_their_own_documents_have_wilsons_interval() -> None:
    """Also where the share is 0."""
    for hits in (0, 7, 40):
        found = document_interval([at < hits for at in range(40)], [f"{at}" for at in range(40)])
        wanted = wilson_interval(hits, 40)
        assert (found.lower, found.upper) == (wanted.lower, wanted.upper)


def test_spans_of_few_documents_say_less() -> None:
    """Forty spans of four documents are not forty samples, whatever they say."""
    groups = [f"{at % 4}" for at in range(40)]
    for hits in ([False] * 40, [at % 4 == 0 for at in range(40)]):
        found = document_interval(hits, groups)
        alone = wilson_interval(sum(hits), 40)
        assert found.lower <= alone.lower
        assert found.upper > alone.upper + 0.1


def test_near_counts_what_is_similar_enough() -> None:
    """Exact ones too, and nothing that was not compared."""
    results = [
        result_of("a", True), result_of("b", False, similarity=0.8),
        result_of("c", False, similarity=0.7), result_of("d", False),
    ]  # fmt: skip
    assert (rate_of(results, is_near(0.75)).hits, rate_of(results, is_exact).hits) == (2, 1)
