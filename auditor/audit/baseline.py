"""The baseline: what an earlier run had found, so that only what is new or worse gates.

Written by `auditor baseline create`, never by hand. `specs/baseline.md` is the written
specification. Reading and writing the file is left to the reports' JSON.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, get_args

from pydantic import ConfigDict

from auditor.audit.policy import Bound, MetricGate, Operator, number_at
from auditor.findings import (
    AuditReport,
    CheckResult,
    Location,
    Record,
    Severity,
    fingerprint,
)

BASELINE_FORMAT: Literal["auditor-baseline"] = "auditor-baseline"


class _Documented(Record):
    model_config = ConfigDict(use_attribute_docstrings=True)


class KnownPoint(_Documented):
    """A finding, or a missed threshold on a metric, that an earlier run had."""

    fingerprint: str
    """As in `audit.json`; it survives retraining."""
    severity: Severity
    """How bad it was."""
    kind: Literal["finding", "threshold"]
    """Whether a check found it, or a metric missed a threshold of the policy."""
    check: str
    """Code of the check."""
    result: str
    """Id of the result."""
    subject: str
    """Name of the model."""
    title: str
    """What it was, for people."""
    measured: float | None = None
    """Of a threshold: the number that missed it."""


class KnownModel(_Documented):
    """A model the earlier run looked at."""

    name: str
    """Its name in the run."""
    digest: str
    """`sha256:<hex>` of its files."""


class Baseline(_Documented):
    """What a run had found, sorted by fingerprint."""

    format: Literal["auditor-baseline"]
    """Always `auditor-baseline`."""
    version: Literal[1]
    """Version of this format."""
    plan: str
    """Name of the run's plan."""
    run: str
    """Fingerprint of the run: `sha256:<hex>` of its `audit.json`."""
    run_finished: datetime
    """When the run ended; writing the file later does not change it."""
    complete: bool
    """Whether every check of the run had ended."""
    policy_digest: str
    """Digest of the policy whose thresholds were missed."""
    models: tuple[KnownModel, ...]
    """The run's models."""
    known: tuple[KnownPoint, ...]
    """Findings and missed thresholds."""

    def by_fingerprint(self) -> Mapping[str, tuple[KnownPoint, ...]]:
        """The known points under each fingerprint; two findings may share one."""
        book: dict[str, list[KnownPoint]] = defaultdict(list)
        for point in self.known:
            book[point.fingerprint].append(point)
        return {mark: tuple(points) for mark, points in book.items()}


def make_baseline(report: AuditReport, run: str) -> Baseline:
    """What a report has found, as a baseline.

    Args:
        report: Gated without a baseline.
        run: Its fingerprint.

    Law: the same report gives the same baseline.
    """
    points = [point for result in report.results for point in _points(report, result)]
    models = (KnownModel(name=each.name, digest=each.digest) for each in report.subjects)
    return Baseline(
        format=BASELINE_FORMAT,
        version=1,
        plan=report.plan,
        run=run,
        run_finished=report.timing.finished,
        complete=report.complete,
        policy_digest=report.gate.policy_digest,
        models=tuple(sorted(models, key=lambda each: each.name)),
        known=tuple(sorted(points, key=_order)),
    )


def _order(point: KnownPoint) -> tuple[str, int, str]:
    return point.fingerprint, point.severity.rank, point.title


def _points(report: AuditReport, result: CheckResult) -> Iterator[KnownPoint]:
    found = {finding.fingerprint for finding in result.answer.findings}
    for finding in result.answer.findings:
        yield KnownPoint(
            fingerprint=finding.fingerprint, severity=finding.severity, kind="finding",
            check=result.code, result=result.id, subject=result.subject, title=finding.title,
        )  # fmt: skip
    numbers = dict(_numbers(result))
    for row in report.gate.rows:
        if row.result == result.id and row.severity and row.fingerprint not in {"", *found}:
            yield KnownPoint(
                fingerprint=row.fingerprint, severity=row.severity, kind="threshold",
                check=result.code, result=result.id, subject=result.subject, title=row.text,
                measured=numbers.get(row.fingerprint),
            )  # fmt: skip


def threshold_mark(result: CheckResult, metric: str, op: Operator, bound: Bound) -> str:
    """Fingerprint of missing a threshold; the threshold's value is not part of it."""
    place = Location(property_id=f"gate {metric} {op} {bound}")
    return fingerprint(result.code, f"{result.subject}\x1f{result.id}", place)


def _numbers(result: CheckResult) -> Iterator[tuple[str, float]]:
    """The number under the fingerprint of every threshold that the metrics could miss."""
    for metric in result.answer.metrics:
        for bound in get_args(Bound):
            number = number_at(metric, bound)
            if number is not None:
                for op in get_args(Operator):
                    yield threshold_mark(result, metric.name, op, bound), number


def take_known(
    points: Sequence[KnownPoint], severity: Severity, gate: MetricGate | None, number: float | None
) -> KnownPoint | None:
    """The mildest known point that is no better than what was found now, if there is one.

    Args:
        points: What is known under its fingerprint and not yet taken.
        severity: Of what was found now.
        gate: Of a missed threshold: the threshold.
        number: Of a missed threshold: what was measured now.
    """
    fitting = [
        point for point in points
        if point.severity.at_least(severity) and not _is_further(point.measured, gate, number)
    ]  # fmt: skip
    return max(fitting, key=lambda point: point.severity.rank, default=None)


def _is_further(before: float | None, gate: MetricGate | None, now: float | None) -> bool:
    """Whether a measured number misses its threshold by more than the known one did."""
    if gate is None or now is None:
        return False
    if before is None or math.isnan(now):
        return True
    return not gate.distance(now) <= gate.distance(before) + gate.tolerance
