"""The evidence of a run, looked up by check: which results are clean, failing or open.

The gate is read, never recomputed. A waiver or a baseline takes a finding out of the gate, and
not out of a dossier: what was found stays found.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from auditor.findings import AuditReport, CheckResult, Evidence, GateRow, Record, Verdict, blob_of
from auditor_reports.dossier.mapping import EvidenceSlot
from auditor_reports.dossier.record import NOT_RECORDED, Fact, Number, ResultEntry
from auditor_reports.plain_json import plain_json
from auditor_reports.standing import STATUS_WORDS, Standings, loose_points

_FOUND = ("fail", "waived", "baseline", "below")
_OPEN = ("open", "warn")
# A fact of this name says in which arithmetic a proof speaks.
ARITHMETIC_FACT = "semantics"


class EvidenceBook:
    """The results of a run by check, with how each stands."""

    def __init__(self, report: AuditReport) -> None:
        self.report = report
        self.standings = Standings(report)
        self._loose = loose_points(report)
        self._cards = {card.code: card for card in report.checks}
        self._results: dict[str, list[CheckResult]] = defaultdict(list)
        for result in report.results:
            self._results[result.code].append(result)

    def results(self, code: str) -> tuple[CheckResult, ...]:
        """The results of a check, in the run's order."""
        return tuple(self._results.get(code, ()))

    def loose_failures(self, code: str) -> tuple[GateRow, ...]:
        """What fails about a check and belongs to no result, such as a refused subject."""
        return tuple(row for row in self._loose if row.code == code and row.status == "fail")

    def fails(self, result: CheckResult) -> bool:
        """Whether something was found, also where the gate accepts it."""
        return result.verdict is Verdict.VIOLATED or self._has(result, _FOUND)

    def is_clean(self, result: CheckResult) -> bool:
        """Whether the check holds and no threshold is missed or left open."""
        return result.verdict is Verdict.HOLDS and not self._has(result, (*_FOUND, *_OPEN))

    def _has(self, result: CheckResult, statuses: Sequence[str]) -> bool:
        return any(row.status in statuses for row in self.standings.rows(result))

    def entry(self, result: CheckResult) -> ResultEntry:
        """The result as a dossier lists it."""
        card = self._cards.get(result.code)
        return ResultEntry(
            id=result.id,
            code=result.code,
            title=result.title,
            version=result.version,
            subject=result.subject,
            subject_digest=result.subject_digest,
            verdict=result.verdict,
            gate=STATUS_WORDS[self.standings.of_result(result)],
            summary=result.answer.summary,
            reason=result.answer.reason,
            pass_does_not_mean=card.pass_does_not_mean if card else "",
            arithmetic=result.answer.facts.get(ARITHMETIC_FACT, ""),
            key=result.key,
            answer_digest=digest_of(result.answer),
            blobs=tuple(dict.fromkeys(_blob_digests(result.answer.every_evidence()))),
            data_digests=result.data_digests,
            waivers=tuple(
                f"{waiver.match}: {waiver.reason} ({waiver.approved_by}, until {waiver.expires})"
                for waiver in self.standings.waivers(result)
            ),
        )


def digest_of(record: Record) -> str:
    """`sha256:<hex>` of the record as plain JSON."""
    return f"sha256:{hashlib.sha256(plain_json(record)).hexdigest()}"


def slot_numbers(slot: EvidenceSlot, results: Sequence[CheckResult]) -> Iterator[Number]:
    """The metrics of these results that the slot asks for."""
    for result in results:
        for metric in result.answer.metrics:
            if any(fnmatchcase(metric.name, pattern) for pattern in slot.metrics):
                yield Number(
                    result=result.id, name=metric.name, value=metric.value, unit=metric.unit,
                    sample_size=metric.sample_size, interval=metric.interval,
                )  # fmt: skip


def slot_facts(slot: EvidenceSlot, results: Sequence[CheckResult]) -> Iterator[Fact]:
    """The facts of these results that the slot asks for; a missing one is not recorded."""
    for result in results:
        for name in slot.facts:
            value = result.answer.facts.get(name) or NOT_RECORDED
            yield Fact(name=name, value=value, result=result.id)


def _blob_digests(evidence: Sequence[Evidence]) -> Iterator[str]:
    for piece in evidence:
        blob = blob_of(piece)
        if blob is not None:
            yield blob.digest
