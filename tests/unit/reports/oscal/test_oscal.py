"""The OSCAL document is valid, whole in its references, and satisfied only by what holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from auditor.findings import AuditReport, Verdict
from auditor_reports.audit_json import render_json, run_fingerprint
from auditor_reports.oscal import document as oscal
from auditor_reports.oscal.document import render_oscal
from auditor_reports.oscal.text import Identity, token
from tests.golden.sample_report import every_check_report, sample_report, single_result_report
from tests.unit.reports.hostile_report import (
    enlarged,
    with_waived_threshold,
)
from tests.unit.reports.oscal_validator import oscal_errors

NUMBERS = range(len(every_check_report().results))


def document(report: AuditReport) -> dict[str, Any]:
    """The assessment results."""
    found = json.loads(render_oscal(report))["assessment-results"]
    assert isinstance(found, dict)
    return found


def result_of(report: AuditReport) -> dict[str, Any]:
    """The one result of the document."""
    (found,) = document(report)["results"]
    assert isinstance(found, dict)
    return found


def props_of(part: dict[str, Any]) -> dict[str, str]:
    """Properties by name; of several with one name the last."""
    return {prop["name"]: prop["value"] for prop in part["props"]}


def values_of(part: Any, *keys: str) -> Iterator[str]:
    """Every value of these keys, at any depth."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name in keys:
                yield value
            yield from values_of(value, *keys)
    elif isinstance(part, list):
        for item in part:
            yield from values_of(item, *keys)


def states(report: AuditReport) -> dict[str, tuple[str, str]]:
    """State and reason of each finding's target by the result it is about."""
    found = result_of(report)
    results = {each["uuid"]: props_of(each)["result"] for each in found.get("observations", [])}
    return {
        results[finding["related-observations"][0]["observation-uuid"]]
        if "related-observations" in finding
        else finding["title"]: (
            finding["target"]["status"]["state"],
            finding["target"]["status"]["reason"],
        )
        for finding in found["findings"]
    }


@pytest.mark.parametrize("report", [sample_report(), every_check_report(), with_waived_threshold()])
def test_samples_are_valid(report: AuditReport) -> None:
    """The official schema has nothing against them."""
    assert oscal_errors(render_oscal(report)) == []


def test_official_schema_refuses_a_misspelt_field() -> None:
    """The validation above can fail."""
    log = json.loads(render_oscal(sample_report()))
    log["assessment-results"]["results"][0]["observation"] = []
    assert oscal_errors(json.dumps(log).encode())


def test_official_schema_refuses_a_token_with_a_blank() -> None:
    """The patterns with Unicode classes are applied."""
    log = json.loads(render_oscal(sample_report()))
    log["assessment-results"]["results"][0]["props"][0]["name"] = "gate verdict"
    assert oscal_errors(json.dumps(log).encode())


def test_a_run_without_any_result_is_valid() -> None:
    """The format asks for a reviewed control; the document says that there was none."""
    report = sample_report()
    gate = report.gate.model_copy(update={"rows": ()})
    empty = report.model_copy(
        update={"results": (), "checks": (), "subjects": (), "not_assessed": (), "gate": gate}
    )
    assert oscal_errors(render_oscal(empty)) == []
    (selection,) = result_of(empty)["reviewed-controls"]["control-selections"]
    assert selection["description"] == "Nothing was reviewed."


def test_only_what_holds_and_passes_is_satisfied() -> None:
    """An open question is not satisfied, yet not failing; what was waived fails."""
    report = sample_report()
    found = states(report)
    for result in report.results:
        if result.verdict is Verdict.HOLDS:
            assert found[result.id] == ("satisfied", "pass")
        elif result.verdict is Verdict.VIOLATED:
            assert found[result.id] == ("not-satisfied", "fail")
        else:
            assert found[result.id] == ("not-satisfied", "other")
    (missing,) = [title for title in found if title.startswith("AUD205")]
    assert found[missing] == ("not-satisfied", "other")


def test_a_result_that_holds_and_misses_its_threshold_is_not_satisfied() -> None:
    """The gate's word counts, not the check's alone."""
    report = single_result_report(0)
    row = report.gate.rows[0].model_copy(update={"status": "fail", "text": "x >= 1: measured 0"})
    failing = report.model_copy(update={"gate": report.gate.model_copy(update={"rows": (row,)})})
    assert set(states(failing).values()) == {("not-satisfied", "fail")}
    (risk,) = result_of(failing)["risks"]
    assert risk["status"] == "open"


def test_every_result_has_an_observation_and_a_finding() -> None:
    """None is left out, passed ones neither."""
    report = every_check_report()
    found = result_of(report)
    assert {props_of(each)["result"] for each in found["observations"]} == {
        result.id for result in report.results
    }
    assert len(found["findings"]) == len(report.results)


