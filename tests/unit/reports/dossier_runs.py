"""Small runs for dossiers: a few results with their gate rows, and a hostile one that is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from auditor.findings import (
    Answer,
    AuditReport,
    CheckResult,
    Finding,
    GateRow,
    Metric,
    Severity,
    Verdict,
)
from auditor_cli.frameworks import find_mappings
from auditor_reports.dossier.mapping import FrameworkMapping, Row
from tests.golden.sample_report import DIGITS, result, sample_report
from tests.unit.reports.hostile_report import poisoned

FRAMEWORKS = ("eu-ai-act", "iso-24029-2", "iso-42001", "nist-ai-rmf", "sr-26-2")
FACTS = {"property": "p", "semantics": "real arithmetic", "violated where": "q", "reason": "r"}


@cache
def mapping(name: str) -> FrameworkMapping:
    """The mapping of this name that ships with auditor."""
    (found,) = find_mappings([name])
    return found


def one_result(
    code: str, verdict: Verdict, *, name: str = "", facts: dict[str, str] | None = None,
    metrics: tuple[Metric, ...] = (), subject: str = DIGITS,
) -> CheckResult:  # fmt: skip
    """A result of a check with this verdict."""
    finding = Finding(title="broken", severity=Severity.HIGH, description="d", fingerprint="f" * 32)
    answer = Answer(
        verdict=verdict, summary="s", reason="too little time" if verdict.is_open else "",
        findings=(finding,) if verdict is Verdict.VIOLATED else (), facts=facts or {},
        metrics=metrics,
    )  # fmt: skip
    return result(0, code, subject, answer, seconds=1.0, name=name)


def gate_row(about: CheckResult, status: str, text: str = "said") -> GateRow:
    """A line of the gate about a result."""
    return GateRow.model_validate({
        "status": status, "result": about.id, "code": about.code, "subject": about.subject,
        "text": text,
    })  # fmt: skip


def run_of(
    results: Sequence[CheckResult], rows: Sequence[GateRow] = (), **changes: Any
) -> AuditReport:
    """The sample report's frame around these results, about one subject."""
    report = sample_report()
    gate = report.gate.model_copy(update={"rows": tuple(rows), "waivers": ()})
    update = {"results": tuple(results), "gate": gate, "subjects": report.subjects[:1]}
    return report.model_copy(update={**update, **changes})


def row(**fields: Any) -> Row:
    """A row that AUD201 answers in whole, changed."""
    plain = {"id": "a", "title": "t", "source": "s", "asks": "x", "covers": "whole",
             "evidence": [{"check": "AUD201"}]}  # fmt: skip
    return Row.model_validate({**plain, **fields})


def recognised(text: str) -> AuditReport:
    """The sample report with every free text replaced, and codes and names that mappings know."""
    clean, report = sample_report(), poisoned(text)
    results = []
    for was, now in zip(clean.results, report.results, strict=True):
        metrics = tuple(
            metric.model_copy(update={"name": original.name})
            for original, metric in zip(was.answer.metrics, now.answer.metrics, strict=True)
        )
        facts = dict.fromkeys({**FACTS, **was.answer.facts}, text)
        answer = now.answer.model_copy(update={"metrics": metrics, "facts": facts})
        results.append(now.model_copy(update={"code": was.code, "answer": answer}))
    rows = tuple(
        now.model_copy(update={"code": was.code})
        for was, now in zip(clean.gate.rows, report.gate.rows, strict=True)
    )
    cards = tuple(
        now.model_copy(update={"code": was.code})
        for was, now in zip(clean.checks, report.checks, strict=True)
    )
    gate = report.gate.model_copy(update={"rows": rows})
    return report.model_copy(update={"results": tuple(results), "checks": cards, "gate": gate})
