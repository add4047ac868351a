"""AUD203 and AUD204 on two classifiers of (a, b) whose patterns are known by construction.

`separated` has neurons that say a - b >= 1/2 and b - a >= 1/2, and samples on which they do;
`ambiguous` has neurons that are active on every sample, whatever its class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from auditor.checks import pattern_overlap, pattern_robustness
from auditor.errors import ConfigurationError, PatternMismatch
from auditor.findings import (
    Answer,
    HeatMapEvidence,
    ImageEvidence,
    TableEvidence,
    Verdict,
    WitnessEvidence,
)
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_file import write_patterns
from tests.models.tiny import array, relu_network
from tests.unit.checks.check_context import make_context, make_subject

FAR = array([[0.9, 0.1], [0.8, 0.2], [1.0, 0.3], [0.1, 0.9], [0.2, 0.8], [0.3, 1.0]])
LABELS = np.array([0, 0, 0, 1, 1, 1])


def separated() -> onnx.ModelProto:
    first = array([[1, -1], [-1, 1], [1, -1], [-1, 1]]), array([0, 0, -0.5, -0.5])
    second = array([[1, 0, 0, 0], [0, 1, 0, 0]]), array([0, 0])
    return relu_network([first, second])


def ambiguous() -> onnx.ModelProto:
    return relu_network(
        [(array([[1, 0], [0, 1]]), array([1, 1])), (array([[1, 0], [0, 1]]), array([0, 0]))]
    )


def write(folder: Path, proto: onnx.ModelProto) -> dict[str, object]:
    """A model, samples, and the patterns mined from them; the parameters that name them."""
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    np.savez(folder / "samples.npz", inputs=FAR, labels=LABELS)
    model = OnnxModel.open(folder / "model.onnx")
    patterns = mine_patterns(model, FAR, LABELS, ["1.0"])
    heldout = evaluate_patterns(patterns, model, FAR, LABELS)
    write_patterns(folder / "patterns.safetensors", patterns, heldout)
    return {
        "patterns": folder / "patterns.safetensors", "inputs": folder / "samples.npz", "delta": 1.0
    }  # fmt: skip


def classes(folder: Path, proto: onnx.ModelProto, **changed: object) -> Answer:
    check = pattern_robustness.CHECK
    params = check.params.model_validate({**write(folder, proto), **changed})
    return check.run(make_subject(folder / "model.onnx"), params, make_context())


def pairs(folder: Path, proto: onnx.ModelProto, **changed: object) -> Answer:
    check = pattern_overlap.CHECK
    params = check.params.model_validate({**write(folder, proto), **changed})
    return check.run(make_subject(folder / "model.onnx"), params, make_context())


def metrics(answer: Answer) -> dict[str, float]:
    return {metric.name: metric.value for metric in answer.metrics}


def witness_of(answer: Answer) -> WitnessEvidence:
    (witness,) = (e for e in answer.findings[0].evidence if isinstance(e, WitnessEvidence))
    return witness


def test_patterns_that_determine_the_class_hold(tmp_path: Path) -> None:
    answer = classes(tmp_path, separated())
    assert answer.verdict is Verdict.HOLDS
    assert metrics(answer)["verified_classes"] == 2
    assert metrics(answer)["recall_of_verified_classes"] == 1.0
    assert metrics(answer)["fixed_share"] == 1.0


def test_patterns_that_do_not_are_broken_by_an_input_that_follows(tmp_path: Path) -> None:
    """Both neurons are active on the whole domain, so every input follows."""
    answer = classes(tmp_path, ambiguous())
    assert answer.verdict is Verdict.VIOLATED
    assert [finding.location.property_id for finding in answer.findings] == [
        "pattern-class-0", "pattern-class-1",
    ]  # fmt: skip
    a, b = witness_of(answer).inputs
    assert a <= b  # class 0 is a > b


def test_the_domain_is_part_of_the_question(tmp_path: Path) -> None:
    """With a and b in [0.5, 0.5] there is a tie, and no input that is read as class 0."""
    answer = classes(tmp_path, ambiguous(), domain=[0.5, 0.5], classes=[0])
    assert answer.verdict is Verdict.VIOLATED
    assert witness_of(answer).inputs == (0.5, 0.5)


def pictures(answer: Answer) -> dict[str, ImageEvidence]:
    return {e.title: e for e in answer.evidence if isinstance(e, ImageEvidence)}


def test_the_report_draws_which_neurons_are_fixed(tmp_path: Path) -> None:
    """All four neurons by both patterns; the second class without samples has none."""
    answer = classes(tmp_path, separated())
    (drawn,) = (e for e in answer.evidence if isinstance(e, HeatMapEvidence))
    assert drawn.values == ((1.0, 1.0),)
    assert drawn.columns == ("0", "1")
    assert not pictures(answer)  # no image_shape


def test_the_gallery_shows_who_follows_and_who_does_not(tmp_path: Path) -> None:
    """Samples given after mining: the first contradicts all four neurons, the second none."""
    fields = write(tmp_path, separated())
    np.savez(
        tmp_path / "samples.npz", inputs=array([[0.1, 0.9], [0.9, 0.1]]), labels=np.array([0, 0])
    )
    check = pattern_robustness.CHECK
    params = check.params.model_validate({**fields, "image_shape": [1, 2]})
    found = pictures(check.run(make_subject(tmp_path / "model.onnx"), params, make_context()))
    follow, stray = (found["Samples that follow their pattern"], found["Samples that do not"])
    assert [image.caption for image in follow.images] == ["sample 1 of class 0, distance 0"]
    assert [image.caption for image in stray.images] == ["sample 0 of class 0, distance 4"]
    assert stray.images[0].pixels == (0.1, 0.9)
    assert follow.description == "1 of 2 samples follow the pattern of their label."


def test_a_witness_is_pictured_with_its_distance(tmp_path: Path) -> None:
    answer = classes(tmp_path, ambiguous(), image_shape=[1, 2], classes=[0, 1])
    (picture,) = (e for e in answer.findings[0].evidence if isinstance(e, ImageEvidence))
    assert picture.images[0].caption == (
        "follows the pattern of 0 (distance 0), read as 1, whose pattern is at distance 0"
    )


def test_a_pattern_that_no_input_of_the_domain_follows_is_no_pass(tmp_path: Path) -> None:
    answer = classes(tmp_path, separated(), domain=[0.0, 0.25])
    assert answer.verdict is Verdict.UNKNOWN
    assert "no input of the set follows" in answer.reason


def test_within_a_radius_the_pattern_certifies_what_the_ball_does_not(tmp_path: Path) -> None:
    """Within 0.5 of (0.9, 0.1) lies (0.4, 0.6), of class 1, which does not follow the pattern."""
    answer = classes(tmp_path, separated(), radius=0.5, count=4)
    assert answer.verdict is Verdict.HOLDS
    assert metrics(answer)["certified_share"] == 1.0
    (control,) = answer.controls
    assert {metric.name: metric.value for metric in control.metrics}["refuted_share"] == 1.0


def test_a_witness_within_a_radius_names_its_sample(tmp_path: Path) -> None:
    answer = classes(tmp_path, ambiguous(), radius=0.5, count=1)
    assert answer.verdict is Verdict.VIOLATED
    assert answer.findings[0].location.sample == "0"
    assert 0.4 - 1e-6 <= witness_of(answer).inputs[0] <= 1.0


def test_samples_that_follow_no_pattern_are_said_to_be_skipped(tmp_path: Path) -> None:
    fields = write(tmp_path, separated())
    np.savez(tmp_path / "samples.npz", inputs=FAR, labels=1 - LABELS)
    check = pattern_robustness.CHECK
    params = check.params.model_validate({**fields, "radius": 0.1})
    answer = check.run(make_subject(tmp_path / "model.onnx"), params, make_context())
    assert answer.verdict is Verdict.SKIPPED


def test_a_neuron_in_opposite_states_settles_a_pair(tmp_path: Path) -> None:
    answer = pairs(tmp_path, separated())
    assert answer.verdict is Verdict.HOLDS
    assert metrics(answer)["pairs_disjoint_by_a_neuron"] == 1
    assert metrics(answer)["pairs_proved_disjoint"] == 0
    (table,) = (e for e in answer.evidence if isinstance(e, TableEvidence))
    assert table.rows[0][:3] == (0, 1, "disjoint by a neuron")


def test_an_input_that_follows_two_patterns_is_shown(tmp_path: Path) -> None:
    answer = pairs(tmp_path, ambiguous())
    assert answer.verdict is Verdict.VIOLATED
    assert answer.findings[0].location.property_id == "patterns-0-1"
    assert metrics(answer)["ambiguous_heldout_samples"] == 6
    assert witness_of(answer).exact_violates


def test_one_pattern_alone_overlaps_with_nothing(tmp_path: Path) -> None:
    answer = pairs(tmp_path, separated(), classes=[1])
    assert answer.verdict is Verdict.SKIPPED


@pytest.mark.parametrize("check", [pattern_robustness.CHECK, pattern_overlap.CHECK])
def test_patterns_of_another_model_are_refused_before_the_run(
    tmp_path: Path, check: object
) -> None:
    fields = write(tmp_path, separated())
    (tmp_path / "model.onnx").write_bytes(ambiguous().SerializeToString())
    params = check.params.model_validate(fields)  # type: ignore[attr-defined]
    with pytest.raises(PatternMismatch):
        check.prepare(make_subject(tmp_path / "model.onnx"), params)  # type: ignore[attr-defined]


def test_a_delta_that_was_not_mined_is_refused_before_the_run(tmp_path: Path) -> None:
    check = pattern_robustness.CHECK
    params = check.params.model_validate({**write(tmp_path, separated()), "delta": 0.9})
    with pytest.raises(ConfigurationError, match=r"delta 0\.9"):
        check.prepare(make_subject(tmp_path / "model.onnx"), params)
