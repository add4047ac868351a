"""How a cell's status comes about: the evidence a row names, and nothing else.

A row fails where a result it names fails, waived or not. It is partial where what there is
passes and something is missing, and not assessed where no check that it names has an answer.
A declaration by the user makes a row not applicable, unless its evidence fails. There is no
score, and nothing here knows the framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.findings import AuditReport, CheckResult
from auditor_reports.dossier.evidence import EvidenceBook, slot_facts, slot_numbers
from auditor_reports.dossier.mapping import Declaration, Row
from auditor_reports.dossier.record import (
    NOT_RECORDED,
    Cell,
    CellStatus,
    DeclaredRow,
    Fact,
    Number,
)
from auditor_reports.dossier.run_facts import run_facts

NAMED = 6


@dataclass(frozen=True)
class _Found:
    """What a run holds for a row.

    Attributes:
        results: Of every check that the row names.
        answered: Those with an answer that counts for the row.
        failing: Where something was found, as lines.
        facts: Of results and of the run's record.
        numbers: Metrics that the row shows.
        missing: What is not there, as lines.
    """

    results: tuple[CheckResult, ...]
    answered: tuple[CheckResult, ...]
    failing: tuple[str, ...]
    facts: tuple[Fact, ...]
    numbers: tuple[Number, ...]
    missing: tuple[str, ...]


def decide_cell(
    row: Row, book: EvidenceBook, declared: Declaration | None, *, is_attack_class: bool = False
) -> Cell:
    """The cell of a row: its status, why, and the evidence it rests on."""
    found = _gather(row, book)
    status, reason = _judge(row, found)
    if declared is not None and status == "evidence fail":
        reason = f"{reason}. Declared as not applicable, and evidence that fails is not hidden"
    elif declared is not None:
        status, reason = "not applicable", f"declared by the user: {declared.reason}"
    return Cell(
        row=row.id,
        title=row.title,
        source=row.source,
        asks=row.asks,
        status=status,
        reason=reason,
        derivation=derivation(row),
        beyond=row.beyond or "",
        tested=bool(found.answered) if is_attack_class else None,
        results=tuple(result.id for result in found.results),
        facts=found.facts,
        numbers=found.numbers,
        declared=None
        if declared is None
        else DeclaredRow(reason=declared.reason, declared_by=declared.declared_by),
    )


def derivation(row: Row) -> str:
    """The rule by which the row's status comes about, in words."""
    if not row.evidence:
        return "Never assessed: auditor gathers no evidence for this row."
    codes = row.codes
    if not codes:
        rule = "Answered by the run's own record."
    elif row.judged == "by record":
        which = "each of" if row.needs == "all" and len(codes) > 1 else "one of"
        rule = (
            f"Judged by record: {f'{which} ' if len(codes) > 1 else ''}{', '.join(codes)} has an "
            "answer and the facts named are recorded, whatever the verdict."
        )
    else:
        which = "each of them" if row.needs == "all" else "one of them at least"
        rule = f"Fails where a result of {', '.join(codes)} fails, waived or not" + (
            f"; needs an answer of {which}." if len(codes) > 1 else "; needs an answer."
        )
    if row.covers == "part":
        rule += " At most partial: the evidence fills a part of the row."
    return rule


def _gather(row: Row, book: EvidenceBook) -> _Found:
    results = [result for code in row.codes for result in book.results(code)]
    by_record = row.judged == "by record"
    answered = [result for result in results if _is_answer(row, result, book)]
    failing = [] if by_record else [*_failures(row, results, book)]
    facts: list[Fact] = []
    numbers: list[Number] = []
    for slot in row.evidence:
        if slot.record:
            facts += run_facts(slot.record, book.report)
        elif slot.check:
            own = [result for result in book.results(slot.check) if not result.verdict.is_open]
            facts += slot_facts(slot, own)
            numbers += slot_numbers(slot, own)
    return _Found(
        tuple(results), tuple(answered), tuple(failing), tuple(facts), tuple(numbers),
        tuple(_missing(row, results, answered, facts, book.report)),
    )  # fmt: skip


def _is_answer(row: Row, result: CheckResult, book: EvidenceBook) -> bool:
    """Whether a result counts for a row: something was found, or it holds and says something."""
    if book.fails(result):
        return True
    recorded = row.judged == "by record" and not result.verdict.is_open
    return (recorded or book.is_clean(result)) and not any(
        result.answer.facts.get(name) == value
        for slot in row.evidence
        if slot.check == result.code
        for name, value in slot.unless.items()
    )


def _failures(row: Row, results: Sequence[CheckResult], book: EvidenceBook) -> Iterator[str]:
    for code in row.codes:
        for loose in book.loose_failures(code):
            yield f"{code} {loose.subject} ({loose.text})"
    for result in results:
        if book.fails(result):
            waived = ", waived" if book.standings.waivers(result) else ""
            yield f"{_name(result)}{waived}"


def _missing(
    row: Row, results: Sequence[CheckResult], answered: Sequence[CheckResult],
    facts: Sequence[Fact], report: AuditReport,
) -> Iterator[str]:  # fmt: skip
    """What the row asks for and the run does not have, most telling first."""
    clear = {id(result) for result in answered}
    yield from (f"{_name(each)} has no clear answer" for each in results if id(each) not in clear)
    if row.needs == "all":
        asked = {result.code for result in results}
        yield from (f"no result of {code}" for code in row.codes if code not in asked)
    if answered:
        seen = {result.subject for result in answered}
        yield from (
            f"nothing is answered about subject {subject.name}"
            for subject in report.subjects if subject.name not in seen
        )  # fmt: skip
    for fact in facts:
        if fact.value == NOT_RECORDED:
            yield f"{fact.name} of {fact.result} is not recorded"


def _judge(row: Row, found: _Found) -> tuple[CellStatus, str]:
    """Status and reason by the evidence alone."""
    if not row.evidence:
        return "not assessed", row.beyond or ""
    if found.failing:
        return "evidence fail", f"fails: {_listed(found.failing)}"
    if row.codes and not found.answered:
        if found.missing:
            return "not assessed", _listed(found.missing)
        return "not assessed", f"no result of {' or '.join(row.codes)} in this run"
    if not found.answered and not found.facts:
        return "not assessed", "the run records nothing of this"
    there = _there(row, found)
    if found.missing:
        return "partial", f"{there}. What is missing: {_listed(found.missing)}"
    if row.covers == "part":
        return "partial", f"{there}; this fills a part of the row"
    return "evidence pass", there


def _there(row: Row, found: _Found) -> str:
    if not row.codes:
        return "recorded"
    count = len(found.answered)
    what = f"{count:,} result{'s' if count != 1 else ''}"
    return f"recorded by {what}" if row.judged == "by record" else f"{what} without a failure"


def _name(result: CheckResult) -> str:
    return f"{result.code} {result.id}" if result.code not in result.id else result.id


def _listed(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - NAMED:,} more" if len(texts) > NAMED else ""
    return "; ".join(texts[:NAMED]) + more
