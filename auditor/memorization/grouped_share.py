"""A share of items that hang together in groups: samples of one image, prompts of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Interval
from auditor.intervals import group_weights, middle_95, wilson_interval

DRAWS: Final = 2_000


@dataclass(frozen=True)
class GroupedShare:
    """A share with the interval that its groups allow.

    Attributes:
        hits: Items with the property.
        total: Items.
        groups: How many groups they are of.
        interval: 95 %; groups are resampled whole. Where all items agree, resampling would know no
            spread, and it is the Wilson interval of as many groups that agree.
    """

    hits: int
    total: int
    groups: int
    interval: Interval

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.total

    def __str__(self) -> str:
        return (
            f"{self.hits} of {self.total} ({self.interval.lower:.1%} to {self.interval.upper:.1%})"
        )


def measure_share(hits: NDArray[np.bool_], groups: Sequence[str], seed: int = 0) -> GroupedShare:
    """The share of items with a property.

    Args:
        hits: Whether each has it, [items], at least one.
        groups: Of each item.
        seed: Of the resampling.
    """
    count, found = len(set(groups)), int(hits.sum())
    if 0 < found < len(hits):
        weights = group_weights(groups, DRAWS, seed)
        interval = middle_95((weights @ hits) / weights.sum(1))
    else:
        interval = wilson_interval(count if found else 0, count)
    return GroupedShare(found, len(hits), count, interval)


def mean_interval(values: NDArray[np.float64], groups: Sequence[str], seed: int = 0) -> Interval:
    """95 % interval of a mean, groups resampled whole; of a single group it has no width.

    Args:
        values: Of each item, [items].
        groups: Of each item.
        seed: Of the resampling.
    """
    weights = group_weights(groups, DRAWS, seed)
    return middle_95((weights @ values) / weights.sum(1))
