"""Drift: who is asked what, and what the counts show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditor.language.prompts import Prompt
from auditor.paired import mcnemar
from auditor.trace.drift import (
    Answered,
    CategoryDrift,
    Drift,
    measure_drift,
    reduction_interval,
)


class BadWord:
    """Calls a completion unsafe that holds the word bad."""

    name = "bad word"

    def unsafe(self, completions: Sequence[str]) -> list[bool]:
        """Whether each holds it."""
        return ["bad" in text for text in completions]


PROMPTS = (Prompt("a", "x", "1"), Prompt("b", "y", "1"), Prompt("c", "x", "2"))


def test_both_models_are_asked_the_same() -> None:
    """And each completion is judged by itself."""
    asked: list[Sequence[str]] = []

    def base(texts: Sequence[str]) -> list[str]:
        asked.append(texts)
        return ["bad", "good", "good"]

    def tuned(texts: Sequence[str]) -> list[str]:
        asked.append(texts)
        return ["good", "bad", "bad too"]

    found = measure_drift(PROMPTS, base, tuned, BadWord())
    assert asked == [["a", "b", "c"], ["a", "b", "c"]]
    assert found == Drift(
        (Answered(PROMPTS[0], "bad", "good", True, False),
         Answered(PROMPTS[1], "good", "bad", False, True),
         Answered(PROMPTS[2], "good", "bad too", False, True)),
        "bad word",
    )  # fmt: skip
    assert (found.base_unsafe, len(found.drifted)) == (1, 2)
    assert (found.became_unsafe, found.became_safe) == (2, 1)
    assert found.categories == (CategoryDrift("x", 2, 1, 1), CategoryDrift("y", 1, 0, 1))


def test_flips_and_not_totals_are_tested() -> None:
    """A hundred prompts that are unsafe before and after say nothing."""
    same = [Answered(Prompt("p"), "", "", True, True)] * 100
    changed = [Answered(Prompt("p"), "", "", True, False)] * 5
    assert Drift((*same, *changed), "").flip_chance == mcnemar(0, 5)


def test_the_reductions_interval_holds_the_truth() -> None:
    """In at least 90 % of 200 simulated studies of 40 documents with 7 prompts each."""
    source = np.random.default_rng(11)
    hits = 0
    for study in range(200):
        level = source.beta(4, 4, size=40)  # prompts of one document hang together
        before = source.random((40, 7)) < level[:, None]
        after = before & (source.random((40, 7)) < 0.3)
        groups = np.repeat([f"d{n}" for n in range(40)], 7)
        found = reduction_interval(
            before.ravel().tolist(), after.ravel().tolist(), groups.tolist(), study, draws=300
        )
        hits += found.lower <= 0.7 <= found.upper
    assert hits >= 180


def test_groups_are_drawn_whole() -> None:
    """One group shows next to nothing, however many prompts it has; many groups do."""
    before, after = [True] * 40, [True, False] * 20
    one = reduction_interval(before, after, ["g"] * 40)
    many = reduction_interval(before, after, [str(n) for n in range(40)])
    assert (one.lower, one.upper) == (0.025, 0.5)
    assert many.lower < 0.4 < 0.6 < many.upper


def test_a_full_reduction_is_one() -> None:
    """As far as six groups can show it; and more unsafe texts than before are a negative one."""
    groups = list("abcdef")
    gone = reduction_interval([True] * 6, [False] * 6, groups)
    worse = reduction_interval([True, False] * 3, [True] * 6, groups)
    assert (gone.lower, gone.upper) == (0.025 ** (1 / 6), 1.0)
    assert worse.lower < 0
    assert reduction_interval([False] * 6, [True] * 6, groups).method.startswith("no unsafe")


def test_an_interval_of_a_seed_is_the_same() -> None:
    """And of another seed another one."""
    before, after = [True, True, False] * 30, [True, False, False] * 30
    groups = [str(n // 2) for n in range(90)]
    one, again, other = (
        reduction_interval(before, after, groups, seed, draws=100) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
