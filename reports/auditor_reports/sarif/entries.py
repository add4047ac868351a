"""What becomes a SARIF result: findings, open questions, missed thresholds, worst first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from auditor.findings import (
    AuditReport,
    CheckResult,
    Finding,
    GateRow,
    Location,
    Severity,
    SourceLine,
)
from auditor_reports.sarif.models import Level
from auditor_reports.standing import (
    WORST_FIRST,
    Standings,
    Status,
    derived_fingerprint,
    finding_fingerprint,
    loose_points,
)


@dataclass(frozen=True)
class Origin:
    """Where a SARIF result comes from: a result of the report, or the plan as a whole."""

    code: str
    subject: str
    verdict: str
    id: str
    place: SourceLine


@dataclass(frozen=True)
class Entry:
    """One SARIF result to be, before rules are numbered."""

    rule: str
    level: Level
    text: str
    origin: Origin
    status: Status
    mark: str
    location: Location = field(default_factory=Location)
    severity: Severity | None = None
    justification: str = ""
    passes: bool = False


def sarif_entries(
    report: AuditReport, *, include_suppressed: bool = False, include_passed: bool = False
) -> list[Entry]:
    """Everything that is written, worst first; waived and passed only on request."""
    return sorted(_entries(report, include_suppressed, include_passed), key=_rank)


def _entries(
    report: AuditReport, include_suppressed: bool, include_passed: bool
) -> Iterator[Entry]:
    """What is written: first what belongs to no result, then result by result."""
    standings = Standings(report)
    plan = SourceLine(file=report.plan_file, line=1)
    for row in loose_points(report):
        origin = Origin(row.code, row.subject, row.status, row.result, plan)
        yield _row_entry(standings, origin, row)
    for result in standings.worst_first(report.results):
        origin = Origin(result.code, result.subject, result.verdict, result.id, result.declared_at)
        entries = list(_entries_of(standings, result, origin))
        yield from (e for e in entries if e.status != "waived" or include_suppressed)
        status = standings.of_result(result)
        if status == "pass" and include_passed:
            text = result.answer.summary
            mark = _mark(origin, "pass")
            yield Entry(result.code, "none", text, origin, status, mark, passes=True)


def _entries_of(standings: Standings, result: CheckResult, origin: Origin) -> Iterator[Entry]:
    """Findings, the open question, and rows of the gate beyond them."""
    for finding in result.answer.findings:
        yield _finding_entry(standings, result, finding, origin)
    if result.verdict.is_open:
        yield Entry(
            rule=f"{result.code}-inconclusive",
            level="warning",
            text=f"No answer ({result.verdict}): {result.answer.reason}",
            origin=origin,
            status=standings.of_result(result),
            mark=_mark(origin, "inconclusive"),
        )
    for row in standings.beyond_findings(result):
        yield _row_entry(standings, origin, row)


def _rank(entry: Entry) -> tuple[int, int]:
    """Sorts the worst first; entries of one rank keep the order of their results."""
    severity = entry.severity.rank if entry.severity else Severity.HIGH.rank
    return WORST_FIRST.index(entry.status), severity


def _finding_entry(
    standings: Standings, result: CheckResult, finding: Finding, origin: Origin
) -> Entry:
    waiver = standings.waiver(result, finding)
    status = standings.of_finding(result, finding)
    remedy = f" Remedy: {finding.remedy}" if finding.remedy else ""
    return Entry(
        rule=result.code,
        level="error" if finding.severity.at_least(Severity.HIGH) else "warning",
        text=f"{finding.title}: {finding.description}{remedy}",
        origin=origin,
        status=status,
        mark=finding_fingerprint(result, finding),
        location=finding.location,
        severity=finding.severity,
        justification=f"{waiver.reason} (until {waiver.expires})" if waiver else status,
    )


def _row_entry(standings: Standings, origin: Origin, row: GateRow) -> Entry:
    """A row of the gate that is no finding: a missed threshold, or too little to tell."""
    unanswered = row.status in ("open", "warn")
    mild = row.severity is not None and not row.severity.at_least(Severity.HIGH)
    waiver = standings.waiver_of(row)
    return Entry(
        rule=f"{row.code}-inconclusive" if unanswered else f"{row.code}-policy",
        level="warning" if mild or unanswered else "error",
        text=row.text,
        origin=origin,
        status=row.status,
        # Without a fingerprint: the words before the first number name the threshold.
        mark=row.fingerprint or _mark(origin, f"{row.status} {re.split('[0-9]', row.text)[0]}"),
        severity=row.severity,
        justification=f"{waiver.reason} (until {waiver.expires})" if waiver else row.status,
    )


def _mark(origin: Origin, what: str) -> str:
    place = Location(property_id=origin.id)
    return derived_fingerprint(f"{origin.code}-{what}", origin.subject, place)
