"""The ML-BOM is valid, its references lead somewhere, and it claims no conformity."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from auditor.findings import AuditReport, Verdict
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.cyclonedx import document
from auditor_reports.cyclonedx.document import render_cyclonedx
from auditor_reports.standing import gaps
from tests.golden.sample_report import every_check_report, sample_report, single_result_report
from tests.unit.reports.hostile_report import enlarged

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
NUMBERS = range(len(every_check_report().results))


def bom_of(report: AuditReport) -> dict[str, Any]:
    """The BOM."""
    found = json.loads(render_cyclonedx(report))
    assert isinstance(found, dict)
    return found


def models_of(report: AuditReport) -> list[dict[str, Any]]:
    """The components that are models."""
    return [c for c in bom_of(report)["components"] if c["type"] == "machine-learning-model"]


def errors(content: bytes) -> Any:
    """What the library's strict validator says; None where it has nothing against it."""
    return VALIDATOR.validate_str(content.decode())


@pytest.mark.parametrize("report", [sample_report(), every_check_report()])
def test_samples_are_valid(report: AuditReport) -> None:
    """The strict validator of version 1.6 has nothing against them."""
    assert errors(render_cyclonedx(report)) is None


def test_the_validator_refuses_a_misspelt_field() -> None:
    """The validation above can fail."""
    bom = bom_of(sample_report())
    bom["components"][0]["modelcard"] = {}
    assert errors(json.dumps(bom).encode()) is not None


def test_a_run_without_any_result_is_valid() -> None:
    """Nothing is declared where nothing was found."""
    report = sample_report()
    gate = report.gate.model_copy(update={"rows": ()})
    empty = report.model_copy(
        update={"results": (), "checks": (), "subjects": (), "not_assessed": (), "gate": gate}
    )
    assert errors(render_cyclonedx(empty)) is None
    assert "declarations" not in bom_of(empty)


def test_models_carry_their_digests() -> None:
    """Each subject is a component with its SHA-256."""
    report = sample_report()
    assert [(c["name"], c["hashes"]) for c in models_of(report)] == [
        (s.name, [{"alg": "SHA-256", "content": s.digest.removeprefix("sha256:")}])
        for s in report.subjects
    ]


def test_numbers_have_interval_and_check() -> None:
    """A sampled number has its interval as it is, and says which check measured it."""
    report = sample_report()
    card = models_of(report)[0]["modelCard"]
    metrics = {m["type"]: m for m in card["quantitativeAnalysis"]["performanceMetrics"]}
    (measured,) = [
        metric
        for result in report.results
        for metric in result.answer.metrics
        if metric.name == "certified share"
    ]
    shown = metrics["certified share"]
    assert float(shown["value"]) == measured.value
    assert measured.interval is not None
    assert {end: float(value) for end, value in shown["confidenceInterval"].items()} == {
        "lowerBound": measured.interval.lower,
        "upperBound": measured.interval.upper,
    }
    assert "AUD202, robust-0.05:digit-classifier" in shown["slice"]
    assert f"n = {measured.sample_size}" in shown["slice"]
    assert "confidenceInterval" not in metrics["largest logit difference"]


def test_controls_are_told_from_measurements() -> None:
    """The slice of a control names it."""
    card = models_of(sample_report())[0]["modelCard"]
    slices = [m["slice"] for m in card["quantitativeAnalysis"]["performanceMetrics"]]
    assert sum("control: random perturbation" in each for each in slices) == 1


def test_gaps_are_limitations_of_every_model() -> None:
    """What was not assessed stands at each model, with what a pass does not mean."""
    report = sample_report()
    for model in models_of(report):
        limits = model["modelCard"]["considerations"]["technicalLimitations"]
        assert limits[: len(gaps(report))] == list(gaps(report))
    digits, chat = (m["modelCard"]["considerations"]["technicalLimitations"]
                    for m in models_of(report))  # fmt: skip
    assert any(text.startswith("AUD203:digit-classifier: no answer (unknown)") for text in digits)
    assert not any("AUD203:digit-classifier" in text for text in chat)


def test_libraries_are_outside_of_the_product() -> None:
    """They belong to the audit's environment and say so."""
    report = sample_report()
    found = [c for c in bom_of(report)["components"] if c["type"] == "library"]
    assert {c["name"]: c["version"] for c in found} == report.environment.libraries
    assert {c["scope"] for c in found} == {"excluded"}
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in found)


