"""Metrics of two runs side by side, and whether their intervals tell them apart.

Intervals that overlap do not show that nothing changed, and the difference is not called a
change either: it may be chance. Two intervals apart are a stricter demand than a test of the
difference (Schenker and Gentleman 2001, doi 10.1198/000313001317097960).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from auditor.findings import CheckResult, Interval, Metric, Record

Judgement = Literal["apart", "overlap", "no interval", "not comparable", "only one"]


class MetricChange(Record):
    """A metric whose value, interval or sample is another, or that only one run has.

    `judgement` is `apart` where the intervals do not meet, `overlap` where they do,
    `no interval` where a side has none, `not comparable` where check version, seed, parameters,
    data or unit differ, `only one` where a run does not measure it. `direction` says better or
    worse only where the intervals are apart and the metric says which way is better.
    `intervals_overlap` is None unless both sides have an interval.
    """

    kind: Literal["metric"] = "metric"
    result: str
    code: str
    subject: str
    control: str = ""
    name: str
    old: Metric | None
    new: Metric | None
    intervals_overlap: bool | None
    judgement: Judgement
    direction: Literal["better", "worse", "neither"]


def compare_metrics(
    was: CheckResult, now: CheckResult, *, comparable: bool
) -> Iterator[MetricChange]:
    """The metrics of one question that differ, controls included, in the new run's order."""
    before, after = _metrics(was), _metrics(now)
    for place in dict.fromkeys((*after, *before)):
        old, new = before.get(place), after.get(place)
        if old and new and _content(old) == _content(new):
            continue
        overlap = intervals_overlap(old, new)
        judgement = _judge(old, new, overlap, comparable=comparable)
        yield MetricChange(
            result=now.id,
            code=now.code,
            subject=now.subject,
            control=place[0],
            name=place[1],
            old=old,
            new=new,
            intervals_overlap=overlap,
            judgement=judgement,
            direction=_direction(old, new) if judgement == "apart" else "neither",
        )


def intervals_overlap(old: Metric | None, new: Metric | None) -> bool | None:
    """Whether the intervals share a point; None unless both metrics have one.

    Intervals without a usable end are taken to overlap: nothing tells them apart.
    """
    if not (old and new and old.interval and new.interval):
        return None
    first, second = old.interval, new.interval
    ends = (first.lower, first.upper, second.lower, second.upper)
    return any(map(math.isnan, ends)) or max(first.lower, second.lower) <= min(
        first.upper, second.upper
    )


def _judge(
    old: Metric | None, new: Metric | None, overlap: bool | None, *, comparable: bool
) -> Judgement:
    if old is None or new is None:
        return "only one"
    if not comparable or old.unit != new.unit:
        return "not comparable"
    if overlap is None:
        return "no interval"
    return "overlap" if overlap else "apart"


def _direction(old: Metric | None, new: Metric | None) -> Literal["better", "worse", "neither"]:
    if old is None or new is None or new.better is None or old.better != new.better:
        return "neither"
    return "better" if (new.value > old.value) == (new.better == "higher") else "worse"


def _metrics(result: CheckResult) -> Mapping[tuple[str, str, int], Metric]:
    """By control, name, and the how-manieth of that name it is."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str, int], Metric] = {}
    parts = [("", result.answer.metrics)]
    parts += [(control.name, control.metrics) for control in result.answer.controls]
    for control, metrics in parts:
        for metric in metrics:
            found[control, metric.name, seen[control, metric.name]] = metric
            seen[control, metric.name] += 1
    return found


def _content(metric: Metric) -> tuple[str, ...]:
    """What counts as the same number; text, because NaN is not equal to itself."""
    return (repr(metric.value), metric.unit, repr(metric.sample_size), *_ends(metric.interval))


def _ends(interval: Interval | None) -> tuple[str, ...]:
    if interval is None:
        return ()
    numbers = (interval.lower, interval.upper, interval.confidence)
    return (*map(repr, numbers), interval.method)
