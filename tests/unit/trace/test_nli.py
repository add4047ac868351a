"""Cross-encoders: opened from a folder and from ONNX, tried before they judge, premise cut only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    FileMissing,
    RefusedInput,
    RefusedModel,
    UnsupportedModel,
)
from auditor.language.sequence_classifier import Classified
from auditor.trace.content_policy import Clause
from auditor.trace.nli import CANNED, NliScorer, open_nli
from tests.models.tiny_classifiers import export_classifier, save_classifier, trained_classifier

LABELS = ("ENTAILMENT", "Neutral", "contradiction")
PLAIN = tuple(label.lower() for label in LABELS)
ASLEEP = Clause(id="asleep", statement="Nobody is asleep.", violation="A person is asleep.")
PAINTS = Clause(id="paints", statement="A woman is painting her kitchen.",
                violation="A person is painting.")  # fmt: skip
SLEEPER, DOG = "A man is sleeping in his bed.", "A black dog runs over the field."


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """Model and tokenizer that know the canned pairs."""
    examples = [(premise, other, PLAIN.index(label)) for premise, other, label in CANNED]
    return trained_classifier(examples, LABELS)


@pytest.fixture(scope="module")
def folder(trained: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as a transformers folder."""
    return save_classifier(tmp_path_factory.mktemp("nli"), *trained)


@pytest.fixture(scope="module")
def exported(trained: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as an ONNX file with its tokenizer and configuration beside it."""
    return export_classifier(tmp_path_factory.mktemp("onnx"), *trained)


def changed(folder: Path, target: Path, **changes: object) -> Path:
    """A copy of a folder with another configuration; None takes a key away."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(kept))
    return target


def test_a_text_breaks_what_it_contradicts_or_does(folder: Path) -> None:
    """By the model's own chances of the two labels, in [0, 1]."""
    scores = open_nli(folder).score([SLEEPER, DOG], [ASLEEP, PAINTS])
    assert scores.shape == (2, 2)
    assert scores[0, 0] > 0.8
    assert scores[1, 1] < 0.5
    assert ((scores >= 0) & (scores <= 1)).all()


def test_folder_and_onnx_agree(folder: Path, exported: Path) -> None:
    """Texts of several lengths, more than a batch of them."""
    texts = [SLEEPER, DOG, "A", "field " * 30, ""] * 3
    one = open_nli(folder).score(texts, [ASLEEP, PAINTS])
    other = open_nli(exported).score(texts, [ASLEEP, PAINTS])
    assert np.abs(one - other).max() < 1e-5


def test_a_text_scores_the_same_in_any_company(folder: Path) -> None:
    """Padding and batches leave no trace but rounding."""
    scorer = open_nli(folder)
    together = scorer.score([SLEEPER, "field " * 40, DOG] * 7, [ASLEEP])
    assert np.abs(together[0] - scorer.score([SLEEPER], [ASLEEP])[0]).max() < 1e-6
    assert np.abs(together[:3] - together[18:]).max() < 1e-6


@pytest.mark.parametrize("kind", ["folder", "exported"])
def test_only_the_premise_is_cut(
    kind: str, folder: Path, exported: Path, request: pytest.FixtureRequest
) -> None:
    """Two texts that differ behind what the model reads score alike; clauses count whole."""
    scorer = open_nli(request.getfixturevalue(kind))
    long = SLEEPER + " field" * 200
    other = ASLEEP.model_copy(update={"statement": "A woman is painting her kitchen.",
                                      "violation": "A woman is painting her kitchen."})  # fmt: skip
    cut = scorer.score([long, long + " dog"], [ASLEEP, other])
    assert cut[0].tolist() == cut[1].tolist()
    assert cut[0, 0] != cut[0, 1]
    assert scorer.cut == 2


@pytest.mark.parametrize("kind", ["folder", "exported"])
def test_a_clause_is_read_to_its_last_word(
    kind: str, folder: Path, exported: Path, request: pytest.FixtureRequest
) -> None:
    """Also one that is as long as a clause may be, beside a text that is longer."""
    scorer = open_nli(request.getfixturevalue(kind))
    clauses = [
        ASLEEP.model_copy(update={"statement": text, "violation": text})
        for text in ("dog " * 30 + "asleep", "dog " * 30 + "woman")
    ]
    scores = scorer.score(["field " * 200], clauses)
    assert abs(scores[0, 0] - scores[0, 1]) > 1e-6


def test_texts_that_fit_are_not_called_cut(folder: Path) -> None:
    """The flag is a count of texts, not of pairs."""
    scorer = open_nli(folder)
    scorer.score([SLEEPER, DOG], [ASLEEP, PAINTS])
    assert scorer.cut == 0
    scorer.score([SLEEPER, "field " * 300], [ASLEEP, PAINTS])
    assert scorer.cut == 1


def test_a_clause_that_leaves_no_room_is_refused(folder: Path) -> None:
    """It would be judged by its beginning."""
    long = ASLEEP.model_copy(update={"statement": "nobody is asleep " * 12})
    with pytest.raises(ConfigurationError, match=r"reads 62 tokens at once and 'nobody is .*' has"):
        open_nli(folder).score([SLEEPER], [long])


def test_labels_in_another_order_are_refused(folder: Path, tmp_path: Path) -> None:
    """The known pairs tell."""
    wrong = changed(folder, tmp_path / "m", id2label={"0": "contradiction", "1": "neutral",
                                                     "2": "entailment"})  # fmt: skip
    with pytest.raises(ConfigurationError) as caught:
        open_nli(wrong)
    assert "calls 'A person is asleep.'" in str(caught.value)
    assert "another order than its id2label says" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"0": "a", "1": "b", "2": "c"}, "not exactly one is a contradiction"),
        ({"0": "entailment", "1": "neutral", "2": "no contradiction"}, "not exactly one"),
        ({"0": "contradiction", "1": "neutral", "2": "contradiction"}, "not exactly one"),
        ({"0": "contradiction", "2": "entailment", "3": "x"}, "no id2label that names two outputs"),
        ({"0": "contradiction"}, "no id2label that names two outputs"),
        ({}, "no id2label that names two outputs"),
        (["entailment", "neutral", "contradiction"], "no id2label"),
    ],
)  # fmt: skip
def test_a_model_without_these_labels_is_refused(
    exported: Path, tmp_path: Path, table: object, problem: str
) -> None:
    """Before it judges anything."""
    broken = changed(exported.parent, tmp_path / "m", id2label=table)
    with pytest.raises(ConfigurationError, match=problem):
        open_nli(broken / "model.onnx")


