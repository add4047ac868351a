"""How far routing differs within pairs, and how far between topics.

The topic is the confound of every ranking: where topics differ more than refused and answered
prompts do, an unpaired ranking finds topics (arXiv 2605.29708). Divergences are Jensen and
Shannon's, in bits: 0 for the same distribution, 1 for distributions that share no expert (Lin
1991).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.experts.contrast import Positions, contrast_pairs
from auditor.experts.routing_maps import RoutingMaps
from auditor.findings import Interval
from auditor.intervals import middle_95

Float64 = NDArray[np.float64]
PARTNERS: Final = 5
"""Pairs of other topics that each pair is compared with."""
UNIT: Final = "bits"


@dataclass(frozen=True, eq=False)
class Divergence:
    """A mean over comparisons and layers.

    Attributes:
        value: The mean.
        interval: 95 %, pairs of prompts resampled whole.
        by_layer: The mean over comparisons of each layer, [layers].
    """

    value: float
    interval: Interval
    by_layer: Float64


@dataclass(frozen=True, eq=False)
class Divergences:
    """What to print beside a ranking.

    Attributes:
        within_pair: Bits between the two prompts of a pair.
        between_topics: Bits between prompts of different topics that the model treated alike;
            None where there is one topic.
        top_overlap: Of the experts with the largest mass in a layer, how many the two prompts of
            a pair share, of `top`.
        top: How many experts that is.
    """

    within_pair: Divergence
    between_topics: Divergence | None
    top_overlap: Divergence
    top: int


def jensen_shannon(first: Float64, second: Float64) -> Float64:
    """Divergence in bits of distributions along the last axis; symmetric, in [0, 1]."""
    middle = (first + second) / 2
    return np.clip(_entropy(middle) - (_entropy(first) + _entropy(second)) / 2, 0.0, 1.0)


def measure_divergences(
    maps: RoutingMaps, pairs: Sequence[tuple[int, int]], topics: Sequence[str], top: int,
    draws: int = 1_000, seed: int = 0,
) -> Divergences:  # fmt: skip
    """Divergences of the prompts' own routing distributions, layer by layer.

    Both are between single prompts, so that they can be compared; few counted tokens make both
    large. Each pair is compared with at most `PARTNERS` pairs of other topics.

    Args:
        maps: Routing of the prompts.
        pairs: Positions of the refused and of the answered prompt of each pair.
        topics: Topic of each pair.
        top: How many experts of a layer to compare, for example those of a token.
        draws: Of the bootstrap.
        seed: Of the partners and of the bootstrap.

    Raises:
        ConfigurationError: Pairs, topics and `top` do not fit the maps, or a prompt of a pair has
            no counted token.
        NothingToAudit: There are fewer than two pairs.
    """
    contrast = contrast_pairs(pairs, len(maps.tokens))
    experts = maps.counts.shape[2]
    if len(topics) != len(pairs) or not 1 <= top <= experts:
        raise ConfigurationError(
            f"{len(topics)} topics of {len(pairs)} pairs, top {top} of {experts} experts; give a "
            "topic for each pair, and no more than there are experts"
        )
    if not (maps.counts[contrast.prompts].sum(axis=2) > 0).all():
        raise ConfigurationError(
            "a prompt without counted tokens has no routing; take its pair out"
        )
    partnering, drawing = np.random.default_rng(seed).spawn(2)
    times = drawing.multinomial(
        len(pairs), np.full(len(pairs), 1 / len(pairs)), size=draws
    ).astype(np.float64)  # fmt: skip
    one, other = _partners(topics, partnering)
    sides = contrast.refused, contrast.answered
    overlaps = _overlaps(maps, *sides, top)
    crossed = np.mean([_divergences(maps, side[one], side[other]) for side in sides], axis=0)
    return Divergences(
        within_pair=_mean(_divergences(maps, *sides), times),
        between_topics=_mean(crossed, times[:, one] * times[:, other]) if len(one) else None,
        top_overlap=_mean(overlaps, times), top=top,
    )  # fmt: skip


def _partners(topics: Sequence[str], source: np.random.Generator) -> tuple[Positions, Positions]:
    """Positions of pairs to compare, each with some of other topics, two of [comparisons]."""
    names = np.array(list(topics))
    one, other = [], []
    for position, name in enumerate(names):
        strangers = np.flatnonzero(names != name)
        drawn = source.permutation(strangers)[:PARTNERS]
        one += [position] * len(drawn)
        other += drawn.tolist()
    return np.array(one, dtype=np.intp), np.array(other, dtype=np.intp)


def _divergences(maps: RoutingMaps, first: Positions, second: Positions) -> Float64:
    """Bits between prompts, [comparisons, layers]."""
    found = np.empty((len(first), len(maps.layers)))
    for layer in range(len(maps.layers)):
        counts = maps.counts[:, layer].astype(np.float64)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        found[:, layer] = jensen_shannon(shares[first], shares[second])
    return found


def _overlaps(maps: RoutingMaps, first: Positions, second: Positions, top: int) -> Float64:
    """How many of the `top` experts by mass prompts share, [comparisons, layers]."""
    order = np.argsort(-maps.mass, axis=2, kind="stable")[:, :, :top]
    among = np.zeros(maps.mass.shape, dtype=bool)
    np.put_along_axis(among, order, True, axis=2)
    # An expert that no token reached is not among the top, however few others there are.
    among &= maps.counts > 0
    return np.asarray((among[first] & among[second]).sum(axis=2), dtype=np.float64)


def _mean(values: Float64, weights: Float64) -> Divergence:
    """The mean of comparisons, [comparisons, layers], with drawn weights [draws, comparisons]."""
    totals = weights.sum(axis=1)
    kept = totals > 0
    drawn = weights[kept] @ values.mean(axis=1) / totals[kept]
    return Divergence(
        float(values.mean()), middle_95(drawn, "bootstrap of pairs"), values.mean(axis=0)
    )


def _entropy(shares: Float64) -> Float64:
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=-1))
