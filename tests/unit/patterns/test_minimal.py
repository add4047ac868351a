"""Searches for minimal patterns against verifiers whose answer is known by construction."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError
from auditor.patterns.minimal import (
    Judgement,
    MinimalSearch,
    Pattern,
    PlainStates,
    State,
    coarsen,
    coarsen_by_chance,
    hitting_set,
    plain_states,
    prune_by_witnesses,
    random_subsets_that_hold,
    states_of,
)
from auditor.verdicts import Verdict

ALL = frozenset(State("h", neuron, neuron % 3 == 0) for neuron in range(40))


def some(*neurons: int) -> Pattern:
    return frozenset(state for state in ALL if state.neuron in neurons)


class Planted:
    """Holds exactly if one of some sets of states is part of the pattern; gives witnesses."""

    def __init__(self, *sufficient: Pattern) -> None:
        self.sufficient, self.asked = sufficient, 0

    def __call__(self, pattern: Pattern) -> Judgement:
        self.asked += 1
        if any(each <= pattern for each in self.sufficient):
            return Judgement(Verdict.HOLDS)
        # An input that misses one state of each sufficient set, and shows all others.
        missed = {min(each - pattern) for each in self.sufficient}
        return Judgement(Verdict.VIOLATED, frozenset(missed))


def test_states_come_back_as_they_were() -> None:
    plain: PlainStates = {"a": ((1, 4), ()), "b": ((), (0, 2))}
    assert plain_states(states_of(plain)) == plain


@pytest.mark.parametrize("search", ["coarsen", "by chance", "by witnesses"])
@settings(max_examples=25, deadline=None)
@given(needed=st.sets(st.integers(0, 39), min_size=1, max_size=8))
def test_the_one_sufficient_set_is_found_exactly(search: str, needed: set[int]) -> None:
    wanted = some(*needed)
    state = MinimalSearch(Planted(wanted))
    found = {
        "coarsen": lambda: coarsen(state, ALL),
        "by chance": lambda: coarsen_by_chance(state, ALL, guess=4, seed=1),
        "by witnesses": lambda: prune_by_witnesses(state, ALL),
    }[search]()
    assert found == wanted
    assert not state.unsettled


def test_of_several_sufficient_sets_a_locally_minimal_one_is_found() -> None:
    oracle = Planted(some(1, 2, 3), some(3, 4), some(5))
    found = coarsen(MinimalSearch(oracle), ALL)
    assert found in oracle.sufficient


def test_halving_needs_far_fewer_calls_than_one_for_each_state() -> None:
    oracle = Planted(some(7))
    coarsen(MinimalSearch(oracle), ALL)
    assert oracle.asked < 20


def test_known_witnesses_spare_calls() -> None:
    oracle = Planted(some(3, 9, 20))
    search = MinimalSearch(oracle)
    prune_by_witnesses(search, ALL, attacks=[some(3), some(9), some(20)])
    assert oracle.asked <= 5


def test_what_the_verifier_leaves_open_is_kept_and_said() -> None:
    def oracle(pattern: Pattern) -> Judgement:
        if some(1) <= pattern and some(2) <= pattern:
            return Judgement(Verdict.HOLDS)
        return Judgement(Verdict.UNKNOWN)

    search = MinimalSearch(oracle)
    assert coarsen(search, ALL) == some(1, 2)
    assert search.unsettled == set(some(1, 2))


def test_without_calls_left_everything_is_kept() -> None:
    search = MinimalSearch(Planted(some(3)), max_calls=1)
    assert coarsen(search, ALL) == ALL
    assert search.unsettled == set(ALL)


def test_the_verifier_that_gives_up_on_small_patterns_gets_larger_ones() -> None:
    def oracle(pattern: Pattern) -> Judgement:
        return Judgement(Verdict.HOLDS if len(pattern) >= 10 else Verdict.UNKNOWN)

    assert len(prune_by_witnesses(MinimalSearch(oracle), ALL)) == 10


def test_a_pattern_that_does_not_hold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is violated to begin with"):
        coarsen(MinimalSearch(Planted(some(1))), some(2))


def test_an_attack_that_follows_the_pattern_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="an attack follows"):
        prune_by_witnesses(MinimalSearch(Planted(some(1))), ALL, attacks=[frozenset()])


def test_the_hitting_set_takes_what_most_demands_share() -> None:
    assert hitting_set([some(1, 2), some(2, 3), some(2, 4)]) == some(2)


def test_random_subsets_are_a_control() -> None:
    search = MinimalSearch(Planted(some(1, 2, 3)))
    assert random_subsets_that_hold(search, ALL, 3, draws=20) == 0
    assert random_subsets_that_hold(search, ALL, 40, draws=2) == 2
