"""An old run told in the names of a new one: what is called otherwise is the same question.

A fingerprint holds the names of subject and check, so that a finding of `digits-v1` would
otherwise never match one of `digits-v2`. Findings whose fingerprint was not made of their own
place are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, get_args

from auditor.audit.baseline import threshold_mark
from auditor.audit.policy import Bound, Operator
from auditor.findings import AuditReport, CheckResult, Finding, GateRow, Location, fingerprint


class Name(NamedTuple):
    """What a result and its subject are called."""

    id: str
    subject: str


def names_by_subject(report: AuditReport, subjects: Mapping[str, str]) -> dict[str, Name]:
    """New names of the results whose subjects are renamed, by their id now."""
    return {
        result.id: Name(
            _with_suffix(result.id, result.subject, subjects[result.subject]),
            subjects[result.subject],
        )
        for result in report.results
        if result.subject in subjects
    }


def rename_results(report: AuditReport, names: Mapping[str, Name]) -> AuditReport:
    """The report with results, their subjects, findings and gate rows called otherwise.

    Args:
        report: A run.
        names: New names by the id of each result; others stay.
    """
    if not names:
        return report
    marks: dict[tuple[str, str], str] = {}
    results = tuple(_renamed(each, names.get(each.id), marks) for each in report.results)
    called = {
        result.subject: names[result.id].subject for result in report.results if result.id in names
    }
    subjects = tuple(
        each.model_copy(update={"name": called.get(each.name, each.name)})
        for each in report.subjects
    )
    rows = tuple(_renamed_row(row, names.get(row.result), marks) for row in report.gate.rows)
    return report.model_copy(
        update={
            "results": results,
            "subjects": subjects,
            "gate": report.gate.model_copy(update={"rows": rows}),
        }
    )


def _with_suffix(name: str, old: str, new: str) -> str:
    """The id of a result, its subject behind the colon renamed."""
    head = name.removesuffix(f":{old}")
    return name if head == name else f"{head}:{new}"


def _renamed(
    result: CheckResult, name: Name | None, marks: dict[tuple[str, str], str]
) -> CheckResult:
    if name is None:
        return result
    bare = result.model_copy(update={"id": name.id, "subject": name.subject})
    for before, after in _threshold_marks(result, bare):
        marks[result.id, before] = after
    findings = []
    for finding in result.answer.findings:
        mark = _mark_of(finding, result, bare)
        marks[result.id, finding.fingerprint] = mark
        findings.append(finding.model_copy(update={"fingerprint": mark}))
    answer = result.answer.model_copy(update={"findings": tuple(findings)})
    return bare.model_copy(update={"answer": answer})


def _mark_of(finding: Finding, was: CheckResult, now: CheckResult) -> str:
    for make in (_mark_of_place, _mark_of_subject):
        if finding.fingerprint == make(was, finding.location):
            return make(now, finding.location)
    return finding.fingerprint


def _mark_of_place(result: CheckResult, place: Location) -> str:
    """As the runner stamps it."""
    return fingerprint(result.code, f"{result.subject}\x1f{result.id}", place)


def _mark_of_subject(result: CheckResult, place: Location) -> str:
    """As reports derive it where none was stamped."""
    return fingerprint(result.code, result.subject, place)


def _threshold_marks(was: CheckResult, now: CheckResult) -> Iterator[tuple[str, str]]:
    """Fingerprints of every threshold that the metrics could miss, old and new."""
    for metric in was.answer.metrics:
        for op in get_args(Operator):
            for bound in get_args(Bound):
                yield (
                    threshold_mark(was, metric.name, op, bound),
                    threshold_mark(now, metric.name, op, bound),
                )


def _renamed_row(row: GateRow, name: Name | None, marks: Mapping[tuple[str, str], str]) -> GateRow:
    if name is None:
        return row
    mark = marks.get((row.result, row.fingerprint), row.fingerprint)
    return row.model_copy(update={"result": name.id, "subject": name.subject, "fingerprint": mark})
