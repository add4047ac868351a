"""How each result and finding stands before the gate, and which come first.

The gate's rows are read, never recomputed. Where the gate says nothing about a
result, its own verdict decides, and never in its favour: `violated` counts as
failing, an open question as open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from auditor.findings import (
    AuditReport,
    CheckCard,
    CheckResult,
    Finding,
    GateRow,
    Severity,
    Verdict,
    WaiverUse,
    fingerprint,
)

Status = Literal["fail", "open", "warn", "waived", "baseline", "below", "pass"]

WORST_FIRST: tuple[Status, ...] = get_args(Status)
VERDICTS_WORST_FIRST = (
    Verdict.VIOLATED,
    Verdict.ERROR,
    Verdict.UNKNOWN,
    Verdict.SKIPPED,
    Verdict.HOLDS,
)
STATUS_WORDS: dict[Status, str] = {
    "fail": "fails the gate",
    "open": "open",
    "warn": "open, policy only warns",
    "waived": "waived",
    "baseline": "known before",
    "below": "below the failing severity",
    "pass": "passes",
}


def finding_fingerprint(result: CheckResult, finding: Finding) -> str:
    """The finding's fingerprint, derived where the runner stamped none."""
    return finding.fingerprint or fingerprint(result.code, result.subject, finding.location)


class Standings:
    """Gate rows looked up by result and finding."""

    def __init__(self, report: AuditReport) -> None:
        self._rows: dict[str, list[GateRow]] = defaultdict(list)
        for row in report.gate.rows:
            self._rows[row.result].append(row)
        self._waivers = {use.fingerprint: use for use in report.gate.waivers}

    def rows(self, result: CheckResult) -> Sequence[GateRow]:
        """Every gate row about this result."""
        return self._rows.get(result.id, ())

    def of_result(self, result: CheckResult) -> Status:
        """The worst status of any row about this result."""
        statuses = {row.status for row in self.rows(result)}
        if result.verdict is Verdict.VIOLATED and statuses <= {"pass"}:
            return "fail"
        if result.verdict.is_open and statuses <= {"pass"}:
            return "open" if result.required else "warn"
        return next((status for status in WORST_FIRST if status in statuses), "pass")

    def of_finding(self, result: CheckResult, finding: Finding) -> Status:
        """The status of the row about this finding."""
        mark = finding_fingerprint(result, finding)
        statuses = {row.status for row in self.rows(result) if row.fingerprint == mark}
        return next((status for status in WORST_FIRST if status in statuses), "fail")

    def waiver(self, result: CheckResult, finding: Finding) -> WaiverUse | None:
        """The waiver that took this finding out of the gate, if there is one."""
        if self.of_finding(result, finding) != "waived":
            return None
        return self._waivers.get(finding_fingerprint(result, finding))

    def worst_first(self, results: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
        """The results, the ones a reader must see first at the front; a total order."""
        return tuple(sorted(results, key=self._rank))

    def _rank(self, result: CheckResult) -> tuple[int, int, int, bool, str, str, str]:
        worst = min((f.severity.rank for f in result.answer.findings), default=len(Severity))
        return (
            WORST_FIRST.index(self.of_result(result)),
            VERDICTS_WORST_FIRST.index(result.verdict),
            worst,
            not result.required,
            result.code,
            result.subject,
            result.id,
        )


def check_cards(report: AuditReport) -> tuple[CheckCard, ...]:
    """The report's cards by code, with an empty one for a result whose card is missing."""
    cards = {card.code: card for card in report.checks}
    for result in report.results:
        cards.setdefault(
            result.code,
            CheckCard(
                code=result.code,
                title=result.title,
                version=result.version,
                question="",
                method="",
                pass_does_not_mean="",
            ),
        )
    return tuple(cards[code] for code in sorted(cards))


def verdict_sentence(report: AuditReport) -> str:
    """What the gate decided, in one sentence."""
    statuses = [row.status for row in report.gate.rows]
    failing, open_rows = statuses.count("fail"), statuses.count("open")
    match report.gate.verdict:
        case "pass":
            return "Every required check ran and met the policy."
        case "fail":
            extra = f"; {_count(open_rows, 'question is', 'questions are')} open" if open_rows else ""
            return f"{_count(failing, 'entry fails', 'entries fail')} the policy{extra}."
        case _:
            return (
                "Nothing that was answered fails the policy, but "
                f"{_count(open_rows, 'required question has', 'required questions have')} no answer."
            )


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
