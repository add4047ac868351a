"""The in-toto statement reads back, and only a plain pass of the gate is PASSED."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2 as predicates
from in_toto_attestation.v1 import statement_pb2 as statements
from in_toto_attestation.v1.statement import Statement

from auditor.findings import AuditReport
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.in_toto import MAX_NAMES, PREDICATE_TYPE, render_in_toto
from tests.golden.sample_report import every_check_report, sample_report, single_result_report

NUMBERS = range(len(every_check_report().results))


def read_back(report: AuditReport) -> Any:
    """The statement as the reference package reads and checks it; unknown fields are errors."""
    content = render_in_toto(report)
    message = json_format.Parse(content, statements.Statement())
    Statement.copy_from_pb(message).validate()
    assert message.predicate_type == PREDICATE_TYPE
    return message


def predicate_of(report: AuditReport) -> Any:
    """The predicate as the reference package's message."""
    plain = json_format.MessageToDict(read_back(report).predicate)
    return json_format.ParseDict(plain, predicates.TestResult())


def gated(report: AuditReport, verdict: str, *statuses: str) -> AuditReport:
    """The report with this verdict of the gate and its rows changed to these statuses."""
    rows = tuple(row.model_copy(update={"status": status})
                 for row, status in zip(report.gate.rows, statuses, strict=True))  # fmt: skip
    gate = report.gate.model_copy(update={"verdict": verdict, "rows": rows})
    return report.model_copy(update={"gate": gate})


@pytest.mark.parametrize("report", [sample_report(), every_check_report()])
def test_samples_read_back(report: AuditReport) -> None:
    """The reference package accepts statement and predicate."""
    assert predicate_of(report).result == "FAILED"


def test_the_reader_refuses_a_misspelt_field() -> None:
    """The reading above can fail."""
    plain = json.loads(render_in_toto(sample_report()))
    plain["predicates"] = plain.pop("predicate")
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(plain, statements.Statement())


@pytest.mark.parametrize("number", NUMBERS)
def test_outcome_of_each_single_result(number: int) -> None:
    """A gate that fails or is inconclusive is FAILED; a pass is PASSED only without reservation."""
    report = single_result_report(number)
    found = predicate_of(report)
    if report.gate.verdict != "pass":
        assert found.result == "FAILED"
        return
    plain = {row.status for row in report.gate.rows} == {"pass"}
    assert found.result == ("PASSED" if plain else "WARNED")


def test_inconclusive_is_failed_whatever_else_passes() -> None:
    """A verifier that lets warnings through must not let an open question through."""
    report = gated(single_result_report(0), "inconclusive", "pass")
    assert predicate_of(report).result == "FAILED"


def test_a_pass_with_a_waiver_is_warned() -> None:
    """Somebody vouched for it, and the statement says so."""
    report = gated(single_result_report(0), "pass", "waived")
    found = predicate_of(report)
    assert found.result == "WARNED"
    assert list(found.warned_tests) == [report.results[0].id]


def test_an_unfinished_run_is_never_passed() -> None:
    """Part of the plan was not carried out."""
    report = single_result_report(0)
    assert predicate_of(report).result == "PASSED"
    cut = report.model_copy(update={"complete": False})
    assert predicate_of(cut).result == "FAILED"


def test_a_run_without_results_is_never_passed() -> None:
    """Nothing was audited."""
    report = single_result_report(0)
    gate = report.gate.model_copy(update={"rows": ()})
    assert predicate_of(report.model_copy(update={"results": (), "gate": gate})).result == "FAILED"


def test_a_pass_that_its_rows_contradict_is_failed() -> None:
    """The worse of the two counts."""
    report = gated(single_result_report(0), "pass", "open")
    assert predicate_of(report).result == "FAILED"


def test_tests_are_listed_by_how_they_stand() -> None:
    """Required open questions fail; what is tolerated or was waived is warned of."""
    found = predicate_of(sample_report())
    assert set(found.passed_tests) == {
        "AUD101:digit-classifier", "AUD101:support-assistant", "AUD103:digit-classifier",
        "refusal-experts:support-assistant",
    }  # fmt: skip
    assert set(found.failed_tests) == {
        "AUD205", "stays-zero:digit-classifier", "robust-0.05:digit-classifier",
        "AUD203:digit-classifier",
    }  # fmt: skip
    assert set(found.warned_tests) == {
        "AUD301:support-assistant", "AUD302:support-assistant", "AUD303:support-assistant",
        "AUD401:support-assistant", "AUD402:support-assistant",
    }  # fmt: skip


def test_a_name_that_two_results_share_counts_as_the_worse() -> None:
    """It is in one list only."""
    report = every_check_report()
    same = tuple(result.model_copy(update={"id": "same"}) for result in report.results)
    gate = report.gate.model_copy(update={"rows": ()})
    found = predicate_of(report.model_copy(update={"results": same, "gate": gate}))
    assert (list(found.passed_tests), list(found.warned_tests)) == ([], [])
    assert list(found.failed_tests) == ["same"]


def test_subjects_are_the_models_with_their_digests() -> None:
    """What the statement is about is named by SHA-256."""
    report = sample_report()
    assert [(s.name, dict(s.digest)) for s in read_back(report).subject] == [
        (s.name, {"sha256": s.digest.removeprefix("sha256:")}) for s in report.subjects
    ]


def test_without_any_digest_the_statement_is_about_the_report() -> None:
    """A statement must be about something, and no digest is invented."""
    report = sample_report()
    bare = tuple(subject.model_copy(update={"digest": ""}) for subject in report.subjects)
    changed = report.model_copy(update={"subjects": bare})
    (subject,) = read_back(changed).subject
    assert subject.name == "audit.json"
    assert f"sha256:{subject.digest['sha256']}" == run_fingerprint(changed)


def test_configuration_names_plan_policy_and_report() -> None:
    """Each by its digest."""
    report = sample_report()
    found = {each.name: dict(each.digest) for each in predicate_of(report).configuration}
    expected = {
        report.plan_file: report.plan_digest,
        "policy": report.gate.policy_digest,
        "audit.json": run_fingerprint(report),
    }
    assert found == {
        name: {"sha256": digest.removeprefix("sha256:")} for name, digest in expected.items()
    }


def test_what_is_left_out_is_counted() -> None:
    """The count stands beside the digest of the report that has all."""
    report = single_result_report(0)
    (row,), (result,) = report.gate.rows, report.results
    names = [f"result {number}" for number in range(MAX_NAMES + 7)]
    many = report.model_copy(
        update={
            "results": tuple(result.model_copy(update={"id": name}) for name in names),
            "gate": report.gate.model_copy(
                update={"rows": tuple(row.model_copy(update={"result": name}) for name in names)}
            ),
        }
    )
    found = predicate_of(many)
    (whole,) = [each for each in found.configuration if each.name == "audit.json"]
    assert len(found.passed_tests) == MAX_NAMES
    assert whole.annotations["testsLeftOut"] == 7
