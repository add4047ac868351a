"""Divergences of distributions that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from auditor.errors import ConfigurationError
from auditor.experts.divergence import jensen_shannon, measure_divergences
from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet
from tests.unit.experts.planted_maps import noise_maps


def one_hot(chosen: list[list[int]], experts: int = 4) -> RoutingMaps:
    """Maps of single tokens that chose the experts given, layer by layer alike."""
    counts = np.zeros((len(chosen), 2, experts), dtype=np.float32)
    for prompt, each in enumerate(chosen):
        counts[prompt, :, each] = 1
    return RoutingMaps((0, 1), TokenSet.LAST, counts, counts, np.ones(len(chosen), dtype=np.int64))


def test_the_divergence_is_scipys_squared() -> None:
    source = np.random.default_rng(0)
    first, second = source.dirichlet(np.ones(9), size=(2, 6))
    expected = jensenshannon(first, second, axis=1, base=2) ** 2
    assert jensen_shannon(first, second) == pytest.approx(expected)


def test_bits_of_the_same_and_of_strangers() -> None:
    """0 and 1, with experts that nobody uses."""
    here, there = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5])
    assert jensen_shannon(here, here) == 0.0
    assert jensen_shannon(here, there) == 1.0


def test_pairs_that_share_one_of_two_experts() -> None:
    """Half a bit within pairs, one between topics, one of two experts shared."""
    maps = one_hot([[0, 1], [0, 2], [4, 5], [4, 6]], experts=8)
    found = measure_divergences(maps, [(0, 1), (2, 3)], ["a", "b"], top=2, draws=50)
    assert found.within_pair.value == pytest.approx(0.5)
    assert found.within_pair.interval.lower == pytest.approx(0.5)
    assert found.within_pair.interval.upper == pytest.approx(0.5)
    assert found.within_pair.by_layer == pytest.approx([0.5, 0.5])
    assert found.between_topics is not None
    assert found.between_topics.value == 1.0
    assert (found.top_overlap.value, found.top) == (1.0, 2)


def test_topics_that_differ_more_than_answers_are_seen() -> None:
    """The confound of unpaired rankings, planted; and its absence."""
    maps, pairs, topics = noise_maps(40, 0, topics=4)
    found = measure_divergences(maps, pairs, topics, top=2)
    assert found.between_topics is not None
    assert found.within_pair.interval.upper < found.between_topics.interval.lower
    planted = {Expert(layer, 0): 4.0 for layer in maps.layers}
    maps, pairs, _ = noise_maps(40, 0, planted=planted)
    found = measure_divergences(maps, pairs, topics, top=2)
    assert found.between_topics is not None
    assert found.within_pair.interval.lower > found.between_topics.interval.upper


def test_both_pairs_of_a_comparison_are_resampled() -> None:
    """Of three topics two are alike: a resample without the third finds no divergence at all."""
    maps = one_hot([[0], [0], [0], [0], [1], [1]])
    found = measure_divergences(maps, [(0, 1), (2, 3), (4, 5)], ["a", "b", "c"], top=1)
    assert found.between_topics is not None
    assert found.between_topics.value == pytest.approx(2 / 3)
    assert (found.between_topics.interval.lower, found.between_topics.interval.upper) == (0.0, 1.0)


def test_one_topic_has_no_other() -> None:
    maps, pairs, topics = noise_maps(4, 0)
    assert measure_divergences(maps, pairs, topics, top=1).between_topics is None


def test_an_expert_without_tokens_is_not_among_the_top() -> None:
    """Two prompts of one expert share one of two, not two."""
    maps = one_hot([[0], [0], [1], [1]])
    assert measure_divergences(maps, [(0, 1), (2, 3)], "ab", top=2).top_overlap.value == 1.0


def test_what_does_not_fit_is_refused() -> None:
    maps, pairs, topics = noise_maps(4, 0)
    with pytest.raises(ConfigurationError, match="3 topics of 4 pairs"):
        measure_divergences(maps, pairs, topics[:3], top=1)
    with pytest.raises(ConfigurationError, match="top 17 of 16 experts"):
        measure_divergences(maps, pairs, topics, top=17)
    maps.counts[3] = 0
    with pytest.raises(ConfigurationError, match="without counted tokens"):
        measure_divergences(maps, pairs, topics, top=1)
