"""AUD201 on a network whose answer is known: y = |x|."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.checks.written_property import CHECK, Params, prepare
from auditor.errors import ConfigurationError, PropertyMismatch, UnsupportedOperator
from auditor.findings import Answer, BlobEvidence, ImageEvidence, Severity, Verdict, WitnessEvidence
from auditor.verify.certificate.checker import check_certificate
from auditor.verify.semantics import Semantics
from tests.models.tiny import absolute_value, array, relu_network
from tests.unit.checks.check_context import KeptEvidence, make_context, make_subject

TEXT = "version: 1\nid: p\ninputs: {{box: {{lower: {lower}, upper: {upper}}}}}\nthen:\n  - {then}\n"


def write(folder: Path, then: str, lower: str = "-1", upper: str = "1") -> Path:
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())
    path = folder / "p.yaml"
    path.write_text(TEXT.format(lower=lower, upper=upper, then=then))
    return path


def run(folder: Path, then: str, **params: object) -> Answer:
    fields = {"property": write(folder, then), **params}
    subject = make_subject(folder / "model.onnx")
    return CHECK.run(subject, Params.model_validate(fields), make_context())


def test_what_is_true_by_construction_holds(tmp_path: Path) -> None:
    answer = run(tmp_path, "at_least: {output: 0, value: 0}")
    assert (answer.verdict, answer.findings) == (Verdict.HOLDS, ())


def test_a_certificate_is_kept_as_evidence_where_one_is_asked_for(tmp_path: Path) -> None:
    """What is kept is accepted by the checker."""
    store = KeptEvidence()
    params = Params(
        property=write(tmp_path, "at_least: {output: 0, value: -0.5}"), certificate=True
    )
    subject = make_subject(tmp_path / "model.onnx")
    answer = CHECK.run(subject, params, make_context(evidence=store))
    (evidence,) = answer.evidence
    assert (answer.verdict, type(evidence)) == (Verdict.HOLDS, BlobEvidence)
    certificate = tmp_path / "kept"
    certificate.write_bytes(store.files[0])
    assert check_certificate(certificate, subject.path, params.property).accepted


def test_what_is_false_is_violated_with_a_replayed_witness(tmp_path: Path) -> None:
    answer = run(tmp_path, "at_most: {output: 0, value: 0.75}", severity="critical")
    (finding,) = answer.findings
    (witness,) = finding.evidence
    assert (answer.verdict, finding.severity) == (Verdict.VIOLATED, Severity.CRITICAL)
    assert isinstance(witness, WitnessEvidence)
    assert abs(witness.inputs[0]) > 0.75
    assert [replay.outputs for replay in witness.replays] == [(abs(witness.inputs[0]),)] * 2
    assert [replay.optimised for replay in witness.replays] == [False, True]
    assert witness.margin == pytest.approx(abs(witness.inputs[0]) - 0.75)


def test_a_tie_at_the_bound_is_judged_by_the_statement(tmp_path: Path) -> None:
    """|x| <= 1 on [-1, 1] is attained and holds."""
    assert run(tmp_path, "at_most: {output: 0, value: 1}").verdict is Verdict.HOLDS


def test_a_picture_is_shown_where_the_input_is_one(tmp_path: Path) -> None:
    answer = run(tmp_path, "at_most: {output: 0, value: 0.75}", image_shape=(1, 1))
    pictures = answer.findings[0].evidence[1]
    assert isinstance(pictures, ImageEvidence)
    assert pictures.images[0].pixels == (0.0,)


def test_what_holds_in_the_reals_and_breaks_as_executed_is_a_finding_not_a_pass(
    tmp_path: Path,
) -> None:
    """y = relu(2^26) + relu(x) - relu(2^26) is x in the reals and 0 in float32."""
    big = float(2**26)
    layers = [
        (array([[0], [1], [0]]), array([big, 0, big])),
        (array([[1, 1, -1]]), array([0])),
    ]
    (tmp_path / "model.onnx").write_bytes(relu_network(layers).SerializeToString())
    text = TEXT.format(lower="0.6", upper="1", then="at_least: {output: 0, value: 0.5}")
    (tmp_path / "p.yaml").write_text(text)
    params = Params(property=tmp_path / "p.yaml")
    answer = CHECK.run(make_subject(tmp_path / "model.onnx"), params, make_context())
    assert answer.verdict is Verdict.UNKNOWN
    (finding,) = answer.findings
    assert finding.title == "p is violated as executed, and not in exact arithmetic"


def test_float32_semantics_judges_what_is_executed(tmp_path: Path) -> None:
    """The same network as executed: the replay is the violation."""
    big = float(2**26)
    layers = [
        (array([[0], [1], [0]]), array([big, 0, big])),
        (array([[1, 1, -1]]), array([0])),
    ]
    (tmp_path / "model.onnx").write_bytes(relu_network(layers).SerializeToString())
    text = TEXT.format(lower="0.6", upper="1", then="at_least: {output: 0, value: 0.5}")
    (tmp_path / "p.yaml").write_text(text)
    params = Params(property=tmp_path / "p.yaml", semantics=Semantics.FLOAT32)
    answer = CHECK.run(make_subject(tmp_path / "model.onnx"), params, make_context())
    assert answer.verdict is Verdict.VIOLATED
    assert "float32 as executed" in answer.facts["semantics"]


def test_a_certificate_of_float32_execution_says_so(tmp_path: Path) -> None:
    """It is accepted, and its header names the semantics."""
    store = KeptEvidence()
    path = write(tmp_path, "at_least: {output: 0, value: -0.5}")
    params = Params(property=path, semantics=Semantics.FLOAT32, certificate=True)
    subject = make_subject(tmp_path / "model.onnx")
    answer = CHECK.run(subject, params, make_context(evidence=store))
    certificate = tmp_path / "kept"
    certificate.write_bytes(store.files[0])
    assert answer.verdict is Verdict.HOLDS
    assert b'"semantics":"float32"' in store.files[0]
    assert check_certificate(certificate, subject.path, path).accepted


def test_no_time_is_unknown_with_a_reason(tmp_path: Path) -> None:
    path = write(tmp_path, "at_least: {output: 0, value: -0.001}")
    params = Params(property=path)
    answer = CHECK.run(make_subject(tmp_path / "model.onnx"), params, make_context(time_limit_s=0))
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.reason


def test_prepare_finds_a_property_for_another_size(tmp_path: Path) -> None:
    path = write(tmp_path, "at_least: {output: 0, value: 0}", lower="[0, 0]", upper="[1, 1]")
    with pytest.raises(PropertyMismatch, match="speaks of 2 inputs, the model has 1"):
        prepare(make_subject(tmp_path / "model.onnx"), Params(property=path))


def test_prepare_finds_an_unsupported_operator(tmp_path: Path) -> None:
    path = write(tmp_path, "at_least: {output: 0, value: 0}")
    network = relu_network([(array([[1]]), array([0]))], last="Erf")
    (tmp_path / "model.onnx").write_bytes(network.SerializeToString())
    with pytest.raises(UnsupportedOperator, match="Erf at node 'the_erf'"):
        prepare(make_subject(tmp_path / "model.onnx"), Params(property=path))


def test_prepare_finds_a_picture_of_another_size(tmp_path: Path) -> None:
    path = write(tmp_path, "at_least: {output: 0, value: 0}")
    with pytest.raises(ConfigurationError, match="image_shape 8x8 is not a picture"):
        prepare(make_subject(tmp_path / "model.onnx"), Params(property=path, image_shape=(8, 8)))
