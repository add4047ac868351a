"""Drift, false refusals and speed of a way to complete prompts, beside another way.

The same prompts go through both. What is compared is paired: flips are counted prompt by prompt
and intervals resample whole groups of prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from auditor.findings import Interval, Metric
from auditor.fix import Comparison, Condition
from auditor.intervals import share_metric
from auditor.trace.drift import Generate, Prompt, SafetyJudge, mcnemar, reduction_interval


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
        refuses: Says which completions of safe prompts refuse.
        surprise: Mean nats of a token of each text under the untouched model, for the perplexity
            of what is said to safe prompts; not measured without it.
    """

    unsafe: Sequence[Prompt]
    safe: Sequence[Prompt]
    judge: SafetyJudge
    refuses: Refuses
    surprise: Callable[[Sequence[str]], Sequence[float]] | None = None


@dataclass(frozen=True)
class Measured:
    """What one way to complete made of a trial.

    Attributes:
        drifted: Whether each unsafe prompt's completion is unsafe.
        refused: Whether each safe prompt's completion refuses.
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
    refused = [bool(each) for each in trial.refuses(completions[half:])]
    nats: list[float] = []
    if trial.surprise is not None:
        said = [text if text and not no else "" for text, no in
                zip(completions[half:], refused, strict=True)]  # fmt: skip
        scored = iter(trial.surprise([text for text in said if text]))
        nats = [float(next(scored)) if text else float("nan") for text in said]
    return Measured(
        tuple(bool(each) for each in trial.judge.unsafe(completions[:half])), tuple(refused),
        tuple(nats), seconds, sum(len(text.split()) for text in completions), tuple(completions),
    )  # fmt: skip


def compare(
    name: str, trial: Trial, before: Measured, after: Measured, *,
    control: bool = False, notes: Sequence[str] = (),
) -> Condition:  # fmt: skip
    """The comparisons of two ways to complete the same trial."""
    found = []
    if trial.unsafe:
        found.append(_drift(trial, before, after))
    if trial.safe:
        found.append(_refusals(before, after))
    if before.nats and after.nats:
        perplexity = _perplexity(before, after, [each.group for each in trial.safe])
        found += [perplexity] if perplexity is not None else []
    found.append(Comparison(
        name="seconds for 100 words", before=_speed(before), after=_speed(after)
    ))  # fmt: skip
    return Condition(name=name, control=control, comparisons=tuple(found), notes=tuple(notes))


def _drift(trial: Trial, before: Measured, after: Measured) -> Comparison:
    was, now = np.array(before.drifted), np.array(after.drifted)
    groups = [each.group for each in trial.unsafe]
    return Comparison(
        name="drift rate",
        before=share_metric("drift_rate", int(was.sum()), len(was), "lower"),
        after=share_metric("drift_rate", int(now.sum()), len(now), "lower"),
        change=reduction_interval(before.drifted, after.drifted, groups),
        change_of="relative reduction",
        chance=mcnemar(int((was & ~now).sum()), int((now & ~was).sum())),
    )


def _refusals(before: Measured, after: Measured) -> Comparison:
    """Safe prompts that are refused; the change is that of prompts answered before."""
    was, now = np.array(before.refused), np.array(after.refused)
    return Comparison(
        name="false refusals",
        before=share_metric("false_refusal_rate", int(was.sum()), len(was), "lower"),
        after=share_metric("false_refusal_rate", int(now.sum()), len(now), "lower"),
        chance=mcnemar(int((now & ~was).sum()), int((was & ~now).sum())),
    )


def _perplexity(before: Measured, after: Measured, groups: Sequence[str]) -> Comparison | None:
    """Perplexity of what is said to safe prompts, where both say something."""
    both = np.array([before.nats, after.nats])
    kept = ~np.isnan(both).any(axis=0)
    if not kept.any():
        return None
    values = np.exp(both[:, kept])
    change = values[1] - values[0]
    interval = mean_interval(
        change, [group for group, use in zip(groups, kept, strict=True) if use]
    )
    metrics = [
        Metric(name="answer_perplexity", value=float(row.mean()), unit="perplexity",
               sample_size=int(kept.sum()), better="lower")
        for row in values
    ]  # fmt: skip
    return Comparison(
        name="perplexity of answers under the untouched model", before=metrics[0],
        after=metrics[1], change=interval, change_of="difference of means",
    )  # fmt: skip


def mean_interval(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], groups: Sequence[str], seed: int = 0
) -> Interval:
    """95 % interval of a mean, groups resampled whole."""
    source = np.random.default_rng(seed)
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((2, len(names)))
    np.add.at(sums[0], members, values)
    np.add.at(sums[1], members, 1.0)
    drawn = source.integers(len(names), size=(2_000, len(names)))
    means = sums[0][drawn].sum(axis=1) / sums[1][drawn].sum(axis=1)
    lower, upper = np.quantile(means, [0.025, 0.975])
    return Interval(lower=float(lower), upper=float(upper), method="cluster bootstrap")


def _speed(measured: Measured) -> Metric:
    return Metric(
        name="seconds_per_100_words", value=100 * measured.seconds / max(1, measured.words),
        unit="s", better="lower",
    )  # fmt: skip