def two_class(texts: Sequence[str], hypotheses: Sequence[str] | None = None) -> Classified:
    """Contradiction where the hypothesis says nobody."""
    hits = np.array(["Nobody" in each for each in hypotheses or ()], dtype=np.float64)
    return Classified(np.stack([1 - hits, hits], axis=1), np.zeros(len(texts), dtype=bool))


@pytest.mark.parametrize("other", ["no_contradiction", "NOT-CONTRADICTION", "non contradiction",
                                   "neutral", "LABEL_0"])  # fmt: skip
def test_a_model_of_contradictions_alone_will_do(other: str) -> None:
    """It is asked for the prohibition only."""
    scorer = NliScorer(two_class, [other, "contradiction"], "two")
    assert scorer.score(["x"], [ASLEEP, PAINTS]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused(
    trained: tuple[Any, Any], tmp_path: Path, wrong: float
) -> None:
    """They would compare as harmless."""
    import copy

    import torch

    model = copy.deepcopy(trained[0])
    with torch.no_grad():
        model.classifier.bias.fill_(wrong)
    with pytest.raises(UnsupportedModel, match="its outputs are not finite"):
        open_nli(save_classifier(tmp_path / "m", model, trained[1]))


def test_a_model_without_its_head_is_refused(folder: Path, tmp_path: Path) -> None:
    """The missing weights would be random numbers."""
    import safetensors.torch

    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if "classifier" not in name}
    safetensors.torch.save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(RefusedModel, match="save the whole model, its head included"):
        open_nli(tmp_path / "m")


def test_a_configuration_of_a_huge_model_is_refused(folder: Path, tmp_path: Path) -> None:
    """Before the memory it asks for is taken."""
    broken = changed(folder, tmp_path / "m", intermediate_size=2**30)
    with pytest.raises(RefusedModel, match=r"asks for .* numbers, and the weight files hold"):
        open_nli(broken)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", None), ("tokenizer.json", b"{}"), ("tokenizer.json", b"\xff"),
        ("config.json", None), ("config.json", b"["), ("config.json", b"[]"),
        ("config.json", b'{"auto_map": {"AutoModel": "x--y.Z"}}'), ("model.onnx", b"junk"),
    ],
)  # fmt: skip
def test_damaged_files_beside_an_onnx_model_are_named(
    exported: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    """One line each, of the errors that users see."""
    shutil.copytree(exported.parent, tmp_path / "m")
    path = tmp_path / "m" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(AuditorError) as caught:
        open_nli(tmp_path / "m" / "model.onnx")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, FileMissing | RefusedInput | UnsupportedModel)


def test_a_folder_with_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    """As every model's folder."""
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(RefusedInput):
        open_nli(tmp_path / "m")


def test_neither_folder_nor_onnx_is_refused(tmp_path: Path) -> None:
    """With what is wanted."""
    with pytest.raises(FileMissing, match=r"NLI model \(a folder, or an .onnx file\) not found"):
        open_nli(tmp_path / "model.bin")
