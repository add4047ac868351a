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
    Location,
    Severity,
    Verdict,
    WaiverUse,
    fingerprint,
)
from auditor_reports.sanitise import encodable

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
    "warn": "open, tolerated",
    "waived": "waived",
    "baseline": "known before",
    "below": "below failing severity",
    "pass": "passes",
}


def finding_fingerprint(result: CheckResult, finding: Finding) -> str:
    """The finding's fingerprint, derived where the runner stamped none."""
    return finding.fingerprint or derived_fingerprint(result.code, result, finding.location)


def derived_fingerprint(code: str, result: CheckResult, location: Location) -> str:
    """A fingerprint of a code at a place in the result's subject, for any text whatever."""
    place = {
        name: encodable(value) if isinstance(value, str) else value
        for name, value in location.model_dump().items()
    }
    return fingerprint(encodable(code), encodable(result.subject), Location.model_validate(place))


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

    def beyond_findings(self, result: CheckResult) -> tuple[GateRow, ...]:
        """Rows that fail or are open and say more than the verdict and the findings do.

        Such as a metric that misses its threshold, or a sample too small to tell.
        """
        marks = {finding_fingerprint(result, finding) for finding in result.answer.findings}
        told = ("fail",) if result.verdict.is_open else ("fail", "open", "warn")
        return tuple(
            row for row in self.rows(result) if row.status in told and row.fingerprint not in marks
        )

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


def gaps(report: AuditReport) -> tuple[str, ...]:
    """What was not assessed: what the report names, and described checks that have no result."""
    ran = {result.code for result in report.results}
    return report.not_assessed + tuple(
        f"{card.code} {card.title}: no result in this run"
        for card in check_cards(report)
        if card.code not in ran
    )


def verdict_sentence(report: AuditReport) -> str:
    """What the gate decided, in one sentence; open questions are named even in a pass."""
    statuses = [row.status for row in report.gate.rows]
    failing, unanswered = statuses.count("fail"), statuses.count("open")
    tolerated = statuses.count("warn")
    match report.gate.verdict:
        case "pass":
            sentence = "Every required check met the policy"
        case "fail":
            sentence = f"{_count(failing, 'point fails', 'points fail')} the policy"
        case _:
            sentence = "Nothing that was answered fails the policy"
    if unanswered:
        sentence += f"; {_count(unanswered, 'required question has', 'required questions have')}"
        sentence += " no answer"
    if tolerated:
        sentence += f"; {_count(tolerated, 'open question is', 'open questions are')} tolerated"
        sentence += " by the policy"
    return f"{sentence}."


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"
