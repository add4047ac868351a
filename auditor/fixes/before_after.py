"""Drift, false refusals and speed of a way to complete prompts, beside another way.

The same prompts go through both. What is compared is paired: flips are counted prompt by prompt
and intervals resample whole groups of prompts.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Interval, Metric
from auditor.fix import Comparison, Condition
from auditor.intervals import group_weights, middle_95, share_metric
from auditor.language.prompts import Prompt
from auditor.paired import mcnemar
from auditor.trace.drift import Generate, SafetyJudge, reduction_interval

DRAWS: Final = 2_000
DRIFT: Final = "drift rate"
REFUSALS: Final = "false refusals"
PERPLEXITY: Final = "perplexity"
"""Names of the measures that a gate looks for; those of perplexities begin so."""
INSTEAD: Final = "drift rate, with the repair instead of the control"
"""The measure of a control that tells how much of a repair is more than it."""


class Refuses(Protocol):
    """Whether completions refuse."""

    def __call__(self, completions: Sequence[str]) -> Sequence[bool]:
        """One answer for each completion."""
        ...


@dataclass(frozen=True)
class Trial:
    """The prompts of an evaluation and who judges the completions.

    Attributes:
        unsafe: Prompts that should not be answered, or not with unsafe text.
        safe: Prompts that deserve an answer.
        judge: Says which completions of unsafe prompts are unsafe.
        refuses: Says which completions of safe prompts refuse; empty ones count as refusals
            whatever it says.
        surprise: Mean nats of a token of each text under the untouched model, NaN for a text
            without any, for the perplexity of what is said to safe prompts; not measured
            without it.
    """

    unsafe: Sequence[Prompt]
    safe: Sequence[Prompt]
    judge: SafetyJudge
    refuses: Refuses
    surprise: Callable[[Sequence[str]], Sequence[float]] | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """What a record says of it: the judge, and digests of the prompts."""
        return {
            "judge": self.judge.name,
            "prompts": text_digest(each.text for each in self.unsafe),
            "safe_prompts": text_digest(each.text for each in self.safe),
        }


@dataclass(frozen=True)
class Measured:
    """What one way to complete made of a trial.

    Attributes:
        drifted: Whether each unsafe prompt's completion is unsafe.
        refused: Whether each safe prompt's completion refuses, or says nothing.
        nats: Mean nats of a token of each answered safe completion under the untouched model; NaN
            elsewhere; empty if not measured.
        seconds: Wall clock for all prompts.
        words: Words of all completions.
        completions: All of them, unsafe prompts first.
    """

    drifted: tuple[bool, ...]
    refused: tuple[bool, ...]
    nats: tuple[float, ...]
    seconds: float
    words: int
    completions: tuple[str, ...]


def measure(trial: Trial, complete: Generate) -> Measured:
    """Complete every prompt of a trial and judge what is said."""
    prompts = [each.text for each in (*trial.unsafe, *trial.safe)]
    started = time.perf_counter()
    completions = list(complete(prompts))
    seconds = time.perf_counter() - started
    half = len(trial.unsafe)
    said = completions[half:]
    # A model that falls silent would refuse nobody, and drift no more.
    refused = [
        bool(no) or not text.strip() for no, text in zip(trial.refuses(said), said, strict=True)
    ]
    nats: list[float] = []
    if trial.surprise is not None:
        answers = [text for text, no in zip(said, refused, strict=True) if not no]
        scored = iter(trial.surprise(answers) if answers else [])
        nats = [float("nan") if no else float(next(scored)) for no in refused]
    return Measured(
        tuple(bool(each) for each in trial.judge.unsafe(completions[:half])), tuple(refused),
        tuple(nats), seconds, sum(len(text.split()) for text in completions), tuple(completions),
    )  # fmt: skip


def compare(
    name: str, trial: Trial, before: Measured, after: Measured, *, notes: Sequence[str] = ()
) -> Condition:
    """The comparisons of two ways to complete the same trial."""
    found = []
    if trial.unsafe:
        found.append(_drift(DRIFT, trial, before, after))
    if trial.safe:
        found.append(_refusals(before, after))
    if before.nats and after.nats:
        perplexity = _perplexity(before, after, groups_of(trial.safe))
        found += [perplexity] if perplexity is not None else []
    found.append(Comparison(
        name="seconds for 100 words", before=_speed(before), after=_speed(after)
    ))  # fmt: skip
    return Condition(name=name, comparisons=tuple(found), notes=tuple(notes))


def as_control(condition: Condition, trial: Trial, control: Measured, repair: Measured,
               repair_name: str) -> Condition:  # fmt: skip
    """The condition as the control of a repair, with what the repair buys beyond it."""
    beyond = (_drift(INSTEAD, trial, control, repair),) if trial.unsafe else ()
    return condition.model_copy(
        update={"control_of": repair_name, "comparisons": (*condition.comparisons, *beyond)}
    )


def groups_of(prompts: Sequence[Prompt]) -> list[str]:
    """The group of each prompt; one without a group is one by itself."""
    return [each.group or f"prompt {number}" for number, each in enumerate(prompts, 1)]


def text_digest(texts: Iterable[str]) -> str:
    """SHA-256 of texts in order."""
    plain = json.dumps(list(texts), separators=(",", ":"))
    return f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"


def _drift(name: str, trial: Trial, before: Measured, after: Measured) -> Comparison:
    was, now = np.array(before.drifted), np.array(after.drifted)
    return Comparison(
        name=name,
        before=share_metric("drift_rate", int(was.sum()), len(was), "lower"),
        after=share_metric("drift_rate", int(now.sum()), len(now), "lower"),
        change=reduction_interval(before.drifted, after.drifted, groups_of(trial.unsafe)),
        change_of="relative reduction",
        chance=mcnemar(int((was & ~now).sum()), int((now & ~was).sum())),
    )


def _refusals(before: Measured, after: Measured) -> Comparison:
    was, now = np.array(before.refused), np.array(after.refused)
    return Comparison(
        name=REFUSALS,
        before=share_metric("false_refusal_rate", int(was.sum()), len(was), "lower"),
        after=share_metric("false_refusal_rate", int(now.sum()), len(now), "lower"),
        chance=mcnemar(int((now & ~was).sum()), int((was & ~now).sum())),
    )


def _perplexity(before: Measured, after: Measured, groups: Sequence[str]) -> Comparison | None:
    """Perplexity of what is said to safe prompts, where both say something."""
    return compare_perplexities(
        f"{PERPLEXITY} of answers under the untouched model", before.nats, after.nats, groups
    )


def compare_perplexities(
    name: str, before: Sequence[float], after: Sequence[float], groups: Sequence[str]
) -> Comparison | None:
    """Means over texts of exp of their mean nats; None where no text has both.

    Args:
        name: Of the comparison.
        before: Mean nats of a token of each text, NaN where there is none, [texts].
        after: The same afterwards.
        groups: What hangs together, [texts].
    """
    both = np.array([before, after])
    kept = ~np.isnan(both).any(axis=0)
    if not kept.any():
        return None
    values = np.exp(both[:, kept])
    metrics = [
        Metric(name="perplexity", value=float(row.mean()), unit="perplexity",
               sample_size=int(kept.sum()), better="lower")
        for row in values
    ]  # fmt: skip
    return Comparison(
        name=name, before=metrics[0], after=metrics[1],
        change=mean_interval(
            values[1] - values[0], [group for group, use in zip(groups, kept, strict=True) if use]
        ),
        change_of="difference of means over texts",
    )  # fmt: skip


def mean_interval(
    values: NDArray[np.float64], groups: Sequence[str], seed: int = 0
) -> Interval | None:
    """95 % interval of a mean, groups resampled whole; None of fewer than two groups."""
    if len(set(groups)) < 2:
        return None
    weights = group_weights(groups, DRAWS, seed)
    return middle_95(weights @ values / weights.sum(axis=1))


def _speed(measured: Measured) -> Metric:
    return Metric(
        name="seconds_per_100_words", value=100 * measured.seconds / max(1, measured.words),
        unit="s", better="lower",
    )  # fmt: skip
