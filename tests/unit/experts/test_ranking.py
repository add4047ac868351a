"""A planted expert is found by every score, and nothing is found where nothing is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, ttest_rel

from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.experts.ranking import Ranking, Score, rank_experts
from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet
from tests.unit.experts.planted_maps import EXPERTS, LAYERS, noise_maps

PLANTED = Expert(3, 5)
BY_LABELS = [each for each in Score if each is not Score.PAIRED_T]


def rank_planted(score: Score, *, seed: int = 0, sign: float = 1.0) -> Ranking:
    maps, pairs, _ = noise_maps(40, 3, planted={PLANTED: 0.6})
    pairs = pairs if sign > 0 else [(second, first) for first, second in pairs]
    return rank_experts(maps, pairs=pairs, score=score, top=2, shuffles=300, seed=seed)


@pytest.mark.parametrize("score", Score)
def test_a_planted_expert_is_first(score: Score) -> None:
    """With a chance below 5 %, stable, and leaning to refused prompts."""
    ranking = rank_planted(score)
    best = ranking.first(1)[0]
    assert best.expert == PLANTED
    assert best.score > 0
    assert best.p_fwe == 1 / 301
    assert best.stability == 1.0
    assert ranking.leaning(refused=True, count=1) == (best,)
    assert PLANTED not in [each.expert for each in ranking.leaning(refused=False, count=100)]


@pytest.mark.parametrize("score", BY_LABELS)
def test_a_planted_expert_is_first_without_pairs(score: Score) -> None:
    """Labels alone do where topics are the same."""
    maps, _, _ = noise_maps(40, 3, planted={PLANTED: 0.6})
    ranking = rank_experts(maps, refused=[True, False] * 40, score=score, shuffles=300)
    assert ranking.first(1)[0].expert == PLANTED
    assert ranking.first(1)[0].p_fwe == 1 / 301


@pytest.mark.parametrize("score", Score)
def test_exchanged_labels_negate_scores_and_change_no_chance(score: Score) -> None:
    first, second = rank_planted(score), rank_planted(score, sign=-1.0)
    assert np.allclose(first.scores, -second.scores, rtol=0, atol=1e-12)
    assert np.array_equal(first.p_fwe, second.p_fwe)
    assert np.array_equal(first.stability, second.stability)


@pytest.mark.parametrize("score", Score)
def test_the_order_of_prompts_changes_nothing(score: Score) -> None:
    """Pairs that name the same prompts elsewhere."""
    maps, pairs, _ = noise_maps(20, 5, planted={PLANTED: 0.2})
    order = np.random.default_rng(0).permutation(40)
    place = np.argsort(order)
    moved = [(int(place[first]), int(place[second])) for first, second in pairs]
    here = rank_experts(maps, pairs=pairs, score=score, shuffles=200)
    there = rank_experts(maps.take(order), pairs=moved, score=score, shuffles=200)
    assert np.array_equal(here.scores, there.scores)
    assert np.array_equal(here.p_fwe, there.p_fwe)
    assert np.array_equal(here.stability, there.stability)
    assert np.allclose(here.usage, there.usage)


def test_scores_are_those_by_hand() -> None:
    """Two pairs, one layer, two experts, prompts of 2, 4, 1 and 2 tokens."""
    counts = np.array([[[2, 0]], [[1, 3]], [[1, 0]], [[0, 2]]], dtype=np.float32)
    maps = RoutingMaps(
        (0,), TokenSet.PROMPT, counts, counts * np.float32(0.25), np.array([2, 4, 1, 2])
    )
    pairs = [(0, 1), (2, 3)]
    found = {
        score: rank_experts(maps, pairs=pairs, score=score, top=1).scores[0] for score in Score
    }
    assert found[Score.MOTE].tolist() == [1.0, -2.5]
    assert found[Score.MOTE_SHARES].tolist() == [0.875, -0.875]
    assert found[Score.RISK] == pytest.approx([3 / 3 - 1 / 6, 0 / 3 - 5 / 6])
    assert found[Score.MASS].tolist() == [0.21875, -0.21875]
    assert found[Score.PAIRED_T] == pytest.approx([0.875 / 0.125, -0.875 / 0.125])


def test_paired_t_is_the_t_statistic() -> None:
    maps, pairs, _ = noise_maps(30, 1)
    scores = rank_experts(maps, pairs=pairs, shuffles=10).scores
    statistic = ttest_rel(maps.shares[::2].astype(float), maps.shares[1::2].astype(float))
    assert scores == pytest.approx(statistic.statistic, abs=1e-6)


def test_a_difference_that_never_varies_has_a_floor_of_its_error() -> None:
    """1.00 of refused prompts, 0.00 of answered ones: 1 / 0.001, not infinite."""
    counts = np.array([[[1, 0]], [[0, 1]]] * 5, dtype=np.float32)
    maps = RoutingMaps((0,), TokenSet.LAST, counts, counts, np.ones(10, dtype=np.int64))
    pairs = [(2 * k, 2 * k + 1) for k in range(5)]
    assert rank_experts(maps, pairs=pairs, top=1).scores.tolist() == [[1000.0, -1000.0]]


@pytest.mark.parametrize("score", Score)
def test_a_shuffle_that_is_as_good_as_the_truth_counts(score: Score) -> None:
    """Of two pairs half of the exchanges give the observed size: about half, never less."""
    counts = np.array([[[3, 0]], [[1, 2]], [[2, 1]], [[1, 2]]], dtype=np.float32)
    maps = RoutingMaps((0,), TokenSet.PROMPT, counts, counts, np.full(4, 3))
    ranking = rank_experts(maps, pairs=[(0, 1), (2, 3)], score=score, top=1, shuffles=2_000, seed=1)
    assert ranking.p_fwe.min() == pytest.approx(0.5, abs=0.05)


def test_long_prompts_inflate_counts_and_not_shares() -> None:
    """Refused prompts three times as long, routed alike: `mote` is what its note says."""
    source = np.random.default_rng(2)
    tokens = np.tile([60, 20], 30)
    counts = np.stack([source.multinomial(size, np.full(8, 1 / 8)) for size in tokens])
    maps = RoutingMaps(
        (0,), TokenSet.PROMPT, counts[:, None].astype(np.float32),
        counts[:, None].astype(np.float32), tokens.astype(np.int64),
    )  # fmt: skip
    pairs = [(2 * k, 2 * k + 1) for k in range(30)]
    assert rank_experts(maps, pairs=pairs, score=Score.MOTE, top=1).p_fwe.max() < 0.05
    assert rank_experts(maps, pairs=pairs, score=Score.MOTE_SHARES, top=1).p_fwe.min() > 0.05
    assert [each for each in Score if each.note] == [Score.MOTE, Score.RISK, Score.PAIRED_T]


@pytest.mark.parametrize("score", Score)
def test_without_a_difference_chances_are_not_too_small(score: Score) -> None:
    """At most 5 % of studies without a plant have any chance of 5 % or less, up to sampling."""
    studies = 200
    hits = 0
    for study in range(studies):
        maps, pairs, _ = noise_maps(10, 1_000 + study, topics=3, layers=(0,))
        found = rank_experts(maps, pairs=pairs, score=score, draws=1, shuffles=99, seed=study)
        hits += found.p_fwe.min() <= 0.05
    assert hits <= binom.ppf(0.999, studies, 0.05)


def test_usage_is_that_of_all_prompts() -> None:
    maps, pairs, _ = noise_maps(10, 0)
    assert np.array_equal(rank_experts(maps, pairs=pairs[:3]).usage, maps.usage)


def test_experts_that_nobody_uses_are_never_stable() -> None:
    """A score of 0 is no rank, though it is among the largest of nothing."""
    counts = np.zeros((6, 1, 8), dtype=np.float32)
    counts[:, 0, 0] = 1
    maps = RoutingMaps((0,), TokenSet.LAST, counts, counts, np.ones(6, dtype=np.int64))
    found = rank_experts(maps, pairs=[(0, 1), (2, 3), (4, 5)], top=2)
    assert not found.stability.any()
    assert (found.p_fwe == 1.0).all()


def test_more_experts_than_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seams between chunks do not show, beyond rounding."""
    maps, pairs, _ = noise_maps(12, 8, planted={PLANTED: 0.3})
    whole = rank_experts(maps, pairs=pairs, shuffles=50)
    monkeypatch.setattr("auditor.experts.ranking.CHUNK", 7)
    parts = rank_experts(maps, pairs=pairs, shuffles=50)
    assert np.allclose(whole.scores, parts.scores)
    assert np.array_equal(whole.p_fwe, parts.p_fwe)
    assert len(whole.first(1_000)) == len(LAYERS) * EXPERTS


