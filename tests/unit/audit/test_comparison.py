"""What changed between two runs."""

from __future__ import annotations

from auditor.audit.comparison import compare_reports
from auditor.findings import AuditReport, Finding, Location, Severity, Verdict
from tests.golden.sample_report import sample_report


def changes(old: AuditReport, new: AuditReport) -> list[tuple[str, str]]:
    return [(change.kind, change.result) for change in compare_reports(old, new).changes]


def test_a_report_does_not_differ_from_itself() -> None:
    report = sample_report()
    assert changes(report, report) == []


def test_removed_and_added_checks_are_named() -> None:
    report = sample_report()
    shorter = report.model_copy(update={"results": report.results[1:]})
    assert changes(report, shorter) == [("removed", report.results[0].id)]
    assert changes(shorter, report) == [("added", report.results[0].id)]


def test_a_new_and_a_fixed_finding_mirror_each_other() -> None:
    report = sample_report()
    number = next(n for n, r in enumerate(report.results) if r.verdict is Verdict.VIOLATED)
    result = report.results[number]
    extra = Finding(
        title="another", severity=Severity.LOW, description="d", fingerprint="f" * 32,
        location=Location(layer="last"),
    )  # fmt: skip
    findings = (*result.answer.findings, extra)
    answer = result.answer.model_copy(update={"findings": findings})
    changed = result.model_copy(update={"answer": answer})
    results = (*report.results[:number], changed, *report.results[number + 1 :])
    worse = report.model_copy(update={"results": results})
    assert changes(report, worse) == [("new finding", result.id)]
    assert changes(worse, report) == [("fixed finding", result.id)]
    assert "1 new and 0 fixed findings" in compare_reports(report, worse).summary


def test_another_model_is_a_change_of_subject() -> None:
    report = sample_report()
    first = report.subjects[0].model_copy(update={"digest": "sha256:other"})
    other = report.model_copy(update={"subjects": (first, *report.subjects[1:])})
    assert changes(report, other) == [("subject", first.name)]
