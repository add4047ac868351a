"""Exact and score statistics of paired yes-or-no answers: before and after, on the same prompts.

Only prompts whose answer changed tell of a difference: the exact test of McNemar 1947, the score
interval of Tango 1998 (Statistics in Medicine 17:891), and the exact bound of Clopper and Pearson
1934. None of them degenerates where nothing changed, as a bootstrap does.
"""

from __future__ import annotations

import math
from typing import Final

from scipy.stats import beta, binomtest, norm

from auditor.errors import ConfigurationError
from auditor.findings import Interval

_HALVINGS: Final = 60


def mcnemar(one_way: int, other_way: int) -> float:
    """Two-sided exact McNemar test of paired flips; 1 without any."""
    total = one_way + other_way
    return float(binomtest(one_way, total).pvalue) if total else 1.0


def tango_interval(one_way: int, other_way: int, total: int, confidence: float = 0.95) -> Interval:
    """The score interval of a difference of paired shares, `(one_way - other_way) / total`.

    It holds the differences that the score test does not reject, two-sided. Without any flip it
    is `-z^2 / (total + z^2)` to `z^2 / (total + z^2)`, and turned around it changes its sign.

    Args:
        one_way: Pairs that count for the first share alone, at least 0.
        other_way: Pairs that count for the second alone, at least 0.
        total: All pairs, at least 1 and at least the flips.
        confidence: In (0, 1); an end alone is a one-sided bound at `(1 + confidence) / 2`.

    Raises:
        ConfigurationError: The counts do not fit each other.

    Source: Tango 1998; the ends by halving, for the statistic falls with the difference.
    """
    if min(one_way, other_way) < 0 or total < max(1, one_way + other_way):
        raise ConfigurationError(
            f"{one_way} and {other_way} flips of {total} pairs; give counts of one set of pairs"
        )
    middle = (one_way - other_way) / total
    quantile = float(norm.ppf((1 + confidence) / 2))
    ends = [_end(middle, outside, one_way, other_way, total, quantile) for outside in (-1.0, 1.0)]
    return Interval(
        lower=ends[0], upper=ends[1], confidence=confidence, method="Tango score, paired"
    )


def clopper_pearson_upper(hits: int, total: int, confidence: float = 0.95) -> float:
    """The exact one-sided upper bound of a share; 1 where there is nothing to take a share of.

    Args:
        hits: How many of the sample have the property, 0 <= hits <= total.
        total: Size of the sample.
        confidence: One-sided, in (0, 1).

    Raises:
        ConfigurationError: The counts do not fit each other.
    """
    if not 0 <= hits <= total:
        raise ConfigurationError(f"{hits} of {total}; give counts of one sample")
    return 1.0 if hits == total else float(beta.ppf(confidence, hits + 1, total - hits))


def least_faultless(margin: float, confidence: float = 0.95) -> int:
    """The least sample without a hit whose upper bound is at most the margin, in (0, 1).

    149 for 2 % at 95 %: `1 - (1 - confidence) ** (1 / n) <= margin`.
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-margin))


def _end(
    inside: float, outside: float, one_way: int, other_way: int, total: int, quantile: float
) -> float:
    """The end between a difference the test keeps and one it cannot keep."""
    for _ in range(_HALVINGS):
        between = (inside + outside) / 2
        if _kept(between, one_way, other_way, total, quantile):
            inside = between
        else:
            outside = between
    return inside


def _kept(difference: float, one_way: int, other_way: int, total: int, quantile: float) -> bool:
    """Whether the score test does not reject a difference."""
    # The likeliest share of `other_way` pairs if this were the difference: Tango's q21.
    linear = (2 * total - one_way + other_way) * difference - one_way - other_way
    constant = -other_way * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8 * total * constant))
    share = (root - linear) / (4 * total)
    variance = total * (2 * share + difference * (1 - difference))
    distance = one_way - other_way - total * difference
    return distance * distance <= quantile * quantile * variance