def test_every_finding_is_a_risk_with_its_standing() -> None:
    """What fails is open, what was waived is an approved deviation with reason and role."""
    report = sample_report()
    risks = {props_of(each).get("fingerprint"): each for each in result_of(report)["risks"]}
    marks = {f.fingerprint for result in report.results for f in result.answer.findings}
    assert marks <= set(risks)
    waived = report.gate.waivers[0]
    risk = risks[waived.fingerprint]
    assert risk["status"] == "deviation-approved"
    (prop,) = [each for each in risk["props"] if each["name"] == "waived-until"]
    assert prop["value"] == waived.expires
    assert waived.approved_by in prop["remarks"]
    others = {each["status"] for mark, each in risks.items() if mark != waived.fingerprint}
    assert others == {"open"}


def test_every_reference_leads_somewhere() -> None:
    """No UUID is spoken of that the document does not define, and none is defined twice."""
    found = document(every_check_report())
    defined = list(values_of(found, "uuid"))
    assert len(set(defined)) == len(defined)
    spoken = set(values_of(found, "observation-uuid", "risk-uuid", "subject-uuid", "actor-uuid",
                           "component-uuid"))  # fmt: skip
    spoken.add(found["import-ap"]["href"].removeprefix("#"))
    assert spoken <= set(defined)


def test_targets_are_objectives_of_the_document() -> None:
    """Each finding's target is defined, and is one of those that were reviewed."""
    found = document(every_check_report())
    parts = [part for each in found["local-definitions"]["objectives-and-methods"]
             for part in each["parts"]]  # fmt: skip
    defined = {part["id"] for part in parts if "id" in part}
    (result,) = found["results"]
    (reviewed,) = result["reviewed-controls"]["control-objective-selections"]
    assert {each["objective-id"] for each in reviewed["include-objectives"]} == defined
    assert {each["target"]["target-id"] for each in result["findings"]} == defined


def resolve(whole: Any, pointer: str) -> Any:
    """The part of a JSON document that a pointer without escapes names."""
    for step in pointer.strip("/").split("/"):
        whole = whole[int(step)] if isinstance(whole, list) else whole[step]
    return whole


def test_evidence_links_lead_to_the_evidence() -> None:
    """Each pointer resolves in `audit.json`, to evidence of that title."""
    report = sample_report()
    whole = json.loads(render_json(report))
    seen = 0
    for observation in result_of(report)["observations"]:
        record, *pieces = observation["relevant-evidence"]
        place = record["href"].removeprefix("audit.json#")
        assert resolve(whole, place)["id"] == props_of(observation)["result"]
        for piece in pieces:
            file, _, pointer = piece["href"].partition("#")
            if file == "audit.json" and "/evidence/" in pointer:
                title = resolve(whole, pointer)["title"]
                assert re.sub(r"\W", "", title) in re.sub(r"\W", "", piece["description"])
                seen += 1
    assert seen > len(report.results)


def test_the_document_names_the_run_it_was_made_from() -> None:
    """Fingerprint, plan digest and policy digest stand in it."""
    report = sample_report()
    found = props_of(result_of(report))
    assert found["run-fingerprint"] == run_fingerprint(report)
    assert found["plan-digest"] == report.plan_digest
    assert found["policy-digest"] == report.gate.policy_digest
    assert found["gate-verdict"] == report.gate.verdict


def test_gaps_and_the_fixed_sentence_are_said() -> None:
    """What was not assessed stands in the result's remarks."""
    remarks = result_of(sample_report())["remarks"]
    assert "does not establish conformity" in remarks
    assert "Poisoning of the training data: no check in this plan" in remarks


def test_uuids_belong_to_the_run() -> None:
    """Another run has other UUIDs, the same run the same."""
    report = sample_report()
    other = report.model_copy(update={"seed": report.seed + 1})
    assert document(report)["uuid"] == Identity.of(report).uuid("document")
    assert document(report)["uuid"] != document(other)["uuid"]


def test_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut document says how many results and findings are missing and where they are."""
    monkeypatch.setattr(oscal, "MAX_RESULTS", 100)
    report = enlarged(240)
    found = result_of(report)
    props = props_of(found)
    assert int(props["results-left-out"]) == 240 - len(found["observations"]) > 0
    assert "audit.json has all" in found["remarks"]
    assert f"{props['results-left-out']} results" in found["remarks"]


def test_findings_are_cut_worst_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more findings than there is room for, the failing ones stay."""
    monkeypatch.setattr(oscal, "MAX_RESULTS", 60)
    report = enlarged(12, copies=30)
    found = result_of(report)
    total = sum(len(result.answer.findings) for result in report.results)
    of_findings = [each for each in found["risks"] if "fingerprint" in props_of(each)]
    missed = [each for each in report.gate.rows if each.status == "fail"]
    assert int(props_of(found)["findings-left-out"]) > 0
    assert len(of_findings) < total
    shown = {props_of(each)["fingerprint"] for each in of_findings}
    assert {row.fingerprint for row in missed} <= shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [("AUD201", "AUD201"), ("a-b.c_d", "a-b.c_d"), ("_x", "_x")],
)
def test_a_token_stays_as_it_is(text: str, expected: str) -> None:
    """What the format admits is not changed."""
    assert token(text) == expected


def test_other_texts_become_tokens_of_their_own() -> None:
    """Two texts that look alike as tokens stay apart."""
    assert len({token("a b"), token("a/b"), token("a_b"), token("1"), token("_1")}) == 5
