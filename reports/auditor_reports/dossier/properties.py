"""Formal properties as ISO/IEC 24029-2 asks for them: domain, type, criterion, verifier, method.

Each field is quoted from what the run recorded, where the mapping says it stands. What stands
nowhere is shown as not recorded; nothing is filled in from knowledge about auditor.
"""

from __future__ import annotations

from collections.abc import Sequence

from auditor.findings import AuditReport, CheckCard, CheckResult
from auditor_reports.dossier.mapping import PropertyReading
from auditor_reports.dossier.record import NOT_RECORDED, PropertyEntry
from auditor_reports.number_text import number
from auditor_reports.standing import own_name

MODEL_CODE = "AUD101"


def read_properties(
    readings: Sequence[PropertyReading], report: AuditReport
) -> tuple[PropertyEntry, ...]:
    """An entry for each result of each check that proves properties, in the mapping's order."""
    cards = {card.code: card for card in report.checks}
    return tuple(
        _entry(reading, result, cards.get(result.code), report)
        for reading in readings
        for result in report.results
        if result.code == reading.check
    )


def _entry(
    reading: PropertyReading, result: CheckResult, card: CheckCard | None, report: AuditReport
) -> PropertyEntry:
    def quoted(references: Sequence[str]) -> str:
        found = [(_label(each), _value(each, result, card, report)) for each in references]
        told = [(label, value) for label, value in found if value]
        if len(told) == 1:
            return told[0][1]
        return "; ".join(f"{label}: {value}" for label, value in told) or NOT_RECORDED

    return PropertyEntry(
        result=result.id,
        code=result.code,
        name=own_name(result) or result.title,
        subject=result.subject,
        verdict=result.verdict,
        type=reading.type,
        type_reason=reading.type_reason,
        domain=quoted(reading.domain),
        criterion=quoted(reading.criterion),
        architecture=quoted(reading.architecture),
        data_type=quoted(reading.data_type),
        complete=quoted(reading.complete),
        deterministic=quoted(reading.deterministic),
        arithmetic=quoted(reading.arithmetic),
        method=quoted(reading.method),
        stage=quoted(reading.stage),
    )


def _label(reference: str) -> str:
    kind, _, name = reference.partition(":")
    words = name.replace("_", " ")
    return f"digest of {words}" if kind == "data" else words


def _value(reference: str, result: CheckResult, card: CheckCard | None, report: AuditReport) -> str:
    """What a reference of the mapping leads to; empty where the run does not hold it."""
    kind, _, name = reference.partition(":")
    match kind:
        case "fact":
            return result.answer.facts.get(name, "")
        case "parameter":
            return _plain(result.parameters.get(name))
        case "data":
            return result.data_digests.get(name, "")
        case "metric":
            values = [metric.value for metric in result.answer.metrics if metric.name == name]
            return number(values[0]) if values else ""
        case "model":
            return _model_fact(name, result.subject, report)
        case "card":
            return str(getattr(card, name, "")) if card else ""
        case _:
            return str(getattr(report, name, ""))


def _model_fact(name: str, subject: str, report: AuditReport) -> str:
    """A fact of the first look at the file, about the same subject."""
    return next(
        (
            result.answer.facts[name]
            for result in report.results
            if result.code == MODEL_CODE
            and result.subject == subject
            and name in result.answer.facts
        ),
        "",
    )


def _plain(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number(value, 6)
        case list() if all(isinstance(item, int | float) for item in value):
            return "[" + ", ".join(_plain(item) for item in value) + "]"
        case _:
            return str(value)
