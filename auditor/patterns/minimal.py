"""The most general pattern that still verifies: smaller patterns cover more inputs.

A pattern is a set of states. Fewer states mean a larger region, so verification is monotone:
what holds for a pattern holds for each pattern with more states. After "Learning Minimal Neural
Specifications" (Geng et al. 2024, 2404.04662), whose abstract names a conservative, a
statistical and an optimistic search; the procedures here are ours, from those descriptions
and from minimal abstractions (Liang, Tripp, Naik 2011) and delta debugging (Zeller 2002).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from auditor.errors import ConfigurationError
from auditor.verdicts import Verdict

Layer = int | str
PlainStates = Mapping[Layer, tuple[Sequence[int], Sequence[int]]]


class State(NamedTuple):
    """One neuron's state: its layer, its number, and whether it has to be active."""

    layer: Layer
    neuron: int
    active: bool


Pattern = frozenset[State]


class Judgement(NamedTuple):
    """What a verifier said of a pattern.

    Attributes:
        verdict: Whether every input that follows it has the property.
        contradicted: Of the whole pattern, the states that the witness does not show; None
            without a witness.
    """

    verdict: Verdict
    contradicted: Pattern | None = None


Oracle = Callable[[Pattern], Judgement]


@dataclass
class MinimalSearch:
    """The calls of one search, kept so that no pattern is asked about twice.

    Attributes:
        oracle: The verifier.
        max_calls: After so many calls everything left counts as needed.
        calls: Calls made.
        unsettled: States kept because an answer was `unknown` or no call was left.
        witnesses: For each witness seen, the states it contradicts.
    """

    oracle: Oracle
    max_calls: int = 10_000
    calls: int = 0
    unsettled: set[State] = field(default_factory=set)
    witnesses: list[Pattern] = field(default_factory=list)
    _known: dict[Pattern, Judgement] = field(default_factory=dict)

    @property
    def is_spent(self) -> bool:
        """Whether no call is left."""
        return self.calls >= self.max_calls

    def judge(self, pattern: Pattern) -> Judgement:
        """The verifier's answer, or one that follows from an earlier witness."""
        if pattern in self._known:
            return self._known[pattern]
        for contradicted in self.witnesses:
            if not contradicted & pattern:
                return Judgement(Verdict.VIOLATED, contradicted)
        if self.is_spent:
            return Judgement(Verdict.UNKNOWN)
        self.calls += 1
        found = self._known[pattern] = self.oracle(pattern)
        if found.contradicted is not None:
            self.witnesses.append(found.contradicted)
        return found

    def holds(self, pattern: Pattern) -> bool:
        """Whether it is known to hold."""
        return self.judge(pattern).verdict is Verdict.HOLDS


def states_of(pattern: PlainStates) -> Pattern:
    """A pattern as a set of states."""
    return frozenset(
        State(layer, neuron, active)
        for layer, sides in pattern.items()
        for active, neurons in zip((True, False), sides, strict=True)
        for neuron in neurons
    )


def plain_states(pattern: Pattern) -> dict[Layer, tuple[tuple[int, ...], tuple[int, ...]]]:
    """A set of states as active and inactive neurons by layer."""
    layers = sorted({state.layer for state in pattern}, key=str)
    return {
        layer: tuple(
            tuple(sorted(s.neuron for s in pattern if s.layer == layer and s.active is active))
            for active in (True, False)
        )  # type: ignore[misc]
        for layer in layers
    }


def coarsen(search: MinimalSearch, pattern: Pattern, order: Sequence[State] = ()) -> Pattern:
    """Drop states as long as the rest holds, in chunks that are halved where they are needed.

    The result is locally minimal: without any one of its states, but those in `unsettled`, the
    verifier finds a witness.

    Args:
        search: Where calls are made and counted.
        pattern: A pattern that holds.
        order: States in the order in which to try to drop them; sorted if empty.

    Raises:
        ConfigurationError: The pattern itself does not hold.
    """
    _demand_holds(search, pattern)
    kept = set(pattern)
    waiting = [[state for state in order or sorted(pattern, key=str) if state in pattern]]
    while waiting:
        chunk = waiting.pop()
        if not chunk:
            continue
        rest = frozenset(kept.difference(chunk))
        judged = search.judge(rest)
        if judged.verdict is Verdict.HOLDS:
            kept = set(rest)
        elif len(chunk) > 1:
            half = len(chunk) // 2
            waiting += [chunk[half:], chunk[:half]]
        elif judged.verdict is not Verdict.VIOLATED:
            search.unsettled.add(chunk[0])
    return frozenset(kept)


