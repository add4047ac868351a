"""AUD203 and AUD204 on networks trained on digits, whose patterns are known beforehand.

In the first kind each class has a mark of its own, which decides the class. In the second the
fours and the nines bear the same mark, and the trained part of the network tells them apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.checks import pattern_overlap, pattern_robustness
from auditor.findings import Answer, ImageEvidence, Verdict, WitnessEvidence
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_file import write_patterns
from auditor.patterns.pattern_set import LayerPatterns, Members, PatternSet
from tests.models.marked_digits import (
    BRIGHT,
    MARKS,
    PIXELS,
    VISIBLE,
    Kind,
    marked_digits,
    trained_network,
)
from tests.unit.checks.check_context import make_context, make_subject

KINDS: tuple[Kind, ...] = ("dense", "convolutional")
PLANTED = ("bright", "marked", "visible")
SHARED = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 4])
"""Marks of the classes when nines bear the fours' mark."""
NO_VOICE = np.array([0, 1, 2, 3, -1, 5, 6, 7, 8, -1])
"""Classes that marks speak for when the fours' mark speaks for nobody."""


class Mined(NamedTuple):
    """A model file and what was mined from it, with the samples."""

    folder: Path
    patterns: PatternSet
    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


def mine(folder: Path, kind: Kind, layers: tuple[str, ...], *, shared: bool = False) -> Mined:
    """A trained network, its samples and patterns, all written into a folder."""
    inputs, labels = marked_digits(SHARED if shared else None)
    proto, accuracy = trained_network(kind, NO_VOICE if shared else None)
    assert accuracy > 0.9
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    np.savez(folder / "samples.npz", inputs=inputs, labels=labels)
    model = OnnxModel.open(folder / "model.onnx")
    patterns = mine_patterns(
        model, inputs, labels, ["1", "0.9"], members=Members.LABEL, layers=layers
    )
    write_patterns(folder / "patterns.safetensors", patterns)
    return Mined(folder, patterns, inputs, labels)


@pytest.fixture(scope="module", params=KINDS)
def marked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mined:
    """Each class has a mark of its own."""
    return mine(tmp_path_factory.mktemp("marked"), request.param, PLANTED)


@pytest.fixture(scope="module", params=KINDS)
def ambiguous(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mined:
    """Fours and nines bear one mark, and only layers that look at marks are mined."""
    folder = tmp_path_factory.mktemp("ambiguous")
    return mine(folder, request.param, PLANTED[1:], shared=True)


def ask(module: object, mined: Mined) -> Answer:
    """A check's answer about the patterns at delta 1."""
    check = module.CHECK  # type: ignore[attr-defined]
    params = check.params.model_validate({
        "patterns": mined.folder / "patterns.safetensors", "delta": 1,
        "inputs": mined.folder / "samples.npz", "image_shape": [10, 10],
    })  # fmt: skip
    subject = make_subject(mined.folder / "model.onnx")
    answer: Answer = check.run(subject, params, make_context(time_limit_s=300))
    return answer


def witnessed(answer: Answer) -> dict[str | None, WitnessEvidence]:
    """The witnesses of an answer's findings by the property they break."""
    return {
        finding.location.property_id: evidence
        for finding in answer.findings
        for evidence in finding.evidence
        if isinstance(evidence, WitnessEvidence)
    }


def layer_of(patterns: PatternSet, name: str) -> LayerPatterns:
    (found,) = (layer for layer in patterns.layers if layer.name == name)
    return found


@pytest.mark.parametrize(("number", "least", "most"), [(0, (1, 1), (0, 1)), (1, (9, 10), (1, 10))])
def test_planted_patterns_are_found_exactly(
    marked: Mined, number: int, least: tuple[int, int], most: tuple[int, int]
) -> None:
    """States are counted from the pictures alone, in integers, for deltas 1 and 0.9."""
    sees = {
        "bright": marked.inputs > np.float32(BRIGHT),
        "marked": marked.inputs[:, MARKS] > np.float32(BRIGHT),
        "visible": marked.inputs[:, MARKS] > np.float32(VISIBLE),
    }
    for label in range(10):
        own = marked.labels == label
        for name, active in sees.items():
            layer, count = layer_of(marked.patterns, name), active[own].sum(axis=0)
            assert (layer.counts[label] == count).all()
            always = count * least[1] >= least[0] * own.sum()
            never = count * most[1] <= most[0] * own.sum()
            assert (layer.states.active[number, label] == always).all()
            assert (layer.states.inactive[number, label] == never).all()


def test_the_marks_decide_every_class(marked: Mined) -> None:
    """A pattern that fixes its own mark as visible and all others as not implies its class."""
    answer = ask(pattern_robustness, marked)
    assert answer.verdict is Verdict.HOLDS
    assert answer.summary.startswith("The pattern determines the class for 10 of 10 classes")
    assert ask(pattern_overlap, marked).verdict is Verdict.HOLDS


def test_a_shared_mark_gives_two_classes_one_pattern(ambiguous: Mined) -> None:
    states = ambiguous.patterns.states
    assert (states.active[0, 4] == states.active[0, 9]).all()
    assert (states.inactive[0, 4] == states.inactive[0, 9]).all()


def test_an_ambiguous_pattern_has_a_witness_that_follows_both(ambiguous: Mined) -> None:
    """Only the pair of fours and nines; the witness bears their mark and no other."""
    answer = ask(pattern_overlap, ambiguous)
    assert answer.verdict is Verdict.VIOLATED
    found = witnessed(answer)
    assert list(found) == ["patterns-4-9"]
    witness = found["patterns-4-9"]
    marks = np.array(witness.inputs).reshape(PIXELS)[MARKS]
    assert marks[4] >= BRIGHT
    assert (np.delete(marks, 4) <= np.float32(VISIBLE)).all()
    assert witness.exact_violates
    assert all(replay.violates for replay in witness.replays)


def test_an_ambiguous_pattern_does_not_decide_either_class(ambiguous: Mined) -> None:
    """The other eight patterns still do."""
    answer = ask(pattern_robustness, ambiguous)
    assert answer.verdict is Verdict.VIOLATED
    found = witnessed(answer)
    assert set(found) == {"pattern-class-4", "pattern-class-9"}
    assert int(np.argmax(found["pattern-class-4"].outputs)) != 4
    assert int(np.argmax(found["pattern-class-9"].outputs)) != 9
    metrics = {metric.name: metric.value for metric in answer.metrics}
    assert metrics["verified_classes"] == 8
    assert any(isinstance(each, ImageEvidence) for each in answer.findings[0].evidence)
