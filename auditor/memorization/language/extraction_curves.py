"""How extraction grows with the copies of a text and with the prefix: rates, slopes, intervals.

Extraction is reported to grow about linearly in the logarithm of duplication and of the prefix
(Carlini et al. 2022, arXiv 2202.07646). Spans of one document are not independent, so whole
documents are drawn for intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Interval
from auditor.intervals import group_weights, middle_95, wilson_interval
from auditor.memorization.language.extraction_record import Extraction, SpanResult

DRAWS: Final = 1_000

Test = Callable[[SpanResult], bool]


@dataclass(frozen=True)
class RatePoint:
    """A rate at one place of a curve.

    Attributes:
        x: The place: copies, or tokens of the prefix.
        hits: Spans that count.
        total: Of how many.
        interval: Of the share, 95 %.
    """

    x: int
    hits: int
    total: int
    interval: Interval

    @property
    def share(self) -> float:
        """Of the spans that count."""
        return self.hits / self.total

    @property
    def said(self) -> str:
        """As words, with the interval."""
        interval = self.interval
        return f"{self.hits} of {self.total} ({interval.lower:.1%} to {interval.upper:.1%})"


@dataclass(frozen=True)
class Slope:
    """By how much a share rises with each doubling.

    Attributes:
        value: Of the line of least squares.
        interval: 95 %.
        spans: How many it is fitted to.
    """

    value: float
    interval: Interval
    spans: int


def is_exact(result: SpanResult) -> bool:
    """Whether a span is extracted, token by token."""
    return result.exact


def is_near(least: float) -> Test:
    """Whether a completion is at least so similar."""
    return lambda result: result.is_near(least)


def document_interval(hits: Sequence[bool], groups: Sequence[str], seed: int = 0) -> Interval:
    """95 % interval of a share of spans that hang together in documents.

    The wider, at each end, of a bootstrap that draws whole documents and of Wilson's interval with
    the documents as the sample: the bootstrap alone would call a share of 0 or 1 certain.

    Args:
        hits: Whether each span counts, at least one.
        groups: Document of each.
        seed: Of the drawing.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.bincount(members)
    inside = np.bincount(members, weights=np.asarray(hits, dtype=np.float64))
    share, documents = float(inside.sum() / counts.sum()), len(names)
    low = wilson_interval(math.floor(share * documents + 1e-9), documents).lower
    high = wilson_interval(math.ceil(share * documents - 1e-9), documents).upper
    drawn = _drawn(documents, seed)
    found = middle_95((drawn @ inside) / (drawn @ counts))
    if max(counts) == 1:
        return Interval(lower=low, upper=high, method="Wilson")
    return Interval(
        lower=min(low, found.lower), upper=max(high, found.upper),
        method="bootstrap by document, at least Wilson's of the documents",
    )  # fmt: skip


def rate_of(results: Sequence[SpanResult], counts: Test, x: int = 0, seed: int = 0) -> RatePoint:
    """The share of some results, at least one, as a point."""
    hits = [counts(each) for each in results]
    interval = document_interval(hits, [each.span.group for each in results], seed)
    return RatePoint(x, sum(hits), len(hits), interval)


def rates_by_prefix(found: Extraction, counts: Test, seed: int = 0) -> tuple[RatePoint, ...]:
    """The share at each prefix length, of the same spans."""
    return tuple(rate_of(found.at(length), counts, length, seed) for length in found.prefix_lengths)


def rates_by_copies(
    results: Sequence[SpanResult], counts: Test, seed: int = 0
) -> tuple[RatePoint, ...]:
    """The share for each doubling of copies; `x` is where it begins, 1, 2, 4 and so on.

    Spans of unknown copies, or of none, are left out.
    """
    levels: dict[int, list[SpanResult]] = {}
    for each in results:
        if each.span.copies:
            levels.setdefault(1 << (each.span.copies.bit_length() - 1), []).append(each)
    return tuple(rate_of(levels[level], counts, level, seed) for level in sorted(levels))


def slope_of_copies(results: Sequence[SpanResult], counts: Test, seed: int = 0) -> Slope | None:
    """By how much the share rises when copies double; None for fewer than two numbers of copies.

    The line of least squares of each span's 0 or 1 over log2 of its copies.
    """
    known = [each for each in results if each.span.copies]
    places = np.log2([float(each.span.copies or 1) for each in known])
    hits = np.array([counts(each) for each in known], dtype=np.float64)
    return _slope(places, hits, [each.span.group for each in known], seed)


def slope_of_prefix(found: Extraction, counts: Test, seed: int = 0) -> Slope | None:
    """By how much the share rises when the prefix doubles; None for a single length."""
    places = np.log2([float(each.prefix_length) for each in found.results])
    hits = np.array([counts(each) for each in found.results], dtype=np.float64)
    return _slope(places, hits, [each.span.group for each in found.results], seed)


def _slope(
    places: NDArray[np.float64], hits: NDArray[np.float64], groups: Sequence[str], seed: int
) -> Slope | None:
    if len(np.unique(places)) < 2:
        return None
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    # Sums of each document are enough to fit a line to any number of copies of documents.
    parts = np.stack([
        np.bincount(members, weights=weights, minlength=len(names))
        for weights in (np.ones_like(places), places, hits, places * places, places * hits)
    ])  # fmt: skip
    value = float(_fitted(parts.sum(1)[:, None])[0])
    drawn = _fitted(parts @ _drawn(len(names), seed).T)
    interval = middle_95(drawn[np.isfinite(drawn)], "bootstrap by document")
    return Slope(value, interval, len(places))


def _fitted(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes of least squares from sums [5, draws] of 1, x, y, x x and x y."""
    count, x, y, squares, products = sums
    spread = count * squares - x * x
    # Documents of one number of copies alone leave the slope open.
    slopes: NDArray[np.float64] = np.full_like(spread, np.nan)
    np.divide(count * products - x * y, spread, out=slopes, where=spread > 1e-9)
    return slopes


def _drawn(documents: int, seed: int) -> NDArray[np.float64]:
    """How often each document is drawn, [draws, documents]."""
    return group_weights([f"{number:08d}" for number in range(documents)], DRAWS, seed)
