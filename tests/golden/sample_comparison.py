"""An invented second run of the sample report's plan: every kind of change stands in it."""

from __future__ import annotations

from datetime import timedelta

from auditor.audit.comparison import Comparison, compare_reports
from auditor.findings import (
    Answer,
    AuditReport,
    CheckResult,
    Finding,
    GateRow,
    Location,
    Severity,
    Timing,
    Verdict,
    fingerprint,
)
from auditor_reports.audit_json import run_fingerprint
from tests.golden.sample_report import DIGITS, digest, sample_report, share


def answer_of(report: AuditReport, code: str) -> Answer:
    """The answer of the first result with a code."""
    return next(result.answer for result in report.results if result.code == code)


def with_answer(report: AuditReport, code: str, **update: object) -> AuditReport:
    """The report, the answer of its first result with a code changed."""
    number = next(n for n, result in enumerate(report.results) if result.code == code)
    result = report.results[number]
    answer = result.answer.model_copy(update=update)
    return with_result(report, number, result.model_copy(update={"answer": answer}))


def with_result(report: AuditReport, number: int, result: CheckResult) -> AuditReport:
    """The report with another result in a place."""
    results = (*report.results[:number], result, *report.results[number + 1 :])
    return report.model_copy(update={"results": results})


def sample_successor() -> AuditReport:
    """A later run: the classifier trained anew, a broken property mended, another one broken.

    Memorisation is asked by a later version of its check, a waiver has ended, the runtime parity
    has no answer, and a check is gone.
    """
    report = sample_report()
    place = Location(property_id="stays-zero-9", node="/fc2/Gemm", output=4)
    broken = Finding(
        title="stays-zero-9 is broken: the class changes from 0 to 4",
        severity=Severity.HIGH,
        description="An input within 0.05 of sample 9 in each pixel is classified as 4.",
        location=place,
        fingerprint=fingerprint("AUD201", DIGITS, place),
    )
    report = with_answer(report, "AUD201", findings=(broken,))
    (weak,) = answer_of(report, "AUD202").findings
    report = with_answer(
        report,
        "AUD202",
        findings=(weak.model_copy(update={"severity": Severity.HIGH}),),
        metrics=(
            share("certified share", 183, 200, note="radius 0.05, infinity norm"),
            share("attack success", 1, 200, better="lower"),
            *answer_of(report, "AUD202").metrics[2:],
        ),
    )
    report = with_answer(
        report, "AUD103", verdict=Verdict.UNKNOWN, reason="the CUDA provider was not there"
    )
    number = next(n for n, result in enumerate(report.results) if result.code == "AUD401")
    report = with_result(report, number, report.results[number].model_copy(update={"version": 2}))
    report = report.model_copy(
        update={
            "plan_title": "Release 2.5: digit classifier and support assistant",
            "plan_digest": digest("plan 2.5"),
            "results": tuple(each for each in report.results if each.code != "AUD402"),
            "subjects": (
                report.subjects[0].model_copy(update={"digest": digest("digits 2.5")}),
                report.subjects[1],
            ),
            "environment": report.environment.model_copy(
                update={"libraries": {**report.environment.libraries, "torch": "2.14.0"}}
            ),
            "timing": Timing(
                started=report.timing.started + timedelta(days=9),
                finished=report.timing.finished + timedelta(days=9),
                seconds=2_711.0,
            ),
        }
    )
    gate = report.gate
    rows = tuple(_later(row, broken) for row in gate.rows if row.code != "AUD402")
    return report.model_copy(update={"gate": gate.model_copy(update={"rows": rows, "waivers": ()})})


def _later(row: GateRow, broken: Finding) -> GateRow:
    """A row of the later run's gate: a waiver has ended, another property is broken."""
    if row.status == "waived":
        return row.model_copy(update={"status": "fail", "text": "its waiver has ended"})
    if row.code == "AUD201":
        about = {"severity": broken.severity, "fingerprint": broken.fingerprint}
        return row.model_copy(update={**about, "text": broken.title})
    if row.code == "AUD202" and row.status == "below":
        return row.model_copy(update={"status": "fail", "severity": Severity.HIGH})
    return row


def sample_comparison() -> Comparison:
    """The sample report and its successor side by side; equal on every call."""
    old, new = sample_report(), sample_successor()
    return compare_reports(old, new, (run_fingerprint(old), run_fingerprint(new)))
