"""What the HTML page shows, arranged: the report's records with anchors and standings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from auditor.findings import (
    AuditReport,
    CheckCard,
    CheckResult,
    Finding,
    GateRow,
    Severity,
    Verdict,
    WaiverUse,
)
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.standing import (
    VERDICTS_WORST_FIRST,
    WORST_FIRST,
    Standings,
    Status,
    check_cards,
    finding_fingerprint,
    gaps,
    loose_points,
    own_name,
    verdict_sentence,
)


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding with its place on the page and before the gate."""

    finding: Finding
    anchor: str
    fingerprint: str
    status: Status
    waiver: WaiverUse | None


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result with its place on the page and before the gate."""

    result: CheckResult
    anchor: str
    status: Status
    findings: tuple[FindingView, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict of the result."""
        return self.result.verdict

    @property
    def name(self) -> str:
        """The name the plan gave the check, often empty."""
        return own_name(self.result)


@dataclass(frozen=True)
class CheckView:
    """A check's card with its results, worst first."""

    card: CheckCard
    anchor: str
    results: tuple[ResultView, ...]
    counts: Mapping[Verdict, int]


@dataclass(frozen=True, slots=True)
class Point:
    """One line of the first page: something that fails, or an open question.

    Attributes:
        result: Anchor of the result it belongs to; empty where it belongs to none.
        anchor: The place to go to, the finding's own where there is one.
        mark: The verdict whose mark stands beside it.
        check: Code, and the name the plan gave the check.
    """

    result: str
    anchor: str
    mark: Verdict
    check: str
    subject: str
    text: str
    severity: Severity | None = None
    required: bool = True


@dataclass(frozen=True)
class Page:
    """The whole page, nothing cut yet.

    Attributes:
        results: Every result, worst first.
        checks: The checks that have a result.
        failing: Findings, missed thresholds and refused subjects, worst first.
        open: Questions without an answer, for whatever reason.
        gate_rows: The gate's rows, worst first, each with the anchor it speaks of.
        not_assessed: What the report names, and checks without a result.
    """

    report: AuditReport
    sentence: str
    fingerprint: str
    counts: Mapping[Verdict, int]
    results: tuple[ResultView, ...]
    checks: tuple[CheckView, ...]
    failing: tuple[Point, ...]
    open: tuple[Point, ...]
    gate_rows: tuple[tuple[GateRow, str], ...]
    not_assessed: tuple[str, ...]


class Anchors:
    """Hands out element ids: readable, safe in any attribute, and never the same twice."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, prefix: str, name: str) -> str:
        """An id made of the prefix and the harmless part of the name."""
        slug = re.sub(r"[^a-z0-9]+", "-", name[:200].lower()).strip("-")[:48] or "x"
        base = f"{prefix}-{slug}"
        count = self._taken[base] = self._taken.get(base, 0) + 1
        # The double hyphen cannot come out of a name, so a numbered id stays unique.
        return base if count == 1 else f"{base}--{count}"


def arrange(report: AuditReport) -> Page:
    """Arrange a report for the page."""
    standings, anchors = Standings(report), Anchors()
    loose = loose_points(report)
    results = tuple(
        _result_view(result, standings, anchors) for result in standings.worst_first(report.results)
    )
    anchor_of = {view.result.id: view.anchor for view in reversed(results)}
    rows = sorted(report.gate.rows, key=lambda row: WORST_FIRST.index(row.status))
    counts = report.by_verdict()
    checks = [_check_view(card, results, anchors) for card in check_cards(report)]
    return Page(
        report=report,
        sentence=verdict_sentence(report),
        fingerprint=run_fingerprint(report),
        counts={verdict: counts[verdict] for verdict in VERDICTS_WORST_FIRST},
        results=results,
        checks=tuple(check for check in checks if check.results),
        failing=tuple(_failing(results, standings, loose)),
        open=tuple(_open(results, standings, loose)),
        gate_rows=tuple((row, anchor_of.get(row.result, "")) for row in rows),
        not_assessed=gaps(report),
    )


def _result_view(result: CheckResult, standings: Standings, anchors: Anchors) -> ResultView:
    findings = sorted(result.answer.findings, key=lambda finding: finding.severity.rank)
    return ResultView(
        result=result,
        anchor=anchors.take("result", result.id),
        status=standings.of_result(result),
        findings=tuple(_finding_view(finding, result, standings, anchors) for finding in findings),
    )


def _finding_view(
    finding: Finding, result: CheckResult, standings: Standings, anchors: Anchors
) -> FindingView:
    mark = finding_fingerprint(result, finding)
    return FindingView(
        finding=finding,
        anchor=anchors.take("finding", mark),
        fingerprint=mark,
        status=standings.of_finding(result, finding),
        waiver=standings.waiver(result, finding),
    )


def _check_view(card: CheckCard, results: Sequence[ResultView], anchors: Anchors) -> CheckView:
    own = tuple(view for view in results if view.result.code == card.code)
    return CheckView(
        card=card,
        anchor=anchors.take("check", card.code),
        results=own,
        counts={v: sum(view.verdict is v for view in own) for v in VERDICTS_WORST_FIRST},
    )


def _failing(
    results: Sequence[ResultView], standings: Standings, loose: Sequence[GateRow]
) -> list[Point]:
    points = [_loose_point(row, Verdict.VIOLATED) for row in loose if row.status == "fail"]
    for view in results:
        points.extend(
            _point(view, Verdict.VIOLATED, each.finding.title, each)
            for each in view.findings
            if each.status == "fail"
        )
        points.extend(
            replace(_point(view, Verdict.VIOLATED, row.text), severity=row.severity)
            for row in standings.beyond_findings(view.result)
            if row.status == "fail"
        )
    return points


def _open(
    results: Sequence[ResultView], standings: Standings, loose: Sequence[GateRow]
) -> list[Point]:
    unanswered = ("open", "warn")
    points = [_loose_point(row, Verdict.UNKNOWN) for row in loose if row.status in unanswered]
    for view in results:
        if view.verdict.is_open:
            points.append(_point(view, view.verdict, view.result.answer.reason))
        points.extend(
            _point(view, Verdict.UNKNOWN, row.text)
            for row in standings.beyond_findings(view.result)
            if row.status in unanswered
        )
    return points


def _point(view: ResultView, mark: Verdict, text: str, finding: FindingView | None = None) -> Point:
    return Point(
        result=view.anchor,
        anchor=finding.anchor if finding else view.anchor,
        mark=mark,
        check=f"{view.result.code} {view.name}".strip(),
        subject=view.result.subject,
        text=text,
        severity=finding.finding.severity if finding else None,
        required=view.result.required,
    )


def _loose_point(row: GateRow, mark: Verdict) -> Point:
    return Point("", "gate", mark, row.code, row.subject, row.text, row.severity)
