"""Confidence intervals of sampled numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Interval, Metric, Verdict

# Two-sided 95 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054


def wilson_interval(hits: int, total: int) -> Interval:
    """The 95 % Wilson score interval of a share (Wilson 1927).

    Args:
        hits: How many of the sample have the property, 0 <= hits <= total.
        total: Size of the sample, at least 1.
    """
    share, factor = hits / total, Z_95 * Z_95 / total
    middle = (share + factor / 2) / (1 + factor)
    half = Z_95 * math.sqrt(share * (1 - share) / total + factor / (4 * total)) / (1 + factor)
    lower, upper = max(0.0, middle - half), min(1.0, middle + half)
    # At the ends the bound is the share itself; rounding must not push it inside.
    return Interval(
        lower=0.0 if hits == 0 else lower, upper=1.0 if hits == total else upper, method="Wilson"
    )


def share_metric(
    name: str, hits: int, total: int, better: Literal["higher", "lower"], unit: str = "share"
) -> Metric:
    """A share of a sample as a metric with its interval."""
    return Metric(
        name=name,
        value=hits / total,
        unit=unit,
        sample_size=total,
        interval=wilson_interval(hits, total),
        better=better,
    )


@dataclass(frozen=True)
class Share:
    """A share of a sample with its 95 % Wilson interval.

    Attributes:
        hits: How many have the property.
        total: Of how many.
    """

    hits: int
    total: int

    @property
    def value(self) -> float | None:
        """The share, or None where there is nothing to take a share of."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> Interval | None:
        """The interval, or None where there is nothing to take a share of."""
        return wilson_interval(self.hits, self.total) if self.total else None


def held_against(share: Share, most: float) -> Verdict:
    """Whether a share is at most a limit: the whole interval of it, none of it, or neither.

    Args:
        share: Of at least one.
        most: The limit.
    """
    interval = wilson_interval(share.hits, share.total)
    if interval.lower > most:
        return Verdict.VIOLATED
    return Verdict.UNKNOWN if interval.upper > most else Verdict.HOLDS


def held_at_least(share: Share, least: float) -> Verdict:
    """Whether a share is at least a limit: the whole interval of it, none of it, or neither.

    Args:
        share: Of at least one.
        least: The limit.
    """
    interval = wilson_interval(share.hits, share.total)
    if interval.upper < least:
        return Verdict.VIOLATED
    return Verdict.UNKNOWN if interval.lower < least else Verdict.HOLDS


def group_weights(groups: Sequence[str], draws: int, seed: int) -> NDArray[np.float64]:
    """How often each item is drawn when whole groups are, as many as there are, [draws, items].

    A statistic of weighted items is that of as many copies of them (cluster bootstrap).

    Args:
        groups: Name of each item's group, [items].
        draws: How many times.
        seed: Of the drawing.
    """
    source = np.random.default_rng(seed)
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    drawn = source.integers(len(names), size=(draws, len(names)))
    times = np.zeros((draws, len(names)))
    np.add.at(times, (np.arange(draws)[:, None], drawn), 1.0)
    found: NDArray[np.float64] = times[:, members]
    return found


def middle_95(values: NDArray[np.float64], method: str = "cluster bootstrap") -> Interval:
    """The interval that holds the middle 95 % of drawn values."""
    lower, upper = np.quantile(values, [0.025, 0.975])
    return Interval(lower=float(lower), upper=float(upper), method=method)
