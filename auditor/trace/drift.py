"""Alignment drift: what a tuned model says that its base does not, to the same prompts.

Both models get the same prompts and seeds. A completion is unsafe when the safety judge says so;
the drift rate is the share of prompts whose tuned completion is unsafe, and the flips say what
tuning changed prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from auditor.findings import Interval
from auditor.intervals import group_weights, middle_95, wilson_interval
from auditor.language.prompts import Prompt
from auditor.paired import mcnemar

Generate = Callable[[Sequence[str]], Sequence[str]]
"""Completions of prompts, without the prompts."""


class SafetyJudge(Protocol):
    """What says whether completions are unsafe; it sees the completion alone.

    Attributes:
        name: For reports.
    """

    name: str

    def unsafe(self, completions: Sequence[str]) -> Sequence[bool]:
        """Whether each completion is unsafe."""
        ...


@dataclass(frozen=True)
class Answered:
    """A prompt with both completions.

    Attributes:
        prompt: The prompt.
        base, tuned: The completions.
        base_unsafe, tuned_unsafe: What the judge says of them.
    """

    prompt: Prompt
    base: str
    tuned: str
    base_unsafe: bool
    tuned_unsafe: bool


@dataclass(frozen=True)
class CategoryDrift:
    """Counts of one category: prompts, and unsafe completions of each model."""

    category: str
    prompts: int
    base_unsafe: int
    tuned_unsafe: int

    @property
    def tuned_interval(self) -> Interval:
        """95 % of the tuned model's unsafe share."""
        return wilson_interval(self.tuned_unsafe, self.prompts)


@dataclass(frozen=True)
class Drift:
    """What tuning changed.

    Attributes:
        answers: Every prompt with its completions, in order.
        judge: Name of the judge.
    """

    answers: tuple[Answered, ...]
    judge: str

    @property
    def drifted(self) -> tuple[Answered, ...]:
        """The prompts whose tuned completion is unsafe."""
        return tuple(each for each in self.answers if each.tuned_unsafe)

    @property
    def base_unsafe(self) -> int:
        """Prompts whose base completion is unsafe."""
        return sum(each.base_unsafe for each in self.answers)

    @property
    def became_unsafe(self) -> int:
        """Prompts that only the tuned model completes unsafely."""
        return sum(each.tuned_unsafe and not each.base_unsafe for each in self.answers)

    @property
    def became_safe(self) -> int:
        """Prompts that only the base model completes unsafely."""
        return sum(each.base_unsafe and not each.tuned_unsafe for each in self.answers)

    @property
    def flip_chance(self) -> float:
        """Two-sided exact McNemar test: chance of flips as uneven if tuning changed nothing."""
        return mcnemar(self.became_unsafe, self.became_safe)

    @property
    def categories(self) -> tuple[CategoryDrift, ...]:
        """Counts by category, in order of first mention."""
        names = dict.fromkeys(each.prompt.category for each in self.answers)
        return tuple(
            CategoryDrift(
                name,
                sum(each.prompt.category == name for each in self.answers),
                sum(each.base_unsafe for each in self.answers if each.prompt.category == name),
                sum(each.tuned_unsafe for each in self.answers if each.prompt.category == name),
            )
            for name in names
        )


def measure_drift(
    prompts: Sequence[Prompt], base: Generate, tuned: Generate, judge: SafetyJudge
) -> Drift:
    """Ask both models and judge what they say."""
    texts = [prompt.text for prompt in prompts]
    before, after = list(base(texts)), list(tuned(texts))
    verdicts = list(judge.unsafe([*before, *after]))
    return Drift(
        tuple(
            Answered(prompt, first, second, bool(was), bool(now))
            for prompt, first, second, was, now in zip(
                prompts, before, after, verdicts[: len(before)], verdicts[len(before) :],
                strict=True,
            )
        ),
        judge.name,
    )  # fmt: skip


def reduction_interval(
    before: Sequence[bool], after: Sequence[bool], groups: Sequence[str],
    seed: int = 0, draws: int = 2_000,
) -> Interval:  # fmt: skip
    """95 % interval of `1 - after / before`, groups of prompts resampled whole.

    Args:
        before: Whether each prompt's completion is unsafe.
        after: The same for the same prompts afterwards.
        groups: What hangs together, [prompts].
        seed: Of the resampling.
        draws: How many; those without any before are left out.

    The lower end is at most `0.025 ** (1 / n)`, n being the groups with any before: what so few
    can show even if nothing is left in them (Clopper-Pearson). Resampling alone would call one
    mended prompt a certain reduction by all.
    """
    was, now = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    weights = group_weights(groups, draws, seed)
    first, second = weights @ was, weights @ now
    shares = 1 - second[first > 0] / first[first > 0]
    if not len(shares):
        return Interval(lower=0.0, upper=0.0, method="no unsafe completion before")
    found = middle_95(shares, "cluster bootstrap, lower end at most that of an exact test")
    some = {group for group, unsafe in zip(groups, before, strict=True) if unsafe}
    return found.model_copy(update={"lower": min(found.lower, 0.025 ** (1 / len(some)))})
