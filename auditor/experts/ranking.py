"""Experts ranked by how their routing differs between refused and answered prompts.

The scores of Mixture of Tunable Experts (arXiv 2502.11096), SteerMoE (arXiv 2509.09660) and a
paired t statistic, over all experts of all layers together, with stability over resamples as in
SAFEx (arXiv 2506.17368) and chances that control the family-wise error. A rank says that the
router reads the decision, never that the expert carries it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.contrast import Contrast, contrast_labels, contrast_pairs
from auditor.experts.routing_maps import Expert, RoutingMaps

Float64 = NDArray[np.float64]
SIGNIFICANT: Final = 0.05
"""Family-wise chance up to which a rank is called significant."""
LEAST_ERROR: Final = 1e-3
"""Floor of the standard error of `paired_t`: a difference that never varies has none."""
CHUNK: Final = 2_048
"""Experts scored at once: this bounds the memory, not the result."""
_TIE: Final = 1e-9
"""Relative; a shuffle that is as good as the observed labels must not lose by rounding."""


class Score(StrEnum):
    """What experts are ranked by; refused less answered in each.

    - `mote`: mean count of tokens.
    - `mote_shares`: mean share of tokens.
    - `risk`: share of all tokens of all prompts pooled.
    - `mass`: mean weight that the expert is mixed in with.
    - `paired_t`: mean difference of shares within pairs by its standard error.
    """

    MOTE = "mote"
    MOTE_SHARES = "mote_shares"
    RISK = "risk"
    MASS = "mass"
    PAIRED_T = "paired_t"

    @property
    def note(self) -> str:
        """What is to be said beside it, or nothing."""
        return {
            Score.MOTE: "length-biased: an expert of longer prompts counts more tokens",
            Score.RISK: "long prompts dominate: all tokens are pooled",
            Score.PAIRED_T: f"a difference that never varies counts as an error of {LEAST_ERROR:g}",
        }.get(self, "")


class RankedExpert(NamedTuple):
    """An expert with what is known of its rank.

    Attributes:
        expert: Layer and number.
        score: Positive where refused prompts use it more.
        stability: Share of resamples in which it is among the top.
        p_fwe: Chance that labels without meaning give any expert such a score.
        usage: Share of all counted tokens that reach it.
    """

    expert: Expert
    score: float
    stability: float
    p_fwe: float
    usage: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of all experts, each table float64 [layers, experts].

    Attributes:
        score: What they are ranked by.
        layers: Numbers of the decoder layers: axis 0.
        scores: Positive where refused prompts use the expert more.
        stability: Share of resamples in which the expert is among the `top`.
        p_fwe: Family-wise chance, at least 1 / (1 + shuffles).
        usage: Share of all counted tokens that reach the expert.
        top: How many are the top.
        draws: Resamples behind the stability.
        shuffles: Exchanges of labels behind the chances.
        contrast: The prompts.
    """

    score: Score
    layers: tuple[int, ...]
    scores: Float64
    stability: Float64
    p_fwe: Float64
    usage: Float64
    top: int
    draws: int
    shuffles: int
    contrast: Contrast

    def first(self, count: int | None = None) -> tuple[RankedExpert, ...]:
        """The experts by size of their score, both signs together; ties by layer and number.

        Args:
            count: How many; the `top` if not given.
        """
        order = np.argsort(-np.abs(self.scores.ravel()), kind="stable")
        return tuple(self._at(each) for each in order[: self.top if count is None else count])

    @property
    def significant(self) -> frozenset[Expert]:
        """The experts at the top whose rank is significant: none of them is a control."""
        return frozenset(each.expert for each in self.first() if each.p_fwe <= SIGNIFICANT)

    def leaning(self, *, refused: bool, count: int | None = None) -> tuple[RankedExpert, ...]:
        """The experts that one side uses more, strongest first.

        Args:
            refused: Whether the refused prompts do; the answered ones otherwise.
            count: How many; the `top` if not given.
        """
        signed = self.scores.ravel() if refused else -self.scores.ravel()
        order = np.argsort(-signed, kind="stable")
        kept = [each for each in order[: self.top if count is None else count] if signed[each] > 0]
        return tuple(self._at(each) for each in kept)

    def _at(self, position: int) -> RankedExpert:
        row, column = divmod(int(position), self.scores.shape[1])
        tables = (self.scores, self.stability, self.p_fwe, self.usage)
        return RankedExpert(
            Expert(self.layers[row], column), *(float(table[row, column]) for table in tables)
        )


