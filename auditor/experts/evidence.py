"""A ranking as records for reports: the map of all experts, the first ones, and divergences."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.experts.divergence import UNIT, Divergence, Divergences
from auditor.experts.ranking import Ranking
from auditor.experts.routing_maps import Expert
from auditor.findings import ExpertMapEvidence, TableEvidence

Float64 = NDArray[np.float64]
DIGITS: Final = 4
"""Significant digits of a value in a map: there are thousands of them."""


def map_evidence(
    title: str, values: Float64, layers: tuple[int, ...], *, marked: Collection[Expert] = (),
    unit: str = "", description: str = "",
) -> ExpertMapEvidence:  # fmt: skip
    """A table of all experts as a record.

    Args:
        title: Its heading.
        values: A number for each expert, NaN where there is none, [layers, experts].
        layers: Numbers of the decoder layers: axis 0.
        marked: Experts to point out.
        unit: Of the values.
        description: What else there is to say.
    """
    return ExpertMapEvidence(
        title=title, layers=layers, experts=values.shape[1],
        values=tuple(
            tuple(float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in row)
            for row in values.tolist()
        ),
        marked=tuple((each.layer, each.expert) for each in sorted(set(marked))), unit=unit,
        description=description,
    )  # fmt: skip


def ranking_table(title: str, ranking: Ranking) -> TableEvidence:
    """The first experts of a ranking with what is known of their rank."""
    return TableEvidence(
        title=title,
        columns=("layer", "expert", str(ranking.score),
                 f"in the top {ranking.top} of resamples", "family-wise chance",
                 "share of tokens"),
        rows=tuple(
            (each.expert.layer, each.expert.expert, each.score, each.stability, each.p_fwe,
             each.usage)
            for each in ranking.first()
        ),
        total_rows=ranking.scores.size,
    )  # fmt: skip


def divergence_table(divergences: Divergences) -> TableEvidence:
    """Divergences and overlap with their intervals, to stand beside a ranking."""
    listed: list[tuple[str, Divergence | None]] = [
        (f"within pairs, {UNIT}", divergences.within_pair),
        (f"between topics, {UNIT}", divergences.between_topics),
        (f"top {divergences.top} experts shared within pairs", divergences.top_overlap),
    ]
    return TableEvidence(
        title="Divergence of routing", columns=("what", "mean", "lower 95 %", "upper 95 %"),
        rows=tuple(
            (name, None, None, None) if found is None
            else (name, found.value, found.interval.lower, found.interval.upper)
            for name, found in listed
        ),
    )  # fmt: skip
