"""How well scores tell two samples apart: AUROC with DeLong's intervals.

The area under the ROC curve is the share of pairs (one of each sample) in which the strange
input scores higher, ties counting half (Mann, Whitney 1947). Its variance, and that of the
difference of two scores on the same inputs: DeLong, DeLong, Clarke-Pearson 1988.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from auditor.errors import NothingToAudit
from auditor.findings import Interval
from auditor.intervals import Z_95, wilson_interval

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Auroc:
    """One score's area under the ROC curve.

    Attributes:
        value: In [0, 1]; 0.5 tells nothing apart.
        ordinary: Each ordinary input's share of strange ones that score higher, [ordinary].
        strange: Each strange input's share of ordinary ones that score lower, [strange].
    """

    value: float
    ordinary: Float64
    strange: Float64

    @property
    def variance(self) -> float:
        """DeLong's variance of the value; 0 for a sample of one is no knowledge."""
        return _covariance(self, self)

    @property
    def interval(self) -> Interval:
        """95 %, symmetric in log(value / (1 - value)).

        Where the samples are told apart without fault the variance is 0; then it is the
        Wilson interval of as many faultless draws as the smaller sample has.
        """
        smaller = min(len(self.ordinary), len(self.strange))
        if not 0.0 < self.value < 1.0:
            return wilson_interval(round(self.value) * smaller, smaller)
        spread = self.value * (1 - self.value)
        middle, half = math.log(self.value / (1 - self.value)), math.sqrt(self.variance) / spread
        lower, upper = (1 / (1 + math.exp(-middle + sign * Z_95 * half)) for sign in (1, -1))
        return Interval(lower=lower, upper=upper, method="DeLong, logit")


def measure_auroc(ordinary: Float64, strange: Float64) -> Auroc:
    """The area for scores of ordinary and of strange inputs, [ordinary] and [strange].

    Raises:
        NothingToAudit: One of the samples is empty.
    """
    if not len(ordinary) or not len(strange):
        raise NothingToAudit("AUROC of an empty sample; give inputs of both kinds")
    together = rankdata(np.concatenate([ordinary, strange]))
    below = (together[len(ordinary) :] - rankdata(strange)) / len(ordinary)
    above = 1.0 - (together[: len(ordinary)] - rankdata(ordinary)) / len(strange)
    return Auroc(float(below.mean()), above, below)


def difference_interval(first: Auroc, second: Auroc) -> Interval:
    """95 % interval of first minus second, both on the same inputs in the same order."""
    variance = first.variance + second.variance - 2 * _covariance(first, second)
    half = Z_95 * math.sqrt(max(0.0, variance))
    middle = first.value - second.value
    return Interval(lower=middle - half, upper=middle + half, method="DeLong, paired")


def _covariance(first: Auroc, second: Auroc) -> float:
    parts = ((first.ordinary, second.ordinary), (first.strange, second.strange))
    return sum(
        float((a - a.mean()) @ (b - b.mean())) / (max(len(a) - 1, 1) * len(a)) for a, b in parts
    )
