"""The SARIF log is valid, points at lines, and leaves out what code scanning would misread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from auditor.findings import AuditReport, CheckResult, SourceLine
from auditor_reports.sarif.log import FINGERPRINT, MAX_RESULTS, relative_uri, render_sarif
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import (
    HOSTILE_TEXTS,
    enlarged,
    poisoned,
    with_waived_threshold,
)

SCHEMA = Path(__file__).parents[5] / "shared/data/schemas/sarif-schema-2.1.0.json"


def run_of(report: AuditReport, **options: bool) -> dict[str, Any]:
    """The one run of the log."""
    (run,) = json.loads(render_sarif(report, **options))["runs"]
    assert isinstance(run, dict)
    return run


def results_of(report: AuditReport, **options: bool) -> list[dict[str, Any]]:
    """The results of the run."""
    results = run_of(report, **options)["results"]
    assert isinstance(results, list)
    return results


def official_errors(content: bytes) -> list[str]:
    """What the official schema says against a log."""
    if not SCHEMA.is_file():
        pytest.skip(f"needs the official schema at {SCHEMA}")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8")))
    return [error.message for error in validator.iter_errors(json.loads(content))]


@pytest.mark.parametrize("include_suppressed", [False, True])
@pytest.mark.parametrize("include_passed", [False, True])
def test_sample_is_valid(include_suppressed: bool, include_passed: bool) -> None:
    """The official schema has nothing against any variant."""
    content = render_sarif(
        sample_report(), include_suppressed=include_suppressed, include_passed=include_passed
    )
    assert official_errors(content) == []


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_texts_stay_valid(text: str) -> None:
    """No text makes the log invalid."""
    report = poisoned(text)
    assert official_errors(render_sarif(report, include_suppressed=True, include_passed=True)) == []


def test_official_schema_refuses_a_misspelt_field() -> None:
    """The validation above can fail."""
    log = json.loads(render_sarif(sample_report()))
    log["runs"][0]["results"][0]["partialFingerprint"] = {}
    assert official_errors(json.dumps(log).encode())


def test_rules_and_levels_of_the_sample() -> None:
    """Failures are errors, milder findings and open questions warnings, passes absent."""
    found = [(result["ruleId"], result["level"]) for result in results_of(sample_report())]
    assert found == [
        ("AUD201", "error"),
        ("AUD202-policy", "error"),
        ("AUD205-inconclusive", "warning"),
        ("AUD203-inconclusive", "warning"),
        ("AUD303-inconclusive", "warning"),
        ("AUD301-inconclusive", "warning"),
        ("AUD402-inconclusive", "warning"),
        ("AUD401", "warning"),
        ("AUD202", "warning"),
        ("AUD302", "warning"),
    ]


def test_rule_index_points_at_the_rule() -> None:
    """Index and id agree for every result."""
    run = run_of(sample_report())
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])


def test_every_result_points_at_a_line_of_the_plan() -> None:
    """A result without a physical location would make the whole file unreadable."""
    lines = {1, *(result.declared_at.line for result in sample_report().results)}
    for result in results_of(sample_report()):
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "audits/release.yaml"
        assert physical["region"]["startLine"] in lines
        assert location["logicalLocations"]


def test_location_in_the_model_is_logical() -> None:
    """Node, output and property are named, in one path."""
    (location,) = results_of(sample_report())[0]["locations"]
    assert [part["name"] for part in location["logicalLocations"]] == [
        "digit-classifier",
        "node /fc2/Gemm",
        "output 8",
        "property stays-zero-3",
    ]


def test_fingerprints_are_those_of_the_findings() -> None:
    """An alert stays the same alert after a retrain."""
    report = sample_report()
    stamped = {f.fingerprint for result in report.results for f in result.answer.findings}
    stamped |= {row.fingerprint for row in report.gate.rows if row.fingerprint}
    found = [r["partialFingerprints"][FINGERPRINT] for r in results_of(report)]
    assert len(set(found)) == len(found)
    waived = report.gate.waivers[0].fingerprint
    assert stamped - {waived} <= set(found)


def test_fingerprint_of_an_open_question_ignores_how_it_ended() -> None:
    """The reason and the key may change from run to run."""

    def reworded(result: CheckResult) -> CheckResult:
        answer = result.answer.model_copy(update={"reason": "something else"})
        return result.model_copy(update={"answer": answer, "key": "other"})

    report = sample_report()
    changed = report.model_copy(update={"results": tuple(reworded(r) for r in report.results)})

    def marks(of: AuditReport) -> list[str]:
        found = (r for r in results_of(of) if r["ruleId"].endswith("-inconclusive"))
        return [result["partialFingerprints"][FINGERPRINT] for result in found]

    assert marks(report) == marks(changed)


def test_waived_finding_is_written_only_on_request() -> None:
    """Code scanning ignores suppressions and would open an alert."""
    report = sample_report()
    assert not [r for r in results_of(report) if r["properties"]["gateStatus"] == "waived"]
    (waived,) = [r for r in results_of(report, include_suppressed=True) if "suppressions" in r]
    assert waived["partialFingerprints"][FINGERPRINT] == report.gate.waivers[0].fingerprint
    assert "public domain" in waived["suppressions"][0]["justification"]


def test_waived_threshold_is_written_only_on_request() -> None:
    """A waiver covers numbers that miss their threshold like findings."""
    report = with_waived_threshold()
    assert "AUD202-policy" not in {result["ruleId"] for result in results_of(report)}
    suppressed = results_of(report, include_suppressed=True)
    (waived,) = [result for result in suppressed if result["ruleId"] == "AUD202-policy"]
    assert "until 2026-12-31" in waived["suppressions"][0]["justification"]


def test_passed_check_is_written_only_on_request() -> None:
    """A pass has its own kind, and no level."""
    passed = [r for r in results_of(sample_report(), include_passed=True) if "kind" in r]
    assert [(r["kind"], r["level"]) for r in passed] == [("pass", "none")] * 4
    assert not [r for r in results_of(sample_report()) if "kind" in r]


def test_models_are_artifacts_with_their_digest() -> None:
    """Each subject is there with its SHA-256 and size."""
    report = sample_report()
    targets = [a for a in run_of(report)["artifacts"] if a["roles"] == ["analysisTarget"]]
    assert [(a["location"]["uri"], a["hashes"]["sha-256"], a["length"]) for a in targets] == [
        (s.path, s.digest.removeprefix("sha256:"), s.size) for s in report.subjects
    ]


def test_security_severity_follows_the_worst_finding() -> None:
    """It is a string on the rule, in the range of its severity."""
    rules = {
        rule["id"]: rule["properties"]
        for rule in run_of(sample_report())["tool"]["driver"]["rules"]
    }
    assert rules["AUD201"]["security-severity"] == "9.5"
    assert "security" in rules["AUD201"]["tags"]
    assert "security-severity" not in rules["AUD203-inconclusive"]


def test_surplus_results_are_left_out_worst_kept_and_counted() -> None:
    """A cut log says how much is missing."""
    run = run_of(enlarged(5_000))
    assert len(run["results"]) == MAX_RESULTS
    assert run["properties"]["resultsLeftOut"] > 0
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert str(run["properties"]["resultsLeftOut"]) in note["message"]["text"]
    assert len(json.dumps(run)) < 10_000_000


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("plans/a.yaml", "plans/a.yaml"),
        ("./a b.yaml", "a%20b.yaml"),
        ("/home/someone/a.yaml", "a.yaml"),
        ("C:\\work\\a.yaml", "a.yaml"),
        ("C:a.yaml", "C%3Aa.yaml"),
        ("../../a.yaml", "a.yaml"),
        ("a\nb.yaml", "a%20b.yaml"),
        ("https://a.example/x", "x"),
        ("//host/share/x.onnx", "x.onnx"),
        ("..", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_addresses_are_relative(path: str, uri: str) -> None:
    """No machine's folders, no scheme, nothing empty."""
    assert relative_uri(path) == uri


def test_line_zero_becomes_line_one() -> None:
    """A plan built in code has no line; the format needs one."""
    report = sample_report()
    first = report.results[3].model_copy(update={"declared_at": SourceLine(file="p.yaml", line=0)})
    changed = report.model_copy(update={"results": (first,)})
    (location,) = results_of(changed)[0]["locations"]
    assert location["physicalLocation"]["region"]["startLine"] == 1