def test_references_are_unique_and_lead_somewhere() -> None:
    """No declaration refers to what the BOM does not hold."""
    bom = bom_of(every_check_report())
    found = bom["declarations"]
    requirements = bom["definitions"]["standards"][0]["requirements"]
    refs = [part["bom-ref"] for part in (*bom["components"], *requirements, *found["assessors"],
                                         *found["claims"], *found["evidence"])]  # fmt: skip
    assert len(set(refs)) == len(refs)
    (attestation,) = found["attestations"]
    spoken = [attestation["assessor"], *(claim["target"] for claim in found["claims"])]
    for entry in attestation["map"]:
        spoken += [entry["requirement"], *entry.get("claims", []), *entry.get("counterClaims", [])]
    for claim in found["claims"]:
        spoken += [*claim.get("evidence", []), *claim.get("counterEvidence", [])]
    assert set(spoken) <= set(refs)


def test_claims_stand_on_the_side_that_the_gate_gives_them() -> None:
    """What passes speaks for its check, what is violated against it, an open one neither."""
    report = every_check_report()
    (attestation,) = bom_of(report)["declarations"]["attestations"]
    sides = {"claims": set[str](), "counterClaims": set[str]()}
    for entry in attestation["map"]:
        for side, refs in sides.items():
            refs.update(entry.get(side, []))
    expected = {
        verdict: {f"claim-{number}" for number, result in enumerate(report.results)
                  if result.verdict is verdict}
        for verdict in (Verdict.HOLDS, Verdict.VIOLATED)
    }  # fmt: skip
    assert sides == {
        "claims": expected[Verdict.HOLDS], "counterClaims": expected[Verdict.VIOLATED],
    }  # fmt: skip


def test_open_questions_are_named_as_such() -> None:
    """The map says for which results there is no answer."""
    report = every_check_report()
    (attestation,) = bom_of(report)["declarations"]["attestations"]
    said = " ".join(entry["confidence"]["rationale"] for entry in attestation["map"]
                    if "confidence" in entry)  # fmt: skip
    assert all(result.id in said for result in report.results if result.verdict.is_open)


def test_no_conformity_is_claimed_and_nobody_signs() -> None:
    """No conformance, no score, no affirmation; the fixed sentence stands in the summary."""
    text = render_cyclonedx(every_check_report()).decode()
    assert not re.search(r'"(conformance|score|affirmation|signatories|signature)"', text)
    (attestation,) = json.loads(text)["declarations"]["attestations"]
    assert "does not establish conformity" in attestation["summary"]


def test_serial_number_belongs_to_the_run() -> None:
    """The same run has the same number, another run another."""
    report = sample_report()
    other = report.model_copy(update={"seed": report.seed + 1})
    assert bom_of(report)["serialNumber"] == bom_of(sample_report())["serialNumber"]
    assert bom_of(report)["serialNumber"] != bom_of(other)["serialNumber"]


def test_the_bom_names_the_report_by_its_digest() -> None:
    """Whoever has both files can tell that they belong together."""
    report = sample_report()
    (whole,) = [r for r in bom_of(report)["externalReferences"] if r["url"] == "audit.json"]
    assert [h["content"] for h in whole["hashes"]] == [
        run_fingerprint(report).removeprefix("sha256:")
    ]


def test_a_number_without_a_finite_value_is_a_word() -> None:
    """The format holds numbers as text; an infinity is readable by a program."""
    report = single_result_report(2)
    (result,) = report.results
    metric = result.answer.metrics[0].model_copy(update={"value": float("-inf")})
    answer = result.answer.model_copy(update={"metrics": (metric,)})
    changed = report.model_copy(update={"results": (result.model_copy(update={"answer": answer}),)})
    (model,) = models_of(changed)
    (shown,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert float(shown["value"]) == float("-inf")


def test_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut BOM says how many results are missing and where they are."""
    monkeypatch.setattr(document, "MAX_RESULTS", 700)
    bom = bom_of(enlarged(720))
    properties = {p["name"]: p["value"] for p in bom["metadata"]["properties"]}
    missing = 720 - len(bom["declarations"]["claims"])
    assert missing > 0
    assert properties["auditor:results-left-out"] == f"{missing}; audit.json has all"
    assert "auditor:metrics-left-out" in properties