def rank_experts(
    maps: RoutingMaps, *, pairs: Sequence[tuple[int, int]] | None = None,
    refused: Sequence[bool] | None = None, score: Score = Score.PAIRED_T, top: int = 10,
    draws: int = 200, shuffles: int = 1_000, seed: int = 0,
) -> Ranking:  # fmt: skip
    """Rank all experts; exchanged labels negate every score and change no chance.

    Args:
        maps: Routing of the prompts.
        pairs: Positions of the refused and of the answered prompt of topic-matched pairs.
        refused: Instead of pairs, whether each prompt was refused.
        score: What to rank by.
        top: How many experts are meant; the stability is that of being among them.
        draws: Resamples, pairs kept whole.
        shuffles: Exchanges of labels, within pairs.
        seed: Of both.

    Raises:
        ConfigurationError: Not exactly one of pairs and labels, or they do not fit maps or score.
        NothingToAudit: Fewer than two prompts of either class.
        UnsupportedModel: The maps hold numbers that are not finite.
    """
    contrast = _contrast(maps, pairs, refused, score)
    _, layers, experts = maps.counts.shape
    if not (1 <= top <= layers * experts and draws >= 1 and shuffles >= 1):
        raise ConfigurationError(
            f"top {top} of {layers * experts} experts, {draws} resamples, {shuffles} shuffles; "
            "give at least 1 of each and no more than there are experts"
        )
    resampling, shuffling = np.random.default_rng(seed).spawn(2)
    resampled = contrast.resampled(draws, resampling)
    shuffled = contrast.shuffled(shuffles, shuffling)
    observed, drawn, largest = [], [], np.zeros(shuffles)
    for scorer in _scorers(maps, contrast, score):
        observed.append(scorer(*contrast.observed())[0])
        drawn.append(np.abs(scorer(*resampled)))
        np.maximum(largest, np.abs(scorer(*shuffled)).max(axis=1), out=largest)
    scores = np.concatenate(observed)
    return Ranking(
        score=score, layers=maps.layers, scores=scores.reshape(layers, experts),
        stability=_stability(np.concatenate(drawn, axis=1), top).reshape(layers, experts),
        p_fwe=_chances(np.abs(scores), largest).reshape(layers, experts), usage=maps.usage,
        top=top, draws=draws, shuffles=shuffles, contrast=contrast,
    )  # fmt: skip


def _contrast(
    maps: RoutingMaps, pairs: Sequence[tuple[int, int]] | None,
    refused: Sequence[bool] | None, score: Score,
) -> Contrast:  # fmt: skip
    prompts = len(maps.tokens)
    if not (np.isfinite(maps.counts).all() and np.isfinite(maps.mass).all()):
        raise UnsupportedModel(
            "routing weights that are not finite", place="routing maps",
            way_out="collect them in float32",
        )  # fmt: skip
    if pairs is not None and refused is None:
        return contrast_pairs(pairs, prompts)
    if refused is not None and pairs is None:
        if score is Score.PAIRED_T:
            raise ConfigurationError("paired_t without pairs; give pairs, or another score")
        return contrast_labels(refused, prompts)
    raise ConfigurationError("give either pairs or labels of the prompts")


class _Scorer(NamedTuple):
    """Scores some experts under any weights of the prompts.

    Attributes:
        score: What they are scored by.
        table: Counts, shares or masses of each prompt, [prompts, experts here].
        tokens: Counted tokens of each prompt, [prompts].
    """

    score: Score
    table: Float64
    tokens: Float64

    def __call__(self, first: Float64, second: Float64) -> Float64:
        """The scores, [draws, experts here], of two weights [draws, prompts]."""
        if self.score is Score.PAIRED_T:
            return self._paired_t(first, second)
        # A share of pooled tokens and a mean over prompts differ in what they are divided by.
        each = self.tokens if self.score is Score.RISK else np.ones_like(self.tokens)
        # Sums of counts are exact, so that equal classes differ by nothing at all.
        means = [(side @ self.table) / _positive(side @ each) for side in (first, second)]
        return np.asarray(means[0] - means[1])

    def _paired_t(self, first: Float64, second: Float64) -> Float64:
        pairs = len(self.table) // 2
        differences = self.table[:pairs] - self.table[pairs:]
        # The weight of a pair is that of either half; exchanged it counts with the other sign.
        signs = first[:, :pairs] - second[:, :pairs]
        means = signs @ differences / pairs
        squares = np.abs(signs) @ (differences * differences)
        variances = np.maximum(squares - pairs * means * means, 0.0) / (pairs - 1)
        return np.asarray(means / np.maximum(np.sqrt(variances / pairs), LEAST_ERROR))


def _scorers(maps: RoutingMaps, contrast: Contrast, score: Score) -> Iterator[_Scorer]:
    """One for every `CHUNK` experts, in order."""
    prompts = contrast.prompts
    tokens = np.maximum(maps.tokens[prompts], 1).astype(np.float64)
    source = (maps.mass if score is Score.MASS else maps.counts).reshape(len(maps.tokens), -1)
    for start in range(0, source.shape[1], CHUNK):
        table = source[prompts, start : start + CHUNK].astype(np.float64)
        if score not in (Score.MOTE, Score.RISK):
            table /= tokens[:, None]
        yield _Scorer(score, table, tokens)


def _positive(totals: Float64) -> Float64:
    """Totals as a column to divide by; a class drawn without a token keeps its zeros."""
    return np.where(totals > 0, totals, 1.0)[:, None]


def _stability(sizes: Float64, top: int) -> Float64:
    """Share of draws in which each is among the largest; all that share the last place are.

    A size of 0 is no rank.
    """
    least = np.partition(sizes, -top, axis=1)[:, -top, None]
    return np.asarray(((sizes >= least) & (sizes > 0)).mean(axis=0))


def _chances(sizes: Float64, largest: Float64) -> Float64:
    """Share of shuffles whose largest score is at least each size, the observed one counted."""
    below = np.searchsorted(np.sort(largest), sizes * (1 - _TIE), side="left")
    return np.asarray((1 + len(largest) - below) / (1 + len(largest)))
