"""What the producer writes, and when it writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from auditor.findings import Verdict
from auditor.verify.certificate.certify import certify
from auditor.verify.outcome import Outcome, Statistics
from auditor.verify.proof import Proof
from auditor.verify.property import load_property
from tests.models.certificates import (
    Question,
    absolute_value_question,
    at_least,
    certified,
    random_question,
)
from tests.models.onnx_networks import dense_network, write_model
from tests.models.tiny import array, relu_network


def test_what_is_false_gets_none_and_leaves_no_file(tmp_path: Path) -> None:
    outcome, content = certified(absolute_value_question(tmp_path, 0.5))
    assert (outcome.verdict, content) == (Verdict.VIOLATED, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "property.yaml"]


def test_the_same_question_gets_the_same_bytes(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 8, 8, 1], 0.02)
    assert certified(question)[1] == certified(question)[1]


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
    _, content = certified(question)
    assert content is not None
    assert question.check_bytes(content).nodes > 2


def test_several_cases_and_rows_on_one_box(tmp_path: Path) -> None:
    """Class 1 of a network whose outputs are planted far apart: two cases of one row each."""
    proto = dense_network([2, 8, 3], 1, batch=1)
    bias = proto.graph.initializer[3]
    assert bias.name == "b1"
    bias.raw_data = np.array([0, 50, 0], dtype=np.float32).tobytes()
    text = "version: 1\nid: p\ninputs: {box: {lower: -1, upper: 1}}\nthen:\n  - class: 1\n"
    question = Question(tmp_path, write_model(tmp_path, proto), text)
    assert certified(question)[1] is not None


def test_an_outcome_without_a_certificate_is_no_answer(tmp_path: Path) -> None:
    """A proof that noted nothing is rejected; other verdicts pass unchanged."""
    question = absolute_value_question(tmp_path, -0.5)
    prop = load_property(question.property_file, num_inputs=1, num_outputs=1)
    for before, after in ((Verdict.HOLDS, Verdict.UNKNOWN), (Verdict.VIOLATED, Verdict.VIOLATED)):
        outcome, written = certify(
            Outcome(before, "because", None, Statistics()), question.model,
            question.property_file, prop, [Proof()], question.certificate,
        )  # fmt: skip
        assert (outcome.verdict, written) == (after, None)
        assert outcome.reason.endswith("because")
    assert not question.certificate.exists()
