"""What changed between two runs: verdicts, findings, metrics, subjects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from auditor.findings import AuditReport, CheckResult, Metric, Record

Kind = Literal["subject", "added", "removed", "verdict", "new finding", "fixed finding", "metric"]


class Change(Record):
    """One difference between two runs."""

    kind: Kind
    result: str
    old: str
    new: str


class Comparison(Record):
    """All differences, the new run against the old."""

    changes: tuple[Change, ...]
    summary: str


def compare_reports(old: AuditReport, new: AuditReport) -> Comparison:
    """Differences of two reports, matched by the ids of their results.

    Law: comparing a report with itself gives no change.
    """
    changes = tuple(_changes(old, new))
    fresh = sum(change.kind == "new finding" for change in changes)
    fixed = sum(change.kind == "fixed finding" for change in changes)
    summary = (
        f"gate {old.gate.verdict} -> {new.gate.verdict}; {fresh} new and {fixed} fixed findings, "
        f"{len(changes)} differences"
    )
    return Comparison(changes=changes, summary=summary)


def _changes(old: AuditReport, new: AuditReport) -> Iterator[Change]:
    before = {subject.name: subject.digest for subject in old.subjects}
    after = {subject.name: subject.digest for subject in new.subjects}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield Change(
                kind="subject", result=name, old=before.get(name, "-"), new=after.get(name, "-")
            )
    was = {result.id: result for result in old.results}
    now = {result.id: result for result in new.results}
    for name in sorted(was.keys() | now.keys()):
        yield from _result_changes(name, was.get(name), now.get(name))


def _result_changes(
    name: str, was: CheckResult | None, now: CheckResult | None
) -> Iterator[Change]:
    if was is None or now is None:
        kind: Kind = "added" if was is None else "removed"
        yield Change(
            kind=kind, result=name, old=was.verdict if was else "-", new=now.verdict if now else "-"
        )
        return
    if was.verdict != now.verdict:
        yield Change(kind="verdict", result=name, old=was.verdict, new=now.verdict)
    known = {finding.fingerprint: finding.title for finding in was.answer.findings}
    found = {finding.fingerprint: finding.title for finding in now.answer.findings}
    for mark in sorted(found.keys() - known.keys()):
        yield Change(kind="new finding", result=name, old="-", new=found[mark])
    for mark in sorted(known.keys() - found.keys()):
        yield Change(kind="fixed finding", result=name, old=known[mark], new="-")
    yield from _metric_changes(name, _metrics(was), _metrics(now))


def _metrics(result: CheckResult) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in result.answer.metrics}


def _metric_changes(
    name: str, was: Mapping[str, Metric], now: Mapping[str, Metric]
) -> Iterator[Change]:
    for metric in sorted(was.keys() & now.keys()):
        if was[metric].value != now[metric].value:
            yield Change(
                kind="metric",
                result=name,
                old=f"{metric} {was[metric].value:.6g}",
                new=f"{metric} {now[metric].value:.6g}",
            )
