"""What the producer writes, and when it writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditor.errors import UnsupportedOperator
from auditor.findings import Verdict
from auditor.verify.certificate.certify import certify
from auditor.verify.certificate.producer import WrittenCertificate, write_certificate
from auditor.verify.onnx_subject import verify_file
from auditor.verify.outcome import Outcome, Statistics
from auditor.verify.property import load_property
from tests.models.certificates import (
    Question,
    absolute_value_question,
    at_least,
    random_question,
)
from tests.models.onnx_networks import conv_network, dense_network, write_model
from tests.models.tiny import array, relu_network


def write(question: Question, inputs: int, outputs: int = 1) -> WrittenCertificate:
    prop = load_property(question.property_file, num_inputs=inputs, num_outputs=outputs)
    return write_certificate(
        question.model, question.property_file, prop, question.certificate, time_limit_s=30.0
    )


def accepted(question: Question) -> bool:
    return question.check_bytes(question.certificate.read_bytes()).accepted


def test_a_tie_that_the_statement_allows_gets_a_certificate(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, 0.0)
    assert write(question, 1).stopped == ""
    assert accepted(question)


def test_what_is_false_gets_none_and_leaves_no_file(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, 1e-9)
    written = write(question, 1)
    assert "margin" in written.stopped
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "property.yaml"]


def test_the_same_question_gets_the_same_bytes(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 12, 12, 1], 0.02)
    write(question, 2)
    first = question.certificate.read_bytes()
    write(question, 2)
    assert question.certificate.read_bytes() == first


def test_many_inputs_are_proved_by_splitting_phases(tmp_path: Path) -> None:
    """y is 0 everywhere, as a sum of relu(x) - relu(-x) - relu(x + 1) + 1 over three inputs;
    without splits linear bounds see at best -1.5."""
    used, inputs = 3, 24
    eye = np.eye(used, inputs)
    first = np.concatenate([eye, -eye, eye]), np.repeat([0.0, 0.0, 1.0], used)
    second = np.repeat([[1.0, -1.0, -1.0]], used, axis=1), np.array([float(used)])
    proto = relu_network([(array(weight), array(bias)) for weight, bias in (first, second)])
    text = at_least(-0.25, [-1.0] * inputs, [1.0] * inputs)
    question = Question(tmp_path, write_model(tmp_path, proto), text)
    written = write(question, inputs)
    assert (written.stopped, written.nodes > 2) == ("", True)
    assert accepted(question)


def test_several_cases_and_rows_on_one_box(tmp_path: Path) -> None:
    """Class 1 of a network whose outputs are planted far apart: two cases of one row each."""
    proto = dense_network([2, 8, 3], 1)
    bias = proto.graph.initializer[3]
    assert bias.name == "b1"
    bias.raw_data = np.array([0, 50, 0], dtype=np.float32).tobytes()
    text = "version: 1\nid: p\ninputs: {box: {lower: -1, upper: 1}}\nthen:\n  - class: 1\n"
    question = Question(tmp_path, write_model(tmp_path, proto), text)
    assert write(question, 2, 3).stopped == ""
    assert accepted(question)


def test_a_model_the_checker_cannot_read_is_refused(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -1.0)
    question.model = write_model(tmp_path, conv_network())
    with pytest.raises(UnsupportedOperator, match="Conv"):
        write(question, 1)


def test_an_outcome_without_a_certificate_is_no_answer(tmp_path: Path) -> None:
    """The search can hold what the integers cannot show; other verdicts pass unchanged."""
    question = absolute_value_question(tmp_path, 1e-9)
    prop = load_property(question.property_file, num_inputs=1, num_outputs=1)

    def after(verdict: Verdict) -> tuple[Outcome, WrittenCertificate | None]:
        outcome = Outcome(verdict, "because", None, Statistics())
        return certify(
            outcome, question.model, question.property_file, prop, question.certificate,
            time_limit_s=5.0,
        )  # fmt: skip

    outcome, written = after(Verdict.HOLDS)
    assert (outcome.verdict, written) == (Verdict.UNKNOWN, None)
    assert outcome.reason.endswith("the search itself found: because")
    assert after(Verdict.VIOLATED)[0].verdict is Verdict.VIOLATED


def test_what_verify_holds_is_certified_and_accepted(tmp_path: Path) -> None:
    question = random_question(tmp_path, 7, [2, 10, 10, 1], 0.05)
    prop, outcome = verify_file(question.model, question.property_file, time_limit_s=30.0)
    outcome, written = certify(
        outcome, question.model, question.property_file, prop, question.certificate,
        time_limit_s=30.0,
    )  # fmt: skip
    assert (outcome.verdict, written is not None) == (Verdict.HOLDS, True)
    assert accepted(question)
