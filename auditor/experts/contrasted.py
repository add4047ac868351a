"""A ranking of experts from a model's own answers, with the maps and pairs it is of.

Pairs share a group (topic, template, length) and differ in what the model did. Without enough of
them prompts are contrasted unpaired, and the report says that topics may be mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import NothingToAudit
from auditor.experts.answers import Asked
from auditor.experts.capture import capture_routing, counted_prompts
from auditor.experts.divergence import Divergences, measure_divergences
from auditor.experts.ranking import Ranking, Score, rank_experts
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import RoutingMaps, TokenSet
from auditor.language.causal_lm import CausalLM
from auditor.language.refusal import Behaviour

TOP: Final = 10
"""Experts whose stability is measured."""
LEAST_PAIRS: Final = 10
"""Fewer topic-matched pairs than these are not ranked by."""


@dataclass(frozen=True, eq=False)
class Contrasted:
    """A ranking, the maps it is of, and the pairs, if it is of pairs.

    Attributes:
        ranking: Of all experts.
        maps: Routing of the prompts that were refused or answered, in their order.
        pairs: Positions in `maps` of the refused and the answered prompt of each pair.
        topics: Group of each pair.
    """

    ranking: Ranking
    maps: RoutingMaps
    pairs: tuple[tuple[int, int], ...]
    topics: tuple[str, ...]

    @property
    def basis(self) -> str:
        """What it was ranked on, for reports."""
        if self.pairs:
            return f"{len(self.pairs)} topic-matched pairs"
        return "unpaired prompts, whose topics may be mixed"

    @property
    def differences(self) -> NDArray[np.float64]:
        """Mean share of tokens of refused less that of answered prompts, [layers, experts].

        Unlike the scores it lies in [-1, 1]: one expert without variance leaves all others seen.
        """
        shares, contrast = self.maps.shares, self.ranking.contrast
        sides = [shares[at].mean(axis=0, dtype=np.float64)
                 for at in (contrast.refused, contrast.answered)]  # fmt: skip
        return np.asarray(sides[0] - sides[1])

    def divergences(self, top: int) -> Divergences | None:
        """Within pairs and between topics; None without pairs."""
        if not self.pairs:
            return None
        return measure_divergences(self.maps, self.pairs, self.topics, top)


def contrast_experts(
    model: CausalLM, routed: RoutedModel, asked: Sequence[Asked], token_set: TokenSet, *,
    score: Score = Score.PAIRED_T, seed: int = 0,
) -> Contrasted:  # fmt: skip
    """Rank experts by refused against answered prompts, in pairs of a group where there are any.

    Args:
        model: The model.
        routed: Its routers.
        asked: Answers of the untouched model; what is neither refused nor answered, such as
            silence, is left out.
        token_set: Which tokens of a prompt are counted.
        score: What to rank by; without enough pairs `paired_t` becomes `mote_shares`.
        seed: Of shuffles and resamples.

    Raises:
        NothingToAudit: Fewer than two prompts are refused, or answered.
    """
    known = [each for each in asked if each.behaviour in (Behaviour.REFUSED, Behaviour.ANSWERED)]
    labels = [each.refused for each in known]
    if sum(labels) < 2 or len(labels) - sum(labels) < 2:
        raise NothingToAudit(
            f"{sum(labels)} of {len(asked)} prompts to rank on are refused and "
            f"{len(labels) - sum(labels)} answered; at least 2 of each are needed"
        )
    texts = counted_prompts([model.encode(each.text) for each in known], token_set)
    maps = capture_routing(routed, texts, token_set)
    pairs, topics = _pairs(known)
    if len(pairs) >= LEAST_PAIRS:
        ranking = rank_experts(maps, pairs=pairs, score=score, top=_top(maps), seed=seed)
        return Contrasted(ranking, maps, tuple(pairs), tuple(topics))
    score = Score.MOTE_SHARES if score is Score.PAIRED_T else score
    ranking = rank_experts(maps, refused=labels, score=score, top=_top(maps), seed=seed)
    return Contrasted(ranking, maps, (), ())


def _pairs(asked: Sequence[Asked]) -> tuple[list[tuple[int, int]], list[str]]:
    """Positions of a refused and an answered prompt of every named group that has both."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for position, each in enumerate(asked):
        if each.prompt.topic:
            sides = groups.setdefault(each.prompt.topic, ([], []))
            sides[0 if each.refused else 1].append(position)
    found = [(name, pair) for name, sides in groups.items() for pair in zip(*sides, strict=False)]
    return [pair for _, pair in found], [name for name, _ in found]


def _top(maps: RoutingMaps) -> int:
    return min(TOP, int(maps.counts[0].size))
