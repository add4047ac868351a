"""The gate: policy, baseline and waivers applied to results, once.

The decision is computed here and nowhere else; writers only show it. What has no
answer never passes. A certain failure outranks an open question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from auditor.audit.policy import WAIVER_WARNING_DAYS, MetricGate, Policy, Waiver
from auditor.findings import (
    CheckResult,
    Finding,
    GateDecision,
    GateRow,
    Location,
    Metric,
    Severity,
    SubjectRecord,
    Verdict,
    WaiverUse,
    fingerprint,
)

PASSED, FAILED, INCONCLUSIVE, NOTHING_AUDITED, REFUSED = 0, 1, 3, 5, 6
REFUSED_FACT = "refused"


@dataclass(frozen=True)
class Acceptance:
    """What was accepted beforehand.

    Attributes:
        waivers: Waivers in force or not; the gate looks at their dates.
        baseline: Fingerprint to severity of findings known from an earlier run.
        today: The day the waivers' dates are compared with.
    """

    waivers: Sequence[Waiver]
    baseline: Mapping[str, Severity]
    today: date


def decide(
    results: Sequence[CheckResult],
    subjects: Sequence[SubjectRecord],
    policy: Policy,
    acceptance: Acceptance,
) -> GateDecision:
    """Whether the release may go out.

    Args:
        results: Every result of the run, open ones too.
        subjects: The run's subjects; one with the fact `refused` makes the code 6.
        policy: What is demanded.
        acceptance: Waivers and baseline.

    Returns:
        The decision with one row per reason. Exit codes: 0 passed, 1 failed,
        3 inconclusive, 5 nothing audited, 6 input refused; 6 outranks 1, 1 outranks 3.
    """
    book = _WaiverBook(acceptance)
    rows = [row for result in results for row in _judge(result, policy, book)]
    rows += _missing_checks(results, policy)
    rows += [row for gate in policy.gates for row in _judge_metric(gate, results, book)]
    refused = [s.facts[REFUSED_FACT] for s in subjects if REFUSED_FACT in s.facts]
    verdict, code = _conclude(rows, nothing=not results, refused=bool(refused))
    statuses = [row.status for row in rows]
    return GateDecision(
        verdict=verdict,
        exit_code=code,
        fail_on=policy.fail_on,
        policy_digest=policy.digest,
        rows=tuple(rows),
        counts={status: statuses.count(status) for status in sorted(set(statuses))},
        waivers=tuple(book.used),
        notes=(*refused, *book.notes()),
    )


def _conclude(
    rows: Sequence[GateRow], *, nothing: bool, refused: bool
) -> tuple[Literal["pass", "fail", "inconclusive"], int]:
    statuses = {row.status for row in rows}
    if refused:
        return "fail", REFUSED
    if "fail" in statuses:
        return "fail", FAILED
    if nothing:
        return "inconclusive", NOTHING_AUDITED
    if "open" in statuses:
        return "inconclusive", INCONCLUSIVE
    return "pass", PASSED


def _judge(result: CheckResult, policy: Policy, book: _WaiverBook) -> Iterator[GateRow]:
    """Rows for one result: its open verdict, its pass, or each of its findings."""
    if result.verdict.is_open:
        required = result.required or result.code in policy.require
        blocks = required and policy.inconclusive == "block"
        status: Literal["open", "warn"] = "open" if blocks else "warn"
        yield _row(result, status, f"{result.verdict}: {result.answer.reason}")
    elif result.verdict is Verdict.HOLDS:
        yield _row(result, "pass", result.answer.summary)
    for finding in result.answer.findings:
        status_of, note = book.status(result, finding.severity, finding.fingerprint)
        if status_of == "fail" and not finding.severity.at_least(policy.fail_on):
            status_of, note = "below", f" (below {policy.fail_on})"
        yield _row(result, status_of, finding.title + note, finding)


def _row(
    result: CheckResult,
    status: Literal["pass", "fail", "open", "waived", "baseline", "warn", "below"],
    text: str,
    finding: Finding | None = None,
) -> GateRow:
    return GateRow(
        status=status,
        result=result.id,
        code=result.code,
        subject=result.subject,
        severity=finding.severity if finding else None,
        fingerprint=finding.fingerprint if finding else "",
        text=text,
    )


def _missing_checks(results: Sequence[CheckResult], policy: Policy) -> Iterator[GateRow]:
    present = {result.code for result in results}
    for code in policy.require:
        if code not in present:
            text = f"the policy requires {code} and the plan does not run it"
            yield GateRow(
                status="open" if policy.inconclusive == "block" else "warn",
                result=code, code=code, subject="", text=text,
            )  # fmt: skip


def _judge_metric(
    gate: MetricGate, results: Sequence[CheckResult], book: _WaiverBook
) -> Iterator[GateRow]:
    """Rows for one threshold; a threshold that nothing measures is an open question."""
    measured = [
        result for result in results
        if result.code == gate.check and fnmatchcase(result.subject, gate.subject)
        and fnmatchcase(result.id, gate.id)
    ]  # fmt: skip
    if not measured:
        yield GateRow(status="open", result=gate.check, code=gate.check, subject=gate.subject,
                      text=f"{gate.text}: no result to compare")  # fmt: skip
    for result in measured:
        metrics = [m for m in result.answer.metrics if m.name == gate.metric]
        if not metrics:
            yield _row(result, "open", f"{gate.text}: the check reports no such metric")
        for metric in metrics:
            yield _compare(gate, metric, result, book)


def _compare(gate: MetricGate, metric: Metric, result: CheckResult, book: _WaiverBook) -> GateRow:
    number = gate.number_in(metric)
    if number is None:
        return _row(result, "open", f"{gate.text}: the metric carries no interval")
    if gate.repeats > 1:
        if len(metric.repeats) < gate.repeats:
            text = f"{gate.text}: {len(metric.repeats)} of {gate.repeats} repeats measured"
            return _row(result, "open", text)
        met = gate.accepts_repeats(metric.repeats)
    else:
        met = gate.accepts(number)
    borderline = abs(number - gate.value) <= gate.tolerance and gate.tolerance > 0
    text = f"{gate.text}: measured {number:.6g}{' (borderline)' if borderline else ''}"
    if met:
        return _row(result, "pass", text)
    place = Location(property_id=f"gate {gate.metric} {gate.op} {gate.bound}")
    mark = fingerprint(result.code, result.subject, place)
    status, note = book.status(result, gate.severity, mark)
    row = _row(result, status, text + note)
    return row.model_copy(update={"severity": gate.severity, "fingerprint": mark})


class _WaiverBook:
    """Looks findings up in waivers and baseline, and remembers what was used."""

    def __init__(self, acceptance: Acceptance) -> None:
        self.acceptance = acceptance
        self.used: list[WaiverUse] = []
        self._matched: set[int] = set()
        self._expired: list[str] = []

    def status(
        self, result: CheckResult, severity: Severity, mark: str
    ) -> tuple[Literal["fail", "waived", "baseline", "below"], str]:
        names = (result.code, result.id, mark)
        for number, waiver in enumerate(self.acceptance.waivers):
            if not waiver.covers(names, result.subject_digest, severity):
                continue
            self._matched.add(number)
            if waiver.expires < self.acceptance.today:
                self._expired.append(
                    f"waiver '{waiver.match}' expired on {waiver.expires}; the finding counts again"
                )
                continue
            self.used.append(_use(waiver, mark))
            return "waived", f" (waived until {waiver.expires})"
        known = self.acceptance.baseline.get(mark)
        if known and known.at_least(severity) and severity is not Severity.CRITICAL:
            return "baseline", " (known from the baseline)"
        return "fail", ""

    def notes(self) -> Iterator[str]:
        """Expired, soon expiring and stale waivers, and findings the baseline has too many."""
        yield from dict.fromkeys(self._expired)
        soon = self.acceptance.today + timedelta(days=WAIVER_WARNING_DAYS)
        for number, waiver in enumerate(self.acceptance.waivers):
            if number not in self._matched:
                yield f"waiver '{waiver.match}' matches nothing in this run; remove it"
            elif self.acceptance.today <= waiver.expires <= soon:
                yield f"waiver '{waiver.match}' expires on {waiver.expires}"


def _use(waiver: Waiver, mark: str) -> WaiverUse:
    return WaiverUse(
        fingerprint=mark,
        match=waiver.match,
        reason=waiver.reason,
        approved_by=waiver.approved_by,
        expires=waiver.expires.isoformat(),
        ticket=waiver.ticket,
    )
