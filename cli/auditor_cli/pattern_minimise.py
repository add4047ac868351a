"""Minimal patterns with the verifier as the judge, and what smaller patterns gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.patterns.dominant import Delta, States
from auditor.patterns.minimal import (
    Judgement,
    MinimalSearch,
    Oracle,
    Pattern,
    PlainStates,
    State,
    coarsen,
    coarsen_by_chance,
    plain_states,
    prune_by_witnesses,
    random_subsets_that_hold,
    states_of,
)
from auditor.patterns.pattern_set import PatternSet
from auditor.verdicts import Verdict
from auditor.verify.pattern_trials import PatternTrial, PatternVerifier

Method = Literal["conservative", "statistical", "optimistic"]
CONTROL_DRAWS = 10
MAX_ATTACKS = 2_000


class Ball(NamedTuple):
    """Inputs within a radius (L-infinity, as written) of the first samples."""

    radius: str
    samples: int


class Minimised(NamedTuple):
    """One class's pattern before and after.

    Attributes:
        label: The class.
        before: The mined pattern.
        after: What is left of it, or None where it does not verify to begin with.
        verdict: The verdict on the mined pattern; skipped where no sample follows it.
        calls: Patterns that the verifier judged.
        unsettled: States kept because the verifier gave up without them.
        control: Of `CONTROL_DRAWS` random subsets of the same size, those that verify.
        recall: Share of the class's samples that follow, before and after; None without samples.
    """

    label: int
    before: Pattern
    after: Pattern | None
    verdict: Verdict
    calls: int
    unsettled: int
    control: int
    recall: tuple[float | None, float | None]


def minimise(
    verifier: PatternVerifier,
    patterns: PatternSet,
    delta: Delta,
    label: int,
    method: Method,
    labels: Sequence[int],
    *,
    max_calls: int,
    seed: int = 0,
    ball: Ball | None = None,
) -> Minimised:
    """Make one class's pattern as general as the verifier allows.

    Args:
        verifier: Puts patterns to the test; its samples also measure recall.
        patterns: Mined patterns.
        delta: One of theirs.
        label: The class.
        method: Which search.
        labels: Labels of the verifier's samples.
        max_calls: After so many judgements everything left counts as needed.
        seed: Seed of random choices.
        ball: Ask only of inputs near samples that follow the mined pattern; None for all.
    """
    whole = states_of(patterns.class_states(label, delta))
    centers: list[int] = []
    if ball is not None:
        centers = verifier.followers({label: plain_states(whole)}, labels)[: ball.samples]
    ask = _Inquiry(verifier, label, "" if ball is None else ball.radius, centers)
    search = MinimalSearch(_oracle(ask, whole), max_calls)
    nothing_to_ask = ball is not None and not centers
    verdict = Verdict.SKIPPED if nothing_to_ask else search.judge(whole).verdict
    if verdict is not Verdict.HOLDS:
        recall = _recall(verifier, label, whole, labels)
        return Minimised(label, whole, None, verdict, search.calls, 0, 0, (recall, recall))
    order = _dearest_first(verifier, whole, verifier.samples[np.equal(labels, label)])
    if method == "conservative":
        smaller = coarsen(search, whole, order)
    elif method == "statistical":
        smaller = coarsen_by_chance(search, whole, order, guess=max(1, len(whole) // 4), seed=seed)
    else:
        attacks = _attacks(verifier, label, whole) if ball is None else []
        smaller = prune_by_witnesses(search, whole, order, attacks)
    calls = search.calls
    search.max_calls += CONTROL_DRAWS
    control = random_subsets_that_hold(search, whole, len(smaller), CONTROL_DRAWS, seed)
    recalls = (_recall(verifier, label, part, labels) for part in (whole, smaller))
    return Minimised(
        label, whole, smaller, verdict, calls, len(search.unsettled), control,
        (next(recalls), next(recalls)),
    )  # fmt: skip


def with_states(patterns: PatternSet, delta: Delta, found: Sequence[Minimised]) -> PatternSet:
    """The patterns of one delta with smaller states for some classes."""
    position = patterns.index_of(delta)
    smaller = {each.label: plain_states(each.after) for each in found if each.after is not None}
    layers = []
    for layer in patterns.layers:
        active, inactive = (side[position : position + 1].copy() for side in layer.states)
        for label, states in smaller.items():
            sides = states.get(layer.name, ((), ()))
            for array, neurons in zip((active, inactive), sides, strict=True):
                array[0, label] = False
                array[0, label, list(neurons)] = True
        layers.append(replace(layer, states=States(active, inactive)))
    return replace(patterns, deltas=(patterns.deltas[position],), layers=tuple(layers))


class _Inquiry(NamedTuple):
    """The question about a pattern: of all inputs, or of those within a radius of samples."""

    verifier: PatternVerifier
    label: int
    radius: str
    centers: Sequence[int]

    def trials(self, states: PlainStates) -> Iterator[PatternTrial]:
        """One trial after the other."""
        if not self.radius:
            yield self.verifier.one_class(self.label, states)
        for sample in self.centers:
            yield self.verifier.around(self.label, states, sample, self.radius)


def _oracle(ask: _Inquiry, whole: Pattern) -> Oracle:
    everything = plain_states(whole)

    def judge(pattern: Pattern) -> Judgement:
        for trial in ask.trials(plain_states(pattern)):
            if trial.witness is not None:
                (missed,) = _contradicted(ask.verifier, everything, trial.witness.inputs[None])
                return Judgement(trial.verdict, missed)
            if trial.verdict is not Verdict.HOLDS:
                return Judgement(trial.verdict)
        return Judgement(Verdict.HOLDS)

    return judge


def _attacks(verifier: PatternVerifier, label: int, whole: Pattern) -> list[Pattern]:
    """What samples that the model gives other classes contradict of a pattern."""
    others = verifier.samples[verifier.classes_of(verifier.samples) != label]
    found = _contradicted(verifier, plain_states(whole), others[:MAX_ATTACKS])
    # What follows the whole pattern breaks it, and the verifier has said that nothing does.
    return [each for each in found if each]


def _contradicted(
    verifier: PatternVerifier, states: PlainStates, inputs: NDArray[np.float32]
) -> list[Pattern]:
    names, missed = verifier.contradicted(states, inputs)
    known = [State(*name) for name in names]
    return [frozenset(known[k] for k in np.flatnonzero(row)) for row in missed]


def _dearest_first(
    verifier: PatternVerifier, whole: Pattern, members: NDArray[np.float32]
) -> list[State]:
    """States in the order in which to drop them: first those that cost most recall."""
    cost = Counter(state for missed in _contradicted(verifier, plain_states(whole), members)
                   for state in missed)  # fmt: skip
    return sorted(whole, key=lambda state: (-cost[state], str(state)))


def _recall(
    verifier: PatternVerifier, label: int, pattern: Pattern, labels: Sequence[int]
) -> float | None:
    members = sum(each == label for each in labels)
    followers = verifier.followers({label: plain_states(pattern)}, labels)
    return len(followers) / members if members else None
