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
# A fact of this name on a subject says why the subject was not opened.
REFUSED_FACT = "refused"
REFUSAL_CODE = "AUD101"
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
    return finding.fingerprint or derived_fingerprint(result.code, result.subject, finding.location)


def derived_fingerprint(code: str, subject: str, location: Location) -> str:
    """A fingerprint of a code at a place in a subject, for any text whatever."""
    place = {
        name: encodable(value) if isinstance(value, str) else value
        for name, value in location.model_dump().items()
    }
    return fingerprint(encodable(code), encodable(subject), Location.model_validate(place))


class Standings:
    """Gate rows looked up by result and finding."""

    def __init__(self, report: AuditReport) -> None:
        self._rows: dict[str, list[GateRow]] = defaultdict(list)
        self._worst: dict[tuple[str, str], Status] = {}
        for row in report.gate.rows:
            self._rows[row.result].append(row)
            known = self._worst.setdefault((row.result, row.fingerprint), row.status)
            if WORST_FIRST.index(row.status) < WORST_FIRST.index(known):
                self._worst[row.result, row.fingerprint] = row.status
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
        return self._worst.get((result.id, finding_fingerprint(result, finding)), "fail")

    def beyond_findings(self, result: CheckResult) -> tuple[GateRow, ...]:
        """Rows that fail, are open or were waived and that no finding or reason tells of.

        Such as a metric that misses its threshold, or a sample too small to tell.
        """
        marks = {finding_fingerprint(result, finding) for finding in result.answer.findings}
        # Of a result without an answer the open question is told by its verdict already.
        quiet = ("open", "warn") if result.verdict.is_open else ()
        return tuple(
            row
            for row in self.rows(result)
            if row.status in ("fail", "open", "warn", "waived")
            and row.status not in quiet
            and row.fingerprint not in marks
        )

    def waiver(self, result: CheckResult, finding: Finding) -> WaiverUse | None:
        """The waiver that took this finding out of the gate, if there is one."""
        if self.of_finding(result, finding) != "waived":
            return None
        return self._waivers.get(finding_fingerprint(result, finding))

    def waiver_of(self, row: GateRow) -> WaiverUse | None:
        """The waiver that took this row out of the gate, if there is one."""
        return self._waivers.get(row.fingerprint) if row.status == "waived" else None

    def waivers(self, result: CheckResult) -> tuple[WaiverUse, ...]:
        """Every waiver used for this result, for findings and for thresholds."""
        found = (self.waiver_of(row) for row in self.rows(result))
        return tuple(waiver for waiver in found if waiver)

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


def own_name(result: CheckResult) -> str:
    """The name the plan gave this check, empty where it is only code and subject."""
    name = result.id.removesuffix(f":{result.subject}")
    return "" if name == result.code else name


def loose_points(report: AuditReport) -> tuple[GateRow, ...]:
    """What counts for the gate and belongs to no result, worst first.

    A subject that was refused, a required check that the plan does not run, a
    threshold that nothing measures.
    """
    known = {result.id for result in report.results}
    refused = (
        GateRow(
            status="fail",
            result=subject.name,
            code=REFUSAL_CODE,
            subject=subject.name,
            severity=Severity.CRITICAL,
            text=f"refused as unsafe to open: {subject.facts[REFUSED_FACT]}",
        )
        for subject in report.subjects
        if REFUSED_FACT in subject.facts
    )
    rows = (row for row in report.gate.rows if row.result not in known and row.status != "pass")
    return tuple(sorted((*refused, *rows), key=lambda row: WORST_FIRST.index(row.status)))


def check_cards(report: AuditReport) -> tuple[CheckCard, ...]:
    """A card for every code in the report, by code; an empty one where the report has none."""
    cards = {card.code: card for card in report.checks}
    titles = {result.code: result.title for result in report.results}
    for row in loose_points(report):
        titles.setdefault(row.code, "")
    for code in titles.keys() - cards.keys():
        cards[code] = CheckCard(
            code=code,
            title=titles[code],
            version=0,
            question="",
            method="",
            pass_does_not_mean="",
        )
    return tuple(cards[code] for code in sorted(cards))


def gaps(report: AuditReport) -> tuple[str, ...]:
    """What was not assessed: what the report names, and described checks that have no result.

    Lines that only repeat a result without an answer are left to the open questions.
    """
    open_results = tuple(f"{r.id}: " for r in report.results if r.verdict.is_open)
    named = tuple(text for text in report.not_assessed if not text.startswith(open_results))
    ran = {result.code for result in report.results}
    missing = (
        card
        for card in report.checks
        if card.code not in ran and not any(text.startswith(card.code) for text in named)
    )
    return (*named, *(f"{card.code} {card.title}: no result in this run" for card in missing))


def verdict_sentence(report: AuditReport) -> str:
    """What the gate decided, in one sentence; open questions are named even in a pass."""
    statuses = [row.status for row in report.gate.rows]
    refused = sum(REFUSED_FACT in subject.facts for subject in report.subjects)
    if refused:
        what = _count(refused, "subject was refused", "subjects were refused")
        return f"{what} as unsafe to open; nothing was executed."
    if not report.results:
        return "Nothing was audited."
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
