"""AUD101: refusals, numbers that are not finite, and the first load."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from onnx import helper, numpy_helper

from auditor.checks import file_safety
from auditor.checks.file_safety import CHECK, Params
from auditor.findings import Severity, Verdict
from auditor.guarded.outcome import GuardOutcome, GuardStatus
from tests.models.model_folders import write_folder
from tests.models.onnx_networks import (
    dense_network,
    external_tensor,
    make_model,
    model_with_tensor,
    write_model,
)
from tests.unit.checks.check_context import make_context, make_subject


def test_a_sound_model_holds_and_its_facts_are_told(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 4, 2]))
    answer = CHECK.run(make_subject(path), Params(), make_context())
    assert answer.verdict is Verdict.HOLDS
    assert answer.facts["format"] == "onnx"
    assert answer.facts["opset"] == "17"
    assert answer.facts["producer"] == "test"
    assert answer.facts["operators"] == "Gemm x2, Relu x1"
    assert answer.facts["parameters"] == "26"
    assert answer.facts["first_load"].startswith("loaded")
    assert "network: " in answer.facts["first_load_protections"]


def test_a_refused_file_is_violated_and_critical_with_its_rule(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    answer = CHECK.run(make_subject(path), Params(), make_context())
    assert answer.verdict is Verdict.VIOLATED
    (finding,) = answer.findings
    assert finding.severity is Severity.CRITICAL
    assert "pickle-content" in finding.description
    assert finding.location.path == "file model.onnx / node pickle-content"


def test_a_refused_data_file_is_violated_with_its_tensor(tmp_path: Path) -> None:
    tensor = external_tensor("weights", (1, 2), {"location": "../outside"})
    path = write_model(tmp_path, model_with_tensor(tensor))
    answer = CHECK.run(make_subject(path), Params(), make_context())
    assert answer.facts["rule"] == "external-data-escape"
    (evidence,) = answer.findings[0].evidence
    assert evidence.kind == "text"
    assert "weights" in evidence.text


def test_nan_weights_are_a_high_finding_per_tensor(tmp_path: Path) -> None:
    values = np.array([[0.0, np.nan]], np.float32)
    path = write_model(tmp_path, model_with_tensor(numpy_helper.from_array(values, "t")))
    answer = CHECK.run(make_subject(path), Params(), make_context())
    assert answer.verdict is Verdict.VIOLATED
    assert [(f.severity, f.location.layer) for f in answer.findings] == [(Severity.HIGH, "t")]
    assert {m.name: m.value for m in answer.metrics}["nonfinite_parameters"] == 1


def test_a_graph_the_checker_rejects_is_violated(tmp_path: Path) -> None:
    proto = dense_network([3, 2])
    proto.graph.node[0].op_type = "NoSuchOperator"
    answer = CHECK.run(make_subject(write_model(tmp_path, proto)), Params(), make_context())
    assert (answer.verdict, answer.facts["rule"]) == (Verdict.VIOLATED, "invalid-graph")


def test_a_model_that_does_not_load_is_violated(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"w": np.zeros((3, 2), np.float32)})
    answer = CHECK.run(make_subject(write_model(tmp_path, proto)), Params(), make_context())
    assert answer.verdict is Verdict.VIOLATED
    assert "shape inference" in answer.findings[0].title


def test_a_first_load_without_an_end_is_unknown(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 2]))
    answer = CHECK.run(make_subject(path), Params(trial_seconds=0.01), make_context())
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.reason
    assert answer.limits_hit == (answer.reason,)


ENDINGS = [
    (GuardStatus.CRASHED, Verdict.VIOLATED, Severity.CRITICAL),
    (GuardStatus.REJECTED, Verdict.VIOLATED, Severity.HIGH),
    (GuardStatus.OUT_OF_TIME, Verdict.UNKNOWN, None),
    (GuardStatus.OUT_OF_MEMORY, Verdict.UNKNOWN, None),
    (GuardStatus.FLOODED, Verdict.UNKNOWN, None),
    (GuardStatus.NOT_RUN, Verdict.UNKNOWN, None),
]


def test_every_ending_but_a_load_is_listed() -> None:
    """A new one must be given its verdict."""
    assert {status for status, _, _ in ENDINGS} == set(GuardStatus) - {GuardStatus.DONE}


@pytest.mark.parametrize(("status", "verdict", "severity"), ENDINGS)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_only_a_load_that_worked_is_a_pass(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    status: GuardStatus,
    verdict: Verdict,
    severity: Severity | None,
) -> None:
    """Whatever was loaded; a model that crashes a library need not be kept here for that."""
    outcome = GuardOutcome(status, "a stage", "as planted")
    for name in ("trial_load", "trial_folder"):
        monkeypatch.setattr(file_safety, name, lambda model, **limits: outcome)
    if kind == "file":
        path = write_model(tmp_path, dense_network([3, 2]))
    else:
        path = write_folder(tmp_path / "m")
    answer = CHECK.run(make_subject(path), Params(), make_context())
    assert answer.verdict is verdict
    assert [finding.severity for finding in answer.findings] == ([severity] if severity else [])
    assert answer.reason == ("" if severity else f"first load: {status} at 'a stage': as planted")


def test_a_sound_folder_holds_and_its_facts_are_told(tmp_path: Path) -> None:
    """The summary says what was loaded, and that the weights were not."""
    answer = CHECK.run(make_subject(write_folder(tmp_path / "m")), Params(), make_context())
    assert answer.verdict is Verdict.HOLDS
    stages = "importing transformers, configuration, tokenizer, encoding"
    assert "no weights were loaded" in answer.summary
    assert answer.summary.endswith(f": {stages}")
    protections = answer.facts["first_load_protections"]
    assert answer.facts == {
        "format": "transformers", "model_type": "gpt2", "parameters": "9",
        "types": "F16 x3, F32 x6", "files": "config.json, model.safetensors, tokenizer.json",
        "first_load": f"loaded ({stages})", "first_load_protections": protections,
    }  # fmt: skip


def test_what_was_not_tried_is_told_and_no_finding(tmp_path: Path) -> None:
    """A model type that this release of transformers does not know."""
    folder = write_folder(tmp_path / "m", {"model_type": "of-tomorrow"})
    answer = CHECK.run(make_subject(folder), Params(), make_context())
    assert answer.verdict is Verdict.HOLDS
    assert "; not tried: configuration" in answer.summary
    assert "of-tomorrow" in answer.facts["first_load_not_tried"]


def test_a_tokenizer_that_is_broken_is_a_high_finding(tmp_path: Path) -> None:
    """With the stage in its place."""
    folder = write_folder(tmp_path / "m")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": 3}}))
    answer = CHECK.run(make_subject(folder), Params(), make_context())
    (finding,) = answer.findings
    assert (answer.verdict, finding.severity) == (Verdict.VIOLATED, Severity.HIGH)
    assert finding.location.layer == "tokenizer"


def test_a_template_without_an_end_is_unknown(tmp_path: Path) -> None:
    """Loops inside of loops, which the sandbox lets run."""
    folder = write_folder(tmp_path / "m")
    loops = "".join(f"{{% for a{depth} in range(99999) %}}" for depth in range(4))
    (folder / "chat_template.jinja").write_text(loops + "{% endfor %}" * 4)
    answer = CHECK.run(make_subject(folder), Params(trial_seconds=4), make_context())
    assert answer.verdict is Verdict.UNKNOWN
    assert "out-of-time" in answer.reason


def test_the_graph_of_a_folder_is_loaded_too(tmp_path: Path) -> None:
    """Its stages stand beside those of the tokenizer."""
    folder = write_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(dense_network([3, 2]).SerializeToString())
    answer = CHECK.run(make_subject(folder), Params(), make_context())
    assert answer.verdict is Verdict.HOLDS
    assert "tokenizer" in answer.facts["first_load"]
    assert "onnxruntime, optimised" in answer.facts["first_load"]


def test_a_refused_folder_is_violated_and_critical_with_its_file(tmp_path: Path) -> None:
    """Rule, file and way out stand in the finding."""
    folder = write_folder(tmp_path / "m")
    (folder / "modeling.py").write_text("raise SystemExit\n")
    answer = CHECK.run(make_subject(folder), Params(), make_context())
    (finding,) = answer.findings
    assert (answer.verdict, finding.severity) == (Verdict.VIOLATED, Severity.CRITICAL)
    assert answer.facts["rule"] == "custom-code"
    assert finding.location.path == "file m / node custom-code"
    (evidence,) = finding.evidence
    assert evidence.kind == "text"
    assert evidence.text == "modeling.py"


def test_nan_in_the_weights_of_a_folder_is_a_high_finding(tmp_path: Path) -> None:
    """As it is in an ONNX file."""
    folder = write_folder(tmp_path / "m")
    planted = {"t": np.array([1, np.nan, np.inf], np.float32), "sound": np.ones(2, np.float32)}
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save(planted))
    answer = CHECK.run(make_subject(folder), Params(), make_context())
    assert answer.verdict is Verdict.VIOLATED
    assert [(f.severity, f.location.layer) for f in answer.findings] == [(Severity.HIGH, "t")]
    assert {m.name: (m.value, m.sample_size) for m in answer.metrics}["nonfinite_parameters"] == (
        2, 5,
    )  # fmt: skip
