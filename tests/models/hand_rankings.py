"""Rankings of experts in an order that a test chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from auditor.experts.contrast import contrast_labels
from auditor.experts.contrasted import Contrasted
from auditor.experts.ranking import Ranking, Score
from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet


def hand_ranking(
    order: Sequence[Expert], layers: int, experts: int, *, significant: Sequence[Expert] = (),
    usage: Mapping[Expert, float] | None = None, top: int = 10,
) -> Ranking:  # fmt: skip
    """The first of the order leans most to refusal; all others lean to answers, a little."""
    scores = np.full((layers, experts), -0.001)
    chances = np.ones((layers, experts))
    used = np.full((layers, experts), 0.1)
    for rank, each in enumerate(order):
        scores[each] = 1.0 - rank / 100
    for each in significant:
        chances[each] = 0.001
    for each, share in (usage or {}).items():
        used[each] = share
    return Ranking(
        Score.MOTE_SHARES, tuple(range(layers)), scores, np.ones_like(scores), chances, used, top,
        200, 1_000, contrast_labels([True, True, False, False], 4),
    )  # fmt: skip


def hand_contrasted(ranking: Ranking) -> Contrasted:
    """The ranking, of maps that say nothing."""
    counts = np.zeros((4, *ranking.scores.shape), np.float32)
    maps = RoutingMaps(ranking.layers, TokenSet.LAST, counts, counts, np.ones(4, np.int64))
    return Contrasted(ranking, maps, (), ())
