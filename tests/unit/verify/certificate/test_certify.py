"""From what a search holds to a certificate that is accepted, or to no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditor.findings import Verdict
from auditor.verify.certificate.certify import certify
from auditor.verify.certificate.producer import WrittenCertificate
from auditor.verify.onnx_subject import verify_file
from auditor.verify.outcome import Outcome
from auditor.verify.proof import Proof
from auditor.verify.semantics import Semantics
from tests.models.certificates import Question, absolute_value_question, at_least, random_question
from tests.models.onnx_networks import strided_network, write_model
from tests.models.tiny import array, relu_network


def certified(
    question: Question, semantics: Semantics = Semantics.REAL
) -> tuple[Outcome, WrittenCertificate | None]:
    proofs: list[Proof] = []
    prop, outcome = verify_file(
        question.model, question.property_file, time_limit_s=30, proofs=proofs, semantics=semantics
    )
    return certify(
        outcome, question.model, question.property_file, prop, proofs, question.certificate,
        semantics,
    )  # fmt: skip


@pytest.mark.parametrize("semantics", list(Semantics))
def test_what_holds_is_certified_and_accepted(tmp_path: Path, semantics: Semantics) -> None:
    question = random_question(tmp_path, 7, [2, 10, 10, 1], 0.05)
    outcome, written = certified(question, semantics)
    assert (outcome.verdict, written is not None) == (Verdict.HOLDS, True)
    assert question.check_bytes(question.certificate.read_bytes()).accepted


def test_many_inputs_are_proved_by_splitting_phases(tmp_path: Path) -> None:
    """y is 0 everywhere, as a sum of relu(x) - relu(-x) - relu(x + 1) + 1 over three inputs."""
    used, inputs = 3, 24
    eye = np.eye(used, inputs)
    first = np.concatenate([eye, -eye, eye]), np.repeat([0.0, 0.0, 1.0], used)
    second = np.repeat([[1.0, -1.0, -1.0]], used, axis=1), np.array([float(used)])
    proto = relu_network([(array(weight), array(bias)) for weight, bias in (first, second)])
    text = at_least(-0.25, [-1.0] * inputs, [1.0] * inputs)
    outcome, written = certified(Question(tmp_path, write_model(tmp_path, proto), text))
    assert outcome.verdict is Verdict.HOLDS
    assert written is not None
    assert written.nodes > 2


def test_a_convolutional_network_is_certified(tmp_path: Path) -> None:
    model = write_model(tmp_path, strided_network())
    text = at_least(-10.0, [-0.1] * 60, [0.1] * 60)
    outcome, written = certified(Question(tmp_path, model, text))
    assert (outcome.verdict, written is not None) == (Verdict.HOLDS, True)


def test_what_is_violated_gets_none_and_leaves_no_file(tmp_path: Path) -> None:
    outcome, written = certified(absolute_value_question(tmp_path, 0.5))
    assert (outcome.verdict, written) == (Verdict.VIOLATED, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "property.yaml"]


def test_a_tie_that_only_exact_arithmetic_decides_is_no_answer(tmp_path: Path) -> None:
    outcome, written = certified(absolute_value_question(tmp_path, 0.0))
    assert (outcome.verdict, written) == (Verdict.UNKNOWN, None)


def test_the_same_question_gets_the_same_bytes(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 12, 12, 1], 0.02)
    certified(question)
    first = question.certificate.read_bytes()
    certified(question)
    assert question.certificate.read_bytes() == first
