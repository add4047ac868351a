"""New, fixed, worse and unchanged findings of two runs, matched by fingerprint.

A threshold of the policy that is missed counts as a finding, as it does in a baseline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from auditor.audit.comparison.comparability import is_comparable
from auditor.audit.comparison.result_pairs import Pairing, match
from auditor.findings import AuditReport, CheckResult, GateRow, Record, Severity, fingerprint

Standing = Literal["pass", "fail", "open", "waived", "baseline", "warn", "below"]
FindingStatus = Literal[
    "new", "worse", "standing", "milder", "unanswered", "fixed", "unchanged"
]  # fmt: skip
# The order of a reader's interest.
STATUSES: tuple[FindingStatus, ...] = get_args(FindingStatus)


class FindingChange(Record):
    """A finding of either run.

    `status` is `new` where only the new run has it. Where only the old run has it, it is `fixed`
    if the new run answered the same question, and `unanswered` if not: what nobody asked again
    is not mended. It is `worse` or `milder` where its severity rose or fell, `standing` where it
    stands otherwise before the gate (a waiver ended, say). Of a run that does not have it
    severity and standing are None. Title and place are the new run's where it has them.
    `comparable` is False where both runs asked, but not with the same check version, seed,
    parameters and data: what is new or fixed then may be so for that reason.
    """

    kind: Literal["finding"] = "finding"
    status: FindingStatus
    result: str
    code: str
    subject: str
    fingerprint: str
    title: str
    where: str
    old_severity: Severity | None
    new_severity: Severity | None
    old_standing: Standing | None
    new_standing: Standing | None
    comparable: bool = True

    @property
    def severity(self) -> Severity:
        """The severity in the new run, or in the old where it is fixed."""
        return self.new_severity or self.old_severity or Severity.LOW


@dataclass(frozen=True)
class _Point:
    """A finding or a missed threshold of one run."""

    mark: str
    result: str
    code: str
    subject: str
    severity: Severity
    title: str
    where: str
    standing: Standing | None
    is_threshold: bool = False


def compare_findings(
    old: AuditReport, new: AuditReport, pairing: Pairing
) -> tuple[FindingChange, ...]:
    """Every finding of either run, by status, then worst first."""
    before, after = (sorted(_points(report), key=_order) for report in (old, new))
    both, gone, fresh = match(
        before,
        after,
        # One fingerprint may stand for several findings: the likeliest pairs come first.
        (
            lambda each: (each.mark, each.result, each.severity, each.title),
            lambda each: (each.mark, each.result, each.severity),
            lambda each: (each.mark, each.result),
            lambda each: (each.mark, each.severity),
            lambda each: each.mark,
        ),
    )
    ended = _Endings(new, pairing).status
    changes = [
        *(_change(_status(was, now), was, now) for was, now in both),
        *(_change(ended(was), was, None) for was in gone),
        *(_change("new", None, now) for now in fresh),
    ]
    otherwise = {now.id for was, now in pairing.both if not is_comparable(was, now)}
    marked = (
        each.model_copy(update={"comparable": False}) if each.result in otherwise else each
        for each in changes
    )
    return tuple(sorted(marked, key=_rank))


class _Endings:
    """Says of what the new run does not report whether it is fixed."""

    def __init__(self, new: AuditReport, pairing: Pairing) -> None:
        answered = (now for _, now in pairing.both if not now.verdict.is_open)
        self._answered = {now.id for now in answered}
        # A threshold that could not be compared leaves an open row.
        self._open = {row.result for row in new.gate.rows if row.status in ("open", "warn")}

    def status(self, point: _Point) -> FindingStatus:
        told = point.result in self._answered
        return (
            "fixed"
            if told and not (point.is_threshold and point.result in self._open)
            else ("unanswered")
        )


def _order(point: _Point) -> tuple[str, str, int, str, str]:
    return (point.mark, point.result, point.severity.rank, point.title, point.standing or "")


def _rank(change: FindingChange) -> tuple[int, int, str, str, str, str, str]:
    return (
        STATUSES.index(change.status),
        change.severity.rank,
        change.code,
        change.subject,
        change.result,
        change.fingerprint,
        change.title,
    )


def _status(was: _Point, now: _Point) -> FindingStatus:
    if was.severity is not now.severity:
        return "worse" if now.severity.at_least(was.severity) else "milder"
    return "unchanged" if was.standing == now.standing else "standing"


def _change(status: FindingStatus, was: _Point | None, now: _Point | None) -> FindingChange:
    shown = now or was
    if shown is None:
        raise ValueError("a change needs the finding of one run at least")
    return FindingChange(
        status=status,
        result=shown.result,
        code=shown.code,
        subject=shown.subject,
        fingerprint=shown.mark,
        title=shown.title,
        where=shown.where,
        old_severity=was.severity if was else None,
        new_severity=now.severity if now else None,
        old_standing=was.standing if was else None,
        new_standing=now.standing if now else None,
    )


def _points(report: AuditReport) -> Iterator[_Point]:
    rows: dict[str, list[GateRow]] = defaultdict(list)
    for row in report.gate.rows:
        if row.fingerprint:
            rows[row.result].append(row)
    for result in report.results:
        own = rows.get(result.id, [])
        standings = {row.fingerprint: row.status for row in own}
        marks = set()
        for finding in result.answer.findings:
            mark = finding.fingerprint or fingerprint(result.code, result.subject, finding.location)
            marks.add(mark)
            yield _Point(
                mark, result.id, result.code, result.subject,
                finding.severity, finding.title, finding.location.path, standings.get(mark),
            )  # fmt: skip
        yield from _missed_thresholds(result, own, marks)


def _missed_thresholds(
    result: CheckResult, rows: list[GateRow], marks: set[str]
) -> Iterator[_Point]:
    for row in rows:
        if row.severity is not None and row.fingerprint not in marks:
            yield _Point(
                row.fingerprint, result.id, result.code, result.subject,
                row.severity, row.text, "threshold of the policy", row.status, is_threshold=True,
            )  # fmt: skip
