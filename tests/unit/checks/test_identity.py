"""AUD102: digests that are expected, and functions that are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from pydantic import ValidationError

from auditor.check import Subject
from auditor.checks.identity import CHECK, Params
from auditor.errors import FileChanged, Unsupported
from auditor.findings import Answer, Severity, Verdict
from auditor.models.diffusion_folder import read_diffusion_folder
from auditor.models.digest import file_digest, functional_digest
from auditor.models.onnx_model import OnnxModel
from auditor.models.transformers_folder import read_folder
from tests.models.model_folders import write_folder
from tests.models.onnx_networks import conv_network, dense_network, make_model, write_model
from tests.models.resaved import optimise_with_onnxruntime, rename_everything
from tests.models.tiny_diffusion import transformer_folder
from tests.unit.checks.check_context import make_context, make_subject

OTHER = "0" * 64


def _run(path: Path, params: Params) -> Answer:
    return CHECK.run(make_subject(path), params, make_context())


def test_without_expectations_digests_are_recorded_and_that_is_said(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 2]))
    answer = _run(path, Params())
    assert answer.verdict is Verdict.HOLDS
    assert "nothing was compared" in answer.summary
    assert answer.facts == {
        "file_digest": file_digest(path),
        "functional_digest": functional_digest(OnnxModel.open(path)),
        "compared": "nothing",
    }


def test_the_expected_digests_hold(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 2]))
    params = Params(
        expected_file_digest=file_digest(path),
        expected_functional_digest=functional_digest(OnnxModel.open(path)),
    )
    answer = _run(path, params)
    assert answer.verdict is Verdict.HOLDS
    assert answer.facts["compared"] == "the file digest, the functional digest"


def test_a_renamed_model_is_another_file_and_the_same_function(tmp_path: Path) -> None:
    original = write_model(tmp_path, dense_network([3, 2]), "original.onnx")
    renamed = write_model(tmp_path, rename_everything(dense_network([3, 2]), tmp_path))
    function = functional_digest(OnnxModel.open(original))
    same = _run(renamed, Params(expected_functional_digest=function))
    other = _run(renamed, Params(expected_file_digest=file_digest(original)))
    assert (same.verdict, other.verdict) == (Verdict.HOLDS, Verdict.VIOLATED)


@pytest.mark.parametrize(
    ("params", "place"),
    [
        (Params(expected_file_digest=f"sha256:{OTHER}"), "file-digest"),
        (Params(expected_functional_digest=f"fn1:{OTHER}"), "functional-digest"),
    ],
)
def test_another_digest_is_violated_and_high(tmp_path: Path, params: Params, place: str) -> None:
    answer = _run(write_model(tmp_path, dense_network([3, 2])), params)
    assert answer.verdict is Verdict.VIOLATED
    assert [(f.severity, f.location.property_id) for f in answer.findings] == [
        (Severity.HIGH, place)
    ]


@pytest.mark.parametrize("digest", ["", "0" * 64, f"sha256:{'0' * 63}", f"sha256:{'G' * 64}"])
def test_a_misspelt_digest_is_refused(digest: str) -> None:
    with pytest.raises(ValidationError):
        Params(expected_file_digest=digest)


def test_a_folded_reference_holds_within_the_tolerance(tmp_path: Path) -> None:
    proto = conv_network(batch_norm=True)
    reference = write_model(tmp_path, proto, "reference.onnx")
    folded = write_model(tmp_path, optimise_with_onnxruntime(proto, tmp_path), "folded.onnx")
    within = _run(folded, Params(reference=reference))
    exact = _run(folded, Params(reference=reference, tolerance=0.0))
    assert (within.verdict, exact.verdict) == (Verdict.HOLDS, Verdict.VIOLATED)
    assert 0 < within.metrics[0].value < 1e-6


def test_another_function_than_the_reference_is_violated(tmp_path: Path) -> None:
    reference = write_model(tmp_path, dense_network([3, 2], seed=1), "reference.onnx")
    answer = _run(write_model(tmp_path, dense_network([3, 2], seed=2)), Params(reference=reference))
    assert answer.verdict is Verdict.VIOLATED


def _unsupported(tmp_path: Path) -> Path:
    nodes = [helper.make_node("Einsum", ["x"], ["y"], "here", equation="ij->ij")]
    return write_model(tmp_path, make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}))


def test_an_expected_function_that_cannot_be_computed_is_unknown(tmp_path: Path) -> None:
    answer = _run(_unsupported(tmp_path), Params(expected_functional_digest=f"fn1:{OTHER}"))
    assert answer.verdict is Verdict.UNKNOWN
    assert "here" in answer.reason


def test_a_function_nobody_asked_for_is_a_stated_limit(tmp_path: Path) -> None:
    path = _unsupported(tmp_path)
    answer = _run(path, Params(expected_file_digest=file_digest(path)))
    assert answer.verdict is Verdict.HOLDS
    assert answer.facts["functional_digest"] == "not available"
    assert answer.limits_hit


def test_a_reference_with_other_inputs_is_unknown(tmp_path: Path) -> None:
    reference = write_model(tmp_path, dense_network([5, 2]), "reference.onnx")
    path = write_model(tmp_path, dense_network([3, 2]))
    answer = _run(path, Params(reference=reference))
    assert answer.verdict is Verdict.UNKNOWN


def test_nan_weights_do_not_pass_a_comparison(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]

    def scaled(value: float, name: str) -> Path:
        weights = {"w": np.array([[value]], np.float32)}
        return write_model(tmp_path, make_model(nodes, {"x": [1, 1]}, {"y": [1, 1]}, weights), name)

    answer = _run(scaled(np.nan, "nan.onnx"), Params(reference=scaled(1.0, "one.onnx")))
    assert answer.verdict is Verdict.VIOLATED


def test_the_expected_digest_of_a_folder_holds_and_another_does_not(tmp_path: Path) -> None:
    """What is compared is the folder, and the finding names both digests."""
    folder = write_folder(tmp_path / "m")
    digest = read_folder(folder).digest
    same = _run(folder, Params(expected_file_digest=digest))
    assert (same.verdict, same.facts["compared"]) == (Verdict.HOLDS, "the digest of the folder")
    assert (same.facts["file_digest"], same.limits_hit) == (digest, ())
    other = _run(folder, Params(expected_file_digest=f"sha256:{OTHER}"))
    assert other.verdict is Verdict.VIOLATED
    assert digest in other.findings[0].description


@pytest.mark.parametrize(
    "params",
    [Params(expected_functional_digest=f"fn1:{OTHER}"), Params(reference=Path("other.onnx"))],
)
def test_the_function_of_a_folder_is_an_open_question_with_a_way_out(
    tmp_path: Path, params: Params
) -> None:
    """Said before the run, and never a pass."""
    subject = make_subject(write_folder(tmp_path / "m"))
    with pytest.raises(Unsupported, match=r"has no digest.*give expected_file_digest"):
        CHECK.prepare(subject, params)
    answer = CHECK.run(subject, params, make_context())
    assert answer.verdict is Verdict.UNKNOWN
    assert "export the model to ONNX" in answer.reason
    expected = params.model_copy(update={"expected_file_digest": f"sha256:{OTHER}"})
    assert CHECK.run(subject, expected, make_context()).verdict is Verdict.VIOLATED


def test_a_folder_that_changed_since_it_was_digested_gets_no_verdict(tmp_path: Path) -> None:
    """Neither of the two folders is judged."""
    folder = write_folder(tmp_path / "m")
    subject = make_subject(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(FileChanged):
        CHECK.run(subject, Params(), make_context())


def test_of_a_diffusion_folder_the_digest_is_compared_and_no_function(tmp_path: Path) -> None:
    """What cannot be compared is said before the run."""
    folder = transformer_folder(tmp_path / "m")
    subject = Subject("m", folder, "diffusers", read_diffusion_folder(folder).digest)
    expected = Params(expected_file_digest=subject.digest)
    answer = CHECK.run(subject, expected, make_context())
    assert (answer.verdict, answer.facts["file_digest"]) == (Verdict.HOLDS, subject.digest)
    assert answer.facts["model_type"] == "PixArtTransformer2DModel"
    other = Params(expected_file_digest=f"sha256:{OTHER}")
    assert CHECK.run(subject, other, make_context()).verdict is Verdict.VIOLATED
    with pytest.raises(Unsupported, match="the function of a diffusers folder has no digest"):
        CHECK.prepare(subject, Params(expected_functional_digest=f"fn1:{OTHER}"))