def test_one_of_pairs_and_labels_is_needed() -> None:
    maps, pairs, _ = noise_maps(4, 0)
    with pytest.raises(ConfigurationError, match="either pairs or labels"):
        rank_experts(maps)
    with pytest.raises(ConfigurationError, match="either pairs or labels"):
        rank_experts(maps, pairs=pairs, refused=[True] * 8)
    with pytest.raises(ConfigurationError, match="paired_t without pairs"):
        rank_experts(maps, refused=[True, False] * 4)


def test_pairs_and_labels_have_to_fit() -> None:
    maps, _, _ = noise_maps(4, 0)
    with pytest.raises(NothingToAudit, match="1 pairs"):
        rank_experts(maps, pairs=[(0, 1)])
    with pytest.raises(ConfigurationError, match="pair 1 is of prompts 2 and 8"):
        rank_experts(maps, pairs=[(0, 1), (2, 8)])
    with pytest.raises(ConfigurationError, match="pair 1 is of prompts 2 and 2"):
        rank_experts(maps, pairs=[(0, 1), (2, 2)])
    with pytest.raises(ConfigurationError, match="3 labels for 8 prompts"):
        rank_experts(maps, refused=[True] * 3, score=Score.RISK)
    with pytest.raises(NothingToAudit, match="0 of 8 prompts are refused"):
        rank_experts(maps, refused=[False] * 8, score=Score.RISK)


@pytest.mark.parametrize("given", [{"top": 0}, {"top": 49}, {"draws": 0}, {"shuffles": 0}])
def test_sizes_have_to_fit(given: dict[str, int]) -> None:
    maps, pairs, _ = noise_maps(4, 0)
    with pytest.raises(ConfigurationError, match="of 48 experts"):
        rank_experts(maps, pairs=pairs, **{"top": 1, **given})  # type: ignore[arg-type]


def test_maps_that_are_not_finite_are_refused() -> None:
    """A rank of what is not a number would look significant."""
    maps, pairs, _ = noise_maps(4, 0)
    broken = maps.mass.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(UnsupportedModel, match="not finite"):
        rank_experts(replace(maps, mass=broken), pairs=pairs)