def coarsen_by_chance(
    search: MinimalSearch,
    pattern: Pattern,
    order: Sequence[State] = (),
    *,
    guess: int,
    seed: int = 0,
) -> Pattern:
    """Keep each state with a probability, as long as the rest holds; then `coarsen`.

    With `exp(-1 / s)` all s needed states stay with probability 1/e, while a share 1/s of the
    others goes. After a run of failures s is doubled.

    Args:
        search: Where calls are made and counted.
        pattern: A pattern that holds.
        order: As for `coarsen`.
        guess: Guess of the minimal size, at least 1.
        seed: Seed of the draws.

    Raises:
        ConfigurationError: The pattern itself does not hold.
    """
    _demand_holds(search, pattern)
    random = np.random.default_rng(seed)
    size, failures = max(1, guess), 0
    while len(pattern) > size and not search.is_spent:
        ordered = sorted(pattern, key=str)
        stays = random.random(len(ordered)) < math.exp(-1.0 / size)
        smaller = frozenset(state for state, keep in zip(ordered, stays, strict=True) if keep)
        if smaller == pattern:
            failures += 1
        elif search.holds(smaller):
            pattern, failures = smaller, 0
        else:
            failures += 1
        if failures > 3 + math.log(len(pattern) + 1):
            size, failures = 2 * size, 0
    return coarsen(search, pattern, order)


def prune_by_witnesses(
    search: MinimalSearch,
    pattern: Pattern,
    order: Sequence[State] = (),
    attacks: Iterable[Pattern] = (),
) -> Pattern:
    """Keep a smallest-looking set of states that every witness contradicts; then `coarsen`.

    Each witness must contradict some state that is kept, or it would follow the pattern.
    A greedy hitting set of these demands is verified; its witness adds a demand, and twice as
    many of the states that most witnesses contradict are added as before.

    Args:
        search: Where calls are made and counted.
        pattern: A pattern that holds.
        order: As for `coarsen`.
        attacks: For inputs known to break the property, the states of the pattern that they
            contradict.

    Raises:
        ConfigurationError: The pattern itself does not hold, or an attack follows it.
    """
    _demand_holds(search, pattern)
    demands = [frozenset(attack) & pattern for attack in attacks]
    if not all(demands):
        raise ConfigurationError("an attack follows the pattern, which therefore does not hold")
    padding = 0
    while not search.is_spent:
        hitting = hitting_set(demands)
        weight = {s: sum(s in demand for demand in demands) for s in pattern - hitting}
        best = sorted(weight, key=lambda state: (-weight[state], str(state)))
        chosen = hitting | frozenset(best[:padding])
        judged = search.judge(chosen)
        if judged.verdict is Verdict.HOLDS:
            return coarsen(search, chosen, order)
        if padding >= len(best):
            break
        if judged.contradicted is not None:
            demands.append(judged.contradicted & pattern)
        # One demand at a time would take as many calls as there are states.
        padding = max(1, 2 * padding)
    return coarsen(search, pattern, order)


def hitting_set(demands: Sequence[Pattern]) -> Pattern:
    """States such that each demand contains one: greedily the state in most demands left."""
    left, chosen = list(demands), set[State]()
    while left:
        counts: dict[State, int] = {}
        for demand in left:
            for state in demand:
                counts[state] = counts.get(state, 0) + 1
        best = min(counts, key=lambda state: (-counts[state], str(state)))
        chosen.add(best)
        left = [demand for demand in left if best not in demand]
    return frozenset(chosen)


def random_subsets_that_hold(
    search: MinimalSearch, pattern: Pattern, size: int, draws: int, seed: int = 0
) -> int:
    """The control: how many of some random subsets of a size hold."""
    random, ordered = np.random.default_rng(seed), sorted(pattern, key=str)
    held = 0
    for _ in range(draws):
        chosen = random.choice(len(ordered), size=size, replace=False)
        held += search.holds(frozenset(ordered[int(index)] for index in chosen))
    return held


def _demand_holds(search: MinimalSearch, pattern: Pattern) -> None:
    judged = search.judge(pattern)
    if judged.verdict is not Verdict.HOLDS:
        raise ConfigurationError(
            f"the pattern of {len(pattern)} states is {judged.verdict} to begin with; only one "
            "that holds can be made smaller"
        )
