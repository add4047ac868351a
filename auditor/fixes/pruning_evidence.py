"""What was measured of a pruning, as conditions and a picture for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from auditor.findings import CurveEvidence, CurvePoint, CurveSeries, Evidence, Metric
from auditor.fix import Comparison, Condition
from auditor.fixes.pruning_study import (
    Candidate,
    Float64,
    Outcome,
    Recovery,
    Wording,
    paired_interval,
)

DIFFERENCE = "difference"
RISE = "rise as a share"


class Measured(NamedTuple):
    """Everything that was measured of one pruning.

    Attributes:
        chosen: The masks.
        before: The untouched model.
        after: The repaired one.
        alone: Pruned and not trained, where it was trained afterwards.
        controls: Name of each control to what it does.
        attacked: What attacks bring back from the untouched model.
        recoveries: What they bring back from the repaired one, in the same order.
        apart: Lines about masks of disjoint halves.
        summary: `suppressed`, `recoverable`, or both.
    """

    chosen: Candidate
    before: Outcome
    after: Outcome
    alone: Outcome | None
    controls: Mapping[str, Outcome]
    attacked: Sequence[Recovery]
    recoveries: Sequence[Recovery]
    apart: Sequence[str]
    summary: str


def conditions_of(measured: Measured, wording: Wording) -> tuple[Condition, ...]:
    """Pruning with its controls, then what training makes of it: the last repair is decided on."""
    name, masks = measured.chosen.name, measured.chosen.masks
    located = (
        f"{masks.pruned} of {masks.size} weights of {len(masks.masks)} layers are zero "
        f"({masks.density:.1%})",
        *measured.apart,
    )
    repaired = (
        *_compared(measured.before, measured.after, wording),
        *_recovered(measured.attacked, measured.recoveries, wording),
    )
    controls = tuple(
        Condition(
            name=control, control_of=name,
            comparisons=_compared(measured.before, outcome, wording),
        )
        for control, outcome in measured.controls.items()
    )  # fmt: skip
    if measured.alone is None:
        return (
            Condition(name=name, comparisons=repaired, notes=(measured.summary, *located)),
            *controls,
        )
    pruned = Condition(
        name=name, comparisons=_compared(measured.before, measured.alone, wording), notes=located
    )
    trained = Condition(
        name=f"{name}, then trained against the attack", comparisons=repaired,
        notes=(measured.summary,),
    )  # fmt: skip
    return (pruned, *controls, trained)


def trade_off(
    start: Outcome, tried: Sequence[tuple[Candidate, Outcome]], wording: Wording
) -> Evidence:
    """Rate against loss of every candidate on the split that is chosen by, a line for each rule."""
    series: dict[str, list[CurvePoint]] = {}
    for candidate, outcome in tried:
        kind = candidate.name.rpartition(",")[0] or candidate.name
        series.setdefault(kind, []).append(
            CurvePoint(x=wording.loss(start, outcome), y=float(outcome.rates.mean()))
        )
    untouched = CurveSeries(
        name="untouched", points=(CurvePoint(x=0.0, y=float(start.rates.mean())),)
    )
    return CurveEvidence(
        title="What every mask costs, on the split that one is chosen by",
        x_label=f"rise of {wording.cost}", y_label=wording.rate,
        series=(untouched, *(
            CurveSeries(name=name, points=tuple(sorted(points, key=lambda point: point.x)))
            for name, points in series.items()
        )),
        description="Each point is one share of weights; further down and to the left is better.",
    )  # fmt: skip


def _compared(before: Outcome, after: Outcome, wording: Wording) -> tuple[Comparison, ...]:
    cost = Comparison(
        name=wording.cost, before=_mean(wording, before.costs), after=_mean(wording, after.costs),
        change=wording.loss_interval(before, after),
        change_of=RISE if wording.relative else DIFFERENCE,
    )  # fmt: skip
    rate = _rates(wording.rate, before.rates, after.rates)
    also = tuple(
        Comparison(
            name=name, before=Metric(name=name, value=value),
            after=Metric(name=name, value=after.also[name]),
        )
        for name, value in before.also.items() if name in after.also
    )  # fmt: skip
    return (rate, cost, *also)


def _recovered(
    attacked: Sequence[Recovery], recoveries: Sequence[Recovery], wording: Wording
) -> list[Comparison]:
    """Recovery from the untouched model beside that from the repaired, others right below."""
    found = []
    for was, now in zip(attacked, recoveries, strict=True):
        found.append(
            _rates(f"{now.attack}: memorised {wording.items} that come back", was.rates, now.rates)
        )
        found.append(_rates(
            f"{now.attack}: {wording.items} never memorised that come back",
            was.control, now.control,
        ))  # fmt: skip
    return found


def _rates(name: str, before: Float64, after: Float64) -> Comparison:
    def metric(values: Float64) -> Metric:
        return Metric(
            name="rate", value=float(values.mean()), unit="share", sample_size=len(values),
            interval=paired_interval(0 * values, values), better="lower",
        )  # fmt: skip

    return Comparison(
        name=name, before=metric(before), after=metric(after),
        change=paired_interval(before, after), change_of=DIFFERENCE,
    )  # fmt: skip


def _mean(wording: Wording, values: Float64) -> Metric:
    """The mean cost, or the perplexity where costs are nats."""
    interval = paired_interval(0 * values, values)
    if not wording.relative:
        return Metric(
            name=wording.cost, value=float(values.mean()), sample_size=len(values),
            interval=interval, better="lower",
        )  # fmt: skip
    if interval is not None:
        ends = {"lower": float(np.exp(interval.lower)), "upper": float(np.exp(interval.upper))}
        interval = interval.model_copy(update=ends)
    return Metric(
        name=wording.cost, value=float(np.exp(values.mean())), unit="perplexity",
        sample_size=len(values), interval=interval, better="lower",
    )  # fmt: skip
