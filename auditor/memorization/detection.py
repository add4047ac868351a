"""How well a signal tells memorised prompts from ordinary ones of the same model.

AUC, and the share of memorised prompts above a threshold that at most so many ordinary ones pass
(Carlini et al. 2022, arXiv 2112.03570, on why a low rate of false alarms is what counts). Groups
of prompts are resampled whole, because prompts of one image say the same thing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.auroc import measure_auroc
from auditor.findings import Interval
from auditor.intervals import Share, group_weights, middle_95
from auditor.memorization.grouped_share import GroupedShare, measure_share

Float64 = NDArray[np.float64]
FALSE_ALARMS: Final = 0.01
DRAWS: Final = 2_000
_CHUNK: Final = 100


@dataclass(frozen=True)
class Detection:
    """What one signal says.

    Attributes:
        signal: Its name.
        area: Under the ROC curve; 0.5 tells nothing apart.
        area_interval: 95 %.
        threshold: The smallest that at most 1 % of the ordinary prompts pass.
        found: Memorised prompts above it.
        false_alarms: Ordinary prompts above it.
    """

    signal: str
    area: float
    area_interval: Interval
    threshold: float
    found: GroupedShare
    false_alarms: Share


def calibrate_threshold(ordinary: Sequence[float], false_alarms: float = FALSE_ALARMS) -> float:
    """The smallest value that at most a share of ordinary prompts lie above, themselves measured.

    With fewer than `1 / false_alarms` prompts it is their largest value: none lies above, and the
    share that will among others is not known to be that small.

    Args:
        ordinary: Signal of each ordinary prompt, at least one.
        false_alarms: The share, in [0, 1).
    """
    ranked = sorted(ordinary, reverse=True)
    return float(ranked[floor(false_alarms * len(ranked))])


def measure_detection(
    signal: str,
    memorised: Sequence[float],
    ordinary: Sequence[float],
    groups: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
) -> Detection:
    """Area and share found, with intervals.

    Args:
        signal: Its name.
        memorised: Of each prompt that is suspected, larger where memorised.
        ordinary: Of each prompt that is not.
        groups: Of the suspected prompts, those of one image together; ordinary ones stand alone.
        seed: Of the resampling.
        draws: How many.

    Raises:
        NothingToAudit: One of the sets is empty.
    """
    strange, common = np.asarray(memorised, np.float64), np.asarray(ordinary, np.float64)
    area = measure_auroc(common, strange)
    threshold = calibrate_threshold(ordinary)
    weights = group_weights(groups, draws, seed)
    others = group_weights([str(row) for row in range(len(common))], draws, seed + 1)
    areas = _drawn_areas(strange, common, weights, others)
    return Detection(
        signal=signal, area=area.value, threshold=threshold,
        # Draws of what is all alike do not spread; then so many faultless draws are what is known.
        area_interval=middle_95(areas) if np.ptp(areas) else area.interval,
        found=measure_share(strange > threshold, groups, seed),
        false_alarms=Share(int((common > threshold).sum()), len(common)),
    )  # fmt: skip


def _drawn_areas(strange: Float64, common: Float64, weights: Float64, others: Float64) -> Float64:
    """The area in each draw, [draws]."""
    won = (strange[:, None] > common) + 0.5 * (strange[:, None] == common)
    parts = [
        ((weights[at : at + _CHUNK] @ won) * others[at : at + _CHUNK]).sum(1)
        for at in range(0, len(weights), _CHUNK)
    ]
    found: Float64 = np.concatenate(parts) / (weights.sum(1) * others.sum(1))
    return found
