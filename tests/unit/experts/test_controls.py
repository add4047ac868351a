"""Random sets are distinct, as much used, and free of what they control."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auditor.errors import ConfigurationError, TooFewControls
from auditor.experts.controls import (
    chance_of_effect,
    harmless_set,
    matched_anywhere,
    matched_sets,
)
from auditor.experts.ranking import rank_experts
from auditor.experts.routing_maps import Expert
from tests.unit.experts.planted_maps import noise_maps

LAYERS = (1, 3)
USAGE = np.array([np.arange(16) / 100, np.arange(16)[::-1] / 100])
CHOSEN = (Expert(1, 4), Expert(3, 4))


def test_sets_are_distinct_and_matched_by_layer_and_usage() -> None:
    """All 49 of them exist, each with one of the 7 nearest of both experts."""
    sets = matched_sets(CHOSEN, USAGE, LAYERS, 49)
    assert len(set(sets)) == 49
    for each in sets:
        first, second = sorted(each)
        assert (first.layer, second.layer) == (1, 3)
        assert 1 <= abs(first.expert - 4) <= 4
        assert 1 <= abs(second.expert - 4) <= 4


def test_too_many_sets_are_refused_with_the_number_possible() -> None:
    with pytest.raises(TooFewControls, match=r"50 distinct .* 49 are possible") as found:
        matched_sets(CHOSEN, USAGE, LAYERS, 50)
    assert (found.value.asked, found.value.possible, found.value.size) == (50, 49, 2)


def test_one_expert_of_eight_has_seven_rivals() -> None:
    """So that no chance below 1 in 8 can come of it."""
    usage = np.full((1, 8), 0.25)
    sets = matched_sets([Expert(0, 2)], usage, (0,), 7)
    assert set(sets) == {frozenset({Expert(0, each)}) for each in range(8) if each != 2}
    with pytest.raises(TooFewControls, match="7 are possible"):
        matched_sets([Expert(0, 2)], usage, (0,), 8)
    assert chance_of_effect(1.0, [0.0] * 7) == 1 / 8


def test_rivals_of_any_layer_are_the_nearest_in_usage() -> None:
    """A single expert has more of them than its layer; nobody chosen or barred is among them."""
    chosen, barred = [Expert(3, 4)], [Expert(1, 0), Expert(3, 5)]
    sets = matched_anywhere(chosen, USAGE, LAYERS, 29, exclude=barred)
    everyone = {Expert(layer, number) for layer in LAYERS for number in range(16)}
    assert set(sets) == {frozenset({each}) for each in everyone - {*chosen, *barred}}
    with pytest.raises(TooFewControls, match="29 are possible"):
        matched_anywhere(chosen, USAGE, LAYERS, 30, exclude=barred)


def test_of_many_layers_forty_are_near_enough() -> None:
    """Those used most like the chosen one, which is used more in each layer."""
    usage = np.arange(96).reshape(6, 16) / 96
    layers = (0, 2, 4, 6, 8, 10)
    sets = matched_anywhere([Expert(4, 0)], usage, layers, 40)
    near = {32 + step for step in range(-20, 21)} - {32}
    assert {layers.index(expert.layer) * 16 + expert.expert for (expert,) in sets} == near


def test_excluded_experts_are_in_no_set() -> None:
    """What is planted would show up among the controls."""
    barred = [Expert(1, 3), Expert(1, 5), Expert(3, 5)]
    sets = matched_sets(CHOSEN, USAGE, LAYERS, 49, exclude=barred)
    assert not {expert for each in sets for expert in each} & {*barred, *CHOSEN}


def test_sets_of_one_layer_are_told_apart_as_sets() -> None:
    """Two chosen experts with the same five rivals: ten sets, not twenty-five choices."""
    usage = np.full((1, 7), 0.3)
    sets = matched_sets([Expert(0, 0), Expert(0, 1)], usage, (0,), 10)
    assert len(set(sets)) == math.comb(5, 2)
    assert {len(each) for each in sets} == {2}
    with pytest.raises(TooFewControls, match="10 are possible"):
        matched_sets([Expert(0, 0), Expert(0, 1)], usage, (0,), 11)


def test_many_experts_of_one_layer_are_matched() -> None:
    """Where all choices are too many to list: twenty of 256, and none twice in a set."""
    chosen = [Expert(0, each) for each in range(0, 60, 3)]
    usage = np.random.default_rng(0).random((1, 256))
    sets = matched_sets(chosen, usage, (0,), 99, seed=4)
    assert len(set(sets)) == 99
    assert {len(each) for each in sets} == {20}
    assert not {expert for each in sets for expert in each} & set(chosen)


def test_a_seed_gives_the_same_sets_and_another_seed_others() -> None:
    first, again, other = (matched_sets(CHOSEN, USAGE, LAYERS, 10, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_set_is_drawn_as_often() -> None:
    """Of 7 sets each is the first in about a seventh of 700 drawings."""
    usage = np.full((1, 8), 0.25)
    firsts = [matched_sets([Expert(0, 2)], usage, (0,), 1, seed)[0] for seed in range(700)]
    counts = np.unique([next(iter(each)).expert for each in firsts], return_counts=True)[1]
    assert len(counts) == 7
    assert counts.min() > 60
    assert counts.max() < 140


def test_experts_have_to_be_in_the_table() -> None:
    with pytest.raises(ConfigurationError, match="expert 2:0 is none of 16 in layers 1, 3"):
        matched_sets([Expert(2, 0)], USAGE, LAYERS, 1)
    with pytest.raises(ConfigurationError, match="expert 1:16 is none"):
        matched_sets([Expert(1, 16)], USAGE, LAYERS, 1)
    with pytest.raises(ConfigurationError, match="no expert is chosen"):
        matched_sets([], USAGE, LAYERS, 1)


def test_harmless_experts_are_the_first_of_another_contrast() -> None:
    """The planted one of that contrast, unless it is chosen for refusal too."""
    planted = {Expert(3, 7): 0.8, Expert(4, 2): 0.5}
    maps, pairs, _ = noise_maps(30, 0, planted=planted)
    topics = rank_experts(maps, pairs=pairs, top=2, shuffles=10)
    assert harmless_set(topics, 2) == frozenset(planted)
    third = topics.first(3)[2].expert
    assert harmless_set(topics, 2, exclude=[Expert(3, 7)]) == {Expert(4, 2), third}
    with pytest.raises(TooFewControls):
        harmless_set(topics, 48, exclude=[Expert(3, 7)])


@pytest.mark.parametrize(
    ("observed", "effects", "chance"),
    [(1.0, [0.0] * 19, 0.05), (1.0, [1.0, 0.0, 0.0], 0.5), (0.0, [0.1, 0.2], 1.0), (1.0, [], 1.0),
     (1.0, [math.nan], 1.0), (math.nan, [0.0] * 9, 1.0)],
)  # fmt: skip
def test_the_chance_counts_the_observed_set_and_what_is_unknown(
    observed: float, effects: list[float], chance: float
) -> None:
    assert chance_of_effect(observed, effects) == chance
